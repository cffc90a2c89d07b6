"""Faster R-CNN can be read in the eight files that docs/reading_faster_rcnn.md names."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sightline"
ASSUMED = {
    "errors.py",
    "structures/__init__.py",
    "structures/tabular.py",
    "models/class_outputs.py",
    "models/weights.py",
    "nn/backbones/features.py",
    "nn/backbones/map_layers.py",
    "nn/backbones/mobilenet_v2.py",
    "nn/backbones/mobilenet_v3.py",
    "models/detection/candidate_hooks.py",
    "models/detection/candidate_parts.py",
    "models/detection/candidates.py",
    "models/detection/region_detector.py",
    "models/entry.py",
    "models/load_report.py",
    "models/preprocess.py",
    "nn/backbones/named.py",
    "nn/backbones/resnet.py",
    "nn/heads/regions.py",
    "nn/layers/__init__.py",
    "nn/necks/fpn.py",
    "ops/regions.py",
    "ops/resizing.py",
    "ops/suppression.py",
    "runtime/sharing.py",
}


def listed() -> list[str]:
    text = (ROOT / "docs" / "reading_faster_rcnn.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([\w/]+\.py)`", text, flags=re.MULTILINE)


def code_lines(path: Path) -> int:
    """Lines with code: neither blank, nor comment, nor docstring."""
    source = path.read_text(encoding="utf-8")
    documented = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = (t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in empty)
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    return len(lines - documented)


def imported(path: Path) -> set[str]:
    """The library's files that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sightline."):
            inside = (node.module or "").split(".", 1)[1].replace(".", "/")
            found.add(f"{inside}/__init__.py" if (SOURCE / inside).is_dir() else f"{inside}.py")
    return found


def test_eight_files_of_at_most_1100_code_lines() -> None:
    files = listed()
    assert len(files) == len(set(files)) <= 8
    assert sum(code_lines(SOURCE / file) for file in files) <= 1100


def test_they_need_nothing_else_but_papers_of_their_own() -> None:
    files = set(listed())
    for file in files:
        assert imported(SOURCE / file) <= files | ASSUMED, file


def test_with_the_papers_it_is_built_on_it_stays_short() -> None:
    built_on = [f"nn/{f}.py" for f in ("backbones/resnet", "backbones/features", "necks/fpn")]
    built_on += [f"ops/{f}.py" for f in ("regions", "_sampling", "suppression")]
    assert sum(code_lines(SOURCE / file) for file in [*listed(), *built_on]) <= 1700
