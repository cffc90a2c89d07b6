"""Which images a training learns from, and by which it is validated."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.division import Parts, parts_of
from sightline.data.joint import JointData
from sightline.errors import InputError
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn
from sightline.verbs.torch_data import TorchData
from sightline.words import are, counted

Learnt = Dataset | JointData | TorchData
"""What a model can be trained on."""
HeldOut = Dataset | TorchData | None
"""What it can be validated on."""


def learnt_and_held_out(
    data: Any, validation: Any, seed: int, known: TrainedOn | None, sayings: list[str], named: bool = True
) -> tuple[Learnt, HeldOut]:
    """The images to train on and to validate on.

    Of a whole dataset these are its splits "train" and "val"; one in files that lacks them is divided by the seed, or,
    for a run that is resumed, as the run was. A dataset in memory that has neither is learnt from as a whole. One or
    two images are all trained on, which a sentence says.

    Args:
        data: an opened dataset, joint data or a wrapped PyTorch dataset.
        validation: as well, or None.
        seed: of the division.
        known: the record of the run to resume, or None.
        sayings: gets what was divided, in sentences.
        named: the caller has named the data; see `parts_to_train`.
    """
    if validation is not None and isinstance(validation, Dataset) and validation.whole and "val" in validation.splits:
        validation = validation["val"]
    in_memory = isinstance(data, Dataset) and data.root is None and not {"train", "val"} & {*data.splits}
    if not isinstance(data, Dataset) or not data.whole or in_memory:
        return data, validation
    if validation is not None:
        return data["train"] if "train" in {*data.splits, *data.missing_splits} else data, validation
    parts = parts_to_train(data, seed, known, sayings, named)
    return parts.train, parts.val


def parts_to_train(data: Dataset, seed: int, known: TrainedOn | None, sayings: list[str], named: bool = True) -> Parts:
    """The parts of a whole dataset; of a run to resume, those that it had; of one or two images all, to train on.

    Args:
        named: the caller has named the data, so its own splits count; else the run's images are taken, whichever of
            the data they were.

    Raises:
        InputError: the data cannot be divided, or the run's images are not in it.
    """
    divided = known is not None and (bool(known.division) or "train" not in data.splits)
    if known is not None and (divided or not named):
        again = trained_on.as_before(data, known, sayings)
        if again is not None:
            return Parts(*again)
        if not named:
            raise InputError(
                "the images that the run was trained and validated on are not all in its data; name the images to "
                "resume it with: DATA (in Python data= and validation=)"
            )
    if 0 < len(data) < 3 and len(data.splits) == 1 and not {"train", "val"} & {*data.splits, *data.missing_splits}:
        sayings.append(
            f"no splits found, and {counted(len(data))} {are(len(data))} too few to divide: training uses all, without "
            "validation"
        )
        return Parts(data[:], None)
    parts = parts_of(data, seed)
    sayings += [parts.said] if parts.said else []
    return parts
