"""Cuboids compared with labels: values worked by hand, for Omni3D's average precision and for KITTI's."""

import math

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import kitti
from sightline.evaluation._cuboid_rows import best_of_each, observation_angle, yaw_of
from sightline.evaluation.cuboids import THRESHOLDS, CuboidMeasure, evaluate_cuboids
from sightline.structures import Classes, Instances

CLASSES = Classes(["car", "tree"])


def cube(x, z, yaw=0.0, side=1.0, y=0.0):
    return [x, y, z, side, side, side, 0.0, 0.0, yaw]


def objects(cuboids, labels=None, **fields):
    n = len(cuboids)
    boxes = fields.pop("boxes", [[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(n)])
    return Instances((100, 200), classes=CLASSES, boxes=boxes, labels=labels or [0] * n, cuboids=cuboids, **fields)


def test_labels_against_themselves_score_one():
    labels = objects([cube(0, 5), cube(2, 20, 0.3), cube(-4, 50)], [0, 1, 0])
    result = evaluate_cuboids([labels], [labels], CLASSES)
    assert [round(v, 9) for v in result.metrics.values() if v is not None] == [1] * 7 + [0] * 2
    assert result.protocols["AP3D"] == "Omni3D AP3D"
    assert result.intervals()["AP3D"] == pytest.approx((1, 1))
    assert result.threshold == 1


def test_average_precision_over_thresholds():
    """A cube moved by a half has an IoU of 1/3, by a quarter of 3/5: thresholds to 0.30 and to 0.50."""
    labels = objects([cube(0, 5), cube(4, 5)])
    found = objects([cube(0.5, 5), cube(4.25, 5)], scores=[0.9, 0.8])
    metrics = evaluate_cuboids([labels], [found], CLASSES).metrics
    # to 0.30 both are right; above it the first one is wrong: precision 1/2 up to a recall of 1/2, 51 of 101 recalls
    above = 51 / 101 / 2
    assert metrics["AP3D15"] == pytest.approx(1)
    assert metrics["AP3D50"] == pytest.approx(above)
    assert metrics["AP3D"] == pytest.approx((6 * 1 + 4 * above) / 10)
    assert len(THRESHOLDS) == 10
    assert (THRESHOLDS <= 0.3 + 1e-9).sum() == 6


def test_a_second_detection_and_one_of_another_class_are_wrong():
    labels = objects([cube(0, 5)])
    found = objects([cube(0, 5), cube(0, 5), cube(0, 5)], [1, 0, 0], scores=[0.9, 0.8, 0.7])
    result = evaluate_cuboids([labels], [found], CLASSES)
    assert result.per_class["car"]["AP3D"] == pytest.approx(1)  # the duplicate comes after full recall
    assert result.per_class["tree"]["AP3D"] is None
    assert result.reasons["tree/AP3D"] == "no object of 'tree' with a cuboid counts in these labels"
    shown, matched, taker = result.outcome
    assert (matched.tolist(), taker.tolist()) == ([-1, 0, -1], [1])
    assert result.image_f1.tolist() == [pytest.approx(2 / 3)]  # two shown at the threshold of 0.8, one right
    assert shown.tolist() == [True, True, False]


def test_distances_are_depths_and_detections_elsewhere_do_not_count():
    labels = objects([cube(0, 5), cube(0, 20), cube(0, 50)])
    found = objects([cube(0, 5), cube(9, 20), cube(0, 50)], scores=[0.8, 0.9, 0.7])
    metrics = evaluate_cuboids([labels], [found], CLASSES).metrics
    assert (metrics["AP3D_near"], metrics["AP3D_far"]) == (pytest.approx(1), pytest.approx(1))
    assert metrics["AP3D_medium"] == 0
    alone = evaluate_cuboids([objects([cube(0, 5)])], [objects([cube(0, 5)])], CLASSES)
    assert alone.metrics["AP3D_far"] is None
    assert "more than 35 m" in alone.reasons["AP3D_far"]


def test_unknown_cuboids_crowds_and_difficult_objects_count_neither_way():
    boxes = [[0.0, 0, 10, 10], [20.0, 0, 40, 20], [50.0, 0, 60, 10], [80.0, 0, 90, 10]]
    labels = objects(
        [cube(0, 5), [math.nan] * 9, cube(6, 5), cube(9, 5)],
        boxes=boxes,
        crowd=[False, False, True, False],
        difficult=[False, False, False, True],
    )
    own = [[0.0, 0, 10, 10], [22.0, 2, 30, 10], [80.0, 0, 90, 10], [150.0, 0, 160, 10]]
    found = objects([cube(0, 5), cube(2, 9), cube(9, 5), cube(-9, 5)], boxes=own, scores=[0.6, 0.9, 0.8, 0.7])
    result = evaluate_cuboids([labels], [found], CLASSES)
    # of four detections the one inside of the unknown object's box and the one of the difficult object do not count
    assert result.metrics["AP3D"] == pytest.approx(1 / 2)
    assert int(result.rows.counted.sum()) == 1
    assert result.notes == ["1 object without a cuboid count neither as found nor as missed"]


def test_at_most_a_hundred_of_a_class_and_image_count():
    labels = objects([cube(0, 5)])
    many = [cube(50 + i, 5) for i in range(100)] + [cube(0, 5)]
    found = objects(many, scores=[*np.linspace(0.9, 0.5, 100).tolist(), 0.1])
    assert evaluate_cuboids([labels], [found], CLASSES).metrics["AP3D"] == 0
    other = objects(many[1:], scores=[*np.linspace(0.9, 0.5, 99).tolist(), 0.1])
    assert evaluate_cuboids([labels], [other], CLASSES).metrics["AP3D"] == pytest.approx(1 / 100)
    rows = evaluate_cuboids([labels], [found], CLASSES).rows.detections
    assert best_of_each(rows, 2).nonzero()[0].tolist() == [0, 1]


def test_classes_are_matched_by_name_and_wrong_input_is_refused():
    measure = CuboidMeasure(Classes(["car"]), keep=True)
    found = Instances(
        (100, 200), classes=Classes(["tree", "car"]), boxes=[[0, 0, 8, 8]], labels=[1], cuboids=[cube(0, 5)]
    )
    measure.add(Instances((100, 200), boxes=[[0, 0, 8, 8]], labels=[0], cuboids=[cube(0, 5)]), found)
    result = measure.result(["a.png"])
    assert result.metrics["AP3D"] == pytest.approx(1)
    assert result.predictions[0].labels.tolist() == [0]
    assert list(result.to_dict()["image_f1"]) == ["a.png"]
    assert "AP3D" in str(result)
    with pytest.raises(InputError, match=r"target 0 \(.*\) has no cuboids"):
        evaluate_cuboids([Instances((9, 9), boxes=[[0, 0, 8, 8]], labels=[0])], [found[:0]], ["tree", "car"])
    with pytest.raises(InputError, match="prediction 0 has"):
        evaluate_cuboids([found], [found.replace(cuboids=torch.full((1, 9), math.nan))], ["tree", "car"])


def test_angles_are_those_of_kitti():
    cuboids = np.array([cube(3, 4, 0.2), cube(-1, 1, -3.0)])
    assert yaw_of(cuboids) == pytest.approx([0.2, -3.0])
    expected = [0.2 - math.atan2(3, 4), -3.0 - math.atan2(-1, 1)]
    assert observation_angle(cuboids) == pytest.approx(expected)


def kitti_objects(cuboids, heights, occluded, truncated=None, **fields):
    boxes = [[20.0 * i, 0, 20.0 * i + 10, h] for i, h in enumerate(heights)]
    more = (
        {}
        if occluded is None
        else {
            "occluded": torch.tensor(occluded),
            "truncated": torch.tensor(truncated or [0.0] * len(cuboids)),
        }
    )
    return objects(cuboids, boxes=boxes, **more, **fields)


def test_kitti_ignores_what_is_too_difficult():
    """Eighty easy cars, all found, and eighty partly occluded ones that are not; detections may be too small."""
    places = [cube(3 * i, 5) for i in range(160)]
    labels = kitti_objects(places, [50] * 160, [0] * 80 + [1] * 80)
    small = [cube(1000 + 3 * i, 5) for i in range(9)]
    scores = [*np.linspace(0.9, 0.5, 80).tolist(), *[0.95] * 9]
    found = kitti_objects([*places[:80], *small], [50] * 80 + [30] * 9, None, scores=scores)
    result = evaluate_cuboids([labels], [found], CLASSES)
    assert result.metrics["KITTI_AP3D_easy"] == pytest.approx(1)  # boxes below 40 pixels are ignored
    # from 25 pixels on they are wrong, before all right ones: precision at best 80 / 89, up to a recall of 1/2
    assert result.metrics["KITTI_AP3D_moderate"] == pytest.approx(80 / 89 / 2, abs=1e-3)
    assert result.protocols["KITTI_AP3D_easy"] == "KITTI AP40"
    assert result.headline[-1] == "KITTI_APBEV_moderate"
    assert evaluate_cuboids([found], [found], CLASSES).headline == ("AP3D", "AP3D25", "AP3D50")


def test_kitti_thresholds_lie_at_forty_recalls():
    """With 80 cars, all found, every second score is a threshold and the precision is 1 at all recalls."""
    places = [cube(3 * i, 5) for i in range(80)]
    labels = kitti_objects(places, [50] * 80, [0] * 80)
    found = kitti_objects(places, [50] * 80, None, scores=np.linspace(0.99, 0.2, 80).tolist())
    assert len(kitti._thresholds(np.linspace(0.99, 0.2, 80), 80)) == 41
    metrics = evaluate_cuboids([labels], [found], CLASSES).metrics
    assert metrics["KITTI_AP3D_easy"] == metrics["KITTI_APBEV_easy"] == metrics["KITTI_AOS_easy"] == pytest.approx(1)
    # half of the cars found: precision 1 up to a recall of a half, which are twenty of forty
    half = evaluate_cuboids([labels], [found[torch.arange(40)]], CLASSES).metrics
    assert half["KITTI_AP3D_easy"] == pytest.approx(20 / 40)


def test_kitti_needs_more_than_its_overlap_and_sees_from_above():
    """Forty cars have forty thresholds, of which the first is left out: at most 39 / 40.

    Moved by 0.25 upwards the IoU is 0.6, below 0.7; from above nothing has moved.
    """
    labels = kitti_objects([cube(3 * i, 5) for i in range(40)], [50] * 40, [0] * 40)
    places = [cube(3 * i, 5, y=0.25, yaw=math.pi / 2) for i in range(40)]
    found = kitti_objects(places, [50] * 40, None, scores=np.linspace(0.9, 0.5, 40).tolist())
    metrics = evaluate_cuboids([labels], [found], CLASSES).metrics
    assert metrics["KITTI_AP3D_easy"] == 0
    assert metrics["KITTI_APBEV_easy"] == pytest.approx(39 / 40)
    # a cube turned by a right angle is the same cuboid, but faces elsewhere: (1 + cos 90°) / 2
    assert metrics["KITTI_AOS_easy"] == pytest.approx(39 / 40 / 2)


def test_kitti_does_not_care_about_boxes_inside_of_crowds():
    places = [cube(3 * i, 5) for i in range(40)]
    labels = kitti_objects([*places, [math.nan] * 9], [50] * 41, [0] * 41, crowd=[False] * 40 + [True])
    wrong = [cube(300, 5)]
    scores = [*np.linspace(0.9, 0.5, 40).tolist(), 0.95]
    found = kitti_objects([*places, *wrong], [50] * 41, None, scores=scores)
    metrics = evaluate_cuboids([labels], [found], CLASSES).metrics
    assert metrics["KITTI_AOS_easy"] == pytest.approx(39 / 40)
    without = evaluate_cuboids([labels[torch.arange(40)]], [found], CLASSES).metrics
    # one wrong detection before all others: precision k / (k + 1) at the k-th, whose maximum to the right is 40 / 41
    assert without["KITTI_AOS_easy"] == pytest.approx(39 / 40 * 40 / 41)
    for kind in ("AP3D", "APBEV"):  # such a region has a box in the image, but no place in space
        assert metrics[f"KITTI_{kind}_easy"] == pytest.approx(39 / 40 * 40 / 41), kind


def test_kitti_has_neighbours():
    classes = Classes(["car", "van"])
    places = [cube(3 * i, 5) for i in range(40)]
    labels = kitti_objects([*places, cube(0, 90)], [50] * 41, [0] * 41).replace(labels=torch.tensor([0] * 40 + [1]))
    found = kitti_objects([*places, cube(0, 90)], [50] * 41, None, scores=[*np.linspace(0.9, 0.5, 40).tolist(), 0.95])
    own = [Instances(t.image_size, classes=classes, **t.fields) for t in (labels, found)]
    assert evaluate_cuboids([own[0]], [own[1]], classes).metrics["KITTI_AP3D_easy"] == pytest.approx(39 / 40)
