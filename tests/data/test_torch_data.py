"""Datasets of a user's own PyTorch code: what becomes of their items, and every verb on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.errors import InputError


class Squares(torch.utils.data.Dataset[Any]):
    """A bright square per image; targets as torchvision's detectors take them, with labels from 1."""

    classes = ("__background__", "dark", "bright")

    def __init__(self, mask: bool = False):
        self.mask = mask
        self.read = 0

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
        self.read += 1
        image = torch.zeros(3, 40, 44 + i, dtype=torch.uint8)
        image[:, 8:24, 8 + i : 24 + i] = 100 + 100 * (i % 2)
        target: dict[str, Any] = {"boxes": [[8 + i, 8, 24 + i, 24]], "labels": [1 + i % 2], "image_id": i}
        if self.mask:
            target["masks"] = image[:1] > 0
        return image, target


def test_items_become_a_dataset_whose_images_are_read_when_used() -> None:
    items = Squares(mask=True)
    data = sl.Dataset.from_torch(items, splits=["train"] * 4 + ["val"] * 2)
    assert (list(data.classes), data.kind, len(data["val"])) == (["dark", "bright"], "instances", 2)
    before = items.read
    image, target = data.with_fields("masks")[5]
    assert items.read == before + 1
    assert torch.equal(image, items[5][0])
    assert target.boxes.tolist() == [[13, 8, 29, 24]]
    assert target.labels.tolist() == [1]
    assert torch.equal(target.masks, items[5][0][:1] > 0)


@pytest.mark.parametrize("kind", ["labels", "maps"])
def test_other_targets(kind: str) -> None:
    maps = [sl.ClassMap(torch.full((8, 8), i % 2)) for i in range(3)]
    items = [(torch.zeros(3, 8, 8, dtype=torch.uint8), i % 2 if kind == "labels" else maps[i]) for i in range(3)]
    data = sl.Dataset.from_torch(items, ["a", "b"])
    target = data[1][1]
    assert (target.label if kind == "labels" else int(target.labels.max())) == 1
    with pytest.raises(InputError, match="image 3: its target is a Instances, but that of image 0 is a Class"):
        sl.Dataset.from_torch([*items, (torch.zeros(3, 8, 8), {"boxes": [], "labels": []})], ["a", "b"])


def test_images_that_change_are_refused() -> None:
    class Cropped(Squares):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
            image, target = super().__getitem__(i)
            return image[:, :, : 44 - self.read], target

    data = sl.Dataset.from_torch(Cropped())
    with pytest.raises(InputError, match=r"image 2 of the PyTorch dataset has the size .* leave augmentation to the"):
        data[2]


def test_checked_converted_and_predicted(tmp_path: Path) -> None:
    items = Squares()
    report = sl.check(items, progress=False)
    assert report.ok, str(report)
    assert "6 objects" in str(report)
    sl.convert(items, tmp_path / "coco", "coco")
    back = sl.open_dataset(tmp_path / "coco")
    assert [back[i][1].boxes.tolist() for i in range(6)] == [items[i][1]["boxes"] for i in range(6)]
    model = sl.create_model("ssdlite320_mobilenet_v2", ["dark", "bright"])
    found = sl.predict(model, sl.Dataset.from_torch(items), threshold=0.0)
    assert [one.image_size for one in found] == [(40, 44 + i) for i in range(6)]


class Broken(Squares):
    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict[str, Any]]:
        image, target = super().__getitem__(i)
        if i == 3:
            target["boxes"] = [[20, 8, 10, 24]]
        return image, target


def test_a_bad_item_is_named() -> None:
    with pytest.raises(InputError, match=r"image 3: box 0 is .* but a box must be finite with x1 ≤ x2"):
        sl.Dataset.from_torch(Broken())


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_swapped_axes_are_named(kind: str) -> None:
    """A tensor [H, W, 3] would be a narrow image of H channels."""
    picture: Any = torch.zeros(40, 60, 3) if kind == "tensor" else np.zeros((3, 40, 60), np.uint8)
    with pytest.raises(InputError, match=r"image 0 has the shape \[.*\], which would be [46]0 channels; the axes seem"):
        sl.Dataset.from_torch([(picture, 0), (picture, 1)], classes=["a", "b"])
    many: Any = torch.zeros(17, 20, 5) if kind == "tensor" else np.zeros((5, 20, 17), np.uint8)
    assert len(sl.Dataset.from_torch([(many, 0), (many, 1)], classes=["a", "b"])) == 2


@pytest.mark.parametrize("target", [torch.tensor([1.0, 0, 1]), np.array([0, 1, 0]), [1, 0, 0]])
def test_a_0_or_1_for_each_class_is_refused_with_what_to_do(target: Any):
    items = [(torch.rand(3, 8, 8), target)] * 2
    with pytest.raises(InputError, match=r"image 0: its target has one 0 or 1 for each of 3 classes, but an image has"):
        sl.Dataset.from_torch(items, classes=["a", "b", "c"])
