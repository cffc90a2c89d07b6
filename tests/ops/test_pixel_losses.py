"""Losses of maps against loops over pixels, and numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boundary_weights import boundary_weights, connected_components, two_nearest
from sightline.ops.pixel_losses import (
    PixelLosses,
    lovasz_softmax,
    pixel_cross_entropy,
    pixel_focal,
    soft_dice,
    soft_jaccard,
)
from sightline.structures import IGNORE

ALL = [pixel_cross_entropy, pixel_focal, soft_dice, soft_jaccard, lovasz_softmax]
WEIGHTS = [0.5, 2.0, 1.5]


def case(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two maps of 4×5 pixels, 4 classes of which one is absent, some pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 3, (2, 4, 5), generator=generator)
    return logits, labels


def pixels(logits: Tensor, labels: Tensor) -> list[tuple[list[float], int]]:
    """Probabilities and label of each pixel that counts."""
    found = []
    for n, y, x in itertools.product(*map(range, labels.shape)):
        if int(labels[n, y, x]) != IGNORE:
            powers = [math.exp(v) for v in logits[n, :, y, x].tolist()]
            found.append(([p / sum(powers) for p in powers], int(labels[n, y, x])))
    return found


def test_cross_entropy_and_focal_by_a_loop() -> None:
    logits, labels = case()
    plain = weighted = total = focal = 0.0
    weights = [*WEIGHTS, 3.0]
    added = torch.rand(2, 4, 5, dtype=torch.float64)
    extra = [float(a) for a, label in zip(added.flatten(), labels.flatten(), strict=True) if label != IGNORE]
    for (p, label), more in zip(found := pixels(logits, labels), extra, strict=True):
        plain -= math.log(p[label])
        weighted -= (weights[label] + more) * math.log(p[label])
        total += weights[label] + more
        focal -= weights[label] * (1 - p[label]) ** 3 * math.log(p[label])
    assert float(pixel_cross_entropy(logits, labels)) == pytest.approx(plain / len(found))
    assert float(pixel_cross_entropy(logits, labels, weights, added)) == pytest.approx(weighted / total)
    assert float(pixel_focal(logits, labels, 3.0, weights)) == pytest.approx(focal / len(found))
    torch.testing.assert_close(pixel_focal(logits, labels, 0.0), pixel_cross_entropy(logits, labels))


def test_dice_and_jaccard_by_a_loop() -> None:
    logits, labels = case()
    found = pixels(logits, labels)
    dice, jaccard = [], []
    for c in {label for _, label in found}:
        both = sum(p[c] for p, label in found if label == c)
        chance, truth = sum(p[c] for p, _ in found), sum(label == c for _, label in found)
        dice.append(1 - 2 * both / (chance + truth))
        jaccard.append(1 - both / (chance + truth - both))
    assert float(soft_dice(logits, labels)) == pytest.approx(sum(dice) / len(dice))
    assert float(soft_jaccard(logits, labels)) == pytest.approx(sum(jaccard) / len(jaccard))


def test_lovasz_by_its_definition() -> None:
    """The extension of a set function: its values at the nested sets of the largest errors, by their differences."""
    logits, labels = case()
    found = pixels(logits, labels)
    losses = []
    for c in {label for _, label in found}:
        errors = [1 - p[c] if label == c else p[c] for p, label in found]
        truth = {i for i, (_, label) in enumerate(found) if label == c}

        def loss(wrong: set[int], truth: set[int] = truth) -> float:
            return len(wrong) / len(truth | wrong)  # of the prediction that errs at these pixels alone

        order = sorted(range(len(errors)), key=lambda i, e=errors: -e[i])
        sets = [set(order[:k]) for k in range(len(order) + 1)]
        losses.append(sum(errors[i] * (loss(sets[k + 1]) - loss(sets[k])) for k, i in enumerate(order)))
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(sum(losses) / len(losses))


def test_of_hard_predictions_lovasz_and_jaccard_are_one_minus_the_iou() -> None:
    labels = torch.tensor([[[0, 0, 0, 1], [0, 1, 1, 1]]])
    predicted = torch.tensor([[[0, 0, 1, 1], [1, 1, 1, 0]]])
    logits = 200.0 * torch.nn.functional.one_hot(predicted, 2).movedim(-1, 1)
    # class 0: 2 of 5, class 1: 3 of 6
    expected = 1 - (2 / 5 + 3 / 6) / 2
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(expected)
    assert float(soft_jaccard(logits, labels)) == pytest.approx(expected)
    assert float(soft_dice(logits, labels)) == pytest.approx(1 - (4 / 7 + 6 / 9) / 2)


@pytest.mark.parametrize("loss", [*ALL, PixelLosses(class_weights=(1, 2, 3, 4), boundary=5, sigma=1, focal=1)])
def test_gradients(loss: object) -> None:
    logits, labels = case(1)
    logits, labels = logits[:, :, :3, :3], labels[:, :3, :3]
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.clone().requires_grad_())


@pytest.mark.parametrize("loss", [*ALL, PixelLosses(dice=1, lovasz=1, boundary=10)])
def test_ignored_pixels_do_not_count(loss: object) -> None:
    logits, labels = case(2)
    value = loss(logits, labels)
    other = logits + 9 * torch.randn(logits.shape) * (labels == IGNORE)[:, None]
    torch.testing.assert_close(loss(other, labels), value)
    logits = logits.half().requires_grad_()
    none = loss(logits, torch.full_like(labels, IGNORE))
    assert float(none.detach()) == 0
    assert none.dtype == torch.float32
    none.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_sum_of_losses() -> None:
    logits, labels = case()
    torch.testing.assert_close(PixelLosses()(logits, labels), pixel_cross_entropy(logits, labels))
    mixed = PixelLosses(0, focal=2, dice=3, jaccard=4, lovasz=5, gamma=1)(logits, labels)
    parts = [pixel_focal(logits, labels, 1), soft_dice(logits, labels), soft_jaccard(logits, labels)]
    expected = 2 * parts[0] + 3 * parts[1] + 4 * parts[2] + 5 * lovasz_softmax(logits, labels)
    torch.testing.assert_close(mixed, expected)
    added = boundary_weights(connected_components(labels), 4.0, 2.0)
    torch.testing.assert_close(
        PixelLosses(class_weights=(1, 2, 3, 4), boundary=4, sigma=2)(logits, labels),
        pixel_cross_entropy(logits, labels, (1, 2, 3, 4), added),
    )


# Objects


def test_connected_components_by_flooding() -> None:
    labels = torch.randint(-1, 3, (3, 9, 11), generator=torch.Generator().manual_seed(3))
    labels[0] = 1  # one piece
    labels[1, :, ::2], labels[1, 1::4, :], labels[1, 3::4, 1:] = 1, 1, 0
    for background in (0, None):
        expected, count = torch.zeros_like(labels), 0
        for n, y, x in itertools.product(*map(range, labels.shape)):
            label = int(labels[n, y, x])
            if label in (IGNORE, background) or expected[n, y, x]:
                continue
            count += 1
            todo = [(y, x)]
            while todo:
                v, u = todo.pop()
                if 0 <= v < 9 and 0 <= u < 11 and labels[n, v, u] == label and not expected[n, v, u]:
                    expected[n, v, u] = count
                    todo += [(v - 1, u), (v + 1, u), (v, u - 1), (v, u + 1)]
        assert torch.equal(connected_components(labels, background), expected)
    assert not connected_components(torch.zeros(1, 3, 4, dtype=torch.int64)).any()


def test_a_snake_is_one_piece() -> None:
    labels = torch.zeros(1, 41, 41, dtype=torch.int64)
    labels[:, ::2] = 1
    labels[:, 1::4, -1] = labels[:, 3::4, 0] = 1
    assert torch.equal(connected_components(labels), labels)


def test_the_two_nearest_by_looking_at_all() -> None:
    generator = torch.Generator().manual_seed(4)
    objects = torch.randint(1, 5, (2, 8, 7), generator=generator)
    objects *= torch.rand(2, 8, 7, generator=generator) < 0.15
    objects[1, :, 3:] = 0
    for radius in (20, 3):
        got = two_nearest(objects, radius)
        for n, y, x in itertools.product(*map(range, objects.shape)):
            nearest: dict[int, float] = {}
            for v, u in itertools.product(range(8), range(7)):
                if int(i := objects[n, v, u]) and max(abs(v - y), abs(u - x)) <= radius:
                    nearest[int(i)] = min(nearest.get(int(i), math.inf), math.hypot(v - y, u - x))
            wanted = [*sorted(nearest.values()), math.inf, math.inf][:2]
            assert got[:, n, y, x].tolist() == pytest.approx(wanted)


def test_boundary_weights_by_hand() -> None:
    objects = torch.tensor([[[1, 0, 0, 2]]])
    expected = [10 * math.exp(-(d**2) / 8) for d in (3, 3, 3, 3)]
    assert boundary_weights(objects, 10, 2)[0, 0].tolist() == pytest.approx(expected)
    assert not boundary_weights(objects.clamp(max=1) * torch.tensor([1, 1, 1, 0])).any()  # one object has no neighbour
    touching = boundary_weights(torch.tensor([[[1, 2]]]), 10, 5)
    assert touching[0, 0].tolist() == pytest.approx([10 * math.exp(-1 / 50)] * 2)


# Bad input


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cross_entropy": 0.0}, "all factors of the pixel losses are 0"),
        ({"dice": -1.0}, r"dice of the pixel losses is -1\.0, but must be 0 or more"),
        ({"gamma": math.nan}, "gamma of the pixel losses is nan"),
        ({"class_weights": (1.0, -2.0)}, "class_weights are"),
        ({"sigma": 0.0}, "sigma of the pixel losses is 0"),
    ],
)
def test_values_that_no_losses_can_have(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PixelLosses(**values)


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = case()
    for loss in ALL:
        with pytest.raises(InputError, match=r"labels \[2, 4, 4\] do not fit logits \[2, 4, 4, 5\]"):
            loss(logits, labels[..., 1:])
    with pytest.raises(InputError, match="there are 3 class weights but 4 classes; give one per class"):
        PixelLosses(class_weights=(1, 2, 3))(logits, labels)
    with pytest.raises(InputError, match="sigma is 0"):
        boundary_weights(labels, sigma=0)
