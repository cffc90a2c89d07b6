"""Which images of a dataset a model is measured on: by default those it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.division import parts_of
from sightline.data.fingerprint import ImageKeys
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn
from sightline.words import are, counted

log = logging.getLogger("sightline")

_UNKNOWN = "it is not known whether the model was trained on some of these images"
BEST_EPOCH = "the best epoch was chosen on these images"
"""What is said of validation images."""
_ALL = "all of them are measured by --split all (in Python evaluate(model, data[:]))"


@dataclass(frozen=True)
class Chosen:
    """Images to measure a model on.

    Attributes:
        part: the images.
        split: their split's name; "all"; or "as given" for images that the caller has chosen.
        notes: what a reader of the numbers should know, one sentence each, without a full stop.
    """

    part: Any
    split: str
    notes: list[str] = field(default_factory=list)


def choose(model: Model, data: Any, split: str | None = None, usual: Sequence[str] = ("test", "val")) -> Chosen:
    """The images of `data` to measure `model` on.

    Of a whole dataset these are its split "test", else "val". Where the model's training had divided the data itself,
    they are the images that it kept for testing, else for validation, whatever way the data is opened. Images that the
    model was trained on are left out, unless they are asked for by name, by "all", or as a part of a dataset: then a
    note says how many there are. Data in memory that was learnt from as a whole is measured as a whole, with a note.

    Args:
        model: its record of its training is looked at (`sightline.training.trained_on`).
        data: a dataset or a part of one; others are measured as they are.
        split: the name of a split, or "all".
        usual: the splits to take where none is named, in this order.

    Raises:
        InputError: there is no such split; or all images were trained on, or it cannot be told which: the sentence says
            what to do.
    """
    known = trained_on.of(model)
    if not isinstance(data, Dataset):
        return Chosen(data, "as given" if split is None else split, [] if known is None else [_UNKNOWN])
    if split is None and data.whole and not {*usual} & {*data.splits}:
        for name in usual:
            if name in data.missing_splits:
                data[name]  # raises: no other images take the place of those that are missing
    if known is None:
        return _without_record(model, data, split, usual)
    keys = ImageKeys.of(data)
    if split is None and not data.whole:
        return Chosen(data, "as given", _warnings(known, keys))
    if split == "all" and "all" not in data.splits:
        return Chosen(data[:], "all", _warnings(known, keys))
    if split is not None:
        return _named(data, known, keys, split)
    return _by_default(data, known, keys, usual)


def _without_record(model: Model, data: Dataset, split: str | None, usual: Sequence[str]) -> Chosen:
    """For a model never trained here, or trained by a version that kept no record."""
    recipe = model.metadata.get("recipe")
    if split is None:
        if not data.whole:
            return Chosen(data, "as given")
        split = next((name for name in usual if name in data.splits), None)
        if split is None and recipe is not None:
            raise InputError(
                "the model does not say which images it was trained on, and the data has no split "
                f"{' or '.join(usual)}; if the training divided the data, --split test divides it the same way (by its "
                f"seed); {_ALL}"
            )
    if split is None or (split == "all" and "all" not in data.splits):
        return Chosen(data[:], "all")
    if split not in data.splits and split in ("train", "val", "test") and isinstance(recipe, Mapping):
        seed = recipe.get("seed", 0)
        if isinstance(seed, int) and len(data.splits) == 1:
            part = getattr(parts_of(data, seed), split)
            if part is not None:
                said = f"the data was divided anew by seed {seed}: right if it holds the very images of the training"
                return Chosen(part, split, [said])
    return Chosen(data[split], split)


def _named(data: Dataset, known: TrainedOn, keys: ImageKeys, split: str) -> Chosen:
    """The split that was asked for: the data's own, or one that the training had made."""
    roles = known.roles(keys)
    if split not in data.splits and split in known.parts and (roles == split).any():
        chosen = roles == split
        return Chosen(data[chosen], split, _warnings(known, _of(keys, chosen)))
    if split not in data.splits and split not in data.missing_splits:
        found = list(dict.fromkeys([*data.splits, *(name for name in known.parts if (roles == name).any()), "all"]))
        raise InputError(f"there is no split {split!r}; there are: {', '.join(found)}")
    part = data[split]
    return Chosen(part, split, _warnings(known, _of(keys, _rows_of(data, split))))


def _by_default(data: Dataset, known: TrainedOn, keys: ImageKeys, usual: Sequence[str]) -> Chosen:
    roles, learnt = known.roles(keys), known.learnt(keys)
    name = next((name for name in usual if name in data.splits), None)
    if name is None:  # a part that the training has kept
        name = next((name for name in usual if (roles == name).any()), None)
        chosen = roles == name
        if name is None and not known.known:
            raise InputError(
                "it is not known which images the model was trained on, and the data has no split "
                f"{' or '.join(usual)}; {_ALL}"
            )
        if name is None and learnt.any() and not learnt.all():
            fresh = ~learnt
            notes = [f"{counted(int(learnt.sum()))} that the model was trained on {are(learnt.sum())} left out"]
            return Chosen(data[fresh], "new", notes + _doubts(known, _of(keys, fresh)))
        if name is None and not learnt.any():
            return Chosen(data[:], "all", _doubts(known, keys))
        new = int((roles == "").sum())
        notes = [f"{counted(new)} {are(new)} new since the training and left out"] if name and new else []
    else:
        chosen, notes = _rows_of(data, name), []
        own = chosen & learnt & (roles != name)  # others are copies within the data, as its makers have divided it
        if own.any() and not own[chosen].all():
            notes.append(f"{counted(int(own.sum()))} of {name} that the model was trained on {are(own.sum())} left out")
            chosen = chosen & ~own
        elif own.any():
            name = None
    if name is None and data.root is None:  # handed over as it was for training: measured, and said
        notes = _warnings(known, keys)
        log.warning("%s", notes[0])
        return Chosen(data[:], "all", notes)
    if name is None:
        raise InputError(
            f"the model was trained on all of these images ({len(data)}); give others to measure it on; {_ALL}"
        )
    validated = int((roles[chosen] == "val").sum())
    if validated:
        notes.append(BEST_EPOCH if validated == chosen.sum() else f"the best epoch was chosen on {validated} of them")
    return Chosen(data[chosen], name, notes + _warnings(known, _of(keys, chosen)))


def _warnings(known: TrainedOn, keys: ImageKeys) -> list[str]:
    learnt = int(known.learnt(keys).sum())
    if learnt:
        share = "all" if learnt == len(keys) else f"{learnt} of the"
        return [
            f"the model was trained on {share} {counted(len(keys))}: these numbers say how well it remembers them, not "
            "how well it does on new images"
        ]
    return _doubts(known, keys)


def _doubts(known: TrainedOn, keys: ImageKeys) -> list[str]:
    if not known.known:
        return [_UNKNOWN]
    alike = known.names_alike(keys)
    if not alike:
        return []
    have = "has" if alike == 1 else "have"
    return [
        f"{alike} of the {counted(len(keys))} {have} the name of a training image, but other content: if they show the "
        "same scene, the numbers are too high"
    ]


def _rows_of(data: Dataset, split: str) -> np.ndarray:
    """bool [n]: the images of a split."""
    return np.array([data.split_of(i) == split for i in range(len(data))], dtype=bool)


def _of(keys: ImageKeys, chosen: np.ndarray) -> ImageKeys:
    return ImageKeys(keys.contents[chosen], keys.places[chosen], keys.names[chosen])
