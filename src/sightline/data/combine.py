"""Concatenating datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
from torch import Tensor

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.full_scale import FullScale
from sightline.data.kinds import KINDS
from sightline.data.labelled import AnyDataset, LabelledImages
from sightline.data.relabel import relabelled
from sightline.data.source import Source
from sightline.data.stored import known_fields
from sightline.errors import InputError
from sightline.structures import Classes

_USUAL = ("train", "val", "test")


class LazyConcatenation(Sequence[Tensor]):
    """A lazy sequence over several datasets that reads one item (such as the image or class map) per image.

    Args:
        parts: the datasets.
        read: function that reads the item of image i of a dataset.
        places: the dataset and image index for each position; by default all images of all datasets in order.
    """

    def __init__(
        self,
        parts: Sequence[LabelledImages],
        read: Callable[[LabelledImages, int], Tensor],
        places: Sequence[tuple[int, int]] | None = None,
    ):
        self.parts, self.read = parts, read
        self.places = [(k, i) for k, part in enumerate(parts) for i in range(len(part))] if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Iterable[int]) -> LazyConcatenation:
        """The items of the selected images."""
        return LazyConcatenation(self.parts, self.read, [self.places[row] for row in rows])

    @overload
    def __getitem__(self, i: int) -> Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> LazyConcatenation: ...
    def __getitem__(self, i: int | slice) -> Tensor | LazyConcatenation:
        if isinstance(i, slice):
            return self.take(range(*i.indices(len(self))))
        part, image = self.places[i]
        return self.read(self.parts[part], image)


def concatenated(parts: Sequence[AnyDataset]) -> AnyDataset:
    """See `Dataset.__add__`.

    Raises:
        InputError: the parts cannot be concatenated; the message gives the reason.
    """
    _require_one_kind(parts)
    if len({part.channels for part in parts}) > 1:
        words = " and ".join(str(part.channels) for part in parts)
        raise InputError(f"the images are read with {words} channels; use the same for both with .with_channels(…)")
    _require_splits(parts)
    classes = Classes(dict.fromkeys(name for part in parts for name in part.classes))
    _require_distinct_case(classes)
    with_keypoints = _keypoints(parts)
    owned = [_completed(part, classes, with_keypoints) for part in parts]
    on_disk = all(part.root is not None and part.source.images is None for part in owned)
    root = Path(os.path.commonpath([str(part.root) for part in owned])) if on_disk and _one_drive(owned) else None
    found = {name: None for part in owned for name in part.source.split_names if name in part.splits or part.whole}
    split_names = tuple([n for n in _USUAL if n in found] + [n for n in found if n not in _USUAL])
    taken: set[tuple[str, int]] = set()
    pieces = [_placed(part, root, split_names, taken) for part in owned]
    _require_one_type(pieces)
    columns = Columns.concatenate(pieces)
    first = owned[0].source
    posed = next((part.source for part in owned if part.source.columns.keypoints is not None), first)
    source = Source(
        columns=columns,
        classes=classes,
        kind=first.kind,
        about=first.about if len({part.about for part in parts}) == 1 else "",
        root=root,
        format=first.format if len({part.format for part in owned}) == 1 else "mixed",
        split_names=split_names,
        folders=_folders(owned, root, split_names) if root is not None else (),
        orphans=tuple(words for part in owned for words in part.source.orphans),
        left_out=tuple(words for part in owned for words in part.source.left_out),
        missing_splits={k: v for part in owned for k, v in part.source.missing_splits.items() if k not in split_names},
        meta=_meta(owned, classes),
        images=None if root is not None else LazyConcatenation(owned, _image),
        class_maps=LazyConcatenation(owned, _labels) if owned[0].label_kind.has_maps else None,
        ignore=None,
        malformed=tuple(bad for part in owned for bad in part.source.malformed),
        keypoint_names=posed.keypoint_names if with_keypoints else (),
        keypoint_swap=posed.keypoint_swap if with_keypoints else None,
        full_scale=_full_scale(parts),
        notes=tuple(dict.fromkeys(note for part in owned for note in part.source.notes)),
    )
    fields = list(dict.fromkeys(name for part in parts for name in part.fields if name in known_fields(columns)))
    rows = None if all(part.whole for part in parts) else np.arange(columns.images)
    return type(parts[0])(source, rows, tuple(fields), parts[0].channels)


def _image(part: LabelledImages, i: int) -> Tensor:
    return part.image(i)


def _labels(part: LabelledImages, i: int) -> Tensor:
    labels = part.target(i).labels  # type: ignore[union-attr]
    assert isinstance(labels, Tensor), "a class map's labels are a tensor"
    return labels


def _require_one_kind(parts: Sequence[LabelledImages]) -> None:
    kinds = [part.kind for part in parts]
    if len(set(kinds)) > 1:
        words = " and ".join(KINDS[kind].noun for kind in dict.fromkeys(kinds))
        raise InputError(f"datasets with different kinds of labels ({words}) cannot be concatenated; use one kind")


def _require_splits(parts: Sequence[LabelledImages]) -> None:
    """Images without a split, next to images with one, would never be used for training or evaluation."""
    undivided = [part for part in parts if part.splits == ("all",)]
    divided = [part for part in parts if part.splits not in ((), ("all",))]
    if undivided and divided:
        names = ", ".join(divided[0].splits)
        raise InputError(
            f"one dataset has splits ({names}) and the other has none, so its images would belong to no split; divide "
            "it first with .split(0.8, 0.1, 0.1), or with .split(1, 0, 0) to train on all of it"
        )


def _require_distinct_case(classes: Classes) -> None:
    first: dict[str, str] = {}
    for name in classes:
        other = first.setdefault(name.strip().casefold(), name)
        if other != name:
            raise InputError(
                f"the classes {other!r} and {name!r} differ only in capitalization; merge them in one dataset "
                f"with .with_class_mapping({{{name!r}: {other!r}}}), or rename one of them"
            )


def _require_one_type(pieces: Sequence[Columns]) -> None:
    """An additional column may be missing in a part, but must not be text in one part and numeric in another."""
    kinds: dict[str, set[Any]] = {}
    for piece in pieces:
        for name, column in piece.extra.items():
            kind = "text" if isinstance(column, Blob) else f"values of shape {list(column.shape[1:])}"
            kinds.setdefault(name, set()).add(kind)
    for name, found in kinds.items():
        if len(found) > 1:
            what = " and ".join(sorted(found))
            raise InputError(f"the field {name!r} of the objects has {what}, which cannot be concatenated; rename one")


def _keypoints(parts: Sequence[LabelledImages]) -> bool:
    """Whether all parts have the same keypoints. If not, they are dropped, unless they were requested."""
    having = [part for part in parts if part.source.columns.keypoints is not None or "keypoints" in part.source.later]
    asked = any("keypoints" in part.fields for part in parts)
    complete = [part.with_fields("keypoints") for part in having]
    kinds = {
        (part.source.columns.keypoints.shape[1], part.keypoint_names, part.keypoint_swap)  # type: ignore[union-attr]
        for part in complete
    }
    if len(kinds) > 1 and asked:
        words = " and ".join(f"{points} ({', '.join(names[:3]) or 'without names'} …)" for points, names, _ in kinds)
        raise InputError(f"the objects have different keypoints ({words}), which cannot be concatenated")
    return len(kinds) == 1


def _completed(part: AnyDataset, classes: Classes, with_keypoints: bool) -> AnyDataset:
    """The images of one part: all columns loaded, labels in the joint classes, keypoints kept on request."""
    later = [name for name in part.source.later if name != "keypoints" or with_keypoints]
    completed = part.with_fields(*later)
    moved = relabelled(completed, classes, [classes.id(name) for name in completed.classes])
    whole = part.derived(moved.own_source(), None)
    columns = whole.source.columns
    labels = [whole.label_path(i) for i in range(len(whole))]
    if any(labels):
        columns = columns.replace(label_names=Blob.of("" if at is None else at.as_posix() for at in labels))
    if not with_keypoints:
        columns = columns.replace(keypoints=None)
    return part.derived(replace(whole.source, columns=columns, later={}), None)


def _placed(
    part: LabelledImages, root: Path | None, split_names: Sequence[str], taken: set[tuple[str, int]]
) -> Columns:
    """A part's columns with names relative to `root` and joint splits; `taken` holds the names used so far."""
    source, columns = part.source, part.source.columns
    places = np.array([split_names.index(n) if n in split_names else -1 for n in source.split_names], np.int8)
    splits = places[columns.splits]
    names = columns.names.texts()
    if root is not None:
        assert source.root is not None, "all parts are on disk"
        names = [_below(source.root / name, root) for name in names]
    own: set[tuple[str, int]] = set()
    for i, split in enumerate(splits.tolist()):
        if (names[i], split) in taken and root is not None:
            raise InputError(
                f"both datasets contain the image {root / names[i]} in the split {split_names[split]!r}; leave it out "
                "of one of them, for example with .filter(names=…)"
            )
        names[i] = _free(names[i], split, taken | own if root is None else own)
        own.add((names[i], split))
    taken |= own
    labels = None
    if root is not None and columns.label_names is not None:
        labels = Blob.of(_below(Path(at), root) if at else "" for at in columns.label_names.texts())
    return columns.replace(names=Blob.of(names), splits=splits, label_names=labels, maps=None)


def _free(name: str, split: int, taken: set[tuple[str, int]]) -> str:
    """An unused name within the split, for images in memory."""
    path, number = PurePosixPath(name), 2
    while (name, split) in taken:
        name, number = path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix(), number + 1
    return name


def _below(path: Path, root: Path) -> str:
    """`path` relative to `root`, with / as separator; absolute if it is outside `root`."""
    absolute = Path(os.path.abspath(path))
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def _one_drive(parts: Sequence[LabelledImages]) -> bool:
    return len({part.root.drive for part in parts if part.root is not None}) == 1


def _folders(parts: Sequence[LabelledImages], root: Path, split_names: Sequence[str]) -> tuple[str, ...]:
    """For each split, the common part of the folders of all parts."""
    folders = []
    for name in split_names:
        own = [
            os.path.abspath(part.source.root / part.source.folders[part.source.split_names.index(name)])
            for part in parts
            if part.source.root is not None and part.source.folders and name in part.source.split_names
        ]
        common = Path(os.path.commonpath(own)) if len(own) == sum(name in part.splits for part in parts) else root
        folders.append("" if common == root or not common.is_relative_to(root) else _below(common, root))
    return tuple(folders)


def _meta(parts: Sequence[LabelledImages], classes: Classes) -> dict[str, Any]:
    """The format's metadata of the first part, with the categories of all parts."""
    meta = dict(parts[0].source.meta)
    known = {c.get("name"): c for part in reversed(parts) for c in part.source.meta.get("categories") or ()}
    if known:
        meta["categories"] = [known.get(name, {"name": name}) for name in classes]
    if any(part.source.meta.get("licenses", []) != meta.get("licenses", []) for part in parts):
        meta.pop("licenses", None)  # images refer to the licence list of their own part
    return meta


def _full_scale(parts: Sequence[LabelledImages]) -> FullScale:
    stated = {part.source.full_scale.stated for part in parts} - {None}
    if len(stated) > 1:
        raise InputError(
            f"the images have the full scales {' and '.join(map(str, sorted(stated)))}, but "  # type: ignore[type-var]
            "a dataset has only one; set it with .with_full_scale(…)"
        )
    return FullScale(next(iter(stated), None))
