"""Augmentation of several pictures in a run: closed for its last part, and the same however the run was made."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from sightline.data.transforms import Mosaic, Transform, recipes
from sightline.models.keep_size import KeepSize
from sightline.models.model import Model, as_model
from sightline.models.preprocess import Preprocess
from sightline.training.loader import EpochBatches, Samples
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from sightline.training.schedule import Clock
from tests.training import toy

RECIPE = Recipe(epochs=4, batch_size=4, warmup_steps=3, ema=0.9, lr=0.01, workers=0)
MOSAIC = recipes.mosaic(mixup=0.3, closing=0.4)  # 14 images, 4 batches an epoch: closed from batch 10 of 16 on


def train(folder, recipe=RECIPE, seed=0, **kwargs):
    return fit(
        toy.model(seed), toy.Blobs(14), recipe, folder, transform=MOSAIC, save=toy.save, progress=False, **kwargs
    )


def weights(run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return weights(train(tmp_path_factory.mktemp("whole") / "run"))


def test_processes_change_nothing(tmp_path, whole):
    assert toy.same(weights(train(tmp_path / "run", dataclasses.replace(RECIPE, workers=2))), whole)


@pytest.mark.parametrize(("after", "workers"), [(1, 0), (2, 2), (3, 0)])
def test_a_resumed_run_ends_with_the_very_weights(tmp_path, whole, after, workers):
    class Killed(Exception):
        pass

    def kill(row):
        if row["epoch"] == after:
            raise Killed

    recipe = dataclasses.replace(RECIPE, workers=workers)
    with pytest.raises(Killed):
        train(tmp_path / "run", recipe, on_epoch=kill)
    assert toy.same(weights(train(tmp_path / "run", recipe, seed=9, resume=True)), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_part_is_closed(tmp_path, workers):
    seen = tmp_path / "seen"

    class Marked(Transform):
        """Says of each image it augments whether it was the open or the closed form."""

        closing = 0.4

        def __init__(self, word):
            self.word = word

        def bind(self, data, size):
            assert len(data) == 14
            assert size is None  # the toy has no preprocessing
            return self

        def closed(self):
            return Marked("closed")

        def __call__(self, image, target, generator):
            with open(seen, "a") as file:
                file.write(self.word + "\n")
            return image, target

    recipe = dataclasses.replace(RECIPE, workers=workers)
    fit(toy.model(), toy.Blobs(14), recipe, tmp_path / "run", transform=Marked("open"), save=toy.save, progress=False)
    words = seen.read_text().split()
    assert (words.count("open"), words.count("closed")) == (2 * 14 + 2 * 4, 2 * 4 - 2 + 14)
    if workers == 0:
        assert words == ["open"] * 36 + ["closed"] * 20


def test_progress_of_a_run_by_epochs_and_by_time():
    clock = Clock(Recipe(epochs=4), steps_per_epoch=5)
    assert clock.progress_at(0, 0.0) == 0
    assert clock.progress_at(2, 0.5) == 0.625
    timed = Clock(Recipe(minutes=10), steps_per_epoch=5, elapsed=300)
    timed.tick(3)
    assert timed.progress_at(50, 0.5) == timed.progress == pytest.approx(0.5, abs=0.01)


def test_batches_say_that_they_are_closed():
    order = EpochBatches(5, 2, shuffle=False)
    order.closing = lambda epoch, batch: epoch > 0 or batch > 0
    assert list(order) == [[(0, 0), (0, 1)], [(0, 2, True), (0, 3, True)], [(0, 4, True)]]


def test_samples_are_bound_to_the_data_and_the_size_the_model_sees():
    samples = Samples(toy.Blobs(5), MOSAIC, seed=1, size=(32, 48))
    assert samples[(0, 2)][0].shape == (3, 32, 48)
    assert samples[(0, 2, True)][0].shape == (3, 16, 16)
    assert Samples(toy.Blobs(5), Mosaic(), size=(32, 32))[(0, 1)][0].shape == (3, 32, 32)
    assert as_model(nn.Module()).seen_size is None
    for preprocess, size in ((Preprocess(fixed_size=(96, 128)), (96, 128)), (Preprocess(min_size=320), (320, 320))):
        assert Model(["a"], preprocess).seen_size == size
        plain = nn.Module()
        plain.preprocess = preprocess
        assert as_model(plain).seen_size == size
    assert Model(["a"], KeepSize()).seen_size is None
