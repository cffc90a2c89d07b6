"""Whole-image classes: by hand, against scikit-learn, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from sightline.errors import ClassMismatch, InputError
from sightline.evaluation import ClassificationMeasure, evaluate_classification
from sightline.evaluation.classification import _bin
from sightline.structures import Classes, ClassScores

CLASSES = Classes(["cat", "dog", "eel"])


def target(label, classes=CLASSES):
    return ClassScores((8, 9), label=label, classes=classes)


def answer(scores, classes=CLASSES):
    return ClassScores((8, 9), scores=torch.tensor(scores), classes=classes)


def by_hand():
    """Four images: cat right, cat taken for dog, dog right, eel right but barely."""
    labels = [0, 0, 1, 2]
    scores = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.3, 0.3, 0.4]]
    return [target(i) for i in labels], [answer(s) for s in scores]


def test_by_hand():
    result = evaluate_classification(*by_hand(), CLASSES, names=["a", "b", "c", "d"])
    assert result.metrics["top1"] == 0.75
    assert result.metrics["top5"] is None
    assert result.reasons == {"top5": "the model knows only 3 classes"}
    assert result.headline == ("top1", "balanced_accuracy", "macro_F1")
    assert result.metrics["balanced_accuracy"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert result.metrics["macro_F1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    squares = [0.01 + 0.01, 0.64 + 0.49 + 0.01, 0.09 + 0.16 + 0.01, 0.09 + 0.09 + 0.36]
    assert result.metrics["Brier"] == pytest.approx(sum(squares) / 4)
    assert result.metrics["NLL"] == pytest.approx(-sum(map(math.log, [0.9, 0.2, 0.6, 0.4])) / 4)
    # bins of 1/15: 0.9 in (13/15, 14/15], 0.7 in (10/15, 11/15], 0.6 in (8/15, 9/15], 0.4 in (5/15, 6/15]
    assert result.metrics["ECE"] == pytest.approx((0.1 + 0.7 + 0.4 + 0.6) / 4)
    assert result.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result.confusions() == [("cat", "dog", 1)]
    assert result.per_class["dog"] == {"precision": 0.5, "recall": 1.0, "F1": pytest.approx(2 / 3)} | {
        "support": 1,
        "predicted": 2,
    }
    assert result.predicted_names == ["cat", "dog", "dog", "eel"]
    assert result.worst_first().tolist() == [1, 3, 2, 0]  # the wrong one, then the right ones by confidence
    rows = result.calibration()
    assert len(rows) == 15
    assert [row["from"] for row in rows] == [round(b / 15, 6) for b in range(15)]
    last = rows[13]
    assert (last["images"], last["confidence"], last["accuracy"]) == (1, pytest.approx(0.9), 1.0)
    assert (rows[10]["images"], rows[10]["confidence"], rows[10]["accuracy"]) == (1, pytest.approx(0.7), 0.0)
    assert (rows[0]["images"], rows[0]["confidence"], rows[0]["accuracy"]) == (0, None, None)
    assert sum(row["images"] for row in rows) == 4


def random_case(seed, images=200, classes=8):
    """Labels of all classes but the last, and probabilities that are right in about half of the images."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, images)
    logits = rng.normal(0, 1.5, (images, classes))
    logits[np.arange(images), labels] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, scores, Classes([f"class {k}" for k in range(classes)])


@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, scores, names = random_case(seed)
    result = evaluate_classification([target(int(i), names) for i in labels], [answer(s, names) for s in scores], names)
    found = scores.argmax(1)
    ids = range(len(names))
    assert result.metrics["top1"] == pytest.approx(metrics.accuracy_score(labels, found))
    assert result.metrics["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, scores, k=5, labels=ids))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true") as _:
        assert result.metrics["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, found))
    assert result.metrics["macro_F1"] == pytest.approx(metrics.f1_score(labels, found, average="macro"))
    assert result.metrics["NLL"] == pytest.approx(metrics.log_loss(labels, scores, labels=ids))
    one_hot = np.eye(len(names))[labels]
    assert result.metrics["Brier"] == pytest.approx(((scores - one_hot) ** 2).sum(1).mean())
    assert result.confusion.tolist() == metrics.confusion_matrix(labels, found, labels=ids).tolist()
    table = metrics.precision_recall_fscore_support(labels, found, labels=ids, zero_division=np.nan)
    for k, name in enumerate(names):
        row = result.per_class[name]
        for key, column in zip(("precision", "recall", "F1", "support"), table, strict=True):
            if not np.isnan(column[k]):
                assert row[key] == pytest.approx(column[k])
    assert result.per_class["class 7"]["recall"] is None
    assert result.reasons["class 7/recall"] == "no image is labelled 'class 7'"


def naive_ece(confidence, right):
    total = 0.0
    for b in range(15):
        own = [(c, r) for c, r in zip(confidence, right, strict=True) if b / 15 < c <= (b + 1) / 15]
        if own:
            total += len(own) * abs(sum(r for _, r in own) / len(own) - sum(c for c, _ in own) / len(own))
    return total / len(right)


def test_calibration_equals_a_loop():
    labels, scores, names = random_case(5)
    result = evaluate_classification([target(int(i), names) for i in labels], [answer(s, names) for s in scores], names)
    right = scores.argmax(1) == labels
    assert result.metrics["ECE"] == pytest.approx(naive_ece(scores.max(1).tolist(), right.tolist()))
    weighted = sum(r["images"] * abs(r["accuracy"] - r["confidence"]) for r in result.calibration() if r["images"])
    assert weighted / 200 == pytest.approx(result.metrics["ECE"])


def test_a_bin_holds_its_upper_end():
    assert _bin(np.array([0.0, 0.01, 0.2, 0.201, 1.0])).tolist() == [0, 0, 2, 3, 14]


def test_intervals_equal_naive_resampling():
    labels, scores, names = random_case(3, 60)
    targets, found = [target(int(i), names) for i in labels], [answer(s, names) for s in scores]
    intervals = evaluate_classification(targets, found, names).intervals()
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        chosen = rng.integers(0, 60, 60)
        one = evaluate_classification([targets[i] for i in chosen], [found[i] for i in chosen], names)
        drawn.append(list(one.metrics.values()))
    for name, column in zip(one.metrics, np.array(drawn).T, strict=True):
        low, high = intervals[name]
        width = 1.96 * column.std()
        assert high - low == pytest.approx(2 * width, rel=0.25), name
        assert (low + high) / 2 == pytest.approx(column.mean(), abs=0.3 * width), name


def test_labels_against_themselves_score_one():
    targets = [target(i) for i in (0, 1, 2, 2)]
    result = evaluate_classification(targets, targets, CLASSES)
    assert [result.metrics[name] for name in ("top1", "balanced_accuracy", "macro_F1")] == [1.0, 1.0, 1.0]
    assert result.metrics["ECE"] is None
    assert result.reasons["Brier"] == result.reasons["top5"] == "the predictions have no scores"
    assert result.calibration() == []
    assert result.intervals().keys() == {"top1", "balanced_accuracy", "macro_F1"}
    certain = [answer(np.eye(3)[t.label].tolist()) for t in targets]
    metrics = evaluate_classification(targets, certain, CLASSES).metrics
    assert (metrics["ECE"], metrics["Brier"], metrics["NLL"]) == (0, 0, 0)


def test_classes_are_brought_over_by_name():
    """More of them, in another order: what is said to be none of the data's counts as wrong, also among the five."""
    wide = Classes(["ant", "eel", "dog", "cat", "bee", "fly"])
    targets = [target(0), target(1), target(2)]
    found = [
        answer([0.0, 0.0, 0.1, 0.9, 0.0, 0.0], wide),  # cat
        answer([0.6, 0.0, 0.4, 0.0, 0.0, 0.0], wide),  # ant, then dog
        answer([0.3, 0.1, 0.2, 0.15, 0.14, 0.11], wide),  # eel is the sixth
    ]
    result = evaluate_classification(targets, found, CLASSES)
    assert result.metrics["top1"] == pytest.approx(1 / 3)
    assert result.metrics["top5"] == pytest.approx(2 / 3)
    assert result.rank.tolist() == [0, 1, 5]
    assert result.other.tolist() == [0, 1, 1]
    assert result.confusion.sum() == 1
    assert result.predicted_names == ["cat", "ant", "ant"]
    assert result.notes == [
        "Images were predicted as classes that the data does not have (2 'ant'): they count as wrong"
    ]
    assert result.per_class["dog"]["recall"] == 0
    assert result.to_dict()["predictions"][1] == {"image": "image 1", "label": "dog", "predicted": "ant", "score": 0.6}


def test_equal_scores_are_ranked_by_id():
    result = evaluate_classification([target(0), target(1)], [answer([1 / 3] * 3)] * 2, CLASSES)
    assert result.rank.tolist() == [0, 1]
    assert result.metrics["top1"] == 0.5


def test_scores_that_are_no_probabilities_are_not_calibrated():
    for scores in ([2.0, 0.5, 0.1], [0.7, 0.6, -0.3], [0.5, 0.2, 0.1]):
        result = evaluate_classification([target(0)], [answer(scores)], CLASSES)
        assert result.metrics["top1"] == 1
        assert result.metrics["ECE"] is result.metrics["NLL"] is result.metrics["Brier"] is None
        assert "not probabilities" in result.reasons["ECE"]
        assert result.intervals().keys() == {"top1", "balanced_accuracy", "macro_F1"}


def test_scores_may_be_huge():
    result = evaluate_classification([target(0), target(1)], [answer([3e38, 0.0, -3e38])] * 2, CLASSES)
    assert result.metrics["top1"] == 0.5
    assert result.metrics["ECE"] is None
    assert result.intervals()["top1"][0] > 0


def test_a_probability_of_nothing_is_finite():
    result = evaluate_classification([target(0)], [answer([0.0, 1.0, 0.0])], CLASSES)
    assert result.metrics["NLL"] == pytest.approx(-math.log(np.finfo(np.float64).eps))


def test_intervals_hold_the_value_and_shrink():
    few, many = (
        evaluate_classification([target(int(i), n) for i in y], [answer(s, n) for s in p], n)
        for y, p, n in (random_case(1, 50), random_case(1, 800))
    )
    for name, (low, high) in many.intervals().items():
        assert low < many.metrics[name] < high or name == "ECE"  # which resampling pushes up
        assert high - low < few.intervals()[name][1] - few.intervals()[name][0]
    assert many.intervals().keys() == many.metrics.keys()
    assert many.intervals() == many.intervals()
    narrow, wide = many.intervals(0.5)["macro_F1"], many.intervals(0.99)["macro_F1"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    # the standard error of a mean over 800 images
    spread = many.log_loss.std() / math.sqrt(800)
    low, high = many.intervals()["NLL"]
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_json_and_table():
    result = evaluate_classification(*by_hand(), CLASSES)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["task"] == "classification"
    assert values["metrics"] == result.metrics
    assert values["intervals"]["top1"] == list(result.intervals()["top1"])
    assert "predictions" not in result.to_dict(details=False)
    table = str(result)
    assert table.startswith("4 images, 3 classes")
    assert "top1               0.750  0.301 to 0.954  fraction of images whose best class is correct" in table
    assert "n/a" in table
    assert table.index("eel") < table.index("cat  ")  # by falling F1
    assert repr(result).startswith("ClassificationResult(4 images: top1 0.750")
    assert result.targets is not None
    measure = ClassificationMeasure(CLASSES)
    for t, p in zip(*by_hand(), strict=True):
        measure.add(t, p)
    assert measure.result().targets is None
    assert measure.result().metrics == result.metrics


def test_refusals():
    targets, found = by_hand()
    with pytest.raises(InputError, match="4 targets but 3 predictions"):
        evaluate_classification(targets, found[:3], CLASSES)
    with pytest.raises(InputError, match="no images"):
        evaluate_classification([], [], CLASSES)
    with pytest.raises(InputError, match="2 names but 4 images"):
        evaluate_classification(targets, found, CLASSES, names=["a", "b"])
    with pytest.raises(InputError, match="no classes"):
        ClassificationMeasure([])
    with pytest.raises(InputError, match="image 0: the label is None"):
        evaluate_classification([answer([1.0, 0.0, 0.0])], found[:1], CLASSES)
    with pytest.raises(InputError, match=r"label is 7.*from 0 to 2"):
        evaluate_classification([target(7, None)], found[:1], CLASSES)
    for label in (7, -1, 3):
        with pytest.raises(InputError, match=f"image 0: the prediction's label is {label}.*from 0 to 2"):
            evaluate_classification(targets[:1], [target(label, None)], CLASSES)
    with pytest.raises(InputError, match="not all finite"):
        evaluate_classification(targets[:1], [answer([math.nan, 0.0, 0.0])], CLASSES)
    with pytest.raises(InputError, match=r"of shape \[2\]"):
        evaluate_classification(targets[:1], [answer([0.5, 0.5], None)], CLASSES)
    with pytest.raises(ClassMismatch, match="the predictions lacks 'eel'"):
        evaluate_classification(targets[:1], [answer([0.5, 0.5], Classes(["cat", "dog"]))], CLASSES)
