"""How data is divided that comes without the splits a training needs: the same way from the shell and from Python."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.data.dataset import Dataset
from sightline.errors import InputError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Parts:
    """The parts of a dataset.

    Attributes:
        train, val, test: images to learn from, to choose the best epoch by, and to measure on; val is None
            for a run that is resumed and had none.
        said: what was divided, in a sentence; "" where nothing was.
    """

    train: Dataset
    val: Dataset | None
    test: Dataset | None = None
    said: str = ""


def parts_of(data: Dataset, seed: int) -> Parts:
    """The splits of a whole dataset with those it lacks.

    Without splits 80 % are to train on, 10 % to validate on, 10 % to test on; of data with a split "train" alone, a
    tenth of that validates. The same images and seed are always divided the same way.

    Raises:
        InputError: there are several splits, but none is "train"; the data names images to train or validate on that
            are not there; or there are fewer than 3 images.
    """
    for split in ("train", "val"):
        if split in data.missing_splits:
            data[split]  # raises: no other images take the place of those that are missing
    if "train" not in data.splits:
        if len(data.splits) > 1:
            found = ", ".join(data.splits)
            raise InputError(f"there is no split 'train' among {found}; name one with --train (in Python train=)")
        if len(data) < 3:
            images = {0: "no images", 1: "1 image"}.get(len(data), f"{len(data)} images")
            raise InputError(
                f"{images} cannot be divided into images to train, validate and test on; give more, or name the "
                "splits: --train and --val (in Python train(model, data[:]) trains on all of them, without validation)"
            )
        data = data.split(0.8, 0.1, 0.1, seed)
        said = f"no splits found: 80 % to train, 10 % to validate, 10 % to test, by seed {seed}"
        return Parts(data["train"], data["val"], data["test"], said)
    test = data["test"] if "test" in data.splits else None
    if "val" in data.splits:
        return Parts(data["train"], data["val"], test)
    if len(data["train"]) < 2:
        raise InputError(
            "there is no split 'val', and the one training image cannot be divided; give more, or name it: --val"
        )
    divided = data["train"].split(0.9, 0.1, 0, seed)
    said = f"no split 'val' found: a tenth of the training images is used for it, by seed {seed}"
    return Parts(divided["train"], divided["val"], test, said)
