"""Predictions of a folder as a table (CSV) and as YOLO's label files, beside COCO's JSON."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.training.metrics_log import replacing

FORMATS = ("json", "csv", "yolo")
"""What predictions are written as."""
CSV_FILE = "predictions.csv"
LABELS = Path("labels")
"""The folder of YOLO's label files."""
COLUMNS = ("file_name", "width", "height", "class", "score", "x1", "y1", "x2", "y2")


def require_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats asked for, each once; "csv,yolo" is two.

    Raises:
        InputError: one is not known.
    """
    chosen = [part.strip() for name in ([names] if isinstance(names, str) else names) for part in name.split(",")]
    for name in chosen:
        if name not in FORMATS:
            raise InputError(f"predictions cannot be saved as {name!r}; there are {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(chosen))


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
