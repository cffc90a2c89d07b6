"""The public API as its users write it; never run, only type-checked (`test_typing.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

import torch
from torch import Tensor, nn

import sightline as sl
from sightline.evaluation.result import Result
from sightline.models import catalog
from sightline.models.detection.faster_rcnn import FasterRCNN, faster_rcnn
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess
from sightline.training.run import Run


def train_and_evaluate(folder: Path) -> float:
    data = sl.open_dataset(folder)
    assert_type(data, sl.Dataset)
    assert_type(data.classes, sl.Classes)
    assert_type(data["train"], sl.Dataset)
    model = sl.create_model("ssdlite320_mobilenet_v2", classes=data.classes, weights="imagenet", image_size=320)
    assert_type(model, sl.Model)
    run = sl.train(model, data["train"], validation=data["val"], epochs=12, batch_size=4)
    assert_type(run, Run)
    assert_type(run.model, sl.Model)
    assert_type(run.folder, Path)
    result = sl.evaluate(run.model, data["test"])
    assert_type(result, Result)
    assert_type(result.metrics, Mapping[str, float | None])
    assert_type(result.notes, list[str])
    sl.write_report(run.folder, result, data=data["test"], model=run.model)
    return result.metrics["AP"] or 0.0


def save_and_load(model: sl.Model) -> sl.Model:
    file = sl.save(model, "model.safetensors", {"note": "the first"})
    assert_type(file, Path)
    again = sl.load(file)
    assert_type(again, sl.Model)
    assert_type(again.task, str)
    assert_type(again.metadata, dict[str, Any])
    assert_type(again.in_channels, int)
    assert_type(again.recipe_defaults, dict[str, Any])
    assert_type(again.target_fields, tuple[str, ...])
    return again


def call(model: sl.Model, images: Sequence[Tensor], targets: Sequence[sl.Instances]) -> Tensor:
    losses = model(images, targets)
    assert_type(losses, dict[str, Tensor])
    assert_type(model(images), list[Any])
    return torch.stack(list(losses.values())).sum()


def look(image: Tensor) -> tuple[int, int]:
    model = faster_rcnn(["cat", "dog"])
    assert_type(model, FasterRCNN)
    found = model([image])[0]
    assert_type(found, sl.Instances)
    assert_type(found.boxes, Tensor)
    assert_type(found.labels, Tensor)
    sure = found[found.scores > 0.5]
    assert_type(sure, sl.Instances)
    sl.draw(image, sure).save("found.png")
    return sure.image_size


def predict(model: sl.Model) -> None:
    one: sl.Instances = sl.predict(model, "photo.jpg", threshold=0.3)
    for result in sl.predict("runs/first", ["a.jpg", "b.jpg"], classes=["cat"]):
        print(result)
    print(len(one))


class Counting(sl.Model):
    """A model of one's own: how bright an image is."""

    task = "brightness"

    def __init__(self, classes: Sequence[str]):
        super().__init__(classes, Preprocess(fixed_size=(64, 64)))
        self.network = nn.Linear(3, 1)

    def batch_losses(self, batch: sl.ImageBatch, targets: Sequence[float]) -> Losses:
        said = self.network(batch.tensor.mean((2, 3)))[:, 0]
        return {"loss_brightness": (said - torch.tensor(targets)).square().mean()}

    def batch_results(self, batch: sl.ImageBatch) -> list[float]:
        found: list[float] = self.network(batch.tensor.mean((2, 3)))[:, 0].tolist()
        return found


def own(images: Sequence[Tensor]) -> None:
    model = Counting(["a"])
    assert_type(model([*images], [0.5] * len(images)), dict[str, Tensor])
    sl.train(model, sl.scenes(8), epochs=1, transform=None)
    catalog.add(catalog.Entry(name="counting", builder=Counting, task="brightness", paper="none"))


def parts() -> Tensor:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    return sl.ops.boxes.box_iou(boxes, boxes)
