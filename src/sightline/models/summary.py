"""The layers of a model with output shapes, parameters and operations: the table of `sightline.summary`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import InputError
from sightline.models.catalog import as_published, find
from sightline.models.model import Model
from sightline.models.summary_table import READABLE_ROWS, Layer, Summary
from sightline.runtime.shapes import shapes_only
from sightline.runtime.values import require_whole
from sightline.structures import ImageBatch

USUAL_SIDE = 224
"""Side of the image in pixels for a model that takes any size."""


def _of_joined(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Operations of a convolution with a kernel [C', C, …], or of a linear layer [C', C], and of its activation.

    That of each output value is a product of a row of the weights, of which a group of channels has its own.
    """
    return 2 * prod(out_shape) * prod(weight[1:])


_JOINED: dict[Any, Any] = {
    operator: _of_joined
    for name in ("_convolution_pointwise", "_linear_pointwise")
    if (operator := getattr(torch.ops.mkldnn, name, None)) is not None
}
"""Operations of the operators that compute a layer together with its activation, which PyTorch's counter leaves out."""


def summary(
    model: nn.Module | str, image_size: int | Sequence[int] | None = None, *, depth: int | None = None
) -> Summary:
    """List the layers of a model with their output shapes, parameters and operations, from one forward pass.

    The pass runs without gradients in evaluation mode on one grey image. Mode, hooks and weights of the model do not
    change. In a region-based detector the operations of the heads depend on the number of regions of that image.

    FLOPs are counted by PyTorch's counter (`torch.utils.flop_counter`): matrix products, convolutions and attention,
    with two operations per multiply-add. Normalisation, activations, pooling and resampling are not counted.

    Args:
        model: a model, any `nn.Module` that takes a batch [1, C, H, W], or the name of a model of the catalog, which is
            then built as for its published weights. Nothing is downloaded.
        image_size: size of the image in pixels: the side of a square, (height, width), or (channels, height, width).
            The model's preprocessing may resize it. By default the size that the model sees, or 224.
        depth: number of levels of modules to list, 1 or more; deeper ones are added to the level above. By default
            `layers` holds all of them, and the printed table at most 40 rows.

    Raises:
        InputError: there is no such model, the size is none, a plain module cannot take an image of this size, or its
            lazy layers have no parameters yet.
    """
    if depth is not None:
        require_whole("depth", depth, 1, "count", "give the number of levels of modules to list, such as 2")
    if isinstance(model, str):
        entry = find(model)
        with shapes_only():
            known: nn.Module = as_published(entry)
        try:  # shapes and operations need no numbers, unless a step depends on them, as suppression does
            found = _summarise(known, image_size, depth)
        except (NotImplementedError, RuntimeError):
            found = _summarise(as_published(entry), image_size, depth)
        return replace(found, title=entry.name)
    if not isinstance(model, nn.Module):
        raise InputError(f"summary takes a model or the name of one, not a {type(model).__name__}")
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise InputError(
            f"{type(model).__name__} has lazy layers, whose parameters get their shapes in the first forward pass; run "
            "it on one image first"
        )
    return _summarise(model, image_size, depth)


def _summarise(model: nn.Module, image_size: int | Sequence[int] | None, depth: int | None) -> Summary:
    shape = _image_shape(model, image_size)
    tensor = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.zeros(1))
    image = torch.full(shape, 0.5, device=tensor.device)
    rows = {name: Layer(name, type(module).__name__) for name, module in model.named_modules()}
    _count_parameters(model, rows)
    with _evaluating(model), _recorded(model, rows):
        if isinstance(model, Model):
            model([image])
        else:
            try:
                model(image[None].to(tensor.dtype))
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{type(model).__name__} cannot take a batch of shape {[1, *shape]} ({reason}); give image_size as "
                    "(height, width) or (channels, height, width) of its images"
                ) from error
    title = model.title if isinstance(model, Model) else type(model).__name__
    return Summary(title, shape, _cut(model, rows, depth), _readable(model, rows, depth))


def _image_shape(model: nn.Module, image_size: int | Sequence[int] | None) -> tuple[int, ...]:
    """The shape [C, H, W] of the image."""
    known = model.seen_size if isinstance(model, Model) else None
    given = image_size if image_size is not None else known or USUAL_SIDE
    try:
        sides = (given, given) if isinstance(given, int) else () if isinstance(given, str) else tuple(given)
    except TypeError:
        sides = ()
    if len(sides) not in (2, 3):
        raise InputError(
            f"image_size is {image_size!r}, but it must be a whole number, (height, width) or (channels, height, "
            "width), such as 224"
        )
    for side in sides:
        require_whole("image_size", side, 1, "image_side", "give the size in pixels, such as 224")
    if len(sides) == 3:
        return sides
    if isinstance(model, Model):
        return (model.in_channels, *sides)
    for module in model.modules():  # the first layer with weights tells the channels
        if isinstance(module, nn.Conv2d):
            return (module.in_channels, *sides)
        features = getattr(module, "in_features", None) or getattr(module, "num_features", None)
        if isinstance(features, int):  # behind a Flatten
            return (max(1, features // (sides[0] * sides[1])), *sides)
    return (3, *sides)


def _count_parameters(model: nn.Module, rows: dict[str, Layer]) -> None:
    """Count each parameter and saved moving average once, in the row of the module that has it first."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen and not isinstance(parameter, nn.parameter.UninitializedParameter):
                rows[name].trainable += parameter.numel() * parameter.requires_grad
                rows[name].fixed += parameter.numel() * (not parameter.requires_grad)
            seen.add(id(parameter))
        for own, buffer in module.named_buffers(recurse=False):
            saved = own not in module._non_persistent_buffers_set
            if saved and id(buffer) not in seen and buffer.is_floating_point():
                rows[name].fixed += buffer.numel()
                rows[name].averages += buffer.numel()
            seen.add(id(buffer))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know the fused kernels of attention
    try:
        model.eval()
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _recorded(model: nn.Module, rows: dict[str, Layer]) -> Iterator[None]:
    """Record the output shapes of each module that is called, and the operations that it does itself."""
    counter = FlopCounterMode(display=False, custom_mapping=_JOINED)
    inside: list[int] = []  # operations of the children of each module that is running
    begun: list[int] = []

    def before(*_: Any) -> None:
        begun.append(counter.get_total_flops())
        inside.append(0)

    def after(row: Layer, output: Any) -> None:
        spent = counter.get_total_flops() - begun.pop()
        row.flops += spent - inside.pop()
        if inside:
            inside[-1] += spent
        row.calls += 1
        if row.calls == 1:
            row.shapes = [tuple(tensor.shape) for tensor in _tensors(output)]

    handles: list[Any] = []
    try:
        for name, module in model.named_modules():
            row = rows[name]
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(lambda _, __, output, row=row: after(row, output)))
        with counter:
            yield
    finally:
        for handle in handles:
            handle.remove()
    # what ran outside of every module's `forward`, in methods that the model calls directly
    rows[""].flops += counter.get_total_flops() - sum(row.flops for row in rows.values())


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, ImageBatch):
        yield output.tensor
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


def _readable(model: nn.Module, rows: dict[str, Layer], depth: int | None) -> list[Layer]:
    """The rows down to a depth, by default the largest that has at most `READABLE_ROWS` rows; at least one level."""
    if depth is not None:
        return _cut(model, rows, depth)
    found = _cut(model, rows, 1)
    for level in range(2, 2 + max(name.count(".") for name in rows)):
        deeper = _cut(model, rows, level)
        if len(deeper) > READABLE_ROWS:
            break
        found = deeper
    return found


def _cut(model: nn.Module, rows: dict[str, Layer], depth: int | None) -> list[Layer]:
    """The rows down to a depth. A module of that depth stands for all below it; one above only for what is its own."""
    parents = {name for name, module in model.named_modules() if any(True for _ in module.children())}
    kept: dict[str, Layer] = {}
    for name, row in rows.items():
        parts = name.split(".") if name else []
        if depth is not None and len(parts) > depth:
            top = kept[".".join(parts[:depth])]
            for count in ("trainable", "fixed", "averages", "flops"):
                setattr(top, count, getattr(top, count) + getattr(row, count))
        else:
            kept[name] = replace(row)
    cut = {name for name in rows if name in parents and (depth is None or name.count(".") + bool(name) < depth)}
    return [
        row for row in kept.values() if row.trainable or row.fixed or row.flops or (row.calls and row.name not in cut)
    ]
