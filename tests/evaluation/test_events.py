"""Events in videos: every figure worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.evaluation.caption_scores import caption_score
from sightline.evaluation.event_baseline import BlindBaseline
from sightline.evaluation.events import OVERLAPS, EventMeasure, evaluate_events
from sightline.ops.intervals import interval_iou, interval_nms


def events(times, captions, scores=None, duration=10.0) -> sl.Events:
    known = None if scores is None else torch.tensor(scores)
    return sl.Events((4, 4), times, captions, duration, known)


def test_overlaps_of_intervals():
    a = torch.tensor([[0.0, 4.0], [4.0, 10.0], [9.0, 10.0]])
    b = torch.tensor([[0.0, 4.0], [5.0, 10.0]])
    assert interval_iou(a, b).tolist() == [[1, 0], [0, pytest.approx(5 / 6)], [0, pytest.approx(0.2)]]
    near = torch.tensor([[0.0, 4.0], [0.0, 5.0], [5.0, 9.0]])  # the first two have an IoU of 0.8
    assert interval_nms(near, torch.tensor([0.5, 0.75, 0.25]), 0.7).tolist() == [1, 2]
    assert interval_nms(near, torch.tensor([0.5, 0.75, 0.25]), 0.9).tolist() == [1, 0, 2]


TARGETS = [
    events([[0, 4], [5, 10]], ["a dog runs", "it jumps"]),
    events([[0, 10]], ["a cat sleeps"]),
    events([], []),
]
PREDICTIONS = [
    # IoU 1 with the first event, 5/6 and 1/5 with the second one
    events([[0, 4], [4, 10], [9, 10]], ["a dog runs", "it jumps", "it jumps"], [0.875, 0.75, 0.5]),
    events([], [], []),
    events([[0, 1]], ["a bird sings"], [0.25]),
]


def test_figures_worked_by_hand():
    result = evaluate_events(TARGETS, PREDICTIONS, ["a", "b", "c"])
    # At 0.3, 0.5 and 0.7 two of three captions of the first video are right, at 0.9 one; the second has no predictions.
    first = [2 / 3, 2 / 3, 2 / 3, 1 / 3]
    for place, overlap in enumerate(OVERLAPS):
        assert result.metrics[f"caption_score@{overlap}"] == pytest.approx(first[place] / 2)
        assert result.metrics[f"recall@{overlap}"] == pytest.approx([1, 1, 1, 0.5][place] / 2)
        assert result.metrics[f"precision@{overlap}"] == pytest.approx(first[place] / 2)  # the third: 0 of 1
    assert result.metrics["caption_score"] == pytest.approx(sum(first) / 8)
    assert result.metrics["recall"] == pytest.approx(3.5 / 8)
    assert result.metrics["caption_score_matched"] == 1
    assert (result.images, result.events, result.names) == (3, 3, ["a", "b", "c"])
    assert result.worst_first().tolist() == [1, 0, 2]
    assert result.to_dict()["videos"]["recall"] == [[1, 1, 1, 0.5], [0, 0, 0, 0], [None] * 4]
    assert "caption_score@0.5      0.333  score of the captions at temporal IoU 0.5" in str(result)
    low, high = result.intervals()["caption_score"]
    assert 0 <= low < result.metrics["caption_score"] < high <= first[0]


def test_every_pair_of_a_prediction_counts():
    """One prediction that overlaps two events has two pairs: one with an equal sentence, one with another one."""
    target = events([[0, 10], [0, 9]], ["a dog runs", "it jumps"])
    result = evaluate_events([target], [events([[0, 10]], ["a dog runs"], [1.0])])
    assert result.metrics["caption_score@0.9"] == pytest.approx(0.5)  # an IoU of 0.9 counts
    assert result.metrics["recall@0.9"] == 1
    assert result.metrics["precision@0.9"] == 1


def test_the_threshold_has_the_highest_f1():
    # by falling score: right, right, wrong, right; F1 of the first k: 2·1/(1+4), 2·2/(2+4), 2·2/(3+4), 2·3/(4+4)
    target = events([[0, 2], [2, 4], [4, 6], [6, 8]], ["a"] * 4)
    found = events([[0, 2], [2, 4], [8, 10], [4, 6]], ["a"] * 4, [0.875, 0.75, 0.5, 0.25])
    assert evaluate_events([target], [found]).threshold == 0.25
    wrong = events([[0, 2], [8, 10], [8, 9], [4, 6]], ["a"] * 4, [0.875, 0.75, 0.5, 0.25])
    assert evaluate_events([target], [wrong]).threshold == 0.25  # F1 2/5, 2/6, 2/7, 4/8
    worse = events([[0, 2], [8, 10], [8, 9], [9, 10]], ["a"] * 4, [0.875, 0.75, 0.5, 0.25])
    assert evaluate_events([target], [worse]).threshold == 0.875


def test_labels_against_themselves_score_one():
    targets = TARGETS[:2]
    own = [events(t.times, t.captions, [1.0] * len(t)) for t in targets]
    result = evaluate_events(targets, own)
    assert [name for name, value in result.metrics.items() if value != 1] == ["caption_score_blind"]


def test_what_is_not_available_says_why():
    nothing = evaluate_events([events([], [])], [events([], [], [])])
    assert nothing.metrics["caption_score"] is None
    assert nothing.reasons["recall@0.5"] == "there are no events in these labels"
    missed = evaluate_events(TARGETS[:1], [events([], [], [])])
    assert (missed.metrics["caption_score"], missed.metrics["precision"]) == (0, None)
    assert missed.reasons == dict.fromkeys(
        ["precision", *(f"precision@{o:g}" for o in OVERLAPS), "caption_score_matched", "exact"],
        "there are no predictions",
    )
    with pytest.raises(sl.InputError, match="have no scores"):
        EventMeasure().add(TARGETS[0], TARGETS[0])
    with pytest.raises(sl.InputError, match="there are 1 targets but 0 predictions"):
        evaluate_events(TARGETS[:1], [])


def test_a_baseline_that_sees_no_picture():
    """Two kinds of interval in videos of other lengths; the sentence that most resemble."""
    targets = [
        events([[0, 5], [8, 10]], ["a red dog runs", "a red dog jumps"]),
        events([[0, 50], [80, 100]], ["a red dog runs", "cats sleep"], duration=100.0),
        events([], []),
    ]
    baseline = BlindBaseline.of(targets)
    assert set(baseline.intervals) == {(0.0, 0.5), (0.8, 1.0)}
    assert baseline.caption == "a red dog runs"
    found = baseline.predict(targets[1].resized((2, 2)))
    assert sorted(found.times.tolist()) == [[0, 50], [80, 100]]
    assert found.image_size == (2, 2)
    assert found.scores.tolist() == [1, 0.5]
    assert evaluate_events(targets, [baseline.predict(t) for t in targets]).metrics["recall"] == 1
    assert len(BlindBaseline.of(targets, 1).intervals) == 1
    with pytest.raises(sl.InputError, match="the baseline needs labelled events"):
        BlindBaseline.of(targets[2:])


def test_the_baseline_stands_beside_the_figures():
    """The same event in every video; predicting it with its sentence is the baseline itself, which is remarked on."""
    labels = [events([[0, 5]], [words]) for words in ("a red dog runs", "a red dog runs", "cats sleep") * 2]
    same = [events([[0, 5]], ["a red dog runs"], [0.9]) for _ in labels]
    result = evaluate_events(labels, same)
    assert result.metrics["caption_score_blind"] == result.metrics["caption_score"] == pytest.approx(4 / 6)
    assert result.metrics["exact"] == pytest.approx(4 / 6)
    assert "not above the 0.667 of a baseline that sees nothing and always says 'a red dog runs'" in result.notes[0]
    assert result.notes[1] == "6 of 6 captions are the same sentence, 'a red dog runs'"
    right = evaluate_events(labels, [events([[0, 5]], list(t.captions), [0.9]) for t in labels])
    assert right.metrics["exact"] == 1
    assert right.metrics["caption_score_blind"] == pytest.approx(4 / 6)
    assert len(right.notes) == 1
    assert evaluate_events([events([], [])], [events([], [], [])]).metrics["caption_score_blind"] is None


def test_the_evaluation_is_that_of_a_naive_loop():
    """The rules of the evaluator, written as plain loops over random videos."""
    generator = np.random.default_rng(0)
    words = ["a dog runs", "a cat sleeps", "the red ball jumps away", "it jumps"]

    def some(count):
        starts = generator.uniform(0, 7, count)
        times = np.stack([starts, starts + generator.uniform(0.5, 3, count)], 1)
        return times.tolist(), [words[k] for k in generator.integers(0, 4, count)]

    targets = [events(*some(int(generator.integers(1, 5)))) for _ in range(12)]
    found = []
    for _ in targets:
        count = int(generator.integers(1, 8))
        found.append(events(*some(count), generator.uniform(0, 1, count).tolist()))
    scores = []
    for overlap in OVERLAPS:
        means = []
        for target, own in zip(targets, found, strict=True):
            pairs = []
            for (s, e), caption in zip(own.times.tolist(), own.captions, strict=True):
                close = []
                for (a, b), sentence in zip(target.times.tolist(), target.captions, strict=True):
                    inter = max(0.0, min(e, b) - max(s, a))
                    if inter / (e - s + b - a - inter) >= overlap:
                        close.append(caption_score(caption, [sentence]))
                pairs += close or [0.0]
            means.append(np.mean(pairs))
        scores.append(np.mean(means))
    result = evaluate_events(targets, found)
    assert [result.metrics[f"caption_score@{o:g}"] for o in OVERLAPS] == pytest.approx(scores)
