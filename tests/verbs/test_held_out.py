"""A model is measured on images that it was not trained on, whatever way the data is opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.fingerprint import ImageKeys
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.structures import Instances
from sightline.training import trained_on
from sightline.training.trained_on import TrainedOn
from sightline.verbs.held_out import select_images
from sightline.verbs.parts import training_and_validation


class Finder(Model):
    """Answers with one box an image; which images it was asked about is in the names of the results."""

    task = "detection"

    def __init__(self):
        super().__init__(["dot"], Preprocess())

    def forward(self, images):
        return [
            Instances(i.shape[-2:], classes=self.classes, boxes=[[2, 2, 6, 6]], labels=[0], scores=[0.9])
            for i in images
        ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty different pictures in YOLO's layout, without splits."""
    root = tmp_path_factory.mktemp("held_out") / "photos"
    generator = np.random.default_rng(0)
    for number in range(20):
        write(root, f"{number:02d}", generator)
    (root / "classes.txt").write_text("dot\n")
    return root


def write(root: Path, name: str, generator: np.random.Generator) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / "images" / f"{name}.png")
    (root / "labels" / f"{name}.txt").write_text("0 0.25 0.25 0.25 0.25\n")


def trained(path: Path, seed: int = 0) -> tuple[Finder, dict[str, set[str]]]:
    """A model with the record of a training on the data, and the names of its parts."""
    model, sayings = Finder(), []
    data, validation = training_and_validation(sl.open_dataset(path), None, seed, None, sayings)
    assert sayings == [f"no splits found: 80 % for training, 10 % for validation, 10 % for testing, with seed {seed}"]
    known = trained_on.record(data, validation, model)
    model.metadata = {trained_on.KEY: known.to_dict(), "recipe": {"seed": seed}}
    parts = sl.open_dataset(path).split(0.8, 0.1, 0.1, seed)  # the same division, whoever makes it
    return model, {split: names(parts[split]) for split in parts.splits}


def names(data) -> set[str]:
    return {Path(data.name(i)).stem for i in range(len(data))}


def measured(model, data, **options) -> tuple[set[str], list[str]]:
    result = sl.evaluate(model, data, progress=False, **options)
    return {Path(name).stem for name in result.names}, result.notes


@pytest.mark.parametrize("seed", [0, 3])
def test_the_kept_part_is_measured_whatever_the_way(photos, tmp_path, seed):
    model, parts = trained(photos, seed)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [16, 2, 2]
    link, copy, renamed = tmp_path / "link", tmp_path / "copy", tmp_path / "renamed"
    link.symlink_to(photos)
    shutil.copytree(photos, copy)
    shutil.copytree(photos, renamed)
    for folder, suffix in (("images", "png"), ("labels", "txt")):
        for path in sorted((renamed / folder).iterdir()):
            path.rename(path.with_name(f"photo-{path.stem}.{suffix}"))
    converted = sl.convert(photos, tmp_path / "coco", "coco")
    for data in (None, photos, str(photos), sl.open_dataset(photos), link, copy, converted):
        found, notes = measured(model, data)
        assert found == parts["test"]
        assert notes == []
    assert {name.removeprefix("photo-") for name in measured(model, renamed)[0]} == parts["test"]
    assert measured(model, photos, split="val")[0] == parts["val"]


def test_images_added_since_move_nothing(photos, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    model, parts = trained(data)
    generator = np.random.default_rng(9)
    for name in ("a", "05b", "z"):
        write(data, name, generator)
    found, notes = measured(model, data)
    assert found == parts["test"]
    assert notes == ["3 images are new since the training and left out"]


def test_all_images_are_measured_when_asked_for_and_the_result_says_so(photos):
    model, parts = trained(photos)
    data = sl.open_dataset(photos)
    for found, notes in (measured(model, data[:]), measured(model, photos, split="all")):
        assert len(found) == 20
        assert notes[0].startswith("the model was trained on 16 of the 20 images: these metrics show how well it")
    result = sl.evaluate(model, photos, split="train", progress=False)
    assert "Note: the model was trained on all 16 images" in str(result)
    assert result.to_dict()["measured"] == {"data": str(photos), "split": "train"}
    assert names(data[:]) == set.union(*parts.values())


def test_a_split_of_other_data_that_was_trained_on_is_left_out_or_refused(photos, tmp_path):
    model, parts = trained(photos)
    divided = sl.convert(sl.open_dataset(photos).split(0.5, 0, 0.5, seed=4), tmp_path / "divided", "coco")
    test = names(sl.open_dataset(divided)["test"])
    found, notes = measured(model, divided)
    assert found == test - parts["train"]
    assert notes[0] == f"{len(test & parts['train'])} images of test that the model was trained on are left out"
    both = found & parts["val"]  # of those that are measured, some chose the best epoch
    assert both
    assert both != found
    assert notes[1:] == [f"the best epoch was chosen on {len(both)} of them"]
    model.metadata["recipe"]["keep"] = "last"  # which left only the minimum score to choose
    model.metadata.pop("threshold", None)
    assert measured(model, divided)[1][1:] == []  # nor that
    model.metadata["threshold"] = 0.5
    assert measured(model, divided)[1][1:] == [f"the minimum score was chosen on {len(both)} of them"]
    seen = sl.open_dataset(photos).split(0.8, 0.1, 0.1, seed=0)["train"]
    only = sl.convert(seen[:8], tmp_path / "seen", "yolo")
    with pytest.raises(InputError, match=r"trained on all of these images \(8\).*--split all \(in Python"):
        measured(model, only)


def test_new_images_of_partly_known_data_and_other_data(photos, tmp_path):
    model, parts = trained(photos)
    seen = sl.open_dataset(photos).split(0.8, 0.1, 0.1, seed=0)["train"]
    mixed = sl.convert(seen[:4], tmp_path / "mixed", "yolo")
    folder = next(path.parent for path in mixed.rglob("*.png"))
    other = tmp_path / "other"
    generator = np.random.default_rng(2)
    for name in ("00", "new"):
        write(other, name, generator)
    for name in ("one", "two"):
        Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    found, notes = measured(model, mixed)
    assert found == {"one", "two"}
    assert notes == ["4 images that the model was trained on are left out"]
    (other / "classes.txt").write_text("dot\n")
    found, notes = measured(model, other)
    assert found == {"00", "new"}
    expected = "1 of the 2 images has the name of a training image, but other content" if "00" in parts["train"] else ""
    assert [note[: len(expected)] for note in notes] == ([expected] if expected else [])


def test_a_model_without_a_record_is_not_measured_on_everything_by_accident(photos):
    model = Finder()
    assert len(measured(model, photos)[0]) == 20  # it was never trained
    model.metadata = {"recipe": {"seed": 3}}  # a run of an earlier version
    with pytest.raises(InputError, match=r"does not say which images it was trained on.*--split test divides it"):
        measured(model, photos)
    found, notes = measured(model, photos, split="test")
    assert found == names(sl.open_dataset(photos).split(0.8, 0.1, 0.1, seed=3)["test"])
    assert "divided again by seed 3" in notes[0]
    assert len(measured(model, photos, split="all")[0]) == 20


def test_earlier_training_counts(photos):
    model, parts = trained(photos)
    second, sayings = training_and_validation(sl.open_dataset(photos), None, 5, None, []), []
    known = trained_on.record(*second, model)
    assert len(known.earlier) == 16
    model.metadata = {trained_on.KEY: known.to_dict()}
    test = names(sl.open_dataset(photos).split(0.8, 0.1, 0.1, seed=5)["test"])
    chosen = select_images(model, sl.open_dataset(photos))
    assert names(chosen.part) == test
    both = len(test & parts["train"])
    assert both
    assert any(f"trained on {'all' if both == 2 else '1 of the'} 2 images" in note for note in chosen.notes)
    assert sayings == []


def test_the_record_comes_back_from_json_and_damage_is_one_sentence(photos):
    model, _ = trained(photos)
    values = model.metadata[trained_on.KEY]
    known = TrainedOn.from_dict(values)
    assert known.to_dict() == values
    assert known.division == {"seed": 0, "shares": {"train": 0.8, "val": 0.1, "test": 0.1}}
    for damaged in (
        5,
        {},
        values | {"parts": 3},
        values | {"earlier": None},
        values | {"parts": {"train": {"contents": "!", "places": "", "names": ""}}},
        values | {"parts": {"train": {"contents": "AAAAAAAA", "places": "", "names": ""}}},
        values | {"opened": {"path": 7}},
    ):
        with pytest.raises(InputError, match="its entry 'trained_on' cannot be read"):
            TrainedOn.from_dict(damaged)


def test_keys_are_those_of_content_place_and_name(tmp_path):
    """Large files are told apart by their first, middle and last part."""
    first = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    for name, row in (("a", None), ("same", None), ("top", 0), ("middle", 100), ("end", 199)):
        pixels = first.copy()
        if row is not None:
            pixels[row] ^= 1
        Image.fromarray(pixels).save(tmp_path / f"{name}.bmp")
    targets = [Instances((200, 200), boxes=[[1, 1, 5, 5]], labels=[0])] * 5
    paths = sorted(tmp_path.glob("*.bmp"))
    keys = ImageKeys.of(sl.Dataset.from_instances(paths, targets, ["dot"]))
    contents = dict(zip([path.stem for path in paths], keys.contents.tolist(), strict=True))
    assert contents["a"] == contents["same"]
    assert len({*contents.values()}) == 4
    assert len({*keys.places.tolist()}) == len({*keys.names.tolist()}) == 5
    again = ImageKeys.from_dict(keys.to_dict())
    assert all((getattr(again, n) == getattr(keys, n)).all() for n in ("contents", "places", "names"))
    in_memory = ImageKeys.of(sl.Dataset.from_instances([torch.zeros(3, 8, 8)] * 2, [Instances((8, 8))] * 2, ["dot"]))
    assert len({*in_memory.contents.tolist()}) == 1
    assert not in_memory.places.any()


def test_the_record_of_a_resumed_run(photos):
    data = sl.open_dataset(photos).split(0.5, 0.25, 0.25, seed=1)
    first = trained_on.record(data["train"], data["val"], Finder())
    assert trained_on.resumed(None, first) is first
    assert trained_on.resumed(first, trained_on.record(data["train"], data["val"], Finder())) is first
    assert trained_on.resumed(TrainedOn(known=False), first) is first  # interrupted before its first epoch ended
    other = trained_on.resumed(first, trained_on.record(data["test"], data["val"], Finder()))
    both = data[[i for i in range(20) if data.split_of(i) != "val"]]
    assert other.was_trained_on(ImageKeys.of(both)).all()
    assert not other.was_trained_on(ImageKeys.of(data["val"])).any()


def test_what_has_changed_since_a_run_began(tmp_path):
    def opened():
        data = sl.open_dataset(tmp_path)
        return trained_on.record(data["train"], data["val"], Finder())

    def write(split, name, label, seed):
        pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        (tmp_path / "images" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / split / f"{name}.png")
        (tmp_path / "labels" / split / f"{name}.txt").write_text(label)

    good = "0 0.5 0.5 0.2 0.2\n"
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for seed, (split, name) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        write(split, name, good, seed)
    first = opened()
    assert trained_on.changes(None, first) == trained_on.changes(first, opened()) == []
    again = TrainedOn.from_dict(first.to_dict())
    assert trained_on.changes(again, opened()) == []

    write("train", "a", good.replace("0 0.5", "1 0.5"), 0)  # another class
    assert trained_on.changes(again, opened()) == ["labels of the training images were changed since the run began"]
    write("train", "a", good, 7)  # another picture
    assert trained_on.changes(again, opened()) == ["1 training image was replaced since the run began"]
    write("train", "a", good, 0)
    write("val", "d", good, 8)
    assert trained_on.changes(again, opened()) == ["1 validation image was added since the run began"]
    (tmp_path / "images" / "val" / "d.png").unlink()
    (tmp_path / "labels" / "val" / "d.txt").unlink()
    (tmp_path / "images" / "train" / "b.png").unlink()
    (tmp_path / "labels" / "train" / "b.txt").unlink()
    assert trained_on.changes(again, opened()) == ["1 training image was removed since the run began"]
    older = TrainedOn.from_dict({name: value for name, value in first.to_dict().items() if name != "labels"})
    write("train", "b", good.replace("0 0.5", "1 0.5"), 1)
    assert trained_on.changes(older, opened()) == []  # it does not know


def test_a_split_that_is_not_there_is_told_of_those_that_are(photos):
    model, _ = trained(photos)
    with pytest.raises(InputError, match=r"there is no split 'tset'; there are: all, train, val, test$"):
        measured(model, photos, split="tset")
