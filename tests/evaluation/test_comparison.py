"""Models compared on the same images: the order, the intervals, the front."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import evaluate_classification
from sightline.evaluation.comparison import Cost, compare_results, pareto_front
from sightline.evaluation.paired import paired_intervals
from sightline.evaluation.result import PlainResult
from sightline.report.comparison import cells_of, front_figure, heads_of, markdown
from sightline.structures import Classes, ClassScores

NAMES = Classes(["a", "b"])
COST = Cost(2_500_000, 600_000_000, 10.0, 3, 1.5)


def result(right: list[bool]) -> Any:
    """A classification with these images right."""
    targets = [ClassScores((8, 8), label=0, classes=NAMES) for _ in right]
    scores = [torch.tensor([0.9, 0.1] if is_right else [0.2, 0.8]) for is_right in right]
    predictions = [ClassScores((8, 8), scores=values, classes=NAMES) for values in scores]
    return evaluate_classification(targets, predictions, NAMES)


def test_the_best_is_compared_with_each_other_one() -> None:
    """ "near" is wrong on two of 60 images that "best" has right, and right on one that it has wrong; "far" on 30."""
    best = [True] * 59 + [False]
    results = {
        "far": result([False] * 30 + [True] * 29 + [False]),
        "near": result([False] * 2 + [True] * 58),
        "best": result(best),
    }
    costs = {"far": replace(COST, milliseconds=1.0), "near": replace(COST, milliseconds=20.0), "best": COST}
    rows = compare_results(results, costs, "top1")
    assert [row.name for row in rows] == ["best", "near", "far"]
    assert [row.verdict for row in rows] == ["best", "not distinguishable", "worse"]
    assert rows[0].difference is None
    assert rows[1].difference == pytest.approx(-1 / 60)
    assert rows[2].difference == pytest.approx(-0.5)
    # two comparisons: each interval has the level 97.5 %, and is that of the paired bootstrap
    assert rows[2].difference_interval == paired_intervals(results["best"], results["far"], 0.975)["top1"]
    assert rows[1].interval == results["near"].intervals()["top1"]
    assert [row.on_front for row in rows] == [True, False, True]  # near is slower and worse than best
    assert cells_of(rows[1])[5:10] == ["not distinguishable", "2.50 M", "0.60", "20.0", ""]


def test_a_lower_metric_may_be_better() -> None:
    results = {"a": result([True] * 40), "b": result([False] * 40)}
    costs = dict.fromkeys(results, COST)
    rows = compare_results(results, costs, "NLL", lower_is_better=True)
    assert [(row.name, row.verdict) for row in rows] == [("a", "best"), ("b", "worse")]
    assert rows[1].difference is not None
    assert rows[1].difference > 0


def plain(value: float | None) -> Any:
    return PlainResult("own", {"score": value}, np.zeros(3))


def test_metrics_without_intervals_and_without_values() -> None:
    results = {"none": plain(None), "low": plain(0.2), "high": plain(0.4)}
    rows = compare_results(results, dict.fromkeys(results, COST), "score")
    assert [(row.name, row.verdict) for row in rows] == [
        ("high", "best"),
        ("low", "no interval"),
        ("none", "not available"),
    ]
    assert rows[1].difference == pytest.approx(-0.2)
    assert rows[2].difference is None
    assert not rows[2].on_front
    only = compare_results({"none": plain(None)}, {"none": COST}, "score")
    assert only[0].verdict == "not available"
    text = markdown(rows, "title", "score", ["a fact"])
    assert text.splitlines()[:3] == ["# title", "", "- a fact"]
    assert "| none | n/a |" in text
    assert len(heads_of("score")) == len(cells_of(rows[0]))


def test_other_images_are_refused() -> None:
    first, second = result([True, False]), result([True, True])
    first.names, second.names = ["x.jpg", "y.jpg"], ["x.jpg", "z.jpg"]
    with pytest.raises(
        InputError, match="first and second cannot be compared: they were evaluated on different images"
    ):
        compare_results({"first": first, "second": second}, {"first": COST, "second": COST}, "top1")


def test_the_front_by_looking_at_all_pairs() -> None:
    points = [(1.0, 0.2), (2.0, 0.5), (2.0, 0.4), (3.0, 0.5), (4.0, 0.9), (0.5, None), (1.0, 0.2)]
    assert pareto_front(points) == [True, True, False, False, True, False, True]


def test_the_plot_joins_the_front() -> None:
    results = {"a": plain(0.2), "b$": plain(0.4), "c": plain(0.1)}
    costs = {"a": COST, "b$": replace(COST, milliseconds=30.0), "c": replace(COST, milliseconds=40.0)}
    figure = front_figure(compare_results(results, costs, "score"), "score")
    front = figure.axes[0].get_lines()[0]
    assert [list(map(float, values)) for values in front.get_data()] == [[10.0, 30.0], [0.2, 0.4]]
    assert {text.get_text() for text in figure.axes[0].texts} == {"a", r"b\$", "c"}
    assert figure.axes[0].xaxis.get_major_formatter()(100.0) == "100"
