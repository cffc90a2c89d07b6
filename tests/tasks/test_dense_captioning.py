"""Dense captioning from labels to a report, by the command line and in Python; words of the data; odd captions."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest
import torch

import sightline as sl
from sightline.errors import InputError
from sightline.report.draw_captions import MOST
from sightline.structures import Classes, Instances
from sightline.tasks import TASKS, dense_captioning
from sightline.verbs.explained import parse_target
from tests.test_cli import done

SMALL = ("min_size=64", "max_size=96", "channels=16", "hidden=32", "embedding=16", "hidden_words=16")
OPTIONS = [*(part for value in SMALL for part in ("--arg", value)), "--batch-size", "4", "--set", "workers=0", "-q"]
QUIET = ("-q", "--device", "cpu")


def labelled(captions: list[list[str]], splits: list[str] | None = None, about: str = "captions") -> sl.Dataset:
    """One grey image for each list of captions, whose objects stand side by side."""
    images = [torch.full((3, 40, 60), 99 + i, dtype=torch.uint8) for i in range(len(captions))]
    targets = [
        Instances(
            (40, 60),
            classes=Classes(["region"]),
            boxes=torch.tensor([[2.0 + 20 * k, 5, 18 + 20 * k, 35] for k in range(len(own))]).reshape(-1, 4),
            labels=[0] * len(own),
            captions=own,
        )
        for own in captions
    ]
    return sl.Dataset.from_instances(images, targets, ["region"], splits=splits, about=about)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    done("scenes", out, "--kind", "captions", "--train", "4", "--val", "2", "--test", "0", "--size", "64", "-q")
    return out


def test_the_command_line_from_scenes_to_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Training can start" in done("check", folder).out
    done("look", folder, "-n", "2", "-o", "look.png")
    done("train", folder, "--epochs", "1", "--name", "a", *OPTIONS, "--device", "cpu", "--weights", "none")
    row = json.loads(Path("runs/a/metrics.jsonl").read_text())
    assert {"val/mAP", "val/box_mAP", "train/loss_caption"} <= row.keys()
    recipe = sl.Recipe.from_yaml("runs/a/recipe.yaml")
    assert (recipe.augmentation, recipe.mirror) == ("light", False)

    model = sl.load("runs/a")
    train = sl.open_dataset(folder)["train"].with_fields("captions")
    known = {word for i in range(len(train)) for text in train[i][1].captions for word in text.split()}
    assert set(model.vocabulary.words) == known

    done("evaluate", "runs/a", "--json", "found.json", *QUIET)
    measured = json.loads(Path("found.json").read_text())
    assert measured["task"] == "dense_captioning"
    assert list(measured["precision"]) == ["0.3", "0.4", "0.5", "0.6", "0.7"]

    done("predict", "runs/a", folder / "val", "--out", "out", "--save", "json,csv", "--threshold", "0.01", *QUIET)
    entries = json.loads(Path("out/predictions.json").read_text())["annotations"]
    with Path("out/predictions.csv").open(encoding="utf-8") as rows:
        table = list(csv.DictReader(rows))
    assert [entry["caption"] for entry in entries] == [row["caption"] for row in table]
    assert entries

    Path("runs/a/report.html").unlink()
    done("report", "runs/a")
    page = Path("runs/a/report.html").read_text()
    assert "Precision by thresholds" in page
    image = next((folder / "val").rglob("*.png"))
    done("explain", "runs/a", image, "--for", "word:0:0", "--out", "words", *QUIET)
    assert list(Path("words").rglob("*.png"))


def test_a_word_of_a_caption_is_explained() -> None:
    torch.manual_seed(0)
    words = ["red", "cup", "blue"]
    model = sl.create_model(
        "densecap_lite0", ["region"], words=words, min_size=64, max_size=96, channels=16, hidden=32,
        boxes=sl.nn.heads.box.BoxSettings(min_score=0.01, max_detections=4),
    ).eval()  # fmt: skip
    with torch.no_grad():  # captions are "cup red", whatever is seen
        model.roi_heads.captioner.output.weight.zero_()
        model.roi_heads.captioner.output.bias.copy_(torch.tensor([-1.0, 0, 0, 0, -9]))
        image = torch.rand(3, 48, 64)
        caption = model([image])[0].captions[0].split()
    target = parse_target("word:0:0", model, image)
    assert target.describe(model).startswith(f"word {caption[0]!r} of box 0: region")
    batch, _ = model.prepare([image], None)
    score = target.score(model, batch)
    ids = torch.tensor([[-1.0, 0, 0, 0, -9]]).log_softmax(1)
    torch.testing.assert_close(score.detach(), ids[0, model.vocabulary.id(caption[0])][None])
    assert parse_target(f"word:0:{caption[-1]}", model, image).place == caption.index(caption[-1])
    with pytest.raises(InputError, match=r"the caption of box 0 is '.*', without the word 'spoon'"):
        parse_target("word:0:spoon", model, image)
    with pytest.raises(InputError, match="word:0 does not say which word; give word:0:0 for the first"):
        parse_target("word:0", model, image)
    with pytest.raises(InputError, match="word 9 is not one of them"):
        parse_target("word:9:red", model, image)
    plain = sl.create_model("ssdlite320_mobilenet_v2", ["region"]).eval()
    with pytest.raises(InputError, match="ssdlite320_mobilenet_v2 describes no regions; explain a box of it"):
        sl.explain.caption_targets.caption_word(plain, image, 0, "red")


def test_the_words_of_a_model_are_those_of_the_data() -> None:
    task = TASKS["dense_captioning"]
    data = labelled([["a red cup", "a cup"], ["A blue plate."]])
    assert task.labels.arguments(data) == {"words": ["a", "cup", "blue", "plate", "red"]}
    assert task.labels.arguments("no dataset") == {}


def test_rare_words_are_left_out_of_the_words_of_many_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_captioning, "MANY", 20)
    data = labelled([["a cup", "a cup"]] * 14 + [["a cup once"], ["cup"]])
    assert dense_captioning.words(data) == {"words": ["cup", "a"]}


def test_objects_without_words_are_left_out_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    data = labelled([["a red cup", ""], [" … ", "a plate"]])
    with caplog.at_level(logging.WARNING, logger="sightline"):
        kept = dense_captioning.described(data)
    assert [list(kept[i][1].captions) for i in range(2)] == [["a red cup"], ["a plate"]]
    assert caplog.messages == ["2 objects have no caption and are left out"]


def test_labels_without_captions_are_refused() -> None:
    with pytest.raises(InputError, match="none of the 2 captions has a word; correct the labels"):
        dense_captioning.described(labelled([["", "!"]]))
    boxes = sl.scenes(1, 48)
    plain = boxes.with_columns(boxes.columns.replace(captions=None))
    with pytest.raises(InputError, match="the objects of this data have no captions, from which this model learns"):
        dense_captioning.described(plain)


def test_captions_are_drawn_below_the_image() -> None:
    image, target = labelled([["a red cup", "a blue plate on a wooden table", "a dog"]]).with_fields("captions")[0]
    small, large = sl.draw(image, target, size=120), sl.draw(image, target, size=480)
    assert small.size[0] == 120
    assert small.size[1] > 80 + 3 * 10  # one line for each, two for the long one
    assert large.size[1] > 320
    plain = Instances(target.image_size, boxes=target.boxes, labels=target.labels, classes=target.classes)
    assert sl.draw(image, plain, size=120).size == (120, 80)
    many = target[[0] * (MOST + 5)]
    fewer = target[[0] * (MOST + 1)]
    assert sl.draw(image, many, size=480).size == sl.draw(image, fewer, size=480).size
