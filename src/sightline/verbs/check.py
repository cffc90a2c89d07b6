"""Check a dataset: `check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.model import Model, as_model
from sightline.verbs.opening import ClassesGiven, open_data

if TYPE_CHECKING:
    from sightline.data.check import CheckReport
    from sightline.data.dataset import Dataset


@checked_keywords
def check(
    data: Any,
    model: nn.Module | str | None = None,
    *,
    full: bool = True,
    progress: bool = True,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Find everything in a dataset that would break or bias a training run; see `sightline.data.check.check`.

    If a path is given, labels that cannot be read do not raise an error: the report lists them all.

    Args:
        data: a dataset, its path, or a PyTorch dataset.
        model: a detector, or the name of one with anchors, to compare its anchors with the sizes of the objects.
        full: also read the pixels of all images, not only labels and image headers.
        progress: show a progress bar if stderr is a terminal.
        classes, open_args: as for `sightline.evaluate`.

    Returns:
        The report; `print` shows it, and `report.ok` is True if training can start.

    Raises:
        InputError: the data cannot be opened, or the named model has no anchors.
    """
    from sightline.data.check import check as run

    dataset = open_data(data, classes=classes, open_args=open_args, lenient=True, complete=True)
    known = _with_anchors(model, dataset) if isinstance(model, str) else None if model is None else as_model(model)
    return run(dataset, known, full=full, progress=progress)


def _with_anchors(name: str, dataset: Dataset) -> Model:
    """Create a model of the catalog whose anchors can be compared with the objects of the dataset."""
    from sightline.models.creation import create_model

    if not dataset.label_kind.has_objects:
        raise InputError(f"the data has no objects to compare with {name}; leave the model out")
    model = create_model(name, dataset.classes)
    if model.anchor_shapes((32, 32)) is None:
        raise InputError(
            f"{name} has no anchors to compare the objects with; give a detector with anchors, such as ssd300_vgg16, "
            "or leave the model out"
        )
    return model
