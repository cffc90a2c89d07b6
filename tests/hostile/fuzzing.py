"""Good files of each kind, their readers, and damage."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from sightline.data.formats.jsonstream import JsonFile
from sightline.data.images import read_image
from sightline.models.darknet.cfg import read_cfg
from sightline.models.weights import read_checkpoint
from sightline.report.classification import ClassificationReport
from sightline.report.detection import DetectionReport
from sightline.report.files import read_evaluation, read_rows
from sightline.runtime import reading
from sightline.training.recipe import Recipe

READERS: dict[str, Callable[[Path], Any]] = {
    "cfg": read_cfg,
    "csv": reading.read_csv,
    "evaluation": lambda path: read_evaluation(path, DetectionReport()),
    "evaluation of image classes": lambda path: read_evaluation(path, ClassificationReport()),
    "json": lambda path: reading.read_json(path, dict),
    "npy": read_image,
    "png": read_image,
    "recipe": Recipe.from_yaml,
    "rows": read_rows,
    "safetensors": read_checkpoint,
    "stream": lambda path: [list(v) if hasattr(v, "__next__") else v for _, v in JsonFile(path).items({"annotations"})],
    "tif": read_image,
    "torch": read_checkpoint,
    "xml": reading.read_xml,
    "xml pieces": lambda path: list(reading.iter_xml(path)),
    "yaml": reading.read_yaml,
}
"""What reads each kind of file."""

_PIECES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"9" * 400,
    b"-1",
    b"1e999",
    b"[" * 300,
    b"{",
    b"&a [*a]",
    b"<a>",
    b"!!x ",
    b'"',
    b"null",
)


IMAGE_CLASSES = {
    "task": "classification",
    "metrics": {"top1": 0.5},
    "intervals": {"top1": [0.1, 0.9]},
    "classes": ["cat", "dog"],
    "per_class": {"cat": {"precision": 0.5, "recall": None, "F1": 0.5, "support": 2, "predicted": 1}},
    "confusion": [[1, 0], [1, 0]],
    "other": [0, 1],
    "confusions": [["dog", "cat", 1]],
    "calibration": [{"from": 0, "to": 1, "images": 2, "confidence": 0.5, "accuracy": None}],
}


def samples(folder: Path) -> dict[str, tuple[str, bytes]]:
    """By kind a file's name and its content."""
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    npy, saved = io.BytesIO(), io.BytesIO()
    np.save(npy, pixels)
    torch.save({"a": torch.zeros(3)}, saved)
    coco = {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 1, "bbox": [1, 2, 3, 4]}]}
    xml = b"<annotation><object><name>cat</name></object></annotation>"
    return {
        "cfg": ("a.cfg", b"[net]\nwidth=32\nheight=32\n[convolutional]\nfilters=4\nsize=3\n"),
        "csv": ("a.csv", b"image,x\na.png,1\n"),
        "evaluation": ("evaluation.json", json.dumps({"metrics": {"AP": 0.5}, "classes": ["cat"]}).encode()),
        "evaluation of image classes": ("evaluation.json", json.dumps(IMAGE_CLASSES).encode()),
        "json": ("a.json", json.dumps(coco).encode()),
        "npy": ("a.npy", npy.getvalue()),
        "png": ("a.png", _picture(pixels, "PNG")),
        "recipe": ("recipe.yaml", b"epochs: 3\nlr: 0.1\nmilestones: [0.5, 0.7]\n"),
        "rows": ("metrics.jsonl", b'{"epoch": 1, "train/loss": 2.5}\n'),
        "safetensors": ("a.safetensors", save({"a": torch.zeros(3)}, {"format": "pt"})),
        "stream": ("a.json", json.dumps(coco).encode()),
        "tif": ("a.tif", _picture(pixels, "TIFF")),
        "torch": ("a.pth", saved.getvalue()),
        "xml": ("a.xml", xml),
        "xml pieces": ("a.xml", xml),
        "yaml": ("a.yaml", b"names: {0: cat, 1: dog}\ntrain: [a, b]\n"),
    }


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """The bytes with one to three places changed, cut or filled with what readers stumble over."""
    out = bytearray(data)
    for _ in range(int(generator.integers(1, 4))):
        at = int(generator.integers(0, len(out) + 1))
        until = min(len(out), at + int(generator.integers(0, 9)))
        kind = int(generator.integers(0, 4))
        if kind == 0:
            del out[at:]
        elif kind == 1:
            out[at:until] = generator.bytes(until - at)
        else:
            out[at:until] = _PIECES[int(generator.integers(0, len(_PIECES)))]
    return bytes(out)


def _picture(pixels: np.ndarray, form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()
