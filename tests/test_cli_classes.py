"""The command line's --classes and --split, and the same in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sightline.cli.app import app
from sightline.cli.inputs import parse_classes, parse_shares
from sightline.cli.use import parse_names
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances
from sightline.verbs.opening import class_mapping

NAMES = ("apple", "pear", "junk, old")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [torch.full((3, 16, 16), 20 * k, dtype=torch.uint8) for k in range(10)]
    targets = [Instances((16, 16), boxes=[[1, 1, 9, 9], [2, 2, 12, 9]], labels=[k % 2, 2]) for k in range(10)]
    out = tmp_path_factory.mktemp("classes") / "data"
    convert(Dataset.from_instances(images, targets, NAMES), out, "coco")
    return out


def run(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("values", "mapping"),
    [
        (["apple=fruit,pear=fruit"], {"apple": "fruit", "pear": "fruit"}),
        (["apple = fruit", "pear=fruit"], {"apple": "fruit", "pear": "fruit"}),
        ([r"junk\, old="], {"junk, old": None}),
        (["apple=a=b"], {"apple": "a=b"}),
        (["pear"], {"apple": None, "pear": "pear", "junk, old": None}),
        (["pear,apple"], {"apple": "apple", "pear": "pear", "junk, old": None}),
    ],
)
def test_what_classes_says(values: list[str], mapping: dict[str, str | None]):
    words = parse_classes(values)
    assert words is not None
    assert class_mapping(words, NAMES) == mapping


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["apple=fruit,pear"], "--classes 'pear' has no =, but other entries do"),
        (["=fruit"], "--classes '=fruit' has no ="),
        (["apple=x", "apple=y"], "--classes has both apple=x and apple=y; give one of them"),
        (["aple"], "unknown class 'aple'; did you mean 'apple'"),
    ],
)
def test_mistakes_in_classes(values: list[str], message: str):
    with pytest.raises(InputError, match=message):
        class_mapping(parse_classes(values) or (), NAMES)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("80/10/10", (0.8, 0.1, 0.1)),
        ("0.8/0.2", (0.8, 0.2, 0)),
        ("70/0/30", (0.7, 0, 0.3)),
        ("50 / 50", (0.5, 0.5, 0)),
    ],
)
def test_what_split_says(text: str, shares: tuple[float, ...]):
    assert parse_shares(text) == pytest.approx(shares)


@pytest.mark.parametrize("text", ["80", "80/10", "80/10/10/0", "a/b", "120/-20", "", "nan/1", "inf/1"])
def test_mistakes_in_split(text: str):
    with pytest.raises(InputError, match="must be two or three shares of 100 separated by /"):
        parse_shares(text)


def test_convert_maps_and_divides(folder: Path, tmp_path: Path):
    mapping = ["--classes", "apple=fruit,pear=fruit"]
    code, said = run("convert", folder, tmp_path / "out", "--to", "yolo", "--split", "60/20/20", *mapping)
    assert (code, "data.yaml also names" in said) == (0, False), said
    data = open_dataset(tmp_path / "out")
    assert {split: len(data[split]) for split in data.splits} == {"train": 6, "val": 2, "test": 2}
    assert tuple(data.classes) == ("fruit", "junk, old")
    assert all(data.target(i).names() == ["fruit", "junk, old"] for i in range(10))
    expected = open_dataset(folder).split(0.6, 0.2, 0.2, seed=0)
    places = {expected.image_name(i): expected.split_of(i) for i in range(10)}
    assert {data.image_name(i): data.split_of(i) for i in range(10)} == places
    code, said = run("convert", tmp_path / "out", tmp_path / "again", "--to", "coco", "--split", "80/20")
    assert code == 2
    assert "error: the data already has splits (train, val, test), and --split would mix their images" in said


def test_convert_without_splits_says_what_stands_in(folder: Path, tmp_path: Path):
    code, said = run("convert", folder, tmp_path / "out", "--to", "yolo")
    assert code == 0
    assert "data.yaml also names train (the images of all) and val (the images of all)" in said


def test_check_and_look_map_too(folder: Path, tmp_path: Path):
    code, said = run("check", folder, "--fast", "-q", "--classes", "apple")
    assert code == 0, said
    assert "1 class" in said
    assert "apple" in said
    assert "pear" not in said
    code, said = run("look", folder, "-o", tmp_path / "a.png", "-n", "2", "--classes", r"apple=fruit,junk\, old=")
    assert code == 0, said
    code, said = run("check", folder, "--fast", "-q", "--classes", "aple=x")
    assert (code, "unknown class 'aple'; did you mean 'apple'" in said) == (2, True)


def test_a_dataset_remembers_its_classes_for_opening_it_again(folder: Path):
    data = open_dataset(folder, classes={"apple": "fruit", "pear": "fruit", "junk, old": None})
    assert tuple(data.classes) == ("fruit",)
    assert [len(data.target(i)) for i in range(3)] == [1, 1, 1]
    more = data.with_class_mapping({"fruit": "food"})
    for one in (data, more, open_dataset(folder).filter(classes=["pear", "junk, old"])):
        again = open_dataset(**one.source.opened)
        assert again.classes == one.classes
        assert [t.names() for _, t in again] == [t.names() for _, t in one]
    # what `open_dataset` cannot give again is not said to be opened so
    assert open_dataset(folder).filter(classes=["pear", "apple"]).source.opened == {}
    assert open_dataset(folder, classes=NAMES).with_class_mapping({"pear": None}).source.opened == {}
    assert open_dataset(folder).filter(min_area=3).source.opened == {}
    with pytest.raises(InputError, match="unknown class 'plum'"):
        open_dataset(folder, classes={"plum": None})


def test_names_may_have_commas():
    assert parse_names("cat, a\\,b") == ["cat", "a,b"]
    with pytest.raises(InputError, match="has no names"):
        parse_names(" ,")
