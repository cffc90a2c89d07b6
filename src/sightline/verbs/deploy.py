"""Prepare a model for use elsewhere: `optimize` and `export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.model import Model
from sightline.runtime.values import require_number, require_whole
from sightline.structures import Size
from sightline.tasks import task_of
from sightline.verbs.held_out import select_images
from sightline.verbs.labels import for_task, require_kind, with_target_fields
from sightline.verbs.opening import ClassesGiven, data_for, load_model

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.data.dataset import Dataset
    from sightline.deploy.certify import Trial
    from sightline.deploy.differences import Difference
    from sightline.deploy.export import Exported
    from sightline.deploy.optimise import Optimisation


@checked_keywords
def optimize(
    model: Model | str | Path,
    image_size: int | Size | None = None,
    *,
    bf16: bool = False,
    compile: bool = False,
    images: Sequence[Tensor] | None = None,
    batch_size: int = 1,
    repeats: int = 5,
    tolerance: Difference | None = None,
) -> tuple[Model, Optimisation]:
    """Make a faster copy of a model for prediction; see `sightline.deploy.optimise.optimize`.

    Args:
        model: a model, a saved file, or a run's folder.
        image_size: side, or (height, width), of the images that are compared and timed.
        bf16: compute in bfloat16.
        compile: compile the network by `torch.compile`.
        images: images [C, H, W] to compare the results on; by default a few rendered scenes.
        batch_size: number of images of the batch that is timed.
        repeats: number of timed calls.
        tolerance: the largest differences that are allowed.

    Returns:
        The copy, and a report with the largest differences and the times before and after.

    Raises:
        InputError: results differ by more than the tolerance, or an argument has a wrong value.
    """
    from sightline.deploy.optimise import optimize as run

    return run(
        load_model(model),
        image_size,
        bf16=bf16,
        compile=compile,
        images=images,
        batch_size=batch_size,
        repeats=repeats,
        tolerance=tolerance,
    )


@checked_keywords
def export(
    model: Model | str | Path,
    path: str | Path,
    *,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    data: Dataset | str | Path | Any = None,
    split: str | None = None,
    calibration: int = 100,
    max_drop: float = 0.01,
    or_float: bool = False,
    pixels: Literal["uint8", "float32"] = "uint8",
    scores: bool = False,
    masks: Literal["small", "pasted"] = "small",
    images: Sequence[Tensor] | None = None,
    check: bool = True,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    progress: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Exported:
    """Write a model to an ONNX file with everything inside; see `sightline.deploy.export.export`.

    With data, or in another precision than fp32, the file is scored on labelled images that the model was not trained
    on, and the figures are stored in it as its certificate; see `sightline.deploy.certify.certify`.

    Args:
        model: a model, a saved file, or a run's folder.
        path: the file to write, ending in .onnx.
        precision: "fp32"; "fp16", half the size; or "int8", a quarter of the size and usually faster on a CPU. Only the
            network is converted, never preprocessing, decoding or suppression.
        data: labelled images: a dataset, its path, or a PyTorch dataset. For "fp16" and "int8", by default the data
            that the model was trained on. Its split "val", else "test", is scored.
        split: another split to score on.
        calibration: number of images, of the split "train" if there is one, that int8 is calibrated on.
        max_drop: maximum drop of the task's first headline metric, such as AP or mIoU. Layers of an int8 file are set
            back to float, the most sensitive first, until the drop is within it.
        or_float: if fp16 or int8 drops by more: write the fp32 file instead of none.
        pixels: what the file takes: "uint8", or "float32" in [0, 1].
        scores: for segmentation models: also give the probabilities of all classes.
        masks: for models with masks: "small" gives each mask on a grid over its box, "pasted" in the whole image.
        images: images [C, H, W] for the comparison; by default a few rendered scenes.
        check: run the file with ONNX Runtime and compare its results with the model's.
        classes, open_args: as for `sightline.evaluate`.
        batch_size: images per batch while scoring.
        progress: show progress bars if stderr is a terminal.
        tell: called with a sentence for each step, such as `print`.

    Returns:
        What was written, with the largest differences, and with the certificate if there is one.

    Raises:
        InputError: the name does not end in .onnx, the file exists, a package is missing, the model cannot be exported,
            there are no images to score it on, or the metric drops by more than allowed; the message says why.
    """
    from sightline.deploy.certify import PRECISIONS, certify
    from sightline.deploy.export import export as run

    if precision not in PRECISIONS:
        reason = ": ONNX Runtime's CPU provider cannot run convolutions in bfloat16" if str(precision) == "bf16" else ""
        raise InputError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}{reason}")
    known, say = load_model(model), tell or (lambda text: None)
    if precision == "fp32" and data is None:
        return run(known, path, pixels=pixels, scores=scores, masks=masks, images=images, check=check, tell=say)
    calibration = require_whole("calibration", calibration, 1, "batch_size", "give 100 images if in doubt")
    return certify(
        known,
        Path(path),
        trial_for(known, data_for(known, model, data, classes, open_args), split),
        precision=precision,
        calibration=calibration,
        max_drop=require_number("max_drop", max_drop, 0, float("inf"), "give 0.01 if in doubt"),
        or_float=or_float,
        pixels=pixels,
        scores=scores,
        masks=masks,
        images=images,
        check=check,
        batch_size=batch_size,
        progress=progress,
        tell=say,
    )


def trial_for(model: Model, data: Any, split: str | None) -> Trial:
    """The images that an exported model is scored and calibrated on.

    Raises:
        InputError: the model was trained on all of the images, or they lack the labels of its task.
    """
    from sightline.deploy.certify import Trial

    data = for_task(data, model)
    chosen = select_images(model, data, split, ("val", "test"))
    task = task_of(model, getattr(chosen.part, "kind", None))
    require_kind(task, chosen.part, "the data")
    part = chosen.part
    with suppress(InputError):  # if the labels have no masks or keypoints, only boxes are scored
        part = with_target_fields(model, part)
    try:
        learnt = select_images(model, data, "train")
    except InputError:  # no such split: calibration uses no labels, so the scored images serve as well
        learnt = chosen
    place = getattr(getattr(data, "source", None), "opened", {}).get("path")
    return Trial(
        part,
        task.measure,
        task.lower_is_better,
        str(place or type(data).__name__),
        chosen.split,
        learnt.part,
        learnt.split,
        tuple(chosen.notes),
    )
