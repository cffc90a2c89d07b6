"""Which batch norms of a network could be folded, from the operations that it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sightline.nn.layers import FrozenBatchNorm2d

_LINEAR = ("convolution", "addmm", "mm", "bmm", "linear")


class _Recorder(TorchDispatchMode):
    """Notes what each tensor was computed by, and by how many operations it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.made_by: dict[int, str] = {}
        self.views: dict[int, int] = {}
        self.reads: Counter[int] = Counter()
        self.normalised: list[int] = []
        self.alive: list[Tensor] = []  # so that no other tensor gets the same id

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "_convolution_pointwise" and args[7] == "none":  # without an activation
            name = "convolution"
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
        if func.is_view:
            self.views |= {id(value): self._source(given[0]) for value in made}
        else:
            self.reads.update({self._source(value) for value in given})
            self.made_by |= {id(value): name for value in made if id(value) not in self.made_by}
        if "batch_norm" in name:
            self.normalised.append(self._source(given[0]))
        self.alive += [*given, *made]
        return out

    def _source(self, value: Tensor) -> int:
        return self.views.get(id(value), id(value))

    def foldable(self) -> list[str]:
        """What computes the input of each norm that could be folded: it is linear, and nothing else reads it."""
        sources = [source for source in self.normalised if self.reads[source] == 1]
        return [self.made_by[source] for source in sources if self.made_by.get(source, "").strip("_") in _LINEAR]


def foldable_norms(compute: Callable[[], Any]) -> list[str]:
    """For each batch norm that is computed and could be folded, the operation before it."""
    with torch.no_grad(), _Recorder() as recorder:
        compute()
    return recorder.foldable()


def norms(module: nn.Module) -> list[str]:
    """The names of all batch norms of a module."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, FrozenBatchNorm2d)
    return [name for name, layer in module.named_modules() if isinstance(layer, kinds)]
