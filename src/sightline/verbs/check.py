"""The verb `check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.model import Model, as_model
from sightline.verbs.opening import ClassesGiven, opened

if TYPE_CHECKING:
    from sightline.data.check import CheckReport
    from sightline.data.dataset import Dataset


@checked_keywords
def check(
    data: Dataset | str | Path,
    model: nn.Module | str | None = None,
    *,
    full: bool = True,
    progress: bool = True,
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Look for everything in a dataset that would break or bias a training; see `sightline.data.check.check`.

    Given a path, the dataset is opened leniently: the report lists every label that cannot be read.

    Args:
        data: a dataset, or the path of one.
        model: a detector, or the name of one that has anchors, to compare the sizes of the objects with.
        full, progress: as there.
        classes, opening: as for `sightline.evaluate`.

    Raises:
        InputError: the data cannot be opened, or a model named has no anchors.
    """
    from sightline.data.check import check as run

    dataset = opened(data, classes=classes, opening=opening, lenient=True)
    known = _with_anchors(model, dataset) if isinstance(model, str) else None if model is None else as_model(model)
    return run(dataset, known, full=full, progress=progress)


def _with_anchors(name: str, dataset: Dataset) -> Model:
    """A model of the catalog whose anchors can be compared with the objects of the dataset."""
    from sightline.models.catalog import create_model

    if not dataset.label_kind.has_objects:
        raise InputError(f"the data has no objects to compare with {name}; leave the model out")
    model = create_model(name, dataset.classes)
    if model.anchor_shapes((32, 32)) is None:
        raise InputError(
            f"{name} has no anchors to compare the objects with; give a detector that has, such as ssd300_vgg16, or "
            "leave the model out"
        )
    return model
