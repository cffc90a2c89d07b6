"""One bad input, and how the simplest are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.world import World, picture

Make = Callable[[Path, World], Any]


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Attributes:
        what: it is, in words.
        make: writes it into a folder, given the good inputs.
        verb: the command line; {f} is the folder, {data}, {run} and {image} are good inputs.
        word: that the sentence must hold.
        warned: it hinders no training on boxes, so `check` names it as a warning and ends with 0.
    """

    what: str
    make: Make
    verb: str
    word: str
    warned: bool = False


def nothing(folder: Path, world: World) -> None:
    """For values of options alone."""


def one_file(name: str, text: str | bytes) -> Make:
    def make(folder: Path, world: World) -> None:
        picture(folder / "a.png")
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def as_image(name: str, content: bytes) -> Make:
    def make(folder: Path, world: World) -> None:
        (folder / name).write_bytes(content)

    return make
