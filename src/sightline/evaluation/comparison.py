"""Compare models on the same images: which is best, and which differences are significant.

The best model is compared with each other one by a paired bootstrap over the images (`sightline.evaluation.paired`).
The intervals hold simultaneously: with n other models, each has the level 1 − 0.05 / n (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.paired import paired_intervals
from sightline.evaluation.result import Result

LEVEL = 0.95
"""The simultaneous level of all intervals of differences."""


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Attributes:
        parameters: number of parameters.
        flops: floating-point operations for one image; two per multiply-add.
        milliseconds: median time of one image, preprocessing and decoding included.
        epochs: epochs trained.
        minutes: wall time of training, including validation.
    """

    parameters: int
    flops: int
    milliseconds: float
    epochs: int
    minutes: float


@dataclass(frozen=True)
class ComparedModel:
    """A model in comparison with the others.

    Attributes:
        name: name of the model.
        cost: its size and times.
        metrics: the headline of its result.
        value: the metric that is compared; None if it is not available.
        interval: 95 % interval of the value over the images; None for a metric without one.
        difference: value minus that of the best model; None for the best itself.
        difference_interval: interval of the difference, paired by image; None for a metric without one.
        verdict: "best", "worse", "not distinguishable", "no interval" or "not available".
        on_front: whether no other model is both better and faster; False without a value.
    """

    name: str
    cost: Cost
    metrics: dict[str, float | None]
    value: float | None
    interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    verdict: str
    on_front: bool

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON values."""
        return asdict(self)


def compare_results(
    results: Mapping[str, Result], costs: Mapping[str, Cost], metric: str, *, lower_is_better: bool = False
) -> list[ComparedModel]:
    """Compare models by their results on the same images.

    Args:
        results: result of each model.
        costs: cost of each model.
        metric: the metric to compare.
        lower_is_better: whether a lower metric is better.

    Returns:
        One row per model, the best first and those without a value last; equal values are ordered by time.

    Raises:
        InputError: the results were computed on different images.
    """
    names = {name: result.names for name, result in results.items() if result.names is not None}
    first = next(iter(names), "")
    for name, images in names.items():
        if list(images) != list(names[first]):
            raise InputError(f"{first} and {name} cannot be compared: they were evaluated on different images")
    sign = -1.0 if lower_is_better else 1.0
    values = {name: result.metrics.get(metric) for name, result in results.items()}

    def place(name: str) -> tuple[bool, float, float]:
        value = values[name]
        return value is None, 0.0 if value is None else -sign * value, costs[name].milliseconds

    order = sorted(results, key=place)
    best = order[0]
    level = 1 - (1 - LEVEL) / max(1, sum(value is not None for value in values.values()) - 1)
    front = pareto_front([(costs[n].milliseconds, v if v is None else sign * v) for n, v in values.items()])
    on_front = dict(zip(values, front, strict=True))
    rows = []
    for name in order:
        value, top, difference, interval = values[name], values[best], None, None
        if value is not None and top is not None and name != best:
            difference = value - top
            interval = paired_intervals(results[best], results[name], level).get(metric)
        own = None if value is None else results[name].intervals(LEVEL).get(metric)
        headline = {key: results[name].metrics[key] for key in results[name].headline}
        verdict = "best" if name == best and value is not None else _verdict(value, interval, lower_is_better)
        rows.append(
            ComparedModel(
                name, costs[name], headline, value, own, difference, interval, verdict, on_front=on_front[name]
            )
        )
    return rows


def pareto_front(points: Sequence[tuple[float, float | None]]) -> list[bool]:
    """Which points of (cost, value) no other point beats: none has a lower cost and at least the value, or a higher
    value at no higher cost. Points without a value are never on the front."""

    def beaten(cost: float, value: float) -> bool:
        return any(v is not None and c <= cost and v >= value and (c < cost or v > value) for c, v in points)

    return [value is not None and not beaten(cost, value) for cost, value in points]


def _verdict(value: float | None, interval: tuple[float, float] | None, lower_is_better: bool) -> str:
    if value is None:
        return "not available"
    if interval is None:
        return "no interval"
    worse = interval[0] > 0 if lower_is_better else interval[1] < 0
    return "worse" if worse else "not distinguishable"
