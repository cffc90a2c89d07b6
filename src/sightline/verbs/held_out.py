"""Select the images of a dataset to evaluate a model on: by default those it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.division import divide
from sightline.data.fingerprint import ImageKeys
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.training import trained_on
from sightline.training.metrics_log import LAST
from sightline.training.trained_on import TrainedOn
from sightline.words import are, counted

log = logging.getLogger("sightline")

_UNKNOWN = "it is not known whether the model was trained on some of these images"
_ALL = "to use all of them, give --split all (in Python evaluate(model, data[:]))"


@dataclass(frozen=True)
class Selection:
    """Images to evaluate a model on.

    Attributes:
        part: the images.
        split: the name of their split; "all"; or "as given" for images selected by the caller.
        notes: remarks for the reader of the metrics, one sentence each, without a full stop.
    """

    part: Any
    split: str
    notes: list[str] = field(default_factory=list)


def select_images(
    model: Model, data: Any, split: str | None = None, default_splits: Sequence[str] = ("test", "val")
) -> Selection:
    """Select the images of `data` to evaluate `model` on.

    For a complete dataset, these are the split "test", otherwise "val". If training divided the data itself, they are
    the images that it set aside for testing, else for validation, no matter how the data is opened. Images that the
    model was trained on are left out, unless they are requested by the name of a split, by "all", or as a part of a
    dataset; a note then says how many there are. If the model was trained on all of the data in memory, all of it is
    used, with a note.

    Args:
        model: a model; the record of its training is used (`sightline.training.trained_on`).
        data: a dataset or a part of one; other data is used as it is.
        split: the name of a split, or "all".
        default_splits: the splits to use if `split` is None; the first that exists is taken.

    Raises:
        InputError: there is no such split, the model was trained on all of the images, or it is unknown which it was
            trained on; the message says what to do.
    """
    known = trained_on.of(model)
    if not isinstance(data, Dataset):
        return Selection(data, "as given" if split is None else split, [] if known is None else [_UNKNOWN])
    if split is None and data.whole and not {*default_splits} & {*data.splits}:
        for name in default_splits:
            if name in data.missing_splits:
                data[name]  # raises: missing images are not replaced by others
    if known is None:
        return _without_record(model, data, split, default_splits)
    keys = ImageKeys.of(data)
    if split is None and not data.whole:
        return Selection(data, "as given", _warnings(known, keys))
    if split == "all" and "all" not in data.splits:
        return Selection(data[:], "all", _warnings(known, keys))
    if split is not None:
        return _named(data, known, keys, split)
    return _by_default(model, data, known, keys, default_splits)


def chosen_on(model: Model, images: str = "these images") -> list[str]:
    """The note for validation images: what training chose on them. Empty if it chose nothing: neither the epoch nor a
    threshold.

    Args:
        model: a trained model, with the recipe of its training in its metadata.
        images: the images, such as "5 of them".
    """
    recipe = model.metadata.get("recipe")
    last = isinstance(recipe, Mapping) and recipe.get("keep") == LAST
    if last and model.metadata.get("threshold") is None:
        return []
    return [f"the {'minimum score' if last else 'best epoch'} was chosen on {images}"]


def _without_record(model: Model, data: Dataset, split: str | None, default_splits: Sequence[str]) -> Selection:
    """Select images for a model that was never trained here, or by a version that kept no record."""
    recipe = model.metadata.get("recipe")
    if split is None:
        if not data.whole:
            return Selection(data, "as given")
        split = next((name for name in default_splits if name in data.splits), None)
        if split is None and recipe is not None:
            raise InputError(
                "the model does not say which images it was trained on, and the data has no split "
                f"{' or '.join(default_splits)}; if training divided the data, --split test divides it the same way "
                f"(by its seed); {_ALL}"
            )
    if split is None or (split == "all" and "all" not in data.splits):
        return Selection(data[:], "all")
    if split not in data.splits and split in ("train", "val", "test") and isinstance(recipe, Mapping):
        seed = recipe.get("seed", 0)
        if isinstance(seed, int) and len(data.splits) == 1:
            part = getattr(divide(data, seed), split)
            if part is not None:
                note = f"the data was divided again by seed {seed}, which is right only if no images have changed since"
                return Selection(part, split, [note])
    return Selection(data[split], split)


def _named(data: Dataset, known: TrainedOn, keys: ImageKeys, split: str) -> Selection:
    """Select a split by name: one of the data's own, or one made by training."""
    roles = known.roles(keys)
    if split not in data.splits and split in known.parts and (roles == split).any():
        chosen = roles == split
        return Selection(data[chosen], split, _warnings(known, _of(keys, chosen)))
    if split not in data.splits and split not in data.missing_splits:
        found = list(dict.fromkeys([*data.splits, *(name for name in known.parts if (roles == name).any()), "all"]))
        raise InputError(f"there is no split {split!r}; there are: {', '.join(found)}")
    part = data[split]
    return Selection(part, split, _warnings(known, _of(keys, _rows_of(data, split))))


def _by_default(
    model: Model, data: Dataset, known: TrainedOn, keys: ImageKeys, default_splits: Sequence[str]
) -> Selection:
    roles, learnt = known.roles(keys), known.was_trained_on(keys)
    name = next((name for name in default_splits if name in data.splits), None)
    if name is None:  # use a part that training set aside
        name = next((name for name in default_splits if (roles == name).any()), None)
        chosen = roles == name
        if name is None and not known.known:
            raise InputError(
                "it is not known which images the model was trained on, and the data has no split "
                f"{' or '.join(default_splits)}; {_ALL}"
            )
        if name is None and learnt.any() and not learnt.all():
            fresh = ~learnt
            notes = [f"{counted(int(learnt.sum()))} that the model was trained on {are(learnt.sum())} left out"]
            return Selection(data[fresh], "new", notes + _doubts(known, _of(keys, fresh)))
        if name is None and not learnt.any():
            return Selection(data[:], "all", _doubts(known, keys))
        new = int((roles == "").sum())
        notes = [f"{counted(new)} {are(new)} new since the training and left out"] if name and new else []
    else:
        chosen, notes = _rows_of(data, name), []
        own = chosen & learnt & (roles != name)  # others are duplicates within the data, across its own splits
        if own.any() and not own[chosen].all():
            notes.append(f"{counted(int(own.sum()))} of {name} that the model was trained on {are(own.sum())} left out")
            chosen = chosen & ~own
        elif own.any():
            name = None
    if name is None and data.root is None:  # given in memory, as for training: use all, with a warning
        notes = _warnings(known, keys)
        log.warning("%s", notes[0])
        return Selection(data[:], "all", notes)
    if name is None:
        raise InputError(
            f"the model was trained on all of these images ({len(data)}); give other images to evaluate it on; {_ALL}"
        )
    validated = int((roles[chosen] == "val").sum())
    if validated:
        notes += chosen_on(model) if validated == chosen.sum() else chosen_on(model, f"{validated} of them")
    return Selection(data[chosen], name, notes + _warnings(known, _of(keys, chosen)))


def _warnings(known: TrainedOn, keys: ImageKeys) -> list[str]:
    learnt = int(known.was_trained_on(keys).sum())
    if learnt:
        share = "all" if learnt == len(keys) else f"{learnt} of the"
        return [
            f"the model was trained on {share} {counted(len(keys))}: these metrics show how well it remembers them, "
            "not how well it performs on new images"
        ]
    return _doubts(known, keys)


def _doubts(known: TrainedOn, keys: ImageKeys) -> list[str]:
    if not known.known:
        return [_UNKNOWN]
    alike = known.same_names(keys)
    if not alike or alike == len(keys):  # images that are numbered in each split all have such names
        return []
    have = "has" if alike == 1 else "have"
    return [
        f"{alike} of the {counted(len(keys))} {have} the name of a training image, but other content: if they show the "
        "same scene, the metrics are too high"
    ]


def _rows_of(data: Dataset, split: str) -> np.ndarray:
    """bool [n]: whether each image belongs to the split."""
    return np.array([data.split_of(i) == split for i in range(len(data))], dtype=bool)


def _of(keys: ImageKeys, chosen: np.ndarray) -> ImageKeys:
    return ImageKeys(keys.contents[chosen], keys.places[chosen], keys.names[chosen])
