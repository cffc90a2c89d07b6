"""Left and right keypoints in mirrored images: an object whose left point lies on the viewer's right stays one."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
import torch

from sightline.data.dataset import Dataset
from sightline.data.facts import data_facts, log_unmirrored, remember
from sightline.data.torch_data import TorchData
from sightline.data.transforms import (
    Compose,
    Geometric,
    HorizontalFlip,
    Kornia,
    MixUp,
    Mosaic,
    QuarterTurn,
    Sometimes,
    VerticalFlip,
    recipes,
)
from sightline.data.transforms.mirroring import unmirrored
from sightline.data.transforms.targets import mirrors_wrongly
from sightline.structures import Instances

SIZE = (64, 96)
NAMES = ("nose", "left_eye", "right_eye")
SWAP = (0, 2, 1)


def face(x: float, y: float) -> list[list[float]]:
    """A face that looks at the viewer: its left eye at the larger x, its nose below its eyes."""
    return [[x, y + 6, 2], [x + 5, y, 2], [x - 5, y, 2]]


def faces(names: tuple[str, ...] = NAMES) -> Dataset:
    images, targets = [], []
    for i in range(4):
        centres = [(20.0 + i, 20.0), (70.0, 40.0 + i)]
        boxes = [[x - 12, y - 12, x + 12, y + 14] for x, y in centres]
        target = Instances(SIZE, boxes=boxes, labels=[0, 0], keypoints=torch.tensor([face(*c) for c in centres]))
        images.append(np.full((3, *SIZE), 40 * i + 20, np.uint8))
        targets.append(target)
    data = Dataset.from_instances(images, targets, ["face"], keypoint_names=names)
    return data.with_fields("keypoints")


def chirality(target) -> list[int]:
    """+1 for each object that is a face as drawn (however turned), −1 for one whose points were exchanged."""
    out = []
    for nose, left, right in target.keypoints.double().tolist():
        if min(nose[2], left[2], right[2]) > 0:
            (ax, ay), (bx, by) = (left[0] - nose[0], left[1] - nose[1]), (right[0] - nose[0], right[1] - nose[1])
            out.append(1 if ax * by - ay * bx < 0 else -1)
    return out


AUGMENTATIONS = {
    **{name: partial(recipes.named, name) for name in recipes.NAMES},
    "mix-up": lambda: recipes.mosaic(mixup=0.9, vertical_flip=0.5),
    "both flips": lambda: Compose([HorizontalFlip(0.5), VerticalFlip(0.5), QuarterTurn(0.5)]),
    "one piece": lambda: HorizontalFlip(0.7),
    "nested": lambda: Compose([Sometimes(Compose([HorizontalFlip(0.9)]), 0.9), VerticalFlip(0.5)]),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_left_stays_left_in_every_recipe(name: str, known: bool):
    data = faces(NAMES if known else ("a", "b", "c"))
    assert data.keypoint_swap == (SWAP if known else None)
    transform = AUGMENTATIONS[name]()
    bound = transform.bind(data, SIZE)
    found = []
    for seed in range(12):
        for one in (bound, bound.closed()):
            _, target = one(*data[seed % 4], np.random.default_rng(seed))
            found += chirality(target)
    assert len(found) > 10
    assert set(found) == {1}


def test_known_pairs_let_images_be_mirrored_and_unknown_ones_do_not():
    image = np.zeros((3, *SIZE), np.uint8)
    image[:, :, :48] = 200
    for swap, left in ((SWAP, 0), (None, 200)):
        target = faces().target(0)
        whole = Mosaic(flip=1, scale=(1, 1), aspect=(1, 1), p=0, size=SIZE, keypoint_swap=swap)
        for transform in (Compose([HorizontalFlip(1)], keypoint_swap=swap), whole):
            out, moved = transform(torch.from_numpy(image), target, np.random.default_rng(0))
            assert out[0, 0, 0] == left
            if swap is None:
                assert torch.equal(moved.keypoints, target.keypoints)
            else:  # the new left eye is the mirror image of the right one, at x = 15
                assert moved.keypoints[0, 1].tolist() == [SIZE[1] - 15, 20, 2]


def test_objects_without_keypoints_or_with_one_are_mirrored():
    image = torch.zeros(3, *SIZE, dtype=torch.uint8)
    plain = Instances(SIZE, boxes=[[0, 0, 10, 10]], labels=[0])
    one = plain.replace(keypoints=torch.tensor([[[2.0, 3.0, 2.0]]]))
    for target in (plain, one):
        _, moved = HorizontalFlip(1)(image, target, np.random.default_rng(0))
        assert moved.boxes.tolist() == [[86, 0, 96, 10]]
    assert moved.keypoints[0, 0].tolist() == [94, 3, 2]


def test_a_mirroring_piece_of_ones_own_is_undone_and_a_turn_is_not():
    class Swapped(Geometric):
        def step(self, view, generator):
            return np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), view.size[::-1]

    target = faces().target(0)
    _, moved = Swapped()(torch.zeros(3, *SIZE, dtype=torch.uint8), target, np.random.default_rng(0))
    assert chirality(moved) == [1, 1]
    half = np.diag([-1.0, -1, 1])
    assert unmirrored(half, SIZE) is half
    flip = np.array([[1.0, 0, 0], [0, -1, 64], [0, 0, 1]])
    assert np.array_equal(unmirrored(flip, SIZE), np.eye(3))


@pytest.mark.parametrize("swap", [SWAP, None])
def test_kornia_mirrors_alike(swap):
    peer = pytest.importorskip("kornia.augmentation")
    image, target = faces()[0]
    image = image.clone()
    image[:, :, :48] = 0
    kornia = Kornia(peer.RandomHorizontalFlip(p=1.0), keypoint_swap=swap)
    out, moved = kornia(image, target, np.random.default_rng(0))
    ours, expected = Compose([HorizontalFlip(1)], keypoint_swap=swap)(image, target, np.random.default_rng(0))
    assert torch.equal(out, ours)
    assert torch.allclose(moved.keypoints, expected.keypoints, atol=1e-3)
    assert torch.allclose(moved.boxes, expected.boxes, atol=1e-3)


def test_the_log_says_once_what_is_not_mirrored(caplog):
    caplog.set_level(logging.WARNING, "sightline")
    unknown = faces(("a", "b", "c"))
    for transform in (recipes.none(), Compose([HorizontalFlip(0)]), recipes.detection(keypoint_swap=SWAP)):
        log_unmirrored(unknown, transform)
    log_unmirrored(faces(), recipes.detection())
    assert not caplog.records
    for transform in (recipes.detection(), recipes.mosaic(mixup=0.5), MixUp(Mosaic()), HorizontalFlip()):
        caplog.clear()
        log_unmirrored(unknown, transform)
        assert [r.message.startswith("images are not mirrored") for r in caplog.records] == [True]


def test_the_pairs_are_saved_with_the_model():
    assert data_facts(faces()) == {"keypoint_names": list(NAMES), "keypoint_swap": [0, 2, 1]}
    assert data_facts(faces(("a", "b", "c"))) == {"keypoint_names": ["a", "b", "c"]}
    model = torch.nn.Identity()
    model.metadata = {"full_scale": 4095, "keypoint_swap": [0], "threshold": 0.3}  # of data it learnt from before
    remember(model, faces())
    assert model.metadata == {"threshold": 0.3, "keypoint_names": list(NAMES), "keypoint_swap": [0, 2, 1]}


def test_a_plain_torch_dataset_names_its_keypoints():
    class Plain:
        classes = ("face",)
        keypoint_names = NAMES

        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int):
            image, target = faces()[i]
            return image, target

    data = TorchData(Plain())
    assert (data.keypoint_names, data.keypoint_swap) == (NAMES, SWAP)
    _, target = Compose([HorizontalFlip(1)]).bind(data, None)(*data[0], np.random.default_rng(0))
    assert chirality(target) == [1, 1]
    assert target.keypoints[0, 1].tolist() == [SIZE[1] - 15, 20, 2]
    assert data_facts(data)["keypoint_swap"] == [0, 2, 1]
    Plain.keypoint_names = ()
    assert TorchData(Plain()).keypoint_swap is None


@pytest.mark.parametrize(("points", "answer"), [(1, False), (2, True), (17, True)])
def test_a_single_point_is_its_own_mirror_image(points: int, answer: bool) -> None:
    target = Instances(SIZE, boxes=[[1, 1, 9, 9]], labels=[0], keypoints=torch.ones(1, points, 3))
    assert mirrors_wrongly(target, None) is answer
    assert not mirrors_wrongly(target, tuple(range(points)))
    assert not mirrors_wrongly(Instances(SIZE, boxes=[[1, 1, 9, 9]], labels=[0]), None)
