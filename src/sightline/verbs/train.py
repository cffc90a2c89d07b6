"""A whole training: data and model made ready, the run with its record, what is measured and reported at the end."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.data.dataset import Dataset
from sightline.data.division import Parts, parts_of
from sightline.data.joint import JointData
from sightline.errors import InputError
from sightline.evaluation.held_out import BEST_EPOCH
from sightline.structures import Classes
from sightline.tasks import TASKS, task_of
from sightline.training import devices, trained_on
from sightline.training.metrics_log import replacing, require_metric
from sightline.training.recipe import Recipe
from sightline.training.run import Run, existing_run_folder, new_run_folder, run_facts
from sightline.training.trained_on import TrainedOn
from sightline.verbs.torch_data import TorchData, is_torch_data
from sightline.words import are, counted

if TYPE_CHECKING:
    from sightline.evaluation.result import Result
    from sightline.tasks import Task

THRESHOLD = "threshold"
"""The entry of a model's metadata with the score that `predict` leaves objects below out by."""

Learnt = Dataset | JointData | TorchData

log = logging.getLogger("sightline")


def train_run(
    model: nn.Module | str | None,
    data: Any,
    validation: Any,
    *,
    weights: str | Path | None,
    arguments: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
    recipe: Recipe | None,
    numbers: Mapping[str, Any],
    name: str | None,
    runs: str | Path,
    resume: bool,
    checked: bool,
    report: bool,
    progress: bool,
    trackers: Sequence[Any],
    device: str | None,
    transform: Callable[..., Any] | None,
    on_epoch: Callable[[Mapping[str, Any]], object] | None,
    alternating: bool,
) -> Run:
    """See `sightline.api.train`."""
    from sightline.data.transforms import recipes
    from sightline.evaluation import evaluate as measure
    from sightline.training.alternating import train_in_steps
    from sightline.training.loop import fit
    from sightline.verbs.report import write_report

    if isinstance(model, str):
        _require_name(model)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise InputError(f"recipe is {recipe!r}, but it must be a Recipe; read a file with Recipe.from_yaml(path)")
    if resume and name is None:
        raise InputError("to resume a run give its name, such as name='run1'")
    if resume and alternating:
        raise InputError("a training in alternating steps cannot be resumed; train anew, or without alternating")
    folder = Path(runs) / name if resume and name else None
    before = None if folder is None else run_facts(existing_run_folder(folder))
    if folder is not None and recipe is None:
        recipe = Recipe.from_yaml(folder / "recipe.yaml")
    again = False
    if data is None:
        if before is None:
            raise InputError("train needs data: the path of a dataset, or a dataset")
        data = trained_on.open_again(before.trained_on, str(folder))
        again = True
    if not isinstance(model, nn.Module):
        data = _opened(data, (arguments or {}).get("in_channels", 3), classes)
        model = _model(model, data, weights, arguments, folder, seed=_seed(recipe, numbers))
    elif weights is not None or arguments is not None or classes is not None:
        raise InputError(
            "weights, arguments and classes belong to a model given by its name, but a model was given; give them to "
            "create_model"
        )
    recipe = recipe.changed(**numbers) if recipe else recipe_for(model, numbers, "train(…)")
    task = task_of(model, getattr(data, "kind", None))
    require_metric(recipe.keep, task.headline)
    augmentation = transform or recipes.named(recipe.augmentation)
    sayings: list[str] = []
    known = None if before is None else before.trained_on
    data, validation = learnt_and_held_out(data, validation, model, recipe.seed, known, sayings, not again)
    for sentence in sayings if progress else ():
        print(sentence, file=sys.stderr)
    for part, title in ((data, "training"), (validation, "validation")):
        if part is not None and not checked:
            for piece in part.parts if isinstance(part, JointData) else (part,):
                require_usable(piece, title)
    data = data if isinstance(data, JointData) else with_target_fields(model, as_learned(data, model))
    validation = None if validation is None else with_target_fields(model, as_learned(validation, model))
    now = trained_on.record(data, validation, model)
    for sentence in trained_on.changes(known, now):
        log.warning("%s; the run goes on with them as they are now", sentence)
    known = trained_on.resumed(known, now)
    model.metadata = {trained_on.KEY: known.to_dict()}  # type: ignore[assignment]
    folder = folder or devices.agreed(device, lambda: new_run_folder(runs, name))
    keep_proposals = getattr(model, "cache_proposals", None)
    if callable(keep_proposals) and transform is None and recipe.augmentation == "none":
        keep_proposals(folder / "proposals")  # the images of all epochs are the same

    def validate(current: nn.Module) -> dict[str, Any]:
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
        "transform": augmentation,
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
    result, stages = None, getattr(run.model, "fit_stages", None)
    if callable(stages) and not run.interrupted:  # what is learnt after the gradient steps, such as R-CNN's SVMs
        features = run.folder / "features"  # 10 MB an image: kept while they are needed
        stages(data, folder=features, progress=progress)
        shutil.rmtree(features, ignore_errors=True)
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


def _require_name(model: str) -> None:
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


def _seed(recipe: Recipe | None, numbers: Mapping[str, Any]) -> int:
    return (recipe.changed(**numbers) if recipe else Recipe.from_dict(numbers, "train(…)")).seed


def _opened(data: Any, channels: int, classes: Sequence[str] | None) -> Any:
    from sightline.data.formats import open_dataset

    if isinstance(data, str | Path):
        return open_dataset(data).with_channels(channels)
    if is_torch_data(data):
        return TorchData(data, None if classes is None else Classes(classes))
    return data


def _model(
    name: str | None,
    data: Any,
    weights: str | Path | None,
    arguments: Mapping[str, Any] | None,
    folder: Path | None,
    seed: int,
) -> nn.Module:
    """A model of the catalog for the data; of a run to resume, the run's own."""
    import torch

    from sightline.models.catalog import create_model, find

    if name is not None and not isinstance(name, str):
        raise InputError(f"the model is a {type(name).__name__}; give one of create_model or load, or a name")
    given = dict(arguments or {})
    if name is None:
        facts = None if folder is None else run_facts(folder)
        if facts is None or facts.model is None:
            raise InputError("train needs a model: one of create_model or load, or a name of `sightline models`")
        name, given = facts.model, {**facts.arguments, **given}
    classes = TASKS[find(name).task].labels.classes(data)
    torch.manual_seed(seed)
    return create_model(name, classes, weights, **given)


def remember_threshold(model: nn.Module, result: Any) -> None:
    """Keep the score of the highest F1 with the model; where nothing was right, none."""
    metadata: dict[str, Any] = {**getattr(model, "metadata", {})}
    metadata.pop(THRESHOLD, None)
    point = getattr(result, "operating_point", None)
    if point is not None and point.f1 is not None:
        metadata[THRESHOLD] = round(float(point.score), 6)
    model.metadata = metadata  # type: ignore[assignment]


def facts_of(model: nn.Module, known: TrainedOn) -> dict[str, Any]:
    """What the run's files say beside its numbers: data, model, arguments, weights, classes."""
    from sightline.models.saving import plain_arguments

    return {
        "data": known.path,
        "format": known.format,
        "opened": dict(known.opened),
        "division": dict(known.division),
        "images": {name: len(keys) for name, keys in known.parts.items()},
        "model": getattr(model, "name", "") or type(model).__name__,
        "arguments": plain_arguments(model),
        "weights": getattr(model, "weights_given", None),
        "classes": list(getattr(model, "classes", None) or ()),
    }


def _take_metadata(run: Run) -> None:
    """Give the run's model what was saved with the weights it has."""
    from sightline.models.saving import metadata_of

    for name in ("best", "last"):
        file = run.folder / f"{name}.safetensors"
        if file.is_file() and (name == "last" or run.best):
            run.model.metadata = metadata_of(file)  # type: ignore[assignment]
            return


def remove_unless_begun(folder: Path) -> None:
    """A run without a finished epoch, in a step of it either, is no more than its own files: its name is free.

    Not so where it left the batch that ended it, for that is to be looked at.
    """
    from sightline.training.guard import BATCH_FILE

    if not any(file.stat().st_size for file in folder.rglob("metrics.jsonl")) and not any(folder.rglob(BATCH_FILE)):
        shutil.rmtree(folder, ignore_errors=True)


def recipe_for(model: nn.Module, numbers: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of these numbers, and for the others of those that suit the model (`model.suited`).

    Args:
        model: to be trained.
        numbers: the user's own.
        source: where they come from, for messages.
    """
    suited = dict(getattr(model, "suited", {}))
    if "optimizer" in numbers and numbers["optimizer"] != suited.get("optimizer", "adamw"):
        suited = {name: value for name, value in suited.items() if name not in ("lr", "weight_decay")}
    if "minutes" in numbers:
        suited.pop("epochs", None)
    return Recipe.from_dict({**suited, **numbers}, source)


def headline_of(result: Result, task: Task) -> dict[str, float | None]:
    """The metrics of a result that are recorded after each epoch."""
    return {name: result.metrics[name] for name in task.headline if name in result.metrics}


def _save_anew(run: Run, headline: Mapping[str, float | None], result: Result | None) -> None:
    """The run's models once more, after stages that changed them, with what they now reach."""
    from sightline.models.saving import save

    reached = {f"val/{name}": value for name, value in headline.items()}
    if result is not None:
        remember_threshold(run.model, result)
    for name in ("best", "last"):
        with replacing(run.folder / f"{name}.safetensors") as path:
            save(run.model, path, {"metrics": reached, "recipe": run.recipe.to_dict()})


def as_learned(data: Any, model: nn.Module) -> Any:
    """The data with the targets of the model's task, such as objects with outlines drawn as class maps."""
    return task_of(model, getattr(data, "kind", None)).labels.prepare(data)


def require_usable(data: Any, title: str) -> None:
    """Refuse a dataset whose labels hold errors, with the first of them.

    Only labels and image headers are looked at: pixels are left to `check`.
    """
    from sightline.data.check import check

    if isinstance(data, TorchData):
        return  # each item is checked when it is read
    found = check(data, full=False, progress=False)
    if not found.ok:
        errors = [problem for problem in found.problems if problem.level == "error"]
        number = "an error" if len(errors) == 1 else f"{len(errors)} errors, first"
        copy = ", and with --fix drop --out COPY it writes a repaired copy" if data.label_kind.has_objects else ""
        raise InputError(
            f"the {title} data has {number}: {errors[0].what}; `sightline check DATA` says what to do{copy}"
        )


def with_target_fields(model: nn.Module, data: Any) -> Any:
    """The data with the fields in its targets that the model learns from beside boxes and labels: masks, keypoints.

    Raises:
        InputError: the data has no such labels.
    """
    fields: tuple[str, ...] = getattr(model, "target_fields", ())
    if not fields:
        return data
    try:
        return data.with_fields(*fields)
    except InputError as error:
        name = getattr(model, "name", "") or type(model).__name__
        raise InputError(f"{name} learns from {' and '.join(fields)}, but {error}; choose a model for boxes") from error


def learnt_and_held_out(
    data: Any,
    validation: Any,
    model: nn.Module,
    seed: int,
    known: TrainedOn | None,
    sayings: list[str],
    named: bool = True,
) -> tuple[Learnt, Dataset | TorchData | None]:
    """What `train` was given, as images to learn from and to validate on.

    Of a whole dataset these are its splits "train" and "val"; one in files that lacks them is divided, by the seed, as
    the command line does, or as the run was that is resumed. One in memory that has neither is learnt from as a whole.
    One or two images are all trained on, which a sentence says.

    Args:
        known: the record of the run to resume, or None.
        sayings: gets what was divided, in sentences.
        named: the caller has named the data; see `parts_to_train`.
    """
    channels, classes = getattr(model, "in_channels", 3), getattr(model, "classes", None)
    data = data if isinstance(data, JointData) else _opened(data, channels, classes)
    if validation is not None:
        validation = _opened(validation, channels, classes)
        whole = isinstance(validation, Dataset) and validation.whole
        validation = validation["val"] if whole and "val" in validation.splits else validation
    if isinstance(classes, Classes) and isinstance(data, Dataset):
        classes.require_same(task_of(model, data.kind).labels.classes(data), "the model", "the training set")
    in_memory = isinstance(data, Dataset) and data.root is None and not {"train", "val"} & {*data.splits}
    if not isinstance(data, Dataset) or not data.whole or in_memory:
        return data, validation
    if validation is not None:
        return data["train"] if "train" in {*data.splits, *data.missing_splits} else data, validation
    parts = parts_to_train(data, seed, known, sayings, named)
    return parts.train, parts.val


def parts_to_train(data: Dataset, seed: int, known: TrainedOn | None, sayings: list[str], named: bool = True) -> Parts:
    """The parts of a whole dataset; of a run to resume, those that it had; of one or two images all, to train on.

    Args:
        named: the caller has named the data, so its own splits count; else the run's images are taken, whichever of
            the data they were.

    Raises:
        InputError: the data cannot be divided, or the run's images are not in it.
    """
    divided = known is not None and (bool(known.division) or "train" not in data.splits)
    if known is not None and (divided or not named):
        again = trained_on.as_before(data, known, sayings)
        if again is not None:
            return Parts(*again)
        if not named:
            raise InputError(
                "the images that the run was trained and validated on are not all in its data; name the images to "
                "resume it with: DATA (in Python data= and validation=)"
            )
    if 0 < len(data) < 3 and len(data.splits) == 1 and not {"train", "val"} & {*data.splits, *data.missing_splits}:
        sayings.append(
            f"no splits found, and {counted(len(data))} {are(len(data))} too few to divide: training uses all, without "
            "validation"
        )
        return Parts(data[:], None)
    parts = parts_of(data, seed)
    sayings += [parts.said] if parts.said else []
    return parts
