"""A whole training: the run with its record, and what is measured and reported at its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.joint import JointData
from sightline.errors import InputError
from sightline.evaluation.held_out import BEST_EPOCH
from sightline.models.model import Model
from sightline.training import devices, trained_on
from sightline.training.metrics_log import replacing
from sightline.training.run import Run, new_run_folder
from sightline.training.trained_on import TrainedOn
from sightline.verbs.prepare import Prepared
from sightline.verbs.report import write_report

if TYPE_CHECKING:
    from sightline.evaluation.result import Result
    from sightline.tasks import Task

THRESHOLD = "threshold"
"""The entry of a model's metadata with the score that `predict` leaves objects below out by."""


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
