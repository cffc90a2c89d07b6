"""Evaluate a model on labelled images that it was not trained on: `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.model import Model
from sightline.tasks import task_of
from sightline.verbs.held_out import select_images
from sightline.verbs.labels import for_task, require_kind, with_target_fields
from sightline.verbs.opening import ClassesGiven, data_for, load_model

if TYPE_CHECKING:
    import torch

    from sightline.data.dataset import Dataset
    from sightline.evaluation.result import Result


@dataclass(frozen=True)
class EvaluationOutput:
    """An evaluation with the model and the images that it used.

    Attributes:
        model: the model.
        part: the images that the model was evaluated on.
        result: the metrics; `result.measured` holds the path of the data, the name of the split, and the model's saved
            score threshold.
        notes: remarks on the choice of the images, one sentence each.
    """

    model: Model
    part: Any
    result: Result
    notes: list[str]


@checked_keywords
def evaluate(
    model: nn.Module | str | Path,
    data: Dataset | str | Path | Any = None,
    split: str | None = None,
    *,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
    shared: bool = False,
) -> Result:
    """Evaluate a model on labelled images that it was not trained on; see `sightline.evaluation.evaluate`.

    Args:
        model: a model, a saved file, or a run's folder.
        data: a dataset, its path, or a PyTorch dataset of (image, target) pairs; by default the data that the model was
            trained on. If the dataset has splits, "test" is used, else "val". If training divided the data, the parts
            that it set aside are used. If a part of a dataset is given, such as `data[:]`, all its images are used, and
            a note in the result says how many of them the model was trained on.
        split: the name of the split to evaluate on; "all" for all images.
        classes: either new names of the data's classes by their old ones (None removes a class), or the names of the
            classes to keep.
        open_args: if `data` is a path: additional arguments of `open_dataset`, such as {"format": "coco"}.
        batch_size: images per batch.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
        keep_predictions: keep targets and predictions in the result, for reports.
        shared: share the images among the processes of a launcher; see `sightline.evaluation.evaluate`.

    Returns:
        The result of the model's task, such as a `DetectionResult`.

    Raises:
        InputError: the model was trained on all of the images, or it is unknown which; the message says what to do.
    """
    return measure(
        model,
        data,
        split,
        classes=classes,
        open_args=open_args,
        batch_size=batch_size,
        device=device,
        progress=progress,
        keep_predictions=keep_predictions,
        shared=shared,
    ).result


def measure(
    model: nn.Module | str | Path,
    data: Any = None,
    split: str | None = None,
    *,
    default_splits: Sequence[str] = ("test", "val"),
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
    shared: bool = False,
) -> EvaluationOutput:
    """Evaluate like `evaluate`, but return the model and the images together with the result.

    Args:
        model, data, split, classes, open_args, batch_size, device, progress, keep_predictions, shared: as for
            `evaluate`.
        default_splits: the splits to use if `split` is None; the first that exists is taken.

    Raises:
        InputError: as for `evaluate`.
    """
    from sightline.evaluation import evaluate as run

    known = load_model(model)
    data = for_task(data_for(known, model, data, classes, open_args), known)
    chosen = select_images(known, data, split, default_splits)
    part = chosen.part
    task = task_of(known, getattr(part, "kind", None))
    require_kind(task, part, "the data")
    with suppress(InputError):  # if the labels have no masks or keypoints, only boxes are evaluated
        part = with_target_fields(known, part)
    result = run(known, part, task.measure, batch_size, device, progress, keep_predictions, shared)
    result.notes += chosen.notes
    place = getattr(getattr(data, "source", None), "opened", {})
    result.measured = {"data": place.get("path"), "split": chosen.split, **saved_threshold(known)}
    return EvaluationOutput(known, part, result, chosen.notes)


def saved_threshold(model: Model) -> dict[str, float]:
    """The entry "threshold" of an evaluation: the minimum score saved with the model, if there is one."""
    from sightline.deploy.thresholds import score_threshold

    return {} if model.metadata.get("threshold") is None else {"threshold": score_threshold(model)}
