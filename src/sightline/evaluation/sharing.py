"""Share the images of an evaluation among several processes, and put their parts together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sightline.evaluation.packed import pack, unpack
from sightline.evaluation.result import Asking, Joining, MakeMeasure, Measure, Result
from sightline.runtime.joining import given_by_main, joined
from sightline.runtime.processes import is_main, process_index, world_size
from sightline.structures import Classes


class Part:
    """A part of a dataset: consecutive images.

    Args:
        data: the dataset.
        rows: the images of the part.
    """

    def __init__(self, data: Any, rows: range):
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.data[self.rows[i]]


class Pairs:
    """A measure that keeps targets and predictions, for measures that cannot take over the images of another one."""

    def __init__(self, measure: Measure):
        self.measure = measure
        self.pairs: list[tuple[Any, Any]] = []

    def add(self, target: Any, prediction: Any) -> None:
        self.pairs.append((pack(target), pack(prediction)))

    def join(self, other: Pairs) -> None:
        self.pairs += other.pairs

    def result(self, names: Sequence[str] | None = None) -> Result:
        for pair in self.pairs:
            self.measure.add(*map(unpack, pair))
        return self.measure.result(names)


def shareable(measure: Measure) -> bool:
    """Whether several processes can share the images of a measure.

    Not if it asks the model for more and keeps the answers where nothing else can find them.
    """
    return isinstance(measure, Joining) or not isinstance(measure, Asking)


def shared_result(
    make: MakeMeasure,
    classes: Classes,
    keep: bool,
    data: Any,
    fill: Callable[[Measure, Any], None],
    names: Sequence[str],
    device: torch.device | str | None,
) -> Result:
    """The result of all images, of which each process adds a part.

    The parts are consecutive, and are joined in the order of the images, so that the result is that of one process
    (up to the rounding of sums).

    Args:
        make: creates the measure.
        classes, keep: its arguments.
        data: all images; the same in all processes.
        fill: (measure, part of the data) → adds the images of the part.
        names: the name of each image.
        device: the device of the model.

    Returns:
        The result; targets and predictions, if kept, are in that of the main process only.
    """
    if not torch.distributed.is_initialized():  # in a training run the processes are connected
        joined(None if device is None else str(device))
    count, number = world_size(), process_index()
    made = make(classes, keep)
    measure: Any = made if isinstance(made, Joining) else Pairs(made)
    fill(measure, Part(data, range(len(data) * number // count, len(data) * (number + 1) // count)))
    parts: list[Any] | None = [None] * count if is_main() else None
    torch.distributed.gather_object(measure, parts)
    kept: list[Result] = []

    def result() -> Result:
        assert parts is not None
        for part in parts[1:]:
            parts[0].join(part)
        kept.append(parts[0].result(names))
        light: Any = copy.copy(kept[0])
        light.targets = light.predictions = None
        return light

    light = given_by_main(is_main(), result)
    return kept[0] if kept else light
