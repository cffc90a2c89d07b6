"""YOLO9000: the tree's loss and decoding against loops, images with boxes and images with labels in one batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.errors import ClassMismatch, InputError
from sightline.models.creation import create_model
from sightline.models.detection.yolo_9000 import YOLO9000, YOLO9000Settings
from sightline.models.saving import load, save
from sightline.ops.suppression import batched_nms
from sightline.runtime.shapes import shapes_only
from sightline.structures import Classes, ClassScores, Instances
from tests.models.detection.test_yolo_v2 import predicted, sigmoid
from tests.ops.test_word_tree import PAIRS, TREE

ANCHORS = [[0.5, 0.6], [1.5, 1.0]]
NAMES = ["dog", "terrier", "boat", "poodle", "animal"]  # of ten nodes
NODES = [2, 4, 7, 3, 0]


def build(**arguments) -> YOLO9000:
    torch.manual_seed(0)
    given = {"image_size": 64, "anchors": ANCHORS, "sizes": [], "tree": [list(pair) for pair in PAIRS]} | arguments
    return create_model("yolo_9000_mobilenet_v2", NAMES, **given)


def raw(images: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(images, 2 * (5 + 10), 2, 2, generator=torch.Generator().manual_seed(seed))


def conditional(values: list[float], node: int) -> float:
    siblings = [n for n, (_, parent) in enumerate(PAIRS) if parent == PAIRS[node][1]]
    return math.exp(values[node]) / sum(math.exp(values[n]) for n in siblings)


def probability(values: list[float], node: int) -> float:
    return math.prod(conditional(values, n) for n in TREE.path(node))


def boxes_of(tensor: Tensor) -> list[tuple[int, int, list[float], list[float]]]:
    """(row, column, anchor, numbers) of each predicted box of one image."""
    return [
        (row, column, anchor, tensor[a * 15 : a * 15 + 15, row, column].tolist())
        for row in range(2)
        for column in range(2)
        for a, anchor in enumerate(ANCHORS)
    ]


def test_a_label_s_loss_is_that_of_its_path_and_reaches_nothing_below() -> None:
    model = build()
    logits = torch.randn(3, 10, requires_grad=True)
    loss = model.class_loss(logits, torch.tensor([2, 8, 9]))
    wanted = -sum(math.log(probability(v, n)) for v, n in zip(logits.tolist(), (2, 8, 9), strict=True))
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].nonzero().flatten().tolist() == [0, 1, 2, 5, 9]  # a dog: its siblings and the roots


def test_an_image_with_a_label_teaches_its_best_box_alone() -> None:
    model = build()
    tensor = raw(seed=3).requires_grad_()
    nodes = [4, 7]
    losses = model.label_losses(model.split(tensor), torch.tensor(nodes))
    classes = objects = 0.0
    chosen = []
    for image, node in enumerate(nodes):
        best = max(boxes_of(tensor.detach()[image]), key=lambda box: sigmoid(box[3][4]) * probability(box[3][5:], node))
        classes -= math.log(probability(best[3][5:], node))
        objects += 5 / 2 * max(0.0, 0.3 - sigmoid(best[3][4])) ** 2
        chosen.append((image, ANCHORS.index(best[2]), best[0], best[1]))
    assert float(losses["loss_classification"].detach()) == pytest.approx(classes / 2, rel=1e-5)
    assert float(losses["loss_objectness"].detach()) == pytest.approx(objects / 2, rel=1e-5)
    sum(losses.values()).backward()
    assert tensor.grad is not None
    touched = tensor.grad.unflatten(1, (2, 15)).abs().sum(2).nonzero().tolist()
    assert [tuple(t) for t in touched] == sorted(chosen)
    assert (tensor.grad.unflatten(1, (2, 15))[:, :, :4] == 0).all()  # where it is, nobody knows


def test_a_box_that_is_no_object_yet_learns_to_be_one_to_three_tenths() -> None:
    model = build()
    tensor = raw(1)
    tensor.view(1, 2, 15, 2, 2)[:, :, 4] = -3.0
    losses = model.label_losses(model.split(tensor), torch.tensor([4]))
    assert float(losses["loss_objectness"]) == pytest.approx(5 / 2 * (0.3 - sigmoid(-3)) ** 2, rel=1e-5)
    tensor.view(1, 2, 15, 2, 2)[:, :, 4] = -0.5
    assert float(model.label_losses(model.split(tensor), torch.tensor([4]))["loss_objectness"]) == 0


def test_both_kinds_of_image_in_one_batch() -> None:
    model = build(settings=YOLO9000Settings(prior=0)).eval()
    images = [torch.rand(3, 50, 60), torch.rand(3, 64, 40), torch.rand(3, 40, 40)]
    boxed = Instances((50, 60), classes=model.classes, boxes=[[5, 5, 30, 40]], labels=[1])
    labelled = ClassScores((64, 40), label=3, classes=model.classes)
    empty = Instances((40, 40), classes=model.classes)
    together = model(images, [boxed, labelled, empty])
    detection = model([images[0], images[2]], [boxed, empty])
    label = model([images[1]], [labelled])
    assert set(label) == set(together) == {"loss_box", "loss_objectness", "loss_no_object", "loss_classification"}
    assert label["loss_box"] == label["loss_no_object"] == 0
    for name, value in together.items():
        wanted = (2 * detection[name] + label[name]) / 3
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
    model.train()
    sum(model(images, [boxed, labelled, empty]).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.seen.tolist()[:2] == [3, 1]


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.6])
def test_decoding_equals_a_loop(threshold: float) -> None:
    model = build(settings=YOLO9000Settings(tree_threshold=threshold, min_score=0.01))
    tensor = raw(seed=9)
    for image, found in enumerate(model.decode(model.split(tensor), [(64, 64), (64, 64)])):
        boxes, labels, scores = [], [], []
        for row, column, anchor, v in boxes_of(tensor[image]):
            at = max((0, 1, 9), key=lambda n: conditional(v[5:], n))
            while below := [n for n, (_, parent) in enumerate(PAIRS) if parent == at]:
                best = max(below, key=lambda n: conditional(v[5:], n))
                if probability(v[5:], best) < threshold:
                    break
                at = best
            while at >= 0 and at not in NODES:  # the nearest class above
                at = PAIRS[at][1]
            if at < 0 or sigmoid(v[4]) * probability(v[5:], at) <= 0.01:
                continue
            boxes.append([min(max(32 * c, 0), 64) for c in predicted(v, row, column, anchor)])
            labels.append(at + 1)
            scores.append(sigmoid(v[4]) * probability(v[5:], at))
        keep = batched_nms(torch.tensor(boxes).view(-1, 4), torch.tensor(scores), torch.tensor(labels), 0.45)
        assert len(keep)
        torch.testing.assert_close(found["boxes"], torch.tensor(boxes)[keep], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found["scores"], torch.tensor(scores)[keep])
        assert found["labels"].tolist() == torch.tensor(labels)[keep].tolist()


def test_the_tree_is_saved_with_the_model(tmp_path: Path) -> None:
    model = build(settings=YOLO9000Settings(tree_threshold=0.1)).eval()
    again = load(save(model, tmp_path / "model.safetensors"))
    assert isinstance(again, YOLO9000)
    assert again.tree.pairs == TREE.pairs
    assert again.settings == model.settings
    picture = torch.rand(3, 70, 80)
    with torch.inference_mode():
        a, b = model([picture])[0], again([picture])[0]
    assert len(a)
    assert torch.equal(a.scores, b.scores)
    assert a.names() == b.names()
    assert set(a.names()) <= set(NAMES)


def test_without_a_tree_all_classes_are_roots_and_the_paper_s_anchors_are_three() -> None:
    with shapes_only():
        model = create_model("yolo_9000_darknet19", ["a", "b"])
    assert model.tree.parents.shape == (2,)
    assert model.anchors.shape == (3, 2)
    assert model.preprocess.fixed_size == (544, 544)


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="'bird' is no node of the word tree"):
        create_model("yolo_9000_mobilenet_v2", ["dog", "bird"], tree=[list(pair) for pair in PAIRS])
    model = build()
    image = torch.rand(3, 40, 40)
    with pytest.raises(ClassMismatch, match=r"a\.jpg lacks"):
        model([image], [ClassScores((40, 40), label=0, classes=Classes(["dog"]), source="a.jpg")])
    with pytest.raises(InputError, match=r"a\.jpg is ClassScores without boxes or label"):
        model([image], [ClassScores((40, 40), scores=torch.rand(5), source="a.jpg")])
    with pytest.raises(InputError, match="label 9, but ids are 0 to 4"):
        model([image], [ClassScores((40, 40), label=9)])
