"""Modules built without memory, for their shapes, names and numbers of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = (Tensor.normal_, Tensor.uniform_)


class _NoDraws(TorchFunctionMode):
    """Leaves tensors of the meta device as they are where random values would be drawn into them.

    They hold no values, but torch takes milliseconds for each of these calls, more than for all else in a network.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build modules on the meta device: no memory is allocated, and no initial values are drawn.

    As `with torch.device("meta")`, in half the time. The modules can count their parameters and compute shapes.
    """
    with torch.device("meta"), _NoDraws():
        yield
