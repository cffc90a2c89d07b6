"""Objects found in a folder's images as COCO's JSON, as a table (CSV) and as YOLO's label files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.deploy.writers.base import CSV_FILE, JSON_FILE, PredictedImage, write_json
from sightline.training.metrics_log import replacing

LABELS = Path("labels")
"""The folder of YOLO's label files."""
FORMATS = {"json": JSON_FILE, "csv": CSV_FILE, "yolo": f"{LABELS}/"}
"""What objects are written as, and the file or folder that holds them."""
COLUMNS = ("file_name", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


class CocoFiles:
    """Objects of many images, written as COCO annotations, as a table and as YOLO's label files.

    Attributes:
        objects: how many were added.

    Args:
        folder: gets the files.
        names: of the classes, in the order of their ids.
        places: of each image's label file, below labels/, by the images' positions.
        formats: some of `FORMATS`.
    """

    def __init__(self, folder: Path, names: Sequence[str], places: Sequence[Path], formats: Sequence[str]):
        self.folder, self.formats, self.places = folder, formats, places
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        self._results: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
        self._written: list[Path] = []

    @property
    def objects(self) -> int:
        return len(self._results["annotations"])

    def add(self, image: PredictedImage, entries: Iterable[dict[str, Any]]) -> None:
        """Take an image and its objects; they get their ids here.

        Args:
            image: the next one.
            entries: "category_id", "bbox" and what else an annotation of COCO has.
        """
        self._results["images"].append({"id": image.number, **image.entry()})
        for entry in entries:
            self._results["annotations"].append({"id": self.objects + 1, "image_id": image.number, **entry})
        self._written.append(self.places[image.position])

    def finish(self) -> list[str]:
        """Write the files; their names."""
        if "json" in self.formats:
            write_json(self._results, self.folder)
        if "csv" in self.formats:
            write_csv(self._results, self.folder)
        if "yolo" in self.formats:
            write_yolo(self._results, self._written, self.folder)
        return [FORMATS[name] for name in self.formats]


def write_csv(results: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> None:
    """A row for each object: its image's name and size in pixels, class, score, and box in pixels.

    Args:
        results: as in predictions.json: "images" and "annotations".
        folder: gets predictions.csv.
    """
    images = {image["id"]: image for image in results["images"]}
    with replacing(folder / CSV_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for entry in results["annotations"]:
            image = images[entry["image_id"]]
            x, y, width, height = entry["bbox"]
            row = [image["file_name"], image["width"], image["height"], entry.get("category", entry["category_id"] - 1)]
            row += [entry.get("score", ""), x, y, round(x + width, 3), round(y + height, 3)]
            writer.writerow(row)


def write_yolo(results: Mapping[str, Sequence[Mapping[str, Any]]], places: Sequence[Path], folder: Path) -> None:
    """A text file for each image with a line for each object: class id, box centre, width, height, score.

    Coordinates are parts of the image's width and height; ids count from 0, and classes.txt names them. An image
    without objects has an empty file.

    Args:
        results: as in predictions.json: "images" and "annotations".
        places: of each image's file, below labels/.
        folder: gets labels/ and classes.txt.
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
    for (_, rows), place in zip(lines.items(), places, strict=True):
        path = folder / LABELS / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(rows), encoding="utf-8")
    names = [entry["name"] for entry in results["categories"]]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
