"""Plan a training: read the facts from the data, measure the speed of the model, and ask the model's own planner.

The decisions themselves are pure functions beside the models (`Entry.plan`, such as `sightline.models.detection.plan`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from sightline.data.dataset import Dataset
from sightline.models.catalog import create_model
from sightline.models.entry import Entry
from sightline.models.model import Model
from sightline.models.plan import Budget, Choice, Facts
from sightline.training.recipe import Recipe
from sightline.verbs.labels import with_target_fields

_PROBED, _LOOKED_AT = 4, 50
"""Number of images of which the speed is measured, and of which the size is read."""
_SIDED = re.compile(r"(^|[\W_])(left|right|links|rechts|gauche|droite)([\W_]|$)", re.IGNORECASE)
"""Class names by which a mirrored image would have other labels."""


@dataclass(frozen=True)
class Plan:
    """The choices of a training.

    Attributes:
        choices: in the order in which they were made.
    """

    choices: tuple[Choice, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The choices that are settings of the recipe."""
        known = {field.name for field in fields(Recipe)}
        return {choice.name: choice.value for choice in self.choices if choice.name in known}

    @property
    def arguments(self) -> dict[str, Any]:
        """The choices that are arguments of the model's builder."""
        return {choice.name: choice.value for choice in self.choices if choice.name not in self.settings}

    def to_dict(self) -> dict[str, Any]:
        """Value and reason of each choice by its name, as JSON values."""
        return {choice.name: {"value": choice.value, "reason": choice.reason} for choice in self.choices}


def plan_for(
    entry: Entry,
    train: Any,
    validation: Any,
    given: Mapping[str, Any],
    *,
    pretrained: bool,
    minutes: float | None,
    epochs: int | None,
) -> Plan:
    """Plan the training of a model of the catalog.

    Args:
        entry: the model's entry; without a planner of its own the plan is empty.
        train, validation: the images; only a `Dataset` is planned for.
        given: arguments and settings that the user named. They are not chosen again.
        pretrained: whether the training starts from pretrained weights.
        minutes, epochs: the user's budget.

    Raises:
        InputError: the budget is too small for any training.
    """
    if entry.plan is None or not isinstance(train, Dataset) or not len(train):
        return Plan()
    speed = _Speed(entry, train, given)
    budget = Budget(minutes, epochs, pretrained, dict(given), speed if minutes is not None else None)
    chosen = entry.plan(facts_of(train, validation), budget)
    return Plan(tuple(choice for choice in chosen if choice.name not in given))


def facts_of(train: Dataset, validation: Any = None) -> Facts:
    """The facts that a plan needs. No image is decoded; at most the headers of 50 images are read."""
    looked_at = np.unique(np.linspace(0, len(train) - 1, min(len(train), _LOOKED_AT)).astype(int))
    sizes = np.array([train.image_size(int(i)) for i in looked_at])
    height, width = (int(side) for side in np.median(sizes, axis=0))
    names = tuple(train.classes)
    facts = Facts(
        images=len(train),
        validation=0 if validation is None else len(validation),
        image_size=(height, width),
        classes=names,
        mirrors=not any(_SIDED.search(name) or (len(name) == 1 and name.isalnum()) for name in names),
    )
    if train.kind != "instances":
        return facts
    columns = train.columns
    image = np.repeat(np.arange(columns.images), np.diff(columns.offsets))
    longer = np.maximum(columns.heights, columns.widths)[image].astype(float)
    longer[longer == 0] = max(height, width)  # the label does not state the size
    extent = (columns.boxes[:, 2:] - columns.boxes[:, :2]) / longer[:, None]
    usable = (extent > 0).all(1) & ~columns.crowd
    return replace(facts, objects=extent[usable], objects_per_image=float(usable.sum() / len(train)))


class _Speed:
    """Measures the time of a training step of a model on a few of the images, once for each set of arguments."""

    def __init__(self, entry: Entry, train: Dataset, given: Mapping[str, Any]):
        self.entry, self.train = entry, train
        self.given = {name: value for name, value in given.items() if name in entry.arguments or name == "in_channels"}
        self.known: dict[str, float] = {}

    def __call__(self, arguments: Mapping[str, Any]) -> float:
        key = repr(sorted(arguments.items()))
        if key not in self.known:
            with torch.random.fork_rng():
                self.known[key] = self._measure(arguments)
        return self.known[key]

    def _measure(self, arguments: Mapping[str, Any]) -> float:
        model = create_model(self.entry.name, self.train.classes, **{**arguments, **self.given})
        model.to("cuda" if torch.cuda.is_available() else "cpu").train()
        data = with_target_fields(model, self.train)
        chosen = np.linspace(0, len(data) - 1, _PROBED).astype(int)  # a small dataset repeats images
        images, targets = zip(*(data[int(i)] for i in chosen), strict=True)
        return min(_seconds(lambda: _step(model, images, targets)) for _ in range(3)) / _PROBED


def _step(model: Model, images: Any, targets: Any) -> None:
    device = next(model.parameters()).device
    losses = model([image.to(device) for image in images], [target.to(device) for target in targets])
    torch.stack(list(losses.values())).sum().backward()
    model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
