"""RandAugment, random erasing, mix-up and cut-mix, against naive definitions; and the names that join them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

import sightline as sl
from sightline.data.transforms import (
    Compose,
    CutMix,
    HorizontalFlip,
    MixUp,
    OneOf,
    QuarterTurn,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    recipes,
)
from sightline.data.transforms import randaugment as module
from sightline.data.transforms.levels import equalized, posterized, sharpened, solarized, stretched
from sightline.data.transforms.randaugment import OPERATIONS
from sightline.errors import InputError
from sightline.models.classification.classifier import stacked_targets
from sightline.models.creation import create_model
from sightline.report.drawing import draw
from sightline.structures import IGNORE, Classes, ClassMap, ClassScores, Instances
from sightline.training.loader import EpochBatches, make_loader

NAMES = Classes(["daisy", "rose", "tulip"])


def photo(height: int = 40, width: int = 50, seed: int = 0) -> Tensor:
    """An image with structure: blurred noise of a limited range."""
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)[0]
    return (40 + 170 * smooth).to(torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def label_of(value: int, size: tuple[int, int] = (40, 50)) -> ClassScores:
    return ClassScores(size, value, classes=NAMES)


class Plain:
    """Images of one colour each, by their class."""

    root = None
    classes = NAMES

    def __init__(self, sizes: tuple[tuple[int, int], ...] = ((40, 50), (40, 50), (30, 90))):
        self.items = [
            (torch.full((3, *size), 60 * (i + 1), dtype=torch.uint8), label_of(i, size)) for i, size in enumerate(sizes)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, ClassScores]:
        return self.items[index]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (stretched, ImageOps.autocontrast),
        (equalized, ImageOps.equalize),
        (lambda x: posterized(x, 3), lambda x: ImageOps.posterize(x, 3)),
        (lambda x: solarized(x, 100 / 255), lambda x: ImageOps.solarize(x, 100)),
        (lambda x: sharpened(x, 1.7), lambda x: ImageEnhance.Sharpness(x).enhance(1.7)),
        (lambda x: sharpened(x, 0.2), lambda x: ImageEnhance.Sharpness(x).enhance(0.2)),
    ],
)
def test_levels_are_those_of_pillow(ours: Any, theirs: Any) -> None:
    image = photo()
    expected = tensor(theirs(pillow(image))).int()
    found = ours(image)
    assert found.dtype == torch.uint8
    assert (found.int() - expected).abs().max() <= 2  # Pillow truncates
    assert (found.int() - image.int()).abs().float().mean() > 1
    as_float = ours(image / 255)
    assert as_float.dtype == torch.float32
    assert 0 <= as_float.min() <= as_float.max() <= 1
    if ours is not equalized:  # which ranks the values of float images
        assert (as_float * 255 - expected).abs().max() <= 2.5


def test_equalized_floats_are_spread_evenly_and_flat_images_stay() -> None:
    values = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(1)) ** 3
    found = equalized(values).flatten().sort().values
    torch.testing.assert_close(found, torch.linspace(0, 1, 1600), rtol=0, atol=2e-3)
    flat = torch.full((2, 8, 8), 77, dtype=torch.uint8)
    for change in (stretched, equalized):
        assert torch.equal(change(flat), flat)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_at_no_strength_changes_nothing_and_at_full_strength_what_the_paper_says(name: str) -> None:
    image, target = photo(), label_of(0)
    generator = np.random.default_rng(0)
    weak = OPERATIONS[name](0.0, 1.0)
    if name not in ("identity", "auto_contrast", "equalize"):
        assert torch.equal(weak(image, target, generator)[0], image)
    expected = {
        "contrast": lambda x: ImageEnhance.Contrast(x).enhance(1.9),
        "brightness": lambda x: ImageEnhance.Brightness(x).enhance(1.9),
        "colour": lambda x: ImageEnhance.Color(x).enhance(1.9),
        "sharpness": lambda x: ImageEnhance.Sharpness(x).enhance(1.9),
        "posterize": lambda x: ImageOps.posterize(x, 4),
        "solarize": ImageOps.invert,
        "rotate": lambda x: x.rotate(30, Image.Resampling.BILINEAR),
        "shear_x": lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, -0.3, 0.3 * 20, 0, 1, 0), Image.BILINEAR),
        "shear_y": lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, 0, 0, -0.3, 1, 0.3 * 25), Image.BILINEAR),
        "translate_x": lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, 0, -23, 0, 1, 0)),
        "translate_y": lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -18)),
    }.get(name)
    if expected is not None:
        found = OPERATIONS[name](1.0, 1.0)(image, target, generator)[0].int()
        wanted = tensor(expected(pillow(image))).int()
        inside = wanted.sum(0) > 0  # Pillow fills with black
        difference = (found - wanted).abs()[:, inside]
        assert inside.float().mean() > 0.4
        assert difference.float().mean() < 1.5
        assert (found - image.int()).abs().float().mean() > 1


def test_randaugment_draws_operations_uniformly_and_boxes_masks_and_keypoints_move_along() -> None:
    generator = np.random.default_rng(0)
    policy = RandAugment(n=3, magnitude=10)
    kinds = [type(own).__name__ + getattr(own, "kind", "") for _ in range(700) for own in policy.draw(generator)]
    assert 2100 * 13 / 14 * 0.96 < len(kinds) < 2100 * 13 / 14 * 1.04
    for kind in ("Movedrotate", "Movedshear_x", "Movedtranslate_y", "Solarize", "Equalize", "Posterize"):
        assert kinds.count(kind) == pytest.approx(150, abs=45)
    assert kinds.count("Toned") == pytest.approx(450, abs=70)

    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 20:40, 30:50] = True
    image = torch.where(mask, 250, 20).expand(3, -1, -1).to(torch.uint8)
    target = Instances(
        (60, 80),
        boxes=torch.tensor([[30.0, 20, 50, 40]]),
        labels=[0],
        masks=mask,
        keypoints=torch.tensor([[[40.0, 30.0, 2.0]]]),
    )
    whole = Compose([HorizontalFlip(0.5), policy], min_visible=0.01)
    moved = 0
    for seed in range(40):
        drawn = np.random.default_rng(seed)
        changed, found = whole(image, target, drawn)
        again = whole(image, target, np.random.default_rng(seed))
        assert torch.equal(changed, again[0])
        if not len(found):
            continue
        own = found.masks[0]
        rows, columns = own.any(1).nonzero(), own.any(0).nonzero()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        torch.testing.assert_close(found.boxes[0], torch.tensor(box).float(), rtol=0, atol=1.6)
        x, y, seen = found.keypoints[0, 0].tolist()
        if seen:
            assert own[int(y), int(x)]
        moved += not torch.equal(own, mask[0])
    assert moved > 20


def test_randaugment_resamples_once_with_the_geometry_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.data.transforms import compose

    calls: list[Any] = []
    warp = compose.warp_image
    monkeypatch.setattr(compose, "warp_image", lambda *given: calls.append(given) or warp(*given))
    operations = {name: OPERATIONS[name] for name in ("rotate", "shear_x", "solarize")}
    monkeypatch.setattr(module, "OPERATIONS", operations)
    whole = recipes.named("resized_crops+randaugment+erasing").bind(Plain(), (32, 32))
    for seed in range(10):
        calls.clear()
        image, target = whole(photo(), label_of(1), np.random.default_rng(seed))
        assert len(calls) <= 1
        assert image.shape == (3, 32, 32)
        assert target.label == 1


def test_random_erasing_is_the_paper_s() -> None:
    image, target = torch.zeros(1, 60, 100, dtype=torch.uint8), ClassScores((60, 100), 0)
    erased, areas = 0, []
    for seed in range(300):
        changed, same = RandomErasing(0.5)(image, target, np.random.default_rng(seed))
        assert same is target
        marked = (changed[0] != 0).nonzero()
        if len(marked):
            erased += 1
            (top, left), (bottom, right) = marked.amin(0).tolist(), (marked.amax(0) + 1).tolist()
            areas.append((bottom - top) * (right - left) / 6000)
            assert 0.25 < (right - left) / (bottom - top) < 4
            inside = changed[0, top:bottom, left:right].float()
            if inside.numel() > 400:
                assert inside.mean() == pytest.approx(127.5, abs=15)
    assert erased == pytest.approx(150, abs=30)
    assert min(areas) > 0.01
    assert max(areas) < 0.42
    assert np.mean(areas) == pytest.approx(0.2, abs=0.03)
    assert not image.any()


def test_random_erasing_inside_boxes_and_of_class_maps() -> None:
    image = torch.zeros(3, 60, 100)
    boxes = torch.tensor([[10.0, 10, 40, 40], [60, 5, 90, 55]])
    target = Instances((60, 100), boxes=boxes, labels=[0, 1], crowd=[False, True])
    policy = RandomErasing(1.0, area=(0.1, 0.2))
    changed, found = policy(image, target, np.random.default_rng(3))
    assert found is target
    inside = changed[0, 10:40, 10:40] != 0
    assert 0.05 < inside.float().mean() < 0.6
    alone = RandomErasing(1.0, area=(0.1, 0.2), inside=False)
    counts = [int((p(image, target, np.random.default_rng(3))[0][0] != 0).sum()) for p in (policy, alone)]
    assert counts[0] > counts[1]
    small = Instances(
        (60, 100), boxes=torch.tensor([[float(x), 25, x + 5, 30] for x in range(0, 90, 10)]), labels=[0] * 9
    )
    hidden = 0
    for seed in range(20):
        changed, found = RandomErasing(1.0, area=(0.3, 0.4), inside=False)(image, small, np.random.default_rng(seed))
        seen = [bool((changed[0, 25:30, x : x + 5] == 0).float().mean() >= 0.3) for x in range(0, 90, 10)]
        assert found.boxes[:, 0].tolist() == [x for x, kept in zip(range(0, 90, 10), seen, strict=True) if kept]
        hidden += seen.count(False)
    assert hidden > 10
    maps = ClassMap(torch.ones(60, 100, dtype=torch.int64))
    changed, erased = policy(image, maps, np.random.default_rng(4))
    assert torch.equal(erased.labels == IGNORE, (changed != 0).any(0))
    assert (erased.labels == IGNORE).any()
    assert (maps.labels == 1).all()
    with pytest.raises(InputError, match=r"area is \(0.5, 2\), but must be \(low, high\) with 0 < low ≤ high ≤ 1"):
        RandomErasing(area=(0.5, 2))


def test_random_erasing_of_boxes_that_leave_the_image() -> None:
    """They are clipped to the image, as all augmentations do, instead of erasing pixels beyond it."""
    boxes = torch.tensor([[-8.0, -5, 12, 14], [20, 10, 45, 33], [40, 5, 50, 15]])
    target = Instances((20, 30), boxes=boxes, labels=[0, 1, 2])
    for seed in range(5):
        changed, found = RandomErasing(1.0)(torch.zeros(3, 20, 30), target, np.random.default_rng(seed))
        assert changed.any()
        expected = [[0.0, 0, 12, 14], [20, 10, 30, 20]]
        assert found.boxes.tolist() == [expected[label] for label in found.labels.tolist()]
        assert len(found)


def test_mixup_blends_pixels_and_classes_alike() -> None:
    data = Plain()
    policy = MixUp(p=1.0).bind(data, None)
    shares = []
    for seed in range(200):
        image, target = policy(*data[0], np.random.default_rng(seed))
        assert target.label is None
        assert image.shape == (3, 40, 50)  # the other image is resized
        assert target.scores.sum() == pytest.approx(1)
        expected = (target.scores * torch.tensor([60.0, 120, 180])).sum()
        assert image.float().mean() == pytest.approx(float(expected), abs=0.6)
        shares.append(float(target.scores[0]))
    sure = np.mean([share < 0.05 or share > 0.95 for share in shares])
    assert sure > 0.5  # Beta(0.2, 0.2) is mostly close to 0 or 1
    assert np.mean(shares) == pytest.approx(1 / 3 + 2 / 3 * 0.5, abs=0.08)
    soft = ClassScores((40, 50), scores=torch.tensor([0.5, 0.25, 0.25]), classes=NAMES)
    _, again = policy(data[0][0], soft, np.random.default_rng(1))
    assert again.scores.sum() == pytest.approx(1)


def test_cutmix_counts_its_pixels() -> None:
    data = Plain()
    policy = CutMix().bind(data, None)
    shares = []
    for seed in range(300):
        image, target = policy(*data[0], np.random.default_rng(seed))
        counted = torch.tensor([(image[0] == value).float().mean() for value in (60, 120, 180)])
        torch.testing.assert_close(target.scores, counted, rtol=0, atol=1e-5)
        other = (image[0] != 60).nonzero()
        if len(other):
            (top, left), (bottom, right) = other.amin(0), other.amax(0) + 1
            assert (bottom - top) * (right - left) == len(other)  # one rectangle
            if top > 0 and left > 0 and bottom < 40 and right < 50:
                assert abs((right - left) / 50 - (bottom - top) / 40) < 0.06
            shares.append(len(other) / 2000)
    assert max(shares) > 0.8
    assert min(shares) < 0.05
    assert (data[0][0] == 60).all()


def test_only_whole_image_labels_are_cut_and_maps_are_not_mixed() -> None:
    objects = Instances((40, 50), boxes=torch.zeros(0, 4), labels=[], source="a.png")
    with pytest.raises(InputError, match=r"a\.png is of type Instances, but cutmix requires one class per image"):
        CutMix()(photo(), objects, np.random.default_rng(0))
    maps = ClassMap(torch.zeros(40, 50, dtype=torch.int64))
    sentence = "is of type ClassMap, but mixing images requires objects with boxes or one class"
    with pytest.raises(InputError, match=sentence):
        MixUp(p=1.0)(photo(), maps, np.random.default_rng(0))
    with pytest.raises(InputError, match="has a label without class names"):
        MixUp(p=1.0)(photo(), ClassScores((40, 50), 1), np.random.default_rng(0))


def test_names_join_a_recipe_and_policies() -> None:
    whole = recipes.named("resized_crops+randaugment+erasing+mixup+cutmix", mirror=False)
    (choice,) = whole.transforms
    assert isinstance(choice, OneOf)
    assert [type(own) for own in choice.augmentations] == [MixUp, CutMix]
    inner = choice.augmentations[0].augmentation
    kinds = [type(own).__name__ for own in inner.transforms]
    assert kinds == ["HorizontalFlip", "VerticalFlip", "RandomResizedCrop", "RandAugment", "Colour", "RandomErasing"]
    assert whole.combines
    assert not whole.mirrors
    mosaic = recipes.named("erasing+mosaic")
    assert mosaic.closing == 0.15
    assert [type(own).__name__ for own in mosaic.closed().transforms] == ["Compose", "Colour", "RandomErasing"]
    assert recipes.named("randaugment").transforms == (RandAugment(),)
    assert recipes.named("turns").transforms == (QuarterTurn(),)
    assert recipes.completed("randaugment+cutmix", "light+mixup") == "light+randaugment+cutmix"
    assert recipes.completed("light+cutmix", "strong") == "light+cutmix"
    for wrong, sentence in (
        ("light+randaug", "unknown augmentation recipe 'randaug'; choose one of none, light, .*, and add to it any of"),
        ("light+strong", "has several recipes; give one of"),
        ("light+mixup+mixup", "has a name twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            recipes.named(wrong)


def test_turns_follow_the_recipe_and_reach_all_four_directions() -> None:
    """The brightest corner of an image is equally often each of the four; its box moves along."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[:, :8, :8] = 255
    target = Instances((32, 32), boxes=torch.tensor([[0.0, 0.0, 8.0, 8.0]]), labels=torch.tensor([0]))
    whole = recipes.named("none+turns")
    counts: Counter[tuple[int, int]] = Counter()
    for seed in range(400):
        turned, moved = whole(image, target, np.random.default_rng(seed))
        x1, y1, x2, y2 = moved.boxes[0].round().int().tolist()
        assert (turned[:, y1:y2, x1:x2] == 255).all()
        assert int((turned == 255).sum()) == 3 * 64
        counts[x1, y1] += 1
    assert set(counts) == {(0, 0), (24, 0), (0, 24), (24, 24)}
    assert min(counts.values()) >= 70  # 100 expected, standard deviation 9


def test_soft_targets_train_a_classifier_with_soft_cross_entropy() -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", NAMES, image_size=32, label_smoothing=0.1).eval()
    soft = ClassScores((40, 50), scores=torch.tensor([0.7, 0.3, 0.0]), classes=NAMES)
    images, targets = [photo(seed=1), photo(seed=2)], [soft, label_of(2)]
    loss = model(images, targets)["loss_classification"]
    logs = model.network(model.prepare(images, None)[0].tensor).log_softmax(1)
    truth = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    smoothed = 0.9 * truth + 0.1 / 3
    expected = -sum(smoothed[i, k] * logs[i, k] for i in range(2) for k in range(3)) / 2
    torch.testing.assert_close(loss, expected)
    assert stacked_targets([1, 2], 3).tolist() == [1, 2]
    wrong = ClassScores((40, 50), scores=torch.tensor([0.7, 0.7, 0.0]), classes=NAMES, source="b.png")
    with pytest.raises(InputError, match=r"b\.png has no label and its scores are not probabilities of 3 classes"):
        model(images, [wrong, wrong])


def test_a_loader_mixes_by_its_seed_and_validation_does_not() -> None:
    data, size = Plain(), (16, 16)
    policy = recipes.named("resized_crops+cutmix")

    def targets(transform: Any, seed: int) -> list[Any]:
        order = EpochBatches(3, 3, seed)
        (batch,) = make_loader(data, order, transform, 0, size=size)
        images, found = batch.to("cpu")
        return [(image, target) for image, target in zip(images, found, strict=True)]

    first, again, other = targets(policy, 0), targets(policy, 0), targets(policy, 1)
    assert all(
        torch.equal(a, b) and torch.equal(s.scores, t.scores) for (a, s), (b, t) in zip(first, again, strict=True)
    )
    assert not all(torch.equal(a[1].scores, b[1].scores) for a, b in zip(first, other, strict=True))
    assert all(image.shape == (3, *size) for image, _ in first)
    assert all(target.label is not None for _, target in targets(None, 0))


def test_the_picture_names_both_classes(tmp_path: Path) -> None:
    soft = ClassScores((40, 50), scores=torch.tensor([0.7, 0.3, 0.0]), classes=NAMES)
    hard = label_of(0)
    rows = [draw(photo(), target, size=120).height - draw(photo(), hard, size=120).height for target in (soft, hard)]
    full = ClassScores((40, 50), scores=torch.tensor([0.6, 0.3, 0.1]), classes=NAMES)
    assert rows[1] == 0
    assert draw(photo(), full, size=120).height - draw(photo(), soft, size=120).height == rows[0]  # one row per class
    data = sl.scenes(6, 48, kind="class_scores")
    sheets = [
        np.array(sl.contact_sheet(data, name, n=4)) for name in ("resized_crops", "cutmix", "randaugment+erasing")
    ]
    assert not np.array_equal(sheets[0].shape, sheets[1].shape) or not np.array_equal(sheets[0], sheets[1])
    assert sheets[0].shape == sheets[2].shape
    assert not np.array_equal(sheets[0], sheets[2])


def test_a_crop_of_its_own_size_is_mixed_with_another(tmp_path: Path) -> None:
    policy = MixUp(Compose([RandomResizedCrop()]), p=1.0).bind(Plain(), None)
    image, target = policy(*Plain()[2], np.random.default_rng(0))
    assert image.shape[1:] == target.image_size
