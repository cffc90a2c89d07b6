"""Measures of faithfulness on images of 4×4 pixels worked by hand, and on linear functions with known areas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.explain import faithfulness as f
from sightline.explain.sanity import cascade, randomised, rank_correlation

HEAT = torch.tensor([[0.0, 1, 0, 0], [2, 8, 3, 0], [0, 4, -6, 0], [0, 0, 0, 2]])
OBJECT = torch.zeros(4, 4, dtype=torch.bool)
OBJECT[1:3, 1:3] = True


def linear(weights: Tensor) -> Any:
    """The function Σ w x of a batch of one channel."""
    return lambda batch: (batch[:, 0] * weights).sum((1, 2))


def test_pointing_game() -> None:
    assert f.pointing_game(HEAT, OBJECT) == 1
    assert f.pointing_game(HEAT, ~OBJECT) == 0
    below = torch.zeros(4, 4, dtype=torch.bool)
    below[3] = True
    assert [f.pointing_game(HEAT, below, tolerance) for tolerance in (0, 1, 2)] == [0, 0, 1]
    assert f.pointing_game(torch.zeros(4, 4), OBJECT) == 4 / 16  # no peak: chance
    twice = torch.tensor([[0.0, 5], [5, 1]])
    assert f.pointing_game(twice, torch.tensor([[False, True], [False, False]])) == 0.5


def test_energy_inside() -> None:
    """8 + 3 + 4 of 20; the negative value counts nowhere."""
    assert f.energy_inside(HEAT, OBJECT) == pytest.approx(15 / 20)
    assert f.energy_inside(-HEAT.abs(), OBJECT) is None
    assert f.energy_inside(torch.ones(4, 4), OBJECT) == 4 / 16


def test_pixels_of_a_box() -> None:
    assert torch.equal(f.inside_box((1, 1, 3, 3), (4, 4)), OBJECT)
    assert torch.equal(f.inside_box((0.6, 0.6, 3.4, 3.4), (4, 4)), OBJECT)
    assert f.inside_box((2.1, 1.1, 2.2, 1.2), (4, 4)).nonzero().tolist() == [[1, 2]]
    assert f.inside_box((-3, -3, 90, 90), (4, 4)).all()


def test_deletion_and_insertion_by_hand() -> None:
    """Weights 1 … 16 of white pixels, total 136, in four steps of four pixels."""
    weights = torch.arange(1.0, 17).reshape(4, 4)
    inputs = torch.ones(1, 1, 4, 4)
    best = f.deletion_curve(linear(weights), inputs, weights, steps=4)
    assert best.tolist() == [136, 78, 36, 10, 0]
    assert f.area(best) == (136 / 2 + 78 + 36 + 10) / 4
    worst = f.deletion_curve(linear(weights), inputs, -weights, steps=4, batch_size=2)
    assert worst.tolist() == [136, 126, 100, 58, 0]
    inserted = f.insertion_curve(linear(weights), inputs, weights, steps=4, baseline="zero")
    assert inserted.tolist() == [0, 58, 100, 126, 136]
    assert torch.equal(inserted + best, torch.full((5,), 136.0))


def test_area_of_a_linear_function() -> None:
    """Equal contributions fall on a straight line from the score to 0: half of it, whatever the order."""
    inputs = torch.full((1, 1, 12, 10), 2.0)
    for heat in (f.random_heat((12, 10)), f.centre_heat((12, 10)), torch.zeros(12, 10)):
        assert f.area(f.deletion_curve(linear(torch.ones(12, 10)), inputs, heat, steps=8)) == pytest.approx(120)
    # contributions that fall linearly, removed from the largest: the score is (1 − t)², with the area 1/3
    weights = torch.arange(4000.0, 0, -1).reshape(40, 100)
    curve = f.deletion_curve(linear(weights), torch.ones(1, 1, 40, 100), weights, steps=50)
    scaled = f.relative(curve, float(curve[0]), float(curve[-1]))
    assert scaled is not None
    assert f.area(scaled) == pytest.approx(1 / 3, abs=1e-3)
    assert f.relative(curve, 1.0, 1.0) is None
    assert f.relative(curve, 1.0, 2.0) is None


def test_equal_heat_is_removed_in_random_order() -> None:
    """Only the right half counts; a map of zeros must not spare it until the end."""
    weights = torch.zeros(16, 16)
    weights[8:] = 1
    curve = f.deletion_curve(linear(weights), torch.ones(1, 1, 16, 16), torch.zeros(16, 16), steps=4)
    assert 0.3 < float(curve[2] / curve[0]) < 0.7


def test_padding_is_never_removed() -> None:
    valid = torch.zeros(4, 4, dtype=torch.bool)
    valid[:, :2] = True
    weights = torch.ones(4, 4)
    curve = f.deletion_curve(linear(weights), torch.ones(1, 1, 4, 4), HEAT, steps=4, valid=valid)
    assert curve.tolist() == [16, 14, 12, 10, 8]
    curve = f.insertion_curve(linear(weights), torch.ones(1, 1, 4, 4), HEAT, steps=2, valid=valid, baseline="zero")
    assert curve.tolist() == [8, 12, 16]


def test_drop_and_increase_by_hand() -> None:
    """Falls by a half and by a quarter, and one rise, which counts as no fall."""
    before, kept = [0.8, 0.4, 0.5], [0.4, 0.3, 0.9]
    assert f.average_drop(before, kept) == pytest.approx(100 * (0.5 + 0.25 + 0) / 3)
    assert f.increase(before, kept) == pytest.approx(100 / 3)
    # scaled by its maximum 8, without the negative value: (1 + 2 + 8 + 3 + 4 + 2) / 8
    assert f.kept_score(linear(torch.ones(4, 4)), torch.ones(1, 1, 4, 4), HEAT) == pytest.approx(20 / 8)
    assert f.kept_score(linear(torch.ones(4, 4)), torch.ones(1, 1, 4, 4), torch.zeros(4, 4)) == 0


def test_rank_correlation() -> None:
    """Ties share their mean rank; checked against scipy's value for this pair."""
    a, b = torch.tensor([[1.0, 2, 2], [4, 5, 9]]), torch.tensor([[2.0, 1, 3], [3, 7, 6]])
    assert rank_correlation(a, b) == pytest.approx(0.8088235294)
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.ones(2, 3)) is None


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)
        self.tied = self.head

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.body(batch).relu().mean((2, 3)))


def test_weights_are_shuffled_and_come_back() -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def failing() -> None:
        with randomised(model) as names:
            assert names == ["body", "head"]
            for name, value in model.state_dict().items():
                assert torch.equal(value.flatten().sort()[0], before[name].flatten().sort()[0])
            assert not torch.equal(model.body.weight, before["body.weight"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with randomised(model, 0.5) as names:
        assert names == ["head"]
        assert torch.equal(model.body.weight, before["body.weight"])
    with pytest.raises(InputError, match="share is 2"), randomised(model, 2):
        pass


def test_a_method_that_ignores_the_model_is_found_out() -> None:
    model = Net()
    image = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))

    def edges() -> Tensor:
        return (image[0, 0] - image[0, 0].roll(1, 0)).abs()

    def gradient() -> Tensor:
        leaf = image.clone().requires_grad_()
        return torch.autograd.grad(model(leaf)[0, 0], leaf)[0][0, 0].abs()

    assert cascade(model, edges, 3) == [pytest.approx(1)] * 3
    found = cascade(model, gradient, 2)
    assert found[-1] is not None
    assert abs(found[-1]) < 0.6


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: f.pointing_game(HEAT, OBJECT[:2]), "both must be"),
        (lambda: f.pointing_game(HEAT * torch.nan, OBJECT), "not finite"),
        (lambda: f.pointing_game(HEAT, OBJECT, -1), "tolerance is -1"),
        (lambda: f.deletion_curve(linear(HEAT), torch.ones(1, 1, 5, 4), HEAT), "pixels of the batch"),
        (lambda: f.deletion_curve(linear(HEAT), torch.ones(1, 1, 4, 4), HEAT, baseline="blue"), "did you mean 'blur'"),
        (lambda: f.insertion_curve(linear(HEAT), torch.ones(1, 1, 4, 4), HEAT, steps=0), "steps is 0"),
        (lambda: f.average_drop([1.0], []), "one of each"),
        (lambda: f.average_drop([0.0], [1.0]), "not positive"),
        (lambda: rank_correlation(HEAT, HEAT[:2]), "one size"),
    ],
)
def test_bad_arguments(call: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        call()
