"""Read and replace the maps of a layer during a forward pass; leave a model as it was.

Hooks live in context managers, so that they are removed also after an exception.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.runtime.devices import running
from sightline.structures import Size

_EXPLAINED: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_CHANGING = threading.Lock()


@contextmanager
def unchanged(model: nn.Module, device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Context in which a model is explained: in eval mode, and its parameters require no gradients.

    Afterwards modes, device, `requires_grad` and gradients are as before, also after an exception. No gradient reaches
    the parameters, because they do not require any. Gradients of other tensors can be computed in the context, also
    inside `torch.inference_mode`. Another thread that explains the same model waits.

    Args:
        model: the model.
        device: where it runs; None for the device it is on.

    Yields:
        The device.
    """
    with _CHANGING:
        turn = _EXPLAINED.setdefault(model, threading.RLock())
    outside = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    with turn, outside:
        wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            with running(model, device) as place:
                yield place
        finally:
            for parameter, required in wanted:
                parameter.requires_grad_(required)


@contextmanager
def captured(
    layer: nn.Module,
    change: Callable[[Tensor], Tensor] | None = None,
    found: Callable[[Tensor], object] | None = None,
) -> Iterator[list[Tensor]]:
    """Context that collects the maps that a layer returns, as the leaves that gradients are computed for.

    A layer may return several maps (a list or dictionary, such as a feature pyramid), and may be called several times
    (a head shared by several levels); all of them are collected. The graph starts at these maps: layers before them
    build none, so that a backward pass costs only what follows the layer. The layer's successors receive a copy, so
    that in-place operations do not change the collected maps. Only the calls of this thread are collected.

    Args:
        layer: the layer.
        change: function applied to every collected map, before the successors receive it; None for no change.
        found: called with each map as the layer returned it, in the order of the list.

    Yields:
        The list that is filled during the forward pass: tensors [N, C, h, w], or [N, L, C] for tokens.
    """
    maps: list[Tensor] = []

    def collect(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim in (3, 4):
            if found is not None:
                found(value)
            own = value.detach() if change is None else change(value.detach())
            if torch.is_grad_enabled():
                own = own.clone().requires_grad_()
            maps.append(own)
            return own.clone()
        if isinstance(value, Mapping):
            return type(value)({name: collect(part) for name, part in value.items()})  # type: ignore[call-arg]
        if isinstance(value, list | tuple):
            parts = [collect(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    thread = threading.get_ident()
    handle = layer.register_forward_hook(
        lambda module, inputs, output: collect(output) if threading.get_ident() == thread else output
    )
    try:
        yield maps
    finally:
        handle.remove()


def require_maps(maps: list[Tensor], layer: nn.Module) -> list[Tensor]:
    """The maps that `captured` has collected.

    Raises:
        InputError: there are none.
    """
    if maps:
        return maps
    raise InputError(
        f"the layer {type(layer).__name__} returned no feature map [N, C, h, w] when the model scored the image; "
        "name a convolution, or a stage of the backbone"
    )


def as_map(values: Tensor, image_size: Size) -> Tensor:
    """Tokens [N, L, C] of a vision transformer → a map [N, C, h, w]; maps are returned unchanged.

    Args:
        values: a map, or tokens in the order of rows and columns; additional tokens, such as a class token, come first.
        image_size: (height, width) of the batch, whose aspect ratio is that of the map.

    Raises:
        InputError: the number of tokens does not fit the image.
    """
    if values.ndim == 4:
        return values
    count = values.shape[1]
    height, width = image_size
    divisor = math.gcd(height, width)
    rows, columns = height // divisor, width // divisor  # the smallest grid of this aspect ratio
    times = math.isqrt(count // (rows * columns))
    used = times * times * rows * columns
    if not times or count - used > 8:  # class, distillation and register tokens
        raise InputError(
            f"the layer returns {count} tokens, which form no grid with the aspect ratio of an input of "
            f"{height}×{width} pixels; name a layer that returns maps [N, C, h, w]"
        )
    grid = values[:, count - used :].unflatten(1, (times * rows, times * columns))
    return grid.permute(0, 3, 1, 2)
