"""Plan a training run: read the facts from the data, measure the speed of the model, and ask the model's own planner.

The decisions themselves are pure functions beside the models (`Entry.plan`, such as `sightline.models.detection.plan`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from sightline.data.dataset import Dataset
from sightline.models.creation import create_model
from sightline.models.entry import Entry
from sightline.models.model import Model
from sightline.models.plan import Budget, Choice, Facts
from sightline.runtime.allocator import kept_memory
from sightline.training import half
from sightline.training.devices import training_device
from sightline.training.recipe import Recipe
from sightline.training.threads import numbers_of_threads
from sightline.verbs.labels import with_target_fields

_PROBED, _LOOKED_AT = 4, 50
"""Number of images with which the speed is measured, and whose sizes are read."""
_FEWEST_TIMED, _MOST_TIMED, _TIMED_SHARE, _HOPELESS = 3, 8, 0.01, 6.0
"""Steps whose time is measured: at least and at most this many, until they take this fraction of the minutes, or this
many times the fastest with another number of threads."""
CACHED = 5
"""Epochs between validations of a training run on cached features."""
_SIDES = frozenset(
    {"left", "links", "linke", "linker", "linkes", "gauche", "izquierda", "izquierdo", "sinistra", "sinistro"}
    | {"right", "rechts", "rechte", "rechter", "rechtes", "droit", "droite", "derecha", "derecho", "destra", "destro"}
    | {"esquerda", "esquerdo", "direita", "direito", "左", "右"}
)
"""Words in class names by which a mirrored image would have other labels."""
_SAID_BY = {
    **dict.fromkeys(("freeze", "unfreeze_every", "cache_features"), "trainable_layers"),
    "freeze_norm": "norm",
}
"""Settings of the recipe that, if the user gives them, decide what a plan would choose as an argument of the model."""
_BETWEEN_WORDS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])|(?<=[左右])|(?=[左右])")


@dataclass(frozen=True)
class Plan:
    """The choices of a training run.

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
    device: str | None = None,
) -> Plan:
    """Plan the training of a model of the catalog.

    With a budget of minutes, steps are measured: of several processes that train one model, one must plan for all.

    Args:
        entry: the model's entry; without a planner of its own the plan is empty.
        train, validation: the images; only a `Dataset` is planned for.
        given: arguments and settings that are fixed. They are not chosen again.
        pretrained: whether the training starts from pretrained weights.
        minutes, epochs: the user's budget.
        device: where the model will be trained; None for the best available device.

    Raises:
        InputError: the budget is too small for any training, or the device is not available.
    """
    if entry.plan is None or not isinstance(train, Dataset) or not len(train):
        return Plan()
    cached = given.get("cache_features") is not None
    budget = Budget(
        None if cached else minutes,  # steps on cached features take hardly any time: nothing is chosen by it
        epochs,
        pretrained,
        entry.classifier({name: value for name, value in given.items() if name in entry.arguments}) is not None,
        dict(given),
        None if minutes is None or cached else _Speed(entry, train, given, device, minutes),
        training_device(device).type == "cpu" and half.has_bf16(),
    )
    chosen = entry.plan(facts_of(train, validation), budget)
    if cached:
        chosen = [choice for choice in chosen if choice.name != "epochs" or minutes is None]
        chosen.append(Choice("validate_every", CACHED, "a validation takes longer than some epochs on cached features"))
    fixed = set(given) | {name for setting, name in _SAID_BY.items() if given.get(setting) is not None}
    return Plan(tuple(choice for choice in chosen if choice.name not in fixed))


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
        mirrors=not any(_tells_sides(name) for name in names),
    )
    if not train.columns.objects:
        return facts
    columns = train.columns
    image = np.repeat(np.arange(columns.images), np.diff(columns.offsets))
    longer = np.maximum(columns.heights, columns.widths)[image].astype(float)
    longer[longer == 0] = max(height, width)  # the label does not state the size
    extent = (columns.boxes[:, 2:] - columns.boxes[:, :2]) / longer[:, None]
    usable = (np.isfinite(extent) & (extent > 0)).all(1) & ~columns.crowd
    return replace(facts, objects=extent[usable], objects_per_image=float(usable.sum() / len(train)))


def _tells_sides(name: str) -> bool:
    """Whether a class name tells left from right, or is a single letter or digit, whose mirror image is no letter."""
    words = [word.lower() for word in _BETWEEN_WORDS.split(name)]
    return not _SIDES.isdisjoint(words) or (len(name) == 1 and name.isalnum())


class _Speed:
    """Measures the time of a training step of a model on a few of the images, once for each set of arguments.

    It is the time of the fastest step, since other work on the machine can only lengthen it. Steps are repeated for a
    hundredth of the minutes, so that one that is disturbed for a second does not decide, with each number of threads
    that training will try: on a busy machine, those of one operation wait for each other.
    """

    def __init__(self, entry: Entry, train: Dataset, given: Mapping[str, Any], device: str | None, minutes: float):
        self.entry, self.train, self.minutes = entry, train, minutes
        self.device = training_device(device)
        self.given = {name: value for name, value in given.items() if name in entry.arguments or name == "in_channels"}
        if self.given.get("image_size", 0) is None:  # images keep their sizes; a plan may measure on smaller ones
            del self.given["image_size"]
        self.known: dict[str, float] = {}

    def __call__(self, arguments: Mapping[str, Any]) -> float:
        key = repr(sorted(arguments.items()))
        if key not in self.known:
            with torch.random.fork_rng(), torch.enable_grad(), kept_memory():
                self.known[key] = self._measure(arguments)
        return self.known[key]

    def _measure(self, arguments: Mapping[str, Any]) -> float:
        arguments = dict(arguments)
        precision = arguments.pop("precision", "no")
        model = create_model(self.entry.name, self.train.classes, **{**arguments, **self.given})
        model.to(self.device).train()
        data = with_target_fields(model, self.train)
        chosen = np.linspace(0, len(data) - 1, _PROBED).astype(int)  # a small dataset repeats images
        images, targets = zip(*(data[int(i)] for i in chosen), strict=True)
        fastest = math.inf
        for _ in numbers_of_threads(self.device):
            spent: list[float] = []
            while len(spent) < _FEWEST_TIMED or (
                len(spent) < _MOST_TIMED and sum(spent) < 60 * self.minutes * _TIMED_SHARE
            ):
                spent.append(_seconds(lambda: _step(model, images, targets, precision)))
                if sum(spent) > _HOPELESS * fastest:
                    break
            fastest = min(fastest, *spent)
        return fastest / _PROBED


def _step(model: Model, images: Any, targets: Any, precision: str) -> None:
    device = next(model.parameters()).device
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with half.guarded(device, precision), bf16:
        losses = model([image.to(device) for image in images], [target.to(device) for target in targets])
    torch.stack(list(losses.values())).sum().backward()
    model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
