"""Each kind of error on a case made for it; the confusion matrix; the counts against another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.evaluation import evaluate_detection
from sightline.evaluation._arrays import Pairs, match_greedy
from sightline.evaluation.coco import coco_evaluation
from sightline.evaluation.errors import in_words
from sightline.structures import Classes, Instances

from .scenarios import random_case

CLASSES = Classes(["cat", "dog"])
OBJECT = [20.0, 20.0, 60.0, 60.0]
FAR = [120.0, 120.0, 160.0, 160.0]
BESIDE = [40.0, 20.0, 80.0, 60.0]  # IoU 1/3 with OBJECT


def result_of(boxes, labels, scores, objects=(OBJECT,), object_labels=(0,), **fields):
    target = Instances((200, 200), classes=CLASSES, boxes=[*objects], labels=[*object_labels], **fields)
    prediction = Instances((200, 200), classes=CLASSES, boxes=boxes, labels=labels, scores=scores)
    return evaluate_detection([target], [prediction], CLASSES)


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "kinds", "missed"),
    [
        ([OBJECT], [0], [0.9], ["correct"], 0),
        ([OBJECT], [1], [0.9], ["class"], 0),
        ([BESIDE], [0], [0.9], ["localization"], 0),
        ([BESIDE], [1], [0.9], ["both"], 1),
        ([OBJECT, OBJECT], [0, 0], [0.8, 0.9], ["duplicate", "correct"], 0),
        ([FAR], [0], [0.9], ["background"], 1),
        ([OBJECT], [0], [0.4], [""], 1),
    ],
)
def test_one_case_for_each_kind(boxes, labels, scores, kinds, missed):
    errors = result_of(boxes, labels, scores).errors(score=0.5)
    assert errors.kinds(0) == kinds
    assert errors.counts["missed"] == missed
    for kind, count in errors.counts.items():
        assert count == (missed if kind == "missed" else kinds.count(kind))
    assert errors.found(0) == ["correct" in kinds]


def test_difficult_objects_are_neither_found_nor_missed():
    errors = result_of([OBJECT], [0], [0.9], difficult=[True]).errors(0.5)
    assert errors.kinds(0) == ["ignored"]
    assert errors.found(0) == [None]
    assert errors.image_f1.tolist() == [1.0]
    assert errors.confusion.sum() == 0


def test_crowds_are_neither_found_nor_missed():
    """A crowd of cats over the right half: a cat in it is ignored, however small its share of it; a dog is not."""
    crowd = [100.0, 0.0, 200.0, 200.0]
    cat, dog = [110.0, 20.0, 150.0, 60.0], [120.0, 80.0, 160.0, 120.0]  # IoU with the crowd: 0.08
    for found, kinds in (
        ([(OBJECT, 0)], ["correct"]),
        ([(OBJECT, 0), (cat, 0)], ["correct", "ignored"]),
        ([(OBJECT, 0), (crowd, 0)], ["correct", "ignored"]),
        ([(OBJECT, 0), (dog, 1)], ["correct", "background"]),
    ):
        boxes, labels = zip(*found, strict=True)
        scores = [0.9, 0.8][: len(found)]
        both = {"objects": [OBJECT, crowd], "object_labels": [0, 0], "crowd": [False, True]}
        result = result_of(boxes, labels, scores, **both)
        errors = result.errors(0.5)
        assert errors.kinds(0) == kinds
        assert errors.found(0) == [True, None]
        assert errors.counts["missed"] == 0
        wrong = kinds.count("background")
        assert errors.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, wrong, 0]]
        assert errors.image_f1.tolist() == pytest.approx([2 / (2 + wrong)])
        point = result.operating_point
        assert (point.score, point.precision, point.recall, point.f1) == pytest.approx((0.9, 1, 1, 1))


def test_confusion_matrix():
    # A cat found, a cat seen as a dog, a dog not found, a dog where nothing is.
    third = [120.0, 20.0, 160.0, 60.0]
    result = result_of(
        [OBJECT, FAR, [20.0, 120.0, 60.0, 160.0]],
        [0, 1, 1],
        [0.9, 0.8, 0.7],
        objects=[OBJECT, FAR, third],
        object_labels=[0, 0, 1],
    )
    errors = result.errors(0.5)
    assert errors.labels == ("cat", "dog", "background")
    assert errors.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert errors.confusions() == [("cat", "dog", 1)]
    assert errors.image_f1[0] == pytest.approx(2 / (2 + 2 + 2))


def test_right_detections_are_paired_before_wrong_ones():
    # Two objects of two classes in almost one place: each detection belongs to the object of its class.
    near = [21.0, 20.0, 61.0, 60.0]
    result = result_of([near, OBJECT], [0, 1], [0.9, 0.8], objects=[OBJECT, near], object_labels=[0, 1])
    assert result.errors(0.5).confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(8))
def test_counts_equal_those_of_another_implementation(seed):
    targets, predictions, classes = random_case(seed, images=25, crowds=False)
    result = evaluate_detection(targets, predictions, classes)
    ours = result.errors(score=0.0).counts
    theirs = coco_evaluation(result.objects, result.detections, classes, len(targets)).tide_errors()["counts"]
    names = {
        "Cls": "class",
        "Loc": "localization",
        "Both": "both",
        "Dupe": "duplicate",
        "Bkg": "background",
        "Miss": "missed",
    }
    assert {names[key]: count for key, count in theirs.items()} == {k: v for k, v in ours.items() if k != "correct"}
    gains = result.error_gains()
    assert set(gains) == set(names.values())
    assert all(0 <= gain <= 1 for gain in gains.values())


@pytest.mark.parametrize("seed", range(4))
def test_counts_add_up(seed):
    targets, predictions, classes = random_case(seed, images=20, difficult=True, ties=True)
    result = evaluate_detection(targets, predictions, classes)
    for score in (0.0, 0.35, 0.5, 2.0):
        errors = result.errors(score)
        kinds = [kind for i in range(len(targets)) for kind in errors.kinds(i)]
        shown = sum(int((p.scores >= score).sum()) for p in predictions)
        assert sum(kind != "" for kind in kinds) == shown
        assert errors.confusion[:, :-1].sum() == shown - kinds.count("ignored")
        counted = sum(int((~t.crowd & ~t.difficult).sum()) for t in targets)
        assert errors.confusion[:-1].sum() == counted
        assert np.trace(errors.confusion) == errors.counts["correct"] == errors.correct.sum()
        assert errors.correct.sum() + errors.missed.sum() == counted
        assert [len(errors.found(i)) for i in range(len(targets))] == [len(t) for t in targets]


@pytest.mark.parametrize("seed", range(4))
def test_operating_point_is_the_best_of_all_thresholds(seed):
    targets, predictions, classes = random_case(seed, images=20, difficult=True, ties=seed % 2 == 1)
    result = evaluate_detection(targets, predictions, classes)
    point = result.operating_point

    def f1(score):
        errors = result.errors(score)
        right, wrong, missed = errors.correct.sum(), errors.false_positives.sum(), errors.missed.sum()
        return 2 * right / (2 * right + wrong + missed), right / max(right + wrong, 1), right / (right + missed)

    assert (point.f1, point.precision, point.recall) == pytest.approx(f1(point.score))
    assert point.f1 == pytest.approx(max(f1(s)[0] for p in predictions for s in p.scores.tolist()))


def test_worst_images_come_first():
    target = Instances((200, 200), classes=CLASSES, boxes=[OBJECT], labels=[0])

    def found(*boxes):
        scores = [0.9] * len(boxes)
        return Instances((200, 200), classes=CLASSES, boxes=[*boxes], labels=[0] * len(boxes), scores=scores)

    predictions = [found(OBJECT), found(FAR), found(OBJECT, FAR), found(FAR, BESIDE)]
    result = evaluate_detection([target] * 4, predictions, CLASSES)
    assert result.worst_first().tolist() == [3, 1, 2, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 9))
def test_greedy_matching_equals_one_by_one(seed, detections, objects):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, detections) / 5
    overlap = rng.permutation(detections * objects).reshape(detections, objects) / (detections * objects)
    detection, target = np.nonzero(overlap > 0.4)
    matched, taker = match_greedy(Pairs(detection, target, overlap[detection, target]), scores, objects)
    free = set(range(objects))
    expected = [-1] * detections
    for d in sorted(range(detections), key=lambda d: (-scores[d], d)):
        candidates = [g for g in free if overlap[d, g] > 0.4]
        if candidates:
            expected[d] = max(candidates, key=lambda g: overlap[d, g])
            free.remove(expected[d])
    assert matched.tolist() == expected
    assert all(taker[g] == (expected.index(g) if g in expected else -1) for g in range(objects))


def test_the_most_frequent_confusions_come_first():
    """Two dogs for cats, one cat for a dog; equals in the order of the classes; never more than asked for."""
    places = [[x, 20.0, x + 20, 40.0] for x in (0.0, 40.0, 80.0, 120.0)]
    result = result_of(places, [1, 1, 0, 0], [0.9] * 4, objects=places, object_labels=[0, 0, 1, 0])
    errors = result.errors(0.5)
    assert errors.confusions() == [("cat", "dog", 2), ("dog", "cat", 1)]
    assert errors.confusions(1) == [("cat", "dog", 2)]
    shown = errors.to_dict()
    assert shown["confusion"] == [[1, 2, 0], [1, 0, 0], [0, 0, 0]]
    assert shown["confusions"] == [["cat", "dog", 2], ["dog", "cat", 1]]
    assert (shown["score"], shown["iou"]) == (0.5, 0.5)
    for count, there in ((100, True), (101, False)):
        many = Classes([f"class {k}" for k in range(count)])
        target = Instances((200, 200), classes=many, boxes=[OBJECT], labels=[0])
        found = evaluate_detection([target], [target], many).errors(0.5).to_dict()
        assert (found["confusion"] is not None) == there


def test_the_operating_point_in_words():
    words = in_words({"score": 0.425, "F1": 0.666, "recall": 0.755, "precision": 0.5})
    assert "score of at least 0.425, where F1 on these images is highest (0.67), 76 % of the objects are found" in words
    assert in_words({"score": 0.5, "F1": None}) == ""


def test_the_operating_point_at_the_saved_threshold_in_words():
    words = in_words({"score": 0.425, "F1": 0.666, "recall": 0.755, "precision": 0.5}, saved=True)
    assert words.startswith(
        "At a score of at least 0.425, the threshold saved with the model (that of the highest F1 on "
    )
    assert "its validation images), F1 is 0.67: 76 % of the objects are found and 50 % of the detections" in words
    assert "none of the detections is correct" in in_words({"score": 0.5, "F1": None}, saved=True)


def test_a_model_with_a_saved_threshold_is_judged_at_it():
    """Of two objects, one is found with a score of 0.9, one with 0.3; a wrong detection has a score of 0.5."""
    target = Instances((200, 200), classes=CLASSES, boxes=[[0, 0, 40, 40], [60, 60, 100, 100]], labels=[0, 0])
    boxes = [[0.0, 0, 40, 40], [150, 150, 190, 190], [60, 60, 100, 100]]
    found = Instances((200, 200), classes=CLASSES, boxes=boxes, labels=[0, 0, 0], scores=[0.9, 0.5, 0.3])
    result = evaluate_detection([target], [found], CLASSES)
    assert result.operating_point.to_dict() == pytest.approx({"score": 0.3, "precision": 2 / 3, "recall": 1, "F1": 0.8})
    for score, precision, recall, f1 in ((0.8, 1, 0.5, 2 / 3), (0.4, 0.5, 0.5, 0.5), (0.2, 2 / 3, 1, 0.8)):
        result.measured["threshold"] = score
        point = {"score": score, "precision": precision, "recall": recall, "F1": f1}
        assert result.operating_point.to_dict() == pytest.approx(point)
        assert result.errors().score == score
        assert f"at least {score:.3g}, the threshold saved with the model" in str(result)
        assert result.threshold == pytest.approx(0.3)  # that of the highest F1 on these images
    result.measured["threshold"] = 0.95
    assert (result.operating_point.score, result.operating_point.f1) == (0.95, None)
    assert "none of the detections is correct" in str(result)


def test_an_overlap_of_exactly_the_threshold_counts():
    """IoU 1/2: a box of half the width inside the object. Just below, it is in the wrong place."""
    half, less = [20.0, 20.0, 40.0, 60.0], [20.0, 20.0, 39.9, 60.0]
    assert result_of([half], [0], [0.9]).errors(0.5).kinds(0) == ["correct"]
    assert result_of([less], [0], [0.9]).errors(0.5).kinds(0) == ["localization"]
    assert result_of([half], [0], [0.9]).errors(0.5, iou=0.75).kinds(0) == ["localization"]
    assert result_of([half], [0], [0.9]).operating_point.f1 == 1
    assert result_of([less], [0], [0.9]).operating_point.f1 is None
    for width, kind in ((4.0, "localization"), (3.9, "background")):  # IoU 1/10, where background begins
        assert result_of([[20.0, 20.0, 20 + width, 60.0]], [0], [0.9]).errors(0.5).kinds(0) == [kind]


def test_a_score_of_exactly_the_threshold_counts():
    assert result_of([OBJECT], [0], [0.5]).errors(0.5).kinds(0) == ["correct"]
