"""docs/reading_a_run.md names the functions from `sightline train` to the loss, in their order and without a gap."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from typer.testing import CliRunner

import sightline as sl
from sightline.cli.app import app
from sightline.data.formats import convert

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sightline"
PARSER = "cli/app.py"
"""Where the arguments of every command are parsed."""

Place = tuple[str, str]
"""(file, function)."""


def listed() -> list[Place]:
    text = (ROOT / "docs" / "reading_a_run.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+\.py)` \| ([^|]+) \|", text, flags=re.MULTILINE)
    return [(file, function) for file, functions in rows for function in re.findall(r"`([\w.]+)`", functions)]


class Watch:
    """Notes which functions of the library are called, in the order of their first call, and who calls the last."""

    def __init__(self, last: Place):
        self.last = last
        self.called: dict[Place, None] = {}
        self.callers: list[Place] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        place = self.place(frame)
        if place is None or place in self.called:
            return
        self.called[place] = None
        if place == self.last:
            sys.setprofile(None)  # what comes after the loss is not looked at
            above: FrameType | None = frame
            while above is not None:
                found = self.place(above)
                self.callers[:0] = [] if found is None else [found]
                above = above.f_back

    def place(self, frame: FrameType) -> Place | None:
        name = frame.f_code.co_filename
        if not name.startswith(str(SOURCE)):
            return None
        return Path(name).relative_to(SOURCE).as_posix(), frame.f_code.co_qualname


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """What was called while a detector was trained by the command line."""
    folder = tmp_path_factory.mktemp("reading")
    convert(sl.scenes(4, 32), folder / "data", "coco")
    settings = ["--arg", "image_size=32", "--set", "workers=0", "--set", "batch_size=2", "--epochs", "1"]
    words = ["train", str(folder / "data"), *settings, "--runs", str(folder), "--device", "cpu", "--no-report", "-q"]
    seen, before = Watch(listed()[-1]), sys.getprofile()
    sys.setprofile(seen)
    try:
        outcome = CliRunner().invoke(app, words)
    finally:
        sys.setprofile(before)
    assert outcome.exit_code == 0, outcome.output
    return seen


def test_at_most_twelve_files() -> None:
    assert len({file for file, _ in listed()}) <= 12


def test_they_are_called_in_this_order(watch: Watch) -> None:
    order = [*watch.called]
    missing = [place for place in listed() if place not in watch.called]
    assert not missing
    assert [place for place in order if place in listed()] == listed()


def test_nothing_stands_between_them_and_the_loss(watch: Watch) -> None:
    assert [file for file, _ in watch.callers if file != PARSER] != []
    assert {place for place in watch.callers if place[0] != PARSER} <= {*listed()}
