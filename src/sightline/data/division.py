"""How a dataset without the splits that training needs is divided, in the CLI and in Python alike."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.data.dataset import Dataset
from sightline.errors import InputError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Division:
    """The parts of a dataset.

    Attributes:
        train, val, test: images for training, for choosing the best epoch, and for testing. val is None for a
            resumed run that had none.
        said: a sentence on what was divided; "" if nothing was.
    """

    train: Dataset
    val: Dataset | None
    test: Dataset | None = None
    message: str = ""


def divide(data: Dataset, seed: int) -> Division:
    """Return the splits of a dataset, creating those that are missing.

    Data without splits is divided into 80 % for training, 10 % for validation and 10 % for testing. If there is only a
    split "train", a tenth of it is used for validation. The result depends only on the images and the seed.

    Raises:
        InputError: there are several splits but none is named "train"; the dataset names a split for training or
            validation that does not exist; or there are fewer than 3 images.
    """
    for split in ("train", "val"):
        if split in data.missing_splits:
            data[split]  # raises an error: missing images are not replaced by others
    if "train" not in data.splits:
        if len(data.splits) > 1:
            found = ", ".join(data.splits)
            raise InputError(f"there is no split 'train' among {found}; name one with --train (in Python train=)")
        if len(data) < 3:
            images = {0: "no images", 1: "1 image"}.get(len(data), f"{len(data)} images")
            raise InputError(
                f"{images} cannot be divided into images for training, validation and testing; add more, or name the "
                "splits: --train and --val (in Python train(model, data[:]) trains on all of them, without validation)"
            )
        data = data.split(0.8, 0.1, 0.1, seed)
        message = f"no splits found: 80 % for training, 10 % for validation, 10 % for testing, with seed {seed}"
        return Division(data["train"], data["val"], data["test"], message)
    test = data["test"] if "test" in data.splits else None
    if "val" in data.splits:
        return Division(data["train"], data["val"], test)
    if len(data["train"]) < 2:
        raise InputError(
            "there is no split 'val', and the only training image cannot be divided; add more, or name the split: --val"
        )
    divided = data["train"].split(0.9, 0.1, 0, seed)
    message = f"no split 'val' found: a tenth of the training images is used for validation, with seed {seed}"
    return Division(divided["train"], divided["val"], test, message)
