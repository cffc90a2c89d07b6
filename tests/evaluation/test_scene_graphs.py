"""Recall of relations, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import SceneGraphMeasure, evaluate_scene_graphs
from sightline.structures import Classes, Instances
from sightline.structures.relations import Triplet, with_triplets

CLASSES = Classes(["cup", "table", "cat"])
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 10.0, 40.0, 30.0], [30.0, 0.0, 50.0, 20.0]])


def objects(triplets: Sequence[Triplet], *, shift: float = 0.0, labels: Sequence[int] = (0, 1, 2)) -> Instances:
    """Cup, table and cat, with relations; the boxes can be shifted to the right."""
    boxes = BOXES + torch.tensor([shift, 0, shift, 0])
    own = Instances((60, 60), classes=CLASSES, boxes=boxes, labels=labels, scores=[0.9, 0.8, 0.7])
    return with_triplets(own, triplets)


def few(count: int) -> list[Triplet]:
    """Relations that are in no label, by falling score, all of them better than 0.5."""
    return [Triplet(1, f"wrong {i}", 2, 1 - i / 1000) for i in range(count)]


TRUE = [Triplet(0, "on", 1), Triplet(0, "left of", 2), Triplet(2, "near", 0), Triplet(2, "behind", 0)]


def one_image(found: Instances, truths: Sequence[Triplet] = TRUE, **more: Any) -> dict[str, float | None]:
    """The metrics of one image in the protocol SGDet, without "SGDet/"."""
    result = evaluate_scene_graphs([objects(truths)], {"SGDet": [found]}, CLASSES, **more)
    return {name.removeprefix("SGDet/"): value for name, value in result.metrics.items()}


def test_what_is_found_depends_on_class_box_predicate_and_rank() -> None:
    assert one_image(objects(TRUE))["ngR@20"] == 1.0
    # 7 pixels to the right: IoU 3/17 for the cup, 33/47 for the table and 13/27 for the cat
    assert one_image(objects(TRUE, shift=7.0))["ngR@20"] == 0.0
    # the cat has an IoU of 13/27 = 0.48 at 7 pixels and of 14/26 = 0.54 at 6, the table more
    near = [Triplet(2, "near", 1)]
    assert one_image(objects(near, shift=7.0), near)["ngR@20"] == 0.0
    assert one_image(objects(near, shift=6.0), near)["ngR@20"] == 1.0
    # 3 pixels: 7/13, 37/43 and 17/23; all above 0.5
    assert one_image(objects(TRUE, shift=3.0))["ngR@20"] == 1.0
    assert one_image(objects(TRUE, labels=(0, 2, 2)))["ngR@20"] == 0.75
    assert one_image(objects([t._replace(predicate="on") for t in TRUE]))["ngR@20"] == 0.25
    assert one_image(objects([Triplet(t.object, t.predicate, t.subject) for t in TRUE]))["ngR@20"] == 0.0
    late = one_image(objects([*few(20), *(t._replace(score=0.5) for t in TRUE)]))
    assert (late["ngR@20"], late["ngR@50"]) == (0.0, 1.0)
    assert (late["R@20"], late["R@50"]) == (0.75, 0.75)  # the wrong ones are of one pair, which counts once


def test_the_graph_constraint_allows_one_predicate_per_pair() -> None:
    found = [t._replace(score=score) for t, score in zip(TRUE, (0.9, 0.8, 0.6, 0.7), strict=True)]
    values = one_image(objects(found))
    assert values["R@20"] == 0.75  # behind hides near
    assert values["ngR@20"] == 1.0
    # mean recall: on, left of and behind are found, near is not
    assert values["mR@20"] == pytest.approx(3 / 4)
    hidden = one_image(objects([*found, Triplet(0, "under", 1, 0.95)]))
    assert (hidden["R@20"], hidden["ngR@20"]) == (0.5, 1.0)


def test_the_mean_is_over_images_and_mean_recall_over_predicates() -> None:
    targets = [objects(TRUE), objects([TRUE[0]]), objects([]), objects([TRUE[0], TRUE[1]])]
    found = [objects(TRUE[:2]), objects([TRUE[0]]), objects(TRUE), objects([])]
    result = evaluate_scene_graphs(targets, {"PredCls": found}, CLASSES)
    assert result.metrics["PredCls/ngR@50"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    # on: images 0, 1, 3 with 1, 1, 0; left of: images 0, 3 with 1, 0; near and behind: 0
    assert result.metrics["PredCls/ngmR@50"] == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert result.per_class["on"] == {
        "relations": 3,
        "PredCls/ngR@50": pytest.approx(2 / 3),
        "SGCls/ngR@50": None,
        "SGDet/ngR@50": None,
    }
    assert list(result.per_class) == ["on", "left of", "behind", "near"]
    assert (
        result.reasons["SGDet/R@20"] == "the model does not predict relations between given objects (predict_relations)"
    )
    low, high = result.intervals()["PredCls/ngR@50"]
    assert 0 <= low < 0.5 < high <= 1
    assert result.worst_first().tolist()[-1] == 2  # no relations


def test_zero_shot_recall_counts_what_training_never_showed() -> None:
    seen = {("cup", "on", "table"), ("cat", "near", "cup"), ("cat", "left of", "cup")}
    values = one_image(objects([TRUE[0], TRUE[1]]), seen=seen)
    assert values["ngzR@50"] == 0.5  # left of is found, behind is not
    everything = {("cup", "on", "table"), ("cup", "left of", "cat"), ("cat", "near", "cup"), ("cat", "behind", "cup")}
    result = evaluate_scene_graphs([objects(TRUE)], {"SGDet": [objects(TRUE)]}, CLASSES, everything)
    assert result.metrics["SGDet/zR@50"] is None
    assert result.reasons["SGDet/zR@50"] == "all combinations occurred in training"
    unknown = evaluate_scene_graphs([objects(TRUE)], {"SGDet": [objects(TRUE)]}, CLASSES)
    assert unknown.reasons["SGDet/zR@50"] == "what was seen in training is unknown"


def test_classes_are_matched_by_name() -> None:
    other = objects(TRUE, labels=(2, 1, 0))
    other.classes = Classes(["cat", "table", "cup", "dog"])
    assert one_image(other)["ngR@20"] == 1.0


def test_equal_relations_count_once_and_none_of_an_object_to_itself() -> None:
    twice = [TRUE[0], TRUE[0], Triplet(1, "on", 1), TRUE[1]]
    result = evaluate_scene_graphs([objects(twice)], {"SGDet": [objects([TRUE[0]])]}, CLASSES)
    assert result.relations == 2
    assert result.metrics["SGDet/ngR@50"] == 0.5


def test_labels_compared_with_themselves() -> None:
    result = evaluate_scene_graphs([objects(TRUE)] * 2, {"SGDet": [objects(TRUE)] * 2}, CLASSES)
    assert result.metrics["SGDet/ngR@20"] == result.metrics["AP50"] == 1.0
    assert "2 images, 8 relations" in str(result)
    assert result.to_dict()["image_recall"] == {"image 0": 1.0, "image 1": 1.0}


def test_no_relations_at_all() -> None:
    result = evaluate_scene_graphs([objects([])], {"SGDet": [objects(TRUE)]}, CLASSES)
    assert result.metrics["SGDet/R@50"] is None
    assert result.reasons["SGDet/mR@50"] == "there are no relations in these labels"
    assert math.isnan(result.image_recall[0])
    assert result.intervals() == {}
    assert str(result)


class Model:
    """Knows what it is given: the boxes, or boxes and labels."""

    def __init__(self) -> None:
        self.classes = Classes(["cat", "cup", "table"])

    def predict_relations(self, images: Any, boxes: Any, labels: Any = None) -> list[Instances]:
        triplets = [Triplet(0, "left of", 2, 0.9)] if labels is None else [Triplet(0, "on", 1, 0.9), TRUE[1]]
        assert labels is None or labels[0].tolist() == [1, 2, 0]  # as the model numbers its classes
        own = Instances((60, 60), classes=self.classes, boxes=boxes[0], labels=[1, 2, 0])
        return [with_triplets(own, triplets)]

    def seen_combinations(self) -> list[tuple[str, str, str]]:
        return [("cup", "on", "table")]


def test_the_measure_asks_the_model_for_relations_of_given_objects() -> None:
    measure = SceneGraphMeasure(CLASSES, keep=True)
    measure.ask(Model(), [torch.zeros(3, 60, 60)], [objects(TRUE)])
    measure.add(objects(TRUE), objects([]))
    result = measure.result(["a.png"])
    values = [result.metrics[f"{protocol}/ngR@50"] for protocol in ("PredCls", "SGCls", "SGDet")]
    assert values == [0.5, 0.25, 0.0]
    assert result.metrics["PredCls/ngzR@50"] == pytest.approx(1 / 3)
    assert result.names == ["a.png"]
    assert result.targets is not None


def test_bad_input() -> None:
    with pytest.raises(InputError, match="no protocol 'sgdet'; it must be one of PredCls, SGCls, SGDet"):
        evaluate_scene_graphs([objects(TRUE)], {"sgdet": [objects(TRUE)]}, CLASSES)
    with pytest.raises(InputError, match="SGDet has predictions for 0 images, but there are 1 targets"):
        evaluate_scene_graphs([objects(TRUE)], {"SGDet": []}, CLASSES)
    with pytest.raises(InputError, match="there are no images to evaluate"):
        evaluate_scene_graphs([], {}, CLASSES)
