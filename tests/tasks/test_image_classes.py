"""Classification of whole images from class folders to a report, by the command line and in Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.transforms import Compose, RandomResizedCrop, recipes
from sightline.errors import InputError
from sightline.evaluation import ClassificationResult
from sightline.structures import ClassScores, Size
from sightline.verbs.prepare import recipe_for
from tests.test_cli import done

TINY: dict[str, Any] = {"width": 0.25, "image_size": 32}
QUICK: dict[str, Any] = {"batch_size": 4, "workers": 0, "progress": False, "device": "cpu"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes in folders of their classes: eight to train on, four to validate on."""
    found = sl.scenes(12, 48, seed=5, kind="class_scores", objects=(1, 1))
    images, labels = [found[i][0] for i in range(12)], [found[i][1].label for i in range(12)]
    known = sorted({label for label in labels if label is not None})
    again = [known.index(label) for label in labels if label is not None]
    data = sl.Dataset.from_labels(images, again, [found.classes[k] for k in known], splits=["train"] * 8 + ["val"] * 4)
    return sl.convert(data, tmp_path_factory.mktemp("images") / "folders", "folders")


def answers(file: Path) -> dict[str, str]:
    with file.open(encoding="utf-8") as rows:
        return {row["file_name"]: row["class"] for row in csv.DictReader(rows)}


def test_the_command_line_from_folders_to_a_report(folder: Path) -> None:
    options = ["--arg", "image_size=32", "--batch-size", "4", "--set", "workers=0", "-q", "--device", "cpu"]
    assert "Training can start" in done("check", folder).out
    done("look", folder, "--augmentation", "resized_crops", "-n", "4", "-o", "look.png")
    done("train", folder, "--epochs", "1", "--name", "a", *options)
    recipe = sl.Recipe.from_yaml("runs/a/recipe.yaml")
    assert (recipe.augmentation, recipe.lr) == ("resized_crops", 1e-3)
    done("train", folder, "--name", "a", "--resume", "--epochs", "2", "-q", "--device", "cpu")
    rows = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]

    assert sl.load("runs/a").name == "efficientnet_lite0"
    done("predict", "runs/a", folder / "val", "--out", "found", "--save", "json,csv", "-q")
    said = answers(Path("found/predictions.csv"))
    truth = {str(file.relative_to(folder / "val")): file.parent.name for file in (folder / "val").rglob("*.png")}
    assert said.keys() == truth.keys()
    saved = json.loads(Path("found/predictions.json").read_text())["images"]
    assert {image["file_name"]: image["predictions"][0]["category"] for image in saved} == said
    assert {str(file.relative_to("found").with_suffix(".png")) for file in Path("found").rglob("*.png")} == said.keys()

    done("evaluate", "runs/a", "--json", "found.json", "-q")
    right = sum(said[name] == truth[name] for name in truth)
    measured = json.loads(Path("found.json").read_text())
    assert measured["metrics"]["top1"] == pytest.approx(right / 4)
    # the curve's epochs are both on these images, too few to choose by: the last is kept
    assert rows[-1]["val/top1"] == pytest.approx(right / 4)

    Path("runs/a/report.html").unlink()
    done("report", "runs/a")
    page = Path("runs/a/report.html").read_text()
    for section in ("Confusion matrix", "Reliability diagram", "Predictions beside labels"):
        assert section in page


def test_python_trains_measures_predicts_and_goes_on(folder: Path) -> None:
    data = sl.open_dataset(folder)
    given: dict[str, Any] = {"arguments": TINY, "name": "b", **QUICK}
    whole = sl.train("mobilenet_v1", data, epochs=2, **given | {"name": "whole"}, report=False)

    def stop(row: Any) -> None:
        raise KeyboardInterrupt

    sl.train("mobilenet_v1", data, epochs=2, **given, on_epoch=stop, report=False)
    run = sl.train("mobilenet_v1", data, resume=True, **given)
    weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    assert torch.equal(weights, torch.cat([p.detach().flatten() for p in whole.model.parameters()]))

    model = sl.load(run.folder)
    result = sl.evaluate(model, data["val"], device="cpu")
    assert isinstance(result, ClassificationResult)
    right = 0
    for i in range(len(data["val"])):
        image, target = data["val"][i]
        # the class by hand: the shorter side to 37 pixels, the middle 32, no padding; 48 × 48 pixels come in
        small = torch.nn.functional.interpolate(image[None] / 255, (37, 37), mode="bilinear", antialias=True)
        seen = (small[:, :, 2:34, 2:34] - model.preprocess.mean) / model.preprocess.std
        with torch.inference_mode():
            scores = model.network(seen).softmax(-1)[0]
        answer = sl.predict(model, image)
        assert torch.allclose(torch.as_tensor(answer.scores), scores, atol=1e-5)
        right += int(scores.argmax()) == target.label
    assert result.metrics["top1"] == right / 4
    sl.predict_to_folder(model, folder / "val", "found")
    assert (run.folder / "report.html").exists()


def test_what_is_learnt_slower(tmp_path: Path) -> None:
    fresh = sl.create_model("mobilenet_v2", ["a", "b"])
    torch.save({k.removeprefix("network."): v for k, v in fresh.state_dict().items()}, "known.pth")
    started = sl.create_model("mobilenet_v2", ["c", "d"], "known.pth")
    assert recipe_for(fresh, {}, "").backbone_lr_factor == 1.0
    assert recipe_for(started, {}, "").backbone_lr_factor == 0.3
    assert recipe_for(started, {"backbone_lr_factor": 0.5}, "").backbone_lr_factor == 0.5
    fresh.metadata["trained_on"] = {}  # as of a saved model
    assert recipe_for(fresh, {}, "").backbone_lr_factor == 0.3
    assert recipe_for(sl.create_model("vgg16", ["a"]), {}, "").lr == 1e-4


def test_frozen_parts_of_a_classifier_stay() -> None:
    """Of Lite0's five parts the last one learns, and what follows; normalisation layers keep their statistics."""
    model = sl.create_model("efficientnet_lite0", ["a", "b"], image_size=32, norm="frozen", trainable_layers=1).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1.0)
    torch.manual_seed(0)
    images = [torch.rand(3, 32, 32) for _ in range(2)]
    sum(model(images, [ClassScores((32, 32), i) for i in range(2)]).values()).backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {".".join(key.split(".")[1:3]) for key in changed} == {
        *("features.6", "features.7", "features.8"),
        "classifier.1",
    }
    assert not any(key.endswith(("running_mean", "running_var")) for key in changed)


@pytest.mark.parametrize(("smoothing", "logits"), [(0.0, [2.0, 0.0, -1.0]), (0.1, [2.0, 0.0, -1.0])])
def test_the_loss_is_smoothed_cross_entropy(smoothing: float, logits: list[float]) -> None:
    model = sl.create_model("mobilenet_v1", ["a", "b", "c"], **TINY, label_smoothing=smoothing)
    model.network = _Constant(logits)
    loss = model([torch.zeros(3, 40, 40)], [ClassScores((40, 40), 1)])["loss_classification"]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    wanted = np.full(3, smoothing / 3) + np.array([0, 1 - smoothing, 0])
    assert float(loss) == pytest.approx(-(wanted * np.log(probabilities)).sum(), rel=1e-6)
    with pytest.raises(InputError, match="label_smoothing is 1"):
        sl.create_model("mobilenet_v1", ["a"], label_smoothing=1)


class _Constant(torch.nn.Module):
    def __init__(self, logits: list[float]):
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_training_resizes_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sl.create_model("mobilenet_v1", ["a", "b"], **TINY).eval()
    size: Size | None = model.seen_size
    image = torch.from_numpy(np.asarray(Image.new("RGB", (80, 60), (9, 90, 200))).copy()).permute(2, 0, 1)
    bound = recipes.resized_crops(colour=False).bind(None, size)
    assert isinstance(bound, Compose)
    assert RandomResizedCrop(size, (0.25, 1.0)) in bound.transforms
    seen, target = bound(image, ClassScores((60, 80), 1), np.random.default_rng(0))

    def refuse(*_: Any) -> None:
        raise AssertionError("resized again")

    monkeypatch.setattr("sightline.models.preprocess.resize_images", refuse)
    model([seen], [target])
    with pytest.raises(AssertionError, match="again"):
        model([image], [ClassScores((60, 80), 1)])


def test_batch_norm_of_one_value_is_refused_with_the_remedy(folder: Path) -> None:
    data = sl.open_dataset(folder)
    with pytest.raises(InputError, match=r"batch norm cannot be trained on a single image .* give a batch_size of at"):
        sl.train("mobilenet_v1", data, arguments=TINY, epochs=1, **QUICK | {"batch_size": 1})
