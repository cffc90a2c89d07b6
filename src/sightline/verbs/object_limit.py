"""Whether a detector can return as many objects as the images of a dataset contain."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.models.arguments import parameters
from sightline.models.catalog import find, is_known
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.words import counted, have

_SETTINGS = ("settings", "boxes")
"""Arguments of detectors whose field `max_detections` is the maximum number of detections per image."""


def beyond_limit(model: Model, data: Any) -> list[str]:
    """A sentence on images with more objects than a detector returns for an image; empty if there are none.

    A detector that returns a single object does so by design, and data without columns is not counted.
    """
    most = model.selection().max_detections if isinstance(model, Detector) else None
    if most is None or most == 1 or not isinstance(data, Dataset) or not data.label_kind.has_objects:
        return []
    columns = data.columns
    numbers = np.bincount(columns.image_of[~columns.crowd], minlength=1)
    images = int((numbers > most).sum())
    if not images:
        return []
    taken = parameters(find(model.name)) if is_known(model.name) else ()
    group = next((name for name in _SETTINGS if name in taken), None)
    repair = f"; --arg {group}.max_detections={-(-int(numbers.max()) // 100) * 100} raises the limit" if group else ""
    return [
        f"{counted(images)} {have(images)} more than {most} objects (up to {numbers.max()}), and the model "
        f"returns at most {most} per image{repair}"
    ]
