"""Labels that cannot be read: all are listed, training is refused, and a repaired copy lacks just those."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightline as sl
from sightline.data.check import fix
from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .formats.helpers import picture, rows, text


def found(data: sl.Dataset | Path) -> list[tuple[str, str, int | None]]:
    """Rule, file and line of each label that cannot be read."""
    report = sl.check(data, progress=False)
    return [(p.rule, p.file, p.annotation) for p in report.problems if p.rule in ("label-malformed", "unknown-class")]


def yolo(root: Path) -> Path:
    picture(root / "images/a.png")
    picture(root / "images/b.png")
    good = "0 0.5 0.5 0.25 0.5\n"
    text(root / "labels/a.txt", f"{good}0 0.5 x 0.25 0.5\n\n7 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25\n")
    text(root / "labels/b.txt", f"-1 0.5 0.5 0.25 0.5\n{good}")
    text(root / "classes.txt", "cup\n")
    return root


def test_of_yolo_all_lines_are_listed(tmp_path: Path):
    yolo(tmp_path)
    assert found(tmp_path) == [
        ("label-malformed", "labels/a.txt", 2),
        ("label-malformed", "labels/a.txt", 5),
        ("label-malformed", "labels/b.txt", 1),
        ("unknown-class", "labels/a.txt", 4),
    ]
    report = sl.check(tmp_path, progress=False)
    assert not report.ok
    assert "line 2 is '0 0.5 x 0.25 0.5', but a line must be" in report.of_rule("label-malformed")[0].value


def test_opening_refuses_with_the_first_and_the_count(tmp_path: Path):
    yolo(tmp_path)
    words = r"a\.txt: line 2 is .*; 3 more labels cannot be read: `sightline check .*` lists them all, --fix leaves"
    with pytest.raises(InputError, match=words):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, lenient=True)
    assert len(data.malformed) == 4
    assert [rows(data, i) for i in range(2)] == [[("cup", 24, 12, 40, 36)]] * 2


def test_a_repaired_copy_lacks_just_those_lines(tmp_path: Path):
    data = open_dataset(yolo(tmp_path / "in"), lenient=True)
    summary = fix(data, tmp_path / "out", progress=False)
    assert summary.counts == {"label-malformed": 3, "unknown-class": 1}
    fixed = open_dataset(tmp_path / "out")
    assert [rows(fixed, i) for i in range(2)] == [[("cup", 24, 12, 40, 36)]] * 2
    assert found(fixed) == []
