"""The table of fields: what is documented is what is checked, and a field of one's own goes wherever its objects go."""

from __future__ import annotations

import json
import pickle

import kornia.augmentation as kornia
import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.transforms import (
    Compose,
    HorizontalFlip,
    Kornia,
    MixUp,
    Mosaic,
    QuarterTurn,
    RandomCrop,
    Resize,
    Rotate,
    ScaleJitter,
    VerticalFlip,
    recipes,
)
from sightline.data.transforms.mosaic import joined
from sightline.deploy.writers.detection import entries_of
from sightline.errors import InputError
from sightline.evaluation.packed import PackedInstances, pack
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.models.preprocess import Preprocess
from sightline.ops.geometry import GEOMETRIES, place_instances, resize_target
from sightline.report.draw_objects import DRAWN
from sightline.structures import Instances, fields
from sightline.structures.fields import FIELDS, Field
from sightline.training.guard import as_dict

SIZE = (80, 120)
OWN = (
    Field("velocity", (2,), geometry="vectors", drawn="vectors", meaning="pixels per frame"),
    Field("tags", None, "str", drawn="text", meaning="words about the object"),
    Field("whole", (4,), geometry="boxes", meaning="the box with what is hidden"),
    Field("tips", (2, 3), geometry="points", meaning="two points without sides"),
    Field("heat", ("H", "W"), geometry="pixels", meaning="degrees at each pixel"),
)


@pytest.fixture(autouse=True)
def own_fields():
    known = dict(FIELDS)
    for field in OWN:
        fields.add(field)
    yield
    FIELDS.clear()
    FIELDS.update(known)


def objects(boxes: list[list[float]], first: int = 0) -> Instances:
    """Objects whose velocity leads from the middle of their box to its second corner, where their first tip is."""
    xyxy = torch.tensor(boxes).reshape(-1, 4)
    count = len(xyxy)
    tips = torch.cat([xyxy.view(-1, 2, 2).flip(1), torch.full((count, 2, 1), 2.0)], -1)
    heat = torch.zeros(count, *SIZE)
    for number, (x1, y1, x2, y2) in enumerate(xyxy.int().tolist()):
        heat[number, y1:y2, x1:x2] = number + 1.5
    return Instances(
        SIZE,
        boxes=xyxy,
        labels=[0] * count,
        velocity=(xyxy[:, 2:] - xyxy[:, :2]) / 2,
        tags=[[f"object {first + i}", "blue"] for i in range(count)],
        whole=xyxy + torch.tensor([-2.0, -3.0, 4.0, 5.0]),
        tips=tips,
        heat=heat,
    )


TWO = [[20.0, 16.0, 44.0, 40.0], [64.0, 30.0, 100.0, 60.0]]
IMAGE = torch.zeros(3, *SIZE, dtype=torch.uint8)


def rows(table: str) -> list[list[str]]:
    lines = table.splitlines()
    rules = [i for i, line in enumerate(lines) if line.strip().startswith("=====")]
    starts = [i for i, c in enumerate(lines[rules[0]]) if c == "=" and (i == 0 or lines[rules[0]][i - 1] == " ")]
    ends = [*starts[1:], None]
    return [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines[rules[1] + 1 : rules[2]]]


def test_the_documentation_is_the_table():
    own = {field.name for field in OWN}
    known = [[f.name, f.form, f.meaning] for f in FIELDS.values() if f.name not in own]
    assert rows(Instances.__doc__ or "") == known
    assert len(known) == 16


def test_rows_name_what_there_is():
    for field in FIELDS.values():
        assert field.geometry in GEOMETRIES, field.name
        assert field.drawn in ("", *DRAWN), field.name
        assert field.dtype in ("float", "int64", "bool") or field.shape is None, field.name
    assert len({field.packed for field in FIELDS.values()}) == len(FIELDS)


def test_a_name_is_given_once():
    with pytest.raises(InputError, match="there is a field 'velocity' already \\(pixels per frame\\); choose another"):
        fields.add(Field("velocity", (2,)))


def test_rows_that_say_what_there_is_not(monkeypatch):
    with pytest.raises(InputError, match="field 'speed' has dtype 'int32', but it must be one of float, int64, bool"):
        Field("speed", dtype="int32")
    assert Field("notes", None, "int32").form == "list of N int32"
    for wrong in ("speed", Field("not a name"), Field("")):
        with pytest.raises(InputError, match="a Field whose name is a Python identifier, not"):
            fields.add(wrong)
    monkeypatch.setitem(FIELDS, "speed", Field("speed", geometry="nowhere"))
    objects = Instances((8, 8), boxes=[[1.0, 1, 4, 4]], labels=[0], speed=[1.0])
    with pytest.raises(InputError, match="field 'speed' has geometry 'nowhere', but it must be one of none, boxes"):
        HorizontalFlip(1.0)(torch.zeros(3, 8, 8), objects, np.random.default_rng(0))


def test_own_fields_are_checked_and_made_to_their_type():
    made = Instances(SIZE, boxes=[[0, 0, 2, 2]], labels=[0], velocity=[[1, 2]])
    assert made.velocity.dtype == torch.float32
    assert Instances(SIZE, boxes=[], labels=[], velocity=[]).velocity.shape == (0, 2)
    with pytest.raises(InputError, match=r"velocity must have shape \[any, 2\], not \[1, 3\]"):
        Instances(SIZE, boxes=[[0, 0, 2, 2]], labels=[0], velocity=[[1, 2, 3]])


def coherent(target: Instances, whole_boxes: bool = True, slack: float = 1.01) -> None:
    """Every field still says of the object what `objects` made it say."""
    centres = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    assert torch.allclose(target.tips[:, 0, :2], centres + target.velocity, atol=2e-3)
    assert torch.allclose(target.tips[:, 1, :2], centres - target.velocity, atol=2e-3)
    for number, word in enumerate(int(tags[0].split()[1]) for tags in target.tags):
        assert target.tags[number][1] == "blue"
        warm = target.heat[number] > 0
        assert set(target.heat[number].unique().tolist()) == {0.0, word % 10 + 1.5}
        if whole_boxes:  # of axis-aligned moves
            ys, xs = warm.nonzero().unbind(1)
            seen = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
            assert torch.allclose(torch.tensor(seen).float(), target.boxes[number], atol=slack)
        assert bool((target.whole[number, :2] < target.boxes[number, :2] + 1e-3).all())
        assert bool((target.whole[number, 2:] > target.boxes[number, 2:] - 1e-3).all())


@pytest.mark.parametrize(
    ("name", "transform"),
    {
        "flip": HorizontalFlip(1),
        "upside down": VerticalFlip(1),
        "quarter": QuarterTurn(1),
        "resize": Resize((40, 90)),
        "jitter": ScaleJitter((0.5, 0.8)),
        "crop": RandomCrop(110),
        "turn": Rotate(20, expand=True),
        "kornia flip": Kornia(kornia.RandomHorizontalFlip(p=1.0)),
        "kornia affine": Kornia(kornia.RandomAffine(10, scale=(0.7, 0.8), p=1.0)),
    }.items(),
)
def test_own_fields_follow_their_objects(name, transform):
    before = objects(TWO)
    for seed in range(5):
        _, after = transform(IMAGE, before, np.random.default_rng(seed))
        assert set(after.fields) == set(before.fields)
        assert after.heat.shape[1:] == after.image_size
        assert len(after) == 2 or name == "crop"
        straight = "turn" not in name and "affine" not in name
        complete = [i for i in range(len(after)) if not clipped(after, i)]
        coherent(after[complete], straight)


def clipped(target: Instances, i: int) -> bool:
    """Whether the box touches the border, where it may have been cut, or a tip is beyond it."""
    height, width = target.image_size
    x1, y1, x2, y2 = target.boxes[i].tolist()
    return min(x1, y1, width - x2, height - y2) < 1 or not bool((target.tips[i, :, 2] > 0).all())


def test_numbers_of_a_flip_and_a_turn():
    before = objects([TWO[0]])
    _, flipped = HorizontalFlip(1)(IMAGE, before, np.random.default_rng(0))
    assert flipped.velocity.tolist() == [[-12, 12]]
    assert flipped.whole.tolist() == [[120 - 48, 13, 120 - 18, 45]]
    assert flipped.tips[0].tolist() == [[76, 40, 2], [100, 16, 2]]
    assert torch.equal(flipped.heat, before.heat.flip(-1))
    matrix = np.array([[0.8, -0.2, 20], [0.1, 0.9, 1], [0, 0, 1]])

    class Fixed(HorizontalFlip):
        def step(self, view, generator):
            return matrix, SIZE

    _, moved = Fixed()(IMAGE, before, np.random.default_rng(0))
    naive = matrix[:2, :2] @ np.array([12.0, 12.0])
    assert np.allclose(moved.velocity[0].numpy(), naive, atol=1e-4)


@pytest.mark.parametrize("augmentation", ["mosaic", "mix-up", "both"])
def test_own_fields_survive_pictures_of_several(augmentation):
    items = [(IMAGE, objects(TWO, first=10 * i)) for i in range(4)]
    tiles = Mosaic(scale=(0.4, 0.6), flip=0.5, vertical_flip=0.5)
    pieces = {"mosaic": tiles, "mix-up": MixUp(None, 1.0), "both": MixUp(tiles, 1.0)}
    bound = Compose([pieces[augmentation]]).bind(items, (100, 150))
    seen = 0
    for seed in range(4):
        _, joined = bound(*items[0], np.random.default_rng(seed))
        assert set(joined.fields) == set(items[0][1].fields)
        complete = [i for i in range(len(joined)) if not clipped(joined, i)]
        for i in complete:
            one = joined[[i]]
            xs = (one.heat[0] > 0).nonzero()[:, 1]
            if abs(int(xs.max() - xs.min()) + 1 - float(one.boxes[0, 2] - one.boxes[0, 0])) < 1.01:
                coherent(one, False)  # the tile did not cut it
                seen += 1
    assert seen > 8


def test_a_field_that_only_some_images_have():
    plain = Instances(SIZE, boxes=[TWO[0]], labels=[0])
    told = plain.replace(tags=[["a"]], velocity=torch.ones(1, 2), scores=torch.ones(1), crowd=torch.tensor([True]))
    for parts in ([plain, told], [told, plain]):
        both = joined(parts)
        assert set(both.fields) == {"boxes", "labels", "crowd"}
        assert sorted(both.crowd.tolist()) == [False, True]


def test_masks_are_a_field_where_there_are_outlines():
    bare = Instances(SIZE, boxes=TWO, labels=[0, 0])
    with pytest.raises(InputError, match="the dataset has no field 'masks'; it has boxes, labels"):
        sl.Dataset.from_instances([IMAGE], [bare], ["thing"]).with_fields("masks")
    drawn = bare.replace(masks=objects(TWO).heat > 0)
    kept = sl.Dataset.from_instances([IMAGE] * 2, [bare, drawn], ["thing"]).with_fields("masks")
    assert not kept.target(0).masks.any()
    assert torch.equal(kept.target(1).masks, drawn.masks)


def test_resizing_and_letterboxes():
    before = objects(TWO)
    half = resize_target(before, (0.5, 0.25), (20, 60))
    assert half.velocity.tolist() == (before.velocity * torch.tensor([0.5, 0.25])).tolist()
    assert half.whole[0].tolist() == [9, 3.25, 24, 11.25]
    assert half.heat.shape == (2, 20, 60)
    assert set(half.heat.unique().tolist()) == {0.0, 1.5, 2.5}
    coherent(half)
    batch, moved = Preprocess(fixed_size=(160, 120), divisor=1)([IMAGE], [before])
    assert batch.sizes == [(160, 120)]
    coherent(moved[0])
    _, (boxed,) = DarknetPreprocess(3, (96, 96))([IMAGE], [before])
    assert boxed.image_size == (96, 96)
    assert boxed.heat.shape == (2, 96, 96)
    coherent(boxed, slack=2.01)  # resized twice, to the nearest pixel
    placed = place_instances(before, (7, 3), (100, 140))
    assert placed.whole[0].tolist() == [25, 16, 55, 48]
    assert placed.velocity.tolist() == before.velocity.tolist()
    coherent(placed)


def test_areas_and_whole_numbers_are_resized_too():
    target = Instances(SIZE, boxes=[TWO[0]], labels=[0], areas=[100.0])
    assert resize_target(target, (0.5, 0.25), (20, 60)).areas.tolist() == [12.5]
    numbers = GEOMETRIES["pixels"].resized(torch.tensor([[[1, 1000], [-7, 2**40]]]), (2.0, 2.0), (4, 4))
    assert numbers.dtype == torch.int64
    assert numbers[0, ::2, ::2].tolist() == [[1, 1000], [-7, 2**40]]


def test_points_without_sides_keep_their_order_in_a_mirror():
    before = objects([TWO[0]]).replace(keypoints=torch.tensor([[[30.0, 20, 2], [40, 20, 2], [35, 30, 2]]]))
    _, after = Compose([HorizontalFlip(1)], keypoint_swap=(1, 0, 2))(IMAGE, before, np.random.default_rng(0))
    assert after.tips[0, :, 0].tolist() == [76, 100]
    assert after.keypoints[0, :, 0].tolist() == [80, 90, 85]


def test_fields_of_the_scene_stop_a_flip_only_where_there_are_objects():
    empty = Instances(SIZE, boxes=[], labels=[], cuboids=[])
    assert len(HorizontalFlip(1)(IMAGE, empty, np.random.default_rng(0))[1]) == 0
    with pytest.raises(InputError, match="has cuboids, which are in metres"):
        HorizontalFlip(1)(IMAGE, objects(TWO).replace(cuboids=torch.zeros(2, 9)), np.random.default_rng(0))


def test_masks_of_images_without_objects_turn():
    empty = Instances(SIZE, boxes=[], labels=[], masks=torch.zeros(0, *SIZE))
    image, turned = Rotate((20, 20), expand=True)(IMAGE, empty, np.random.default_rng(0))
    assert turned.masks.shape == (0, *image.shape[1:])
    cut = Kornia(kornia.RandomCrop((40, 50), p=1.0))(IMAGE, empty, np.random.default_rng(0))[1]
    assert cut.masks.shape == (0, 40, 50)


def test_packed_pickled_and_as_a_dict():
    target = objects(TWO).replace(masks=objects(TWO).heat > 0)
    kept = PackedInstances([target])
    assert "masks" not in kept.packed[0]
    again = kept[0]
    assert torch.equal(again.masks, target.masks)
    for other in (again, pickle.loads(pickle.dumps(target))):
        assert other.tags == target.tags
        assert torch.equal(other.velocity, target.velocity)
        assert torch.equal(other.heat, target.heat)
    assert as_dict(target)["tags"] == target.tags
    assert pack(sl.ClassScores((4, 4), 1)).label == 1


def test_own_fields_are_written_and_read_again(tmp_path):
    named = Instances(SIZE, classes=sl.Classes(["thing"]), **objects(TWO).fields)
    target = named.replace(scores=torch.tensor([0.5, 0.25]))
    entries = list(entries_of(target))
    assert entries[0]["velocity"] == [12.0, 12.0]
    assert entries[1]["tags"] == ["object 1", "blue"]
    assert entries[0]["score"] == 0.5
    assert "boxes" not in entries[0]
    Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    (tmp_path / "predictions.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png", "width": SIZE[1], "height": SIZE[0]}],
                "categories": [{"id": 1, "name": "thing"}],
                "annotations": [{"id": i, "image_id": 1, **entry} for i, entry in enumerate(entries)],
            }
        )
    )
    read = sl.open_dataset(tmp_path).with_fields("velocity", "tags", "tips", "whole").target(0)
    assert torch.equal(read.velocity, target.velocity)
    assert read.tags == target.tags
    assert torch.equal(read.tips, target.tips)
    assert torch.equal(read.whole, target.whole)
    kept = sl.Dataset.from_instances([IMAGE], [objects(TWO)], ["thing"]).with_fields("velocity", "tags", "tips")
    assert kept.target(0).tags == target.tags
    assert torch.equal(kept.target(0).tips, target.tips)
    sl.convert(kept, tmp_path / "coco", "coco")
    again = sl.open_dataset(tmp_path / "coco").with_fields("velocity", "tags", "tips").target(0)
    assert again.tags == target.tags
    assert torch.equal(again.tips, target.tips)
    for epoch in range(3):
        bound = recipes.named("strong").bind(kept, None)
        _, moved = bound(*kept[0], np.random.default_rng(epoch))
        assert len(moved.tags) == len(moved.velocity) == len(moved)


def test_own_fields_are_drawn():
    bare = Instances(SIZE, boxes=[TWO[0]], labels=[0], classes=sl.Classes(["thing"]))
    still = np.asarray(sl.draw(IMAGE, bare, names=False))
    told = np.asarray(sl.draw(IMAGE, bare.replace(velocity=torch.tensor([[50.0, 20.0]])), names=False))
    changed = (still != told).any(2)
    assert changed[28 + 20, 32 + 50]  # the tip, beyond the box
    assert changed[28 + 10, 32 + 25]  # on the way
    assert not changed[:26].any()
    worded = np.asarray(sl.draw(IMAGE, bare.replace(tags=[["odd"]]), names=False))
    assert (worded != still).any()


def test_unknown_fields_stay_with_their_objects():
    target = Instances(SIZE, boxes=TWO, labels=[0, 0], anything=torch.tensor([7, 8]), words=["a", "b"])
    _, moved = Compose([HorizontalFlip(1), RandomCrop(60)])(IMAGE, target, np.random.default_rng(1))
    assert len(moved.anything) == len(moved.words) == len(moved)
    assert dict(zip(moved.words, moved.anything.tolist(), strict=True)).items() <= {"a": 7, "b": 8}.items()
    assert "anything" not in next(entries_of(target))
