"""A model that answers at once, and images to send to it."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.structures import Classes, Instances

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

CLASSES = Classes(["left", "right"])


class Spotter(nn.Module):
    """Answers with two boxes of scores 0.9 and 0.3; x1 of the first is the image's first pixel.

    `open` can be cleared to hold the model; an image whose first pixel is 13 fails.
    """

    task = "detection"
    in_channels = 3
    classes = CLASSES

    def __init__(self, shift: float = 0.0):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.shift = shift
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def forward(self, images: Any, targets: Any = None) -> list[Instances]:
        assert not self.training
        self.entered.set()
        assert self.open.wait(20)
        self.batches.append(len(images))
        results = []
        for image in images:
            height, width = image.shape[-2:]
            first = float(image[0, 0, 0])
            if first == 13:
                raise RuntimeError("unlucky")
            boxes = torch.tensor([[first % width + self.shift, 0.0, width, height], [0.0, 0.0, 1.5, 2.0]])
            results.append(Instances((height, width), classes=CLASSES, boxes=boxes, labels=[1, 0], scores=[0.9, 0.3]))
        return results


def sent(first: int = 5, width: int = 40, height: int = 30, kind: str = "PNG") -> bytes:
    """The bytes of an image of one colour."""
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), first, dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG of a few hundred bytes whose header claims side × side pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
