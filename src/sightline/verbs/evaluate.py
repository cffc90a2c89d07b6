"""The verb `evaluate`: a model is measured on labelled images that it was not trained on."""

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
from sightline.training import trained_on
from sightline.verbs.held_out import choose
from sightline.verbs.labels import as_learned, require_kind, with_target_fields
from sightline.verbs.opening import ClassesGiven, loaded, opened, opened_again

if TYPE_CHECKING:
    import torch

    from sightline.data.dataset import Dataset
    from sightline.evaluation.result import Result


@dataclass(frozen=True)
class Measured:
    """A model that was measured.

    Attributes:
        model: the model.
        part: the images that it was measured on.
        result: the numbers; `result.measured` says where the images are and which split they are.
        notes: what was said of the choice of the images, in sentences.
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
    opening: Mapping[str, Any] | None = None,
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
        classes: the new names of the data's classes by their old ones (None leaves a class out), or names of those to
            keep.
        opening: for data given by its path: further arguments of `open_dataset`, such as {"format": "coco"}.
        batch_size, device, progress, keep_predictions: as there.

    Raises:
        InputError: all images were trained on, or it cannot be told which; the sentence says what to do.
    """
    return measure(
        model,
        data,
        split,
        classes=classes,
        opening=opening,
        batch_size=batch_size,
        device=device,
        progress=progress,
        keep_predictions=keep_predictions,
    ).result


def measure(
    model: nn.Module | str | Path,
    data: Any = None,
    split: str | None = None,
    *,
    usual: Sequence[str] = ("test", "val"),
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Measured:
    """As `evaluate`, and gives the model and the images, too.

    Args:
        model, data, split, classes, opening, batch_size, device, progress, keep_predictions: as for `evaluate`.
        usual: the splits to take where none is named, in this order.

    Raises:
        InputError: as for `evaluate`.
    """
    from sightline.evaluation import evaluate as run

    known = loaded(model)
    if data is None:
        source = str(model) if isinstance(model, str | Path) else "the model"
        data = opened_again(trained_on.of(known), source, classes, known.in_channels)
    else:
        data = opened(data, opening=opening, classes=classes, names=known.classes, channels=known.in_channels)
    data = as_learned(data, known)
    chosen = choose(known, data, split, usual)
    part = chosen.part
    task = task_of(known, getattr(part, "kind", None))
    require_kind(task, part, "the data")
    with suppress(InputError):  # labels that have boxes alone measure boxes alone
        part = with_target_fields(known, part)
    result = run(known, part, task.measure, batch_size, device, progress, keep_predictions)
    result.notes += chosen.notes
    place = getattr(getattr(data, "source", None), "opened", {})
    result.measured = {"data": place.get("path"), "split": chosen.split}
    return Measured(known, part, result, chosen.notes)
