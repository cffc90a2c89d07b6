"""A part as an ONNX graph: `torch.export`, translated by PyTorch's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sightline.deploy.exporting.operators import translations
from sightline.deploy.exporting.parts import Part
from sightline.errors import InputError
from sightline.structures import Size

OPSET = 20
"""Version of the ONNX operators; 18 is the first whose Resize antialiases."""
NAMES = ("batch", "size", "original")
"""The inputs of a part."""


def exported(part: Part, size: Size, divisor: int, fixed: bool) -> Any:
    """Export a part by `torch.export` and translate it to ONNX.

    Args:
        part: the part, in evaluation mode.
        size: (height, width) of the example batch, multiples of `divisor`.
        divisor: height and width of every batch are multiples of this number.
        fixed: whether every batch has the size of the example; else height and width are free.

    Returns:
        The ONNX model (`onnx_ir.Model`), with inputs "batch", "size" and "original", and one output for each of the
        part's tensors.

    Raises:
        InputError: an operation of the model has no exported form.
    """
    model = part.model
    try:
        with torch.no_grad(), _quiet():
            program = torch_program(part, size, divisor, fixed)
            found = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=NAMES,
                custom_translation_table=translations(),
                verbose=False,
                optimize=True,
            )
    except InputError as error:
        raise InputError(f"{model.title} cannot be exported: {error}") from None
    except Exception as error:  # the exporter raises what its passes raise
        raise InputError(f"{model.title} cannot be exported: {_first_line(error)}") from error
    assert found is not None
    return found.model


def torch_program(part: Part, size: Size, divisor: int, fixed: bool) -> torch.export.ExportedProgram:
    """The part as a program of PyTorch's operators; the arguments are those of `exported`."""
    device, (height, width) = part.model.preprocess.mean.device, size
    example = torch.zeros(2, part.model.in_channels, height, width, device=device)
    sizes = torch.tensor([height, width], device=device)
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if not fixed:
        for axis, name in ((2, "height"), (3, "width")):
            cells = torch.export.Dim(name, min=max(2, 64 // divisor), max=65536 // divisor)
            free[axis] = divisor * cells if divisor > 1 else torch.export.Dim.DYNAMIC
    return torch.export.export(part, (example, sizes, sizes.clone()), dynamic_shapes=(free, {}, {}))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, such as those about packages that are not needed."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _first_line(error: Exception) -> str:
    """The message of the innermost error, in one line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
