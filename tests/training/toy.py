"""A small model and dataset that keep the library's contracts, with batch norm and dropout, quick enough for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.structures import Classes, Instances

CLASSES = Classes(["bright", "dark"])
SIZE = 16


class BlobDetector(nn.Module):
    """Finds one blob an image: two convolutions, a class and a box."""

    task = "detection"
    in_channels = 3

    def __init__(self, classes=CLASSES, dropout=0.2):
        super().__init__()
        self.classes = classes
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout)
        self.cls = nn.Linear(8 * 16, len(classes))
        self.box = nn.Linear(8 * 16, 4)

    def forward(self, images, targets=None):
        batch = torch.stack([i.float() / 255 if i.dtype == torch.uint8 else i for i in images])
        features = self.dropout(self.backbone(batch).flatten(1))
        logits, boxes = self.cls(features), self.box(features)
        if targets is not None:
            with_object = [i for i, t in enumerate(targets) if len(t)]
            wanted = torch.stack([targets[i].boxes[0] for i in with_object]) / SIZE
            labels = torch.stack([targets[i].labels[0] for i in with_object])
            return {
                "cls": F.cross_entropy(logits[with_object], labels),
                "box": F.smooth_l1_loss(boxes[with_object], wanted),
            }
        scores, found = logits.softmax(1).max(1)
        return [
            Instances.unchecked(
                (i.shape[1], i.shape[2]), classes=self.classes, boxes=b[None], labels=k[None], scores=s[None]
            )
            for i, b, k, s in zip(images, boxes * SIZE, found, scores, strict=True)
        ]


class Blobs:
    """Images with one bright or dark square each, in memory."""

    root = None
    classes = CLASSES

    def __init__(self, length=11, seed=0):
        self.items = []
        rng = np.random.default_rng(seed)
        for number in range(length):
            label = int(rng.integers(2))
            x, y = (int(v) for v in rng.integers(0, 8, 2))
            side = int(rng.integers(4, 8))
            pixels = rng.integers(96, 160, (3, SIZE, SIZE)).astype(np.uint8)
            pixels[:, y : y + side, x : x + side] = 250 if label == 0 else 5
            target = Instances(
                (SIZE, SIZE),
                classes=CLASSES,
                source=f"blob{number}.png",
                boxes=torch.tensor([[x, y, x + side, y + side]]).float(),
                labels=[label],
            )
            self.items.append((torch.from_numpy(pixels), target))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def jitter(image: Tensor, target: Instances, generator: np.random.Generator):
    """An augmentation: brightness and a mirror image."""
    image = (image.float() * float(generator.uniform(0.7, 1.0))).to(torch.uint8)
    if generator.random() < 0.5:
        x1, y1, x2, y2 = target.boxes.unbind(1)
        image = image.flip(2)
        target = target.replace(boxes=torch.stack([SIZE - x2, y1, SIZE - x1, y2], 1))
    return image, target


def save(model: nn.Module, path: Path, metadata: dict) -> None:
    """Stands for the library's own file format, which knows the catalog's models only."""
    save_file(model.state_dict(), path, {"metadata": json.dumps(metadata)})


def load(path: Path) -> tuple[dict, dict]:
    """The weights and the metadata that `save` wrote."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["metadata"])  # noqa: SIM118


def model(seed=0, **kwargs) -> BlobDetector:
    torch.manual_seed(seed)
    return BlobDetector(**kwargs)


def state(folder: Path) -> dict:
    """Everything in a run's checkpoint."""
    return torch.load(folder / "checkpoint" / "state.pt", weights_only=True)


def same(a, b) -> bool:
    """Whether two nested structures are equal to the last bit."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
