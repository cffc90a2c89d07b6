"""Case-insensitive search for files and folders; each folder is listed only once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from sightline.runtime.reading import is_hidden


class Listing:
    """A cache of folder contents, used while one dataset is opened."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[frozenset[str], dict[str, str]]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The file or folder `name` in a folder: with this spelling, else case-insensitive; None if there is none.

        Args:
            folder: a folder; it need not exist.
            name: one name, or a relative path with /.
        """
        place = folder
        for part in name.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                place = place / ".."
                continue
            exact, by_lower = self._listed(place)
            found = part if part in exact else by_lower.get(part.lower())
            if found is None:
                return None
            place = place / found
        return place

    def _listed(self, folder: Path) -> tuple[frozenset[str], dict[str, str]]:
        key = str(folder)
        if key not in self._names:
            try:
                names = sorted(os.listdir(key), reverse=True)
            except OSError:
                names = []
            self._names[key] = frozenset(names), {name.lower(): name for name in names}
        return self._names[key]


class Contents(NamedTuple):
    """Names in a folder, sorted; hidden ones (`sightline.runtime.reading.is_hidden`) are left out."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


_SEEN: ContextVar[dict[str, Contents] | None] = ContextVar("seen", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """A context in which each folder is listed once: many formats look into the same folders."""
    token = _SEEN.set({} if _SEEN.get() is None else _SEEN.get())
    try:
        yield
    finally:
        _SEEN.reset(token)


def contents(folder: Path) -> Contents:
    """The contents of a folder; empty if it does not exist or cannot be read."""
    seen, key = _SEEN.get(), str(folder)
    if seen is not None and key in seen:
        return seen[key]
    names: tuple[list[str], list[str]] = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_hidden(entry.name):
                    names[entry.is_dir()].append(entry.name)
    except OSError:
        pass
    found = Contents(tuple(sorted(names[0])), tuple(sorted(names[1])))
    if seen is not None:
        seen[key] = found
    return found


def folders_in(folder: Path) -> list[Path]:
    """The subfolders of a folder, sorted; hidden folders are left out."""
    return [folder / name for name in contents(folder).folders]


def find_folder(folder: Path, name: str) -> Path | None:
    """The folder `name` in a folder, with this spelling or case-insensitive; None if there is none."""
    exact = folder / name
    if exact.is_dir():
        return exact
    return next((folder / e for e in contents(folder).folders if e.lower() == name.lower()), None)


def find_file(folder: Path, name: str) -> Path | None:
    """Like `find_folder`, for a file."""
    exact = folder / name
    if exact.is_file():
        return exact
    return next((folder / e for e in contents(folder).files if e.lower() == name.lower()), None)
