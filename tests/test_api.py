"""The path of the README in Python: open, make, train, evaluate, predict, draw, save, load; and what can go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.errors import InputError
from sightline.models.detection.r_cnn import RCNNSettings
from sightline.training.alternating import STEPS
from sightline.verbs.parts import training_and_validation
from sightline.verbs.train import remove_unless_begun

NAME, TINY = "ssdlite320_mobilenet_v2", {"image_size": 96}
QUICK = {"batch_size": 4, "workers": 0, "warmup_steps": 2, "augmentation": "light", "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("api") / "solids", 10, 4, 4, size=96, progress=False)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    data = sl.open_dataset(folder)
    torch.manual_seed(0)
    model = sl.create_model(NAME, classes=data.classes, **TINY)
    runs = tmp_path_factory.mktemp("runs")
    return sl.train(model, data["train"], validation=data["val"], epochs=2, lr=1e-3, runs=runs, **QUICK)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def same(one, other, tolerance=0.0):
    assert len(one) == len(other)
    assert one.labels.tolist() == other.labels.tolist()
    torch.testing.assert_close(one.boxes, other.boxes, atol=tolerance, rtol=0)
    torch.testing.assert_close(one.scores, other.scores, atol=tolerance, rtol=0)


def test_data(folder):
    data = sl.open_dataset(folder)
    assert data.splits == ("train", "val", "test")
    assert list(data.classes) == ["sphere", "box", "cylinder", "cone", "ring"]
    assert [len(data), *(len(data[split]) for split in data.splits)] == [18, 10, 4, 4]
    image, target = data[0]
    assert (image.shape, image.dtype) == ((3, 96, 96), torch.uint8)
    assert isinstance(target, sl.Instances)
    assert target.boxes.shape == (len(target), 4)
    assert sl.check(data, progress=False).ok
    assert sl.check(folder, full=False).ok


def test_run(run, folder):
    assert run.folder.name == "run1"
    assert len(run.metrics) == 2
    assert not run.model.training
    assert run.best["val/AP"] == max(row["val/AP"] for row in run.metrics)
    assert (run.folder / "report.html").is_file()
    measured = json.loads((run.folder / "evaluation.json").read_text())
    assert measured["metrics"]["AP"] == pytest.approx(run.best["val/AP"], abs=1e-9)


def test_evaluate(run, folder):
    test = sl.open_dataset(folder)["test"]
    result = sl.evaluate(run.model, test, progress=False)
    assert {"AP", "AP50", "ARl", "VOC2007_AP50", "VOC2010_AP50"} <= result.metrics.keys()
    assert "\nCOCO 2017 bbox\n" in str(result)
    assert list(result.per_class) == list(test.classes)
    again = sl.evaluate(run.folder, test, batch_size=1, progress=False)
    same = sl.evaluate(run.folder, test, progress=False)
    assert same.metrics == pytest.approx(result.metrics, abs=1e-6, nan_ok=True)
    # one epoch leaves many scores nearly equal, and the rounding of another batch size can swap two of them
    assert again.metrics == pytest.approx(result.metrics, abs=1e-4, nan_ok=True)
    by_path = sl.evaluate(run.folder / "best.safetensors", folder, progress=False, keep_predictions=False)
    assert by_path.to_dict()["images"] == 4
    assert "At a score of at least" in str(by_path) or by_path.operating_point.f1 is None


def test_labels_against_themselves_are_perfect(folder):
    from sightline.evaluation import evaluate_detection

    test = sl.open_dataset(folder)["test"]
    targets = [target for _, target in test]
    answers = [target.replace(scores=torch.ones(len(target))) for target in targets]
    metrics = evaluate_detection(targets, answers, test.classes).metrics
    assert (metrics["AP"], metrics["VOC2007_AP50"], metrics["VOC2010_AP50"]) == (1, 1, 1)


def test_a_segmenter_learns_from_objects_with_outlines(folder, tmp_path):
    data = sl.open_dataset(folder)
    maps = data.as_class_map()
    torch.manual_seed(0)
    model = sl.create_model("unet_small", maps.classes, width=4)
    run = sl.train(model, data["train"], data["val"], epochs=1, runs=tmp_path, report=False, **QUICK)
    measured = sl.evaluate(run.model, data["test"], progress=False)
    assert measured.metrics == sl.evaluate(run.model, maps["test"], progress=False).metrics
    assert run.metrics[-1]["val/mIoU"] > 0


def test_a_run_that_cannot_begin_leaves_its_name_free(folder, tmp_path):
    data = sl.open_dataset(folder).as_class_map()
    with pytest.raises(InputError, match="there are 2 class weights but 6 classes"):
        sl.create_model("unet_small", data.classes, width=4, losses={"class_weights": [1, 2]})
    model = sl.create_model("unet_small", data.classes, width=4)
    model.loss = lambda logits, labels: (_ for _ in ()).throw(InputError("no such loss"))
    with pytest.raises(InputError, match="no such loss"):
        sl.train(model, data["train"], epochs=1, name="a", runs=tmp_path, report=False, **QUICK)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b" / "step1").mkdir(parents=True)
    (tmp_path / "b" / "step1" / "metrics.jsonl").write_text("{}\n")
    remove_unless_begun(tmp_path / "b")  # a step of it was trained
    assert (tmp_path / "b" / "step1" / "metrics.jsonl").exists()


def test_whole_datasets_and_paths_give_their_splits(folder, tmp_path):
    """As the command line has it: learnt from train, validated on val, measured on test."""
    data = sl.open_dataset(folder)
    parts = {name: len(data[name]) for name in data.splits}
    assert data.whole
    assert not data[:].whole
    seen = []
    for given in (folder, data, data.as_class_map()):
        model = sl.create_model("unet_small", data.as_class_map().classes, width=4)
        sl.train(model, given, epochs=1, runs=tmp_path, report=False, on_epoch=seen.append, **QUICK)
    assert all("val/mIoU" in row for row in seen)
    held_out = {len(sl.evaluate(model, given, progress=False).image_iou) for given in (folder, str(folder), data)}
    assert held_out == {parts["test"]}
    assert len(sl.evaluate(model, data[:], progress=False).image_iou) == len(data)
    learnt = training_and_validation(data, None, 0, None, [])
    assert [len(part) for part in learnt] == [parts["train"], parts["val"]]
    assert [len(part) for part in training_and_validation(data[:], data["val"], 0, None, [])] == [
        len(data),
        parts["val"],
    ]
    assert sl.contact_sheet(folder, n=2).width > 100


def test_any_failure_before_the_first_step_leaves_the_name_free(folder, tmp_path):
    def fails(logits, labels):
        raise KeyError("inside")

    data = sl.open_dataset(folder).as_class_map()
    model = sl.create_model("unet_small", data.classes, width=4)
    model.loss = fails
    with pytest.raises(KeyError):
        sl.train(model, data["train"], epochs=1, name="a", runs=tmp_path, report=False, **QUICK)
    assert not (tmp_path / "a").exists()


def test_a_folded_model_is_not_saved(tmp_path):
    from sightline.nn.layers import fuse

    model = sl.create_model("unet_small", ["a", "b"], width=4)
    with pytest.raises(InputError, match=r"by fuse\(\), so its file could not be loaded again"):
        sl.save(fuse(model), tmp_path / "fast.safetensors")
    assert sl.save(model, tmp_path / "own.safetensors").is_file()


def test_classes_that_are_no_names():
    with pytest.raises(InputError, match="classes must be a list of names, not 5"):
        sl.create_model("unet_small", 5)


def test_a_run_that_ends_with_a_bad_batch_keeps_it(folder, tmp_path):
    data = sl.open_dataset(folder).as_class_map()
    model = sl.create_model("unet_small", data.classes, width=4)
    model.loss = lambda logits, labels: logits.sum() * float("nan")
    with pytest.raises(InputError, match=r"nonfinite_batch\.pt"):
        sl.train(model, data["train"], epochs=1, name="a", runs=tmp_path, report=False, **QUICK)
    assert (tmp_path / "a" / "nonfinite_batch.pt").is_file()


def test_a_run_s_folder_gives_weights(run, folder):
    again = sl.create_model(NAME, sl.open_dataset(folder).classes, weights=run.folder, **TINY)
    assert all(torch.equal(v, run.model.state_dict()[k]) for k, v in again.state_dict().items())
    with pytest.raises(
        InputError, match=r"not a readable PyTorch checkpoint of plain tensors \(UnpicklingError\); give"
    ):
        sl.create_model(NAME, ["a"], weights=next((folder / "test").iterdir()))


def test_predict_takes_an_image_in_every_form(run, folder):
    photos = sorted((folder / "test").iterdir())
    path = photos[0]
    expected = sl.predict(run.model, path, threshold=0)
    assert len(expected)
    assert expected.source == str(path)
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"))
        same(sl.predict(run.model, picture, threshold=0), expected)
    same(sl.predict(run.model, str(path), threshold=0), expected)
    same(sl.predict(run.model, array, threshold=0), expected)
    same(sl.predict(run.model, sl.read_image(path), threshold=0), expected)
    same(sl.predict(run.model, sl.read_image(path) / 255, threshold=0), expected, tolerance=1e-3)
    same(sl.predict(run.folder, path, threshold=0), expected)
    options = {"threshold": 0, "batch_size": 1}
    for many in (folder / "test", str(folder / "test" / "*.png"), photos, sl.open_dataset(folder)["test"]):
        results = sl.predict(run.model, many, **options)
        assert len(results) == 4
        same(results[0], expected, tolerance=1e-4)
    assert float(sl.predict(run.model, path, threshold=expected.scores.median().item()).scores.min()) > 0


def test_draw_save_load(run, folder):
    path = sorted((folder / "test").iterdir())[0]
    result = sl.predict(run.model, path, threshold=0.1)
    sl.draw(path, result).save("out.png")
    with Image.open("out.png") as picture:
        assert picture.size == (96, 96)
    file = sl.save(run.model, "bloodcells.safetensors", {"data": "solids"})
    model = sl.load("bloodcells.safetensors")
    assert model.metadata["data"] == "solids"
    assert {*model.metadata} == {"data", "trained_on", *({"threshold"} & {*run.model.metadata})}
    assert (model.name, model.classes) == (NAME, run.model.classes)
    same(sl.predict(model, path, threshold=0.1), result)
    same(sl.predict(file, path, threshold=0.1), result)
    with pytest.raises(sl.InputError, match=r"nope\.safetensors: there is no such file or folder"):
        sl.load("nope.safetensors")


def test_contact_sheet(folder):
    sheet = sl.contact_sheet(sl.open_dataset(folder), "strong", n=4, seed=1)
    assert min(sheet.size) > 100
    assert np.asarray(sheet).std() > 10
    with pytest.raises(sl.InputError, match="unknown augmentation recipe 'wild'"):
        sl.contact_sheet(sl.open_dataset(folder), "wild")


def test_splitting_by_ratio():
    data = sl.scenes(20, 64, seed=3).split(0.7, 0.2, 0.1, seed=5)
    assert [len(data[split]) for split in ("train", "val", "test")] == [14, 4, 2]
    names = [{data[split].name(i) for i in range(len(data[split]))} for split in data.splits]
    assert len(set.union(*names)) == 20  # every image in one split alone
    again = sl.scenes(20, 64, seed=3).split(0.7, 0.2, 0.1, seed=5)
    assert [again["val"].name(i) for i in range(4)] == [data["val"].name(i) for i in range(4)]
    other = sl.scenes(20, 64, seed=3).split(0.7, 0.2, 0.1, seed=6)
    assert {other["val"].name(i) for i in range(4)} != names[1]
    with pytest.raises(sl.InputError, match=r"shares .* cannot divide"):
        data.split(0.9, 0.9, 0.1)
    with pytest.raises(sl.InputError, match=r"there is no split 'dev'; there are: train, val, test"):
        data["dev"]


def test_splits_named_by_the_user(folder):
    data = sl.open_dataset(folder, train=folder / "annotations" / "instances_test.json")
    assert data.splits == ("train",)
    assert len(data) == 4


def test_convert(folder):
    assert sl.convert(folder, "yolo", "yolo").name == "yolo"
    assert len(sl.open_dataset("yolo")["train"]) == 10
    with pytest.raises(sl.InputError, match="nothing was overwritten"):
        sl.convert(folder, "yolo", "yolo")


def test_train_in_memory_with_own_numbers_and_resume():
    data = sl.scenes(8, 64)
    seen = []
    options = {**QUICK, "epochs": 2, "report": False, "name": "mine"}

    def fresh():
        torch.manual_seed(1)
        return sl.create_model(NAME, data.classes, image_size=64)

    run = sl.train(fresh(), data, on_epoch=seen.append, **options)
    assert run.folder.as_posix() == "runs/mine"
    assert [row["epoch"] for row in seen] == [1, 2]
    assert run.metric == "train/loss"
    with pytest.raises(sl.InputError, match="runs/mine exists and is not empty, and nothing is overwritten"):
        sl.train(fresh(), data, **options)
    resumed = sl.train(fresh(), data, name="mine", resume=True, progress=False, report=False, device="cpu")
    assert resumed.recipe == run.recipe
    assert len(resumed.metrics) == 2
    recipe = sl.Recipe(epochs=1, batch_size=4, workers=0)
    assert sl.train(fresh(), data, recipe=recipe, lr=1e-3, report=False, progress=False).recipe.lr == 1e-3


def test_a_report_without_a_run(run, folder):
    result = sl.evaluate(run.model, sl.open_dataset(folder)["test"], progress=False)
    assert sl.write_report("new/place", result, model=run.model, title="Solids").is_file()
    with pytest.raises(sl.InputError, match="explanations need the model"):
        sl.write_report("new/place", result, explain=True)
    written = json.loads(Path("new/place/evaluation.json").read_text())
    assert written["metrics"]["AP"] == pytest.approx(result.metrics["AP"])


def test_mistakes_in_words(run, folder):
    data = sl.open_dataset(folder)
    model = run.model
    for call, sentence in (
        (lambda: sl.open_dataset("nowhere"), "there is no nowhere; give the path of a dataset's folder"),
        (lambda: sl.create_model(NAME), "needs its classes"),
        (lambda: sl.create_model("ssdlite320_mobilenetv2", ["a"]), "did you mean ssdlite320_mobilenet_v2"),
        (lambda: sl.train(model, data["train"], epochs=0), "epochs is 0, but it must be a whole number of at least 1"),
        (lambda: sl.train(model, data["train"], epoch=1), "train has no argument 'epoch'; did you mean 'epochs'"),
        (lambda: sl.train(model, data["train"], resume=True), "to resume a run give its name"),
        (lambda: sl.train(model, data["train"], name="zz", resume=True), "there is no run runs/zz to resume"),
        (lambda: sl.train(model, sl.scenes(0)), "no images"),
        (lambda: sl.evaluate("nope", data), "nope: there is no such file or folder"),
        (lambda: sl.evaluate(model, data[:0]), "no images"),
        (lambda: sl.predict(model, "nope.jpg"), "there is no image or folder nope.jpg"),
        (lambda: sl.predict(model, 5), "an image cannot be of type int"),
        (lambda: sl.predict(model, np.zeros((96, 96, 7), np.uint8)), "7 channels"),
        (lambda: sl.check("nowhere"), "there is no nowhere"),
    ):
        with pytest.raises(sl.InputError, match=sentence):
            call()


def test_training_on_damaged_labels_is_refused(folder, tmp_path):
    shutil.copytree(folder, "data")
    path = tmp_path / "data" / "annotations" / "instances_train.json"
    table = json.loads(path.read_text())
    table["annotations"][3]["bbox"] = [50, 50, -20, 10]
    path.write_text(json.dumps(table))
    data = sl.open_dataset("data")
    model = sl.create_model(NAME, data.classes, **TINY)
    with pytest.raises(sl.InputError, match=r"the training data has an error: .* annotation 4 .*; `sightline check"):
        sl.train(model, data["train"], data["val"], epochs=1)
    assert not (tmp_path / "runs").exists()


def test_other_classes_are_named(run):
    data = sl.Dataset.from_instances(
        [torch.zeros(3, 64, 64, dtype=torch.uint8)],
        [sl.Instances((64, 64), classes=sl.Classes(["cube"]), boxes=[[1, 1, 9, 9]], labels=[0])],
        ["cube"],
    )
    with pytest.raises(sl.ClassMismatch, match="the model lacks 'cube' and the model also has 'sphere', 'box'"):
        sl.evaluate(run.model, data)
    with pytest.raises(
        sl.ClassMismatch, match=r"the classes of the model and the training set differ.* weights=FILE or RUN"
    ):
        sl.train(run.model, data, epochs=1, workers=0)


def test_r_cnn_learns_in_stages_and_keeps_what_it_found(tmp_path: Path) -> None:
    """One call: proposals are found once and kept, and the saved model holds the SVMs fitted after the last epoch."""
    data = sl.scenes(6, 64)
    settings = RCNNSettings(crop=32, proposals=60, samples=16)
    model = sl.create_model("r_cnn_mobilenet_v2", data.classes, regions=settings)
    run = sl.train(model, data, data, name="a", runs=tmp_path, epochs=2, progress=False, report=False)
    assert run.recipe.augmentation == "none"
    assert run.recipe.batch_size == 2
    assert len(list((run.folder / "proposals").rglob("*.npy"))) == 6
    assert bool(run.model.svm_fitted)
    assert not (run.folder / "features").exists()
    again = sl.load(run.folder)
    measured = sl.evaluate(run.model, data, progress=False).metrics
    assert again.metadata["metrics"]["val/AP50"] == pytest.approx(measured["AP50"], abs=1e-6)
    image = data[0][0]
    with torch.inference_mode():
        assert torch.equal(again([image])[0].scores, run.model([image])[0].scores)


def test_four_steps_by_one_call(tmp_path: Path) -> None:
    data = sl.scenes(4, 64)
    model = sl.create_model("faster_rcnn_mobilenet_v2", data.classes, min_size=64, max_size=96)
    common = {"runs": tmp_path, "progress": False, "report": False}
    run = sl.train(model, data, data, name="a", alternating=True, epochs=1, **common)
    assert run.folder == tmp_path / "a"
    assert sorted(p.name for p in run.folder.iterdir() if p.is_dir()) == list(STEPS)
    with torch.inference_mode():
        assert torch.equal(sl.load(run.folder)([data[0][0]])[0].scores, run.model([data[0][0]])[0].scores)
    with pytest.raises(InputError, match="cannot be resumed"):
        sl.train(model, data, name="a", alternating=True, resume=True, **common)
    other = sl.create_model("ssdlite320_mobilenet_v2", data.classes)
    with pytest.raises(InputError, match="has no proposal network"):
        sl.train(other, data, name="b", alternating=True, epochs=1, **common)
