"""Which images a model was trained on: a record that is saved with the run and in the model's file.

It holds the path of the data, its division, and a key for each image, so that a model is not evaluated on its own
training images by accident.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.fingerprint import ImageKeys, found_in, labels_key
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.words import are, counted

KEY = "trained_on"
"""The entry of the record in a model's metadata."""
PARTS = ("train", "val", "test")

log = logging.getLogger("sightline")


@dataclass(frozen=True)
class TrainedOn:
    """A record of the images that a model was trained and validated on, and those set aside for testing.

    Attributes:
        opened: the arguments of `open_dataset` that open the data again; empty for data in memory.
        format: the format of the data.
        division: "seed" and "shares" if training divided the data; empty if the data has its own splits.
        parts: the keys of the images of "train", "val" and "test", as far as these exist.
        earlier: keys of images that the model was trained on before.
        known: False if the training images have no keys, such as those of a PyTorch dataset.
        labels: fingerprints of the labels of "train" and "val"; empty in older records.
    """

    opened: Mapping[str, Any] = field(default_factory=dict)
    format: str = "memory"
    division: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, ImageKeys] = field(default_factory=dict)
    earlier: ImageKeys = field(default_factory=ImageKeys.empty)
    known: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """The path of the data; None for data in memory."""
        return self.opened.get("path")

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "opened": dict(self.opened),
            "format": self.format,
            "division": dict(self.division),
            "parts": {name: keys.to_dict() for name, keys in self.parts.items()},
            "earlier": self.earlier.to_dict(),
            "known": self.known,
            "labels": dict(self.labels),
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = "the model's file") -> TrainedOn:
        """Read what `to_dict` returned.

        Raises:
            InputError: the values are not such a record; the message names the entry.
        """
        try:
            tables = [values[name] for name in ("opened", "division", "parts")]
            if not all(isinstance(table, dict) for table in tables) or not isinstance(values["known"], bool):
                raise InputError("it is not the record of a training run")
            opened, division, parts = tables
            if not all(isinstance(opened.get(name, ""), str) for name in ("path", "format", *PARTS, "images")):
                raise InputError("the arguments that opened the data are not strings")
            read = {name: ImageKeys.from_dict(keys) for name, keys in parts.items() if name in PARTS}
            earlier = ImageKeys.from_dict(values["earlier"])
            labels = values.get("labels", {})
            if not isinstance(labels, dict):
                raise InputError("the fingerprints of the labels are not an object")
            return cls(opened, str(values["format"]), division, read, earlier, values["known"], labels)
        except (KeyError, TypeError, InputError) as error:
            why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{source}: its entry {KEY!r} cannot be read ({why}); use the file as it was saved"
            ) from None

    def roles(self, keys: ImageKeys) -> np.ndarray:
        """The split of each image in the training: "train", "val", "test", or "" for images that were not part of it.

        Two images are the same if their files have the same path, or else if their contents are equal. If an image
        matches several splits, "train" takes precedence.
        """
        roles = np.full(len(keys), "", dtype="<U5")
        for kind in ("contents", "places"):  # the path overrides the content, and "train" the other splits
            for name in reversed(PARTS):
                if name in self.parts:
                    roles[found_in(getattr(keys, kind), getattr(self.parts[name], kind))] = name
        return roles

    def was_trained_on(self, keys: ImageKeys) -> np.ndarray:
        """bool [n]: whether an image was trained on, now or before, judged by its content or path."""
        train = self.parts.get("train", ImageKeys.empty()).joined(self.earlier)
        return found_in(keys.contents, train.contents) | found_in(keys.places, train.places)

    def same_names(self, keys: ImageKeys) -> int:
        """The number of images with the name of a training image but another path and content."""
        train = self.parts.get("train", ImageKeys.empty())
        return int((found_in(keys.names, train.names) & (self.roles(keys) == "")).sum())


def record(train: Any, validation: Any, model: Model) -> TrainedOn:
    """Create the record of a new training.

    Args:
        train: the training data: a dataset (if it is a split, the split "test" is recorded too), joint data, or other
            data.
        validation: the validation data, or None.
        model: the model; its earlier training is recorded too.
    """
    pieces = [piece for piece in getattr(train, "parts", (train,)) if isinstance(piece, Dataset)]
    parts: dict[str, ImageKeys] = {}
    labels = {"train": ",".join(map(labels_key, pieces))} if pieces else {}
    if pieces:
        parts["train"] = ImageKeys.of(pieces[0])
        for piece in pieces[1:]:
            parts["train"] = parts["train"].joined(ImageKeys.of(piece))
    if isinstance(validation, Dataset):
        parts["val"] = ImageKeys.of(validation)
        labels["val"] = labels_key(validation)
    before = of(model)
    earlier = ImageKeys.empty()
    if before is not None:
        earlier = before.earlier.joined(before.parts.get("train", ImageKeys.empty()))
    if not pieces:
        return TrainedOn(parts=parts, earlier=earlier, known=False)
    source = pieces[0].source
    if pieces[0].rows is not None and "test" in source.split_names:
        whole = Dataset(source, None, pieces[0].fields, pieces[0].channels)
        if "test" in whole.splits:
            parts["test"] = ImageKeys.of(whole["test"])
    found = TrainedOn(source.opened, source.format, source.division, parts, earlier, labels=labels)
    both = int(found.was_trained_on(parts["val"]).sum()) if "val" in parts else 0
    if both:
        log.warning(
            "%d of %s %s among the training images, so validation does not measure how well the "
            "model generalises; choose other validation images, or run `sightline check DATA`",
            both,
            counted(len(parts["val"]), "validation image"),
            are(both),
        )
    return found


def resumed(before: TrainedOn | None, now: TrainedOn) -> TrainedOn:
    """The record of a resumed run: the earlier record if the images are the same; otherwise a new one that includes it.

    Args:
        before: the record of the run to resume; None for a new run.
        now: the record of the current images.
    """
    learnt = None if before is None else before.parts.get("train")
    if before is None or learnt is None:
        return now
    train = now.parts.get("train", ImageKeys.empty())
    if np.array_equal(np.sort(learnt.contents), np.sort(train.contents)):
        return before if before.labels == now.labels else replace(before, labels=now.labels)
    kept = {name: keys for name, keys in before.parts.items() if name == "test"}
    return replace(now, parts={**kept, **now.parts}, earlier=before.earlier.joined(learnt))


def changes(before: TrainedOn | None, now: TrainedOn) -> list[str]:
    """List changes of the images and labels since a run began, one sentence each.

    Args:
        before: the record of the run to resume; None for a new run.
        now: the record of the current images.
    """
    sentences = []
    for name, title in (("train", "training"), ("val", "validation")):
        if before is None or not {name} <= before.parts.keys() & now.parts.keys():
            continue
        old, new = before.parts[name], now.parts[name]
        known = found_in(new.contents, old.contents)
        replaced = int((~known & found_in(new.places, old.places)).sum())
        added = int((~known & ~found_in(new.places, old.places)).sum())
        gone = int((~found_in(old.contents, new.contents) & ~found_in(old.places, new.places)).sum())
        for count, what in ((replaced, "replaced"), (added, "added"), (gone, "removed")):
            if count:
                verb = "was" if count == 1 else "were"
                sentences.append(f"{counted(count, f'{title} image')} {verb} {what} since the run began")
        written = before.labels.get(name)
        if written is not None and not added and not gone and written != now.labels.get(name):
            sentences.append(f"labels of the {title} images were changed since the run began")
    return sentences


def of(model: Model) -> TrainedOn | None:
    """The record of a model's training; None if it has none.

    Raises:
        InputError: the entry in the model's file is not such a record.
    """
    return TrainedOn.from_dict(model.metadata[KEY]) if KEY in model.metadata else None


def of_run(folder: Path) -> TrainedOn | None:
    """The record of a run, read from its model file; None if it has no model or no record."""
    from sightline.models.saving import metadata_of

    if not any((folder / f"{name}.safetensors").is_file() for name in ("best", "last")):
        return None
    values = metadata_of(folder)
    return TrainedOn.from_dict(values[KEY], str(folder)) if KEY in values else None


def earlier_parts(data: Dataset, known: TrainedOn, messages: list[str]) -> tuple[Dataset, Dataset | None] | None:
    """The training and validation images of a run to resume; None if they cannot be determined.

    The second is None for a run without validation.

    Args:
        data: the whole dataset in its current state.
        known: the record of the run.
        messages: a sentence is appended if images were added or removed since.
    """
    names = [name for name in ("train", "val") if name in known.parts]
    if not known.known or "train" not in names:
        return None
    roles = known.roles(ImageKeys.of(data))
    found = {name: data[np.flatnonzero(roles == name)] for name in names}
    if not all(len(part) for part in found.values()):
        return None
    lost = sum(len(known.parts[name]) - len(part) for name, part in found.items())
    new = int((roles == "").sum())
    if lost > 0:
        messages.append(f"{counted(lost)} of the run {are(lost)} no longer in the data")
    if new:
        messages.append(f"{counted(new)} {are(new)} new since the run began and left out")
    return found["train"], found.get("val")


def reopen(known: TrainedOn | None, source: str) -> Dataset:
    """Open the data of a training run again, with the same arguments.

    Args:
        known: the record of the training.
        source: the run or file, for messages.

    Raises:
        InputError: the path of the data is unknown or no longer exists.
    """
    from sightline.data.formats import open_dataset

    if known is None or known.path is None:
        raise InputError(f"{source} does not record where its data is; give the folder or file of the data too")
    if not os.path.exists(known.path):
        raise InputError(f"the data of {source} was {known.path}, which no longer exists; give the folder or file")
    arguments = {name: value for name, value in known.opened.items() if name in _ARGUMENTS}
    return open_dataset(**arguments)


_ARGUMENTS: Sequence[str] = ("path", "train", "val", "test", "images", "format", "classes", "ignore", "full_scale")
