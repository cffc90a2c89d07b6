"""Write objects as COCO JSON, as CSV and as YOLO label files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.deploy.writers.base import CSV_FILE, JSON_FILE, PredictedImage, write_json
from sightline.training.metrics_log import atomic_write

LABELS = Path("labels")
"""The folder of YOLO's label files."""
FORMATS = {"json": JSON_FILE, "csv": CSV_FILE, "yolo": f"{LABELS}/"}
"""The formats of objects, and the file or folder that holds each."""
COLUMNS = ("file_name", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


class CocoFiles:
    """Writes the objects of many images as COCO annotations, as CSV and as YOLO label files.

    Attributes:
        objects: number of objects added.

    Args:
        folder: the folder for the files.
        names: names of the classes, in the order of their ids.
        paths: the label file of each image below labels/, by the images' positions.
        formats: some of `FORMATS`.
        further: entries of annotations that are additional columns of the CSV file.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        paths: Sequence[Path],
        formats: Sequence[str],
        further: Sequence[str] = (),
    ):
        self.folder, self.formats, self.paths, self.further = folder, formats, paths, further
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        self._results: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
        self._written: list[Path] = []

    @property
    def objects(self) -> int:
        return len(self._results["annotations"])

    def add(
        self, image: PredictedImage, entries: Iterable[dict[str, Any]], more: Mapping[str, Any] | None = None
    ) -> None:
        """Add an image and its objects; the objects get their ids here, from `objects` + 1 on.

        Args:
            image: the next image.
            entries: "category_id", "bbox" and the other entries of a COCO annotation.
            more: additional entries of the image.
        """
        self._results["images"].append({"id": image.number, **image.entry(), **(more or {})})
        for entry in entries:
            self._results["annotations"].append({"id": self.objects + 1, "image_id": image.number, **entry})
        self._written.append(self.paths[image.position])

    def finish(self) -> list[str]:
        """Write the files and return their names."""
        if "json" in self.formats:
            write_json(self._results, self.folder)
        if "csv" in self.formats:
            write_csv(self._results, self.folder, self.further)
        if "yolo" in self.formats:
            write_yolo(self._results, self._written, self.folder)
        return [FORMATS[name] for name in self.formats]


def write_csv(results: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, further: Sequence[str] = ()) -> None:
    """Write one row per object: its image's name and size in pixels, class, score, and box in pixels.

    Args:
        results: the contents of predictions.json: "images" and "annotations".
        folder: the folder for predictions.csv.
        further: entries of annotations that are additional columns.
    """
    images = {image["id"]: image for image in results["images"]}
    with atomic_write(folder / CSV_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *further])
        for entry in results["annotations"]:
            image = images[entry["image_id"]]
            x, y, width, height = entry["bbox"]
            row = [image["file_name"], image["width"], image["height"], entry.get("category", entry["category_id"] - 1)]
            row += [entry.get("score", ""), x, y, round(x + width, 3), round(y + height, 3)]
            writer.writerow([*row, *(entry.get(name, "") for name in further)])


def write_yolo(results: Mapping[str, Sequence[Mapping[str, Any]]], paths: Sequence[Path], folder: Path) -> None:
    """Write one text file per image with one line per object: class id, box centre, width, height, score.

    Coordinates are fractions of the image's width and height. Ids count from 0, and classes.txt names them. An image
    without objects has an empty file.

    Args:
        results: the contents of predictions.json: "images" and "annotations".
        paths: the file of each image, below labels/.
        folder: the folder for labels/ and classes.txt.
    """
    lines: dict[int, list[str]] = {image["id"]: [] for image in results["images"]}
    images = {image["id"]: image for image in results["images"]}
    for entry in results["annotations"]:
        image = images[entry["image_id"]]
        x, y, width, height = entry["bbox"]
        numbers = [(x + width / 2) / image["width"], (y + height / 2) / image["height"]]
        numbers += [width / image["width"], height / image["height"]]
        numbers += [entry["score"]] if "score" in entry else []
        text = " ".join(f"{number:.6f}" for number in numbers)
        lines[image["id"]].append(f"{entry['category_id'] - 1} {text}\n")
    for (_, rows), place in zip(lines.items(), paths, strict=True):
        path = folder / LABELS / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(rows), encoding="utf-8")
    names = [entry["name"] for entry in results["categories"]]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
