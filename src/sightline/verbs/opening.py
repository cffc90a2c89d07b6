"""What a caller gives as the library takes it: models are loaded, data is opened or wrapped, its classes are mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.structures import Classes
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn
from sightline.verbs.torch_data import TorchData, is_torch_data

ClassesGiven = Mapping[str, str | None] | Sequence[str]
"""New names of classes by their old ones (None leaves a class out), or names of the classes to keep."""


def loaded(model: nn.Module | str | Path) -> Model:
    """A model, or the one that is saved in a file or a run's folder."""
    from sightline.models.saving import load

    return as_model(model) if isinstance(model, nn.Module) else load(model)


def opened(
    data: Any,
    *,
    opening: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    names: Classes | None = None,
    channels: int | None = 3,
    lenient: bool = False,
) -> Any:
    """The data as a dataset.

    Args:
        data: a path, a dataset, or a PyTorch dataset of (image, target) pairs; others come back as they are.
        opening: for a path: further arguments of `open_dataset`, such as {"format": "coco"}; None values are left out.
        classes: of a dataset, which classes it shall have (`class_mapping`); of a PyTorch dataset, their names.
        names: for a PyTorch dataset: names of its classes where `classes` gives none.
        channels: of the images, for a path; None leaves them as they are.
        lenient: for a path: remember labels that cannot be read instead of refusing them.

    Raises:
        InputError: the data cannot be opened, a class is unknown, or `opening` is given without a path.
    """
    from sightline.data.formats import open_dataset

    given = {name: value for name, value in (opening or {}).items() if value is not None}
    if isinstance(data, str | Path):
        return with_classes(open_dataset(data, lenient=lenient, **given).with_channels(channels), classes)
    if given:
        raise InputError(
            f"{', '.join(given)} can be given only together with the path of the data; name it, or give them to "
            "open_dataset"
        )
    if is_torch_data(data):
        if isinstance(classes, Mapping):
            raise InputError("classes of a PyTorch dataset cannot be renamed; give the names of its classes: […]")
        return TorchData(data, names if classes is None else Classes(classes))
    return with_classes(data, classes) if isinstance(data, Dataset) else data


def opened_again(known: TrainedOn | None, source: str, classes: ClassesGiven | None, channels: int = 3) -> Dataset:
    """The data of an earlier training, opened as it was then.

    Args:
        known: the record of that training.
        source: the run or file, for messages.
        classes, channels: as for `opened`.

    Raises:
        InputError: it is not known where the data is, or it is not there any more.
    """
    return with_classes(trained_on.open_again(known, source).with_channels(channels), classes)


def with_classes(data: Dataset, classes: ClassesGiven | None) -> Dataset:
    """The dataset with its classes renamed, merged or left out."""
    return data.with_class_mapping(class_mapping(classes, data.classes)) if classes else data


def class_mapping(classes: ClassesGiven, known: Sequence[str]) -> dict[str, str | None]:
    """The new name of each class, None for one that is left out.

    Args:
        classes: new names by old ones, or names of the classes to keep.
        known: the classes of the data.

    Raises:
        InputError: a name is no class of the data.
    """
    if isinstance(classes, Mapping):
        return dict(classes)
    for name in classes:
        Classes(known).id(name)
    return {name: name if name in classes else None for name in known}
