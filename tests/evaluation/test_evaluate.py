"""Running a model over a dataset: order, modes, batches, classes, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.errors import ClassMismatch, InputError
from sightline.evaluation import DetectionMeasure, evaluate
from sightline.structures import Classes, ClassScores, Instances

CLASSES = Classes(["cat", "dog"])


class Data:
    kind = "instances"
    classes = CLASSES

    def __init__(self, length=7):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if not 0 <= i < self.length:
            raise IndexError(i)
        image = torch.full((3, 40 + i, 50), i, dtype=torch.uint8)
        return image, Instances((40 + i, 50), classes=CLASSES, boxes=[[i, i, i + 20.0, i + 20.0]], labels=[i % 2])

    def name(self, i):
        return f"{i}.png"


class Oracle(nn.Module):
    """Reads the position from the image's grey value and answers with the truth, in its own order of classes."""

    task = "detection"

    def __init__(self, classes=("bird", "dog", "cat")):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.classes = Classes(classes)
        self.batches = []

    def forward(self, images):
        assert not self.norm.training
        assert torch.is_inference_mode_enabled()
        self.batches.append(len(images))
        answers = []
        for image in images:
            i = int(image[0, 0, 0])
            name = CLASSES[i % 2]
            answers.append(
                Instances(
                    tuple(image.shape[1:]),
                    classes=self.classes,
                    boxes=[[i, i, i + 20.0, i + 20.0]],
                    labels=[self.classes.id(name)],
                    scores=[0.9],
                )
            )
        return answers


def test_runs_in_order_and_leaves_the_model_as_it_was(capfd):
    model = Oracle().train()
    model.frozen.eval()
    result = evaluate(model, Data(), DetectionMeasure, batch_size=3)
    assert model.batches == [3, 3, 1]
    assert result.metrics["AP"] == 1.0
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)
    assert result.names == [f"{i}.png" for i in range(7)]
    assert len(result.predictions) == len(result.targets) == 7
    assert result.predictions[6].boxes.tolist() == [[6, 6, 26, 26]]
    assert capfd.readouterr() == ("", "")  # no bar where no terminal is
    assert evaluate(model, Data(), DetectionMeasure, keep_predictions=False).predictions is None


def test_modes_are_restored_when_the_model_fails():
    class Broken(Oracle):
        def forward(self, images):
            raise RuntimeError("out of memory")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, Data(), DetectionMeasure)
    assert model.norm.training


def test_a_broken_image_is_reported_as_it_is():
    class Unreadable(Data):
        def __getitem__(self, i):
            if i == 4:
                raise InputError("4.png is cut off")
            return super().__getitem__(i)

    with pytest.raises(InputError, match="cut off"):
        evaluate(Oracle(), Unreadable(), DetectionMeasure, batch_size=2)


def test_refusals():
    with pytest.raises(ClassMismatch, match="the model lacks 'dog'"):
        evaluate(Oracle(("cat", "bird")), Data(), DetectionMeasure)
    with pytest.raises(InputError, match="no images"):
        evaluate(Oracle(), Data(0), DetectionMeasure)
    with pytest.raises(InputError, match="batch_size is 0"):
        evaluate(Oracle(), Data(), DetectionMeasure, batch_size=0)

    class Losses(Oracle):
        def forward(self, images):
            return {"loss": torch.zeros(())}

    with pytest.raises(InputError, match="must return one result per image"):
        evaluate(Losses(), Data(), DetectionMeasure)
    with pytest.raises(InputError, match="device is 'cuda:99', but this machine does not have it"):
        evaluate(Oracle(), Data(), DetectionMeasure, device="cuda:99")

    class Classifier(Oracle):
        def forward(self, images):
            return [ClassScores(tuple(image.shape[1:]), classes=self.classes, label=0) for image in images]

    with pytest.raises(InputError, match="the model predicts ClassScores, but the labels are Instances"):
        evaluate(Classifier(), Data(), DetectionMeasure)


def test_the_bar_is_shown_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert evaluate(Oracle(), Data(), DetectionMeasure).metrics["AP50"] == 1.0
    assert capsys.readouterr().out == ""
