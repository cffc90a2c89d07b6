"""The verb `train`: the run with its record, and what is measured and reported at its end."""

from __future__ import annotations

import inspect
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
from sightline.training import devices, trained_on
from sightline.training.metrics_log import replacing
from sightline.training.recipe import Recipe
from sightline.training.run import Run, new_run_folder
from sightline.training.trained_on import TrainedOn
from sightline.verbs.held_out import BEST_EPOCH
from sightline.verbs.opening import ClassesGiven
from sightline.verbs.prepare import Prepared, prepare, require_name
from sightline.verbs.report import write_report

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset
    from sightline.evaluation.result import Result
    from sightline.tasks import Task

THRESHOLD = "threshold"
"""The entry of a model's metadata with the score that `predict` leaves objects below out by."""


def train(
    model: nn.Module | str | None = None,
    data: Dataset | JointData | str | Path | Any = None,
    validation: Dataset | str | Path | Any = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
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
    **numbers: Any,
) -> Run:
    """Train a model on a dataset, validate it each epoch, and write everything of the run to a folder.

    The run, and the model's file, remember which images were trained on, so that `evaluate` measures others.

    Args:
        model: of `create_model` or `load`, which is trained in place; or the name of a model, which is made for the
            data's classes. By default one that suits the kind of labels, or with `resume` the run's model.
        data: the training images: a dataset, its path, a PyTorch dataset of (image, target) pairs
            (`sightline.verbs.torch_data`); for YOLO9000 also boxed and labelled images together
            (`sightline.data.joint`). Of a whole dataset, or a path, the split "train" is taken. One in files without
            splits is divided by the recipe's seed, as the command line does: 80 % to train on, 10 % to validate on,
            10 % kept to test on. Of `data[:]`, and of data in memory, all images are trained on. With `resume` it may
            be left out.
        validation: images never trained on, by which the best epoch is chosen; by default the split "val" of such data.
        weights: for a model given by its name: "imagenet", "coco" or a file; see `create_model`.
        arguments: for a model given by its name: its builder's, such as {"image_size": 320}.
        classes: for a model given by its name: the new names of the data's classes by their old ones (None leaves a
            class out), or names of the classes to keep; for a PyTorch dataset that does not name its classes, their
            names.
        opening: for data given by its path: further arguments of `open_dataset`, such as {"format": "coco"}.
        recipe: all numbers of the run; by default those that suit the model (`recipe_for`).
        name: the run's folder in `runs`; by default run1, run2, …
        runs: folder of all runs.
        resume: go on with the run `name` where it stopped.
        checked: the labels have been checked already; otherwise their errors are looked for first.
        report: write report.html and evaluation.json at the end.
        progress: show progress on the error output.
        trackers: names of experiment trackers that accelerate knows, such as "tensorboard".
        device: "cpu", "cuda", "mps"; by default the best there is.
        transform: augmentation in place of the one the recipe names.
        on_epoch: called with the metrics of each epoch.
        alternating: the four steps of Faster R-CNN's paper, each of the recipe's epochs or a quarter of its minutes,
            instead of all losses at once; each has a folder in the run's, which holds the last one's files.
        numbers: of the recipe, to change: epochs=12, batch_size=4, minutes=10, …

    Returns:
        The run; `run.model` has the weights of the best epoch.

    Raises:
        InputError: a number, the data, or the folder cannot be used; the sentence says why and what to do.
    """
    own = [name for name in inspect.signature(train).parameters if name != "numbers"]
    require_known("train", numbers, [*own, *Recipe.__dataclass_fields__])
    if isinstance(model, str):
        require_name(model)
    prepared = prepare(
        model,
        data,
        validation,
        weights=weights,
        arguments=arguments,
        classes=classes,
        opening=opening,
        recipe=recipe,
        numbers=numbers,
        name=name,
        runs=runs,
        resume=resume,
        checked=checked,
        transform=transform,
    )
    for sentence in prepared.said if progress else ():
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
    """Train what `prepare` has made ready; arguments and errors as for `sightline.train`."""
    from sightline.evaluation import evaluate as measure
    from sightline.training.alternating import train_in_steps
    from sightline.training.loop import fit

    model, data, validation, recipe = prepared.model, prepared.train, prepared.validation, prepared.recipe
    task = prepared.task
    resume, known = prepared.folder is not None, prepared.trained_on
    if resume and alternating:
        raise InputError("a training in alternating steps cannot be resumed; train anew, or without alternating")
    model.metadata = {trained_on.KEY: known.to_dict()}
    folder = prepared.folder or devices.agreed(device, lambda: new_run_folder(runs, name))
    model.before_training(folder, same_images=prepared.same_images)

    def validate(current: Model) -> dict[str, Any]:
        # no bar of its own: the run's says that it validates
        result = measure(current, validation, task.measure, progress=False, keep_predictions=False)
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
        "facts": facts_of(model, known),
    }
    try:
        if alternating:
            run = train_in_steps(model, data, recipe, folder, **common)
        else:
            run = fit(model, data, recipe, folder, resume=resume, **common)
    except (Exception, KeyboardInterrupt):
        if not resume and devices.is_main():
            remove_unless_begun(folder)
        raise
    _take_metadata(run)
    if not devices.is_main():
        return run
    result = None
    if not run.interrupted and run.model.after_training(data, run.folder, progress):
        if validation is not None and measurable:
            result = measure(run.model, validation, task.measure, progress=progress)
        _save_anew(run, {} if result is None else headline_of(result, task), result)
    if report and run.metrics:
        if result is None and validation is not None and measurable:
            result = measure(run.model, validation, task.measure, progress=progress)
        if result is not None:
            result.measured = {"data": known.path, "split": "val"}
            result.notes.append(BEST_EPOCH)
        shown = data.boxed if isinstance(data, JointData) else data
        write_report(run.folder, result, data=validation if measurable else shown, model=run.model)
    return run


def remember_threshold(model: Model, result: Result) -> None:
    """Keep the score that predictions should have with the model, such as that of the highest F1."""
    metadata: dict[str, Any] = {**model.metadata}
    metadata.pop(THRESHOLD, None)
    if result.threshold is not None:
        metadata[THRESHOLD] = round(result.threshold, 6)
    model.metadata = metadata


def facts_of(model: Model, known: TrainedOn) -> dict[str, Any]:
    """What the run's files say beside its numbers: data, model, arguments, weights, classes."""
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
    """Give the run's model what was saved with the weights it has."""
    from sightline.models.saving import metadata_of

    for name in ("best", "last"):
        file = run.folder / f"{name}.safetensors"
        if file.is_file() and (name == "last" or run.best):
            run.model.metadata = metadata_of(file)
            return


def remove_unless_begun(folder: Path) -> None:
    """A run without a finished epoch, in a step of it either, is no more than its own files: its name is free.

    Not so where it left the batch that ended it, for that is to be looked at.
    """
    from sightline.training.guard import BATCH_FILE

    if not any(file.stat().st_size for file in folder.rglob("metrics.jsonl")) and not any(folder.rglob(BATCH_FILE)):
        shutil.rmtree(folder, ignore_errors=True)


def headline_of(result: Result, task: Task) -> dict[str, float | None]:
    """The metrics of a result that are recorded after each epoch."""
    return {name: result.metrics[name] for name in task.headline if name in result.headline}


def _save_anew(run: Run, headline: Mapping[str, float | None], result: Result | None) -> None:
    """The run's models once more, after stages that changed them, with what they now reach."""
    from sightline.models.saving import save

    reached = {f"val/{name}": value for name, value in headline.items()}
    if result is not None:
        remember_threshold(run.model, result)
    for name in ("best", "last"):
        with replacing(run.folder / f"{name}.safetensors") as path:
            save(run.model, path, {"metrics": reached, "recipe": run.recipe.to_dict()})
