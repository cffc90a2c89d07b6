"""COCO JSON: one file per split, beside folders of images.

These layouts are recognised (SPLIT may contain a year, as in train2017):

- annotations/instances_SPLIT.json with images in SPLIT/, images/SPLIT/ or images/ (COCO, CVAT; also any other JSON in
  annotations/ whose name contains the split); keypoints and captions are read from person_keypoints_SPLIT.json and
  captions_SPLIT.json beside it on request;
- SPLIT/_annotations.coco.json beside the images (Roboflow);
- *.json in the folder itself, one file in total or one per split, with images in it or in images/;
- the path of one such file.

If annotations have a category but no box, outline or keypoints, the categories are image labels, one class per
image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.coco_columns import CocoFile, read_file
from sightline.data.formats.coco_images import Part, found_images
from sightline.data.formats.coco_labels import labels_of_all
from sightline.data.formats.coco_more import add_captions, add_keypoints, add_meshes, with_keypoint_names
from sightline.data.formats.coco_write import write
from sightline.data.formats.files import in_order, none_found, relative, resolve, split_in, split_name
from sightline.data.formats.image_labels import labelled
from sightline.data.formats.listing import find_folder, folders_in
from sightline.data.kinds import GONE
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Classes

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "COCO: annotations/*.json, */_annotations.coco.json or *.json with images and annotations"
_MOST = 200
"""The number of JSON files that are inspected; tools with one JSON per image write many, and those are not COCO."""
_KIND = re.compile(r"(instances|person_keypoints|captions)_(.+)", re.IGNORECASE)


def recognise(root: Path) -> str | None:
    """A description of the COCO file found in a folder (or `root` itself, if it is one); None if there is none."""
    if root.is_file():
        return root.name if root.suffix.lower() == ".json" and _looks_like_coco(root) else None
    found = sorted(_files(root), key=lambda file: not file.name.startswith("instances"))
    return relative(found[0], root) if found else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a COCO dataset. Arguments and errors are those of `sightline.open_dataset`.

    Classes are the categories by increasing id. Pixels are not read: image sizes are those stated in the JSON.
    Annotations of images that are not listed are recorded as orphans.
    """
    whole = not splits and root.is_dir()
    if splits:
        files_of = {name: _json_of(resolve(root, given)) for name, given in splits.items()}
        parts = [Part(name, file, _part(file, root).raw) for name, file in files_of.items()]
    else:
        parts = _parts(root)
    if root.is_file():
        root = root.parent.parent if root.parent.name.lower() == "annotations" else root.parent
    root = root.absolute()
    base = files.naming_root(root, images)
    known = None if classes is None else Classes(classes)
    # File names are first read without a folder: the images' folder can only be found once the names are known.
    read_files = [read_file(part.file, "", number, known) for number, part in enumerate(parts)]
    found = [
        found_images(root, part, file.columns.names.texts(), images, base)
        for part, file in zip(parts, read_files, strict=True)
    ]
    folders = [folder for folder, _ in found]
    categories = _joint([file.categories for file in read_files])
    if known is None:
        for name in _supercategories(read_files):
            del categories[name]
    final = Classes(categories) if known is None else known
    columns: list[Columns] = []
    orphans: list[str] = []
    notes: list[str] = []
    meta: dict[str, Any] = {}
    for part, (folder, ends) in zip(parts, found, strict=True):
        one = read_files.pop(0)
        if ends is not None:
            first = one.columns.names.text(0)
            notes.append(f"{part.file.name}: images are found by the end of their paths, such as {ends[0]} for {first}")
            one.columns = one.columns.replace(names=Blob.of(ends))
        columns.append(_placed(one.columns, one.classes, final, folder))
        orphans += one.orphans
        notes += one.notes
        meta = one.meta | meta
        del one
    joined = Columns.concatenate(labels_of_all(columns, [part.file for part in parts]))
    if not joined.images:
        raise none_found(parts[0].file, orphans, 'under "images"')
    source = Source(
        columns=joined,
        classes=final,
        root=base,
        format="coco",
        about=_about(meta),
        split_names=tuple(part.split for part in parts),
        folders=tuple(folders),
        label_files=tuple(part.file.absolute() for part in parts),
        orphans=tuple(orphans[:1000]),
        notes=tuple(dict.fromkeys(notes)),
        left_out=tuple(_in_no_split(base, folders, joined) if whole else ()),
        meta=meta | {"categories": [categories.get(name, {"name": name}) for name in final]},
        later=_later(parts, folders) | _meshes(joined, base),
    )
    dataset = Dataset(with_keypoint_names(source, categories.values()))
    return dataset if joined.image_labels is None else labelled(dataset, joined.image_labels, final)


def _about(meta: Mapping[str, Any]) -> str:
    """The field that the labels are about, "about" in "info"; "" if it is not stated."""
    info = meta.get("info")
    about = info.get("about") if isinstance(info, dict) else None
    return about if isinstance(about, str) else ""


def _in_no_split(base: Path, folders: Sequence[str], columns: Columns) -> list[str]:
    """Images in the folders of splits that no file lists."""
    tops = [f for f in dict.fromkeys(folders) if not any(f != o and (not o or f.startswith(f"{o}/")) for o in folders)]
    parents = {top.rpartition("/")[0] for top in tops if top}
    if len(tops) > 1 and len(parents) == 1:
        tops = [*parents]
    names = [*columns.names.texts(), *_depth_maps(columns)]
    return [words for top in tops if (base / top).is_dir() for words in files.unlisted(base / top, names, base)]


def _depth_maps(columns: Columns) -> list[str]:
    """The files of depth maps that the images' cameras name."""
    key = b'"depth_file_name"'
    if columns.image_extra is None or key not in columns.image_extra.data.tobytes():
        return []
    cameras = [json.loads(entry).get("camera") for entry in columns.image_extra if key in entry]
    return [str(camera.get("depth_file_name")) for camera in cameras if isinstance(camera, dict)]


def _files(root: Path) -> list[Path]:
    """COCO files in the usual places; only those of the first place that has any."""
    inner = folders_in(root)
    labels = find_folder(root, "annotations")
    places = (
        files.with_ending(labels, ".json") if labels is not None else [],
        [file for folder in inner for file in files.with_ending(folder, "_annotations.coco.json")],
        files.with_ending(root, ".json"),
        [file for folder in inner for file in files.with_ending(folder, ".json")],
    )
    for found in places:
        coco = [file for file in found[:_MOST] if _looks_like_coco(file)]
        if coco:
            return coco
    return []


def _looks_like_coco(file: Path) -> bool:
    """Whether the beginning or end of a JSON file contains the keys of a COCO file."""
    text = reading.head(file, tail=2**16)
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    if b'"file_path"' in text and b'"K"' in text:  # Omni3D
        return False
    if b'"segments_info"' in text or (b'"items"' in text and b'"images"' not in text):  # panoptic, Datumaro
        return False
    return sum(key in text for key in (b'"images"', b'"annotations"', b'"categories"')) >= 2 or b'"image_id"' in text


def _part(file: Path, root: Path) -> Part:
    """The split of a file, from its name or its folder's name."""
    match = _KIND.fullmatch(file.stem)
    if match:
        return Part(split_name(match[2]), file, match[2])
    if file.name.startswith("_annotations") or (file.parent != root and file.parent.name.lower() != "annotations"):
        return Part(split_name(file.parent.name), file, file.parent.name)
    return Part(split_in(file.stem) or file.stem, file, file.stem)


def _parts(root: Path) -> list[Part]:
    """The splits of a folder, or of one file."""
    found = [root] if root.is_file() else _files(root)
    by_kind: dict[str, list[Part]] = {}
    for file in found:
        match = _KIND.fullmatch(file.stem)
        by_kind.setdefault(match[1].lower() if match else "", []).append(
            _part(file, root.parent if root.is_file() else root)
        )
    parts = next((by_kind[kind] for kind in ("instances", "", "person_keypoints", "captions") if kind in by_kind), [])
    if len(parts) == 1 and parts[0].split not in ("train", "val", "test"):
        return [Part("all", parts[0].file, parts[0].raw)]
    if len({part.split for part in parts}) < len(parts):  # train2014 beside train2017: keep the full names
        parts = [Part(part.raw, part.file, part.raw) for part in parts]
    by_name = {part.split: part for part in parts}
    if len(by_name) < len(parts):
        names = ", ".join(relative(part.file, root) for part in parts)
        raise InputError(
            f"{root} holds several COCO files for one split ({names}); give the path of one, or train=…, val=…"
        )
    return [by_name[name] for name in in_order(by_name)]


def _json_of(path: Path) -> Path:
    """A split given as a JSON file, or as a folder with one."""
    if path.is_file():
        return path
    found = _files(path)
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found[:5]) or "none"
    raise InputError(f"{path} must contain exactly one COCO file to be a split, but contains {names}; name the file")


def _joint(categories: Sequence[list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The categories of all files by name: by increasing id if the files agree on ids, else in order of appearance."""
    by_name: dict[str, dict[str, Any]] = {}
    for category in (one for several in categories for one in several):
        by_name.setdefault(category["name"], category)
    if any(isinstance(category["id"], str) for category in by_name.values()):
        return by_name
    ids = [{c["name"]: c["id"] for c in reversed(several)} for several in categories]
    agreed = all(by_name[name]["id"] == id for one in ids for name, id in one.items())
    distinct = len({category["id"] for category in by_name.values()}) == len(by_name)
    return dict(sorted(by_name.items(), key=lambda item: item[1]["id"])) if agreed and distinct else by_name


def _supercategories(read_files: Sequence[CocoFile]) -> list[str]:
    """Categories that only group all others: Roboflow lists one before the classes.

    Such a category has no objects in any file, and its name is the supercategory of every other category but not of
    itself.
    """
    found = None
    for file in read_files:
        labels = file.columns.labels if file.columns.image_labels is None else file.columns.image_labels
        used = {file.classes[k] for k in np.unique(labels[labels != GONE]).tolist()}
        alone = set()
        for category in file.categories:
            name = category["name"]
            above = {str(c.get("supercategory") or "") for c in file.categories if c["name"] != name}
            if name not in used and above == {name} and category.get("supercategory") != name:
                alone.add(name)
        found = alone if found is None else found & alone
    return sorted(found or ())


def _placed(columns: Columns, own: Classes, joint: Classes, folder: str) -> Columns:
    """One file's columns with labels as ids of the joint classes, and names relative to the root."""
    to_joint = np.array([joint.id(name) if name in joint else -1 for name in own], np.int32)  # −1 has no objects
    if not np.array_equal(to_joint, np.arange(len(own))):
        columns = columns.replace(labels=to_joint[columns.labels])
        if (labels := columns.image_labels) is not None:
            columns = columns.replace(image_labels=np.append(to_joint, GONE)[labels])  # GONE is −1, the last
    return columns.replace(names=Blob.of(f"{folder}/{n}" for n in columns.names.texts())) if folder else columns


def _later(parts: Sequence[Part], folders: Sequence[str]) -> dict[str, Any]:
    """Loaders of the data in files beside the instances, by column name."""
    later = {}
    for field, kind, add in (("keypoints", "person_keypoints", add_keypoints), ("captions", "captions", add_captions)):
        found = []
        for part, folder in zip(parts, folders, strict=True):
            match = _KIND.fullmatch(part.file.stem)
            beside = part.file.with_name(f"{kind}_{match[2]}.json") if match else part.file
            if match and match[1].lower() != kind and beside.is_file():
                found.append((beside, folder))
        if found:
            later[field] = partial(add, found)
    return later


def _meshes(columns: Columns, base: Path) -> dict[str, Any]:
    """The loader of meshes, if annotations name their files."""
    return {"meshes": partial(add_meshes, base)} if "mesh" in columns.extra else {}
