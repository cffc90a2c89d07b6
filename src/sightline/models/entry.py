"""A row of the catalog: a name and the function that builds the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Entry:
    """A model by name.

    Attributes:
        name: in the catalog.
        builder: (classes, *, in_channels, …) → model.
        task: "detection", "classification".
        paper: where it is from.
        aliases: other names for it.
        backbone: catalog name of the classifier whose weights its backbone takes.
        start: arguments that suit a start from pretrained weights, unless given otherwise.
    """

    name: str
    builder: Callable[..., nn.Module]
    task: str
    paper: str
    aliases: tuple[str, ...] = ()
    backbone: str | None = None
    start: dict[str, Any] = field(default_factory=dict)
