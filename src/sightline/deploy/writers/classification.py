"""Write image classes: the best classes of each image, as JSON and CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.deploy.writers.base import (
    CSV_FILE,
    JSON_FILE,
    NO_THRESHOLD,
    PredictedImage,
    Written,
    require_prediction,
    write_json,
)
from sightline.errors import InputError
from sightline.structures import ClassScores
from sightline.training.metrics_log import atomic_write
from sightline.words import counted

MOST = 5
"""Number of classes written per image, the best first."""
_FILES = {"json": JSON_FILE, "csv": CSV_FILE}


class ClassificationWriter:
    """Writes the best classes of each image with their scores."""

    formats = tuple(_FILES)

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> ClassificationFiles:
        return ClassificationFiles(folder, classes, formats)


class ClassificationFiles:
    """See `sightline.deploy.writers.base.Writing`."""

    taken: frozenset[Path] = frozenset()

    def __init__(self, folder: Path, classes: Sequence[str], formats: Sequence[str]):
        self.folder, self.classes, self.formats = folder, classes, formats
        self._images: list[dict[str, Any]] = []

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, ClassScores, "image classes (ClassScores)")
        if prediction.scores is None:
            raise InputError(f"the prediction for {image.path} has no scores; a classifier must give one per class")
        scores, labels = prediction.scores.topk(min(MOST, len(prediction.scores)))
        best = [
            {"category_id": label + 1, "category": self._name(label), "score": round(score, 6)}
            for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
        ]
        self._images.append({"id": image.number, **image.entry(), "predictions": best})

    def _name(self, label: int) -> str:
        return self.classes[label] if self.classes else f"class {label}"

    def finish(self, threshold: float, given: bool) -> Written:
        if "json" in self.formats:
            categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.classes)]
            write_json({"images": self._images, "categories": categories}, self.folder)
        if "csv" in self.formats:
            self._write_csv()
        counts = Counter(image["predictions"][0]["category"] for image in self._images).most_common()
        most = 3 if len(counts) > 4 else 4  # what is left are at least two images
        shown = [f"{count} {name}" for name, count in counts[:most]]
        if len(counts) > most:
            shown.append(f"{sum(count for _, count in counts[most:])} others")
        summary = f"{counted(len(self._images))} ({', '.join(shown)})"
        return Written(summary, [_FILES[name] for name in self.formats], hint=NO_THRESHOLD if given else "")

    def _write_csv(self) -> None:
        """Write one row per image: its name, size in pixels, best class and score, then the next best classes."""
        most = max((len(image["predictions"]) for image in self._images), default=1)
        heads = ["class", "score", *(f"{what}_{k}" for k in range(2, most + 1) for what in ("class", "score"))]
        with atomic_write(self.folder / CSV_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "width", "height", *heads])
            for image in self._images:
                row = [image[name] for name in ("file_name", "width", "height")]
                for entry in image["predictions"]:
                    row += [entry["category"], entry["score"]]
                writer.writerow(row)
