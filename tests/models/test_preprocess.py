"""Preprocessing: sizes, values, padding, scales and targets, against the reference's table and naive loops."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.keep_size import KeepSize
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances
from tests.models import parity

# min_size, max_size, then (height, width) of the image, inside the batch, and of the batch: torchvision's transform
SIZES = [
    (800, 1333, (480, 640), (800, 1066), (800, 1088)),
    (800, 1333, (427, 640), (800, 1199), (800, 1216)),
    (800, 1333, (375, 1242), (402, 1333), (416, 1344)),
    (800, 1333, (97, 131), (799, 1080), (800, 1088)),
    (320, 640, (480, 640), (320, 426), (320, 448)),
    (320, 640, (100, 640), (100, 640), (128, 640)),
]


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


# Sizes


@pytest.mark.parametrize(("low", "high", "size", "resized", "padded"), SIZES)
def test_sizes_are_the_published_models(
    low: int, high: int, size: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
) -> None:
    batch, _ = Preprocess(min_size=low, max_size=high)([torch.zeros(3, *size)])
    assert batch.sizes == [resized]
    assert tuple(batch.tensor.shape[-2:]) == padded
    assert batch.original_sizes == [size]


def test_sizes_equal_the_reference_s_table(shared: Path) -> None:
    with np.load(shared / "parity" / "ops" / "detection_utils.npz") as file:
        rows = file["sizes"].tolist()
    assert len(rows) > 50
    for low, high, height, width, resized_height, resized_width, padded_height, padded_width in rows:
        preprocess = Preprocess(min_size=low, max_size=high)
        assert preprocess.resized((height, width)) == (resized_height, resized_width), (low, high, height, width)
        assert [math.ceil(x / 32) * 32 for x in (resized_height, resized_width)] == [padded_height, padded_width]


side = st.integers(1, 5000)


@settings(max_examples=200, deadline=None)
@given(side, side, st.integers(1, 1000), st.integers(0, 1000))
def test_sizes_keep_the_aspect_and_both_limits(height: int, width: int, low: int, more: int) -> None:
    high = low + more
    resized = Preprocess(min_size=low, max_size=high).resized((height, width))
    factor = min(Fraction(low, min(height, width)), Fraction(high, max(height, width)))
    for got, side in zip(resized, (height, width), strict=True):
        exact = side * factor
        assert max(1, math.floor(exact) - 1) <= got <= max(1, math.ceil(exact))
    assert max(resized) <= high


def test_images_that_keep_their_size_are_padded_and_come_back() -> None:
    preprocess = KeepSize(divisor=16)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((1, 1), (33, 2000))]
    batch, _ = preprocess(images)
    assert batch.sizes == batch.original_sizes == [(1, 1), (33, 2000)]
    assert batch.tensor.shape == (2, 3, 48, 2000)
    for row, image in zip(batch.tensor, images, strict=True):
        assert torch.equal(preprocess.restored(row[:, : image.shape[1], : image.shape[2]]), image)


def test_values_beyond_white_and_black_come_back_as_these() -> None:
    preprocess = KeepSize([0.5] * 3, [0.25] * 3)
    values = torch.tensor([-3.0, -2.0, 0.0, 2.0, 3.0])  # 0.5 + 0.25 · v: −0.25, 0, 0.5, 1, 1.25
    assert preprocess.restored(values.expand(3, 1, 5))[0, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_fixed_size_is_every_image_s() -> None:
    preprocess = Preprocess(fixed_size=(40, 60), divisor=1)
    batch, _ = preprocess([image(3, 10, 10), image(3, 400, 3), image(3, 40, 60)])
    assert batch.tensor.shape == (3, 3, 40, 60)
    assert batch.sizes == [(40, 60)] * 3
    assert batch.scales == [(6.0, 4.0), (20.0, 0.1), (1.0, 1.0)]


def test_each_image_of_a_batch_has_its_own_two_factors() -> None:
    """Worked by hand: x by 60/30 and 60/120, y by 40/10 and 40/80."""
    objects = {"boxes": [[6, 2, 24, 8]], "labels": [0], "keypoints": [[[6, 2, 2], [24, 8, 1], [0, 0, 0]]]}
    targets = [Instances((10, 30), **objects), Instances((80, 120), **objects)]
    batch, moved = Preprocess(fixed_size=(40, 60), divisor=1)([image(3, 10, 30), image(3, 80, 120)], targets)
    assert batch.scales == [(2.0, 4.0), (0.5, 0.5)]
    assert moved is not None
    assert [t.image_size for t in moved] == [(40, 60)] * 2
    assert [t.boxes.tolist() for t in moved] == [[[12, 8, 48, 32]], [[3, 1, 12, 4]]]
    assert [t.keypoints[0].tolist() for t in moved] == [
        [[12, 8, 2], [48, 32, 1], [0, 0, 0]],
        [[3, 1, 2], [12, 4, 1], [0, 0, 0]],
    ]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2000), (7, 1)])
def test_images_that_are_nearly_a_line(size: tuple[int, int]) -> None:
    batch, (target,) = Preprocess(min_size=80, max_size=133)(
        [image(3, *size)], [Instances(size, boxes=[[0, 0, size[1], size[0]]], labels=[0])]
    )
    height, width = batch.sizes[0]
    assert min(height, width) >= 1
    assert max(height, width) <= 133
    assert batch.tensor.isfinite().all()
    torch.testing.assert_close(target.boxes, torch.tensor([[0.0, 0, width, height]]))


@pytest.mark.parametrize("size", [(1, 1), (1, 600), (600, 2), (63, 64), (200, 300)])
def test_a_classifier_crops_images_of_any_shape(size: tuple[int, int]) -> None:
    model = create_model("mobilenet_v3_small", ["a", "b"], crop=64).eval()
    with torch.inference_mode():
        (result,) = model([image(3, *size)])
    assert result.scores.isfinite().all()
    assert result.image_size == size
    cut = model._centre(model.preprocess.prepare(image(3, *size)))
    assert cut.shape == (3, 64, 64)


# Values


def by_loops(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing, corners not aligned: an output pixel's centre is a point between four of the input's."""
    channels, old_height, old_width = pixels.shape
    out = np.zeros((channels, height, width))
    for i in range(height):
        y = max(0.0, (i + 0.5) * old_height / height - 0.5)
        y0 = min(int(y), old_height - 1)
        y1, fy = min(y0 + 1, old_height - 1), y - y0
        for j in range(width):
            x = max(0.0, (j + 0.5) * old_width / width - 0.5)
            x0 = min(int(x), old_width - 1)
            x1, fx = min(x0 + 1, old_width - 1), x - x0
            top = pixels[:, y0, x0] * (1 - fx) + pixels[:, y0, x1] * fx
            bottom = pixels[:, y1, x0] * (1 - fx) + pixels[:, y1, x1] * fx
            out[:, i, j] = top * (1 - fy) + bottom * fy
    return out


@pytest.mark.parametrize("size", [(9, 14), (31, 17), (20, 20)])
def test_values_are_normalised_and_resized(size: tuple[int, int]) -> None:
    picture = image(3, *size)
    preprocess = Preprocess(min_size=20, max_size=30)
    batch, _ = preprocess([picture])
    height, width = batch.sizes[0]
    mean, std = np.array(IMAGENET_MEAN)[:, None, None], np.array(IMAGENET_STD)[:, None, None]
    expected = by_loops((picture.numpy() / 255 - mean) / std, height, width)
    np.testing.assert_allclose(batch.tensor[0, :, :height, :width].numpy(), expected, atol=2e-5)


def test_the_batch_and_its_targets_equal_the_reference(shared: Path) -> None:
    recipe = parity.recipe(shared)
    with np.load(shared / "parity" / "ops" / "detection_utils.npz") as file:
        ref = {k: file[k] for k in file.files}
    picture, known = recipe.image(60, 90, 5), recipe.target(0, 60, 90)
    target = Instances((60, 90), boxes=known["boxes"], labels=known["labels"])
    batch, (moved,) = Preprocess(min_size=100, max_size=140)([picture], [target])
    assert batch.sizes == [tuple(ref["resize/image_sizes"][0])]
    assert moved.image_size == batch.sizes[0]
    parity.close(batch.tensor, ref["resize/output"], 1e-5)
    parity.close(moved.boxes, ref["resize/boxes"], 1e-4)
    fixed = Preprocess((0.48235, 0.45882, 0.40784), (1 / 255,) * 3, fixed_size=(300, 300), divisor=1)
    batch, _ = fixed([picture])
    parity.close(batch.tensor[:, :, ::4, ::4], ref["fixed300/output_stride4"], 2e-3)  # of values up to 150


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 0), (torch.float64, 1e-6), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)]
)
def test_floating_images_are_those_of_bytes(dtype: torch.dtype, tolerance: float) -> None:
    picture = image(3, 30, 40)
    preprocess = Preprocess(min_size=50, max_size=60)
    of_bytes, _ = preprocess([picture])
    of_floats, _ = preprocess([(picture.double() / 255).to(dtype) if tolerance else picture.float() / 255])
    assert of_floats.tensor.dtype == torch.float32
    torch.testing.assert_close(of_floats.tensor, of_bytes.tensor, rtol=0, atol=tolerance)


def test_what_is_made_smaller_can_be_averaged() -> None:
    """As Pillow does, and mosaics with it: noise becomes grey, where sampling leaves noise."""
    noise = torch.randint(0, 256, (3, 200, 400), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = {}
    for antialias in (False, True):
        prepare = Preprocess([0.0] * 3, [1.0] * 3, min_size=40, max_size=80, divisor=1, antialias=antialias)
        found[antialias] = prepare.prepare(noise)
        torch.testing.assert_close(prepare.prepare(noise.float() / 255), found[antialias], atol=1.01 / 255, rtol=0)
    assert found[True].std() < 0.5 * found[False].std()
    pillow = Image.fromarray(noise.permute(1, 2, 0).numpy()).resize((80, 40), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.array(pillow)).permute(2, 0, 1) / 255
    torch.testing.assert_close(found[True], wanted, atol=1.01 / 255, rtol=0)
    larger = Preprocess(min_size=300, max_size=600, antialias=True)
    assert torch.equal(larger.prepare(noise), Preprocess(min_size=300, max_size=600).prepare(noise))


def as_published(picture: Image.Image, resize: int, crop: int | None, filter: Image.Resampling) -> Tensor:
    """What torchvision's presets do with a Pillow image, before the normalisation: [3, h, w] in [0, 1]."""
    short, long = min(picture.size), max(picture.size)
    longer = int(resize * long / short)
    picture = picture.resize((resize, longer) if picture.width == short else (longer, resize), filter)
    if crop is not None:
        left, top = (round((side - crop) / 2.0) for side in picture.size)
        picture = picture.crop((left, top, left + crop, top + crop))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def plain(prepared: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return prepared * std + mean


@pytest.mark.parametrize(
    ("name", "resize", "crop", "filter"),
    [
        ("mobilenet_v2", 256, 224, Image.Resampling.BILINEAR),
        ("efficientnet_b0", 256, 224, Image.Resampling.BICUBIC),
        ("efficientnet_b1", 256, 240, Image.Resampling.BICUBIC),
    ],
)
@pytest.mark.parametrize("size", [(500, 791), (853, 640), (120, 90)])  # differences to the crop of 4 k + 3 among them
def test_a_classifier_sees_what_it_was_published_with(
    name: str, resize: int, crop: int, filter: Image.Resampling, size: tuple[int, int]
) -> None:
    model = create_model(name, ["a", "b"])
    picture = image(3, *size)
    found = plain(model._centre(model.preprocess.prepare(picture)))
    wanted = as_published(Image.fromarray(picture.permute(1, 2, 0).numpy()), resize, crop, filter)
    # Pillow rounds to whole numbers after each of its two passes
    torch.testing.assert_close(found, wanted, atol=1.51 / 255, rtol=0)
    assert (found - wanted).abs().mean() < 0.4 / 255


@pytest.mark.parametrize("size", [(1000, 200), (300, 301)])
def test_a_segmenter_does_not_limit_the_longer_side(size: tuple[int, int]) -> None:
    with shapes_only():
        preprocess = create_model("lraspp_mobilenet_v3_large", ["a", "b"], image_size=52).preprocess
    assert preprocess.max_size is None
    preprocess = Preprocess(min_size=52, max_size=None, divisor=1, antialias=preprocess.antialias)
    picture = image(3, *size)
    wanted = as_published(Image.fromarray(picture.permute(1, 2, 0).numpy()), 52, None, Image.Resampling.BILINEAR)
    torch.testing.assert_close(plain(preprocess.prepare(picture)), wanted, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(49, 98), (98, 49), (257, 300), (479, 640), (3, 299)])
def test_the_shorter_side_is_exact_without_a_limit(height: int, width: int) -> None:
    found = Preprocess(min_size=256, max_size=None).resized((height, width))
    short, long = min(height, width), max(height, width)
    assert min(found) == 256
    assert max(found) == int(256 * long / short)
    assert (found[0] <= found[1]) == (height <= width)


def test_an_endless_image_stays_within_the_memory() -> None:
    assert Preprocess(min_size=256, max_size=None).resized((1, 10_000)) == (2, 25_600)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(300, 400), (30, 40)])
def test_antialiasing_knows_every_precision(dtype: torch.dtype, size: tuple[int, int]) -> None:
    for interpolation in ("bilinear", "bicubic"):
        numbers: Any = {"min_size": 73, "max_size": None, "antialias": True, "interpolation": interpolation}
        wanted = Preprocess(**numbers).prepare(image(3, *size))
        found = Preprocess(**numbers).to(dtype).prepare(image(3, *size))
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_gets_images_of_its_own(dtype: torch.dtype) -> None:
    preprocess = Preprocess(min_size=50, max_size=60)
    expected = preprocess([image(3, 30, 40)])[0].tensor
    for picture in (image(3, 30, 40), image(3, 30, 40).float() / 255):
        batch, _ = Preprocess(min_size=50, max_size=60).to(dtype)([picture])
        assert batch.tensor.dtype == dtype
        torch.testing.assert_close(batch.tensor.float(), expected, rtol=0, atol=5e-2)


def test_images_given_are_not_changed() -> None:
    for picture in (image(3, 32, 32), torch.rand(3, 32, 32), torch.rand(3, 20, 30)):
        before = picture.clone()
        batch, _ = Preprocess(min_size=32, max_size=32)([picture])
        batch.tensor.fill_(7)
        assert torch.equal(picture, before)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mean_and_deviation_of_other_channels(channels: int) -> None:
    values = for_channels((0.2, 0.4, 0.9), channels)
    assert values == ((0.2, 0.4, 0.9) if channels == 3 else pytest.approx((0.5,) * channels))
    preprocess = Preprocess(values, (0.5,) * channels, fixed_size=(8, 8), divisor=1)
    assert preprocess.channels == channels
    batch, _ = preprocess([torch.full((channels, 8, 8), 0.7)])
    torch.testing.assert_close(batch.tensor[0, :, 3, 3], (0.7 - torch.tensor(values)) / 0.5)


def test_it_adds_nothing_to_a_model_s_state() -> None:
    assert not Preprocess().state_dict()
    assert not list(Preprocess().parameters())


# The batch


def test_images_lie_at_the_top_left_and_the_rest_is_zero() -> None:
    pictures = [image(3, 32, 45), image(3, 50, 32, seed=1), image(3, 32, 32, seed=2)]
    preprocess = Preprocess(min_size=32, max_size=64, divisor=16)
    batch, _ = preprocess(pictures)
    assert batch.tensor.shape == (3, 3, 64, 48)
    assert batch.tensor.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes == [(32, 45), (50, 32), (32, 32)]
    for row, picture in zip(batch.tensor, pictures, strict=True):
        height, width = picture.shape[1:]
        assert torch.equal(row[:, :height, :width], preprocess.prepare(picture))
        rest = row.clone()
        rest[:, :height, :width] = 0
        assert not rest.any()


sizes = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(sizes, st.sampled_from([1, 16, 32]))
def test_groups_hold_images_that_are_padded_as_if_alone(shapes: list[tuple[int, int]], divisor: int) -> None:
    preprocess = Preprocess(min_size=60, max_size=100, divisor=divisor)
    pictures = [torch.zeros(3, 1, 1).expand(3, *shape) for shape in shapes]
    groups = preprocess.groups(pictures)
    assert sorted(i for group in groups for i in group) == list(range(len(shapes)))
    assert all(group == sorted(group) for group in groups)

    def padded(shape: tuple[int, int]) -> tuple[int, ...]:
        return tuple(math.ceil(side / divisor) * divisor for side in preprocess.resized(shape))

    alone = [{padded(shapes[i]) for i in group} for group in groups]
    assert all(len(found) == 1 for found in alone)
    assert len({found.pop() for found in alone}) == len(groups)


def test_a_group_s_batch_is_each_image_s_own() -> None:
    preprocess = Preprocess(min_size=60, max_size=100)
    pictures = [image(3, 60, 70), image(3, 70, 60, seed=1), image(3, 61, 75, seed=2), image(3, 60, 64, seed=3)]
    assert preprocess.groups(pictures) == [[0, 2], [1], [3]]
    together, _ = preprocess([pictures[0], pictures[2]])
    for row, picture in zip(together.tensor, (pictures[0], pictures[2]), strict=True):
        assert torch.equal(row, preprocess([picture])[0].tensor[0])
    fixed = Preprocess(fixed_size=(64, 64), divisor=1)
    assert fixed.groups(pictures) == [[0, 1, 2, 3]]


# Targets


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), st.integers(0, 1000))
def test_targets_are_scaled_as_their_image(size: tuple[int, int], seed: int) -> None:
    height, width = size
    corners = np.sort(np.random.default_rng(seed).random((5, 2, 2)), axis=1) * (width, height)
    boxes = corners.reshape(5, 4)
    target = Instances(size, boxes=torch.tensor(boxes), labels=[4, 3, 2, 1, 0], crowd=[True] + [False] * 4, source="a")
    before = target.boxes.clone()
    preprocess = Preprocess(min_size=64, max_size=100)
    batch, (moved,) = preprocess([torch.zeros(3, *size)], [target])
    new_height, new_width = batch.sizes[0]
    for got, (x1, y1, x2, y2) in zip(moved.boxes.tolist(), boxes.tolist(), strict=True):
        exact = [x1 * new_width / width, y1 * new_height / height, x2 * new_width / width, y2 * new_height / height]
        assert got == pytest.approx(exact, rel=1e-12, abs=1e-12)
    assert moved.image_size == (new_height, new_width)
    assert moved.labels.tolist() == [4, 3, 2, 1, 0]
    assert moved.crowd.tolist() == target.crowd.tolist()
    assert moved.source == "a"
    assert torch.equal(target.boxes, before)
    (sx, sy) = batch.scales[0]
    assert (sx, sy) == (new_width / width, new_height / height)


def test_an_image_without_objects() -> None:
    _, (moved,) = Preprocess(min_size=20, max_size=30)([image(3, 10, 10)], [Instances((10, 10))])
    assert len(moved) == 0
    assert moved.boxes.shape == (0, 4)
    assert moved.image_size == (20, 20)


# What is refused


def test_images_that_no_model_can_take() -> None:
    preprocess = Preprocess()

    def refused(images: list[Tensor], words: str) -> None:
        for use in (preprocess, preprocess.groups):
            with pytest.raises(InputError, match=words):
                use(images)

    good = image(3, 10, 10)
    refused([], "there are no images; give at least one")
    refused([good, image(1, 10, 10)], r"image 1 has shape \[1, 10, 10\], .* create the model with in_channels=1")
    refused([image(10, 10)], r"image 0 has shape \[10, 10\], but this model takes \[3, height, width\]")
    refused([image(1, 3, 10, 10)], r"image 0 has shape \[1, 3, 10, 10\]")
    refused([good, image(3, 0, 10)], r"image 1 has shape \[3, 0, 10\]: it has no pixels")
    for dtype in (torch.int64, torch.bool, torch.int8):
        refused([good.to(dtype)], f"image 0 is of {dtype}, but must be uint8, or floating point in")
    with pytest.raises(InputError, match="there are 1 images but 2 targets; give one target per image"):
        preprocess([good], [Instances((10, 10))] * 2)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-1, 10), (11, 10)])
def test_sizes_that_cannot_be(low: int, high: int) -> None:
    with pytest.raises(InputError, match=rf"min_size is {low} and max_size {high}, but 1 ≤ min_size ≤ max_size"):
        Preprocess(min_size=low, max_size=high)
