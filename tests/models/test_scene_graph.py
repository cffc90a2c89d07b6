"""Scene graph models: losses, given boxes, the relations that are kept, and what they learn."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.saving import load, save
from sightline.models.scene.iterative_message_passing import PREDICATES
from sightline.models.scene.scene_graph import Graph, SceneGraphDetector
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.relations import RelationSettings
from sightline.ops.pairs import ordered_pairs
from sightline.structures import Instances
from sightline.structures.relations import Triplet, ranked, triplets_of, with_triplets

NAMES = ["cup", "table", "cat"]
OWN = ["on", "near", "left of"]


@cache
def _built(kind: str) -> SceneGraphDetector:
    torch.manual_seed(0)
    boxes = BoxSettings(samples=32, max_detections=6, min_score=0.01)
    model = create_model(f"{kind}_lite0_fpn", NAMES, predicates=OWN, min_size=64, max_size=96, channels=16, boxes=boxes)
    assert isinstance(model, SceneGraphDetector)
    return model


def built(kind: str = "scene_graph") -> SceneGraphDetector:
    return copy.deepcopy(_built(kind))


def image(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def target(*triplets: Triplet, labels: tuple[int, ...] = (0, 1, 2), **more: Any) -> Instances:
    boxes = torch.tensor([[5.0, 5, 25, 30], [5.0, 30, 60, 60], [35.0, 5, 60, 25]])[: len(labels)]
    return with_triplets(Instances((64, 64), classes=sl.Classes(NAMES), boxes=boxes, labels=labels, **more), triplets)


ON, LEFT = Triplet(0, "on", 1), Triplet(0, "left of", 2)


def test_pairs_that_hold_are_those_of_a_loop() -> None:
    model = built()
    targets = [target(ON, LEFT, Triplet(2, "near", 0)), target(labels=(1,)), target(ON, labels=(0, 1))]
    pairs = ordered_pairs([3, 1, 2])
    holds = model.truth(pairs, targets)
    found = {(*pair, OWN[p]) for pair, row in zip(pairs.tolist(), holds, strict=True) for p in row.nonzero()}
    assert found == {(0, 1, "on"), (0, 2, "left of"), (2, 0, "near"), (4, 5, "on")}


def test_training_counts_pairs_and_evaluation_does_not() -> None:
    model = built()
    images, targets = [image(), image(seed=1)], [target(ON, LEFT), target(ON, labels=(0, 1))]
    losses = model.train()(images, targets)
    assert {"loss_relation", "loss_object"} < losses.keys()
    assert model.frequency.relations[0, 1].tolist() == [2, 0, 0]
    assert model.frequency.pairs[0, 1] == 2
    assert set(model.seen_combinations()) == {("cup", "on", "table"), ("cup", "left of", "cat")}
    model.eval()(images, targets)
    assert model.frequency.pairs.sum() == 6 + 2
    assert "loss_relation" not in built("scene_graph_frequency").train()(images, targets)


def test_a_class_of_the_data_has_the_id_of_its_name() -> None:
    """Heads with other outputs than classes, such as COCO's, are counted and predicted by class."""
    boxes = BoxSettings(samples=16)
    small = {"predicates": OWN, "min_size": 64, "max_size": 64, "channels": 8, "hidden": 8, "boxes": boxes}
    model = create_model("scene_graph_frequency_lite0_fpn", NAMES, output_ids=[4, 1, 7], **small).train()
    model([image()], [target(ON)])
    assert model.seen_combinations() == [("cup", "on", "table")]
    assert set(model.eval()([image()])[0].labels.tolist()) <= {0, 1, 2}


def test_given_boxes_come_back_with_their_relations() -> None:
    model = built().eval()
    own = [target(ON), target(labels=(2, 1))]
    images = [image(), image(seed=1)]
    boxes, labels = [t.boxes for t in own], [t.labels for t in own]
    with torch.inference_mode():
        known, unknown = model.predict_relations(images, boxes, labels), model.predict_relations(images, boxes)
        (alone,) = model.predict_relations(images[1:], boxes[1:], labels[1:])
    for result, t in zip(known, own, strict=True):
        assert torch.equal(result.boxes, t.boxes)
        assert torch.equal(result.labels, t.labels)
        assert result.scores.tolist() == [1.0] * len(t)
        assert len(ranked(result)) == len(t) * (len(t) - 1) * len(OWN)  # few enough to keep all
    assert [t[:3] for t in ranked(known[1])] == [t[:3] for t in ranked(alone)]
    assert (unknown[0].scores < 1).all()
    best = ranked(unknown[0])[0]
    assert best.score <= float(unknown[0].scores[best.subject] * unknown[0].scores[best.object])
    with pytest.raises(InputError, match="there are 2 images, boxes of 1 and labels of 1"):
        model.predict_relations(images, boxes[:1], labels[:1])
    with pytest.raises(InputError, match=r"give boxes \[N, 4\] for each image, and labels \[N\]"):
        model.predict_relations(images, boxes, [labels[0], labels[0]])


def test_what_is_kept_serves_both_rankings() -> None:
    """The best triplets, and the best predicate of each of the best pairs, against a loop over all triplets."""
    model = built()
    model.relation_settings = RelationSettings(kept=4)
    torch.manual_seed(1)
    pairs = ordered_pairs([3])
    graph = Graph(pairs, torch.zeros(3, 3), torch.randn(6, 3))
    scores = torch.tensor([0.9, 0.5, 0.7])
    (found,) = model.triplets(graph, [torch.tensor([0, 1, 2])], [scores])
    logits = model.predicate_logits(graph, torch.tensor([0, 1, 2]))
    every = [
        Triplet(s, OWN[p], o, float(scores[s] * scores[o] * logits[e, p].sigmoid()))
        for e, (s, o) in enumerate(pairs.tolist())
        for p in range(3)
    ]
    every.sort(key=lambda t: -t.score)
    best_of_pair = {(t.subject, t.object): t for t in reversed(every)}
    of_pairs = sorted(best_of_pair.values(), key=lambda t: -t.score)[:4]
    expected = sorted({*every[:4], *of_pairs}, key=lambda t: -t.score)
    assert [t[:3] for t in found] == [t[:3] for t in expected]
    assert [t.score for t in found] == pytest.approx([t.score for t in expected])
    assert len(found) < len(every)


def test_the_baseline_sees_classes_only() -> None:
    model = built("scene_graph_frequency").train()
    for _ in range(3):
        model([image()], [target(ON, LEFT)])
    model.eval()
    with torch.inference_mode():
        one, other = (model.predict_relations([image(seed=s)], [target().boxes], [target().labels])[0] for s in (2, 3))
        swapped = model.predict_relations([image()], [target().boxes[[1, 0, 2]]], [target().labels])[0]
    assert ranked(one) == ranked(other) == ranked(swapped)
    assert {t[:3] for t in ranked(one)[:2]} == {ON[:3], LEFT[:3]}


def test_many_pairs_are_sampled() -> None:
    model = built()
    model.relation_settings = RelationSettings(pairs=4, positive_fraction=0.5)
    pairs = ordered_pairs([3, 1, 3])
    holds = torch.zeros(len(pairs), 3, dtype=torch.bool)
    holds[2, 0] = holds[7, 1] = True
    chosen = model.sampled(holds, pairs, [3, 1, 3])
    assert [int((chosen < 6).sum()), int((chosen >= 6).sum())] == [4, 4]
    assert {2, 7} <= set(chosen.tolist())


def test_it_learns_where_objects_are() -> None:
    """From boxes alone: "left of" among two objects of one class, which classes cannot tell."""
    torch.manual_seed(0)
    model = built().train()
    levels = model.roi_heads.region_features.levels  # type: ignore[attr-defined]
    maps = {name: torch.zeros(8, 16, 64 // s, 64 // s) for name, s in zip(levels, (8, 16, 32), strict=True)}
    batch = model.prepare([image() for _ in range(8)], None)[0]
    optimizer = torch.optim.AdamW(model.head.parameters(), 3e-3)  # type: ignore[union-attr]

    def two(seed: int) -> Instances:
        x = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:2].float()
        boxes = torch.stack([x, torch.full((2,), 20.0), x + 15, torch.full((2,), 40.0)], 1)
        first = int(x[0] > x[1])
        own = Instances((64, 64), boxes=boxes, labels=[1, 1])  # output 1: class 0
        return with_triplets(own, [Triplet(first, "left of", 1 - first)])

    for step in range(45):
        losses = model.relation_losses(maps, batch, [two(8 * step + i) for i in range(8)])
        optimizer.zero_grad()
        losses["loss_relation"].backward()
        optimizer.step()
    model.eval()
    right = 0
    for start in range(10_000, 10_040, 8):
        targets = [two(start + i) for i in range(8)]
        graph = model.graph(maps, [t.boxes for t in targets], batch)
        found = model.triplets(graph, [torch.zeros(2, dtype=torch.int64)] * 8, [torch.ones(2)] * 8)
        right += sum(own[0][:3] == triplets_of(t)[0][:3] for own, t in zip(found, targets, strict=True))
    assert right >= 36  # of 40


def test_saved_it_keeps_its_predicates_and_frequencies(tmp_path: Any) -> None:
    model = built().train()
    model([image()], [target(ON)])
    again = load(save(model.eval(), tmp_path / "model.safetensors"))
    assert isinstance(again, SceneGraphDetector)
    assert again.predicates == tuple(OWN)
    assert again.seen_combinations() == [("cup", "on", "table")]


def test_weights_of_other_classes_keep_the_frequencies_of_the_same_ones(tmp_path: Any) -> None:
    model = built().train()
    model([image()], [target(ON, LEFT)])
    file = save(model, tmp_path / "model.safetensors")
    small = {"min_size": 64, "max_size": 96, "channels": 16}
    other = create_model("scene_graph_lite0_fpn", ["table", "dog", "cup"], file, predicates=OWN, **small)
    assert other.seen_combinations() == [("cup", "on", "table")]


def test_bad_input() -> None:
    model = built().train()
    with pytest.raises(InputError, match=r"a\.jpg has the relation 'nears', .* did you mean 'near'"):
        model([image()], [target(Triplet(0, "nears", 1), source="a.jpg")])
    assert model.eval()([image()], [target(Triplet(0, "nears", 1))])["loss_relation"].isfinite()
    plain = Instances((64, 64), classes=sl.Classes(NAMES), boxes=[[1, 1, 9, 9]], labels=[0], source="b.jpg")
    with pytest.raises(InputError, match=r"b\.jpg has no keys, but this model learns from them"):
        model([image()], [plain])
    for wrong, words in (((), "at least one"), (("on", "on"), "'on' is named twice")):
        with pytest.raises(InputError, match=words):
            create_model("scene_graph_lite0_fpn", NAMES, predicates=wrong)


def test_the_predicates_of_visual_genome() -> None:
    assert len(set(PREDICATES)) == 50
    assert create_model("scene_graph_frequency_lite0_fpn", NAMES).predicates == PREDICATES
