"""ActivityNet Captions: videos with events that are described by sentences (Krishna et al., "Dense-captioning events in
videos", ICCV 2017).

A file has one object for each video:

    {"v_QOlSCBRmfWY": {"duration": 82.73, "timestamps": [[0.83, 19.86], …], "sentences": ["A young woman …", …]}, …}

`timestamps` are start and end of each event in seconds, and `sentences` describes them, in the same order. These
layouts are recognised:

- train.json and val_1.json (and others that are named like splits), in the folder itself, or in captions/ or
  annotations/;
- the path of one such file.

A video is NAME.mp4, .mkv, .webm, …, with or without the leading "v_" of its name, in the file's folder, in one of its
subfolders or, for a file in captions/ or annotations/, beside that folder; images= names another folder. Videos whose
file does not exist, of which there are many since they are downloaded one by one, are listed as labels without images.
val_2.json describes the videos of val_1.json once more: it is read only if it is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.events import CLASSES, TABLE, durations_column, events_table
from sightline.data.formats import files
from sightline.data.formats.activitynet_write import write
from sightline.data.formats.listed import head_of
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.data.videos import is_video
from sightline.errors import InputError
from sightline.runtime.entries import NUMBER, require_entries
from sightline.runtime.reading import read_json
from sightline.words import counted

__all__ = ["LOOKED_FOR", "TABLES", "WRITES", "read", "recognise", "write"]

WRITES = ("events",)
"""The kinds of labels that can be written."""
TABLES = (TABLE,)
"""The tables of `Columns` that are written."""

LOOKED_FOR = "ActivityNet Captions: *.json with timestamps and sentences, and videos"
_FOLDERS = ("", "captions", "annotations")
_ENTRY = {"duration": NUMBER, "timestamps": [[NUMBER]], "sentences": [str]}
_KEYS = (b'"timestamps"', b'"sentences"')
_Video = tuple[str, float, list[tuple[float, float, str]]]
"""Name, duration in seconds, and (start, end, sentence) of each event."""


def recognise(root: Path) -> str | None:
    """A description of the captions found in a folder, or in the file `root`; None if there are none."""
    if root.is_file():
        return root.name if _looks_right(root) else None
    return next((files.relative(file, root) for file in _files_in(root)), None)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read ActivityNet Captions. Arguments and errors are those of `sightline.open_dataset`; events have no classes."""
    given, root = root, root.absolute()
    if classes is not None:
        raise InputError(f"{given} describes events, which have no classes; leave classes out")
    notes: list[str] = []
    if splits:
        found = [(name, files.resolve(files.home_of(root), path).absolute()) for name, path in splits.items()]
    elif root.is_file():
        found = [(files.split_in(root.stem) or "all", root)]
    else:
        found = _by_split(root, notes)
        # a file of another content, such as an empty one, would be a split that is silently not there
        notes += [f"{files.relative(file, root)} is left out, because it holds no captions" for file in _others(root)]
    if not found:
        raise InputError(f"{given} has no file of captions; give the path of one, such as train.json")
    home = files.home_of(root)
    names = {split for split, _ in found}
    known = _videos_of(images.absolute()) if images is not None else {}
    base = files.naming_root(home, images)
    builder, order = Builder(), files.in_order(names)
    rows: list[list[tuple[float, float, str]]] = []
    durations: list[float] = []
    orphans: list[str] = []
    for split in order:
        for file in (path for name, path in found if name == split):
            own = known or _videos_near(file)
            for name, duration, events in _read_file(file):
                video = own.get(name) or own.get(name.removeprefix("v_"))
                if video is None:
                    orphans.append(f"{files.relative(file, home)}: {name}")
                    continue
                label = files.relative(file, base)
                builder.add_image(files.relative(video, base), files.header_size(video), order.index(split), label)
                rows.append(events)
                durations.append(duration)
    if not rows:
        raise files.none_found(given, orphans, "for video files beside the captions")
    if orphans:
        notes.append(f"{counted(len(orphans), 'video')} of the captions left out, because there is no file")
    columns = builder.build(image_extra=durations_column(durations), tables={TABLE: events_table(rows)})
    labels = columns.label_names or Blob.empty(0)
    source = Source(
        columns=columns,
        classes=CLASSES,
        kind="events",
        root=base,
        format="activitynet",
        split_names=tuple(order),
        folders=tuple(_common(columns.names, columns.splits.tolist(), k) for k in range(len(order))),
        orphans=tuple(orphans),
        notes=tuple(notes),
    )
    assert len(labels) == len(rows)
    return Dataset(source)


def _common(names: Blob, splits: Sequence[int], split: int) -> str:
    return files.common_folder([names.text(i) for i, own in enumerate(splits) if own == split])


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    return head.lstrip().startswith(b"{") and all(key in head for key in _KEYS)


def _files_in(root: Path) -> list[Path]:
    """The files of captions of a folder, from the first of its label folders that has any."""
    for name in _FOLDERS:
        found = [file for file in files.with_ending(root / name, ".json") if _looks_right(file)]
        if found:
            return found
    return []


def _others(root: Path) -> list[Path]:
    """JSON files that are named like a split and are beside the files of captions, but are not captions."""
    beside = {file.parent for file in _files_in(root)}
    found = [file for folder in sorted(beside) for file in files.with_ending(folder, ".json")]
    return [file for file in found if files.split_in(file.stem) and not _looks_right(file)]


def _by_split(root: Path, notes: list[str]) -> list[tuple[str, Path]]:
    """(split, file) of a folder; a second file about the videos of a split is left out with a note."""
    found: dict[str, Path] = {}
    for file in _files_in(root):
        split = files.split_in(file.stem) or "all"
        if split in found:
            notes.append(f"{file.name} is left out, because {found[split].name} describes the same split")
        else:
            found[split] = file
    return list(found.items())


def _videos_near(file: Path) -> dict[str, Path]:
    """The videos of a file of captions by name: below its folder, or below the folder that holds that one."""
    found = _videos_of(file.parent)
    return found or (_videos_of(file.parent.parent) if file.parent.name.lower() in _FOLDERS else {})


def _videos_of(folder: Path) -> dict[str, Path]:
    """The videos below a folder by their name without suffix; of several the first."""
    found: dict[str, Path] = {}
    for name in files.files_below(folder):
        if is_video(name):
            found.setdefault(Path(name).stem, folder / name)
    return found


def _read_file(file: Path) -> Iterator[_Video]:
    """The videos of a file; those whose entry cannot be used are skipped (`sightline.data.malformed`)."""
    for name, entry in read_json(file, dict, unique=True).items():
        try:
            yield _video(file, name, entry)
        except InputError as error:
            skip_label(error, file)


def _video(file: Path, name: str, entry: Any) -> _Video:
    try:
        require_entries(entry, _ENTRY, name, "correct or remove it")
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    times, sentences, duration = entry["timestamps"], entry["sentences"], float(entry["duration"])
    if len(times) != len(sentences):
        raise InputError(
            f"{file}: {name} has {len(times)} timestamps, but {len(sentences)} sentences; give one sentence per event"
        )
    if not (math.isfinite(duration) and duration > 0):
        raise InputError(f"{file}: {name} has a duration of {duration:g} s, but it must be above 0; correct it")
    for row, pair in enumerate(times):
        if len(pair) != 2:
            raise InputError(
                f"{file}: {name}: timestamp {row} has {counted(len(pair), 'number')}, but an event has a start and an "
                "end; correct it"
            )
    events = [(float(s), float(e), " ".join(w.split())) for (s, e), w in zip(times, sentences, strict=True)]
    return name, duration, events
