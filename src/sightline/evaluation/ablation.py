"""Compare variants of a training run with its base over a few seeds: which differences are larger than the seeds'
noise.

Each variant is trained with the same seeds as the base, so that differences are paired by seed: what a seed does to
both (the order of the images, the initial weights) cancels out. The mean difference gets Student's t interval, and a
difference counts as real only if its p-value, adjusted by Holm's method for the number of variants, is below 5 %. With
few seeds this demands large differences; that is the price of few seeds, and no other statistic avoids it.

The intervals cover the seeds, not the choice of the images that the variants are compared on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sightline.evaluation.intervals import holm, mean_interval, mean_p_value

LEVEL = 0.95
"""Level of the intervals; 1 − LEVEL is the probability of a false claim in a table without real differences."""
Scores = Mapping[str, Mapping[int, float]]
"""The metric of each finished run: variant → seed → value."""


@dataclass(frozen=True)
class Compared:
    """A variant compared with the base.

    Attributes:
        name: name of the variant.
        scores: metric by seed.
        mean: mean over its seeds; None without a finished run.
        spread: standard deviation over the seeds; None for fewer than two.
        differences: metric minus that of the base, by seed; empty for the base itself.
        difference: mean of the differences, or None.
        interval: 95 % t interval of this mean; None for fewer than two seeds.
        p: p-value of no difference, adjusted by Holm's method for the number of variants; None without interval.
        interaction: for a pair of switches, how much its difference exceeds the sum of those of its parts; or None.
        interaction_interval: 95 % t interval of the interaction.
        lower_is_better: whether a lower metric is better.
    """

    name: str
    scores: dict[int, float]
    mean: float | None
    spread: float | None
    differences: dict[int, float]
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    interaction: float | None = None
    interaction_interval: tuple[float, float] | None = None
    lower_is_better: bool = False

    @property
    def real(self) -> bool:
        """Whether the difference is larger than the seeds' noise can explain."""
        return self.p is not None and self.p < 1 - LEVEL

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        if self.difference is None:
            return "no common seed" if self.scores else "not run"
        if self.p is None:
            return "one seed" if len(self.differences) < 2 else "same difference in every seed: no spread to judge by"
        if not self.real:
            return "not distinguishable"
        return "better" if (self.difference > 0) != self.lower_is_better else "worse"

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON values."""
        return asdict(self) | {"real": self.real, "verdict": self.verdict if self.differences else ""}


def compare(
    scores: Scores, base: str, parts: Mapping[str, Sequence[str]] | None = None, *, lower_is_better: bool = False
) -> list[Compared]:
    """Compare variants with the base, paired by seed.

    Args:
        scores: metric of each finished run; variants may lack seeds.
        base: name of the variant to compare with.
        parts: for a pair of switches, the names of the two variants with one of them each.
        lower_is_better: whether a lower metric is better.

    Returns:
        One row per variant, in the order of `scores`.
    """
    differences = {name: {} if name == base else _paired(values, scores[base]) for name, values in scores.items()}
    p_values = {name: mean_p_value(list(values.values())) for name, values in differences.items()}
    adjusted = holm({name: p for name, p in p_values.items() if p is not None})
    rows = []
    for name, values in scores.items():
        own = list(differences[name].values())
        first, second = (parts or {}).get(name, ("", ""))
        beyond = [
            own_difference - differences[first][seed] - differences[second][seed]
            for seed, own_difference in differences[name].items()
            if first in differences and seed in differences[first] and seed in differences.get(second, {})
        ]
        rows.append(
            Compared(
                name,
                dict(values),
                _mean(list(values.values())),
                float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else None,
                differences[name],
                _mean(own),
                mean_interval(own, LEVEL),
                adjusted.get(name),
                _mean(beyond),
                mean_interval(beyond, LEVEL),
                lower_is_better,
            )
        )
    return rows


def _paired(values: Mapping[int, float], base: Mapping[int, float]) -> dict[int, float]:
    return {seed: value - base[seed] for seed, value in values.items() if seed in base}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
