"""What `predict` leaves in a folder, by task."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from sightline.deploy.folder import predict_to_folder
from sightline.deploy.writers.base import PredictedImage, Written, file_paths
from sightline.deploy.writers.classification import ClassificationWriter
from sightline.errors import InputError
from sightline.structures import Classes, ClassScores, Instances
from tests.test_cli import done, refused

CLASSES = Classes(["daisy", "rose", "tulip", "iris", "lily", "poppy", "aster"])
DEFAULT = " (the default is 0.5, because no threshold is saved with the model)"


class Answers(nn.Module):
    """Gives what it was made with, in order."""

    in_channels = 3

    def __init__(self, answers: list[object], task: str):
        super().__init__()
        self.answers, self.task, self.classes = list(answers), task, CLASSES

    def forward(self, images: list[Tensor], targets: object = None) -> list[object]:
        return [self.answers.pop(0) for _ in images]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "more/b.jpg", "more/b.bmp"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def classifier() -> Answers:
    scores = [[0.0, 0.5, 0.25, 0.125, 0.0625, 0.0625, 0.0], [0, 0, 1.0, 0, 0, 0, 0], [0.2, 0.5, 0.1, 0.1, 0.1, 0, 0]]
    return Answers([ClassScores((9, 12), None, torch.tensor(row), CLASSES) for row in scores], "classification")


def test_image_classes(folder: Path, tmp_path: Path) -> None:
    said = sl.predict_to_folder(classifier(), folder, tmp_path / "out", draw=sl.draw, save="json,csv")
    assert str(said).endswith("3 images (2 rose, 1 tulip); written: predictions.json, predictions.csv, 3 pictures")
    assert (said.images, said.objects, said.hint) == (3, 0, "")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["categories"] == [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    assert [image["file_name"] for image in content["images"]] == ["a.png", "more/b.bmp", "more/b.jpg"]
    first = content["images"][0]
    assert (first["id"], first["width"], first["height"]) == (1, 12, 9)
    assert first["predictions"][:2] == [
        {"category_id": 2, "category": "rose", "score": 0.5},
        {"category_id": 3, "category": "tulip", "score": 0.25},
    ]
    assert len(first["predictions"]) == 5
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file_name"], row["class"], row["score"]) for row in rows] == [
        ("a.png", "rose", "0.5"),
        ("more/b.bmp", "tulip", "1.0"),
        ("more/b.jpg", "rose", "0.5"),
    ]
    assert (rows[0]["class_3"], rows[0]["score_3"]) == ("iris", "0.125")
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        *("a.png", "more/b.jpg", "more/b.png", "predictions.csv", "predictions.json")
    ]
    with Image.open(tmp_path / "out" / "a.png") as drawn:
        assert drawn.height > 9  # with the names below


def test_a_threshold_has_no_effect_on_image_classes(folder: Path, tmp_path: Path) -> None:
    said = sl.predict_to_folder(classifier(), folder, tmp_path / "out", threshold=0.9)
    assert said.hint.startswith("the threshold has no effect")
    assert "3 images (2 rose, 1 tulip)" in str(said)


@pytest.mark.parametrize(
    ("best", "words"),
    [("0112223", "3 lily, 2 rose, 1 tulip, 1 iris"), ("0112234", "2 rose, 2 lily, 1 tulip, 2 others")],
)
def test_classes_are_summed_up(folder: Path, tmp_path: Path, best: str, words: str) -> None:
    names = ("tulip", "rose", "lily", "iris", "poppy")
    answers = [ClassScores((9, 12), None, torch.eye(5)[int(label)], names) for label in best]
    writing = ClassificationWriter().begin(tmp_path, [], names, ())
    for position, answer in enumerate(answers):
        writing.add(PredictedImage(position + 1, position, Path(f"{position}.png"), (9, 12)), answer, None)
    assert writing.finish(0.5, False).summary == f"7 images ({words})"


def test_a_classifier_from_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", list(CLASSES))
    with torch.no_grad():
        list(model.parameters())[-1].normal_()  # untrained classes would be alike
    sl.save(model, tmp_path / "model.safetensors")
    outcome = done("predict", "model.safetensors", "in", "--out", "out", "--quiet", "--device", "cpu")
    assert "written: predictions.json, 3 pictures" in outcome.out
    assert "threshold" not in outcome.out + outcome.err
    best = sl.predict(model, folder / "a.png").top(1)[0]
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"][0]["predictions"][0]
    assert (found["category"], found["score"]) == (best[0], pytest.approx(best[1], abs=1e-5))
    words = refused("predict", "model.safetensors", "in", "--out", "no", "--save", "yolo", "--device", "cpu")
    assert words == "predictions cannot be saved as 'yolo'; choose from json, csv"
    words = refused("predict", "model.safetensors", "in", "--out", "no", "--classes", "rose", "--quiet")
    assert words == "classes can be selected only among objects, which this model does not predict; leave classes out"
    assert "which this model does not predict" in refused(
        "predict", "model.safetensors", "in", "--tile", "64", "--quiet"
    )


def test_proposals_are_objects_of_one_class(folder: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    boxes = torch.tensor([[1.0, 2, 5, 6], [0, 0, 12, 9]])
    found = [Instances((9, 12), classes=CLASSES, boxes=boxes, scores=torch.tensor([0.9, 0.6])) for _ in range(3)]
    said = sl.predict_to_folder(Answers(found, "proposal"), folder, tmp_path / "out", save=["json,csv,yolo"])
    assert "6 proposals in 3 images" in str(said)
    assert said.hint == "proposals with a score of at least 0.5 are kept; change it with --threshold" + DEFAULT
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    coco.loadRes(coco.dataset["annotations"])
    assert coco.dataset["categories"] == [{"id": 1, "name": "object"}]
    assert [(entry["category"], entry["bbox"], entry["score"]) for entry in coco.imgToAnns[2]] == [
        ("object", [1, 2, 4, 4], 0.9),
        ("object", [0, 0, 12, 9], 0.6),
    ]
    assert (tmp_path / "out" / "classes.txt").read_text() == "object\n"
    with pytest.raises(InputError, match="the model's objects have no classes, so none can be selected"):
        sl.predict(Answers(found, "proposal"), folder, classes=["rose"])


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("detection", r"objects \(Instances\)"),
        ("segmentation", r"class maps \(ClassMap\)"),
        ("proposal", r"proposals \(Instances\)"),
    ],
)
def test_answers_of_another_task_are_refused_and_leave_no_folder(
    folder: Path, tmp_path: Path, task: str, what: str
) -> None:
    model = Answers(classifier().answers, task)
    with pytest.raises(InputError, match=f"predicts ClassScores, but for its task {what} are written to files"):
        sl.predict_to_folder(model, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="predictions of task 'naming' cannot be written to files"):
        sl.predict_to_folder(Answers([], "naming"), folder)


def test_what_is_said_of_the_threshold(folder: Path, tmp_path: Path) -> None:
    def said(number: int, **how: object) -> str:
        found = [Instances((9, 12), classes=CLASSES, boxes=[[0.0, 0, 4, 4]], labels=[0], scores=[0.4])] * 3
        return sl.predict_to_folder(Answers(found, "detection"), folder, tmp_path / f"out{number}", **how).hint

    assert said(0) == "no object has a score of at least 0.5; lower it with --threshold" + DEFAULT
    assert said(1, threshold=0.3) == ""
    assert said(2, threshold=0.7) == "no object has a score of at least 0.7; lower it with --threshold"


class Lines:
    """A writer of one's own: a line per image, in a file that a picture would take."""

    formats = ("txt",)
    taken = (Path("a.png"),)

    def begin(self, folder: Path, places: list[Path], classes: list[str], formats: tuple[str, ...]) -> Lines:
        self.folder, self.seen = folder, [*formats]
        return self

    def add(self, image: object, answer: object, ids: object) -> None:
        self.seen.append(f"{image.number} {image.position} {image.path} {image.size}")

    def finish(self, threshold: float, given: bool) -> Written:
        (self.folder / "a.png").write_text("\n".join(self.seen))
        return Written("all seen", ["a.png"])


def test_a_writer_of_one_s_own(folder: Path, tmp_path: Path) -> None:
    (folder / "0.png").write_bytes(b"")  # cannot be read
    out = tmp_path / "out"
    said = predict_to_folder(classifier(), folder, out, writer=Lines(), draw=sl.draw)
    assert str(said).splitlines()[0].endswith("all seen; written: a.png, 3 pictures")
    size = (9, 12)
    assert (out / "a.png").read_text().split("\n") == [
        *("txt", f"1 1 a.png {size}", f"2 2 more/b.bmp {size}", f"3 3 more/b.jpg {size}")
    ]
    assert (out / "a.png.png").is_file()


def test_places_never_meet() -> None:
    places = [Path(name) for name in ("a.bmp", "a.png", "b/a.tif", "b/a.gif")]
    assert file_paths(places, (".png",), ".png") == [Path(n) for n in ("a.bmp.png", "a.png", "b/a.png", "b/a.gif.png")]
    assert file_paths(places[:2], (".txt",), ".txt", {Path("a.txt")}) == [Path("a.bmp.txt"), Path("a.png.txt")]
