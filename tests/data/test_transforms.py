"""Augmentations against exact cases, pixel loops, colorsys, and masks that follow their image."""

from __future__ import annotations

import colorsys
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data import transforms
from sightline.data.transforms import (
    HSV,
    PERSON_SWAP,
    Brightness,
    ChannelNoise,
    Colour,
    Compose,
    Contrast,
    HorizontalFlip,
    Hue,
    IoUCrop,
    Kornia,
    PixelNoise,
    QuarterTurn,
    RandomCrop,
    RandomResizedCrop,
    Rescale,
    Resize,
    Rotate,
    SafeCrop,
    Saturation,
    ScaleJitter,
    Shear,
    Sometimes,
    Tone,
    Translate,
    VerticalFlip,
    Viewport,
    ZoomOut,
    recipes,
)
from sightline.data.transforms.motion import transform_boxes
from sightline.data.transforms.objects import visible_share
from sightline.data.transforms.pillow import rgb_image
from sightline.data.transforms.resample import warp_image, warp_labels
from sightline.data.transforms.tone import apply_tone, to_dtype
from sightline.errors import InputError
from sightline.structures import IGNORE, Classes, ClassMap, ClassScores, Instances

CLASSES = Classes(["one", "two"])


class Fixed(transforms.Geometric):
    """A piece with a matrix given beforehand."""

    def __init__(self, matrix, size):
        self.matrix, self.size = np.asarray(matrix, dtype=float), size

    def step(self, view, generator):
        return self.matrix, self.size


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(channels: int = 3, height: int = 40, width: int = 60, seed: int = 0, dtype=torch.uint8) -> torch.Tensor:
    values = random(seed).random((channels, height, width))
    return (
        torch.from_numpy((values * 255).astype(np.uint8))
        if dtype == torch.uint8
        else torch.from_numpy(values).to(dtype)
    )


def smooth(height: int, width: int, channels: int = 3) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [127 + 60 * torch.sin(x / (9 + c)) + 60 * torch.cos(y / (11 + c)) for c in range(channels)]
    return torch.stack(waves).round().to(torch.uint8)


def boxes_target(boxes, size=(40, 60), **fields) -> Instances:
    labels = torch.arange(len(boxes)) % 2
    return Instances(size, boxes=torch.tensor(boxes, dtype=torch.float32), labels=labels, classes=CLASSES, **fields)


def empty(size=(40, 60)) -> Instances:
    return Instances(size, classes=CLASSES)


def rectangles(boxes, size) -> torch.Tensor:
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


# --- geometry: exact cases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flips_are_exact_and_their_own_inverse(channels, dtype):
    image, target = picture(channels, dtype=dtype), boxes_target([[3, 4, 20, 30]])
    once, moved = HorizontalFlip(1)(image, target, random())
    assert torch.equal(once, image.flip(2))
    assert moved.boxes.tolist() == [[40, 4, 57, 30]]
    twice, back = HorizontalFlip(1)(once, moved, random())
    assert torch.equal(twice, image)
    assert torch.equal(back.boxes, target.boxes)
    upside, moved = VerticalFlip(1)(image, target, random())
    assert torch.equal(upside, image.flip(1))
    assert moved.boxes.tolist() == [[3, 10, 20, 36]]
    assert once.is_contiguous()
    assert once.dtype == dtype


def test_two_flips_in_one_composition_are_half_a_turn():
    image = picture()
    both, _ = Compose([HorizontalFlip(1), VerticalFlip(1)])(image, empty(), random())
    assert torch.equal(both, torch.rot90(image, 2, (1, 2)))
    nothing, target = Compose([HorizontalFlip(1), HorizontalFlip(1)])(image, empty(), random())
    assert nothing is image
    assert len(target) == 0


@pytest.mark.parametrize("shift", [(5, 0), (-7, 3), (0, -40), (59, 39), (100, 0)])
def test_whole_pixel_translation_is_exact(shift):
    image = picture()
    dx, dy = shift
    moved, _ = Compose([Fixed([[1, 0, dx], [0, 1, dy], [0, 0, 1]], (40, 60))], fill=0)(image, empty(), random())
    expected = torch.zeros_like(image)
    for y in range(40):
        for x in range(60):
            if 0 <= y - dy < 40 and 0 <= x - dx < 60:
                expected[:, y, x] = image[:, y - dy, x - dx]
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("channels", [1, 3])
def test_quarter_turns_equal_rot90(turns, channels):
    image = picture(channels)
    mask = rectangles([(5, 6, 20, 12)], (40, 60))
    target = boxes_target([[5, 6, 20, 12]], masks=mask)
    turned, moved = Rotate((90.0 * turns, 90.0 * turns), expand=True)(image, target, random())
    assert torch.equal(turned, torch.rot90(image, turns, (1, 2)))
    assert torch.equal(moved.masks, torch.rot90(mask, turns, (1, 2)))
    rows, columns = moved.masks[0].nonzero().unbind(1)
    assert moved.boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_quarter_turn_piece_gives_each_turn():
    image, seen = picture(), set()
    for seed in range(20):
        turned, _ = QuarterTurn(1)(image, empty(), random(seed))
        seen |= {k for k in (1, 2, 3) if torch.equal(turned, torch.rot90(image, k, (1, 2)))}
    assert seen == {1, 2, 3}


def test_crop_and_flip_are_slices():
    image = picture()
    crop = Fixed([[1, 0, -10], [0, 1, -5], [0, 0, 1]], (20, 30))
    out, _ = Compose([crop, HorizontalFlip(1)])(image, empty(), random())
    assert torch.equal(out, image[:, 5:25, 10:40].flip(2))


@pytest.mark.parametrize("degrees", [17.0, -60.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_turning_equals_a_loop_over_pixels(degrees, dtype):
    image = picture(2, 15, 21, dtype=dtype)
    piece = Rotate((degrees, degrees))
    matrix, size = piece.step(Viewport(np.eye(3), (15, 21), np.zeros((0, 4)), (15, 21)), random())
    out = warp_image(image, matrix, size, fill=0.0)
    inverse, expected = np.linalg.inv(matrix), np.zeros((2, 15, 21))
    source = image.double().numpy()
    for y in range(15):
        for x in range(21):
            sx, sy, _ = inverse @ [x + 0.5, y + 0.5, 1]
            sx, sy = sx - 0.5, sy - 0.5
            for yy in (math.floor(sy), math.floor(sy) + 1):
                for xx in (math.floor(sx), math.floor(sx) + 1):
                    if 0 <= yy < 15 and 0 <= xx < 21:
                        expected[:, y, x] += (1 - abs(sx - xx)) * (1 - abs(sy - yy)) * source[:, yy, xx]
    assert np.abs(out.double().numpy() - expected).max() < (0.51 if dtype == torch.uint8 else 1e-4)


def test_counter_clockwise_is_positive():
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 20, 35] = 255  # to the right of the centre
    out, _ = Compose([Rotate((45, 45))], fill=0)(image, empty((41, 41)), random())
    row, column = divmod(int(out.argmax()), 41)
    assert row < 15
    assert column > 25


def test_labels_take_the_nearest_pixel_as_a_loop_does():
    labels = torch.from_numpy(random().integers(0, 5, (13, 17)))
    matrix = np.array([[0.913, 0.411, -1.27], [-0.317, 1.337, 2.13], [0, 0, 1]])
    for m, size in ((matrix, (16, 15)), (np.diag([1.73, 0.61, 1.0]), (9, 26)), (np.diag([-1.0, 1.0, 1.0]), (13, 17))):
        inverse = np.linalg.inv(m)
        out = warp_labels(labels, m, size, -1)
        for y in range(size[0]):
            for x in range(size[1]):
                sx, sy, _ = inverse @ [x + 0.5, y + 0.5, 1]
                inside = 0 <= sx < 17 and 0 <= sy < 13
                assert out[y, x] == (labels[int(sy), int(sx)] if inside else -1)


def test_shrinking_averages_whether_straight_or_turned():
    stripes = torch.zeros(1, 128, 128, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    for angle in (0.0, 30.0):
        steps = [Rotate((angle, angle)), Resize(16)]
        out, _ = Compose(steps, fill=0.5)(stripes, empty((128, 128)), random())
        assert out.shape == (1, 16, 16)
        assert (out[:, 5:11, 5:11].float() - 127.5).abs().max() < 12  # without averaging: 0 and 255


def test_resize_keeps_shape_or_takes_a_size():
    out, target = Resize(30)(picture(), boxes_target([[10, 10, 50, 30]]), random())
    assert out.shape == (3, 20, 30)
    assert target.boxes.tolist() == [[5, 5, 25, 15]]
    assert target.image_size == (20, 30)
    out, target = Resize((80, 60))(picture(4), boxes_target([[10, 10, 50, 30]]), random())
    assert out.shape == (4, 80, 60)
    assert target.boxes.tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_composed_equals_one_after_the_other(channels):
    image = smooth(80, 120, channels)
    target = boxes_target([[40, 30, 80, 60]], (80, 120))
    pieces = [HorizontalFlip(1), Resize(180), Rotate((12, 12)), Shear((4, 4))]
    together, moved = Compose(pieces)(image, target, random())
    apart, after = image, target
    for piece in pieces:
        apart, after = piece(apart, after, random())
    assert together.shape == apart.shape
    difference = (together.float() - apart.float()).abs()[:, 30:-30, 45:-45]
    assert difference.mean() < 1.5
    assert difference.max() < 12
    assert (moved.boxes >= after.boxes.clamp(max=0) - 20).all()
    assert moved.boxes[0, 2] - moved.boxes[0, 0] <= after.boxes[0, 2] - after.boxes[0, 0] + 1e-3  # boxes of boxes grow


def test_a_crop_is_a_window_and_a_later_piece_may_show_more():
    image = picture()
    crop = Fixed([[1, 0, -10], [0, 1, -10], [0, 0, 1]], (20, 20))
    back = Fixed([[1, 0, 5], [0, 1, 0], [0, 0, 1]], (20, 20))
    out, _ = Compose([crop, back])(image, empty(), random())
    assert torch.equal(out, image[:, 10:30, 5:25])


# --- geometry: targets ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["rotate", "shear", "jitter", "crop", "iou", "all"]),
)
def test_boxes_masks_and_image_stay_together(seed, kind):
    """Three drawn rectangles: the image, the masks and the boxes must show the same thing afterwards."""
    generator = random(seed)
    size = (70, 90)
    low = generator.integers(5, 30, (3, 2))
    corners = np.concatenate([low, low + generator.integers(10, 35, (3, 2))], axis=1)
    masks = rectangles(corners.tolist(), size)
    pieces = {
        "rotate": [Rotate(40.0)],
        "shear": [Shear(20.0), Translate(0.1)],
        "jitter": [ScaleJitter((0.4, 2.5), (0.7, 1.4))],
        "crop": [SafeCrop(p=1), HorizontalFlip()],
        "iou": [IoUCrop(), VerticalFlip()],
        "all": [ScaleJitter((0.6, 1.6)), Rotate(30.0), Shear(10.0), HorizontalFlip(), SafeCrop()],
    }[kind]
    image = masks.to(torch.uint8) * 255  # one object a channel
    boxes = torch.from_numpy(corners).float()
    keys = torch.arange(3)
    target = Instances(size, boxes=boxes, labels=torch.zeros(3, dtype=torch.int64), masks=masks, key=keys)
    transform = Compose(pieces, min_visible=0.3, fill=0.0)
    out, moved = transform(image, target, random(seed))
    without = Instances(size, boxes=boxes, labels=torch.zeros(3, dtype=torch.int64), key=keys)
    _, loose = transform(image, without, random(seed))
    assert moved.image_size == tuple(out.shape[1:])
    moved._check()
    for at, key in enumerate(moved.key.tolist()):
        assert ((out[key] > 127) != moved.masks[at]).sum() <= 2 * sum(out.shape[1:]) * 0.3  # only along the edges
        rows, columns = moved.masks[at].nonzero().unbind(1)
        tight = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (moved.boxes[at] - tight).abs().max() <= 1.0
        match = (loose.key == key).nonzero()
        if len(match):
            box = loose.boxes[int(match)]
            assert (box[:2] <= tight[:2] + 1).all()
            assert (box[2:] >= tight[2:] - 1).all()
    for key in set(range(3)) - set(moved.key.tolist()):  # what was dropped is hardly seen
        visible = (out[key] > 127).sum() / (masks[key].sum() + 1e-9)
        assert visible < 0.3 * 2.6**2 + 0.05


def test_boxes_through_a_matrix_equal_their_corners():
    generator = random()
    boxes = np.sort(generator.uniform(0, 100, (20, 2, 2)), axis=1).reshape(20, 4)
    matrix = np.vstack([generator.normal(size=(2, 3)), [0, 0, 1]])
    got = transform_boxes(boxes, matrix)
    for box, expected in zip(boxes, got, strict=True):
        x1, y1, x2, y2 = box
        corners = np.array([matrix[:2] @ [x, y, 1] for x in (x1, x2) for y in (y1, y2)])
        assert np.allclose(expected, [*corners.min(0), *corners.max(0)])


def test_what_is_cut_is_clipped_or_dropped():
    boxes = [[0, 0, 20, 10], [12, 0, 22, 10], [18, 0, 28, 10], [30, 0, 40, 10], [19.5, 2, 21, 4], [2, 2, 2.5, 9]]
    window = Fixed([[1, 0, 0], [0, 1, 0], [0, 0, 1]], (40, 20))  # keep x < 20
    target = boxes_target(boxes, areas=torch.tensor([200.0, 100, 100, 100, 3, 3.5]))
    _, kept = Compose([window], min_visible=0.3)(picture(), target, random())
    assert kept.boxes.tolist() == [[0, 0, 20, 10], [12, 0, 20, 10]]  # 20 % seen, unseen, below a pixel twice: dropped
    assert kept.areas.tolist() == pytest.approx([200, 80])
    _, more = Compose([window], min_visible=0.1)(picture(), target, random())
    assert more.boxes.tolist() == [[0, 0, 20, 10], [12, 0, 20, 10], [18, 0, 20, 10]]


def test_a_crowd_region_stays_while_any_of_it_is_seen():
    target = boxes_target([[18, 0, 58, 30], [18, 0, 58, 30]], crowd=torch.tensor([True, False]))
    window = Fixed(np.eye(3), (40, 20))
    _, kept = Compose([window])(picture(), target, random())
    assert kept.crowd.tolist() == [True]
    assert kept.boxes.tolist() == [[18, 0, 20, 30]]


def test_other_fields_follow_their_objects():
    target = boxes_target(
        [[40, 0, 60, 20], [0, 0, 10, 10]], captions=["right", "left"], scores=torch.tensor([0.2, 0.9])
    )
    _, kept = Compose([Fixed(np.eye(3), (40, 20))])(picture(), target, random())
    assert kept.captions == ["left"]
    assert kept.scores.tolist() == pytest.approx([0.9])
    assert kept.labels.tolist() == [1]
    assert kept.classes == CLASSES


@pytest.mark.parametrize("seed", range(12))
def test_a_keypoint_on_a_dot_follows_the_dot(seed):
    image = torch.zeros(1, 81, 101, dtype=torch.uint8)
    image[0, 38:43, 54:59] = 255
    points = torch.tensor([[[56.5, 40.5, 2.0], [0, 0, 0]]])
    target = boxes_target([[20, 20, 80, 60]], (81, 101), keypoints=points)
    pieces = [HorizontalFlip(), ScaleJitter((0.7, 1.4)), Rotate(25.0), Shear(8.0)]
    out, moved = Compose(pieces, fill=0)(image, target, random(seed))
    weight = out[0].float()
    if not len(moved) or moved.keypoints[0, 0, 2] == 0 or weight.sum() < 2000:
        pytest.skip("the dot left the picture")
    y, x = torch.meshgrid(torch.arange(out.shape[1]) + 0.5, torch.arange(out.shape[2]) + 0.5, indexing="ij")
    centre = torch.stack([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert (moved.keypoints[0, 0, :2] - centre).abs().max() < 0.5
    assert moved.keypoints[0, 1].tolist() == [0, 0, 0]


def test_a_mirror_exchanges_left_and_right_keypoints_and_two_mirrors_do_not():
    points = torch.stack([torch.arange(17.0), torch.arange(17.0) + 1, torch.full((17,), 2.0)], dim=1)[None] + 5
    target = boxes_target([[0, 0, 50, 39]], keypoints=points)
    _, once = Compose([HorizontalFlip(1)], keypoint_swap=PERSON_SWAP)(picture(), target, random())
    assert once.keypoints[0, 1, 0] == 60 - points[0, 2, 0]  # the new left eye is where the right one was mirrored to
    assert once.keypoints[0, 0, 0] == 60 - points[0, 0, 0]
    _, twice = Compose([HorizontalFlip(1), VerticalFlip(1)], keypoint_swap=PERSON_SWAP)(picture(), target, random())
    assert torch.equal(twice.keypoints[0, :, 0], 60 - points[0, :, 0])
    with pytest.raises(InputError, match="keypoint_swap has 3 entries, but the objects have 17"):
        Compose([HorizontalFlip(1)], keypoint_swap=(0, 2, 1))(picture(), target, random())
    with pytest.raises(InputError, match="exactly once"):
        Compose([], keypoint_swap=(0, 0))


def test_a_keypoint_beyond_the_border_is_absent():
    target = boxes_target([[0, 0, 40, 20]], keypoints=torch.tensor([[[5.0, 5, 2], [35, 5, 2], [8, 9, 1]]]))
    _, kept = Compose([Fixed(np.eye(3), (40, 20))])(picture(), target, random())
    assert kept.keypoints[0].tolist() == [[5, 5, 2], [0, 0, 0], [8, 9, 1]]


def test_class_maps_move_and_what_comes_in_does_not_count():
    labels = torch.from_numpy(random().integers(-1, 2, (40, 60)))
    _, moved = Compose([HorizontalFlip(1), Fixed([[1, 0, 7], [0, 1, 0], [0, 0, 1]], (40, 60))])(
        picture(), ClassMap(labels, CLASSES, source="a.png"), random()
    )
    assert isinstance(moved, ClassMap)
    assert torch.equal(moved.labels[:, 7:], labels.flip(1)[:, :-7])
    assert (moved.labels[:, :7] == IGNORE).all()
    assert (moved.classes, moved.source) == (CLASSES, "a.png")
    _, turned = Rotate((30, 30))(picture(), ClassMap(labels), random())
    assert set(turned.labels.unique().tolist()) == {-1, 0, 1}


def test_class_scores_only_learn_the_new_size():
    _, moved = Resize(30)(picture(), ClassScores((40, 60), 1, classes=CLASSES), random())
    assert (moved.image_size, moved.label) == ((20, 30), 1)


def test_what_cannot_move_is_refused_in_a_sentence():
    cuboids = boxes_target([[0, 0, 10, 10]], cuboids=torch.tensor([[0.0, 0, 5, 1, 1, 1, 0, 0, 0]]))
    with pytest.raises(InputError, match="cuboids, which are in metres"):
        HorizontalFlip(1)(picture(), cuboids, random())
    Colour(p=1)(picture(), cuboids, random())
    with pytest.raises(InputError, match=r"has shape \[3, 40, 60\], but its target is for .* \[40, 61\]"):
        recipes.none()(picture(), empty((40, 61)), random())


# --- crops keep objects -----------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 100_000), piece=st.sampled_from(["safe", "iou", "jitter", "zoom"]))
def test_crops_keep_at_least_one_object(seed, piece):
    generator = random(seed)
    low = generator.uniform(0, 45, (generator.integers(1, 5), 2))
    boxes = np.concatenate([low, low + generator.uniform(2, 15, low.shape)], axis=1)
    boxes[:, 3] = boxes[:, 3].clip(max=40)
    boxes[:, 1] = np.minimum(boxes[:, 1], boxes[:, 3] - 2)
    crop = {
        "safe": SafeCrop((0.05, 0.5), p=1),
        "iou": IoUCrop(),
        "jitter": ScaleJitter((0.8, 4.0)),
        "zoom": ZoomOut((1.0, 1.8), p=1),
    }[piece]
    out, kept = crop(picture(), boxes_target(boxes.tolist()), generator)
    assert len(kept) >= 1
    assert kept.image_size == tuple(out.shape[1:])
    assert (kept.boxes >= 0).all()
    assert (kept.boxes[:, 2] <= out.shape[2]).all()
    assert (kept.boxes[:, 3] <= out.shape[1]).all()


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.7])
def test_iou_crop_reaches_its_threshold(threshold):
    box = [5.0, 5, 45, 35]
    cropped = 0
    for seed in range(30):
        view = Viewport(np.eye(3), (40, 60), np.array([box]), (40, 60))
        matrix, (height, width) = IoUCrop((threshold,)).step(view, random(seed))
        if (height, width) == (40, 60):
            continue
        cropped += 1
        x1, y1 = -matrix[0, 2], -matrix[1, 2]
        x2, y2 = x1 + width, y1 + height
        common = max(0, min(45, x2) - max(5, x1)) * max(0, min(35, y2) - max(5, y1))
        assert common / (width * height + 1200 - common) >= threshold
        assert x1 < 25 < x2
        assert y1 < 20 < y2
        assert 0.49 <= (width / 60) / (height / 40) <= 2.1
    assert cropped >= (1 if threshold == 0.7 else 10)


def test_safe_crop_holds_one_object_whole():
    boxes = [[2.5, 3, 20, 12], [30, 20, 55, 38]]
    for seed in range(40):
        _, kept = SafeCrop((0.01, 0.3), p=1)(picture(), boxes_target(boxes), random(seed))
        extents = {tuple((box[2:] - box[:2]).tolist()) for box in kept.boxes}
        assert extents & {(17.5, 9.0), (25.0, 18.0)}


def test_an_object_stays_while_a_pixel_of_it_and_its_share_are_seen():
    """Half of a box of 10 × 2 pixels is 1 pixel high, and half of one of 2 × 10 is 1 wide; less is out of sight."""
    boxes = np.array([[0.0, 0, 10, 2], [0, 0, 2, 10]])
    view = Viewport(np.eye(3), (20, 20), boxes, (20, 20), 0.3)
    windows = np.array([[0.0, 0, 20, 1], [0, 0, 1, 20], [0, 0, 20, 0.9], [0, 0, 0.9, 20]])
    assert view.kept(windows).tolist() == [[True, False], [False, True], [False, False], [False, False]]


def test_a_mask_says_how_much_of_its_object_is_seen():
    """The box stays for the most part, but 4 of the mask's 40 pixels do: the object goes; with 20 of 40 it stays."""
    for column, kept in ((19, 0), (15, 1)):
        mask = torch.zeros(1, 40, 60, dtype=torch.bool)
        mask[0, 10:14, 10:20] = True
        target = boxes_target([[10, 10, 50, 14]], masks=mask)
        crop = Compose([Fixed([[1, 0, -column], [0, 1, 0], [0, 0, 1]], (40, 60 - column))], min_visible=0.3)
        assert len(crop(picture(), target, random())[1]) == kept


def test_an_object_without_a_mask_goes_by_its_box_when_the_picture_turns():
    """Turned by 30°, a box is that around its corners; a mask would make it tighter, and an empty one says nothing."""
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn = Compose([Fixed([[c, -s, 10], [s, c, -5], [0, 0, 1]], (60, 60))])
    plain = boxes_target([[15, 10, 35, 20], [20, 12, 30, 22]])
    masks = rectangles([[15, 10, 35, 20], [0, 0, 0, 0]], (40, 60))
    loose, found = (turn(picture(), t, random())[1] for t in (plain, plain.replace(masks=masks)))
    torch.testing.assert_close(found.boxes[1], loose.boxes[1])
    assert (loose.boxes[1, 2:] - loose.boxes[1, :2]).tolist() == pytest.approx([10 * (c + s)] * 2, rel=1e-5)


def test_scale_jitter_keeps_an_object_though_another_is_out_of_sight():
    boxes, canvas = np.array([[2.0, 3, 12, 12], [90, 90, 99, 99]]), np.array([[0.0, 0, 60, 40]])
    for seed in range(20):
        view = Viewport(np.eye(3), (40, 60), boxes, (40, 60), 0.3)
        matrix, size = ScaleJitter((3.0, 4.0)).step(view, random(seed))
        assert size == (40, 60)
        assert visible_share(transform_boxes(boxes, matrix), canvas)[0][0, 0] >= 0.3


def test_crops_care_for_objects_not_for_crowds():
    """The object lies at the upper left, the crowd at the lower right: where a crop must hold one, it is the object."""
    boxes, crowd = [[2, 3, 12, 12], [35, 20, 58, 38]], torch.tensor([False, True])
    for seed in range(20):
        _, kept = SafeCrop((0.05, 0.2), p=1)(picture(), boxes_target(boxes, crowd=crowd), random(seed))
        whole = kept.boxes[~kept.crowd]
        assert (whole[:, 2:] - whole[:, :2]).tolist() == [[10, 9]]
        _, kept = ScaleJitter((3.0, 4.0))(picture(), boxes_target(boxes, crowd=crowd), random(seed))
        assert not kept.crowd.all()
        only = boxes_target(boxes[1:], crowd=crowd[1:])
        assert torch.equal(IoUCrop()(picture(), only, random(seed))[0], picture())  # no object: not cropped


def test_zooming_out_draws_the_canvas_evenly():
    """SSD's canvas is 1 to 4 times as large, each ratio as likely as any other, in half of the images."""
    view, generator = Viewport(np.eye(3), (400, 400), np.zeros((0, 4)), (400, 400)), random(0)
    steps = [ZoomOut().step(view, generator) for _ in range(2000)]
    ratios = np.array([1 / matrix[0, 0] for matrix, _ in steps])
    assert all(size == (400, 400) for _, size in steps)
    moved = ratios[ratios != 1]
    assert len(moved) == pytest.approx(1000, abs=80)
    for ratio in (1.5, 2.0, 2.5, 3.0, 3.5):
        assert (moved <= ratio).mean() == pytest.approx((ratio - 1) / 3, abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_a_random_crop_is_a_slice_of_at_most_its_size(seed):
    image, labels = picture(height=40, width=60), torch.arange(2400).view(40, 60) % 251
    cut, target = RandomCrop(24)(image, ClassMap(labels), random(seed))
    corner = (cut[0, 0, 0] == image[0, :17, :37]).nonzero().tolist()
    assert any(
        torch.equal(cut, image[:, y : y + 24, x : x + 24])
        and torch.equal(target.labels, labels[y : y + 24, x : x + 24])
        for y, x in corner
    )
    low, _ = RandomCrop(50)(image, ClassMap(labels), random(seed))
    assert low.shape == (3, 40, 50)
    whole, same = RandomCrop(60)(image, ClassMap(labels), random(seed))
    assert torch.equal(whole, image)
    assert torch.equal(same.labels, labels)


def test_random_crops_reach_every_place():
    image = torch.arange(9, dtype=torch.uint8).view(1, 3, 3)
    seen = {int(RandomCrop(1)(image, empty((3, 3)), random(seed))[0]) for seed in range(100)}
    assert seen == set(range(9))


def test_a_crop_within_its_source_is_not_larger_than_it():
    image, labels = picture(height=40, width=60), torch.zeros(40, 60, dtype=torch.long)
    for scale, bounded, free in ((2.0, (40, 50), (50, 50)), (0.5, (20, 30), (20, 30))):
        for within, expected in ((True, bounded), (False, free)):
            pieces = Compose([Rescale((scale, scale)), RandomCrop(50, within_source=within)])
            assert tuple(pieces(image, ClassMap(labels), random())[0].shape[1:]) == expected


def test_rescaling_takes_the_canvas_along():
    whole = Viewport(np.eye(3), (100, 200), np.zeros((0, 4)), (100, 200))
    sizes = [tuple(Rescale((0.5, 2.0), (0.8, 1.25)).step(whole, random(seed))[1]) for seed in range(200)]
    areas = [math.sqrt(h * w / 20000) for h, w in sizes]
    shapes = [w / h / 2 for h, w in sizes]
    assert 0.49 < min(areas) < 0.6  # sides are whole pixels
    assert 1.7 < max(areas) <= 2.01
    assert 0.78 < min(shapes) < 0.85
    assert 1.17 < max(shapes) < 1.28
    assert abs(sum(math.log(a) for a in areas)) / 200 < 0.08  # halving is as likely as doubling
    assert Rescale(p=0.0).step(whole, random())[1] == (100, 200)


def test_resized_crops_have_their_areas_and_shapes():
    whole = Viewport(np.eye(3), (100, 200), np.zeros((0, 4)), (100, 200))
    piece = RandomResizedCrop((64, 64), scale=(0.05, 0.2), aspect=(0.5, 2.0))
    steps = [piece.step(whole, random(seed)) for seed in range(400)]
    assert all(size == (64, 64) for _, size in steps)
    windows = np.array([transform_boxes(np.array([[0, 0, 64, 64.0]]), np.linalg.inv(m))[0] for m, _ in steps])
    widths, heights = (windows[:, 2:] - windows[:, :2]).T
    shares, shapes = widths * heights / 20000, widths / heights
    assert (windows[:, :2] >= -1e-9).all()
    assert (windows[:, 2] <= 200 + 1e-9).all()
    assert (windows[:, 3] <= 100 + 1e-9).all()
    assert np.quantile(shares, [0, 0.5, 1]) == pytest.approx([0.05, 0.125, 0.2], abs=0.015)
    assert np.quantile(shapes, [0, 0.5, 1]) == pytest.approx([0.5, 1.0, 2.0], rel=0.1)
    places = windows[:, 0] / (200 - widths)
    assert np.quantile(places, [0, 0.5, 1]) == pytest.approx([0, 0.5, 1], abs=0.06)


def test_a_resized_crop_that_fits_nowhere_is_the_middle():
    image = picture(height=10, width=60)
    cut, target = RandomResizedCrop(scale=(1.0, 1.0), aspect=(0.5, 2.0))(image, ClassScores((10, 60), 1), random())
    assert torch.equal(cut, image[:, :, 20:40])
    assert (target.image_size, target.label) == ((10, 20), 1)


def test_a_resized_crop_takes_the_size_the_model_sees():
    image, target = smooth(80, 120), ClassScores((80, 120), 0)
    piece = RandomResizedCrop(scale=(0.3, 0.3), aspect=(1.0, 1.0))
    bound = Compose([HorizontalFlip(1), piece]).bind(None, (32, 48))
    seen, moved = bound(image, target, random(3))
    assert tuple(seen.shape[1:]) == moved.image_size == (32, 48)
    # one resampling: the window of the mirrored picture, resized once
    matrix, size = piece.step(Viewport(np.eye(3), (80, 120), np.zeros((0, 4)), (80, 120)), _after_a_flip(3))
    left, top = (-matrix[:2, 2]).round().astype(int)
    window = rgb_image(image.flip(2)[:, top : top + size[0], left : left + size[1]])
    expected = np.asarray(window.resize((48, 32), Image.Resampling.BILINEAR)).astype(int)
    assert abs(seen.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 3  # its edges see their neighbours
    assert piece.bind(None, None)(image, target, random())[0].shape == (3, 54, 54)  # of 53.7 pixels
    assert RandomResizedCrop((9, 9)).sized((32, 48)).size == (9, 9)
    with pytest.raises(InputError, match="at most the image"):
        RandomResizedCrop(scale=(0.5, 1.5))


def _after_a_flip(seed: int) -> np.random.Generator:
    generator = random(seed)
    generator.random()
    return generator


def test_the_recipe_of_crops():
    labels = torch.ones(500, 700, dtype=torch.int64)
    for seed in range(4):
        cut, target = recipes.named("crops")(picture(height=500, width=700), ClassMap(labels), random(seed))
        assert cut.shape == (3, 320, 320)
        assert (target.labels == 1).all()  # nothing beyond the picture is seen
    with pytest.raises(InputError, match="size is 0"):
        recipes.crops(0)


@pytest.mark.parametrize("size", [(150, 210), (40, 90)])
def test_crops_for_a_model_that_resizes_images_are_what_it_sees(size: tuple[int, int]):
    """The model's preprocessing does not change a crop; without random scales it is a window of the resized image."""
    image, labels = smooth(*size), torch.ones(size, dtype=torch.int64)
    for seed in range(4):
        cut, target = recipes.crops(60).bind(None, (64, 64))(image, ClassMap(labels), random(seed))
        assert cut.shape == (3, 64, 64)
        assert set(target.labels.unique().tolist()) <= {1, IGNORE}  # a smaller image is surrounded by pixels to ignore
    still = recipes.crops(60, flip=0, scale=(1, 1), colour=False).bind(None, (64, 64))
    cut, target = still(image, ClassMap(labels), random())
    assert (target.labels == 1).all()
    width = round(size[1] * 64 / size[0])
    whole = np.asarray(rgb_image(image).resize((width, 64), Image.Resampling.BILINEAR)).astype(int)
    windows = (whole[:, left : left + 64] for left in range(width - 63))
    assert min(abs(cut.permute(1, 2, 0).numpy().astype(int) - window).max() for window in windows) <= 3
    kept = recipes.crops(60).bind(None, None)(image, ClassMap(labels), random())[0]  # a model that keeps the size
    assert max(kept.shape[1:]) <= 60


@pytest.mark.parametrize("piece", [SafeCrop(p=1), IoUCrop(), ScaleJitter(), ZoomOut(p=1), Rotate(20)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_without_objects_are_normal(piece, channels):
    for seed in range(5):
        out, target = piece(picture(channels), empty(), random(seed))
        assert out.shape[0] == channels
        assert len(target) == 0
        assert target.boxes.shape == (0, 4)
        assert target.image_size == tuple(out.shape[1:])


def test_scale_jitter_keeps_or_sets_the_canvas():
    sizes = {tuple(ScaleJitter((0.3, 3.0))(picture(), empty(), random(s))[0].shape) for s in range(8)}
    assert sizes == {(3, 40, 60)}
    out, target = ScaleJitter((0.3, 3.0), size=(64, 64))(picture(), boxes_target([[5, 5, 50, 35]]), random(1))
    assert out.shape == (3, 64, 64)
    assert len(target) == 1


# --- colour -----------------------------------------------------------------------------------------------------------


def colours(count: int = 64) -> torch.Tensor:
    return torch.from_numpy(random(3).random((3, 8, count // 8)))


def by_pixel(image: torch.Tensor, change) -> torch.Tensor:
    out = image.clone()
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            out[:, y, x] = torch.tensor(change(*image[:, y, x].tolist()), dtype=image.dtype)
    return out.clamp(0, 1)


class Factor:
    """A generator whose draws are known: chance always, and the given strength."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return 0.0

    def uniform(self, low, high, size=None):
        return self.value if size is None else np.full(size, self.value)


def test_hue_turns_the_colour_plane_of_colorsys_yiq():
    image = colours()
    turn = 0.07

    def change(r, g, b):
        y, i, q = colorsys.rgb_to_yiq(r, g, b)
        c, s = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
        i, q = c * i - s * q, s * i + c * q
        # colorsys clips inside; so here the inverse of its forward formulas.
        forward = np.array([[0.30, 0.59, 0.11], [0.599, -0.2773, -0.3217], [0.213, -0.5251, 0.3121]])
        return np.linalg.solve(forward, [y, i, q]).tolist()

    out, _ = Hue(0.1)(image, empty((8, 8)), Factor(1 + turn))
    assert torch.allclose(out, by_pixel(image, change), atol=1e-5)


@pytest.mark.parametrize(("hue", "saturation", "value"), [(0.1, 1, 1), (-0.3, 1.4, 1), (0, 0.3, 1.3), (0.02, 1.2, 0.7)])
def test_hsv_equals_colorsys(hue, saturation, value):
    image = torch.cat([colours(), torch.tensor([0.0, 0.5, 1.0]).repeat(3, 8, 1).double()], dim=2)  # and greys

    def change(r, g, b):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        return colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), min(1, v * value))

    from sightline.data.transforms.colour import shift_hsv

    expected = by_pixel(image, change)
    assert torch.allclose(shift_hsv(image, hue, saturation, value), expected, atol=1e-5)
    rounded = (image * 255).round().to(torch.uint8)
    expected = by_pixel(rounded.double() / 255, change) * 255
    assert (shift_hsv(rounded, hue, saturation, value).double() - expected).abs().max() <= 0.51


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_brightness_contrast_saturation_by_formula(dtype):
    image = picture(3, 32, 32, dtype=dtype)
    scale = 255 if dtype == torch.uint8 else 1
    values = image.double() / scale
    luma = (values * torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]).sum(0)
    mean = luma[::4, ::4].mean()
    cases = {
        Brightness(0.5): values * 1.3,
        Contrast(0.5): mean + 1.3 * (values - mean),
        Saturation(0.5): luma + 1.3 * (values - luma),
    }
    for piece, expected in cases.items():
        out, _ = piece(image, empty((32, 32)), Factor(1.3))
        assert out.dtype == dtype
        assert (out.double() / scale - expected.clamp(0, 1)).abs().max() <= (0.51 / 255 if scale == 255 else 1e-5)


def test_colours_compose_into_one_pass():
    image = colours(64).float() * 0.4 + 0.3  # so that nothing is clipped on the way
    pieces = [Brightness(), Contrast(), Saturation(), Hue(), ChannelNoise()]
    together, _ = Compose(pieces)(image, empty((8, 8)), random(5))
    generator, apart = random(5), image
    for piece in pieces:
        apart, _ = piece(apart, empty((8, 8)), generator)
    assert torch.allclose(together, apart, atol=1e-5)
    tone = Tone(np.eye(3), np.zeros(3), np.array([0.2, 0.4, 0.6]))
    for piece in pieces:
        tone = piece.tone(tone, random(1))
    assert np.allclose(tone.mean, tone.gain @ [0.2, 0.4, 0.6] + tone.offset)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_without_rgb_skip_what_needs_it(channels, dtype):
    image = picture(channels, dtype=dtype)
    for piece in (Saturation(0.9), Hue(0.4)):
        assert torch.equal(piece(image, empty(), random())[0], image)
    assert torch.equal(HSV(0.3, 0.9, 0.9)(image, empty(), random())[0], image)
    scale = 255 if dtype == torch.uint8 else 1
    out, _ = Brightness(0.5)(image, empty(), Factor(0.6))
    assert (out.double() - image.double() * 0.6).abs().max() <= (0.51 if scale == 255 else 1e-6)
    out, _ = Contrast(0.5)(image, empty(), Factor(0.6))
    mean = image[:, ::4, ::4].double().mean((1, 2), keepdim=True)
    assert (out.double() - (mean + 0.6 * (image.double() - mean))).abs().max() <= (0.51 if scale == 255 else 1e-5)


def test_colour_leaves_the_target_and_the_input_alone():
    image, target = picture(), boxes_target([[0, 0, 5, 5]])
    before = image.clone()
    for piece in (Colour(p=1), PixelNoise(p=1), HSV(), ChannelNoise()):
        out, same = piece(image, target, random(4))
        assert same is target
        assert torch.equal(image, before)
        assert not torch.equal(out, image)
    noisy, _ = PixelNoise(0.1, p=1)(torch.full((3, 64, 64), 0.5), empty((64, 64)), Factor2())
    assert 0.04 < noisy.std() < 0.06


class Factor2(Factor):
    def __init__(self):
        super().__init__(0.05)

    def integers(self, *_):
        return 7


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(recipes.NAMES))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_recipes_are_reproducible_picklable_and_repeatable_from_their_text(name, channels):
    recipe = recipes.named(name)
    image = picture(channels, 50, 70)
    target = boxes_target([[5, 5, 40, 45], [30, 10, 60, 30]], (50, 70), keypoints=torch.rand(2, 4, 3) * 20)
    copies = [recipe, pickle.loads(pickle.dumps(recipe)), eval(repr(recipe), vars(transforms))]
    for seed in range(4):
        results = [copy(image, target, random(seed)) for copy in copies]
        for out, moved in results[1:]:
            assert torch.equal(out, results[0][0])
            assert torch.equal(moved.boxes, results[0][1].boxes)
            assert torch.equal(moved.keypoints, results[0][1].keypoints)
        out, moved = results[0]
        assert out.dtype == torch.uint8
        assert out.is_contiguous()
        moved._check()
        recipe(image, empty((50, 70)), random(seed))
    if name not in ("none", "light"):
        assert len({recipe(image, target, random(seed))[0].numpy().tobytes() for seed in range(6)}) > 3


def test_recipes_take_wishes():
    assert "VerticalFlip(p=0.5)" in repr(recipes.detection(vertical_flip=0.5))
    assert "HorizontalFlip" not in repr(recipes.detection(flip=0))
    assert "Colour" not in repr(recipes.detection("strong", colour=False))
    assert recipes.detection(keypoint_swap=PERSON_SWAP).keypoint_swap == PERSON_SWAP
    assert recipes.detection(extra=[PixelNoise()]).transforms[-1] == PixelNoise()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: recipes.detection("wild"),
            "unknown augmentation strength 'wild'; choose one of light",
        ),
        (lambda: recipes.named("wild"), "unknown augmentation recipe 'wild'; choose one of none, light"),
        (lambda: Compose([], min_visible=3), "min_visible is 3, but must be a fraction"),
        (lambda: Compose(["flip"]), "must be callable"),
        (lambda: ScaleJitter((2.0, 1.0)), "scale is .* low ≤ high"),
        (lambda: ZoomOut((0.5, 2.0)), "zooming out needs ratios of at least 1"),
        (lambda: Brightness(-1)(picture(), empty(), random()), "must not be negative"),
    ],
)
def test_mistakes_are_one_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_sometimes_is_a_chance():
    image = picture()
    piece = Sometimes(HorizontalFlip(1), 0.25)
    flipped = sum(not torch.equal(piece(image, empty(), random(seed))[0], image) for seed in range(200))
    assert 30 < flipped < 70


# --- kornia -----------------------------------------------------------------------------------------------------------


def test_kornia_moves_everything_as_our_own_flip_does():
    augmentation = pytest.importorskip("kornia.augmentation")
    masks = rectangles([(5, 6, 20, 12), (30, 20, 50, 39)], (40, 60))
    target = boxes_target(
        [[5, 6, 20, 12], [30, 20, 50, 39]], masks=masks, keypoints=torch.tensor([[[8.0, 9, 2]], [[0, 0, 0]]])
    )
    piece = Kornia(augmentation.RandomHorizontalFlip(p=1.0))
    out, moved = piece(picture(), target, random())
    expected, ours = HorizontalFlip(1)(picture(), target, random())
    assert torch.equal(out, expected)
    assert torch.allclose(moved.boxes, ours.boxes, atol=1e-3)
    assert torch.equal(moved.masks, ours.masks)
    assert torch.allclose(moved.keypoints, ours.keypoints, atol=1e-3)
    labels = torch.from_numpy(random().integers(-1, 2, (40, 60)))
    _, flipped = piece(picture(), ClassMap(labels), random())
    assert torch.equal(flipped.labels, labels.flip(1))
    _, none = piece(picture(), empty(), random())
    assert len(none) == 0


def test_kornia_is_seeded_by_the_generator_and_leaves_torch_alone():
    augmentation = pytest.importorskip("kornia.augmentation")
    piece = Kornia(augmentation.RandomPerspective(0.4, p=1.0))
    masks = rectangles([(10, 10, 40, 30)], (40, 60))
    target = boxes_target([[10, 10, 40, 30]], masks=masks, areas=torch.tensor([600.0]))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, moved = piece(picture(), target, random(1))
    assert torch.equal(before, torch.random.get_rng_state())
    again, same = pickle.loads(pickle.dumps(piece))(picture(), target, random(1))
    assert torch.equal(first, again)
    assert torch.equal(moved.boxes, same.boxes)
    assert not torch.equal(first, piece(picture(), target, random(2))[0])
    rows, columns = moved.masks[0].nonzero().unbind(1)
    tight = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    assert (moved.boxes[0] - tight).abs().max() <= 1.5
    assert float(moved.areas[0]) == pytest.approx(float(moved.masks.sum()), rel=0.1)


def test_kornia_says_what_it_cannot_do():
    augmentation = pytest.importorskip("kornia.augmentation")
    with pytest.raises(InputError, match="ColorJiggle of kornia cannot be applied"):
        Kornia(augmentation.ColorJiggle(0.1, 0.1, 0.1, 0.1, p=1.0))(picture(4), empty(), random())


def test_values_are_rounded_and_clipped_to_the_range_of_their_type() -> None:
    """0 to 255 for bytes, half to even; 0 to 1 for floats."""
    found = to_dtype(torch.tensor([-3.0, 0.5, 1.5, 12.4, 254.6, 300.0]), torch.uint8)
    assert found.dtype == torch.uint8
    assert found.tolist() == [0, 0, 2, 12, 255, 255]
    found = to_dtype(torch.tensor([-0.25, 0.5, 1.25]), torch.float64)
    assert found.dtype == torch.float64
    assert found.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("shrink", [(3.3, 1.2), (1.2, 3.3), (2.0, 2.0), (0.7, 2.6), (1.99, 1.0)])
def test_a_slope_stays_a_slope_however_it_is_shrunk_and_turned(shrink: tuple[float, float]) -> None:
    """Averages of blocks and bilinear sampling both keep a linear image: every output pixel by the inverse matrix."""
    height, width, size = 120, 160, (30, 40)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = (0.2 + 0.002 * x + 0.003 * y).float()[None]
    angle = math.radians(20)
    turned = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    inverse = np.array([[1, 0, 80], [0, 1, 60], [0, 0, 1]]) @ turned @ np.diag([*shrink, 1.0])
    inverse = inverse @ np.array([[1, 0, -20], [0, 1, -15], [0, 0, 1]])  # the middle stays the middle
    found = warp_image(image, np.linalg.inv(inverse), size, 0.0)[0]
    inside = 0
    for row in range(size[0]):
        for column in range(size[1]):
            u, v, _ = inverse @ (column + 0.5, row + 0.5, 1)
            if 6 < u < width - 6 and 6 < v < height - 6:
                inside += 1
                assert float(found[row, column]) == pytest.approx(0.2 + 0.002 * u + 0.003 * v, abs=1e-4)
    assert inside > 400


def test_translation_reaches_both_ends() -> None:
    """A tenth of 20 × 30 pixels: from −2 to 2 rows and −3 to 3 columns, each of them."""
    view = Viewport(np.eye(3), (20, 30), np.zeros((0, 4)), (20, 30), 0.3)
    generator = np.random.default_rng(0)
    steps = [Translate(0.1).step(view, generator)[0] for _ in range(200)]
    assert {step[0, 2] for step in steps} == {-3, -2, -1, 0, 1, 2, 3}
    assert {step[1, 2] for step in steps} == {-2, -1, 0, 1, 2}


def test_the_numbers_of_the_recipes() -> None:
    """What the documentation says of each, piece by piece."""
    flip = HorizontalFlip(0.5)
    tiles = transforms.Mosaic(scale=(0.5, 1.5), flip=0.5, vertical_flip=0.0)
    wanted = {
        "none": (),
        "light": (flip, Colour(0.1, 0.1, 0.1, 0.0)),
        "default": (flip, ScaleJitter((0.67, 1.5), p=0.7), Colour()),
        "strong": (
            flip,
            ScaleJitter((0.5, 2.0), (0.8, 1.25)),
            Rotate(10.0, p=0.3),
            Shear(5.0, p=0.2),
            SafeCrop(p=0.3),
            Colour(0.3, 0.3, 0.5, 0.04),
            transforms.ChannelNoise(0.1, p=0.3),
            transforms.PixelNoise(0.04, p=0.2),
        ),
        "ssd": (
            transforms.ZoomOut((1.0, 4.0), p=0.5),
            IoUCrop(),
            flip,
            Colour(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05),
        ),
        "mosaic": (tiles, Colour(brightness=0.2, contrast=0.2, saturation=0.4, hue=0.015)),
        "crops": (
            flip,
            VerticalFlip(0.0),
            transforms.ModelScale(),
            Rescale((0.67, 1.5)),
            transforms.RandomCrop(320, within_source=True, seen=True),
            Colour(),
        ),
        "resized_crops": (flip, VerticalFlip(0.0), RandomResizedCrop(scale=(0.25, 1.0)), Colour(hue=0.01)),
    }
    assert {name: recipes.named(name).transforms for name in recipes.NAMES} == wanted
    assert {name: recipes.named(name).closing for name in wanted} == dict.fromkeys(wanted, 0.0) | {"mosaic": 0.15}
    assert recipes.mosaic(mixup=0.25, colour=False).transforms == (transforms.MixUp(tiles, 0.25),)
    assert recipes.detection("light", flip=0, vertical_flip=0.25, colour=False).transforms == (VerticalFlip(0.25),)
    assert recipes.detection("light", flip=0, colour=False).transforms == ()


def drawn(
    piece: transforms.Geometric, count: int = 300, boxes: object = ()
) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Steps of a piece from a picture of 200 × 400 with some objects."""
    view = Viewport(np.eye(3), (200, 400), np.array(boxes, dtype=float).reshape(-1, 4), (200, 400), 0.3)
    generator = np.random.default_rng(0)
    return [piece.step(view, generator) for _ in range(count)]


def test_factors_are_drawn_evenly_in_their_logarithm() -> None:
    """Halving is as likely as doubling, and each quarter of the range [log ½, log 2] as likely as the others."""
    for piece in (ScaleJitter((0.5, 2.0)), Rescale((0.5, 2.0))):
        factors = np.log2([step[0, 0] for step, _ in drawn(piece)])
        assert -1.01 <= factors.min() < -0.9
        assert 0.9 < factors.max() <= 1.01
        counts, _ = np.histogram(factors, [-1.02, -0.5, 0, 0.5, 1.02])
        assert counts.min() > 45  # of 75
    sizes = [size for _, size in drawn(ScaleJitter((0.5, 2.0)))]
    assert set(sizes) == {(200, 400)}
    for step, size in drawn(Rescale((0.5, 2.0), (0.5, 2.0)), 100):
        assert size == (round(200 * step[1, 1]), round(400 * step[0, 0]))
        assert 0.49 < step[0, 0] / step[1, 1] < 2.05


def test_windows_have_the_sides_that_are_asked_for() -> None:
    """SSD's: each side 0.3 to 1 of the picture's, their ratio ½ to 2. Of `SafeCrop` the area is 0.4 to 1, too."""
    object_ = [[150, 80, 250, 120]]
    windows = [size for _, size in drawn(IoUCrop(), 300, object_) if size != (200, 400)]
    shares = np.array([(height / 200, width / 400) for height, width in windows])
    ratios = shares[:, 1] / shares[:, 0]
    assert len(windows) > 150
    assert 0.29 < shares.min() < 0.4
    assert shares.max() <= 1
    assert 0.48 < ratios.min() < 0.7
    assert 1.4 < ratios.max() < 2.05
    safe = np.array([size for _, size in drawn(SafeCrop(p=1.0), 300, object_)]) / [200, 400]
    areas, ratios = safe.prod(1), safe[:, 1] / safe[:, 0]
    assert 0.36 < areas.min() < 0.5  # a side that would be longer than the picture's is cut
    assert 0.95 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.85
    assert 1.2 < ratios.max() < 1.34
    for step, (height, width) in drawn(SafeCrop(p=1.0), 100, object_):
        x, y = -step[0, 2], -step[1, 2]
        assert 0 <= x <= 150
        assert x + width >= 250
        assert 0 <= y <= 80
        assert y + height >= 120
    whole = drawn(SafeCrop((0.05, 0.1), p=1.0), 50, [[0, 0, 400, 199.5]])  # grown where the object needs more
    assert {size for _, size in whole} == {(200, 400)}


def test_chances_of_the_pieces() -> None:
    """With p = ¼ a quarter of the steps does something, with 0 none, with 1 each."""
    for piece in (HorizontalFlip, VerticalFlip, QuarterTurn, Rotate, Shear, Translate):
        moved = [sum(not np.array_equal(step, np.eye(3)) for step, _ in drawn(piece(p=p), 200)) for p in (0, 0.25, 1)]
        assert moved[0] == 0
        assert 30 < moved[1] < 70
        assert moved[2] >= 195  # a shift by no pixel may be drawn


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_channel_made_lighter(channels: int, dtype: torch.dtype) -> None:
    """An offset of a fifth of full scale on the second channel leaves the others as they are."""
    image = torch.full((channels, 2, 3), 100, dtype=torch.uint8)
    image = image if dtype == torch.uint8 else image.float() / 255
    offset = np.zeros(channels)
    offset[1] = 0.2
    found = apply_tone(image, Tone(np.eye(channels), offset, np.zeros(channels))).float()
    found = found if dtype == torch.uint8 else found * 255
    wanted = [151.0 if c == 1 else 100.0 for c in range(channels)]
    assert found.amax((1, 2)).tolist() == pytest.approx(wanted, abs=1e-3)
    assert found.amin((1, 2)).tolist() == pytest.approx(wanted, abs=1e-3)
    assert apply_tone(image, Tone(np.eye(channels), np.zeros(channels), np.zeros(channels))) is image


def test_a_threshold_of_one_crops_nothing() -> None:
    """SSD's "original image", though a window that is the object itself would reach it."""
    view = Viewport(np.eye(3), (4, 4), np.array([[1.0, 1, 3, 3]]), (4, 4), 0.3)
    generator = np.random.default_rng(0)
    for _ in range(50):
        step, size = IoUCrop((1.0,)).step(view, generator)
        assert size == (4, 4)
        assert np.array_equal(step, np.eye(3))
    cropped = [IoUCrop((0.9,)).step(view, generator)[1] for _ in range(50)]
    assert cropped.count((2, 2)) > 10


def test_amounts_reach_as_far_up_as_down() -> None:
    """Brightness by 0.2: factors evenly from 0.8 to 1.2; with p = ½ half of them are 1."""
    start, generator = Tone(np.eye(3), np.zeros(3), np.full(3, 0.5)), np.random.default_rng(0)
    factors = np.array([Brightness(0.2).tone(start, generator).gain[0, 0] for _ in range(300)])
    counts, _ = np.histogram(factors, [0.8, 0.9, 1.0, 1.1, 1.2])
    assert counts.sum() == 300
    assert counts.min() > 45
    sometimes = np.array([Brightness(0.2, p=0.5).tone(start, generator).gain[0, 0] for _ in range(200)])
    assert 70 < (sometimes == 1).sum() < 130


def test_pieces_see_no_box_where_there_is_no_object() -> None:
    seen = []

    class Looks(transforms.Geometric):
        def step(self, view, generator):
            seen.append(view.source_boxes.shape)
            return np.eye(3), view.size

    labels = torch.zeros(4, 6, dtype=torch.int64)
    one = Instances((4, 6), classes=CLASSES, boxes=[[1, 1, 3, 3]], labels=[0])
    for target in (one, Instances((4, 6), classes=CLASSES), ClassMap(labels, classes=CLASSES)):
        Looks()(torch.zeros(3, 4, 6), target, random())
    assert seen == [(1, 4), (0, 4), (0, 4)]
