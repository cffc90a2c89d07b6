"""Optimised models: the same results, without what only the losses use."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

import sightline as sl
from sightline.deploy.differences import LEAST_SCORE, TOLERANCE, Difference, difference
from sightline.deploy.optimise import HALF_TOLERANCE
from sightline.errors import InputError
from sightline.structures import Classes, Instances
from tests.deploy.exporting.models import images, lively


def test_the_results_stay_and_training_parts_go() -> None:
    model = lively("deeplabv3_mobilenet_v2", width=8, aux=True, min_size=48)
    given = images(2, (50, 70))
    fast, report = sl.optimize(model, images=given, repeats=1, batch_size=2)
    assert report.steps == ("norms folded", "channels last", "auxiliary heads removed")
    assert report.parameters[1] < report.parameters[0]
    assert report.kept
    assert 0 < report.difference.scores < 1e-3
    for one, other in zip(model(given), fast(given), strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-3, rtol=0)
    assert model.network.aux_classifier is not None  # the model itself does not change
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert "optimised: norms folded, channels last, auxiliary heads removed\n" in str(report)
    assert "2×50×70 on" in str(report)


def test_too_large_differences_are_refused() -> None:
    model = lively("squeezenet1_1", image_size=32)
    with pytest.raises(InputError, match=r"squeezenet1_1 differs too much: scores .* Leave bf16 out"):
        sl.optimize(model, 40, bf16=True, images=images(2, (40, 40)), repeats=1, tolerance=Difference(scores=1e-9))
    with pytest.raises(InputError, match="image_size is 2, but"):
        sl.optimize(model, 2)


def test_bfloat16_halves_the_network_and_keeps_its_results() -> None:
    model = lively("squeezenet1_1", image_size=32)
    given = images(3, (40, 40))
    fast, report = sl.optimize(model, images=given, repeats=1, bf16=True)
    assert report.steps == ("norms folded", "channels last", "bfloat16")
    assert report.tolerance == HALF_TOLERANCE
    assert {parameter.dtype for parameter in fast.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert TOLERANCE.scores < report.difference.scores < HALF_TOLERANCE.scores  # 8 significant bits
    for one, other in zip(model(given), fast(given), strict=True):
        torch.testing.assert_close(one.scores, other.scores.float(), atol=0.05, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("sightline_n_mask", {"image_size": 160}, "masks"),
        ("sightline_n_pose", {"image_size": 160, "num_keypoints": 5}, "keypoints"),
    ],
)
def test_bfloat16_may_move_masks_and_keypoints(name: str, arguments: dict[str, int], field: str) -> None:
    allowed = replace(HALF_TOLERANCE, alone=1.0)  # many boxes of an untrained model have nearly the same score
    given = images(2, (120, 170))
    _, report = sl.optimize(
        lively(name, **arguments), images=given, bf16=True, repeats=1, batch_size=1, tolerance=allowed
    )
    assert getattr(report.difference, field) > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("name", ["squeezenet1_1", "lraspp"])
def test_a_compiled_network_gives_the_same_results(name: str) -> None:
    model = lively(name, **({"image_size": 32} if name == "squeezenet1_1" else {"inner": 16, "min_size": 64}))
    given = images(2, (64, 64))
    fast, report = sl.optimize(model, images=given, repeats=2, compile=True)
    assert report.steps[-1] == "compiled"
    assert report.kept
    compiled = [name for name, part in fast.named_children() if part._compiled_call_impl is not None]
    assert compiled
    assert not [name for name, part in model.named_children() if part._compiled_call_impl is not None]
    larger = images(1, (80, 96))  # another size than the one it was compiled for
    for one, other in zip(model(larger), fast(larger), strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-3, rtol=0)


def test_a_prediction_computes_no_auxiliary_head() -> None:
    model = lively("deeplabv3_mobilenet_v2", width=8, aux=True)
    calls: list[int] = []
    model.network.aux_classifier.register_forward_hook(lambda *_: calls.append(1))
    own = model(images(1, (40, 48)))[0]
    assert not calls
    batch, _ = model.prepare(images(1, (40, 48)), None)
    both = model.outputs(batch)
    assert calls
    torch.testing.assert_close(own.scores, both["out"][0].softmax(0), atol=1e-6, rtol=0)


def test_differences_of_objects() -> None:
    names = Classes(["a", "b"])
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 5, 5]])
    labels, scores = torch.tensor([0, 1, 0]), torch.tensor([0.9, 0.6, LEAST_SCORE / 2])
    one = Instances((50, 50), classes=names, boxes=boxes, labels=labels, scores=scores)
    assert difference(one, one) == Difference(objects=2)
    moved = one.replace(boxes=boxes + 0.25, scores=scores - torch.tensor([0.0, 0.1, 0.0]))
    found = difference(one, moved[[1, 0, 2]])
    assert (found.pixels, found.objects) == (0.25, 2)
    assert found.scores == pytest.approx(0.1)
    missing = difference(one, one[:1])
    assert (missing.objects, missing.alone, missing.scores) == (1, 1, 0.0)
    assert not missing.within(TOLERANCE)
    relabelled = difference(one, one.replace(labels=torch.tensor([1, 1, 0])))
    assert (relabelled.objects, relabelled.alone) == (1, 2)  # each has an object that the other does not have
    assert "2 objects found by one alone" in str(relabelled)
    assert (Difference(objects=999) + Difference(alone=1)).within(TOLERANCE)
    assert difference(one[:0], one[:0]).objects == 0


def test_what_differs_too_much_is_said_with_its_limit() -> None:
    found = Difference(scores=0.002, pixels=0.1, objects=9, alone=1, masks=0.5, labels=float("nan"))
    limit = Difference(scores=0.01, pixels=0.1, alone=0.05, masks=0.02)
    assert found.beyond(limit) == [
        "a fraction of 0.100 of the objects found by one alone (at most 0.05)",
        "a fraction of 0.50000 of the masks' pixels (at most 0.02)",
        "another class at a fraction of nan of the pixels (at most 0)",
    ]
