"""What every training begins with, made ready in one way for the command line and for Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sightline.data.dataset import Dataset
from sightline.data.joint import JointData
from sightline.data.transforms import recipes
from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.runtime.values import require_whole
from sightline.structures import Classes
from sightline.tasks import TASKS, Task, task_for, task_of
from sightline.training import trained_on
from sightline.training.metrics_log import require_metric
from sightline.training.recipe import Recipe
from sightline.training.run import RunFacts, existing_run_folder, run_facts
from sightline.training.trained_on import TrainedOn
from sightline.verbs.labels import as_learned, require_kind, require_usable, with_target_fields
from sightline.verbs.opening import ClassesGiven, opened, opened_again
from sightline.verbs.parts import HeldOut, Learnt, learnt_and_held_out
from sightline.verbs.torch_data import TorchData

log = logging.getLogger("sightline")


@dataclass(frozen=True)
class Prepared:
    """A training that can begin.

    Attributes:
        task: of the model.
        model: made for the data, or the caller's own.
        train: images to train on, with the targets that the model learns from.
        validation: images to validate on; None for a training without validation.
        recipe: all settings of the run.
        transform: augmentation of the training images.
        same_images: whether the images are the same in every epoch: there is no augmentation.
        trained_on: the record of these images, which is saved with the run and with the model.
        folder: of the run to resume; None for a new run.
        said: what was decided about the data, in sentences.
    """

    task: Task
    model: Model
    train: Learnt
    validation: HeldOut
    recipe: Recipe
    transform: Callable[..., Any]
    same_images: bool
    trained_on: TrainedOn
    folder: Path | None = None
    said: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        held_out = 0 if self.validation is None else len(self.validation)
        return f"{len(self.train)} images to train on, {held_out} to validate on; {self.train.classes!r}"


def prepare(
    model: nn.Module | str | None = None,
    data: Any = None,
    validation: Any = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    numbers: Mapping[str, Any] | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: bool = False,
    checked: bool = False,
    transform: Callable[..., Any] | None = None,
    source: str = "train(…)",
) -> Prepared:
    """Open, divide and check the data of a training, and make its model and recipe. Nothing is written.

    `sightline.train` and the command line call it with the same words, and so train the same model on the same images.

    Args:
        model, data, validation, weights, arguments, classes, opening, recipe, name, runs, resume, checked, transform:
            as for `sightline.train`.
        numbers: settings of the recipe to change, such as {"epochs": 12}.
        source: where these come from, for messages.

    Raises:
        InputError: as for `sightline.train`.
    """
    if recipe is not None and not isinstance(recipe, Recipe):
        raise InputError(f"recipe is {recipe!r}, but it must be a Recipe; read a file with Recipe.from_yaml(path)")
    if resume and name is None:
        raise InputError("to resume a run give its name, such as name='run1'")
    numbers = dict(numbers or {})
    folder = existing_run_folder(Path(runs) / name) if resume and name else None
    begun = None if folder is None else run_facts(folder)
    before = None if begun is None else begun.trained_on
    if folder is not None and recipe is None:
        recipe = Recipe.from_yaml(folder / "recipe.yaml")
    seed = (recipe.changed(**numbers) if recipe else Recipe.from_dict(numbers, source)).seed

    named = data is not None
    if isinstance(model, nn.Module):
        if weights is not None or arguments is not None or classes is not None:
            raise InputError(
                "weights, arguments and classes belong to a model given by its name, but a model was given; give them "
                "to create_model"
            )
        model = as_model(model)
        names, channels = model.classes or None, model.in_channels
        data = _opened(data, opening, None, names, channels, folder, before)
        data = as_learned(data, model)
    else:
        model, arguments = _named(model, arguments, begun)
        channels = arguments.get("in_channels", 3)
        data = _opened(data, opening, classes, None, channels, folder, before)
        model, data = _made(model, data, weights, arguments, seed)
        names = data.classes
    if isinstance(data, Dataset) and names is not None:
        names.require_same(data.classes, "the model", "the training set")
    recipe = recipe.changed(**numbers) if recipe else recipe_for(model, numbers, source)
    task = task_of(model, data.kind)
    require_metric(recipe.keep, task.headline)
    augmentation = transform or recipes.named(recipe.augmentation)

    if validation is not None:
        validation = opened(validation, classes=classes, names=names, channels=channels)
        validation = task.labels.prepare(validation)
    said: list[str] = []
    train, held_out = learnt_and_held_out(data, validation, recipe.seed, before, said, named)
    for part, title in ((train, "the training set"), (held_out, "the validation set")):
        require_kind(task, part, title)
    for part, title in () if checked else ((train, "training"), (held_out, "validation")):
        for piece in part.parts if isinstance(part, JointData) else (part,):
            require_usable(piece, title)
    train, held_out = with_target_fields(model, train), with_target_fields(model, held_out)
    now = trained_on.record(train, held_out, model)
    for sentence in trained_on.changes(before, now):
        log.warning("%s; the run goes on with them as they are now", sentence)
    same_images = transform is None and recipe.augmentation == "none"
    known = trained_on.resumed(before, now)
    return Prepared(task, model, train, held_out, recipe, augmentation, same_images, known, folder, said)


def _opened(
    data: Any,
    opening: Mapping[str, Any] | None,
    classes: ClassesGiven | None,
    names: Classes | None,
    channels: int,
    folder: Path | None,
    before: TrainedOn | None,
) -> Any:
    """The data that was given; where none was, that of the run to resume."""
    if data is None and folder is not None and not any(value is not None for value in (opening or {}).values()):
        return opened_again(before, str(folder), classes, channels)
    if data is None:
        raise InputError("train needs data: a folder of images and labels, a label file, or in Python a dataset")
    found = opened(data, opening=opening, classes=classes, names=names, channels=channels)
    if not isinstance(found, Dataset | JointData | TorchData):
        raise InputError(f"the data is a {type(data).__name__}; give a path, a dataset, or (image, target) pairs")
    return found


def _named(
    name: str | None, arguments: Mapping[str, Any] | None, begun: RunFacts | None
) -> tuple[str | None, dict[str, Any]]:
    """The model's name, where it is known before the data is, and all arguments of its builder.

    A run that is resumed without a name goes on with its own model; `arguments` change its own ones.
    """
    from sightline.models.arguments import with_image_size, with_settings
    from sightline.models.catalog import find

    if name is not None and not isinstance(name, str):
        raise InputError(f"the model is a {type(name).__name__}; give one of create_model or load, or a name")
    given = dict(arguments or {})
    if "classes" in given:
        raise InputError("classes is no argument of the model here: the classes are those of the data; leave it out")
    if name is None and begun is not None and begun.model is not None:
        name, entry = begun.model, find(begun.model)
        own = with_settings(entry, begun.arguments)
        given = own | with_settings(entry, with_image_size(entry, given), own)
    require_whole(
        "in_channels", given.get("in_channels", 3), 1, "channels", "give the number of channels of the images"
    )
    return name, given


def _made(
    name: str | None, data: Any, weights: str | Path | None, arguments: Mapping[str, Any], seed: int
) -> tuple[Model, Any]:
    """A model of the catalog for the classes of the data, and the data as it learns from it."""
    import torch

    from sightline.models.catalog import create_model, find

    name = name or task_for(data.kind).default_model or ""
    data = TASKS[find(name).task].labels.prepare(data)
    torch.manual_seed(seed)
    return create_model(name, data.classes, weights, **arguments), data


def recipe_for(model: Model, numbers: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of these numbers, and for the others of those that suit the model: its `recipe_defaults`, and its
    `finetune_defaults` where it starts from pretrained weights.

    Args:
        model: to be trained.
        numbers: the user's own.
        source: where they come from, for messages.
    """
    defaults = dict(model.recipe_defaults)
    if model.weights_given is not None or "trained_on" in model.metadata:
        defaults |= model.finetune_defaults
    if "optimizer" in numbers and numbers["optimizer"] != defaults.get("optimizer", "adamw"):
        defaults = {name: value for name, value in defaults.items() if name not in ("lr", "weight_decay")}
    if "minutes" in numbers:
        defaults.pop("epochs", None)
    return Recipe.from_dict({**defaults, **numbers}, source)


def require_name(model: str) -> None:
    """Refuse a path in the place of a model's name."""
    from sightline.models.catalog import find

    try:
        find(model)
    except InputError:
        if not Path(model).exists():
            raise
        raise InputError(
            f"the model is {model!r}, which is a path; train takes a model or its name first and the data second: "
            f"train('sightline_n', {model!r}); load({model!r}) makes a model of a saved one"
        ) from None
