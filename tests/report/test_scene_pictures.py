"""Pictures of scenes: where labels are put, and what is drawn of objects without a cuboid or a relation."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sightline.report.canvas import Canvas
from sightline.report.drawing import draw
from sightline.structures import Instances
from sightline.structures.relations import Relation
from sightline.structures.view import View


def test_a_label_takes_the_free_one_of_several_places() -> None:
    canvas = Canvas(Image.new("RGB", (200, 200)))
    here, there = (50, 50, 50, 50), (50, 150, 50, 150)
    for _ in range(5):  # above, below, on both sides
        canvas.label(here, "near", (0, 0, 255))
    before = np.asarray(canvas.picture).copy()
    canvas.label(here, "behind", (255, 0, 0), [there])
    changed = (np.asarray(canvas.picture) != before).any(2)
    assert changed[100:].any()
    assert not changed[:100].any()


def test_of_many_objects_only_those_with_a_relation_are_in_the_graph() -> None:
    boxes = torch.tensor([[10.0 * i, 10, 10 * i + 8, 20] for i in range(14)])
    relations = [[Relation("on", 1)], *([] for _ in range(13))]
    objects = Instances((64, 160), boxes=boxes, labels=torch.arange(14), keys=torch.arange(14), relations=relations)
    picture = np.asarray(draw(torch.zeros(3, 64, 160, dtype=torch.uint8), objects))[:, 160:]
    third = tuple(np.asarray(draw(torch.zeros(3, 64, 160, dtype=torch.uint8), objects))[14, 20].tolist())
    assert not (picture == third).all(2).any()  # the colour of an object without a relation
    few = np.asarray(draw(torch.zeros(3, 64, 160, dtype=torch.uint8), objects[:3]))[:, 160:]
    assert (few == third).all(2).any()


def test_an_object_without_a_cuboid_has_its_box() -> None:
    cuboids = torch.full((1, 9), torch.nan)
    objects = Instances(
        (100, 100), boxes=torch.tensor([[20.0, 30, 80, 90]]), labels=torch.zeros(1).long(), cuboids=cuboids
    )
    image = View(torch.zeros(3, 100, 100, dtype=torch.uint8), [[100, 0, 50], [0, 100, 50], [0, 0, 1]])
    pixels = np.asarray(draw(image, objects, names=False))[:, :100]
    assert pixels[89, 20:80].any()
    assert pixels[30:90, 20].any()
    assert not pixels[40:80, 30:70].any()
