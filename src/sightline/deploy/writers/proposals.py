"""Write proposals: as detections of one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.writers.base import PredictedImage, require_prediction
from sightline.deploy.writers.coco import FORMATS
from sightline.deploy.writers.detection import DetectionFiles
from sightline.structures import Classes, Instances

ANY_CLASS = Classes(["object"])
"""The class that all proposals are written with, because their own classes are unknown."""


class ProposalWriter:
    """Writes one annotation per proposal, of unknown class."""

    formats = tuple(FORMATS)

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> ProposalFiles:
        return ProposalFiles(folder, paths, ANY_CLASS, formats)


class ProposalFiles(DetectionFiles):
    """See `sightline.deploy.writers.base.Writing`."""

    what = "proposal"

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Instances, "proposals (Instances)")
        labels = torch.zeros(len(prediction), dtype=torch.int64)
        unnamed = Instances.unchecked(
            prediction.image_size, classes=ANY_CLASS, **{**prediction.fields, "labels": labels}
        )
        super().add(image, unnamed, ids)
