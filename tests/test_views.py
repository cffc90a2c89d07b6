"""Views: an image with its camera goes wherever an image goes, and its camera follows the pixels."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import sightline as sl
from sightline.data.transforms import Compose, HorizontalFlip, QuarterTurn, Resize, Rotate, Translate, VerticalFlip
from sightline.data.transforms.colour import HSV, Brightness, PixelNoise
from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.structures import Camera, View, camera_of
from sightline.training.loader import EpochBatches, make_loader

INTRINSICS = [[50.0, 0.0, 20.5], [0.0, 40.0, 11.0], [0.0, 0.0, 1.0]]


def view(height: int = 24, width: int = 40, depth: bool = True, **more: Any) -> View:
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    far = torch.randint(0, 5000, (height, width), generator=generator).to(torch.int32) if depth else None
    return sl.View(image, INTRINSICS, far, **more)


def projected(intrinsics: Tensor, points: Tensor) -> Tensor:
    """Pixels [N, 2] of points [N, 3] in metres."""
    seen = points.double() @ intrinsics.T
    return seen[:, :2] / seen[:, 2:]


POINTS = torch.tensor([[0.0, 0.0, 1.0], [0.1, -0.2, 2.0], [-0.3, 0.1, 1.5], [0.5, 0.5, 4.0]])


def moved_slowly(depth: Tensor, matrix: np.ndarray, size: tuple[int, int]) -> list[list[set[int]]]:
    """The depth under the centre of each pixel of the moved image, one by one; several where a centre is on an edge."""
    back = np.linalg.inv(matrix)
    rows: list[list[set[int]]] = []
    for y in range(size[0]):
        rows.append([])
        for x in range(size[1]):
            u, v, _ = back @ [x + 0.5, y + 0.5, 1]
            found = set()
            for column, row in itertools.product(*({int(np.floor(w - 1e-9)), int(np.floor(w + 1e-9))} for w in (u, v))):
                inside = 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]
                found.add(int(depth[row, column]) if inside else 0)
            rows[-1].append(found)
    return rows


class TestCamera:
    @given(
        st.lists(st.floats(-2, 2), min_size=4, max_size=4).filter(lambda m: abs(m[0] * m[3] - m[1] * m[2]) > 0.1),
        st.tuples(st.floats(-9.3, 9.3), st.floats(-9.3, 9.3)),
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
    )
    def test_moved(self, linear: list[float], shift: tuple[float, float], size: tuple[int, int]) -> None:
        matrix = np.array([[*linear[:2], shift[0]], [*linear[2:], shift[1]], [0, 0, 1]])
        depth = torch.arange(1, 64).reshape(7, 9)
        moved = Camera(torch.tensor(INTRINSICS, dtype=torch.float64), depth).moved(matrix, size)
        before = projected(torch.tensor(INTRINSICS, dtype=torch.float64), POINTS)
        after = before @ torch.from_numpy(matrix[:2, :2]).T + torch.from_numpy(matrix[:2, 2])
        assert projected(moved.intrinsics, POINTS).numpy() == pytest.approx(after.numpy(), abs=1e-6)
        assert moved.depth is not None
        for row, slow in zip(moved.depth.tolist(), moved_slowly(depth, matrix, size), strict=True):
            assert all(value in values for value, values in zip(row, slow, strict=True))

    def test_resized(self) -> None:
        camera = Camera(torch.tensor(INTRINSICS, dtype=torch.float64)).resized((24, 40), (48, 20))
        assert camera.intrinsics.tolist() == [[25, 0, 10.25], [0, 80, 22], [0, 0, 1]]


class TestView:
    def test_is_the_image(self) -> None:
        image = torch.zeros(3, 4, 6, dtype=torch.uint8)
        one = sl.View(image, INTRINSICS, np.ones((4, 6), np.uint16), 0.001)
        assert isinstance(one, Tensor)
        assert (one.shape, one.dtype, one.data_ptr()) == (image.shape, image.dtype, image.data_ptr())
        assert one.intrinsics.tolist() == INTRINSICS
        assert one.metres is not None
        assert one.metres.tolist() == [[pytest.approx(0.001)] * 6] * 4
        assert sl.View(image, INTRINSICS).metres is None
        assert repr(one) == "View(3 channels, 6×4 pixels, torch.uint8, focal length 50.0 × 40.0, with depth)"

    def test_unknown_depth(self) -> None:
        one = sl.View(torch.zeros(1, 1, 2), INTRINSICS, [[0, 3]], 2.0)
        assert one.metres is not None
        assert one.metres.isnan().tolist() == [[True, False]]
        assert one.metres[0, 1] == 6

    def test_calculations_give_plain_tensors(self) -> None:
        one = view()
        for other in (
            one + 1,
            one / 255,
            one.flip(2),
            one[:, :3],
            one[None],
            torch.stack([one, one]),
            one.permute(1, 2, 0),
        ):
            assert type(other) is Tensor
            assert camera_of(other) is None

    def test_copies_keep_the_camera(self) -> None:
        one = view(depth_scale=0.5)
        copies = [
            one.to(torch.float32), one.to("cpu"), one.float(), one.clone(), one.detach(), one.contiguous(), one.cpu(),
            copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)),
        ]  # fmt: skip
        for other in copies:
            assert type(other) is View
            assert torch.equal(other.to(torch.uint8), one.as_subclass(Tensor))
            assert torch.equal(other.intrinsics, one.intrinsics)
            assert other.depth is not None
            assert torch.equal(other.depth, one.depth)  # type: ignore[arg-type]
            assert other.camera.depth_scale == 0.5

    def test_gradients_reach_the_image(self) -> None:
        image = torch.rand(3, 4, 4, requires_grad=True)
        (sl.View(image, INTRINSICS).to(torch.float64) * 2).sum().backward()
        assert image.grad is not None
        assert image.grad.unique().tolist() == [2]

    def test_cropped(self) -> None:
        one = view()
        part = one.cropped(5, 3, 20, 11)
        assert torch.equal(part, one.as_subclass(Tensor)[:, 3:11, 5:20])
        assert part.depth is not None
        assert torch.equal(part.depth, one.depth[3:11, 5:20])  # type: ignore[index]
        assert projected(part.intrinsics, POINTS).numpy() == pytest.approx(
            projected(one.intrinsics, POINTS).numpy() - [5, 3]
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((torch.zeros(4, 4), INTRINSICS), r"image of a view has shape \[4, 4\]"),
            ((torch.zeros(1, 4, 4), [1, 2, 3]), r"intrinsics: the shape is \[3\]"),
            ((torch.zeros(1, 4, 4), [[1, 0, 0], [0, float("nan"), 0], [0, 0, 1]]), "must be finite"),
            ((torch.zeros(1, 4, 4), [[1, 0, 0], [0, 1, 0], [0, 0, 2]]), "last row of 0, 0, 1"),
            ((torch.zeros(1, 4, 4), [[1, 0, 0], [0, 1], [0, 0, 1]]), r"is not a matrix of \[3, 3\] numbers"),
            ((torch.zeros(1, 4, 4), [[1, 2, 0], [2, 4, 0], [0, 0, 1]]), "is singular"),
            ((torch.zeros(1, 4, 4), [[0, 0, 2], [0, 0, 2], [0, 0, 1]]), "is singular"),
            ((torch.zeros(1, 4, 4), INTRINSICS, torch.zeros(4, 5)), r"depth has shape \[4, 5\], but the image has"),
            ((torch.zeros(1, 4, 4), INTRINSICS, None, 0.0), "depth_scale is 0.0"),
            ((torch.zeros(1, 4, 4), INTRINSICS, None, float("nan")), "depth_scale is nan"),
        ],
    )
    def test_wrong_arguments(self, arguments: tuple[Any, ...], words: str) -> None:
        with pytest.raises(InputError, match=words):
            sl.View(*arguments)


class TestTransforms:
    @pytest.mark.parametrize(
        "piece",
        [HorizontalFlip(1), VerticalFlip(1), QuarterTurn(1), Resize((17, 60)), Rotate(20.0), Translate(0.3)],
        ids=lambda piece: type(piece).__name__,
    )
    def test_a_point_stays_on_what_it_shows(self, piece: Any) -> None:
        """Each pixel's depth names it, so the pixel that a point is projected to must have the depth it had before."""
        height, width = 24, 40
        named = torch.arange(1, height * width + 1).reshape(height, width)
        one = sl.View(torch.zeros(3, height, width, dtype=torch.uint8), INTRINSICS, named)
        target = sl.ClassMap(torch.zeros(height, width, dtype=torch.int64))
        moved, _ = Compose([piece])(one, target, np.random.default_rng(3))
        assert isinstance(moved, View)
        assert moved.depth is not None
        assert moved.depth.shape == moved.shape[1:]
        seen = 0
        for point in torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1:
            point = torch.stack([point[0] * 0.3, point[1] * 0.2, torch.ones(())])[None]
            (x, y), (u, v) = projected(one.intrinsics, point)[0], projected(moved.intrinsics, point)[0]
            if not (0 <= x < width and 0 <= y < height and 0 <= u < moved.shape[2] and 0 <= v < moved.shape[1]):
                continue
            row, column = divmod(int(moved.depth[int(v), int(u)]) - 1, width)
            assert abs(row + 0.5 - y) <= 1.3
            assert abs(column + 0.5 - x) <= 1.3
            seen += 1
        assert seen > 10

    def test_the_image_moves_as_without_a_camera(self) -> None:
        one = view()
        target = sl.ClassMap(torch.zeros(24, 40, dtype=torch.int64))
        pieces = Compose([HorizontalFlip(0.5), Rotate(9.0), Brightness(0.3)])
        for seed in range(4):
            with_camera, _ = pieces(one, target, np.random.default_rng(seed))
            without, _ = pieces(one.as_subclass(Tensor), target, np.random.default_rng(seed))
            assert type(without) is Tensor
            assert isinstance(with_camera, View)
            assert torch.equal(with_camera, without)

    def test_colour_keeps_the_camera(self) -> None:
        one = view()
        target = sl.ClassMap(torch.zeros(24, 40, dtype=torch.int64))
        for piece in (Brightness(0.3), HSV(), PixelNoise(p=1)):
            changed, _ = Compose([piece])(one, target, np.random.default_rng(0))
            assert isinstance(changed, View)
            assert changed.intrinsics.tolist() == INTRINSICS
            assert not torch.equal(changed, one)


class TestModels:
    def test_a_batch_has_the_cameras_in_its_pixels(self) -> None:
        preprocess = Preprocess(min_size=48, max_size=96, divisor=32)
        batch, _ = preprocess([view(), torch.zeros(3, 24, 40), view(30, 30, depth=False)])
        height, width = batch.sizes[0]
        assert batch.cameras[1] is None
        first, last = batch.cameras[0], batch.cameras[2]
        assert first is not None
        assert last is not None
        x, y = width / 40, height / 24
        assert first.intrinsics.numpy() == pytest.approx(np.diag([x, y, 1]) @ np.array(INTRINSICS))
        assert first.depth is not None
        assert first.depth.shape == (height, width)
        assert last.depth is None
        with pytest.raises(InputError, match=r"image 1 has no camera, which this model needs; give it as sl\.View"):
            batch.require_cameras()
        with pytest.raises(InputError, match="image 0 has no camera"):
            preprocess([torch.zeros(3, 24, 40)])[0].require_cameras()
        assert len(preprocess([view(), view()])[0].require_cameras()) == 2

    @pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v2", "unet_mobilenet_v2"])
    def test_models_without_need_of_one_answer_as_to_the_image(self, name: str) -> None:
        torch.manual_seed(0)
        model = sl.create_model(name, ["a", "b"]).eval()
        one = view(64, 80)
        seen = sl.predict(model, one, threshold=0.01, progress=False)
        plain = sl.predict(model, one.as_subclass(Tensor), threshold=0.01, progress=False)
        assert repr(seen) == repr(plain)
        with torch.no_grad():
            (direct,) = model([one])
        assert type(direct) is type(plain)

    def test_the_camera_reaches_the_model(self) -> None:
        model = Looking()
        sl.predict(model, [view(), view(30, 30)], progress=False)
        assert model.seen == [[INTRINSICS, INTRINSICS]]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_batches_of_a_training(self, workers: int) -> None:
        images = [view(24, 40), view(24, 40)]
        boxes = torch.tensor([[1.0, 1, 9, 9]])
        targets = [sl.Instances((24, 40), boxes=boxes, labels=torch.tensor([0])) for _ in images]
        data = sl.Dataset.from_instances(images, targets, ["a"])
        assert isinstance(data[0][0], View)
        loader = make_loader(data, EpochBatches(2, 2), Compose([HorizontalFlip(1)]), workers=workers)
        (batch,) = list(loader)
        found, _ = batch.to("cpu")
        for one in found:
            assert isinstance(one, View)
            assert one.intrinsics.tolist() == [[-50, 0, 19.5], [0, 40, 11], [0, 0, 1]]
            assert one.depth is not None


class Looking(torch.nn.Module):
    """Remembers the cameras it was shown."""

    task, classes, in_channels = "classification", sl.Classes(["a", "b"]), 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Any] = []

    def forward(self, images: list[Tensor], targets: Any = None) -> Any:
        self.seen.append([image.intrinsics.tolist() for image in images if isinstance(image, View)])
        return [
            sl.ClassScores(tuple(i.shape[1:]), scores=torch.tensor([0.5, 0.5]), classes=self.classes) for i in images
        ]
