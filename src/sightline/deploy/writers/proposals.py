"""Proposals in files: as detections of one class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.writers.base import PredictedImage, require_answer
from sightline.deploy.writers.coco import FORMATS
from sightline.deploy.writers.detection import DetectionFiles
from sightline.structures import Classes, Instances

ANY_CLASS = Classes(["object"])
"""The one class that proposals are written with: what they show is not known."""


class ProposalWriter:
    """An annotation per proposal, whatever it shows."""

    formats = tuple(FORMATS)

    def begin(
        self, folder: Path, places: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> ProposalFiles:
        return ProposalFiles(folder, places, ANY_CLASS, formats)


class ProposalFiles(DetectionFiles):
    """See `sightline.deploy.writers.base.Writing`."""

    what = "proposal"

    def add(self, image: PredictedImage, answer: Any, ids: Tensor | None) -> None:
        require_answer(answer, Instances, "proposals (Instances)")
        labels = torch.zeros(len(answer), dtype=torch.int64)
        unnamed = Instances.unchecked(answer.image_size, classes=ANY_CLASS, **{**answer.fields, "labels": labels})
        super().add(image, unnamed, ids)
