"""Prepare a training run in the same way for the command line and for Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.dataset import Dataset
from sightline.data.joint import JointData
from sightline.data.stored import optional_fields
from sightline.data.torch_data import TorchData
from sightline.data.transforms import recipes
from sightline.errors import InputError
from sightline.models.arguments import OLD_NAMES, parameters, with_image_size, with_settings
from sightline.models.catalog import find, is_known
from sightline.models.creation import NO_WEIGHTS, checked_arguments, create_model, installed_start
from sightline.models.model import Model, as_model
from sightline.runtime.devices import require_device
from sightline.runtime.values import require_whole
from sightline.structures import Classes
from sightline.tasks import TASKS, Task, task_for, task_of
from sightline.training import freezing, trained_on
from sightline.training.devices import agreed, require_trackers
from sightline.training.metrics_log import require_metric
from sightline.training.recipe import Recipe
from sightline.training.run import RunFacts, existing_run_folder, require_new_run, run_facts
from sightline.training.trained_on import TrainedOn
from sightline.verbs.labels import for_task, require_kind, require_usable, with_target_fields
from sightline.verbs.object_limit import beyond_limit
from sightline.verbs.opening import ClassesGiven, open_data, reopened
from sightline.verbs.parts import TrainingData, ValidationData, training_and_validation
from sightline.verbs.planning import Plan, plan_for
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
    hints: list[str] = []
    named = data is not None
    opened = partial(_opened, data, open_args, folder=folder, before=before)
    if isinstance(model, nn.Module):
        if weights is not None or arguments is not None or classes is not None:
            raise InputError(
                "weights, arguments and classes can be given only with the name of a model, but a model was given; "
                "pass them to create_model"
            )
        model, arguments = as_model(model), None
        names, channels = model.classes or None, model.in_channels
        data = for_task(opened(None, names, channels), model)
        task = task_of(model, data.kind)
    else:
        model, arguments = _named(model, arguments, weights, begun)
        channels = arguments.get("in_channels", 3)
        data = opened(classes, None, channels)
        if model is None:
            model = task_for(data.kind, getattr(data, "about", "")).default_model or ""
            arguments = checked_arguments(model, arguments, weights)
            hints = _models_for_other_fields(data)
        task = TASKS[find(model).task]
        data = task.labels.prepare(data)
        names = data.classes
    if isinstance(data, Dataset) and names is not None:
        anew = "; to train a model of the new classes from this one's weights, give its name and weights=FILE or RUN"
        names.require_same(data.classes, "the model", "the training set", anew)
    if validation is not None:
        validation = open_data(validation, classes=classes, names=names, channels=channels)
        validation = task.labels.prepare(validation)
    divided_by = seed if division_seed is None else division_seed
    train, val_data = training_and_validation(data, validation, divided_by, before, messages, named)
    division = list(messages)
    _require_labels(task, train, val_data, checked)

    fixed = _fixed(stated, recipe, settings, transform)
    planned = partial(_planned, train=train, validation=val_data, device=device)
    if isinstance(model, str):
        if folder is None:
            arguments = _from_data(task, model, arguments or {}, train, messages)
        weights = _start(model, weights, arguments or {}, begun, messages)
        own = checked_arguments(model, arguments or {})
        pretrained = weights not in (None, NO_WEIGHTS)
        plan = planned(model, pretrained, own | fixed) if choose and folder is None else Plan()
        torch.manual_seed(seed)
        with nullcontext() if folder is None else _without_load_report():  # the run's own weights replace them
            model = create_model(model, data.classes, weights, **{**plan.arguments, **(arguments or {})})
    elif recipe is None and is_known(model.name) and folder is None:
        # the model exists already, so that no argument is left to choose
        own = {name: argument.default for name, argument in find(model.name).arguments.items()} | model.arguments
        plan = planned(model.name, _starts_pretrained(model), own | fixed)
    else:
        plan = Plan()
    messages += [*(str(choice) for choice in plan.choices), *hints]
    base = recipe_for(model, {}, source, plan.settings).augmentation
    recipe = recipe.changed(**settings) if recipe else recipe_for(model, settings, source, plan.settings)
    recipe = recipe.changed(augmentation=recipes.completed(recipe.augmentation, base))
    messages += freezing.described(model, recipe)
    messages += beyond_limit(model, train)
    require_metric(recipe.keep, task.headline)
    augmentation = transform or recipes.named(recipe.augmentation, recipe.mirror)
    train, val_data = with_target_fields(model, train), with_target_fields(model, val_data)
    now = trained_on.record(train, val_data, model)
    for sentence in trained_on.changes(before, now):
        log.warning("%s; the run continues with the current ones", sentence)
    same_images = transform is None and recipe.augmentation == "none"
    known = trained_on.resumed(before, now)
    return Prepared(
        task, model, train, val_data, recipe, augmentation, same_images, known, folder, messages, division, plan
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


def _named(
    name: str | None, arguments: Mapping[str, Any] | None, weights: str | Path | None, begun: RunFacts | None
) -> tuple[str | None, dict[str, Any]]:
    """Return the model's name, if it is known before the data is opened, and all arguments of its builder.

    A run that is resumed without a model's name continues with its own model; `arguments` override its arguments.
    """
    if name is not None and not isinstance(name, str):
        raise InputError(f"the model is a {type(name).__name__}; give one of create_model or load, or a name")
    given = dict(arguments or {})
    if "classes" in given:
        raise InputError("classes cannot be a model argument here: the classes are those of the data; leave it out")
    if name is None and begun is not None and begun.model is not None:
        name, entry = begun.model, find(begun.model)
        own = with_settings(entry, begun.arguments)
        given = own | with_settings(entry, with_image_size(entry, given), own)
    elif name is not None:
        given = checked_arguments(name, given, weights)
    require_whole(
        "in_channels", given.get("in_channels", 3), 1, "channels", "give the number of channels of the images"
    )
    return name, given


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


def _models_for_other_fields(data: Any) -> list[str]:
    """Sentences that name the models for what the labels have besides boxes, which the default model does not learn."""
    fields = optional_fields(data.columns) if isinstance(data, Dataset) else ()
    known = {"masks": "sightline_lite0_mask", "keypoints": "sightline_lite0_pose"}
    return [
        f"the labels also have {field}, which the default model does not learn; the model {model} does"
        for field, model in known.items()
        if field in fields and not data.about
    ]


def _from_data(
    task: Task, name: str, arguments: Mapping[str, Any], train: Any, messages: list[str]
) -> Mapping[str, Any]:
    """The arguments with those that the data determines, if the model takes them and they are not given."""
    taken = parameters(find(name))
    given = {OLD_NAMES.get(own, own) for own in arguments}
    found = {own: value for own, value in task.labels.arguments(train).items() if own in taken and own not in given}
    messages += [f"{own}: {_shown(value)}, as in the data" for own, value in found.items()]
    return {**found, **arguments}


def _shown(value: Any) -> str:
    """A value for a sentence; a long one is replaced by its length."""
    text = str(value)
    return f"{len(value)} values" if len(text) > 60 and isinstance(value, Sequence | Mapping) else text


@contextmanager
def _without_load_report() -> Iterator[None]:
    """No report of the weights that a model is created with: neither what was loaded nor what was left out."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


_INSTALLED = {"imagenet": "ImageNet", "clutter": "clutter"}
"""Names, for messages, of the data whose weights a training run starts from by default."""


def _start(
    name: str,
    weights: str | Path | None,
    arguments: Mapping[str, Any],
    begun: RunFacts | None,
    messages: list[str],
) -> str | Path | None:
    """The weights that a training run of a model starts from.

    If none are given, these are installed ones (`installed_start`), which is added to `messages`. A resumed run does so
    only if it did so at its beginning.
    """
    if weights is not None or (begun is not None and begun.weights not in _INSTALLED):
        return weights
    start = installed_start(name, arguments)
    if start is None or (begun is not None and begun.weights != start.data):
        return None
    if begun is None:
        messages.append(
            f"{name} starts from the installed {_INSTALLED[start.data]} weights of {start.network} ({start.metric}); "
            "weights 'none' starts from random numbers"
        )
    return start.data


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
    fixed: Mapping[str, Any],
    *,
    train: TrainingData,
    validation: ValidationData,
    device: str | None,
) -> Plan:
    """The plan of a training run with the settings and arguments that are already fixed.

    Of several processes one measures, so that all train the same model.
    """
    measured = partial(plan_for, find(name), train, validation, fixed, pretrained=pretrained, device=device)
    return agreed(device, partial(measured, minutes=fixed.get("minutes"), epochs=fixed.get("epochs")))


def _starts_pretrained(model: Model) -> bool:
    return model.weights_given is not None or "trained_on" in model.metadata


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
    if _starts_pretrained(model):
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
