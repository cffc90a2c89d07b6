"""Write captioned detections: as detections with a caption each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightline.deploy.writers.detection import DetectionFiles


class DenseCaptionWriter:
    """Writes one annotation per described region, as COCO JSON or CSV; YOLO's label files cannot hold captions."""

    formats = ("json", "csv")

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> DenseCaptionFiles:
        return DenseCaptionFiles(folder, paths, classes, formats)


class DenseCaptionFiles(DetectionFiles):
    """See `sightline.deploy.writers.base.Writing`."""

    what = "region"
    columns = ("caption",)
