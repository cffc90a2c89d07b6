"""The statistics of an ablation: t intervals and tails against tables, Holm by hand, pairing, and false claims."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sightline.evaluation.ablation import Compared, compare
from sightline.evaluation.intervals import holm, mean_interval, mean_p_value, t_tail


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)]
)
def test_t_distribution_as_in_the_tables(degrees: int, t: float) -> None:
    assert t_tail(t, degrees) == pytest.approx(0.05, abs=6e-5)  # the tables have three decimals
    assert t_tail(0.0, degrees) == 1


def test_one_and_two_degrees_in_closed_form() -> None:
    for t in (0.01, 0.3, 1.0, 2.5, 40.0):
        assert t_tail(t, 1) == pytest.approx(1 - 2 * np.arctan(t) / np.pi, rel=1e-9)
        assert t_tail(t, 2) == pytest.approx(1 - t / np.sqrt(2 + t * t), rel=1e-9)


def test_interval_by_hand() -> None:
    """Mean 2 and standard error 1 / √3 of 1, 2, 3."""
    reach = 4.3027 / 3**0.5
    assert mean_interval([1, 2, 3]) == pytest.approx((2 - reach, 2 + reach), abs=1e-4)
    assert mean_p_value([1, 2, 3]) == pytest.approx(t_tail(2 * 3**0.5, 2))
    assert mean_interval([1]) is None
    assert mean_interval([0.1, 0.1, 0.1]) is None
    assert mean_p_value([0.1, 0.1, 0.1]) is None


def test_holm_by_hand() -> None:
    """Sorted: 3 · 0.01, then 2 · 0.02, then 0.03, which may not fall below the one before."""
    assert holm({"a": 0.03, "b": 0.01, "c": 0.02}) == pytest.approx({"a": 0.04, "b": 0.03, "c": 0.04})
    assert holm({"a": 0.8, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def named(rows: list[Compared]) -> dict[str, Compared]:
    return {row.name: row for row in rows}


def test_pairs_cancel_what_seeds_do_to_both() -> None:
    """The seeds differ by far more than the variant does."""
    base = {0: 0.10, 1: 0.50, 2: 0.90}
    better = {0: 0.121, 1: 0.519, 2: 0.920}
    noise = {0: 0.15, 1: 0.48, 2: 0.91}
    rows = named(compare({"base": base, "better": better, "noise": noise}, "base"))
    assert rows["better"].difference == pytest.approx(0.02)
    assert rows["better"].real
    assert rows["better"].verdict == "better"
    assert rows["noise"].verdict == "not distinguishable"
    assert rows["base"].differences == {}
    assert rows["base"].spread == pytest.approx(0.4)
    lower = named(compare({"base": base, "better": better}, "base", lower_is_better=True))
    assert lower["better"].verdict == "worse"
    json.dumps([row.to_dict() for row in rows.values()])


def test_missing_seeds() -> None:
    rows = named(compare({"base": {0: 0.5, 1: 0.6}, "one": {1: 0.7}, "none": {}, "other": {7: 0.1}}, "base"))
    assert rows["one"].difference == pytest.approx(0.1)
    assert [rows[name].verdict for name in ("one", "none", "other")] == ["one seed", "not run", "no common seed"]
    assert not rows["one"].real
    same = named(compare({"base": {0: 0.5, 1: 0.5}, "same": {0: 0.75, 1: 0.75}}, "base"))["same"]
    assert not same.real
    assert same.verdict.startswith("same difference in every seed")


def test_interaction_of_a_pair() -> None:
    scores = {
        "base": {0: 0.5, 1: 0.6},
        "a": {0: 0.6, 1: 0.7},
        "b": {0: 0.55, 1: 0.63},
        "a + b": {0: 0.66, 1: 0.74},  # 0.16 and 0.14, where the parts add up to 0.15 and 0.13
    }
    row = named(compare(scores, "base", {"a + b": ("a", "b")}))["a + b"]
    assert row.interaction == pytest.approx(0.01)
    assert named(compare(scores, "base"))["a + b"].interaction is None


def test_few_tables_without_real_differences_claim_one() -> None:
    """Six variants of pure noise, three seeds, 400 tables: at most about 5 % hold a claim."""
    rng = np.random.default_rng(0)
    claims = 0
    for values in rng.normal(0.5, 0.02, (400, 7, 3)).tolist():
        scores = {str(i): dict(enumerate(row)) for i, row in enumerate(values)}
        claims += any(row.real for row in compare(scores, "0"))
    assert claims / 400 < 0.08
