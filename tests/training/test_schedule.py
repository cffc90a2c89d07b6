"""Learning rates against their formulas; the clock, and a run under a time budget."""

from __future__ import annotations

import math
import time

import pytest
import torch

from sightline.training import schedule
from sightline.training.loop import fit
from sightline.training.optimizer import make_optimizer
from sightline.training.recipe import Recipe
from sightline.training.schedule import Clock, learning_rate_factor, set_learning_rate
from tests.training import toy


def rates(recipe, steps):
    return [learning_rate_factor(recipe, step, step / steps) for step in range(steps)]


def test_cosine_equals_torchs_scheduler():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(Recipe(warmup_steps=0), 50) == pytest.approx(expected, abs=1e-6)


def test_warmup_rises_linearly():
    values = rates(Recipe(warmup_steps=10, schedule="constant"), 100)
    assert values[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert set(values[10:]) == {1.0}


def test_warmup_of_a_short_run_ends_at_a_tenth():
    values = rates(Recipe(warmup_steps=1000, schedule="constant"), 30)
    assert values[2] < 1
    assert set(values[3:]) == {1.0}


def test_steps_at_milestones():
    values = rates(Recipe(warmup_steps=0, schedule="step", milestones=(0.5, 0.8), gamma=0.1), 10)
    assert values == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)


def test_groups_keep_their_ratio():
    model = toy.model()
    recipe = Recipe(optimizer="adamw", lr=0.1, weight_decay=0.2, backbone_lr_factor=0.1, warmup_steps=0)
    optimizer = make_optimizer(model, recipe)
    assert set_learning_rate(optimizer, recipe, 0, 0.5) == pytest.approx(0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert seen.keys() == dict(model.named_parameters()).keys()
    for name, (lr, decay) in seen.items():
        assert lr == pytest.approx(0.005 if name.startswith("backbone.") else 0.05)
        assert decay == (0.2 if name in ("backbone.0.weight", "backbone.3.weight", "cls.weight", "box.weight") else 0.0)
    sgd = make_optimizer(model, Recipe(optimizer="sgd"))
    assert {group["weight_decay"] for group in sgd.param_groups} == {1e-4}


class FakeTime:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(schedule.time, "monotonic", lambda: self.now)


def test_clock_counts_steps_without_a_budget(monkeypatch):
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(epochs=4), steps_per_epoch=5)
    time.now += 30
    assert clock.tick(5) == 0.25
    assert clock.remaining == pytest.approx(90)
    assert clock.tick(20) == 1.0
    assert not clock.out_of_time
    assert list(clock.epochs(1)) == [1, 2, 3]


def test_clock_reserves_time_for_the_last_validation(monkeypatch):
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(minutes=1), steps_per_epoch=10, validation_share=0.5)
    clock.tick(0)
    time.now += 4  # 1 s a step: an epoch would take 10 s, a validation of half as many images 5 s
    assert clock.tick(4) == pytest.approx(4 / (60 - 1.05 * 5))
    clock.validated(20.0)
    time.now += 34
    assert clock.tick(5) == pytest.approx(38 / (60 - 21))
    assert not clock.out_of_time
    time.now += 1.5
    assert clock.tick(6) == 1.0
    assert clock.out_of_time
    assert list(clock.epochs(2)) == []


def test_time_kept_for_a_quicker_validation_is_trained_in(monkeypatch):
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(minutes=1), steps_per_epoch=100, validation_share=0.25)
    clock.tick(0)
    time.now += 35
    assert clock.tick(35) == 1.0  # 1 s a step: 26 s are kept
    assert clock.out_of_time
    time.now += 2
    clock.validated(2.0)
    assert clock.tick(35) == pytest.approx(37 / (60 - 2.1))
    assert not clock.out_of_time


def test_clock_keeps_half_of_the_time_for_training_however_slow_validation_is(monkeypatch):
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(minutes=1), steps_per_epoch=10, validation_seconds=1000.0)
    time.now += 15
    assert clock.tick(3) == pytest.approx(0.5)


def test_clock_takes_what_comes_first(monkeypatch):
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(minutes=1, epochs=2), steps_per_epoch=10)
    time.now += 6
    assert clock.tick(10) == 0.5
    time.now += 36
    assert clock.tick(11) == pytest.approx(0.7)
    assert clock.tick(20) == 1.0
    assert not clock.out_of_time


def test_training_ends_within_its_minutes(tmp_path):
    """Two seconds, with a validation of 0.2 s an epoch and slow images: ends in time, with the schedule run down."""

    def slow(image, target, generator):
        time.sleep(0.01)
        return image, target

    def validate(model):
        time.sleep(0.2)
        return {"AP": 0.5}

    recipe = Recipe(minutes=2 / 60, batch_size=4, lr=0.01, warmup_steps=2)
    began = time.monotonic()
    run = fit(
        toy.model(), toy.Blobs(8), recipe, tmp_path, transform=slow, validate=validate, save=toy.save, progress=False
    )
    taken = time.monotonic() - began
    seconds = sum(row["seconds"] for row in run.metrics)
    assert run.stopped == "minutes"
    assert len(run.metrics) >= 2
    assert "is used up" in run.message
    assert 1.2 < seconds < 3.5, (seconds, taken)  # the machine may be busy
    last = run.metrics[-1]
    assert "val/AP" in last
    assert last["lr"] < 0.35 * recipe.lr
    assert [row["lr"] for row in run.metrics] == sorted((row["lr"] for row in run.metrics), reverse=True)
    assert last["lr"] == pytest.approx(recipe.lr * 0.5 * (1 + math.cos(math.pi)), abs=0.35 * recipe.lr)


def test_time_before_the_first_step_is_not_that_of_a_step(monkeypatch):
    """Features were cached for 40 of 60 seconds: 20 are left for training, of which validation takes as little as 2."""
    time = FakeTime(monkeypatch)
    clock = Clock(Recipe(minutes=1), steps_per_epoch=10, validation_share=0.2)
    time.now += 40
    assert clock.tick(0) == pytest.approx(40 / 60)
    time.now += 1
    assert clock.tick(1) == pytest.approx(41 / (60 - 1.05 * 2))
    assert not clock.out_of_time
