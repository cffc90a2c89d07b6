"""Finding images by the names used in label files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.data.formats import files
from sightline.data.images import is_image
from sightline.errors import InputError


class Finder:
    """Finds images by the names used in label files.

    A name is looked up as it is in each folder, then without its leading folders, then among all images below the
    folders, where the image's path must end with the name. A name without a suffix matches any image suffix.

    Args:
        folders: the folders, in the order in which they are searched.
    """

    def __init__(self, folders: Iterable[Path]):
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, near: Sequence[Path] = ()) -> Path | None:
        """The image's file, or None.

        Args:
            name: the name in the label file.
            near: folders that are searched first.

        Raises:
            InputError: the name matches files in different folders.
        """
        plain = name.strip().replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        if os.path.isabs(plain) and os.path.isfile(plain):
            return Path(plain)
        for start in range(len(parts)):
            for folder in (*near, *self.folders):
                place = folder.joinpath(*parts[start:])
                if is_image(place) and _is_file(place):
                    return place
        found = [place for place in self._index().get(parts[-1], []) if _ends_with(place, parts)]
        if len(found) > 1:
            close = [place for place in found if any(place.is_relative_to(folder) for folder in near)]
            found = close if len(close) == 1 else found
        if len(found) > 1:
            raise InputError(
                f"the image {name!r} may be {found[0]} or {found[1]}; write its folder into the label file, or name "
                "the folder of the images (images=…)"
            )
        return found[0] if found else None

    def _index(self) -> dict[str, list[Path]]:
        """All images below the folders, by name and by name without suffix."""
        if self._by_name is None:
            self._by_name = {}
            seen: set[Path] = set()
            for folder in self.folders:
                for inner in files.images_below(folder):
                    place = folder / inner
                    if place not in seen:
                        seen.add(place)
                        for key in {place.name, place.stem}:
                            self._by_name.setdefault(key, []).append(place)
        return self._by_name


def _ends_with(place: Path, parts: Sequence[str]) -> bool:
    return len(parts) == 1 or list(place.parts[-len(parts) : -1]) == list(parts[:-1])


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except (OSError, ValueError):  # not a valid file name
        return False
