"""Dense-caption mAP by hand and by a naive loop, and the rules that make targets of labels."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation.caption_matching import LANGUAGE, OVERLAPS, match, merged
from sightline.evaluation.caption_scores import caption_score
from sightline.evaluation.dense_captions import DenseCaptionMeasure, evaluate_dense_captions
from sightline.ops.boxes import box_iou
from sightline.structures import Classes, Instances

CLASSES = Classes(["region"])
CUP, PLATE = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]


def regions(boxes, captions, scores=None, **fields) -> Instances:
    if scores is not None:
        fields["scores"] = torch.tensor(scores).float()
    return Instances(
        (50, 50),
        classes=CLASSES,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=[0] * len(boxes),
        captions=captions,
        **fields,
    )


LABELS = regions([CUP, PLATE], ["a red cup", "a blue plate"])


def test_one_image_by_hand():
    """The best detection is right, the second finds the same cup again, the third has IoU 0.5 and other words.

    Precision by words: 1 up to recall 0.5 (51 of the 101 recalls), then 0. By place alone, up to IoU 0.5: 1, then 2/3.
    """
    found = regions(
        [CUP, [0, 0, 10, 9], [20, 20, 30, 30]], ["a red cup", "a red cup", "two dogs"], scores=[0.9, 0.8, 0.7]
    )
    result = evaluate_dense_captions([LABELS], [found], CLASSES)
    half, both = 51 / 101, (51 + 50 * 2 / 3) / 101
    assert np.allclose(result.per_pair, half)
    assert np.allclose(result.box_ap, [both, both, both, half, half])
    assert result.metrics["mAP"] == pytest.approx(half)
    assert result.metrics["box_mAP"] == pytest.approx((3 * both + 2 * half) / 5)
    assert result.metrics["recall50"] == 1
    assert result.metrics["caption_score"] == pytest.approx(0.5)  # of the cup 1, of the plate 0
    assert result.first.tolist() == [True, False, True]
    assert result.threshold == pytest.approx(0.9)
    assert result.image_f1.tolist() == pytest.approx([2 / 3])


def test_words_count_from_the_score_that_they_exceed():
    """ "a green bowl" shares one word of three, in one chunk: 1/3 · 0.4 = 0.133: right up to 0.1."""
    score = caption_score("a green bowl", ["a red cup"])
    assert 0.1 < score < 0.15
    result = evaluate_dense_captions([regions([CUP], ["a red cup"])], [regions([CUP], ["a green bowl"], [0.5])])
    assert result.per_pair.tolist() == [[1, 1, 1, 0, 0, 0]] * 5
    assert result.metrics["mAP"] == pytest.approx(0.5)


def test_the_first_detection_of_a_target_counts_whatever_the_thresholds_are():
    """A worse box of higher score takes the target from a perfect one, as in the published evaluator."""
    found = regions([[0, 0, 10, 3.5], CUP], ["a red cup"] * 2, scores=[0.9, 0.8])
    result = evaluate_dense_captions([regions([CUP], ["a red cup"])], [found])
    assert result.box_ap.tolist() == [1, 0, 0, 0, 0]


def test_labels_that_overlap_heavily_are_one_target():
    chain = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 14], [30, 30, 40, 40]])
    assert merged(chain) == [[0, 1, 2], [3]]
    labels = regions([[0, 0, 10, 10], [0, 0, 10, 12]], ["a red cup", "something to drink from"])
    own = match(labels, regions([[0, 0, 10, 11]], ["something to drink from"], [0.5]))
    assert own.overlaps.tolist() == [1.0]  # their box is the mean
    assert own.language.tolist() == [1.0]  # both captions are references
    assert own.groups == [[0, 1]]


def test_the_box_with_most_partners_comes_first():
    """B overlaps A and C by more than 0.7, which do not overlap each other so much."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 13], [0, 0, 10, 16.9]])
    near = box_iou(boxes, boxes) > 0.7
    assert near.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    assert merged(boxes) == [[0, 1, 2]]
    assert merged(boxes[:0]) == []


def test_labels_without_words_and_crowds_do_not_count():
    labels = regions([CUP, PLATE, [40, 40, 50, 50]], ["a red cup", " … ", "cups"], crowd=[False, False, True])
    found = regions([PLATE, CUP, [40, 40, 50, 50]], ["a plate", "a red cup", "cups"], scores=[0.9, 0.8, 0.95])
    result = evaluate_dense_captions([labels], [found])
    assert result.objects == 1
    assert result.scores.tolist() == pytest.approx([0.8])
    assert result.metrics["mAP"] == 1


def test_labels_compared_with_themselves_score_one():
    labels = [LABELS, regions([PLATE], ["the Plate!"])]
    found = [target.replace(scores=torch.linspace(1, 0.5, len(target))) for target in labels]
    result = evaluate_dense_captions(labels, found)
    assert result.metrics["mAP"] == result.metrics["box_mAP"] == result.metrics["caption_score"] == 1
    assert result.intervals()["mAP"] == (1, 1)


def naive(labels, found, overlap, language):
    """Average precision at one pair of thresholds, detection by detection; labels do not overlap each other."""
    rows, objects = [], sum(map(len, labels))
    for target, own in zip(labels, found, strict=True):
        used = set()
        for i in own.scores.argsort(descending=True, stable=True).tolist():
            ious = [float(box_iou(own.boxes[i : i + 1], b[None])) for b in target.boxes]
            best = max(range(len(ious)), key=ious.__getitem__) if ious else None
            right = False
            if best is not None and ious[best] > 0:
                said = language is None or caption_score(own.captions[i], [target.captions[best]]) > language
                right = best not in used and ious[best] >= overlap and said
                used.add(best)
            rows.append((float(own.scores[i]), right))
    rows.sort(key=lambda row: -row[0])
    points, hits = [], 0
    for count, (_, right) in enumerate(rows, 1):
        hits += right
        points.append((hits / objects, hits / count))
    levels = [k / 100 for k in range(101)]
    return sum(max((p for r, p in points if r >= t - 1e-9), default=0.0) for t in levels) / 101


def test_it_is_the_naive_loop():
    dice, words = random.Random(1), ["a", "red", "blue", "cup", "plate", "on"]
    labels, found = [], []
    for _ in range(6):
        places = [[x, y] for x in (0, 20, 40) for y in (0, 20, 40)]
        chosen = dice.sample(places, dice.randint(0, 4))
        boxes = [[x, y, x + 10.0, y + 10.0] for x, y in chosen]
        captions = [" ".join(dice.choices(words, k=4)) for _ in boxes]
        labels.append(regions(boxes, captions))
        moved = [[v + dice.uniform(-2, 2) for v in box] for box in boxes for _ in range(dice.randint(0, 3))]
        moved = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in moved]
        texts = [" ".join(dice.choices(words, k=4)) for _ in moved]
        found.append(regions(moved, texts, scores=[dice.random() for _ in moved]))
    result = evaluate_dense_captions(labels, found)
    for i, overlap in enumerate(OVERLAPS):
        assert result.box_ap[i] == pytest.approx(naive(labels, found, overlap, None))
        for j, language in enumerate(LANGUAGE):
            assert result.per_pair[i, j] == pytest.approx(naive(labels, found, overlap, language))
    assert 0 < result.metrics["mAP"] < result.metrics["box_mAP"] < 1
    low, high = result.intervals()["mAP"]
    assert low < result.metrics["mAP"] < high


def test_the_result_is_plain_values_and_text():
    measure = DenseCaptionMeasure(CLASSES, keep=True)
    measure.add(LABELS, regions([CUP], ["a red cup"], [0.9]))
    measure.add(regions([], []), regions([PLATE], ["a plate"], [0.3]))
    measure.add(regions([], []), regions([], [], []))
    result = measure.result(["one", "two", "three"])
    assert json.loads(json.dumps(result.to_dict()))["precision"]["0.5"]["any"] == pytest.approx(0.505, abs=1e-3)
    assert "precision" not in result.to_dict(details=False)
    assert "IoU \\ caption score" in str(result)
    assert "3 images, 2 described regions, 2 detections" in str(result)
    assert result.worst_first().tolist() == [0, 1, 2]  # F1 2/3; 0 detections above the threshold; nothing at all
    assert result.targets is not None


def test_without_described_regions_there_are_reasons():
    result = evaluate_dense_captions([regions([], [])], [regions([PLATE], ["a plate"], [0.3])])
    assert set(result.metrics.values()) == {None}
    assert result.reasons["mAP"] == "no object of these labels has a caption"
    assert result.intervals() == {}
    assert result.threshold is None
    assert str(result)
    nothing = evaluate_dense_captions([LABELS], [regions([], [], [])])
    assert nothing.metrics["mAP"] == 0
    names = ("caption_score", "caption_score_blind", "exact")
    assert nothing.reasons == dict.fromkeys(names, "no detection has an IoU of at least 0.5")


def test_bad_input():
    plain = Instances((50, 50), boxes=torch.tensor([CUP]), labels=[0], source="a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg has no captions to compare with"):
        evaluate_dense_captions([plain], [regions([], [], [])])
    with pytest.raises(InputError, match="there are 1 targets but predictions for 0 images"):
        evaluate_dense_captions([LABELS], [])
    with pytest.raises(InputError, match="there are 2 names but 1 images"):
        evaluate_dense_captions([LABELS], [regions([], [], [])], names=["a", "b"])


def test_captions_that_do_not_depend_on_the_picture_are_remarked_on():
    """Six regions with two sentences: all found, all described by the more frequent sentence, as the baseline does."""
    labels = [regions([CUP], [caption]) for caption in ("a red cup", "a red cup", "a blue plate") * 2]
    same = [regions([CUP], ["A red cup!"], [0.5]) for _ in labels]
    result = evaluate_dense_captions(labels, same)
    assert result.sentence == "a red cup"
    assert result.metrics["exact"] == pytest.approx(4 / 6)
    score = (4 + 2 * caption_score("a red cup", ["a blue plate"])) / 6
    assert result.metrics["caption_score"] == result.metrics["caption_score_blind"] == pytest.approx(score)
    assert result.notes == [
        f"the captions score {score:.3f}, which is not above the {score:.3f} of a baseline that sees nothing and "
        "always says 'a red cup'",
        "6 of 6 captions are the same sentence, 'A red cup!'",
    ]
    right = evaluate_dense_captions(labels, [t.replace(scores=torch.ones(1)) for t in labels])
    assert right.metrics["exact"] == 1
    assert right.metrics["caption_score_blind"] == pytest.approx(score)
    assert right.notes == ["4 of 6 captions are the same sentence, 'a red cup'"]


def test_the_figures_beside_the_map_are_of_found_regions():
    """The plate is found with wrong words; the second cup and the detection in a wrong place do not count."""
    boxes = [CUP, CUP, PLATE, [40.0, 0.0, 50.0, 10.0]]
    found = regions(boxes, ["a red cup", "a cup", "a dog", "a blue plate"], scores=[0.9, 0.8, 0.7, 0.6])
    result = evaluate_dense_captions([LABELS], [found], CLASSES)
    assert result.exact.tolist() == [True, False, False, False]
    assert result.metrics["exact"] == pytest.approx(0.5)
    other = {"a red cup": "a blue plate", "a blue plate": "a red cup"}[result.sentence]
    blind = (1 + caption_score(result.sentence, [other])) / 2
    assert result.metrics["caption_score_blind"] == pytest.approx(blind)
