"""Prepare a model for use elsewhere: `optimize` and `export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sightline.keywords import checked_keywords
from sightline.models.model import Model
from sightline.structures import Size
from sightline.verbs.opening import load_model

if TYPE_CHECKING:
    from torch import Tensor

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
    pixels: Literal["uint8", "float32"] = "uint8",
    scores: bool = False,
    images: Sequence[Tensor] | None = None,
    check: bool = True,
) -> Exported:
    """Write a model to an ONNX file with everything inside; see `sightline.deploy.export.export`.

    Args:
        model: a model, a saved file, or a run's folder.
        path: the file to write, ending in .onnx.
        pixels: what the file takes: "uint8", or "float32" in [0, 1].
        scores: for segmentation models: also give the probabilities of all classes.
        images: images [C, H, W] for the comparison; by default a few rendered scenes.
        check: run the file with ONNX Runtime and compare its results with the model's.

    Returns:
        What was written, with the largest differences.

    Raises:
        InputError: the name does not end in .onnx, the file exists, a package is missing, or the model cannot be
            exported; the message says why.
    """
    from sightline.deploy.export import export as run

    return run(load_model(model), path, pixels=pixels, scores=scores, images=images, check=check)
