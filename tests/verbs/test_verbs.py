"""Training by a model's name, on plain PyTorch datasets, and what a run remembers; predictions in all their forms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sightline as sl
from sightline.api import predict_to_folder
from sightline.data.torch_data import TorchData
from sightline.deploy.thresholds import score_threshold
from sightline.deploy.writers.base import require_formats
from sightline.errors import InputError
from sightline.evaluation import ClassificationResult
from sightline.structures import Classes, Instances
from sightline.training.metrics_log import Row
from sightline.training.run import Run, run_facts

NAME, TINY = "ssdlite320_mobilenet_v2", {"image_size": 64}
QUICK = {"batch_size": 4, "workers": 0, "augmentation": "none", "progress": False, "device": "cpu", "epochs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve scenes in COCO's format, without splits."""
    return sl.convert(sl.scenes(12, 64), tmp_path_factory.mktemp("verbs") / "scenes", "coco")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    return sl.train(NAME, folder, arguments=TINY, name="first", runs=runs, **QUICK)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_knows_what_it_was_made_of(run, folder):
    recipe = yaml.safe_load((run.folder / "recipe.yaml").read_text())
    environment = json.loads((run.folder / "environment.json").read_text())
    assert recipe["run"] == environment["run"]
    facts = recipe["run"]
    assert (facts["data"], facts["format"], facts["model"], facts["weights"]) == (str(folder), "coco", NAME, None)
    assert facts["arguments"]["image_size"] == 64
    assert facts["images"] == {"train": 10, "val": 1, "test": 1}
    assert facts["division"]["shares"] == {"train": 0.8, "val": 0.1, "test": 0.1}
    assert facts["classes"] == list(run.model.classes)
    assert sl.Recipe.from_yaml(run.folder / "recipe.yaml") == run.recipe  # the recipe alone can be used again
    assert run.model.metadata == sl.load(run.folder).metadata
    known = run_facts(run.folder)
    assert (known.model, known.trained_on.path) == (NAME, str(folder))
    result = sl.evaluate(run.folder, progress=False)  # the run needs nothing else
    assert (result.images, result.measured) == (1, {"data": str(folder), "split": "test"})
    shown = json.loads((run.folder / "evaluation.json").read_text())
    assert shown["measured"] == {"data": str(folder), "split": "val"}


def test_a_resumed_run_keeps_its_beginning(run, folder):
    before = json.loads((run.folder / "environment.json").read_text())
    again = sl.train(name="first", runs=run.folder.parent, resume=True, **(QUICK | {"epochs": 2}), report=False)
    after = json.loads((run.folder / "environment.json").read_text())
    assert len(again.metrics) == 2
    assert after["command"] == before["command"]
    assert after["started"] == before["started"]
    assert (len(before["commands"]), len(after["commands"])) == (1, 2)
    assert len(after["resumed"]) == 1
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["run"]["data"] == str(folder)
    assert sl.evaluate(again.model, progress=False).images == 1


def test_the_threshold_is_the_best_one_on_the_validation_images(run, folder):
    model = sl.load(run.folder)
    validation = sl.open_dataset(folder).split(0.8, 0.1, 0.1, seed=0)["val"]
    result = sl.evaluate(model, validation, progress=False)
    if result.threshold is None:
        assert score_threshold(model) == 0.5
        model.metadata["threshold"] = 0.25
    else:
        assert model.metadata["threshold"] == pytest.approx(result.threshold, abs=1e-5)
        assert model.metadata["threshold"] <= result.threshold  # so that predict keeps this detection
        assert result.operating_point.score == model.metadata["threshold"] == result.measured["threshold"]
    chosen = model.metadata["threshold"]
    for given, used in ((None, chosen), (0.0, 0.0), (np.float32(0.5), 0.5), (torch.tensor(1), 1.0)):
        assert score_threshold(model, given) == used
        scores = sl.predict(model, folder, threshold=given)[0].scores
        assert all(scores >= used)
    model.metadata["threshold"] = "high"
    with pytest.raises(InputError, match="the threshold saved with the model is 'high'"):
        sl.predict(model, folder)


def test_numbers_of_any_type():
    recipe = sl.Recipe(epochs=np.int64(3), lr=np.float32(0.5), batch_size=torch.tensor(2))
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (3, 0.5, 2)
    assert {type(recipe.epochs), type(recipe.lr), type(recipe.batch_size)} == {int, float}


def test_images_as_bytes_and_open_files(run, folder):
    data = sl.open_dataset(folder)
    path = data.path(0)
    expected = sl.predict(run.model, path, threshold=0)
    content = path.read_bytes()
    opened = path.open("rb")
    for given in (content, bytearray(content), memoryview(content), io.BytesIO(content), opened):
        assert torch.equal(sl.predict(run.model, given, threshold=0, batch_size=np.int32(2)).boxes, expected.boxes)
    opened.close()
    both = sl.predict(run.model, [content, io.BytesIO(content)], threshold=0)
    assert [result.source for result in both] == ["image 0", "image 1"]
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(turned, "JPEG", exif=exif)
    assert sl.predict(run.model, turned.getvalue()).image_size == (20, 10)  # stands upright, as from a file
    for wrong, words in (
        (b"no image", "cannot read the image given as bytes: its format is unknown"),
        (io.StringIO("text"), "the file is opened as text"),
        ("https://example.org/a.jpg", "is a web address; download the image"),
        (opened, "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            sl.predict(run.model, wrong)


def test_classes_are_chosen_by_name(run, folder):
    everything = sl.predict(run.model, folder, threshold=0)
    some = sl.predict(run.model, folder, threshold=0, classes=["box", "ring"])
    ids = {run.model.classes.id(name) for name in ("box", "ring")}
    for whole_result, part in zip(everything, some, strict=True):
        kept = [i for i, label in enumerate(whole_result.labels.tolist()) if label in ids]
        assert torch.equal(part.boxes, whole_result[kept].boxes)
    with pytest.raises(InputError, match="unknown class 'bok'; did you mean 'box'"):
        sl.predict(run.model, folder, classes=["bok"])


def test_predictions_as_csv_and_yolo(run, folder):
    images = sorted(path for path in folder.rglob("*.png"))[:3]
    done = predict_to_folder(run.model, images, threshold=0, save=["csv,yolo"])
    assert done.folder == Path("predictions/predict1")
    assert sorted(path.name for path in done.folder.iterdir()) == ["classes.txt", "labels", "predictions.csv"]
    with (done.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == done.objects
    first = [row for row in rows if row["file_name"] == images[0].name]
    result = sl.predict(run.model, images[0], threshold=0)
    assert [row["class"] for row in first] == result.names()
    boxes = [[float(row[name]) for name in ("x1", "y1", "x2", "y2")] for row in first]
    assert np.allclose(boxes, result.boxes.numpy(), atol=2e-3)
    assert np.allclose([float(row["score"]) for row in first], result.scores.numpy(), atol=1e-6)
    lines = (done.folder / "labels" / f"{images[0].stem}.txt").read_text().split("\n")[:-1]
    numbers = np.array([[float(number) for number in line.split()] for line in lines])
    assert numbers[:, 0].tolist() == result.labels.tolist()
    centres = numbers[:, 1:3] * 64
    sides = numbers[:, 3:5] * 64
    assert np.allclose(np.concatenate([centres - sides / 2, centres + sides / 2], 1), result.boxes.numpy(), atol=1e-3)
    assert (done.folder / "classes.txt").read_text().split() == list(run.model.classes)
    assert predict_to_folder(run.model, images).folder == Path("predictions/predict2")
    with pytest.raises(InputError, match="cannot be saved as 'xml'; choose from json, csv, yolo"):
        require_formats(["xml"], ("json", "csv", "yolo"))


class Squares(torch.utils.data.Dataset):
    """Images with one square each, with targets as torchvision's detectors take them."""

    def __init__(self, first: int = 1, labels: tuple[int, ...] = (0, 1), classes: object = ("dark", "bright")):
        self.first, self.labels, self.classes = first, labels, classes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int):
        image = torch.full((3, 64, 64), 0.5)
        image[:, 8:40, 8:40] = i / 4
        label = self.labels[i % len(self.labels)] + self.first
        return image, {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([label])}


def test_a_plain_torch_dataset_trains(tmp_path):
    run = sl.train(NAME, Squares(), Squares(), arguments=TINY, runs=tmp_path, **QUICK)
    assert list(run.model.classes) == ["dark", "bright"]
    assert run.metrics[0]["val/AP"] is not None
    result = sl.evaluate(run.model, Squares(), progress=False)
    assert result.per_class["bright"]["objects"] == 2
    assert "it is not known whether" in result.notes[-1]
    given = [
        (image, Instances((64, 64), boxes=t["boxes"], labels=t["labels"] - 1))
        for image, t in map(Squares().__getitem__, range(4))
    ]
    model = sl.create_model(NAME, ["dark", "bright"], **TINY)
    assert len(sl.train(model, given, runs=tmp_path, report=False, **QUICK).metrics) == 1
    with pytest.raises(InputError, match="does not name its classes; give classes="):
        sl.train(NAME, given, runs=tmp_path, **QUICK)


def test_labels_count_from_0_or_from_1_only_where_that_is_certain():
    for data, names, label in (
        (Squares(1), ["dark", "bright"], 1),
        (Squares(0), ["dark", "bright"], 1),
        (Squares(1, classes=("__background__", "dark", "bright")), ["dark", "bright"], 1),
    ):
        wrapped = TorchData(data)
        assert list(wrapped.classes) == names
        assert wrapped[1][1].labels.tolist() == [label]
        assert wrapped[1][1].boxes.tolist() == [[8, 8, 40, 40]]
    with pytest.raises(InputError, match="the labels range from 1 to 1 with 2 classes, so it is not clear whether"):
        TorchData(Squares(1, labels=(0,)))
    with pytest.raises(InputError, match="the labels range from 2 to 3, but there are 2 classes"):
        TorchData(Squares(2))
    with pytest.raises(InputError, match="image 0 has no 'labels'; it has boxes"):
        TorchData([(torch.zeros(3, 8, 8), {"boxes": []})], Classes(["a"]))[0]
    with pytest.raises(InputError, match=r"item 0 of the dataset is a Tensor, but must be a pair \(image, target\)"):
        TorchData([torch.zeros(3, 8, 8)], Classes(["a"]))


class Pictures:
    """Dark and bright images with the number of their class, as torchvision's ImageFolder gives them."""

    classes = ("dark", "bright")

    def __init__(self, kind=int):
        self.kind_of = kind

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return torch.full((3, 40, 48), 60 + 120 * (i % 2), dtype=torch.uint8), self.kind_of(i % 2)


@pytest.mark.parametrize("kind", [int, np.int64, torch.tensor])
def test_whole_numbers_are_classes_of_whole_images(kind):
    wrapped = TorchData(Pictures(kind))
    assert (wrapped.kind, list(wrapped.classes)) == ("class_scores", ["dark", "bright"])
    target = wrapped[1][1]
    assert (target.label, target.image_size, target.source) == (1, (40, 48), "image 1")
    named = Pictures()
    named.classes = ("background", "thing")  # a folder of this name is a class like others
    assert TorchData(named)[1][1].classes == Classes(["background", "thing"])
    for label, words in (
        (True, "target is a bool"),
        (0.5, "target is a float"),
        ("dark", "target is a str"),
        (torch.tensor([1]), "target is a Tensor"),
    ):
        with pytest.raises(InputError, match=words):
            TorchData([(torch.zeros(3, 8, 8), label)], Classes(["a", "b"]))
        with pytest.raises(InputError, match=f"image 1: its {words}"):
            TorchData([(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 8, 8), label)], Classes(["a", "b"]))[1]
    with pytest.raises(InputError, match="label 3 is not a class id: ids are 0 to 1"):
        TorchData([(torch.zeros(3, 8, 8), 3)], Classes(["a", "b"]))[0]


def test_pictures_with_the_number_of_their_class_train_and_are_measured(tmp_path):
    run = sl.train(
        "mobilenet_v2", Pictures(), Pictures(), arguments={"image_size": 32}, runs=tmp_path, **QUICK | {"batch_size": 3}
    )
    assert list(run.metrics[0])[-3:] == ["val/top1", "val/balanced_accuracy", "val/macro_F1"]
    assert run.metric == "val/top1"
    result = sl.evaluate(run.model, Pictures(), progress=False)
    assert isinstance(result, ClassificationResult)
    assert result.images == 6
    assert (run.folder / "evaluation.json").is_file()


def test_proposals_choose_their_best_epoch_by_recall(tmp_path):
    network = sl.create_model("region_proposal_network_mobilenet_v2", ["dark", "bright"], min_size=64, max_size=64)
    with pytest.raises(InputError, match=r"keep is 'AP', but no metric of this run has that name"):
        sl.train(network, Squares(), Squares(), runs=tmp_path, keep="AP", **QUICK)
    run = sl.train(network, Squares(), Squares(), runs=tmp_path, **QUICK)
    names = ["val/AR@300", "val/recall50@300", "val/AR@1000", "val/recall50@1000"]
    assert [name for name in run.metrics[0] if name.startswith("val/") and name != "val/loss"] == names
    assert run.metric == "val/AR@300"
    stored = json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))
    assert stored["metrics"]["AR@300"] == run.metrics[0]["val/AR@300"]
    assert stored["per_class"].keys() == {"dark", "bright"}


def test_a_model_of_another_task_is_refused_before_anything_is_written(tmp_path):
    words = "the model is a {} model, but the labels of {} are {}; use a model for {} "
    detector = sl.create_model(NAME, ["dark", "bright"], **TINY)
    with pytest.raises(
        InputError, match=words.format("detection", "the training set", "image classes", "classification")
    ):
        sl.train(detector, Pictures(), runs=tmp_path, **QUICK)
    with pytest.raises(InputError, match="the labels of the validation set are image classes"):
        sl.train(detector, Squares(), Pictures(), runs=tmp_path, **QUICK)
    with pytest.raises(InputError, match="the labels of the data are image classes"):
        sl.evaluate(detector, Pictures(), progress=False)
    assert not any(tmp_path.iterdir())


def test_wrong_keywords_are_answered_with_the_right_ones(run, folder):
    for call, words in (
        (lambda: sl.train(run.model, folder, epochss=3), "train has no argument 'epochss'; did you mean 'epochs'"),
        (lambda: sl.train(run.model, folder, validaton=folder), "did you mean 'validation'"),
        (lambda: sl.predict(run.model, folder, treshold=0.5), "predict has no argument 'treshold'; did you mean 'thr"),
        (lambda: sl.evaluate(run.model, folder, batchsize=4), "did you mean 'batch_size'? It takes model, data, split"),
        (lambda: sl.draw(torch.zeros(3, 8, 8), None, sise=3), "draw has no argument 'sise'; did you mean 'size'"),
        (lambda: sl.contact_sheet(folder, collumns=3), "did you mean 'columns'"),
        (lambda: sl.scenes(3, sed=4), "scenes has no argument 'sed'; did you mean 'seed'"),
        (lambda: sl.train(run.model, folder, weights="imagenet"), "can be given only with the name of a model"),
        (lambda: sl.train("sightline_x", folder), "there is no model 'sightline_x'"),
        (lambda: sl.train(7, folder), "the model is a int"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert words in str(error.value)
    with pytest.raises(TypeError):
        sl.predict(run.model, folder, treshold=0.5)


def test_a_result_shows_what_it_holds():
    boxes = [[1, 2, 3, 4.25]] * 7
    result = Instances(
        (10, 20), classes=Classes(["cat", "dog"]), boxes=boxes, labels=[1, 1, 0, 1, 1, 1, 1], scores=[0.5] * 7
    )
    assert {"boxes", "labels", "scores", "names", "image_size"} <= {*dir(result)}
    assert "masks" not in dir(result)
    lines = repr(result).split("\n")
    assert lines[0] == "Instances(7 objects: 6 dog, 1 cat, 20×10 pixels, fields: boxes, labels, scores)"
    assert lines[1] == "  dog 0.50 [1.0, 2.0, 3.0, 4.2]"
    assert lines[3].startswith("  cat ")
    assert lines[6] == "  … 2 more"
    assert repr(Instances((10, 20))) == "Instances(0 objects, 20×10 pixels, fields: boxes, labels)"
    assert "1 object: 1 class 3" in repr(Instances((10, 20), boxes=boxes[:1], labels=[3]))


def test_an_epoch_that_closes_the_mosaic_is_marked(tmp_path):
    seen: list[Row] = []
    data = sl.scenes(4, 64)
    model = sl.create_model(NAME, data.classes, **TINY)
    options = QUICK | {"augmentation": "mosaic", "epochs": 4, "batch_size": 2}
    run = sl.train(model, data, runs=tmp_path, on_epoch=seen.append, **options)  # type: ignore[arg-type]
    assert [row["closed"] for row in seen] == [0, 0, 0, 1]  # the last 15 %
    assert "From epoch 4 on" in (run.folder / "report.html").read_text()


def test_a_report_of_an_evaluation_alone_has_no_empty_sections(run, folder):
    result = sl.evaluate(run.model, folder, progress=False)
    text = sl.write_report("alone", result, model=run.model).read_text()
    assert "split test of" in text
    for heading in ("Training", "Recipe", "Environment"):
        assert f"<h2>{heading}</h2>" not in text
    assert all(f"<h2>{heading}</h2>" in (run.folder / "report.html").read_text() for heading in ("Training", "Recipe"))


def test_a_class_that_is_never_predicted_has_no_precision_and_says_why():
    from sightline.evaluation import evaluate_segmentation
    from sightline.structures import ClassMap

    labels = torch.tensor([[0, 0, 1, 1]] * 4)
    answers = torch.zeros(4, 4, dtype=torch.int64)
    result = evaluate_segmentation([ClassMap(labels)], [ClassMap(answers)], ["ground", "road"])
    assert result.per_class["road"]["precision"] is None
    assert result.per_class["road"]["IoU"] == 0
    assert "n/a: no pixel was predicted as 'road'" in str(result)
    assert "not there" not in str(result)


def test_a_path_in_the_place_of_a_model_is_told_apart(folder):
    with pytest.raises(InputError, match="which is a path; train takes a model or its name first and the data second"):
        sl.train(str(folder), epochs=1)
    with pytest.raises(InputError, match="there is no model 'sightline_nn'; did you mean"):
        sl.train("sightline_nn", folder, epochs=1)


def test_words_of_a_shell_are_short(run, folder):
    assert repr(sl.open_dataset(folder)).startswith("Dataset(coco, 12 images without splits, ")
    assert repr(run).startswith(f"Run({str(run.folder)!r}, 1 epoch")
    assert "\n" not in repr(run)
    result = sl.evaluate(run.model, progress=False)
    assert repr(result).startswith(f"DetectionResult(1 image: AP {result.metrics['AP']:.3f}, AP50 ")
    assert len(repr(result)) < 120


def test_keywords_of_the_data(folder):
    data = sl.open_dataset(folder)
    for call, wanted in (
        (lambda: sl.open_dataset(folder, formt="coco"), "open_dataset has no argument 'formt'; did you mean 'format'"),
        (lambda: data.filter(clases="cone"), "filter has no argument 'clases'; did you mean 'classes'"),
        (lambda: data.split(validation=0.1), "split has no argument 'validation'; it takes train, val, test, seed"),
        (lambda: sl.load("x", map_location="cpu"), "load has no argument 'map_location'; it takes path, device"),
        (lambda: sl.list_models(tasks="x"), "models has no argument 'tasks'; did you mean 'task'"),
    ):
        with pytest.raises(InputError, match=wanted):
            call()


def test_shares_below_one_say_what_they_leave_out(folder, caplog):
    data = sl.open_dataset(folder)
    assert len(data.split()) == 12
    assert not caplog.messages
    assert len(data.split(0.5, 0.25, 0)) == 9
    assert caplog.messages == ["3 images of 12 are left out of all splits: 0.5 + 0.25 is less than 1"]


def test_bytes_that_are_no_image(run):
    with pytest.raises(InputError, match=r"^cannot read the image given as bytes: "):
        sl.predict(run.model, b"hello")
