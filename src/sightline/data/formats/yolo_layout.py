"""Where YOLO's tools put images, labels, splits and class names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.data.formats import files
from sightline.data.images import is_image
from sightline.errors import InputError

_NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "classes.names")
_NOT_SPLITS = frozenset(["path", "names", "nc", "yaml_file", "download", "format", "kpt_shape", "flip_idx", "channels"])


@dataclass
class Part:
    """One split: images with their label files (None where an image has none), and what did not fit."""

    split: str
    pairs: list[tuple[Path, Path | None]]
    image_folder: Path
    orphans: list[str] = field(default_factory=list)


@dataclass
class Layout:
    """What a dataset consists of; `names` is None where no file names the classes."""

    root: Path
    names: dict[int, str] | None
    parts: list[Part]
    names_file: Path | None = None


def find_configuration(root: Path) -> Path | None:
    """The data.yaml or obj.data that describes the dataset in a folder, None without one.

    Raises:
        InputError: there are several.
    """
    if root.is_file():
        return root
    found = [f for f in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if _describes(f)]
    found += sorted(root.glob("*.data"))
    named = [f for f in found if f.stem in ("data", "dataset", "obj")]
    if len(found) > 1 and len(named) != 1:
        names = ", ".join(f.name for f in found)
        raise InputError(f"{root} holds several descriptions of YOLO data ({names}); give the path of one")
    return next(iter(named or found), None)


def from_yaml(file: Path, images: Path | None) -> Layout:
    """The layout that a data.yaml describes."""
    config = _yaml(file)
    if not isinstance(config, dict) or "names" not in config:
        raise InputError(f'{file} does not describe YOLO data: it needs "names" and "train" or "val"')
    home = file.parent
    base = home / str(config.get("path") or ".")
    bases = [base, home] if base.is_dir() else [home]
    layout = Layout(home, _names(config["names"], file), [], file)
    missing = []
    for key, value in config.items():
        if key in _NOT_SPLITS or not isinstance(value, str | list) or not value:
            continue
        entries = [str(entry) for entry in (value if isinstance(value, list) else [value])]
        places = [place for entry in entries if (place := _find(bases, entry)) is not None]
        if places:
            layout.parts.append(_part(files.split_name(key), places, bases, home, images))
        elif files.split_name(key) in files.ORDER:
            missing.append(f"{file.name}: {key}: {entries[0]}")
    if not layout.parts:
        tried = "; ".join(missing) or "it names no train, val or test"
        raise InputError(f"{file}: none of its splits is there ({tried}); correct the paths, relative to the file")
    layout.parts[0].orphans[:0] = missing
    return layout


def from_darknet(file: Path, images: Path | None) -> Layout:
    """The layout that a darknet obj.data describes; its paths are those of darknet's own folder, so tails count."""
    pairs = (line.partition("=") for line in files.read_text(file).splitlines() if "=" in line)
    entries = {key.strip(): value.strip() for key, _, value in pairs}
    home = file.parent
    layout = Layout(home, None, [])
    names_file = _find([home], entries.get("names", "obj.names"))
    if names_file is not None:
        layout.names, layout.names_file = read_names(names_file), names_file
    for key in ("train", "valid", "val", "test"):
        if key in entries:
            place = _find([home], entries[key])
            if place is None:
                raise InputError(f"{file}: there is no {entries[key]}, which it names for {key}; correct the path")
            layout.parts.append(_part(files.split_name(key), [place], [home], home, images))
    if len(layout.parts) == 1:
        layout.parts[0].split = "all"  # CVAT lists whatever it exports as "train"
    return layout


def from_folder(root: Path, images: Path | None) -> Layout:
    """The layout of a folder without description: images/ and labels/, a folder a split, or labels beside images."""
    names_file = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
    layout = Layout(root, None if names_file is None else read_names(names_file), [], names_file)
    inner = [root / "images"] if (root / "images").is_dir() else []
    for base in [*inner, root]:
        by_name = {files.split_name(f.name): f for f in sorted(base.iterdir()) if files.is_usual_split(f)}
        if by_name:
            for name in files.in_order(by_name):
                folder = by_name[name]
                folder = folder / "images" if (folder / "images").is_dir() else folder
                layout.parts.append(_part(name, [folder], [root], root, images))
            return layout
    layout.parts = [_part("all", [*inner, root][:1], [root], root, images)]
    return layout


def given_parts(root: Path, splits: Iterable[tuple[str, str | os.PathLike[str]]], images: Path | None) -> list[Part]:
    """The splits the user names: folders of images, or lists of them."""
    return [_part(name, [files.resolve(root, given)], [root], root, images) for name, given in splits]


def read_names(file: Path) -> dict[int, str]:
    """Class names, one a line."""
    lines = [line.strip() for line in files.read_text(file).splitlines()]
    return dict(enumerate(line for line in lines if line))


def looks_like_labels(file: Path) -> bool:
    """Whether a text file's first line is a class id and coordinates."""
    with open(file, "rb") as opened:
        line = opened.read(4096).strip().split(b"\n")[0].split()
    try:
        return len(line) >= 5 and float(line[0]) >= 0 and not any(abs(float(value)) >= 10 for value in line[1:5])
    except ValueError:
        return False


def _describes(file: Path) -> bool:
    try:
        config = _yaml(file)
    except InputError:
        return False
    return isinstance(config, dict) and "names" in config and bool({"train", "val", "valid", "test"} & config.keys())


def _yaml(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(files.read_text(file))
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None


def _names(value: Any, file: Path) -> dict[int, str]:
    if isinstance(value, list):
        return {k: str(name) for k, name in enumerate(value)}
    try:
        return {int(key): str(name) for key, name in sorted(value.items(), key=lambda item: int(item[0]))}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f'{file}: "names" must be a list of names, or names by id, not {value!r}') from None


def _find(bases: Sequence[Path], entry: str) -> Path | None:
    """A path as a description has it: relative to a base; where the data has moved, the longest end of it that is."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".")]
    if Path(entry).is_absolute() and Path(entry).exists():
        return Path(entry)
    for start in range(len(parts)):
        for base in bases:
            place = base.joinpath(*parts[start:])
            if place.exists():
                return Path(os.path.normpath(place))
    return None


def _part(split: str, places: Sequence[Path], bases: Sequence[Path], root: Path, images: Path | None) -> Part:
    """A split of folders and lists."""
    part = Part(split, [], root)
    tops = []
    for place in places:
        if place.is_dir():
            tops.append(_add_folder(part, place, root, images))
        elif is_image(place):
            part.pairs.append((place, _label(place)))
        else:
            tops += _add_list(part, place, [place.parent, *bases], root, images)
    part.image_folder = Path(os.path.commonpath(tops)) if tops else root
    return part


def _add_folder(part: Part, folder: Path, root: Path, images: Path | None) -> Path:
    """All images of a folder; returns the folder they are in."""
    labels_at = _mirrored(folder)
    labels_at = labels_at if labels_at is not None and labels_at.is_dir() else folder
    if images is not None:
        folder = images / folder.name if (images / folder.name).is_dir() else images
    known = {files.without_suffix(n): n for n in files.files_below(labels_at) if n.endswith(".txt")}
    for name in files.images_below(folder):
        label = known.pop(files.without_suffix(name), None)
        beside = (folder / name).with_suffix(".txt") if labels_at != folder else None
        part.pairs.append(
            (folder / name, labels_at / label if label else beside if beside is not None and beside.is_file() else None)
        )
    left = [labels_at / name for name in known.values() if name not in _NAME_FILES]
    part.orphans += [files.relative(file, root) for file in left if looks_like_labels(file)]
    return folder


def _add_list(part: Part, file: Path, bases: Sequence[Path], root: Path, images: Path | None) -> list[Path]:
    """All images of a list; returns their folders."""
    lines = [line.strip() for line in files.read_text(file).splitlines() if line.strip()]
    for line in lines:
        place = _find([images], line) if images is not None else _find(bases, line)
        stem = files.without_suffix(line) + ".txt"
        if place is None:
            label = _find(bases, stem) or _find(bases, _as_labels(stem))
            part.orphans.append(files.relative(label, root) if label else f"{files.relative(file, root)}: {line}")
        else:
            label = _label(place) if images is None else _find(bases, stem) or _find(bases, _as_labels(stem))
            part.pairs.append((place, label))
    return [place.parent for place, _ in part.pairs]


def _label(image: Path) -> Path | None:
    mirrored = _mirrored(image)
    for place in (mirrored.with_suffix(".txt") if mirrored is not None else None, image.with_suffix(".txt")):
        if place is not None and place.is_file():
            return place
    return None


def _mirrored(path: Path) -> Path | None:
    """The path with its last part "images" replaced by "labels", where YOLO looks for labels; None without one."""
    parts = list(path.parts)
    for k in range(len(parts) - 1, -1, -1):
        if parts[k] == "images":
            return Path(*parts[:k], "labels", *parts[k + 1 :])
    return None


def _as_labels(line: str) -> str:
    head, found, tail = line.replace("\\", "/").rpartition("images/")
    return f"{head}labels/{tail}" if found else line
