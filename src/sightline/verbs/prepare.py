"""Prepare a training run in the same way for the command line and for Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sightline.data.dataset import Dataset
from sightline.data.joint import JointData
from sightline.data.torch_data import TorchData
from sightline.data.transforms import recipes
from sightline.errors import InputError
from sightline.models.catalog import find, is_known
from sightline.models.model import Model, as_model
from sightline.runtime.devices import require_device
from sightline.structures import Classes
from sightline.tasks import Task
from sightline.training import freezing, trained_on
from sightline.training.devices import agreed, require_trackers
from sightline.training.metrics_log import require_metric
from sightline.training.recipe import Recipe
from sightline.training.run import existing_run_folder, require_new_run, run_facts
from sightline.training.trained_on import TrainedOn
from sightline.verbs.labels import require_kind, require_usable, with_target_fields
from sightline.verbs.object_limit import beyond_limit
from sightline.verbs.opening import ClassesGiven, open_data, reopened
from sightline.verbs.parts import TrainingData, ValidationData, training_and_validation
from sightline.verbs.planning import Plan, plan_for
from sightline.verbs.starting import created, starts_pretrained, subject_of_model, subject_of_name
from sightline.words import counted, listed

log = logging.getLogger("sightline")


@dataclass(frozen=True)
class Prepared:
    """A training run that is ready to start.

    Attributes:
        task: the task of the model.
        model: created for the data, or given by the caller.
        train: the training images, with the targets that the model needs.
        validation: the validation images; None for a training run without validation.
        recipe: the settings of the run.
        transform: augmentation of the training images.
        same_images: True if the images are the same in every epoch, that is, without augmentation.
        trained_on: the record of these images, which is saved with the run and the model.
        folder: the folder of the run to resume; None for a new run.
        messages: how the data was divided, what the training starts from and what it chose, one sentence each.
        division: the first of them, on how the data was divided, which should be printed in any case.
    """

    task: Task
    model: Model
    train: TrainingData
    validation: ValidationData
    recipe: Recipe
    transform: Callable[..., Any]
    same_images: bool
    trained_on: TrainedOn
    folder: Path | None = None
    messages: list[str] = field(default_factory=list)
    division: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)

    def __str__(self) -> str:
        val_count = 0 if self.validation is None else len(self.validation)
        train, val = counted(len(self.train), "training image"), counted(val_count, "validation image")
        names = self.train.classes.names
        return f"{train}, {val}; {counted(len(names), 'class')}: {listed(names)}"


def prepare(
    model: nn.Module | str | None = None,
    data: Any = None,
    validation: Any = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: bool = False,
    checked: bool = False,
    transform: Callable[..., Any] | None = None,
    device: str | None = None,
    trackers: Sequence[Any] = (),
    division_seed: int | None = None,
    choose: bool = True,
    source: str = "train(…)",
) -> Prepared:
    """Open, divide and check the data of a training run, and create its model and recipe. Nothing is written.

    `sightline.train` and the command line both call this function, so that equal arguments train the same model on the
    same images.

    Args:
        model, data, validation, weights, arguments, classes, open_args, recipe, name, runs, resume, checked, transform,
            device, trackers: as for `sightline.train`.
        settings: settings of the recipe to change, such as {"epochs": 12}.
        division_seed: seed of the division of data without splits; by default the recipe's.
        choose: choose settings and arguments that are not given by the data and the budget; False for the defaults.
        source: where the settings come from, for messages.

    Returns:
        The training, to be passed to `train_prepared`.

    Raises:
        InputError: as for `sightline.train`.
    """
    recipe = Recipe.given(recipe)
    if resume and name is None:
        raise InputError("to resume a run give its name, such as name='run1'")
    settings = dict(settings or {})
    folder = existing_run_folder(Path(runs) / name) if resume and name else None
    begun = None if folder is None else run_facts(folder)
    before = None if begun is None else begun.trained_on
    if folder is not None and recipe is None:
        recipe = Recipe.from_yaml(folder / "recipe.yaml")
    stated = Recipe.stated(recipe, settings, source).to_dict()
    seed = stated["seed"]
    # what is wrong is said before the data is read and a step is measured
    if name is not None and not resume:
        require_new_run(runs, name)
    require_device(device)
    require_trackers(trackers)
    if transform is None:
        recipes.named(stated["augmentation"])

    messages: list[str] = []
    opened = partial(_opened, data, open_args, folder=folder, before=before)
    if isinstance(model, nn.Module):
        if weights is not None or arguments is not None or classes is not None:
            raise InputError(
                "weights, arguments and classes can be given only with the name of a model, but a model was given; "
                "pass them to create_model"
            )
        subject = subject_of_model(as_model(model), opened)
    else:
        subject = subject_of_name(model, arguments, weights, classes, begun, opened)
    task = subject.task
    if validation is not None:
        validation = open_data(validation, classes=classes, names=subject.names, channels=subject.channels)
        validation = task.labels.prepare(validation)
    divided_by = seed if division_seed is None else division_seed
    train, val_data = training_and_validation(
        subject.data, validation, divided_by, before, messages, named=data is not None
    )
    division = list(messages)
    _require_labels(task, train, val_data, checked)

    fixed = _fixed(stated, recipe, settings, transform)
    planned = partial(_planned, settings=fixed, train=train, validation=val_data, device=device)
    if isinstance(subject.model, Model):
        made, plan = subject.model, Plan()
        if recipe is None and folder is None and is_known(made.name):  # no argument is left to choose
            own = {name: argument.default for name, argument in find(made.name).arguments.items()} | made.arguments
            plan = planned(made.name, starts_pretrained(made), own)
    else:
        wanted = planned if choose and folder is None else None
        made, plan = created(subject, weights, begun, wanted, seed, train, messages)
    messages += [*(str(choice) for choice in plan.choices), *subject.hints]
    base = recipe_for(made, {}, source, plan.settings).augmentation
    recipe = recipe.changed(**settings) if recipe else recipe_for(made, settings, source, plan.settings)
    recipe = recipe.changed(augmentation=recipes.completed(recipe.augmentation, base))
    messages += freezing.described(made, recipe)
    messages += beyond_limit(made, train)
    require_metric(recipe.keep, task.headline)
    augmentation = transform or recipes.named(recipe.augmentation, recipe.mirror)
    train, val_data = with_target_fields(made, train), with_target_fields(made, val_data)
    now = trained_on.record(train, val_data, made)
    for sentence in trained_on.changes(before, now):
        log.warning("%s; the run continues with the current ones", sentence)
    same_images = transform is None and recipe.augmentation == "none"
    known = trained_on.resumed(before, now)
    return Prepared(
        task, made, train, val_data, recipe, augmentation, same_images, known, folder, messages, division, plan
    )


def _opened(
    data: Any,
    open_args: Mapping[str, Any] | None,
    classes: ClassesGiven | None,
    names: Classes | None,
    channels: int,
    *,
    folder: Path | None,
    before: TrainedOn | None,
) -> Any:
    """Open the given data or, if none was given, that of the run to resume."""
    if data is None and folder is not None and not any(value is not None for value in (open_args or {}).values()):
        return reopened(before, str(folder), classes, channels)
    if data is None:
        raise InputError("train needs data: a folder of images and labels, a label file, or in Python a dataset")
    found = open_data(data, open_args=open_args, classes=classes, names=names, channels=channels)
    if not isinstance(found, Dataset | JointData | TorchData):
        raise InputError(f"data is a {type(data).__name__}; give a path, a dataset, or (image, target) pairs")
    return found


def _require_labels(task: Task, train: Any, validation: Any, checked: bool) -> None:
    """Check that the labels are of the task's kind and, unless they have been `checked`, that each can be used.

    Raises:
        InputError: the first label that is not.
    """
    for part, title in ((train, "the training set"), (validation, "the validation set")):
        require_kind(task, part, title)
    for part, title in () if checked else ((train, "training"), (validation, "validation")):
        for piece in part.parts if isinstance(part, JointData) else (part,):
            require_usable(piece, title)


def _fixed(
    stated: Mapping[str, Any], recipe: Recipe | None, settings: Mapping[str, Any], transform: Callable[..., Any] | None
) -> dict[str, Any]:
    """The settings of the recipe that the plan must keep: all of a given recipe, otherwise those that were named."""
    fixed = {name: value for name, value in stated.items() if recipe is not None or name in settings}
    if recipes.completed(stated["augmentation"], "none") != stated["augmentation"]:
        fixed.pop("augmentation", None)  # policies, which are added to what is chosen
    if transform is not None:
        fixed |= {"augmentation": None, "mirror": None}  # they have no effect
    return fixed


def _planned(
    name: str,
    pretrained: bool,
    arguments: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    train: TrainingData,
    validation: ValidationData,
    device: str | None,
) -> Plan:
    """The plan of a training run whose `arguments` of the model and `settings` of the recipe are fixed.

    Of several processes one measures, so that all train the same model.
    """
    fixed = {**arguments, **settings}
    measured = partial(plan_for, find(name), train, validation, fixed, pretrained=pretrained, device=device)
    return agreed(device, partial(measured, minutes=fixed.get("minutes"), epochs=fixed.get("epochs")))


def recipe_for(
    model: Model, settings: Mapping[str, Any], source: str, planned: Mapping[str, Any] | None = None
) -> Recipe:
    """Return a recipe with the given settings; all others are those planned for the data, or the model's defaults.

    The defaults are `model.recipe_defaults` and, if the model has pretrained weights, also `model.finetune_defaults`.

    Args:
        model: the model to train.
        settings: the user's settings.
        source: where they come from, for messages.
        planned: settings chosen by the data and the budget.
    """
    defaults = dict(model.recipe_defaults)
    if starts_pretrained(model):
        defaults |= model.finetune_defaults
    defaults |= planned or {}
    if "optimizer" in settings and settings["optimizer"] != defaults.get("optimizer", "adamw"):
        defaults = {name: value for name, value in defaults.items() if name not in ("lr", "weight_decay")}
    if "minutes" in settings:
        defaults.pop("epochs", None)
    if "layer_decay" in settings:  # it says how fast the backbone learns
        defaults.pop("backbone_lr_factor", None)
    return Recipe.from_dict({**defaults, **settings}, source)


def require_name(model: str) -> None:
    """Raise an error if a path was given as the model's name."""
    try:
        find(model)
    except InputError:
        if not Path(model).exists():
            raise
        raise InputError(
            f"the model is {model!r}, which is a path; train takes a model or its name first and the data second: "
            f"train('sightline_n', {model!r}); to use a saved model, give load({model!r})"
        ) from None
