"""Finding files and folders whatever the case of their names, with each folder listed once."""

from __future__ import annotations

import os
from pathlib import Path


class Listing:
    """Names in folders, remembered while one dataset is opened."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[frozenset[str], dict[str, str]]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """The file or folder `name` in a folder: spelled so, else in another case; None where there is none.

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


def find_folder(folder: Path, name: str) -> Path | None:
    """The folder `name` in a folder, spelled so or in another case; None where there is none."""
    exact = folder / name
    if exact.is_dir():
        return exact
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return None
    return next((folder / e for e in entries if e.lower() == name.lower() and (folder / e).is_dir()), None)
