"""Target types of one's own: what augmentations, resizing, loading and drawing do with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import kornia.augmentation as kornia
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sightline as sl
from sightline.data.transforms import (
    Colour,
    Compose,
    HorizontalFlip,
    Kornia,
    MixUp,
    Mosaic,
    RandomCrop,
    Sometimes,
    Transform,
    as_transform,
    follow,
    recipes,
)
from sightline.data.transforms.targets import parts_of
from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.report.drawing import drawn
from sightline.structures import Size, WholeImage
from sightline.training.guard import as_dict
from sightline.training.loader import Batch, Samples, trainable

IMAGE = torch.arange(3 * 40 * 60).remainder(256).to(torch.uint8).view(3, 40, 60)


@dataclass(frozen=True)
class Count(WholeImage):
    image_size: Size
    number: int
    weights: Tensor | None = None
    source: str | None = None


@dataclass(frozen=True)
class Spot:
    """One place in the image, x and y in pixels."""

    image_size: Size
    at: Tensor
    source: str | None = None

    def to(self, device):
        return self


@dataclass(frozen=True)
class Stranger:
    image_size: Size
    source: str | None = "x.png"


@follow.register
def _(target: Spot, motion, min_visible, keypoint_swap) -> Spot:
    return Spot(motion.size, motion.points("at", target.at[None])[0], target.source)


def run(transform, target, seed=0):
    return transform(IMAGE, target, np.random.default_rng(seed))[1]


@pytest.mark.parametrize(
    "name", [name for name in recipes.NAMES if name != "mosaic"] + ["kornia turn", "kornia blur", "sometimes"]
)
def test_what_is_true_of_the_whole_image_passes_everywhere(name):
    own = {
        "kornia turn": Kornia(kornia.RandomRotation(30, p=1.0)),
        "kornia blur": Kornia(kornia.RandomGaussianBlur((3, 3), (1.0, 2.0), p=1.0)),
        "sometimes": Sometimes(Compose([RandomCrop(20)]), 1.0),
    }
    transform = own[name] if name in own else recipes.named(name)
    image, target = transform(IMAGE, Count((40, 60), 3, source="a"), np.random.default_rng(1))
    assert target == Count((int(image.shape[1]), int(image.shape[2])), 3, source="a")
    _, scores = transform(IMAGE, sl.ClassScores((40, 60), 2, source="a"), np.random.default_rng(1))
    assert (scores.label, scores.image_size, scores.source) == (2, target.image_size, "a")


def test_a_whole_image_moves_its_tensors_and_is_loaded_and_resized():
    count = Count((40, 60), 3, torch.ones(2))
    assert count.to("meta").weights.device.type == "meta"
    assert count.to("meta").number == 3
    assert trainable(count) is count
    assert as_dict(count)["number"] == 3
    batch = Batch([(IMAGE, count)], packed=True)
    assert batch.to("cpu")[1][0].number == 3
    _, targets = Preprocess(fixed_size=(20, 30), divisor=1)([IMAGE], [count])
    assert targets is not None
    assert (targets[0].image_size, targets[0].number) == ((20, 30), 3)


def test_a_registered_type_follows_matrix_and_kornia_alike():
    spot = Spot((40, 60), torch.tensor([10.0, 5.0]))
    assert run(HorizontalFlip(1), spot).at.tolist() == [50, 5]
    assert run(Compose([RandomCrop(20), Colour()]), spot).image_size == (20, 20)

    @parts_of.register
    def _(target: Spot):
        from sightline.data.transforms.targets import Parts

        return Parts({"at": target.at[None]})

    moved = run(Kornia(kornia.RandomHorizontalFlip(p=1.0)), spot)
    assert moved.at.tolist() == [50, 5]


def test_an_unknown_type_takes_colours_and_refuses_geometry():
    target = Stranger((40, 60))
    assert run(Compose([Colour(), HorizontalFlip(0)]), target) is target
    assert run(Kornia(kornia.RandomGaussianBlur((3, 3), (1.0, 2.0), p=1.0)), target) is target
    says = r"x\.png is a Stranger, which does not define how it follows .* make Stranger a .*WholeImage"
    crop = Kornia(kornia.RandomCrop((20, 30), p=1.0))
    padded = Kornia(kornia.PadTo((50, 60)))  # at the bottom: the corners stay
    mirrored = Kornia(kornia.RandomHorizontalFlip(p=1.0))
    for transform in (HorizontalFlip(1), Compose([RandomCrop(20)]), mirrored, crop, padded):
        with pytest.raises(InputError, match=says):
            run(transform, target)
    says = {Mosaic(): "combining several images requires objects", MixUp(None, 1.0): "mixing images requires objects"}
    for pieces, what in says.items():
        with pytest.raises(InputError, match=rf"x\.png is (a|of type) Stranger, but {what}"):
            run(pieces, target)


def test_drawing_asks_who_knows_the_type():
    with pytest.raises(InputError, match=r"a Stranger cannot be drawn; register a function .*drawn\.register"):
        sl.draw(IMAGE, Stranger((40, 60)))

    @drawn.register
    def _(result: Count, picture: Image.Image, style) -> Image.Image:
        return Image.new("RGB", picture.size, (result.number, 0, 0))

    assert sl.draw(IMAGE, Count((40, 60), 7), size=30).getpixel((0, 0)) == (7, 0, 0)


def brighter(image, target, generator, by=1):
    return image + by, target


def test_a_function_is_an_augmentation():
    function = as_transform(brighter)
    assert (function.closing, function.mirrors, function.combines, function.keypoint_swap) == (0, False, False, None)
    assert function.bind([], None) is function is function.closed()
    assert as_transform(function) is function
    assert repr(function) == repr(brighter)
    for transform in (brighter, function, Compose([brighter]), partial(brighter, by=1)):
        data = [(IMAGE, sl.ClassScores((40, 60), 1))]
        image, _ = Samples(data, transform)[(0, 0)]
        assert torch.equal(image, IMAGE + 1)
    with pytest.raises(InputError, match=r"must be callable as .*, but 3 is not"):
        as_transform(3)


def test_images_that_are_combined_are_read_once():
    read = []

    class Data(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    target = sl.Instances((40, 60), boxes=[[5, 5, 30, 30]], labels=[0])
    for transform, most in ((Sometimes(Mosaic(), 1.0), 1), (HorizontalFlip(), 3)):
        read.clear()
        samples = Samples(Data([(IMAGE, target)] * 4), transform)
        for epoch in range(3):
            for i in range(4):
                samples[(epoch, i)]
        assert max(read.count(i) for i in range(4)) == most


def test_augmentations_say_what_they_do():
    class Own(Transform):
        closing = 0.25

        def __call__(self, image, target, generator):
            return image, target

    assert Own().closed().closing == 0.25
    flip = HorizontalFlip(0.5)
    assert {name: recipes.named(name).mirrors for name in recipes.NAMES} == {
        name: name != "none" for name in recipes.NAMES
    }
    assert {name for name in recipes.NAMES if recipes.named(name).combines} == {"mosaic"}
    for inside in (Compose([Own(), flip]), Sometimes(flip, 0.5), MixUp(flip)):
        assert inside.mirrors
    for without in (HorizontalFlip(0), Compose([Own(), Colour()]), Sometimes(flip, 0), MixUp(), Mosaic(flip=0), Own()):
        assert not without.mirrors
    for several in (Mosaic(), MixUp(), Sometimes(Mosaic()), Compose([Colour(), Mosaic()])):
        assert several.combines
    assert not Compose([Own(), flip]).combines
