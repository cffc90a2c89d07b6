"""Random images of every task with predictions, and a model that gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.evaluation import PlainResult
from sightline.evaluation.meshes import MeshMeasure
from sightline.evaluation.result import MakeMeasure, Result
from sightline.structures import Classes, ClassMap, ClassScores, Events, Instances
from sightline.structures.meshes import Mesh
from sightline.structures.relations import Triplet, with_triplets
from sightline.tasks import TASKS

CLASSES = Classes(["cat", "dog", "elk"])
SIZE = (24, 32)
IMAGES = 7


class Data:
    """Images that hold their own number."""

    classes = CLASSES

    def __init__(self, targets: list[Any]):
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        return torch.full((3, *SIZE), i, dtype=torch.uint8), self.targets[i]

    def name(self, i: int) -> str:
        return f"{i}.png"


class Answers(nn.Module):
    """Gives the prediction of each image, and the same relations if it is asked for those of labelled objects."""

    def __init__(self, predictions: list[Any]):
        super().__init__()
        self.classes, self.predictions = CLASSES, predictions

    def forward(self, images: list[Tensor]) -> list[Any]:
        return [self.predictions[int(image[0, 0, 0])] for image in images]

    def seen_combinations(self) -> frozenset[tuple[str, str, str]]:
        return frozenset({("cat", "on", "dog")})

    def predict_relations(self, images: list[Tensor], boxes: list[Tensor], labels: Any) -> list[Instances]:
        return [
            with_triplets(
                Instances(SIZE, classes=CLASSES, boxes=own, labels=[0] * len(own), scores=torch.ones(len(own))),
                [Triplet(0, "on" if int(image[0, 0, 0]) % 2 else "near", 1, 0.5)],
            )
            for image, own in zip(images, boxes, strict=True)
        ]


class Count:
    """A measure of a user's, which cannot be joined."""

    def __init__(self, classes: Classes, keep: bool):
        self.pairs: list[tuple[Any, Any]] = []

    def add(self, target: Any, prediction: Any) -> None:
        self.pairs.append((target, prediction))

    def result(self, names: Any = None) -> Result:
        errors = np.array([abs(len(target) - len(found)) for target, found in self.pairs], np.float64)
        return PlainResult("counting", {"error": float(errors.mean())}, errors, names=names)


def objects(rng: np.random.Generator, scored: bool, count: int = 3) -> dict[str, Any]:
    corners = rng.uniform(0, 12, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(6, 12, (count, 2))], 1)
    fields = {"boxes": torch.from_numpy(boxes).float(), "labels": torch.from_numpy(rng.integers(0, 3, count))}
    return fields | ({"scores": torch.from_numpy(rng.random(count)).float()} if scored else {})


def with_masks(rng: np.random.Generator, scored: bool) -> Instances:
    return Instances(
        SIZE, classes=CLASSES, masks=torch.from_numpy(rng.random((3, *SIZE)) < 0.5), **objects(rng, scored)
    )


def class_map(rng: np.random.Generator, scored: bool) -> ClassMap:
    return ClassMap(torch.from_numpy(rng.integers(0, 3, SIZE)), CLASSES)


def class_scores(rng: np.random.Generator, scored: bool) -> ClassScores:
    if not scored:
        return ClassScores(SIZE, int(rng.integers(3)), classes=CLASSES)
    return ClassScores(SIZE, scores=torch.from_numpy(rng.dirichlet([1.0] * 3)).float(), classes=CLASSES)


def captioned(rng: np.random.Generator, scored: bool) -> Instances:
    words = [["a red cat", "one dog", "a large elk"][i] for i in rng.integers(0, 3, 3)]
    return Instances(SIZE, classes=CLASSES, captions=words, **objects(rng, scored))


def related(rng: np.random.Generator, scored: bool) -> Instances:
    found = Instances(SIZE, classes=CLASSES, **objects(rng, scored))
    names = [("on", "near")[i] for i in rng.integers(0, 2, 2)]
    return with_triplets(found, [Triplet(0, names[0], 1, 0.75), Triplet(1, names[1], 2, 0.5)])


def cuboids(rng: np.random.Generator, scored: bool) -> Instances:
    values = np.concatenate([rng.uniform(-1, 1, (3, 2)), rng.uniform(4, 6, (3, 1)), rng.uniform(1, 2, (3, 3))], 1)
    nine = torch.from_numpy(np.concatenate([values, rng.uniform(-1, 1, (3, 3))], 1)).float()
    return Instances(SIZE, classes=CLASSES, cuboids=nine, **objects(rng, scored))


def events(rng: np.random.Generator, scored: bool) -> Events:
    starts = rng.uniform(0, 5, 2)
    times = torch.from_numpy(np.stack([starts, starts + rng.uniform(1, 5, 2)], 1))
    scores = torch.from_numpy(rng.random(2)).float() if scored else None
    return Events(SIZE, times, ("a cat runs", "a dog sits"), 10.0, scores, Classes(["event"]))


def meshes(rng: np.random.Generator, scored: bool) -> Instances:
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    corners = rng.uniform(0, 1, (3, 4, 3)) + np.array([0, 0, 4])
    solids = [Mesh(torch.from_numpy(own).float(), faces) for own in corners]
    return Instances(SIZE, classes=CLASSES, meshes=solids, **objects(rng, scored))


KINDS: dict[str, Callable[[np.random.Generator, bool], Any]] = {
    "detection": with_masks,
    "proposal": with_masks,
    "segmentation": class_map,
    "classification": class_scores,
    "dense_captioning": captioned,
    "scene_graph": related,
    "cuboids": cuboids,
    "video_captioning": events,
    "meshes": meshes,
    "counting": with_masks,
}


def measure_of(name: str) -> MakeMeasure:
    few_points = partial(MeshMeasure, points=200)
    return {"counting": Count, "meshes": few_points}.get(name) or TASKS[name].measure


def case(name: str) -> tuple[Answers, Data]:
    """A model and the data of a task."""
    rng = np.random.default_rng(5)
    pairs = [(KINDS[name](rng, False), KINDS[name](rng, True)) for _ in range(IMAGES)]
    return Answers([prediction for _, prediction in pairs]), Data([target for target, _ in pairs])
