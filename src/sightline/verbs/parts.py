"""Select the training and validation images of a dataset."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.division import Division, divide
from sightline.data.joint import JointData
from sightline.data.torch_data import TorchData
from sightline.errors import InputError
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn
from sightline.words import are, counted

TrainingData = Dataset | JointData | TorchData
"""Data that a model can be trained on."""
ValidationData = Dataset | TorchData | None
"""Data that a model can be validated on; None for no validation."""


def training_and_validation(
    data: Any, validation: Any, seed: int, known: TrainedOn | None, messages: list[str], named: bool = True
) -> tuple[TrainingData, ValidationData]:
    """Return the images to train on and to validate on.

    For a complete dataset, these are its splits "train" and "val". If files have no such splits, they are divided by
    the seed, or, for a resumed run, as in that run. A dataset in memory without these splits is used completely
    for training. One or two images are all used for training; a message says so.

    Args:
        data: a dataset, joint data or a wrapped PyTorch dataset.
        validation: the same, or None.
        seed: seed of the division.
        known: the record of the run to resume, or None.
        messages: descriptions of how the data was divided are appended.
        named: whether the caller named the data; see `split_for_training`.
    """
    if validation is not None and isinstance(validation, Dataset) and validation.whole and "val" in validation.splits:
        validation = validation["val"]
    in_memory = isinstance(data, Dataset) and data.root is None and not {"train", "val"} & {*data.splits}
    if not isinstance(data, Dataset) or not data.whole or in_memory:
        return data, validation
    if validation is not None:
        return data["train"] if "train" in {*data.splits, *data.missing_splits} else data, validation
    parts = split_for_training(data, seed, known, messages, named)
    return parts.train, parts.val


def split_for_training(
    data: Dataset, seed: int, known: TrainedOn | None, messages: list[str], named: bool = True
) -> Division:
    """Return the parts of a whole dataset: those of the run to resume, or all of one or two images for training.

    Args:
        named: True if the caller named the data, so that its own splits are used. Otherwise the images of the run are
            used, whatever their split.

    Raises:
        InputError: the data cannot be divided, or does not contain the images of the run.
    """
    divided = known is not None and (bool(known.division) or "train" not in data.splits)
    if known is not None and (divided or not named):
        again = trained_on.earlier_parts(data, known, messages)
        if again is not None:
            return Division(*again)
        if not named:
            raise InputError(
                "the data does not contain all images that the run was trained and validated on; to resume it with "
                "other images, name them: DATA (in Python data= and validation=)"
            )
    if 0 < len(data) < 3 and len(data.splits) == 1 and not {"train", "val"} & {*data.splits, *data.missing_splits}:
        messages.append(
            f"no splits found, and {counted(len(data))} {are(len(data))} too few to divide: all are used for training, "
            "without validation"
        )
        return Division(data[:], None)
    parts = divide(data, seed)
    messages += [parts.message] if parts.message else []
    return parts
