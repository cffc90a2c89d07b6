"""Train a model: `train`, with its record of the data, its final evaluation and its report."""

from __future__ import annotations

import inspect
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.data.joint import JointData
from sightline.errors import InputError
from sightline.keywords import require_known
from sightline.models.model import Model
from sightline.runtime.processes import is_main
from sightline.training import devices, trained_on
from sightline.training.metrics_log import atomic_write
from sightline.training.recipe import Recipe
from sightline.training.run import Run, new_run_folder
from sightline.training.trained_on import TrainedOn
from sightline.verbs.evaluate import saved_threshold
from sightline.verbs.held_out import chosen_on
from sightline.verbs.opening import ClassesGiven
from sightline.verbs.prepare import Prepared, prepare, require_name
from sightline.verbs.report import write_report

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset
    from sightline.evaluation.result import Result
    from sightline.tasks import Task

THRESHOLD = "threshold"
"""The entry of a model's metadata with the minimum score that `predict` uses for objects."""


def train(
    model: nn.Module | str | None = None,
    data: Dataset | JointData | str | Path | Any = None,
    validation: Dataset | str | Path | Any = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    resume: bool = False,
    checked: bool = False,
    report: bool = True,
    progress: bool = True,
    trackers: Sequence[Any] = (),
    device: str | None = None,
    transform: Callable[..., Any] | None = None,
    on_epoch: Callable[[Mapping[str, Any]], object] | None = None,
    alternating: bool = False,
    **settings: Any,
) -> Run:
    """Train a model on a dataset, validate it after each epoch, and write all results to a folder.

    The run and the model's file record which images were used for training, so that `evaluate` uses others.

    Args:
        model: a model of `create_model` or `load`, which is trained in place; or the name of a model, which is created
            for the data's classes. By default a model for the kind of labels or, with `resume`, the run's model.
        data: the training images: a dataset, its path, or a PyTorch dataset of (image, target) pairs
            (`sightline.data.torch_data`); for YOLO9000 also boxed and labelled images together
            (`sightline.data.joint`). If a dataset or path has a split "train", that split is used. Files without splits
            are divided by the recipe's seed, as on the command line: 80 % for training, 10 % for validation, 10 % set
            aside for testing. For `data[:]` and data in memory, all images are used for training. Optional with
            `resume`.
        validation: images that are never trained on and by which the best epoch is chosen; by default the split "val"
            of the data.
        weights: if `model` is a name: "imagenet", "coco", "none" (random weights) or a file; see `create_model`. By
            default "imagenet" if those weights of the model or of its backbone are installed in a Python package (no
            download), "clutter" for `sightline_n`, otherwise "none".
        arguments: if `model` is a name: arguments of its builder, such as {"image_size": 320}.
        classes: if `model` is a name: either new names of the data's classes by their old ones (None removes a class),
            or the names of the classes to keep; for a PyTorch dataset that does not name its classes, their names.
        open_args: if `data` is a path: additional arguments of `open_dataset`, such as {"format": "coco"}.
        recipe: the settings of the run, or the path of a recipe.yaml; by default those of the model
            (`model.recipe_defaults`).
        name: the name of the run's folder in `runs`; by default the first free one of run1, run2, …
        runs: the folder of all runs.
        resume: continue the run `name` where it stopped.
        checked: True if the labels have already been checked; otherwise they are checked for errors first.
        report: write report.html and evaluation.json at the end.
        progress: show progress on stderr.
        trackers: names of experiment trackers known to accelerate, such as "tensorboard".
        device: "cpu", "cuda" or "mps"; by default the best available device.
        transform: augmentation to use in place of the recipe's.
        on_epoch: called with the metrics of each epoch.
        alternating: train Faster R-CNN in the four steps of its paper instead of jointly. Each step takes the recipe's
            epochs, or a quarter of its minutes, and has a folder inside the run's; the run's folder gets the files of
            the last step.
        settings: settings of the recipe to change: epochs=12, batch_size=4, minutes=10, …

    Returns:
        The run; `run.model` has the weights of the best epoch.

    Raises:
        InputError: a setting, the data or the folder cannot be used; the message says why and what to do.
        NonFiniteLoss: a loss became infinite or NaN; the batch is saved in the run's folder.
    """
    own = [name for name in inspect.signature(train).parameters if name != "settings"]
    require_known("train", settings, [*own, *Recipe.__dataclass_fields__])
    if isinstance(model, str):
        require_name(model)
    prepared = prepare(
        model,
        data,
        validation,
        weights=weights,
        arguments=arguments,
        classes=classes,
        open_args=open_args,
        recipe=recipe,
        settings=settings,
        name=name,
        runs=runs,
        resume=resume,
        checked=checked,
        transform=transform,
        device=device,
        trackers=trackers,
    )
    for sentence in prepared.messages if progress else ():
        print(sentence, file=sys.stderr)
    return train_prepared(
        prepared,
        name=name,
        runs=runs,
        report=report,
        progress=progress,
        trackers=trackers,
        device=device,
        on_epoch=on_epoch,
        alternating=alternating,
    )


def train_prepared(
    prepared: Prepared,
    *,
    name: str | None = None,
    runs: str | Path = "runs",
    report: bool = True,
    progress: bool = True,
    trackers: Sequence[Any] = (),
    device: str | None = None,
    on_epoch: Callable[[Mapping[str, Any]], object] | None = None,
    alternating: bool = False,
) -> Run:
    """Run the training prepared by `prepare`; arguments and errors as for `sightline.train`."""
    from sightline.evaluation import evaluate as measure
    from sightline.training.alternating import train_in_steps
    from sightline.training.loop import fit

    model, data, validation, recipe = prepared.model, prepared.train, prepared.validation, prepared.recipe
    task = prepared.task
    resume, known = prepared.folder is not None, prepared.trained_on
    if resume and alternating:
        raise InputError(
            "a training run in alternating steps cannot be resumed; start it again, or train without alternating steps"
        )
    model.metadata = {trained_on.KEY: known.to_dict()}
    folder = prepared.folder or devices.agreed(device, lambda: new_run_folder(runs, name))
    model.before_training(folder, same_images=prepared.same_images)

    def validate(current: Model) -> dict[str, Any]:
        # without a progress bar: the run's own bar shows that it validates
        result = measure(current, validation, task.measure, progress=False, keep_predictions=False, shared=True)
        remember_threshold(current, result)  # saved with the epoch's weights
        return headline_of(result, task)

    measurable = validation is not None and validation.kind == task.labels.kind
    common: dict[str, Any] = {
        "validation": validation,
        "validate": validate if measurable else None,
        "lower_is_better": task.lower_is_better,
        "quick_model": task.quick_model,
        "transform": prepared.transform,
        "trackers": trackers,
        "progress": progress,
        "device": device,
        "on_epoch": on_epoch,
        "facts": facts_of(model, known) | ({"choices": prepared.plan.to_dict()} if prepared.plan.choices else {}),
    }
    try:
        if alternating:
            run = train_in_steps(model, data, recipe, folder, **common)
        else:
            run = fit(model, data, recipe, folder, resume=resume, **common)
    except (Exception, KeyboardInterrupt):
        if not resume and is_main():
            remove_unless_begun(folder)
        raise
    _take_metadata(run)
    if not is_main():
        return run
    result = None
    if not run.interrupted and run.model.after_training(data, run.folder, progress):
        if validation is not None and measurable:
            result = measure(run.model, validation, task.measure, progress=progress)
        _save_again(run, {} if result is None else headline_of(result, task), result)
    if report and run.metrics:
        if result is None and validation is not None and measurable:
            result = measure(run.model, validation, task.measure, progress=progress)
        if result is not None:
            result.measured = {"data": known.path, "split": "val", **saved_threshold(run.model)}
            result.notes += chosen_on(run.model)
        shown = data.boxed if isinstance(data, JointData) else data
        write_report(run.folder, result, data=validation if measurable else shown, model=run.model)
    return run


def remember_threshold(model: Model, result: Result) -> None:
    """Save the minimum score for predictions in the model's metadata, such as that of the highest F1."""
    metadata: dict[str, Any] = {**model.metadata}
    metadata.pop(THRESHOLD, None)
    if result.threshold is not None:
        metadata[THRESHOLD] = math.floor(result.threshold * 1e6) / 1e6  # not above the score of a detection it keeps
    model.metadata = metadata


def facts_of(model: Model, known: TrainedOn) -> dict[str, Any]:
    """Facts for the run's files besides its settings: data, model, arguments, weights, classes."""
    from sightline.models.saving import plain_arguments

    return {
        "data": known.path,
        "format": known.format,
        "opened": dict(known.opened),
        "division": dict(known.division),
        "images": {name: len(keys) for name, keys in known.parts.items()},
        "model": model.title,
        "arguments": plain_arguments(model),
        "weights": model.weights_given,
        "classes": list(model.classes),
    }


def _take_metadata(run: Run) -> None:
    """Give the run's model the metadata that was saved with its weights."""
    from sightline.models.saving import metadata_of

    for name in ("best", "last"):
        file = run.folder / f"{name}.safetensors"
        if file.is_file() and (name == "last" or run.best):
            run.model.metadata = metadata_of(file)
            return


def remove_unless_begun(folder: Path) -> None:
    """Remove the folder of a run that finished no epoch, so that its name is free again.

    The folder is kept if it has the batch of a loss that was not finite, because the user should look at it.
    """
    from sightline.training.guard import BATCH_FILE

    if not any(file.stat().st_size for file in folder.rglob("metrics.jsonl")) and not any(folder.rglob(BATCH_FILE)):
        shutil.rmtree(folder, ignore_errors=True)


def headline_of(result: Result, task: Task) -> dict[str, float | None]:
    """The metrics of a result that are recorded after each epoch."""
    return {name: result.metrics[name] for name in task.headline if name in result.headline}


def _save_again(run: Run, headline: Mapping[str, float | None], result: Result | None) -> None:
    """Save the run's models again after a stage that changed them, with their new metrics."""
    from sightline.models.saving import save

    reached = {f"val/{name}": value for name, value in headline.items()}
    if result is not None:
        remember_threshold(run.model, result)
    for name in ("best", "last"):
        with atomic_write(run.folder / f"{name}.safetensors") as path:
            save(run.model, path, {"metrics": reached, "recipe": run.recipe.to_dict()})
