"""What `check` and a contact sheet say of labels of whole images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.data.check import CheckReport, check
from sightline.data.formats import open_dataset


def picture(path: Path, seed: int) -> None:
    """A picture that looks like no other one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)


def folder_of_classes(root: Path) -> Path:
    """Ten images to train on and two to validate on, of each of two classes."""
    for number, (split, count) in enumerate((("train", 10), ("val", 2))):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                picture(root / split / name / f"{i}.png", 1000 * number + 100 * k + i)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder_of_classes(tmp_path / "data")


def found(report: CheckReport) -> dict[str, list[str]]:
    by_rule: dict[str, list[str]] = {}
    for problem in report.problems:
        by_rule.setdefault(f"{problem.level} {problem.rule}", []).append(problem.what)
    return by_rule


def checked(root: Path) -> CheckReport:
    return check(open_dataset(root), progress=False)


def test_in_order(root: Path) -> None:
    report = checked(root)
    assert report.problems == ()
    assert report.counts == {"train": {"cat": 10, "dog": 10}, "val": {"cat": 2, "dog": 2}}
    assert "images by class  train  val" in str(report)


def test_the_same_image_in_two_classes_and_two_splits(root: Path) -> None:
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "copy.png")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "cat" / "copy.png")
    shutil.copy(root / "train" / "cat" / "2.png", root / "val" / "dog" / "copy.png")
    Image.open(root / "train" / "cat" / "3.png").resize((32, 24)).save(root / "train" / "dog" / "small.png")
    report = checked(root)
    assert found(report) == {
        "warning duplicate-across-splits": [
            "train/cat/2.png: in train, is the same as val/dog/copy.png (val)",
        ],
        "warning duplicate-in-classes": [
            "train/cat/0.png: in cat, is the same as train/dog/copy.png (dog), train/cat/again.png (cat)",
            "train/cat/2.png: in cat, is the same as val/dog/copy.png (dog)",
        ],
        "warning similar-in-classes": ["train/cat/3.png: in cat, looks like train/dog/small.png (dog)"],
        "note duplicate-images": ["train/cat/1.png: is the same as train/cat/copy.png"],
    }
    assert "the same image in several classes" in str(report)


def test_broken_files_stop_the_training(root: Path) -> None:
    (root / "train" / "dog" / "0.png").write_bytes(b"nothing")
    whole = (root / "train" / "dog" / "1.png").read_bytes()
    (root / "train" / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])
    report = checked(root)
    assert not report.ok
    assert {problem.file for problem in report.problems} == {"train/dog/0.png", "train/dog/1.png"}


def test_classes_that_are_missing_rare_or_empty(root: Path) -> None:
    picture(root / "train" / "fox" / "0.png", 5007)
    picture(root / "val" / "owl" / "0.png", 5008)
    (root / "train" / "emu").mkdir()
    picture(root / "train" / "stray.png", 5009)
    report = checked(root)
    assert found(report) == {
        "warning image-left-out": ["train/stray.png: 1 image in no class's folder"],
        "warning class-missing": [
            "no images in any split: emu",
            "1 class has no images in train and cannot be learnt: owl",
            "1 class has no images in val and cannot be evaluated there: fox",
        ],
        "warning class-rare": ["1 class has fewer than 10 images in train: fox (1)"],
        "note reading-note": ["class 'emu' has no images"],
    }
    assert "classes without images in a split" in str(report)
    assert "classes with few images to learn from" in str(report)


def test_one_class_is_nothing_to_learn(root: Path) -> None:
    shutil.rmtree(root / "train" / "dog")
    report = checked(root)
    assert found(report)["error one-class"] == ["every training image has the class 'cat'"]
    (root / "val" / "dog").rename(root / "train" / "dog")  # two to train on, none to validate on
    assert checked(root).ok


def test_a_contact_sheet_names_the_classes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageDraw

    written: list[str] = []
    text = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, xy: object, words: str, *args: object, **more: object) -> None:
        written.append(words)
        text(self, xy, words, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    data = open_dataset(root)["val"]
    for transform in (None, "default"):
        written.clear()
        sheet = sl.contact_sheet(data, transform, n=4, size=80)
        assert sheet.width > 4 * 80
        drawn = "".join(written)
        assert drawn.count("cat") == 2
        assert drawn.count("dog") == 2
