"""The contents of data.yaml and darknet's obj.data: class names, keypoints, and the places of the splits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.data.formats import files
from sightline.data.formats.listing import Listing, contents
from sightline.data.formats.yolo_lines import Keypoints
from sightline.data.keypoint_pairs import of_categories, require_mirror
from sightline.errors import InputError
from sightline.runtime.limits import require_within
from sightline.runtime.reading import read_yaml

_OTHER_KEYS = frozenset(
    ["path", "names", "nc", "yaml_file", "download", "format", "kpt_shape", "flip_idx", "kpt_names"]
)
_OTHER_KEYS |= {"channels", "license", "author", "version", "description", "backup", "classes"}
_NOTHING = frozenset(["", "~", "null", "none"])


@dataclass
class Entry:
    """One path that a description gives for a split.

    Attributes:
        key: the split as spelled in the file.
        text: the path as written in the file.
        place: the resolved path; None if it does not exist.
    """

    key: str
    text: str
    place: Path | None = None

    @property
    def split(self) -> str:
        """The split's usual name."""
        return files.split_name(self.key)


@dataclass
class Description:
    """A data.yaml or obj.data.

    Attributes:
        file: the file.
        bases: the folders that its paths may be relative to.
        names: class names by id; None if unknown.
        names_file: the file that contains them.
        entries: the entries of all splits, found or not.
        keypoints: keypoints of YOLO pose.
        notes: contradictions in the file, one sentence each.
    """

    file: Path
    bases: list[Path]
    names: dict[int, str] | None = None
    names_file: Path | None = None
    entries: list[Entry] = field(default_factory=list)
    keypoints: Keypoints | None = None
    notes: list[str] = field(default_factory=list)


def find_configuration(root: Path) -> Path | None:
    """The data.yaml or obj.data that describes the dataset in a folder; None if there is none.

    Raises:
        InputError: there are several.
    """
    if root.is_file():
        return root
    entries = [root / name for name in contents(root).files if name.lower().endswith((".yaml", ".yml", ".data"))]
    found = [f for f in entries if f.suffix.lower() in (".yaml", ".yml") and _describes(f)]
    found += [f for f in entries if f.suffix.lower() == ".data" and f.is_file()]
    named = [f for f in found if f.stem.lower() in ("data", "dataset", "obj")]
    if len(found) > 1 and len(named) != 1:
        names = ", ".join(f.name for f in found)
        raise InputError(f"{root} contains several descriptions of YOLO data ({names}); give the path of one")
    return next(iter(named or found), None)


def read_description(file: Path) -> Description:
    """Read a data.yaml or obj.data.

    Raises:
        InputError: it is not such a file, or its names, keypoints or paths cannot be used.
    """
    return _from_darknet(file) if file.suffix.lower() == ".data" else _from_yaml(file)


def read_names(file: Path) -> dict[int, str]:
    """Class names, one per line; leading and trailing spaces are removed."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", files.read_text(file))]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise InputError(
            f"{file}: line {lines.index('') + 1} is empty, so the ids of the names after it are ambiguous; "
            "remove the line, or name a class there"
        )
    return dict(enumerate(lines))


def _describes(file: Path) -> bool:
    try:
        config = read_yaml(file, as_text=True)
    except InputError:
        return file.stem.lower() in ("data", "dataset")  # reading it reports the error
    keys = {key.lower() for key in config if isinstance(key, str)} if isinstance(config, dict) else set()
    return "names" in keys and bool({"train", "val", "valid", "test", "all"} & keys)


def _from_yaml(file: Path) -> Description:
    config = read_yaml(file, as_text=True)
    if isinstance(config, dict):
        config = {_key(key): value for key, value in config.items()}
    if not isinstance(config, dict) or "names" not in config:
        raise InputError(f'{file} does not describe YOLO data: it needs "names" and "train" or "val"')
    home = file.parent
    stated = config.get("path")
    stated = stated.strip() if isinstance(stated, str) else ""
    base = home / stated if stated.lower() not in _NOTHING else home
    description = Description(file, [base, home] if base.is_dir() else [home], names_file=file)
    description.names = _names(config["names"], file)
    description.keypoints = _keypoints(config, file)
    count = _whole_numbers(config.get("nc"))
    if count is not None and count != [len(description.names)]:
        total = len(description.names)
        description.notes.append(f"{file.name}: nc is {count[0]}, but there are {total} names; the names are used")
    for key, value in config.items():
        if not isinstance(key, str) or key in _OTHER_KEYS or not isinstance(value, str | list):
            continue
        if _stands_in(key, config):
            continue
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            if files.split_name(key) in files.ORDER:
                raise InputError(f"{file}: {key} is {value!r}, but must be a path, or a list of paths")
            continue
        entries = [Entry(key, text.strip()) for text in texts if text.strip().lower() not in _NOTHING]
        if files.split_name(key) in (*files.ORDER, "all") or any(_may_be_split(e, description.bases) for e in entries):
            description.entries += entries
    _find_places(description)
    return description


def _key(key: Any) -> Any:
    """A known key in lower case."""
    lower = key.lower() if isinstance(key, str) else ""
    return lower if lower in _OTHER_KEYS or files.split_name(lower) in (*files.ORDER, "all") else key


def _stands_in(key: str, config: Mapping[str, Any]) -> bool:
    """Whether an entry only repeats another split for tools that need it, as listed in `stand_ins`."""
    stated = config.get("stand_ins")
    other = stated.get(key) if isinstance(stated, dict) else None
    return isinstance(other, str) and other != key and other in config and config[other] == config[key]


def _from_darknet(file: Path) -> Description:
    """Paths of darknet are relative to the folder in which it is run, so their beginning may be wrong."""
    pairs = (line.partition("=") for line in files.read_text(file).splitlines() if "=" in line)
    values = {key.strip().lower(): value.strip() for key, _, value in pairs}
    home = file.parent
    description = Description(file, [home])
    names = Entry("names", values.get("names", "obj.names"))
    names_file = next((place for _, place in _candidates(names.text, [home])), None)
    if names_file is not None and names_file.is_file():
        description.names, description.names_file = read_names(names_file), names_file
    for key in ("train", "valid", "val", "test"):
        if values.get(key):
            description.entries.append(Entry(key, values[key]))
    _find_places(description)
    return description


def _may_be_split(entry: Entry, bases: Sequence[Path]) -> bool:
    """Whether a value under an unusual key is an image folder or a list, existing or not."""
    text = entry.text.replace("\\", "/").lower()
    if "://" in text:
        return False
    words = text.split("/")
    if "images" in words or words[-1].endswith(".txt"):
        return True
    return any((base / entry.text).is_dir() for base in bases)


def _find_places(description: Description) -> None:
    """Find the places of the entries.

    A path is first used as it is. If it does not exist, the dataset may have been moved, so leading folders of the path
    are removed. The remaining path must still contain the split's name, or the same leading folders must be removed
    from all entries; and it must not be the place of another entry. Otherwise the entry has no place: no split is
    replaced by another.
    """
    entries = description.entries
    for entry in entries:
        entry.place = _exact(entry.text, description.bases)
    taken = {entry.place: entry.text for entry in entries if entry.place is not None}
    lost = [entry for entry in entries if entry.place is None]
    moved = [dict(_candidates(entry.text, description.bases)) for entry in lost]
    common: set[str] = (
        set.intersection(*(set(found) for found in moved)) if len(lost) == len(entries) and lost else set()
    )
    for entry, found in zip(lost, moved, strict=True):
        for dropped, place in found.items():
            kept = entry.text.replace("\\", "/")[len(dropped) :]
            if (dropped in common or _names_split(kept, entry.split)) and taken.get(place, entry.text) == entry.text:
                entry.place = place
                taken[place] = entry.text
                break


def _exact(text: str, bases: Sequence[Path], listing: Listing | None = None) -> Path | None:
    plain = text.replace("\\", "/")
    for base in bases:
        for candidate in (text, plain):
            place = base / candidate
            if _exists(place):
                return Path(os.path.normpath(place))
    if not plain.startswith("/"):
        for base in bases:
            other_case = (listing or Listing()).find(base, plain)
            if other_case is not None:
                return Path(os.path.normpath(other_case))
    return None


def _candidates(text: str, bases: Sequence[Path]) -> list[tuple[str, Path]]:
    """Possible places of a path, each with the leading folders (with / at the end) that were removed, shortest
    first."""
    plain = text.replace("\\", "/")
    starts = [0, *(k + 1 for k, letter in enumerate(plain) if letter == "/")]
    found = []
    for start in starts:
        rest = plain[start:].strip("/")
        if rest and not Path(plain[start:]).is_absolute():
            place = next((base / rest for base in bases if _exists(base / rest)), None)
            if place is not None:
                found.append((plain[:start], Path(os.path.normpath(place))))
    return found


def find_listed(text: str, bases: Sequence[Path], listing: Listing) -> Path | None:
    """A file in a list: as it is, else without leading folders; None if it does not exist."""
    return _exact(text, bases, listing) or next((place for _, place in _candidates(text, bases)), None)


def _names_split(path: str, split: str) -> bool:
    return any(files.split_name(word) == split or files.split_in(word) == split for word in path.split("/"))


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # name too long, or with a null byte
        return False


def _names(value: Any, file: Path) -> dict[int, str]:
    """Class names by id, as spelled in the file."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    try:
        if pairs is None or not all(isinstance(name, str) for _, name in pairs):
            raise TypeError
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        names = {int(key): name.strip() for key, name in sorted(pairs, key=lambda pair: int(pair[0]))}
    except (TypeError, ValueError):
        raise InputError(f'{file}: "names" must be a list of names, or names by id, not {value!r}') from None
    require_within(f"{file}: the largest class id", max(names, default=0), "class_ids")
    return names


def _keypoints(config: Mapping[str, Any], file: Path) -> Keypoints | None:
    shape = config.get("kpt_shape")
    if shape is None or (isinstance(shape, str) and shape.strip().lower() in _NOTHING):
        return None
    numbers = _whole_numbers(shape)
    if numbers is None or len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise InputError(
            f"{file}: kpt_shape is {shape!r}, but must be [number of keypoints, 2 or 3], such as [17, 3]; correct it"
        )
    require_within(f"{file}: the number of keypoints in kpt_shape", numbers[0], "count")
    points, each = numbers
    swap = config.get("flip_idx")
    stated = None
    if swap is not None and swap != [] and not (isinstance(swap, str) and swap.strip().lower() in _NOTHING):
        whole = _whole_numbers(swap)
        stated = require_mirror(swap if whole is None else whole, points, f"{file}: flip_idx")
    names, by_names = of_categories(_named_points(config.get("kpt_names"), points, file))
    return Keypoints(points, each, names, by_names if stated is None else stated)


def _named_points(value: Any, points: int, file: Path) -> list[dict[str, Any]]:
    """`kpt_names`, a list or a list per class id, in the form of COCO categories."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING):
        return []
    lists = list(value.values()) if isinstance(value, Mapping) else [value]
    for names in lists:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != points:
            raise InputError(
                f"{file}: kpt_names contains {names!r}, but must name each of the {points} keypoints of kpt_shape"
            )
    return [{"keypoints": [name.strip() for name in names]} for names in lists]


def _whole_numbers(value: Any) -> list[int] | None:
    """Integers from a list, or from text such as "17, 3"; None for anything else."""
    values = (
        value
        if isinstance(value, list)
        else re.split(r"[\s,]+", value.strip(" []()"))
        if isinstance(value, str)
        else []
    )
    try:
        return [int(text) for text in values] if values else None
    except (TypeError, ValueError):
        return None
