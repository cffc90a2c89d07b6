"""A task that Sightline does not have, counting objects, goes the whole way by the public API alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

import sightline as sl
from sightline.data import kinds
from sightline.deploy.writers.base import Written
from sightline.evaluation import PlainResult
from sightline.explain.cases import Case
from sightline.explain.target import Target
from sightline.explain.targets import Explained
from sightline.models import catalog
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.report.base import GalleryImage, Part, TaskReport
from sightline.tasks import TASKS, Labels, Task, add


@dataclass(frozen=True)
class Count:
    """How many objects an image shows: the task's own target, and its answer."""

    image_size: tuple[int, int]
    number: float
    classes: sl.Classes | None = None
    source: str | None = None

    def to(self, device):
        return self


class Counter(Model):
    """Two convolutions; the sum of what they give is the count."""

    task = "counting"
    recipe_defaults = {"augmentation": "none", "lr": 0.003}

    def __init__(self, classes, in_channels=3):
        super().__init__(classes, Preprocess((0.5,) * in_channels, (0.25,) * in_channels, fixed_size=(32, 32)))
        self.network = nn.Sequential(nn.Conv2d(in_channels, 8, 8, 8), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def batch_losses(self, batch, targets):
        wanted = torch.tensor([target.number for target in targets])
        return {"count": (self.network(batch.tensor).sum((1, 2, 3)) - wanted).abs().mean()}

    def batch_results(self, batch):
        numbers = self.network(batch.tensor).sum((1, 2, 3)).tolist()
        return [Count(size, n, self.classes) for size, n in zip(batch.original_sizes, numbers, strict=True)]


class CountMeasure:
    """The mean error, and the share of images whose rounded count is right."""

    def __init__(self, classes, keep):
        self.pairs = []

    def add(self, target, prediction):
        self.pairs.append((target, prediction))

    def result(self, names=None):
        errors = np.array([abs(target.number - found.number) for target, found in self.pairs])
        metrics = {"error": float(errors.mean()), "exact": float((errors < 0.5).mean())}
        targets, found = zip(*self.pairs, strict=True)
        return PlainResult("counting", metrics, errors, names=names, targets=targets, predictions=found)


def draw_count(image, count):
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    ImageDraw.Draw(picture).text((2, 2), f"{count.number:.1f}", "red")
    return picture


class CountReport(TaskReport):
    explanation = "The number in the corner is the count."

    def parts(self):
        return self.metrics, Part("miscounts", "Miscounts", lambda result: f"worst: {max(result['image_errors']):.2f}")

    def show(self, result, position, image, size):
        return GalleryImage([("found", draw_count(image, result.predictions[position]))])


class CountWriter:
    formats, taken = ("txt",), ()

    def begin(self, folder, places, classes, formats):
        self.file, self.lines = folder / "counts.txt", []
        return self

    def add(self, image, answer, ids):
        self.lines.append(f"{image.path} {answer.number:.2f}\n")

    def finish(self, threshold, given):
        self.file.write_text("".join(self.lines))
        return Written(f"counts of {len(self.lines)} images", [self.file.name])


@dataclass(frozen=True)
class Sum(Target):
    """The count, or the part of it that comes from one row of cells of 8 pixels."""

    row: int | None = None

    def score(self, model, batch):
        counts = model.network(batch.tensor)
        return (counts if self.row is None else counts[:, :, self.row]).flatten(1).sum(1)

    def describe(self, model):
        return "the count" if self.row is None else f"the count of row {self.row}"


def count_cases(model, name, image, label):
    yield Case(name, image, Sum(), image.amax(0) > 0)


class Dots(list):
    """Black images with white squares, as a plain PyTorch dataset."""

    classes = ("dot",)

    def __init__(self, length):
        for i in range(length):
            image = torch.zeros(3, 32, 32, dtype=torch.uint8)
            places = np.random.default_rng(i).permutation(16)[: i % 5]
            for y, x in zip(*np.divmod(places, 4) * np.array(8), strict=True):
                image[:, y + 2 : y + 6, x + 2 : x + 6] = 255
            self.append((image, Count((32, 32), float(len(places)), sl.Classes(self.classes), f"dots {i}")))


@pytest.fixture
def known():
    entry = catalog.Entry(name="counter", builder=Counter, task="counting", paper="none")
    names, less = ("error", "exact"), ("error",)
    kinds.add(kinds.Kind(name="counts", noun="counts", unit="objects", target=Count))
    explained = Explained(
        lambda model, image: Sum(), {"row": lambda model, image, words: Sum(int(words[0]))}, "row:0", count_cases
    )
    report = CountReport(names, less)
    add(Task("counting", Labels("counts"), CountMeasure, names, report, CountWriter(), less, explained=explained))
    catalog.add(entry)
    yield
    del TASKS["counting"], kinds.KINDS["counts"], catalog._BY_NAME["counter"]
    catalog.ENTRIES.remove(entry)


def test_counting_goes_the_whole_way(known, tmp_path):
    data, held_out = Dots(40), Dots(10)
    run = sl.train("counter", data, held_out, epochs=8, batch_size=8, runs=tmp_path, progress=False, name="run")
    errors = [row["val/error"] for row in run.metrics]
    assert run.best[run.metric] == min(errors) < 0.5 * errors[0]  # less is better
    page = (run.folder / "report.html").read_text()
    assert page.count("<figure>") == 10
    assert all(words in page for words in ("Miscounts", "worst: ", "The number in the corner", "best val/error"))
    result = sl.evaluate(run.model, held_out, progress=False)
    assert result.metrics["error"] == pytest.approx(run.best["val/error"], abs=1e-5)
    assert json.loads((run.folder / "evaluation.json").read_text())["metrics"] == pytest.approx(result.metrics)
    model, images = sl.load(sl.save(run.model, tmp_path / "counter.safetensors")), [image for image, _ in held_out]
    found = sl.predict(model, images)
    assert [answer.number for answer in found] == pytest.approx([answer.number for answer in result.predictions])
    done = sl.predict_to_folder(model, images, tmp_path / "out", draw=draw_count)
    assert (done.files, done.pictures) == (["counts.txt"], 10)
    assert (tmp_path / "out" / "counts.txt").read_text().splitlines()[3] == f"image3.png {found[3].number:.2f}"
    assert len(sl.train(data=data, name="run", resume=True, epochs=9, runs=tmp_path, progress=False).metrics) == 9
    with pytest.raises(sl.InputError, match="labels of the training set are counts; use a model for counting"):
        sl.train("mobilenet_v2", data, epochs=1, runs=tmp_path, progress=False)


class Brightness(Counter):
    """Counts by the mean brightness of each cell."""

    def __init__(self, classes):
        super().__init__(classes)
        self.network = nn.Conv2d(3, 1, 8, 8)
        nn.init.ones_(self.network.weight)


def test_counts_are_explained_as_their_task_says(known):
    model, data = Brightness(Dots.classes).eval(), Dots(5)[1:]
    images = [image for image, _ in data]
    whole, part = (sl.explain_images(model, images, methods="occlusion", target=given) for given in (None, "row:1"))
    assert (whole[0].target, part[0].target) == ("the count", "the count of row 1")
    assert max(own.heat[:4].abs().max() for own in part) < 0.01 * whole[-1].heat.abs().max()  # it begins at pixel 8
    with pytest.raises(sl.InputError, match="Brightness has no target 'rwo:1'; did you mean 'row'"):
        sl.explain_images(model, images[:1], target="rwo:1")
    table = sl.score_explanations(model, data, methods=["occlusion"], cases=3, randomise=False, progress=False)
    assert table.rows[0].pointing > 0.6 > 0.3 > table.chance
    TASKS["counting"] = replace(TASKS["counting"], explained=None)
    with pytest.raises(sl.InputError, match="models of task 'counting' cannot be explained yet; those of detection, "):
        sl.explain_images(model, images[:1])
