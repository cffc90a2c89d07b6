"""A part as an ONNX graph: `torch.export`, translated by PyTorch's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sightline.deploy.exporting import deform_operator, operators, peak_operator, region_operators, soft_operator
from sightline.deploy.exporting.part import Part
from sightline.errors import InputError
from sightline.structures import Size

OPSET = 20
"""Version of the ONNX operators; 18 is the first whose Resize antialiases."""
NAMES = ("batch", "size", "original")
"""The inputs of a part."""
CAMERAS = "cameras"
"""A further input of parts that take cameras."""


def exported(part: Part, size: Size, divisor: int, fixed: bool) -> Any:
    """Export a part by `torch.export` and translate it to ONNX.

    Args:
        part: the part, in evaluation mode.
        size: (height, width) of the example batch, multiples of `divisor`.
        divisor: height and width of every batch are multiples of this number.
        fixed: whether every batch has the size of the example; else height and width are free.

    Returns:
        The ONNX model (`onnx_ir.Model`), with inputs "batch", "size" and "original", "cameras" if the part takes them,
        and one output for each of the part's tensors. The batch is divided into cells [N, C, h, D, w, D] if its
        size is free and D = `divisor` > 1.

    Raises:
        InputError: an operation of the model has no exported form.
    """
    model = part.model
    try:
        with torch.no_grad(), _quiet():
            return translated(torch_program(part, size, divisor, fixed), input_names(part))
    except InputError as error:
        raise InputError(f"{model.title} cannot be exported: {error}") from None
    except Exception as error:  # the exporter raises what its passes raise
        raise InputError(f"{model.title} cannot be exported: {_first_line(error)}") from error


def input_names(part: Part) -> tuple[str, ...]:
    """The names of the inputs of a part."""
    return (*NAMES, CAMERAS) if part.takes_cameras else NAMES


def not_in_place(model: nn.Module) -> None:
    """Let the activations of a model give new tensors.

    PyTorch has no ONNX form of those that write in place, and takes them apart symbolically: half of the time of
    exporting MobileNet v2, whose ReLU6 is slowest to take apart, for the same graph.
    """
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]


def translated(program: torch.export.ExportedProgram, names: Sequence[str]) -> Any:
    """A program of PyTorch's operators and the library's own as an ONNX model (`onnx_ir.Model`).

    Args:
        program: the program.
        names: names of its inputs.
    """
    _pool_by_means(program)
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            custom_translation_table=translations(),
            verbose=False,
            optimize=True,
        )
    assert found is not None
    return found.model


def _pool_by_means(program: torch.export.ExportedProgram) -> None:
    """Let global pooling be a mean, which the exporter would follow by an index of each value."""
    aten = torch.ops.aten
    for node in program.graph.nodes:
        if node.target == aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            node.target, node.args = aten.mean.dim, (node.args[0], [-2, -1], True)
    program.graph_module.recompile()


def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of each of the library's own operators."""
    found: dict[Any, Callable[..., Any]] = {}
    for module in (operators, region_operators, soft_operator, peak_operator, deform_operator):
        found.update(module.translations())
    return found


class _InCells(nn.Module):
    """A part that takes a batch [N, C, h, D, w, D] of cells instead of [N, C, h·D, w·D], which lies alike in memory.

    So it is known that sizes are multiples of D, and those of all maps are simple: otherwise the exporter would carry
    along every rounding, in expressions that grow with each layer.
    """

    def __init__(self, part: Part):
        super().__init__()
        self.part = part

    def forward(self, cells: Tensor, size: Tensor, original: Tensor, *cameras: Tensor) -> tuple[Tensor, ...]:
        images, channels, rows, side, columns, _ = cells.shape
        batch = cells.reshape(images, channels, rows * side, columns * side)
        found: tuple[Tensor, ...] = self.part(batch, size, original, *cameras)
        return found


def torch_program(part: Part, size: Size, divisor: int, fixed: bool) -> torch.export.ExportedProgram:
    """The part as a program of PyTorch's operators; the arguments are those of `exported`."""
    device, (height, width) = part.model.preprocess.mean.device, size
    example = torch.zeros(2, part.model.in_channels, height, width, device=device)
    sizes = torch.tensor([height, width], device=device)
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=4096)}
    module: nn.Module = part
    if not fixed:
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        if divisor > 1:
            module, free = _InCells(part), {0: free[0], 2: free[2], 4: free[3]}
            example = example.reshape(2, -1, height // divisor, divisor, width // divisor, divisor)
    cameras = (torch.eye(3, device=device).expand(2, 3, 3).clone(),) if part.takes_cameras else ()
    shapes = (free, {}, {}, *((tuple({0: free[0]} for _ in cameras),) if cameras else ()))
    return torch.export.export(module, (example, sizes, sizes.clone(), *cameras), dynamic_shapes=shapes)


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
