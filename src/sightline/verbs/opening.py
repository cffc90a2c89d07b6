"""Convert a caller's arguments: load models, open or wrap data, map classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from sightline.data.dataset import Dataset
from sightline.data.torch_data import TorchData, is_torch_data
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.structures import Classes
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn

ClassesGiven = Mapping[str, str | None] | Sequence[str]
"""New names of classes by their old ones (None removes a class), or the names of the classes to keep."""


def load_model(model: nn.Module | str | Path) -> Model:
    """Return the model, loading it if a saved or exported file or a run's folder is given."""
    from sightline.verbs.load import load

    return as_model(model) if isinstance(model, nn.Module) else load(model)


def with_runtime(model: Path, runtime: str | None, device: str | None) -> Any:
    """The model of an exported file, opened with a runtime; the path itself for a file or run of Sightline.

    Args:
        model: the file or run.
        runtime: "onnxruntime", "openvino", or None for the usual one.
        device: where it runs.
    """
    from sightline.verbs.load import load

    if model.suffix != ".onnx" and runtime is None:
        return model
    return load(model, device or "cpu", runtime=cast(Any, runtime))


def open_data(
    data: Any,
    *,
    open_args: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    names: Classes | None = None,
    channels: int | None = 3,
    lenient: bool = False,
    complete: bool = False,
) -> Any:
    """Return the data as a dataset.

    Args:
        data: a path, a dataset, or a PyTorch dataset of (image, target) pairs; other values are returned unchanged.
        open_args: if `data` is a path: additional arguments of `open_dataset`, such as {"format": "coco"}; values of
            None are ignored.
        classes: for a dataset, the classes it should have (see `class_mapping`); for a PyTorch dataset, their names.
        names: for a PyTorch dataset, the names of its classes if `classes` is None.
        channels: if `data` is a path: channels of the images; None keeps those of the files.
        lenient: if `data` is a path: record labels that cannot be read instead of raising an error.
        complete: return a `Dataset` for a PyTorch dataset, too; all its items are read for their targets.

    Raises:
        InputError: the data cannot be opened, a class is unknown, or `open_args` is given without a path.
    """
    from sightline.data.formats import open_dataset

    given = {name: value for name, value in (open_args or {}).items() if value is not None}
    if isinstance(data, str | Path):
        return with_classes(open_dataset(data, lenient=lenient, **given).with_channels(channels), classes)
    _require_none(given)
    if is_torch_data(data):
        if isinstance(classes, Mapping):
            raise InputError("the classes of a PyTorch dataset cannot be renamed; give the list of their names: […]")
        names = names if classes is None else Classes(classes)
        return Dataset.from_torch(data, names) if complete else TorchData(data, names)
    return with_classes(data, classes) if isinstance(data, Dataset) else data


def _require_none(open_args: Mapping[str, Any]) -> None:
    """Refuse arguments of `open_dataset` for data that is not opened, or opened as it was for training."""
    if open_args:
        raise InputError(
            f"{', '.join(open_args)} can be given only together with the path of the data; give the path, or pass them "
            "to open_dataset"
        )


def data_for(
    model: Model, given: Any, data: Any, classes: ClassesGiven | None = None, open_args: Mapping[str, Any] | None = None
) -> Any:
    """Return the data that a model is used on, with as many channels as it takes; by default its training data.

    Args:
        model: the model.
        given: what the caller gave as the model, for messages.
        data: a path, a dataset, or a PyTorch dataset; None for the data that the model was trained on.
        classes, open_args: as for `open_data`.

    Raises:
        InputError: the data cannot be opened, or `open_args` is given without a path.
    """
    if data is not None:
        return open_data(data, open_args=open_args, classes=classes, names=model.classes, channels=model.in_channels)
    _require_none({name: value for name, value in (open_args or {}).items() if value is not None})
    source = str(given) if isinstance(given, str | Path) else "the model"
    return reopened(trained_on.of(model), source, classes, model.in_channels)


def reopened(known: TrainedOn | None, source: str, classes: ClassesGiven | None, channels: int = 3) -> Dataset:
    """Open the data of an earlier training with the same arguments.

    Args:
        known: the record of that training.
        source: the run or file, for messages.
        classes, channels: as for `open_data`.

    Raises:
        InputError: the path of the data is unknown or no longer exists.
    """
    return with_classes(trained_on.reopen(known, source).with_channels(channels), classes)


def with_classes(data: Dataset, classes: ClassesGiven | None) -> Dataset:
    """Return the dataset with its classes renamed, merged or removed."""
    return data.with_class_mapping(class_mapping(classes, data.classes)) if classes else data


def class_mapping(classes: ClassesGiven, known: Sequence[str]) -> dict[str, str | None]:
    """Return the new name of each class, None for a removed class.

    Args:
        classes: new names by old ones, or the names of the classes to keep.
        known: the classes of the data.

    Raises:
        InputError: a name is not a class of the data.
    """
    if isinstance(classes, Mapping):
        return dict(classes)
    for name in classes:
        Classes(known).id(name)
    return {name: name if name in classes else None for name in known}
