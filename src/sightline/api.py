"""The verbs of the library: what the package's own parts do, put together as a user asks for it.

The command line calls the same functions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.check import CheckReport
    from sightline.data.dataset import Dataset
    from sightline.data.joint import JointData
    from sightline.evaluation import DetectionResult, SegmentationResult
    from sightline.structures import Target
    from sightline.training.recipe import Recipe
    from sightline.training.run import Run

VALIDATION_COLUMNS: tuple[str, ...] = (
    *("AP", "AP50", "AP75", "mask/AP", "mask/AP50", "keypoint/AP", "keypoint/AP50"),
    *("mIoU", "pixel_accuracy", "boundary_F"),
)
"""What of an evaluation goes into a run's metrics after each epoch, where it has it; the best epoch is that of "AP", or
of "mIoU" for class maps."""


def check(
    data: Dataset | str | Path, model: nn.Module | None = None, *, full: bool = True, progress: bool = True
) -> CheckReport:
    """Look for everything in a dataset that would break or bias a training; see `sightline.data.check.check`.

    Given a path, the dataset is opened leniently: the report lists every label that cannot be read.
    """
    from sightline.data.check import check as run

    return run(_dataset(data, lenient=True), model, full=full, progress=progress)


def convert(data: Dataset | str | Path, out: str | Path, to: str, *, symlink: bool = False) -> Path:
    """Write a dataset in another format; see `sightline.data.formats.convert`."""
    from sightline.data.formats import convert as run

    run(_dataset(data), Path(out), to, symlink=symlink)
    return Path(out)


def scenes(n: int, size: int | tuple[int, int] = 160, seed: int = 0, **options: Any) -> Dataset:
    """A dataset of n rendered scenes with exact labels; see `sightline.data.scenes.scenes`."""
    from sightline.data.scenes import scenes as run

    return run(n, size, seed, **options)


def train(
    model: nn.Module,
    data: Dataset | JointData | str | Path,
    validation: Dataset | str | Path | None = None,
    *,
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

    Args:
        model: of `create_model` or `load`; it is trained in place.
        data: the training images; for YOLO9000 also boxed and labelled images together (`sightline.data.joint`). Of a
            whole dataset, or a path, that has a split "train", that split; of `data[:]` all images.
        validation: images never trained on, by which the best epoch is chosen; by default the split "val" of such data.
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
    from sightline.data.joint import JointData
    from sightline.data.transforms import recipes
    from sightline.training.alternating import train_in_steps
    from sightline.training.loop import fit
    from sightline.training.recipe import Recipe
    from sightline.training.run import existing_run_folder, new_run_folder

    if resume and name is None:
        raise InputError("to resume a run give its name, such as name='run1'")
    if resume and alternating:
        raise InputError("a training in alternating steps cannot be resumed; train anew, or without alternating")
    folder = Path(runs) / name if resume and name else None
    if folder is not None and recipe is None:
        recipe = Recipe.from_yaml(existing_run_folder(folder) / "recipe.yaml")
    recipe = recipe.changed(**numbers) if recipe else recipe_for(model, numbers, "train(…)")
    augmentation = transform or recipes.named(recipe.augmentation)
    data, validation = _learnt_and_held_out(data, validation, model)
    for part, title in ((data, "training"), (validation, "validation")):
        if part is not None and not checked:
            for piece in part.parts if isinstance(part, JointData) else (part,):
                require_usable(piece, title)
    data = data if isinstance(data, JointData) else with_target_fields(model, as_learned(data, model))
    validation = None if validation is None else with_target_fields(model, as_learned(validation, model))
    folder = folder or new_run_folder(runs, name)
    keep_proposals = getattr(model, "cache_proposals", None)
    if callable(keep_proposals) and transform is None and recipe.augmentation == "none":
        keep_proposals(folder / "proposals")  # the images of all epochs are the same

    def validate(current: nn.Module) -> dict[str, Any]:
        # no bar of its own: the run's says that it validates
        result = evaluate(current, validation, progress=False, keep_predictions=False)  # type: ignore[arg-type]
        return {key: result.metrics[key] for key in VALIDATION_COLUMNS if key in result.metrics}

    measurable = validation is not None and validation.kind in ("instances", "class_map")
    common: dict[str, Any] = {
        "validation": validation,
        "validate": validate if measurable else None,
        "transform": augmentation,
        "trackers": trackers,
        "progress": progress,
        "device": device,
        "on_epoch": on_epoch,
    }
    try:
        if alternating:
            run = train_in_steps(model, data, recipe, folder, **common)
        else:
            run = fit(model, data, recipe, folder, resume=resume, **common)
    except (Exception, KeyboardInterrupt):
        if not resume:
            _remove_unless_begun(folder)
        raise
    result, stages = None, getattr(run.model, "fit_stages", None)
    if callable(stages) and not run.interrupted:  # what is learnt after the gradient steps, such as R-CNN's SVMs
        features = run.folder / "features"  # 10 MB an image: kept while they are needed
        stages(data, folder=features, progress=progress)
        shutil.rmtree(features, ignore_errors=True)
        if validation is not None and measurable:
            result = evaluate(run.model, validation, progress=progress)
        _save_anew(run, result)
    if report and run.metrics:
        if result is None and validation is not None and measurable:
            result = evaluate(run.model, validation, progress=progress)
        shown = data.boxed if isinstance(data, JointData) else data
        write_report(run.folder, result, data=validation if measurable else shown, model=run.model)
    return run


def _remove_unless_begun(folder: Path) -> None:
    """A run without a finished epoch, in a step of it either, is no more than its own files: its name is free.

    Not so where it left the batch that ended it, for that is to be looked at.
    """
    from sightline.training.guard import BATCH_FILE

    if not any(log.stat().st_size for log in folder.rglob("metrics.jsonl")) and not any(folder.rglob(BATCH_FILE)):
        shutil.rmtree(folder, ignore_errors=True)


def recipe_for(model: nn.Module, numbers: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of these numbers, and for the others of those that suit the model (`model.suited`).

    Args:
        model: to be trained.
        numbers: the user's own.
        source: where they come from, for messages.
    """
    from sightline.training.recipe import Recipe

    suited = dict(getattr(model, "suited", {}))
    if "optimizer" in numbers and numbers["optimizer"] != suited.get("optimizer", "adamw"):
        suited = {name: value for name, value in suited.items() if name not in ("lr", "weight_decay")}
    if "minutes" in numbers:
        suited.pop("epochs", None)
    return Recipe.from_dict({**suited, **numbers}, source)


def _save_anew(run: Run, result: DetectionResult | None) -> None:
    """The run's models once more, after stages that changed them, with what they now reach."""
    from sightline.models.saving import save
    from sightline.training.metrics_log import replacing

    reached = (
        {} if result is None else {f"val/{k}": result.metrics[k] for k in VALIDATION_COLUMNS if k in result.metrics}
    )
    for name in ("best", "last"):
        with replacing(run.folder / f"{name}.safetensors") as path:
            save(run.model, path, {"metrics": reached, "recipe": run.recipe.to_dict()})


def as_learned(data: Dataset, model: nn.Module) -> Dataset:
    """Objects with outlines as class maps, where the model answers with those; other data as it is."""
    return data.as_class_map() if getattr(model, "task", "") == "segmentation" else data


def require_usable(data: Dataset, title: str) -> None:
    """Refuse a dataset whose labels hold errors, with the first of them.

    Only labels and image headers are looked at: pixels are left to `check`.
    """
    found = check(data, full=False, progress=False)
    if not found.ok:
        errors = [problem for problem in found.problems if problem.level == "error"]
        number = "an error" if len(errors) == 1 else f"{len(errors)} errors, first"
        copy = ", and with --fix drop --out COPY it writes a repaired copy" if data.kind == "instances" else ""
        raise InputError(
            f"the {title} data has {number}: {errors[0].what}; `sightline check DATA` says what to do{copy}"
        )


def evaluate(
    model: nn.Module | str | Path,
    data: Dataset | str | Path,
    *,
    batch_size: int = 8,
    device: str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Any:
    """Measure a model on labelled images; see `sightline.evaluation.evaluate`.

    Args:
        model: a model, a saved file, or a run's folder.
        data: a dataset, or the path of one. Of a whole one with splits, "test" is measured, else "val", as by the
            command line; of `data[:]` all images.
        batch_size, device, progress, keep_predictions: as there.
    """
    from sightline.evaluation import evaluate as run

    model = _model(model)
    data = as_learned(_dataset(data, model), model)
    if getattr(data, "whole", False):
        data = next((data[name] for name in ("test", "val") if name in data.splits), data)
    with suppress(InputError):  # labels that have boxes alone measure boxes alone
        data = with_target_fields(model, data)
    return run(model, data, batch_size, device, progress, keep_predictions)


def predict(model: nn.Module | str | Path, source: Any, **options: Any) -> Target | list[Target]:
    """What a model sees in an image, or in each of many; see `sightline.deploy.predict.predict`.

    Args:
        model: a model, a saved file, or a run's folder.
        source: a path, a folder, a glob pattern, a PIL image, an array, a tensor, a dataset, or a list of such.
        options: threshold, batch_size, device, progress.
    """
    from sightline.deploy.predict import predict as run

    return run(_model(model), source, **options)


def draw(image: Any, result: Target, **options: Any) -> Image.Image:
    """A picture of an image with what is in it; see `sightline.report.drawing.draw`."""
    from sightline.report.drawing import draw as run

    return run(image, result, **options)


def contact_sheet(data: Dataset | str | Path, transform: Any = None, **options: Any) -> Image.Image:
    """A picture of images with their labels, as training sees them; see `sightline.report.drawing.contact_sheet`.

    Args:
        data: a dataset, or the path of one.
        transform: an augmentation, or the name of an augmentation recipe ("default", "strong", "mosaic", …).
        options: n, columns, seed.
    """
    from sightline.data.transforms import recipes
    from sightline.report.drawing import contact_sheet as run

    data = _dataset(data)
    transform = recipes.named(transform) if isinstance(transform, str) else transform
    if hasattr(transform, "bind"):  # it makes one picture of several of the data
        transform = transform.bind(data, None)
    return run(data, transform, **options)


def write_report(
    folder: str | Path,
    result: DetectionResult | SegmentationResult | None = None,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    title: str | None = None,
) -> Path:
    """Write report.html (and evaluation.json, where there is a result) of a run; see `sightline.report.html`."""
    from sightline.report.html import write_report as run

    file = run(folder, result=result, data=data, model=model, title=title)
    if result is not None:
        file.with_name("evaluation.json").write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")
    return file


def with_target_fields(model: nn.Module, data: Dataset) -> Dataset:
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


def _model(model: nn.Module | str | Path) -> nn.Module:
    from sightline.models.saving import load

    return model if isinstance(model, nn.Module) else load(model)


def _learnt_and_held_out(
    data: Dataset | JointData | str | Path, validation: Dataset | str | Path | None, model: nn.Module
) -> tuple[Dataset | JointData, Dataset | None]:
    """What `train` was given as images to learn from and to validate on; of whole datasets their splits."""
    from sightline.data.joint import JointData

    if not isinstance(data, JointData):
        data = _dataset(data, model)
        if data.whole and "train" in data.splits:
            validation = data["val"] if validation is None and "val" in data.splits else validation
            data = data["train"]
    if validation is not None:
        validation = _dataset(validation, model)
        validation = validation["val"] if validation.whole and "val" in validation.splits else validation
    return data, validation


def _dataset(data: Dataset | str | Path, model: nn.Module | None = None, *, lenient: bool = False) -> Dataset:
    from sightline.data.formats import open_dataset

    if isinstance(data, str | Path):
        return open_dataset(data, lenient=lenient).with_channels(getattr(model, "in_channels", 3))
    return data
