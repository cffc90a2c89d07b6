"""Where the images of a COCO file are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sightline.data.formats import files
from sightline.data.formats.files import aliases
from sightline.data.formats.listing import find_folder

_TRIED = 20
"""The number of images by which their folder is found."""


@dataclass(frozen=True)
class Part:
    """A COCO file, which is a split of its dataset."""

    split: str
    file: Path
    raw: str
    """The split's name as written by the tool, including the year."""


def found_images(
    root: Path, part: Part, names: Sequence[str], images: Path | None, base: Path
) -> tuple[str, list[str] | None]:
    """The folder of the split's images, and the ends of the images' paths by which they are found there.

    The second is None if the paths are as stated. Tools write paths of the computer on which the images were labelled,
    and encode them as addresses (%20).
    """
    folder = _folder(root, part, names[:_TRIED], images, base)
    if not names or any((base / folder / name).is_file() for name in names[:_TRIED]):
        return folder, None
    plain = [unquote(name) for name in names]
    deepest = max(name.count("/") for name in plain[:_TRIED])
    for depth in range(deepest, -1, -1):
        ends = ["/".join(name.split("/")[-depth - 1 :]) for name in plain]
        there = _folder(root, part, ends[:_TRIED], images, base)
        if any((base / there / name).is_file() for name in ends[:_TRIED]):
            return (there, ends) if len(set(ends)) == len(set(names)) else (folder, None)
    return folder, None


def _folder(root: Path, part: Part, names: Sequence[str], images: Path | None, base: Path) -> str:
    """The folder of the split's images relative to `base`: the one with the first image, else the first that exists."""
    raws = [part.raw, part.split, *([] if part.split == "all" else aliases(part.raw))]
    usual = [root, *(find_folder(root, name) or root / name for name in ("images", "data", "JPEGImages"))]
    above = usual if images is None else [images]
    places = [find_folder(folder, raw) or folder / raw for folder in above for raw in dict.fromkeys(raws)]
    places += [part.file.parent, part.file.parent / "images"] if images is None else []
    places += [*above[1:], above[0]]
    for place in places:
        if any((place / name).is_file() for name in names):
            break
    else:
        place = next((p for p in places if p.is_dir() and p not in (part.file.parent, root)), above[0])
    return files.folder_name(place, base)
