"""The package as a whole: what it exports, what its import costs, and which part may know which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

import pytest

import sightline

SOURCE = Path(sightline.__file__).parent

STOREYS = (
    ("_version", "checks", "words"),
    ("errors", "progress", "submodules"),
    ("keywords", "runtime"),
    ("structures",),
    ("ops",),
    ("nn", "interop"),
    ("models", "data"),  # side by side: neither knows the other
    ("training", "evaluation", "explain"),  # as well
    ("deploy",),
    ("report",),
    ("tasks", "labelling"),
    ("verbs",),
    ("api", "doctor"),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a part may use what stands below it, and itself."""

HEAVY = ("matplotlib", "kornia", "accelerate", "typer", "rich", "hotcoco", "huggingface_hub", "numba", "PIL", "yaml")


def test_exported_names():
    assert list(sightline.__all__) == sorted(sightline.__all__)
    assert set(sightline.__all__) == set(sightline._HOMES)
    for name in sightline.__all__:
        home, attribute = sightline._HOMES[name]
        assert getattr(sightline, name) is getattr(import_module(home), attribute)
    assert set(dir(sightline)) == {*sightline.__all__, *sightline._PARTS, "__version__"}
    with pytest.raises(AttributeError, match="module 'sightline' has no attribute 'nonsense'"):
        _ = sightline.nonsense


def test_type_checkers_see_the_same_names():
    for node in ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            seen = {
                alias.asname or alias.name: (part.module, alias.name)
                for part in node.body
                if isinstance(part, ast.ImportFrom)
                for alias in part.names
            }
            parts = {name for name, (module, _) in seen.items() if module == "sightline"}
            assert parts == {*sightline._PARTS}
            assert {name: home for name, home in seen.items() if name not in parts} == sightline._HOMES
            return
    raise AssertionError("there is no block for type checkers")


def test_version_is_the_installed_one():
    assert sightline.__version__ == metadata.version("sightline")


def test_marked_as_typed():
    assert (SOURCE / "py.typed").is_file()


def test_import_is_quick_silent_and_light():
    """Beyond `import torch` it costs at most 0.3 s, at best of three; nothing is printed, nothing heavy comes along."""
    code = (
        "import sys, time, torch\n"
        "began = time.perf_counter()\n"
        "import sightline\n"
        "seconds = time.perf_counter() - began\n"
        f"came = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(seconds, *came, file=sys.stderr)\n"
    )
    spent = []
    for _ in range(3):
        ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == ""
        seconds, *came = ran.stderr.split()
        assert came == []
        spent.append(float(seconds))
        if spent[-1] < 0.3:
            break
    assert min(spent) < 0.3


def test_parts_are_reached_by_their_names():
    """Modules inside a part, too: nothing but `import sightline` is needed."""
    code = (
        "import sys, torch, sightline as sl\n"
        "assert not any(name.startswith('sightline.ops') for name in sys.modules)\n"
        "box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])\n"
        "assert sl.ops.boxes.box_iou(box, box).item() == 1\n"
        "assert sl.nn.layers.fuse and sl.nn.backbones.resnet and sl.models.catalog and sl.training.recipe\n"
        "assert sl.evaluation.evaluate_detection and sl.data.formats and sl.report.drawing\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr


def test_the_first_model_costs_little_more():
    """What every program uses brings none of the heavy packages either: each is imported where it is needed."""
    code = (
        "import sys, sightline as sl\n"
        "sl.create_model, sl.open_dataset, sl.load, sl.train, sl.evaluate, sl.predict, sl.draw, sl.Instances\n"
        "sl.create_model('ssdlite320_mobilenet_v2', ['a'])\n"
        f"print(*[name for name in {HEAVY[:8]!r} if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (ran.stdout, ran.stderr) == ("\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "Usage: sightline"),
        (["train", "nowhere", "--set", "nosuch=1"], "unknown entry 'nosuch'"),
        (["train", "nowhere", "--lr=-1"], "lr is -1.0"),
        (["train", "nowhere", "--arg", "nosuch"], "must have the form name=value"),
        (["ablate", "nowhere", "--epochs", "0"], "epochs is 0"),
        (["compare", "nowhere", "--set", "lr=big"], "lr is 'big'"),
    ],
)
def test_the_command_line_checks_its_settings_before_pytorch_is_loaded(words: list[str], said: str):
    """Its import takes seconds."""
    code = f"import sys\nsys.argv = {['sightline', *words]!r}\nimport sightline.cli\n"
    code += "try:\n sightline.cli.main()\nfinally:\n assert not {'torch', 'PIL', 'matplotlib'} & {*sys.modules}\n"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
    assert ran.returncode == (0 if words == ["--help"] else 2)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The library's own modules that a file imports, at its top or inside functions, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "sightline":
                yield from ((node.lineno, f"sightline.{alias.name}") for alias in node.names)
            elif module.startswith("sightline."):
                yield node.lineno, module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("sightline."))


def storey(part: str) -> int:
    return next(level for level, parts in enumerate(STOREYS) if part in parts)


def test_every_part_has_its_storey():
    parts = {path.stem if path.suffix == ".py" else path.name for path in SOURCE.iterdir()}
    parts -= {"__init__", "__pycache__", "py.typed"}
    assert parts == {part for parts in STOREYS for part in parts}


def test_imports_point_down():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE)
        part = place.parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for line, module in imports(path):
            other = module.split(".")[1]
            if other.startswith("__"):
                continue  # the version
            if other != part and storey(other) >= storey(part):
                wrong.append(f"{place}:{line} imports {module}")
    assert wrong == []


def module_of(path: Path) -> str:
    place = path.relative_to(SOURCE.parent).with_suffix("")
    return ".".join(place.parts).removesuffix(".__init__")


def uses(path: Path, known: set[str]) -> set[str]:
    """The modules that a file's imports run: those named, and the packages that they lie in and the file does not.

    Imports inside functions and for type checkers alone count as any other.
    """
    own, used = module_of(path), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sightline":
            names = [name if (name := f"{node.module}.{alias.name}") in known else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "sightline"]
        for name in names:
            parts = name.split(".")
            around = {".".join(parts[:k]) for k in range(1, len(parts))}
            used |= {name} | {package for package in around if not own.startswith(f"{package}.")}
    return (used & known) - {own}


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Names that import one another in a circle, the first again at the end; empty where there are none."""
    done: set[str] = set()
    for start in sorted(graph):
        path, stack = [start], [iter(sorted(graph[start] - done))]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append(iter(sorted(graph[following] - done)))
    return []


def test_no_modules_import_one_another():
    """Nowhere in the package, not even inside functions; the package's own face, which is lazy, does not count."""
    paths = [path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name != "__init__.py"]
    known = {module_of(path) for path in paths}
    graph = {module_of(path): uses(path, known) for path in paths}
    assert cycle_in(graph) == []


def test_cycles_are_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycle_in({"a": {"b", "d"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert cycle_in({"a": {"b"}, "b": {"d"}, "c": {"d"}, "d": {"a"}}) == ["a", "b", "d", "a"]
