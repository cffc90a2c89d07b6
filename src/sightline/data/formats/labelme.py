"""LabelMe (the desktop program, versions 3 to 5): one JSON file per image.

These layouts are recognised:

- *.json beside the images, in the folder itself or in one folder per split (train/, val/, test/);
- *.json in a folder such as annotations/ or labels/, with the images in images/ (or the folder given by images=);
- the path of one such file.

Shapes are polygon, rectangle (two opposite corners, or all four; a rotated one is a polygon), circle, line, linestrip,
point, points and mask, and X-AnyLabeling's rotation and quadrilateral; `sightline.data.formats.shapes` describes how
they are read. Polygons, circles and masks with the same label and group_id are parts of one object. Classes are in the
order of labels.txt, else those that occur, sorted. A shape's description is its caption; true flags "crowd",
"difficult", "occluded" and "truncated" are flags of the object; all other data is kept in the extra column "other".

If an image file is missing, the image is taken from the JSON (imageData) and decoded lazily. Such a dataset is an
in-memory dataset without a root.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.gather import Gather, place_of
from sightline.data.formats.labelme_shapes import add_objects
from sightline.data.formats.labelme_write import write
from sightline.data.formats.listing import find_folder, folders_in
from sightline.data.images import from_pil, is_image, read_image
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "LabelMe: *.json with shapes beside images"
_LABEL_FOLDERS = ("annotations", "labels", "json", "jsons")
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs")
_NOT_CLASSES = frozenset(["__ignore__", "_background_"])
_FILE_KNOWN = frozenset(["version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"])


@dataclass
class _Part:
    split: str
    folder: Path
    """The folder of its images and labels, or the parent of their folders."""
    pairs: list[tuple[Path, Path | None]] = field(default_factory=list)
    """Images with their JSON files; the JSON stands in for an image that only it contains."""
    orphans: list[str] = field(default_factory=list)


class _LazyImages(Sequence[Tensor]):
    """Images from files or from the JSON that contains them, decoded on each access."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> _LazyImages:
        """The selected images."""
        return _LazyImages([self.paths[row] for row in rows])

    def __getitem__(self, item: Any) -> Any:
        path = self.paths[item]
        return _embedded(path) if path.suffix.lower() == ".json" else read_image(path)


def recognise(root: Path) -> str | None:
    """A description of the LabelMe file found in a folder (or `root` itself, if it is one); None if there is none."""
    if root.is_file():
        return root.name if _looks_like_labelme(root) else None
    for folder in (root, *files.folders_of_splits(root)):
        found = files.with_ending(folder, ".json")[:20] if folder == root else []
        named = (
            [find_folder(folder, name) for name in (*_LABEL_FOLDERS, *_IMAGE_FOLDERS)] if folder == root else [folder]
        )
        for place in named:
            names = files.files_below(place) if place is not None else []
            found += [(place or folder) / name for name in names if name.lower().endswith(".json")][:20]
        file = next((file for file in found if _looks_like_labelme(file)), None)
        if file is not None:
            return files.relative(file, root)
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a LabelMe dataset. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    images = None if images is None else images.absolute()
    home = files.home_of(root)
    left_out: list[str] = []
    if splits:
        parts = [_Part(name, files.resolve(home, given)) for name, given in splits.items()]
    else:
        folders = files.split_folders(home) if root.is_dir() else {}
        if folders:  # other folders with labels beside them are splits with their own names
            folders |= {f.name: f for f in folders_in(home) if f not in folders.values() and _is_part(f)}
        parts = [_Part(name, folder) for name, folder in folders.items()] or [_Part("all", home)]
        left_out = files.beside_splits(home, folders.values(), home) if folders else []
    contents: dict[Path, dict[str, Any]] = {}
    for part in parts:
        _find(part, root if root.is_file() else None, images, home, contents)
    parts = _inner_splits(parts[0]) if parts[0].split == "all" else parts
    orphans = [orphan for part in parts for orphan in part.orphans]
    if not any(part.pairs for part in parts):
        raise files.none_found(home, orphans, "beside the JSON and inside it")
    base = files.naming_root(home, images)
    gather = Gather(classes, _listed(home))
    paths, folders_of = [], []
    for number, part in enumerate(parts):
        names = []
        for image, label in part.pairs:
            content = contents[label] if label is not None else {}
            embedded = image == label
            at = image.with_name(str(content["imagePath"]).replace("\\", "/").split("/")[-1]) if embedded else image
            names.append(files.relative(at, base))
            paths.append(image)
            stated = tuple(content.get(key) or 0 for key in ("imageHeight", "imageWidth"))
            size = _size(stated, image)
            extra = {key: value for key, value in content.items() if key not in _FILE_KNOWN and value}
            gather.image(names[-1], size, number, files.relative(label, base) if label else "", extra)
            if label is not None:
                add_objects(gather, label, content.get("shapes") or [], size)
        folders_of.append(files.common_folder(names))
    columns, known = gather.finish()
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="labelme",
        split_names=tuple(part.split for part in parts),
        folders=tuple(folders_of),
        orphans=tuple(orphans),
        left_out=tuple(left_out),
    )
    if any(not is_image(path) for path in paths):
        source = _in_memory(source, paths)
    return Dataset(source)


def _in_memory(source: Source, paths: list[Path]) -> Source:
    return replace(source, root=None, images=_LazyImages(paths), columns=source.columns.replace(label_names=None))


def _looks_like_labelme(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    text = reading.head(file, tail=2**12)
    return b'"shapes"' in text and (b'"imagePath"' in text or b'"imageData"' in text)


def _is_part(folder: Path) -> bool:
    """Whether a folder contains images and their LabelMe labels."""
    labels = [folder / name for name in files.files_below(folder) if name.lower().endswith(".json")][:20]
    return any(map(_looks_like_labelme, labels)) and bool(files.images_below(folder))


def _inner_splits(whole: _Part) -> list[_Part]:
    """Splits defined by subfolders of the image folder, with the labels elsewhere; the whole if there are none.

    (A dataset without splits is written to images/ with the labels beside the images, whatever their subfolders.)
    """
    if not whole.pairs or any(label is not None and label.parent == image.parent for image, label in whole.pairs):
        return [whole]
    top = os.path.commonpath([image.parent for image, _ in whole.pairs])
    names = [files.relative(image, Path(top)) for image, _ in whole.pairs]
    parts = [_Part(split, Path(top) / folder) for split, folder in files.inner_splits(names).items()]
    for part in parts:
        part.pairs = [pair for pair in whole.pairs if pair[0].is_relative_to(part.folder)]
    if parts:
        parts[0].orphans = whole.orphans
    return parts or [whole]


def _find(
    part: _Part, only: Path | None, images: Path | None, home: Path, contents: dict[Path, dict[str, Any]]
) -> None:
    """Pair images with their JSON files."""
    folder = part.folder
    label_folder = (files.first_folder(folder, _LABEL_FOLDERS) if only is None else None) or folder
    inner = files.first_folder(folder, _IMAGE_FOLDERS)
    if images is not None:
        image_folder = images / part.split if (images / part.split).is_dir() else images
    else:
        image_folder = inner or label_folder
    found = [only] if only is not None else [label_folder / name for name in files.files_below(label_folder)]
    labels: dict[Path, Path] = {}
    unread: set[Path] = set()
    for file in found:
        if not _looks_like_labelme(file):
            continue
        try:
            content = contents[file] = _content(file)
        except InputError as error:
            skip_label(error, file)
            unread |= {f for f in _same_stem(file, label_folder, image_folder) if f.is_file()}
            continue
        stated = content["imagePath"].replace("\\", "/")
        near = place_of(stated, [file.parent, image_folder])
        near = near or next((f for f in _same_stem(file, label_folder, image_folder) if f.is_file()), None)
        image = Path(os.path.normpath(near)) if near is not None else file if content.get("imageData") else None
        if image is None or image in labels:
            part.orphans.append(files.relative(file, home))
        else:
            labels[image] = file
    image_paths = [] if only is not None else [image_folder / name for name in files.images_below(image_folder)]
    every = dict.fromkeys(place for place in [*image_paths, *labels] if place in labels or place not in unread)
    part.pairs = sorted(
        ((image, labels.get(image)) for image in every), key=lambda pair: files.without_suffix(str(pair[0]))
    )


def _same_stem(file: Path, label_folder: Path, image_folder: Path) -> list[Path]:
    stem = files.without_suffix(
        file.relative_to(label_folder).as_posix() if label_folder in file.parents else file.name
    )
    return [image_folder / f"{stem}{suffix}" for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".JPG", ".webp")]


def _content(file: Path) -> dict[str, Any]:
    content = reading.read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("imagePath"), str):
        raise InputError(f'{file} is not a LabelMe file: it needs "shapes" and "imagePath"; save it again')
    if not isinstance(content.get("shapes", []), list | None):
        raise InputError(
            f'{file} has the "shapes" {str(content["shapes"])[:60]!r}, but they must be a list; save it again'
        )
    return content | {"imageData": bool(content.get("imageData"))}


def _listed(home: Path) -> list[str] | None:
    file = home / "labels.txt"
    if not file.is_file():
        return None
    lines = [line.strip() for line in files.read_text(file).splitlines()]
    return [line for line in lines if line and line not in _NOT_CLASSES]


def _size(stated: tuple[Any, ...], image: Path) -> Size:
    if all(type(side) is int and 0 < side < 2**30 for side in stated):
        return stated[0], stated[1]
    if is_image(image):
        return files.header_size(image)
    tensor = _embedded(image)
    return int(tensor.shape[1]), int(tensor.shape[2])


def _embedded(file: Path) -> Tensor:
    """The image inside a JSON file."""
    from PIL import Image

    data = reading.read_json(file, dict).get("imageData")
    try:
        return from_pil(Image.open(io.BytesIO(base64.b64decode(data))))
    except (TypeError, ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: its imageData is not an image ({error}); add the image as a file") from None
