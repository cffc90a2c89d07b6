"""The verbs of the library: what the package's own parts do, put together as a user asks for it.

The command line calls the same functions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from sightline.errors import InputError
from sightline.evaluation.held_out import Chosen, choose
from sightline.evaluation.result import Result
from sightline.keywords import checked_keywords, require_known
from sightline.models.model import Model, as_model
from sightline.report.drawing import draw as _draw
from sightline.training.recipe import Recipe
from sightline.verbs.labels import as_learned, require_kind, require_usable, with_target_fields
from sightline.verbs.opening import ClassesGiven
from sightline.verbs.parts import learnt_and_held_out
from sightline.verbs.prepare import prepare, recipe_for, require_name
from sightline.verbs.report import write_report as _write_report
from sightline.verbs.train import train_prepared

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sightline.data.check import CheckReport
    from sightline.data.dataset import Dataset
    from sightline.data.joint import JointData
    from sightline.deploy.folder import PredictedFolder
    from sightline.training.run import Run

__all__ = [
    "as_learned",
    "check",
    "choose",
    "contact_sheet",
    "convert",
    "draw",
    "evaluate",
    "learnt_and_held_out",
    "measure_chosen",
    "predict",
    "predict_to_folder",
    "prepare",
    "recipe_for",
    "require_usable",
    "scenes",
    "train",
    "train_prepared",
    "with_target_fields",
    "write_report",
]

draw = checked_keywords(_draw)
write_report = checked_keywords(_write_report)


@checked_keywords
def check(
    data: Dataset | str | Path, model: nn.Module | None = None, *, full: bool = True, progress: bool = True
) -> CheckReport:
    """Look for everything in a dataset that would break or bias a training; see `sightline.data.check.check`.

    Given a path, the dataset is opened leniently: the report lists every label that cannot be read.
    """
    from sightline.data.check import check as run

    return run(_dataset(data, lenient=True), None if model is None else as_model(model), full=full, progress=progress)


@checked_keywords
def convert(data: Dataset | str | Path, out: str | Path, to: str, *, symlink: bool = False) -> Path:
    """Write a dataset in another format; see `sightline.data.formats.convert`."""
    from sightline.data.formats import convert as run

    run(_dataset(data), Path(out), to, symlink=symlink)
    return Path(out)


@checked_keywords
def scenes(
    n: int,
    size: int | tuple[int, int] = 160,
    seed: int = 0,
    *,
    fields: Sequence[str] = (),
    kind: Literal["instances", "class_map", "class_scores"] = "instances",
    objects: tuple[int, int] = (2, 7),
    progress: bool = False,
) -> Dataset:
    """A dataset of n rendered scenes with exact labels; see `sightline.data.scenes.scenes`."""
    from sightline.data.scenes import scenes as run

    return run(n, size, seed, fields=fields, kind=kind, objects=objects, progress=progress)


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


@checked_keywords
def evaluate(
    model: nn.Module | str | Path,
    data: Dataset | str | Path | Any = None,
    split: str | None = None,
    *,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Result:
    """Measure a model on labelled images that it was not trained on; see `sightline.evaluation.evaluate`.

    Args:
        model: a model, a saved file, or a run's folder.
        data: a dataset, its path, or a PyTorch dataset of (image, target) pairs; by default the data that the model was
            trained on. Of a whole dataset "test" is measured, else "val", as by the command line; where the training
            divided the data, these are the parts that it kept. Of `data[:]`, or another part, all images are measured;
            a note of the result says how many of them the model was trained on.
        split: measure this split of a whole dataset; "all" for all images.
        batch_size, device, progress, keep_predictions: as there.

    Raises:
        InputError: all images were trained on, or it cannot be told which; the sentence says what to do.
    """
    from sightline.training import trained_on
    from sightline.verbs.torch_data import TorchData, is_torch_data

    source = str(model) if isinstance(model, str | Path) else "the model"
    measured = _model(model)
    if data is None:
        data = trained_on.open_again(trained_on.of(measured), source).with_channels(measured.in_channels)
    if is_torch_data(data):
        data = TorchData(data, measured.classes)
    data = as_learned(_dataset(data, measured), measured)
    return measure_chosen(measured, choose(measured, data, split), data, batch_size, device, progress, keep_predictions)


def measure_chosen(
    model: Model,
    chosen: Chosen,
    data: Any,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Result:
    """Measure a model on the images that `choose` has chosen of `data`; the result says which they are."""
    from sightline.evaluation import evaluate as _measure
    from sightline.tasks import task_of

    part = chosen.part
    task = task_of(model, getattr(part, "kind", None))
    require_kind(task, part, "the data")
    with suppress(InputError):  # labels that have boxes alone measure boxes alone
        part = with_target_fields(model, part)
    result = _measure(model, part, task.measure, batch_size, device, progress, keep_predictions)
    result.notes += chosen.notes
    opened = getattr(getattr(data, "source", None), "opened", {})
    result.measured = {"data": opened.get("path"), "split": chosen.split}
    return result


@checked_keywords
def predict(
    model: nn.Module | str | Path,
    source: Any,
    *,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    full_scale: int | None = None,
) -> Any:
    """What a model sees in an image, or in each of many; see `sightline.deploy.predict.predict`.

    Args:
        model: a model, a saved file, or a run's folder.
        source: a path, a folder, a glob pattern, a PIL image, an array, a tensor, a file's bytes, an open file, a
            dataset, or a list of such.
        threshold, classes, batch_size, device, progress, tile, overlap, full_scale: as there.
    """
    from sightline.deploy.predict import predict as run

    return run(
        _model(model),
        source,
        threshold=threshold,
        classes=classes,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        full_scale=full_scale,
    )


@checked_keywords
def predict_to_folder(
    model: nn.Module | str | Path,
    source: Any,
    out: str | Path | None = None,
    *,
    draw: Callable[..., Image.Image] | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    save: str | Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    full_scale: int | None = None,
) -> PredictedFolder:
    """Write what a model sees in images to a new folder; see `sightline.deploy.folder.predict_to_folder`.

    Args:
        model: a model, a saved file, or a run's folder. Its task says which files there are.
        source: see `predict`.
        out, draw, save, threshold, classes, batch_size, device, progress, tile, overlap, full_scale: as there.

    Raises:
        InputError: nothing of the model's task is written to files, or as there.
    """
    from sightline.deploy.folder import predict_to_folder as run
    from sightline.tasks import TASKS

    known = _model(model)
    name = known.task
    task = TASKS.get(name) if name else next(iter(TASKS.values()))
    if task is None or task.writer is None:
        raise InputError(
            f"nothing is known of how answers of task {name!r} are written to files; take them from "
            "sightline.predict(model, images)"
        )
    return run(
        known,
        source,
        out,
        writer=task.writer,
        draw=draw,
        threshold=threshold,
        classes=classes,
        save=save,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        full_scale=full_scale,
    )


@checked_keywords
def contact_sheet(
    data: Dataset | str | Path,
    transform: Callable[..., Any] | str | None = None,
    *,
    n: int = 16,
    columns: int = 4,
    seed: int = 0,
    size: int = 260,
) -> Image.Image:
    """A picture of images with their labels, as training sees them; see `sightline.report.drawing.contact_sheet`.

    Args:
        data: a dataset, or the path of one.
        transform: an augmentation, or the name of an augmentation recipe ("default", "strong", "mosaic", …).
        n: how many images.
        columns: how many in a row.
        seed: of the choice of images and of the augmentation.
        size: longer side of each, in pixels.
    """
    from sightline.data.transforms import as_transform, recipes
    from sightline.report.drawing import contact_sheet as run

    data = _dataset(data)
    picked = recipes.named(transform) if isinstance(transform, str) else transform
    bound = None if picked is None else as_transform(picked).bind(data, None)
    return run(data, bound, n=n, columns=columns, seed=seed, size=size)


def _model(model: nn.Module | str | Path) -> Model:
    from sightline.models.saving import load

    return as_model(model) if isinstance(model, nn.Module) else load(model)


def _dataset(data: Any, model: Model | None = None, *, lenient: bool = False) -> Any:
    from sightline.data.formats import open_dataset

    if isinstance(data, str | Path):
        return open_dataset(data, lenient=lenient).with_channels(3 if model is None else model.in_channels)
    return data
