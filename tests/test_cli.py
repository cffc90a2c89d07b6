"""The command line: every verb on real input, and every mistake ends in one sentence that helps."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from sightline import __version__, cli
from sightline.cli.inputs import parse_pairs
from sightline.data.formats import WRITTEN, open_dataset
from sightline.data.scenes import write_scenes
from sightline.data.transforms.recipes import NAMES
from sightline.models.catalog import ENTRIES, find
from tests.logs import log_level_kept

SMALL = "--model ssdlite320_mobilenet_v2 --arg image_size=96 --batch-size 4 --set workers=0 --set warmup_steps=2"
TINY = (*SMALL.split(), "--device", "cpu", "--quiet")
COUNTS = {"train": 10, "val": 4, "test": 4}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def sightline(*arguments: object) -> Outcome:
    """Run `sightline ARGUMENTS` in this process; whatever is not caught there fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        try:
            with log_level_kept():
                cli.main()
        except SystemExit as end:
            return Outcome(int(end.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the program did not end")


def done(*arguments: object) -> Outcome:
    outcome = sightline(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with what a change of it would change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns if path.is_file() else 0, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(*arguments: object) -> str:
    """The sentence a mistake ends in: alone on the error output, and no file is made or changed."""
    before = contents(Path.cwd())
    outcome = sightline(*arguments)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert contents(Path.cwd()) == before
    return outcome.err.removeprefix("error: ").strip()


@pytest.fixture(scope="session")
def solids(tmp_path_factory) -> Path:
    """A small dataset of scenes as JPEG files in COCO format, not to be changed."""
    folder = tmp_path_factory.mktemp("cli") / "solids"
    return write_scenes(folder, **COUNTS, size=96, suffix=".jpg", progress=False)


@pytest.fixture(scope="session")
def trained(solids, tmp_path_factory) -> Path:
    """The folder of a short run on it, not to be changed."""
    runs = tmp_path_factory.mktemp("trained")
    done("train", solids, *TINY, "--epochs", 2, "--runs", runs, "--name", "first", "--lr", "1e-3")
    return runs / "first"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Each test has a folder of its own to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copy(solids, here) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(solids, "data"))


def damage(copy: Path, split: str = "train", **values: object) -> None:
    """Change fields of the split's first annotation."""
    path = copy / "annotations" / f"instances_{split}.json"
    table = json.loads(path.read_text())
    table["annotations"][0] |= values
    path.write_text(json.dumps(table))


class TestVerbs:
    def test_help_and_version(self):
        assert done("--version").out == f"{__version__}\n"
        text = done("--help").out
        for verb in [
            "check",
            "convert",
            "look",
            "train",
            "compare",
            "ablate",
            "evaluate",
            "predict",
            "models",
            "doctor",
            "scenes",
            "report",
            "demo",
        ]:
            assert f"\n  {verb} " in text
            assert "Usage: sightline " + verb in done(verb, "--help").out
        assert "…" not in text
        assert "..." not in text.split("Commands:")[1]  # each line says it all

    def test_an_unknown_verb_or_option_shows_the_usage(self):
        outcome = sightline("chekc", "data")
        assert outcome.code == 2
        assert "No such command 'chekc'" in outcome.err
        outcome = sightline("convert", "data", "out")
        assert outcome.code == 2
        assert "Missing option '--to'" in outcome.err

    def test_scenes(self):
        outcome = done("scenes", "out", "--train", 3, "--val", 2, "--test", 0, "--size", 64, "--seed", 5, "-q")
        assert "3 + 2 + 0 scenes of 64×64; next: sightline check out" in outcome.out
        data = open_dataset("out")
        assert {split: len(data[split]) for split in data.splits} == {"train": 3, "val": 2}

    def test_check(self, solids):
        outcome = done("check", solids, "--quiet")
        assert "Format coco: 18 images (train 10, val 4, test 4)" in outcome.out
        assert "Training can start" in outcome.out
        assert outcome.err == ""
        report = json.loads(done("check", solids, "--json", "--fast", "-q").out)
        assert report["ok"] is True
        assert report["images"] == COUNTS
        assert (
            "The model's anchors fit" in done("check", solids, "--fast", "-q", "--model", "ssdlite320_mobilenet_v2").out
        )

    @pytest.mark.parametrize("how", ["clip", "drop"])
    def test_check_fix(self, copy, how):
        damage(copy, bbox=[80, 80, -30, -30])  # its corners are exchanged
        outcome = sightline("check", copy, "--fast", "--json", "-q")
        assert outcome.code == 1
        report = json.loads(outcome.out)
        assert report["ok"] is False
        assert [p["rule"] for p in report["problems"] if p["level"] == "error"] == ["box-inverted"]
        before = contents(copy)
        outcome = done("check", copy, "--fix", how, "-q")
        assert "Wrote 18 images" in outcome.out
        assert contents(copy) == before
        done("check", "data-fixed", "-q")
        lost = len(open_dataset(copy).columns.labels) - len(open_dataset("data-fixed").columns.labels)
        assert lost == (how == "drop")

    def test_check_fix_says_where_the_copy_goes(self, copy, monkeypatch):
        beside = copy.resolve().with_name("data-fixed")
        monkeypatch.chdir(copy)
        assert f"to {beside}." in done("check", ".", "--fast", "--fix", "clip", "-q").out
        annotations = Path("annotations/instances_val.json")
        assert "to annotations/instances_val-fixed." in done("check", annotations, "--fast", "--fix", "clip", "-q").out

    def test_convert_round_trip(self, solids):
        done("convert", solids, "voc", "--to", "voc")
        done("convert", "voc", "yolo", "--to", "yolo")
        outcome = done("convert", "yolo", "coco", "--to", "coco")
        before, after = open_dataset(solids), open_dataset("coco")
        assert f"18 images with {before.columns.objects} objects written to coco as coco" in outcome.out
        assert after.classes == before.classes
        assert after.splits == before.splits
        for split in before.splits:
            for i in range(len(before[split])):
                one, other = before[split].target(i), after[split].target(i)
                assert one.labels.tolist() == other.labels.tolist()
                assert (one.boxes - other.boxes).abs().max() < 1e-3

    def test_look(self, solids):
        assert done("look", solids).out == "contact_sheet.png: 16 of 18 images, augmentation none\n"
        outcome = done("look", solids, "-o", "strong.png", "--augmentation", "strong", "--split", "val", "-n", 9)
        assert outcome.out == "strong.png: 4 of 4 images of val, augmentation strong\n"
        for name in ("contact_sheet.png", "strong.png"):
            with Image.open(name) as picture:
                assert min(picture.size) > 200

    def test_train(self, trained):
        assert {path.name for path in trained.iterdir()} >= {
            "recipe.yaml",
            "environment.json",
            "metrics.jsonl",
            "metrics.csv",
            "best.safetensors",
            "last.safetensors",
            "checkpoint",
            "report.html",
            "evaluation.json",
        }
        rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2]
        assert {"train/loss", "val/loss", "val/AP", "val/AP50"} <= rows[0].keys()

    def test_train_says_what_comes_next(self, solids):
        outcome = done("train", solids, *TINY, "--epochs", 1, "--no-report")
        lines = outcome.out.splitlines()
        assert lines[0] == "runs/run1: finished 1 epoch"
        assert lines[-2:] == [
            "evaluate: sightline evaluate runs/run1",
            "predict:  sightline predict runs/run1 IMAGES",
        ]
        assert not Path("runs/run1/report.html").exists()
        measured = done("evaluate", "runs/run1", "-q").out  # the run knows its data
        assert measured.startswith(f"ssdlite320_mobilenet_v2 on {solids} (test, 4 images)")
        assert measured == done("evaluate", "runs/run1", solids, "-q").out

    def test_train_shows_its_epochs_where_not_asked_to_be_silent(self, solids):
        outcome = done("train", solids, *TINY[:-1], "--epochs", 1, "--no-report", "--augmentation", "light")
        assert "10 training images, 4 validation images; 5 classes: sphere, box, cylinder, cone, ring" in outcome.err
        assert "epoch 1/1  loss " in outcome.err

    def test_train_s_own_choice_of_model_and_numbers(self, solids):
        small = ["--arg", "image_size=96", "--set", "workers=0", "--device", "cpu", "-q"]
        done("train", solids, *small, "--epochs", 2, "--no-report")
        recipe = yaml.safe_load(Path("runs/run1/recipe.yaml").read_text())
        assert recipe["run"]["choices"]["augmentation"]["value"] == recipe["augmentation"] == "light"
        assert recipe["run"]["weights"] == "imagenet"
        assert done("evaluate", "runs/run1", solids, "-q").out.startswith("sightline_lite0 on ")
        done("look", solids, "--augmentation", "mosaic", "-n", 2)
        assert Path("contact_sheet.png").is_file()

    def test_train_s_own_choice_for_class_maps(self, solids):
        done("convert", solids, "maps", "--to", "semantic")
        small = ["--set", "workers=0", "--device", "cpu", "-q", "--no-report"]
        done("train", "maps", *small, "--epochs", 1, "--batch-size", 4)
        assert done("evaluate", "runs/run1", "maps", "-q").out.startswith("unet_lite0 on ")

    def test_train_from_the_weights_of_a_run(self, solids, trained, caplog):
        with caplog.at_level(logging.INFO):
            weights = trained / "best.safetensors"
            done("train", solids, *TINY[:-1], "--epochs", 1, "--no-report", "--weights", weights, "--seed", 7)
        assert f"{weights}: 480 of the model's 480 entries loaded" in caplog.text
        assert Path("runs/run1/best.safetensors").is_file()

    def test_data_without_splits_is_divided_and_the_test_part_stays_unseen(self, solids):
        alone = solids / "annotations" / "instances_train.json"
        outcome = done("train", alone, *TINY, "--epochs", 1, "--no-report", "--seed", 3, "--name", "a")
        assert "with seed 3" in outcome.err
        command = next(line for line in outcome.out.splitlines() if line.startswith("evaluate: "))
        arguments = command.removeprefix("evaluate: sightline ").split()
        assert arguments == ["evaluate", "runs/a"]
        for given in (arguments, [*arguments, alone], [*arguments, alone, "--split", "val"]):
            measured = json.loads(done(*given, "--json", "-", "-q").out)
            assert measured["split"] == "val"  # a tenth of the images that the file calls its training images
            assert measured["images"] == 1
        whole = json.loads(done("evaluate", "runs/a", alone, "--split", "all", "--json", "-", "-q").out)
        assert whole["images"] == 10
        assert "the model was trained on 9 of the 10 images" in whole["notes"][-1]

    def test_evaluate(self, trained, solids):
        outcome = done("evaluate", trained, solids, "--json", "numbers.json", "--report", "report", "-q")
        assert outcome.out.startswith(f"ssdlite320_mobilenet_v2 on {solids} (test, 4 images)\n")
        for name in [
            "AP",
            "AP50",
            "AP75",
            "APs",
            "APm",
            "APl",
            "AR1",
            "AR10",
            "AR100",
            "ARs",
            "ARm",
            "ARl",
            "VOC2007_AP50",
            "VOC2010_AP50",
        ]:
            assert f"\n  {name} " in outcome.out
        for name in ("sphere", "ring"):
            assert f"\n{name} " in outcome.out
        assert "metrics: numbers.json\nreport: report/report.html\n" in outcome.out
        written = json.loads(Path("numbers.json").read_text())
        assert (written["split"], written["images"]) == ("test", 4)
        assert "<html" in Path("report/report.html").read_text()
        printed = done("evaluate", trained / "best.safetensors", solids, "--json", "-", "-q", "--batch-size", 1)
        assert set(json.loads(printed.out)["metrics"]) == set(written["metrics"])
        assert json.loads(done("evaluate", trained, solids, "--split", "val", "--json", "-").out)["split"] == "val"

    def test_predict(self, trained, solids):
        images = sorted((solids / "test").iterdir())
        outcome = done("predict", trained, images[0], "--out", "one", "--threshold", 0, "-q")
        assert outcome.out.startswith("one: ")
        assert "objects in 1 image; written: predictions.json, 1 picture\n" in outcome.out
        found = json.loads(Path("one/predictions.json").read_text())
        assert [image["file_name"] for image in found["images"]] == [images[0].name]
        assert [c["name"] for c in found["categories"]] == ["sphere", "box", "cylinder", "cone", "ring"]
        assert {"bbox", "score", "category_id", "category"} <= found["annotations"][0].keys()
        with Image.open(f"one/{images[0].name}") as picture:
            assert picture.size == (384, 384)  # enlarged, so that labels do not hide it
        done("predict", trained, solids / "test", "--out", "folder", "-q", "--threshold", 0.01)
        assert len(list(Path("folder").glob("*.jpg"))) == 4
        done("predict", trained, f"{solids}/test/00000[12].jpg", images[3], "--out", "some", "--no-pictures", "-q")
        assert [p.name for p in Path("some").iterdir()] == ["predictions.json"]
        assert len(json.loads(Path("some/predictions.json").read_text())["images"]) == 3

    def test_predict_says_when_nothing_was_found(self, trained, solids):
        outcome = done("predict", trained, solids / "test", "--out", "none", "--threshold", 1)
        assert "0 objects in 4 images" in outcome.out
        assert "no object has a score of at least 1; lower it with --threshold" in outcome.err

    def test_predict_leaves_out_what_cannot_be_read(self, trained, solids, copy):
        cut = copy / "test" / "000002.jpg"
        cut.write_bytes(cut.read_bytes()[:700])
        outcome = done("predict", trained, copy / "test", "--out", "found", "-q")
        assert "in 3 images" in outcome.out
        assert "left out: cannot read the image data/test/000002.jpg" in outcome.out

    def test_models(self, monkeypatch):
        some = [find("faster_rcnn_resnet50_fpn"), find("resnet50")]  # building all takes long
        with monkeypatch.context() as patch:
            patch.setattr("sightline.models.catalog.ENTRIES", some)
            rows = {row["name"]: row for row in json.loads(done("models", "--json").out)}
        assert list(rows) == [entry.name for entry in some]
        assert rows["faster_rcnn_resnet50_fpn"]["task"] == "detection"
        assert rows["resnet50"]["parameters"] == 25_557_032  # as published
        one = nn.ParameterList([torch.empty(25_557_032, device="meta")])
        monkeypatch.setattr("sightline.models.catalog.as_published", lambda _: one)
        text = done("models").out
        assert "resnet50 " in text
        assert " 25.6 M  imagenet: top-1 " in text
        assert text.startswith("detection\n")
        assert max(map(len, text.splitlines())) <= 120
        for entry in ENTRIES:
            assert entry.name in text

    def test_models_of_a_task_and_one_model(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")  # in a narrower terminal, names are shortened
        rows = json.loads(done("models", "--task", "segmentation", "--weights", "coco", "--json").out)
        assert [row["name"] for row in rows if row["name"].startswith("lraspp")] == ["lraspp_mobilenet_v3_large"]
        assert {row["task"] for row in rows} == {"segmentation"}
        text = done("models", "retinanet_mobilenet_v2_fpn").out
        assert "file      sightline/models/detection/retinanet.py" in text
        assert 'settings.box_loss = "giou"' in text
        assert "imagenet (backbone only, mobilenet_v2): top-1 71.878 %; BSD-3-Clause" in text
        assert max(map(len, text.splitlines())) <= 120
        assert "multiply-adds)" in text
        assert "head.classification_head.cls_logits " in text
        assert text.count("\n", text.index("\nlayer ")) <= 1 + 40 + 8  # the head, the layers, rules and totals
        assert "head.classification_head " in done("models", "retinanet_mobilenet_v2_fpn", "--depth", "2").out
        described = json.loads(done("models", "mobilenet_v2", "--json", "--depth", "1").out)
        assert described["weights"][1]["preprocess"]["resize"] == 232
        assert described["summary"]["trainable"] == described["parameters"] == 3_504_872
        assert [row["name"] for row in described["summary"]["layers"]] == ["network"]
        assert "give its NAME" in refused("models", "--depth", "2")
        assert "No model has both" in done("models", "--task", "proposal", "--weights", "voc").out

    def test_doctor(self):
        outcome = done("doctor")
        for group in ("versions", "devices", "places", "weights", "extras"):
            assert f"{group}\n" in outcome.out

    def test_report(self, trained, solids):
        shutil.copytree(trained, "run")
        Path("run/report.html").unlink()
        before = json.loads(Path("run/evaluation.json").read_text())
        note = "note: the best epoch was chosen on these images\n"
        assert done("report", "run").out == f"{note}run/report.html\n"
        assert json.loads(Path("run/evaluation.json").read_text()) == before  # the same images
        assert f"split val of {solids}" in Path("run/report.html").read_text()
        said = done("report", "run", "--data", solids, "--split", "test").out
        assert f"the report showed 4 images (val) of {solids}; it now shows 4 images (test) of {solids}\n" in said
        after = json.loads(Path("run/evaluation.json").read_text())
        assert (after["measured"]["data"], after["measured"]["split"]) == (str(solids), "test")
        assert after["metrics"] != before["metrics"]
        assert "it now shows" not in done("report", "run", "--data", solids, "--split", "test").out
        said = done("report", "run", "--split", "all").out
        assert "note: the model was trained on 10 of the 18 images" in said
        text = Path("run/report.html").read_text()
        assert "The model was trained on 10 of the 18 images" in text
        assert "what it depends on" not in text
        done("report", "run", "--explain")
        text = Path("run/report.html").read_text()
        assert text.count("<small>what it depends on</small>") == 4  # images, all of which are among the worst

    def test_demo(self, monkeypatch):
        monkeypatch.setattr("sightline.demo.SCENES", {"train": 8, "val": 2, "test": 12})
        assert refused("demo", "out", "--minutes", 0).startswith("minutes is 0.0, but it must be a number above 0")
        # as on a machine so fast that a second holds enough steps
        monkeypatch.setattr("sightline.verbs.planning._seconds", lambda work: (work(), 0.02)[1])
        out = done("demo", "out", "--minutes", 0.02).out
        assert "Dataset(coco, 22 images (train 8, val 2, test 12)" in out
        for step in ("1. render", "2. check", "3. train", "4. evaluate", "5. look, predict, save"):
            assert f"── {step}" in out
        lines = out.splitlines()
        assert lines[-6:-4] == ["  report    out/run1/report.html", "  pictures  out/run1/pictures"]
        assert all(line.startswith("  sightline ") for line in lines[-3:])
        assert len(list(Path("out/run1/pictures").glob("*.png"))) == 12
        assert Path("out/run1/report.html").is_file()
        again = done("demo", "out", "--minutes", 0.02).out
        assert "out/scenes exists and is used again" in again
        assert Path("out/run2/report.html").is_file()


class TestInterruption:
    def interrupted(self, monkeypatch, at: int, *arguments: object) -> Outcome:
        """Press Ctrl-C when the image of this number is prepared."""
        seen = []

        def press(image, target, generator):
            seen.append(1)
            if len(seen) == at:
                signal.raise_signal(signal.SIGINT)
            return image, target

        with monkeypatch.context() as patch:
            patch.setattr("sightline.data.transforms.recipes.named", lambda *_: press)
            return sightline(*arguments)

    def test_ctrl_c_says_how_to_resume_and_resuming_works(self, solids, monkeypatch):
        train = ["train", solids, *TINY, "--augmentation", "none", "--epochs", 2, "--no-report"]
        done(*train, "--name", "whole")
        outcome = self.interrupted(monkeypatch, 13, *train)
        assert outcome.code == 130
        assert "runs/run1: interrupted after 1 epoch; continue with the same command" in outcome.out
        line = next(line for line in outcome.out.splitlines() if line.startswith("resume: "))
        command = line.removeprefix("resume:   sightline ").split()
        assert command == [*map(str, train), "--name", "run1", "--resume"]
        outcome = done(*command)
        assert "runs/run1: finished 2 epochs" in outcome.out
        whole, resumed = (load_file(f"runs/{name}/last.safetensors") for name in ("whole", "run1"))
        assert all(bool((whole[key] == resumed[key]).all()) for key in whole)

    def test_ctrl_c_elsewhere(self, solids, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("sightline.api.check", stop)
        outcome = sightline("check", solids)
        assert (outcome.code, outcome.out, outcome.err) == (130, "", "stopped\n")

    def test_ctrl_c_before_the_verb_begins(self, monkeypatch):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("sightline.cli.app", stop)
        outcome = sightline("check", "anything")
        assert (outcome.code, outcome.out, outcome.err) == (130, "", "stopped\n")

    def test_resume_takes_the_run_s_own_model(self, solids, monkeypatch):
        train = ["train", solids, *TINY, "--augmentation", "none", "--epochs", 2, "--no-report"]
        done(*train, "--name", "whole")
        self.interrupted(monkeypatch, 13, *train)
        done("train", "runs/run1", "--resume", "--device", "cpu", "-q", "--no-report")
        whole, resumed = (load_file(f"runs/{name}/last.safetensors") for name in ("whole", "run1"))
        assert all(bool((whole[key] == resumed[key]).all()) for key in whole)

    def test_resume_without_a_run(self, solids, trained):
        assert refused("train", solids, "--resume").startswith("--resume needs the run's --name, or its folder: ")
        sentence = refused("train", solids, "--resume", "--name", "zz")
        assert sentence == "there is no run runs/zz to resume; start it without --resume"
        Path("runs/zz").mkdir(parents=True)
        assert "there is no recipe runs/zz/recipe.yaml" in refused("train", solids, "--resume", "--name", "zz")

    def test_resume_otherwise_than_begun(self, solids, trained):
        shutil.copytree(trained, "runs/first")
        begun = ("--model", "ssdlite320_mobilenet_v2")
        resume = ("train", solids, "--resume", "--name", "first", "-q", *begun)
        sentence = refused(*resume, "--arg", "image_size=96", "--lr", 0.5)
        assert "the recipe differs from that of" in sentence
        assert "lr 0.001 → 0.5" in sentence
        sentence = refused(*resume)  # its model saw images at 96 pixels
        assert "belongs to another model (its image_size: 96 there, not given here); resume with" in sentence
        sentence = refused(*resume, "--model", "ssdlite320_mobilenet_v3_large")
        assert "belongs to another model" in sentence
        assert sentence.endswith("resume with the model that the run was started with")


class TestMistakes:
    @pytest.mark.parametrize("verb", ["check", "look", "train", "evaluate", "convert", "report"])
    def test_no_such_path(self, verb, trained):
        before = {"evaluate": [trained], "report": [trained, "--data"]}.get(verb, [])
        after = {"convert": ["out", "--to", "voc"]}.get(verb, [])
        assert refused(verb, *before, "nowhere", *after) == "there is no nowhere; give the path of a dataset's folder"

    def test_no_such_model_file_image_or_run(self, trained, solids):
        sentence = refused("predict", trained, "photo.jpg", "--out", "x")
        assert sentence.startswith("there is no image or folder photo.jpg; correct the path, or give a pattern")
        assert "no image matches the pattern *.jpg" in refused("predict", trained, "*.jpg", "--out", "x")
        sentence = refused("predict", "runs/nope", "photo.jpg", "--out", "x")
        assert sentence == "runs/nope: there is no such file or folder; give a run's folder or a .safetensors file"
        assert "this folder holds no trained model" in refused("evaluate", solids, solids)
        assert "there is no run nope (a folder with metrics.jsonl)" in refused("report", "nope")
        assert not Path("nope").exists()
        assert "there is no such file" in refused("train", solids, "--weights", "nope.pth")

    @pytest.mark.parametrize("verb", ["check", "train"])
    def test_empty_folder(self, verb):
        Path("empty").mkdir()
        assert refused(verb, "empty") == "the folder empty is empty; give a folder that contains a dataset"

    def test_folder_without_images(self, trained):
        Path("empty").mkdir()
        sentence = refused("predict", trained, "empty", "--out", "x")
        assert sentence.startswith("the folder empty and its subfolders hold no images; searched for files ending in ")
        assert ".jpg" in sentence

    @pytest.mark.parametrize("verb", ["check", "train"])
    def test_no_format_says_what_is_there(self, verb):
        Path("data").mkdir()
        Path("data/notes.txt").write_text("no labels")
        assert refused(verb, "data") == (
            "data contains 1 .txt, but it is not a dataset in a known format. notes.txt is not a YOLO label, whose "
            "lines are 'class x y width height' as fractions, not 'no labels'; docs/formats.md lists the formats"
        )

    def test_format_to_convert_to(self, solids):
        message = refused("convert", solids, "out", "--to", "cocoo")
        assert message.startswith("'cocoo' is not a format; write one of coco")

    def test_truncated_jpeg(self, copy):
        first = copy / "train" / "000001.jpg"
        first.write_bytes(first.read_bytes()[:900])
        outcome = sightline("check", copy, "-q")
        assert outcome.code == 1
        assert "ERROR image-truncated (1): truncated images\n  · train/000001.jpg: " in outcome.out
        sentence = refused("train", copy, *TINY, "--epochs", 1)
        assert "data/train/000001.jpg" in sentence
        assert "cut" in sentence or "truncated" in sentence
        assert not Path("runs/run1").exists()

    @pytest.mark.parametrize(
        ("box", "rule", "sentence"),
        [
            ([80, 80, -30, -30], "box-inverted", "has the box [80, 80, 50, 50]"),
            ([10, float("nan"), 30, 30], "box-not-finite", "nan"),
        ],
    )
    def test_boxes_that_cannot_be(self, copy, box, rule, sentence):
        damage(copy, bbox=box)
        outcome = sightline("check", copy, "--fast", "-q")
        assert outcome.code == 1
        assert "Training cannot start: 1 error" in outcome.out
        assert f"ERROR {rule} (1)" in outcome.out
        assert sentence in outcome.out
        text = refused("train", copy, *TINY, "--epochs", 1)
        assert text.startswith("the training data has an error: ")
        assert sentence in text
        assert text.endswith("--fix drop --out COPY it writes a repaired copy")
        assert "000001.jpg: annotation 1 (" in text

    def test_boxes_without_area_are_told_and_left_out(self, copy):
        damage(copy, bbox=[10, 10, 0, 30])
        outcome = done("check", copy, "--fast", "-q")
        assert "WARNING box-zero-area (1): boxes without area" in outcome.out
        assert "has the box [10, 10, 10, 40], 0\u00a0×\u00a030 pixels" in outcome.out
        done("train", copy, *TINY, "--epochs", 1, "--no-report")

    @pytest.mark.parametrize("verb", ["check", "train"])
    def test_label_of_an_unknown_class(self, copy, verb):
        damage(copy, category_id=77)
        if verb == "check":  # lists them all
            outcome = sightline("check", copy, "--fast", "-q")
            assert outcome.code == 1
            assert "ERROR unknown-class (1)" in outcome.out
            sentence = outcome.out
        else:
            sentence = refused(verb, copy)
        assert "instances_train.json" in sentence
        assert "77" in sentence
        assert "categor" in sentence

    def test_two_formats_in_one_folder(self, copy):
        done("convert", copy, "yolo", "--to", "yolo")
        for name in ("images", "labels", "data.yaml"):
            Path("yolo", name).rename(copy / name)
        for verb in (("check",), ("look",), ("anchors",), ("train",), ("convert", "out", "--to", "voc")):
            sentence = refused(verb[0], copy, *verb[1:])
            assert "more than one format: coco (" in sentence
            assert "choose one with --format coco or --format yolo (in Python" in sentence
        assert "Format yolo: " in done("check", copy, "--fast", "-q", "--format", "yolo").out
        assert "Format coco: " in done("check", copy, "--fast", "-q", "--format", "coco").out
        done("convert", copy, "voc", "--to", "voc", "--format", "yolo")
        done("look", copy, "--format", "yolo", "-n", 1)
        done("anchors", copy, "--format", "yolo", "-k", 1)

    def test_image_without_a_label_and_label_without_an_image(self, solids):
        done("convert", solids, "yolo", "--to", "yolo")
        os.remove("yolo/labels/train/000001.txt")
        os.remove("yolo/images/train/000002.jpg")
        outcome = done("check", "yolo", "--fast", "-q")
        assert "NOTE image-without-label (1): images without objects" in outcome.out
        assert "000001.jpg" in outcome.out
        assert "WARNING label-without-image (1): labels without an image\n  · labels/train/000002.txt: " in outcome.out
        done("train", "yolo", *TINY, "--epochs", 1, "--no-report")

    def test_listed_image_that_is_not_there(self, copy):
        os.remove(copy / "train" / "000003.jpg")
        outcome = sightline("check", copy, "--fast", "-q")
        assert outcome.code == 1
        assert "ERROR image-missing (1): missing images\n  · train/000003.jpg: " in outcome.out
        assert "train/000003.jpg" in refused("train", copy, *TINY, "--epochs", 1)

    def test_no_objects_at_all(self, copy):
        for path in (copy / "annotations").iterdir():
            table = json.loads(path.read_text())
            for image in table["images"]:
                image.pop("relations", None)  # they name annotations
            path.write_text(json.dumps(table | {"annotations": []}))
        outcome = sightline("check", copy, "--fast", "-q")
        assert outcome.code == 1
        assert "ERROR no-objects" in outcome.out
        assert "there is nothing to learn" in outcome.out
        assert "none of the 10 images has objects" in refused("train", copy, *TINY, "--epochs", 1)

    def test_weights_of_another_model(self, solids, trained):
        weights = trained / "best.safetensors"
        sentence = refused("train", solids, "--model", "faster_rcnn_resnet18_fpn", "--weights", weights)
        assert sentence.startswith(f"{weights}: ")
        assert "another model" in sentence
        Path("notes.pth").write_text("no weights")
        assert "notes.pth" in refused("train", solids, "--weights", "notes.pth")
        assert "notes.pth: not a saved Sightline model" in refused("evaluate", "notes.pth", solids)
        none = "there are no published weights for sightline_s, neither 'coco' nor others"
        assert none in refused("train", solids, "--model", "sightline_s", "--weights", "coco")
        own = "there are no 'coco' weights for sightline_lite0; there are imagenet"
        assert own in refused("train", solids, "--weights", "coco")

    def test_data_of_other_classes_than_the_model(self, copy, trained):
        for path in (copy / "annotations").iterdir():
            path.write_text(path.read_text().replace('"cone"', '"pyramid"').replace('"ring"', '"torus"'))
        sentence = refused("evaluate", trained, copy)
        assert "the classes of the data and the model differ" in sentence
        assert "the model lacks 'pyramid', 'torus' and the model also has 'cone', 'ring'" in sentence

    def test_output_that_exists(self, solids, trained):
        Path("mine").mkdir()
        Path("mine/notes.txt").write_text("mine")
        photos = solids / "test"
        for sentence in (
            refused("predict", trained, photos, "--out", "mine"),
            refused("train", solids, *TINY, "--epochs", 1, "--runs", ".", "--name", "mine"),
            refused("evaluate", trained, solids, "--report", "mine"),
            refused("scenes", "mine", "--train", 1),
            refused("convert", solids, "mine", "--to", "voc"),
            refused("check", solids, "--fix", "drop", "--out", "mine", "-q"),
            refused("look", solids, "--out", "mine/notes.txt"),
            refused("evaluate", trained, solids, "--json", "mine/notes.txt"),
        ):
            assert "mine" in sentence
            assert "nothing is overwritten" in sentence or "nothing was overwritten" in sentence
        assert Path("mine/notes.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--epochs", 0], "epochs is 0, but it must be a whole number of at least 1"),
            (["--minutes", 0], "minutes is 0.0, but it must be a number above 0"),
            (["--batch-size", 0], "batch_size is 0, but it must be a whole number of at least 1"),
            (["--lr", -1], "lr is -1.0, but it must be a number above 0"),
            (["--set", "epoch=3"], "the command line holds the unknown entry 'epoch'; did you mean 'epochs'?"),
            (["--set", "warmup_steps=few"], "warmup_steps is 'few', but it must be a whole number"),
            (["--set", "epochs"], "--set 'epochs' must have the form name=value"),
            (["--set", "epochs="], "--set 'epochs=' has no value; write epochs=none if none is meant"),
            (["--set", "image_side=96"], "seed; arguments of the model belong to --arg, in Python to arguments="),
            (["--arg", "weight_decay=1"], "settings of the training, such as epochs, belong to --set"),
            (["--set", "lr=[1"], "--set lr=[1 is not valid YAML"),
            (["--augmentation", "strnog"], "unknown augmentation recipe 'strnog'; choose one of none, light, default"),
            (["--recipe", "nope.yaml"], "there is no recipe nope.yaml"),
            (
                ["--arg", "image_sise=96"],
                "sightline_lite0 has no argument 'image_sise'; did you mean 'image_size'?",
            ),
            (["--arg", "image_size=big"], "image_size of sightline_lite0 is 'big', but it takes a whole number"),
            (
                ["--arg", "settings=3"],
                "settings of sightline_lite0 is 3, but it takes settings, such as top=…, alpha=…",
            ),
            (["--arg", "settings.top=many"], "settings.top of sightline_lite0 is 'many', but it takes a whole number"),
            (
                ["--model", "yolo_v2_mobilenet_v2", "--arg", "anchors=3"],
                "anchors of yolo_v2_mobilenet_v2 is 3, but it takes a list of lists of numbers or none",
            ),
            (
                ["--model", "yolo_v2_mobilenet_v2", "--arg", "anchors=[[1, x]]"],
                "anchors of yolo_v2_mobilenet_v2 is [[1, 'x']], but it takes a list of lists of numbers",
            ),
            (["--model", "darknet", "--arg", "cfg=5"], "cfg of darknet is 5, but it takes a text or none"),
            (["--epochs", 2, "--set", "epochs=3"], "epochs is given twice, as --epochs and by --set; give it once"),
            (["--weights", "a.weights"], "weights a.weights: there is no such file; give a path"),
            (["--arg", "image_size=-3"], "image_size is -3, but the maps need a multiple of 32; give 32"),
            (
                ["--arg", "in_channels=0"],
                "in_channels is 0, but it must be a whole number of at least 1; give the number of channels",
            ),
            (["--arg", "classes=3"], "the classes are those of the data; leave it out"),
            (["--model", "ssdlite320"], "there is no model 'ssdlite320'; did you mean ssdlite320_mobilenet_v"),
            (["--model", "qqq"], "there is no model 'qqq'; `sightline models` lists them"),
            (["--model", "resnet18"], "the model is a classification model, but the labels of the training set are"),
            (["--device", "cuda:99"], "device is 'cuda:99', but this machine does not have it; it has cpu"),
            (["--tracker", "tensorbored"], "unknown tracker 'tensorbored'; did you mean 'tensorboard'?"),
            (["--train", "nope"], "there is no nope in "),
            (["--name", ".."], "the run's name is '..', but it must be the name of a folder"),
        ],
    )
    def test_numbers_and_names_of_train(self, solids, options, sentence):
        assert sentence in refused("train", solids, "-q", *options)
        assert not Path("runs/run1").exists()

    def test_weights_of_darknet_need_its_model(self, solids):
        Path("a.weights").touch()
        words = "a.weights: a darknet .weights file fits only its own .cfg file; use the model darknet"
        assert words in refused("train", solids, "-q", "--weights", "a.weights")

    def test_numbers_and_names_of_the_others(self, solids, trained):
        photo = solids / "test" / "000001.jpg"
        for arguments, sentence in {
            ("look", solids, "-n", 0): "n is 0, but it must be a whole number of at least 1",
            ("look", solids, "--augmentation", "x"): "unknown augmentation recipe 'x'; choose one of none",
            ("look", solids, "-o", "a.foo"): "a.foo: an image cannot be written as .foo; use .png",
            ("look", solids, "-o", "no/a.png"): "no/a.png: there is no folder no; create it first",
            ("look", solids, "--split", "x"): "there is no split 'x'; there are: train, val, test",
            ("check", solids, "--fix", "mend"): "--fix is 'mend', but it must be clip or drop",
            ("check", solids, "--model", "resnet18", "-q"): "resnet18 has no anchors to compare the objects with",
            ("check", solids, "--model", "qqq"): "there is no model 'qqq'",
            ("scenes", "s", "--size", 3): "the size of a scene is 3×3, but must be at least 16 pixels",
            ("scenes", "s", "--train", -1): "the number of scenes is -1, but must be between 0 and a million",
            ("evaluate", trained, solids, "--split", "x"): "there is no split 'x'; there are: train, val, test",
            ("evaluate", trained, solids, "--batch-size", 0): "batch_size is 0, but it must be a whole number",
            ("evaluate", trained, solids, "--device", "cuda:99"): "this machine does not have it; it has cpu",
            ("predict", trained, photo, "--out", "x", "--threshold", 7): "threshold is 7.0, but it must be a score",
            (
                "predict",
                trained,
                photo,
                "--out",
                "x",
                "--device",
                "abc",
            ): "device is 'abc', but this machine does not have it",
        }.items():
            assert sentence in refused(*arguments), arguments

    def test_unwritable_folders(self, solids, trained):
        Path("file").write_text("mine")  # nothing can be made below a file, not even by root
        photos = solids / "test"
        for sentence in (
            refused("predict", trained, photos, "--out", "file/x"),
            refused("train", solids, *TINY, "--epochs", 1, "--runs", "file"),
            refused("evaluate", trained, solids, "--report", "file/x"),
            refused("evaluate", trained, solids, "--json", "file/x.json"),
            refused("scenes", "file/x", "--train", 1),
            refused("convert", solids, "file/x", "--to", "voc"),
            refused("look", solids, "--out", "file/x.png"),
        ):
            assert "file" in sentence
            assert "cannot" in sentence or "there is no folder file" in sentence
        outcome = sightline("check", solids, "--fix", "drop", "--out", "file/x", "-q")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert outcome.err.startswith("error: cannot write file/x: ")

    def test_what_the_system_refuses_is_told(self, solids, monkeypatch):
        def full(*_, **__):
            raise OSError(28, "No space left on device", "contact_sheet.png")

        monkeypatch.setattr("PIL.Image.Image.save", full)
        assert refused("look", solids).startswith("contact_sheet.png: No space left on device; ")

    def test_faults_of_the_program_are_one_line_and_on_request_a_traceback(self, solids, monkeypatch):
        def broken(*_, **__):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("sightline.api.check", broken)
        monkeypatch.delenv("SIGHTLINE_DEBUG", raising=False)
        outcome = sightline("check", solids)
        assert outcome.code == 70
        assert outcome.err.startswith("error: unexpected OSError: [Errno 5] Input/output error")
        assert outcome.err.count("\n") == 1
        monkeypatch.setenv("SIGHTLINE_DEBUG", "1")
        with pytest.raises(OSError, match="Input/output"):
            sightline("check", solids)


def test_help_lists_every_format_that_is_written_and_every_augmentation():
    formats = " ".join(done("convert", "--help").out.split()).replace("yolo- ", "yolo-").replace("yolo -", "yolo-")
    assert f"The format to write: {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}." in formats
    for verb in ("train", "look"):
        text = " ".join(done(verb, "--help").out.split())
        names = [*NAMES]
        assert f"{', '.join(names[:-1])} or {names[-1]}" in text


def test_none_is_a_value_of_arguments_and_a_word_of_settings() -> None:
    words = ["a=none", "b=None", "c=null", "d=3", "e=nonetheless"]
    known = {"c": None, "d": 3, "e": "nonetheless"}
    assert parse_pairs(words, "--arg") == {"a": None, "b": None, **known}
    assert parse_pairs(words, "--set") == {"a": "none", "b": "None", **known}
