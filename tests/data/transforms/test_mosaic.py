"""Pictures made of several: every box is where its pixels are; other samples come by the generator alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.data.transforms import Colour, Compose, HorizontalFlip, MixUp, Mosaic, Sometimes, VerticalFlip, recipes
from sightline.data.transforms.mosaic import CachedSamples, joined
from sightline.errors import InputError
from sightline.structures import Classes, ClassScores, Instances


def sometimes(piece):
    return Sometimes(piece, 1.0)


CLASSES = Classes([f"colour {i}" for i in range(8)])


class Painted:
    """Black pictures of several sizes, each with rectangles of a colour of their own; colour (label + 1) · 30."""

    root = None
    classes = CLASSES

    def __init__(self, length: int = 9, masks: bool = False):
        self.read = 0
        self.items = []
        rng = np.random.default_rng(5)
        for number in range(length):
            height, width = (int(v) for v in rng.integers(60, 140, 2))
            picture = torch.zeros(3, height, width, dtype=torch.uint8)
            boxes, labels = [], []
            for corner in ((0, 0), (0, width // 2), (height // 2, 0), (height // 2, width // 2)):
                top, left = (int(c + rng.integers(2, 8)) for c in corner)
                bottom, right = (int(v + rng.integers(12, 20)) for v in (top, left))
                label = int(rng.integers(len(CLASSES)))
                picture[:, top:bottom, left:right] = (label + 1) * 30
                boxes.append([left, top, right, bottom])
                labels.append(label)
            found = Instances(
                (height, width),
                classes=CLASSES,
                source=f"{number}.png",
                boxes=torch.tensor(boxes).float(),
                labels=labels,
                crowd=[False] * 4,
                areas=[float((x2 - x1) * (y2 - y1)) for x1, y1, x2, y2 in boxes],
            )
            if masks:
                found = found.replace(
                    masks=torch.stack([_box_mask(b, (height, width)) for b in boxes]),
                    keypoints=torch.tensor([[[(a + c) / 2, (b + d) / 2, 2.0]] for a, b, c, d in boxes]),
                )
            self.items.append((picture, found))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Instances]:
        self.read += 1
        return self.items[index]


def _box_mask(box: list[int], size: tuple[int, int]) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def assert_painted(image: Tensor, target: Instances) -> None:
    """Under each box, a little within it, lies its own colour; all coloured pixels lie under boxes, or next to them."""
    rest = image[0].clone()
    for box, label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        x1, y1, x2, y2 = box
        inside = image[0, int(y1 + 1.51) : int(y2 - 0.51), int(x1 + 1.51) : int(x2 - 0.51)]
        assert not ((inside.int() - (label + 1) * 30).abs() > 1).any()
        rest[max(0, int(y1) - 1) : int(y2 + 2), max(0, int(x1) - 1) : int(x2 + 2)] = 0
    assert not ((rest > 0) & (rest != 115)).any()  # 115 is the fill


@pytest.mark.parametrize("seed", range(12))
def test_every_box_is_where_its_pixels_are(seed: int) -> None:
    data = Painted()
    mosaic = Mosaic(flip=0.5, vertical_flip=0.5, min_visible=0.0).bind(data, (128, 160))
    image, target = mosaic(*data[seed % 9], np.random.default_rng(seed))
    assert image.shape == (3, 128, 160)
    assert target.image_size == (128, 160)
    assert image.dtype == torch.uint8
    # objects below a pixel are dropped: what is left of their colour is no error
    assert_painted(_without_slivers(image, target), target)
    assert len(target) > 2
    assert (target.boxes >= 0).all()
    assert (target.boxes <= torch.tensor([160, 128, 160, 128])).all()


def _without_slivers(image: Tensor, target: Instances) -> Tensor:
    """The image without coloured columns or rows two pixels thin that no box covers."""
    covered = torch.zeros(image.shape[1:], dtype=torch.bool)
    for x1, y1, x2, y2 in target.boxes.tolist():
        covered[max(0, int(y1) - 1) : int(y2 + 2), max(0, int(x1) - 1) : int(x2 + 2)] = True
    lost = (image[0] > 0) & (image[0] != 115) & ~covered
    thick = torch.nn.functional.avg_pool2d(lost[None].float(), 4, 1)  # a 4×4 block of lost colour would be an object
    assert not (thick == 1).any()
    return image.masked_fill(lost, 0)


def test_a_single_tile_holds_the_picture_at_the_size_the_model_sees() -> None:
    data = Painted()
    still = Mosaic(scale=(1, 1), aspect=(1, 1), flip=0, p=0).bind(data, (240, 240))
    picture, target = data[0]
    image, moved = still(picture, target, np.random.default_rng(0))
    factor = 240 / max(picture.shape[1:])
    assert image.shape == (3, 240, 240)
    sides = moved.boxes[:, 2:] - moved.boxes[:, :2]
    before = (target.boxes[:, 2:] - target.boxes[:, :2]) * factor
    torch.testing.assert_close(sides, before, atol=0.5, rtol=0.01)
    assert data.read == 1


def test_the_same_generator_gives_the_same_and_four_pictures_meet() -> None:
    data = Painted()
    mosaic = recipes.mosaic(mixup=0.5).bind(data, (96, 96))
    first = mosaic(*data[3], np.random.default_rng([1, 2, 3]))
    again = mosaic(*data[3], np.random.default_rng([1, 2, 3]))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    assert not torch.equal(first[0], mosaic(*data[3], np.random.default_rng([1, 2, 4]))[0])
    data.read = 0
    Mosaic().bind(data, (96, 96))(*data.items[0], np.random.default_rng(0))
    assert data.read == 3
    again = pickle.loads(pickle.dumps(mosaic))(*data[3], np.random.default_rng([1, 2, 3]))
    assert torch.equal(first[0], again[0])


def test_unbound_it_takes_the_picture_itself() -> None:
    data = Painted()
    image, target = recipes.mosaic()(*data[2], np.random.default_rng(0))
    assert image.shape[1] == image.shape[2] == max(data[2][0].shape)
    assert target.source == "2.png"
    assert set(target.labels.tolist()) <= set(data[2][1].labels.tolist())


def test_masks_keypoints_and_areas_move_along() -> None:
    data = Painted(masks=True)
    mosaic = Mosaic(keypoint_swap=(0,)).bind(data, (128, 128))
    for seed in range(6):
        _, target = mosaic(*data[seed], np.random.default_rng(seed))
        assert target.masks.shape == (len(target), 128, 128)
        for mask, (x1, y1, x2, y2), point in zip(
            target.masks, target.boxes.tolist(), target.keypoints[:, 0], strict=True
        ):
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx([x1, y1, x2, y2], abs=1.01)
            if point[2] > 0:
                assert x1 - 1 <= point[0] <= x2 + 1
                assert y1 - 1 <= point[1] <= y2 + 1
        counted = target.masks.flatten(1).sum(1)
        assert (target.areas - counted).abs().max() < 0.25 * counted.max() + 8


def test_objects_hardly_seen_are_dropped() -> None:
    data = Painted()
    for seed in range(8):
        strict = Mosaic(min_visible=0.9).bind(data, (96, 96))(*data[0], np.random.default_rng(seed))[1]
        every = Mosaic(min_visible=0.0).bind(data, (96, 96))(*data[0], np.random.default_rng(seed))[1]
        assert len(strict) <= len(every)
        assert {tuple(b) for b in strict.boxes.tolist()} <= {tuple(b) for b in every.boxes.tolist()}


def test_mix_up_blends_pixels_and_keeps_the_objects_of_both() -> None:
    data = Painted(2)
    mixed = MixUp(p=1.0).bind(data, None)
    seen = set()
    for seed in range(6):
        image, target = mixed(*data[0], np.random.default_rng(seed))
        generator = np.random.default_rng(seed)
        generator.random()
        second = int(generator.integers(2))
        share = generator.beta(8.0, 8.0)
        seen.add(second)
        over, objects = data[second]
        assert len(target) == 8
        assert torch.equal(target.boxes, torch.cat([data[0][1].boxes, objects.boxes]))
        size = [max(a, b) for a, b in zip(data[0][0].shape, over.shape, strict=True)]
        expected = torch.zeros(size)
        for picture, weight in ((data[0][0], share), (over, 1 - share)):
            for row in range(picture.shape[1]):
                for column in range(0, picture.shape[2], 7):
                    expected[:, row, column] += weight * picture[:, row, column]
        torch.testing.assert_close(image[:, :, ::7].float(), expected[:, :, ::7], atol=0.51, rtol=0)
    assert seen == {0, 1}
    assert MixUp(p=0.0)(*data[0], np.random.default_rng(0))[0] is data[0][0]


def test_closed_it_is_the_picture_alone() -> None:
    data = Painted()
    recipe = recipes.mosaic(flip=0.0, colour=False, mixup=0.3, closing=0.2)
    assert recipe.closing == 0.2
    assert "closing=0.2" in repr(recipe)
    image, target = recipe.bind(data, (96, 96)).closed()(*data[1], np.random.default_rng(0))
    assert torch.equal(image, data[1][0])
    assert torch.equal(target.boxes, data[1][1].boxes)
    mirrored = recipes.mosaic(flip=1.0, colour=False).closed()(*data[1], np.random.default_rng(0))[0]
    assert torch.equal(mirrored, data[1][0].flip(2))
    usual = Compose([HorizontalFlip(1.0), Colour()])
    assert repr(usual.closed()) == repr(usual.bind(data, None)) == repr(usual)
    assert usual.closing == 0


@pytest.mark.parametrize("outer", [lambda m: MixUp(m, p=0), lambda m: Compose([MixUp(Compose([m]), p=0)]), sometimes])
def test_a_mosaic_inside_another_piece_is_bound_and_closed(outer) -> None:
    data = [(torch.full((3, 20, 30), 40 * (k + 1), dtype=torch.uint8), Instances((20, 30))) for k in range(6)]
    piece = outer(Mosaic(scale=(1, 1), aspect=(1, 1)))
    image, _ = piece.bind(data, (64, 64))(*data[0], np.random.default_rng(0))
    assert image.shape == (3, 64, 64)
    assert len(image.unique()) > 2
    image, _ = piece.bind(data, (64, 64)).closed()(*data[0], np.random.default_rng(0))
    assert image.unique().tolist() == [40]


def test_crowds_stay_crowds_beside_targets_that_name_none() -> None:
    crowd = Instances((9, 9), boxes=[[1, 1, 5, 5]], labels=[0], crowd=[True])
    assert joined([crowd, Instances((9, 9))]).crowd.tolist() == [True]
    assert joined([Instances((9, 9)), crowd]).crowd.tolist() == [True]
    plain = Instances((9, 9), boxes=[[2, 2, 5, 5]], labels=[0])
    assert joined([crowd, plain]).crowd.tolist() == [True, False]


def test_remembered_samples_are_read_once_while_there_is_room() -> None:
    data = Painted(4)
    kept = CachedSamples(data, room=data.items[0][0].numel() + data.items[1][0].numel())
    for _ in range(3):
        for i in range(4):
            assert kept[i][0] is data.items[i][0]
    assert data.read < 12
    assert len(kept) == 4
    copy = pickle.loads(pickle.dumps(kept))
    assert torch.equal(copy[2][0], kept[2][0])


def test_pictures_without_objects_and_of_other_kinds() -> None:
    empty = (torch.zeros(3, 40, 50, dtype=torch.uint8), Instances((40, 50), classes=CLASSES))
    image, target = Mosaic(size=(64, 64))(*empty, np.random.default_rng(0))
    assert image.shape == (3, 64, 64)
    assert len(target) == 0
    both = joined([Instances((64, 64)), Instances((64, 64), boxes=[[1, 1, 5, 5]], labels=[0])])
    assert len(both) == 1

    grey = (torch.zeros(1, 40, 50, dtype=torch.uint8), Instances((40, 50), classes=CLASSES, source="grey.png"))
    mosaic = Mosaic().bind([grey], (64, 64))
    with pytest.raises(InputError, match=r"grey\.png has 1 channels, but another image has 3; open the data with one"):
        mosaic(*empty, np.random.default_rng(0))
    deep = (torch.full((3, 40, 50), 0.5), Instances((40, 50), classes=CLASSES))
    bright = Mosaic(fill=0.5).bind([deep], (64, 64))
    image, _ = bright(torch.full((3, 40, 50), 128, dtype=torch.uint8), empty[1], np.random.default_rng(0))
    assert (image == 128).all()
    with pytest.raises(InputError, match="is a ClassScores, but combining several images requires objects"):
        Mosaic()(empty[0], ClassScores((40, 50), label=0), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"scale is \(2, 1\)"):
        Mosaic(scale=(2, 1))
    with pytest.raises(InputError, match=r"middle is \(0\.8, 0\.2\)"):
        Mosaic(middle=(0.8, 0.2))


def test_an_aspect_above_one_makes_a_picture_wider() -> None:
    """50 × 100 pixels fill a square of 200 at a factor of 2; an aspect of 4 doubles the width and halves the height."""
    piece = Mosaic(scale=(1, 1), aspect=(4, 4), flip=0)
    matrix = piece._view((50, 100), (200, 200), (200, 200), np.random.default_rng(0), straight=True)
    assert (matrix[0, 0], matrix[1, 1]) == (4, 1)


def test_closed_is_mirrored_as_before() -> None:
    """Each mirror image is drawn only where its probability is not 0."""
    assert Mosaic(flip=0.25).closed().transforms == (HorizontalFlip(0.25),)
    assert Mosaic(flip=0.0, vertical_flip=0.5, fill=0.2, min_visible=0.4).closed() == Compose(
        [VerticalFlip(0.5)], min_visible=0.4, fill=0.2
    )
    assert Mosaic(flip=0.0).closed().transforms == ()


@pytest.mark.parametrize(
    ("picture", "factor"), [((100, 200), 0.5), ((200, 100), 0.5), ((50, 20), 2.0), ((100, 25), 1.0), ((400, 400), 0.25)]
)
def test_a_picture_is_fitted_into_the_whole(picture: tuple[int, int], factor: float) -> None:
    """Of a mosaic of 100 × 100 the longer side of a picture decides, and then the scale, here 1."""
    mosaic = Mosaic(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)
    matrix = mosaic._view(picture, (100, 100), (60, 40), np.random.default_rng(0), straight=False)
    assert (matrix[0, 0], matrix[1, 1]) == (factor, factor)
    wide = mosaic._view((100, 100), (100, 300), (60, 40), np.random.default_rng(0), straight=False)
    assert wide[0, 0] == wide[1, 1] == 1
    mirrored = Mosaic(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=1.0, vertical_flip=1.0)
    both = mirrored._view(picture, (100, 100), (60, 40), np.random.default_rng(0), straight=False)
    assert (both[0, 0], both[1, 1]) == (-factor, -factor)
    straight = mirrored._view(picture, (100, 100), (60, 40), np.random.default_rng(0), straight=True)
    assert (straight[0, 0], straight[1, 1]) == (factor, factor)
