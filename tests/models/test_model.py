"""The contract of every model, on one that is not of the library."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.errors import ClassMismatch, InputError
from sightline.models.creation import create_model
from sightline.models.model import Model, as_model
from sightline.models.preprocess import Preprocess
from sightline.models.saving import load, save
from sightline.runtime.shapes import shapes_only
from sightline.structures import Classes, ClassScores


class Mean(Model):
    """Answers with the mean of each image."""

    task = "brightness"

    def __init__(self) -> None:
        super().__init__(["a", "b"], Preprocess([0.0] * 3, [1.0] * 3, min_size=8, max_size=24, divisor=8))
        self.scale = nn.Parameter(torch.ones(()))
        self.shapes: list[list[int]] = []

    def batch_losses(self, batch, targets):
        return {"loss_mean": self.scale * batch.tensor.mean() + len(targets)}

    def batch_results(self, batch):
        self.shapes.append(list(batch.tensor.shape))
        means = (image[:, :h, :w].mean() for image, (h, w) in zip(batch.tensor, batch.sizes, strict=True))
        return [float((self.scale * mean).detach()) for mean in means]


class Plain(nn.Module):
    """A module that knows nothing of the library."""

    classes = ["x", "y"]

    def forward(self, images: list[Tensor]) -> list[float]:
        return [float(image.mean()) for image in images]


def test_targets_alone_decide_between_losses_and_results() -> None:
    model = Mean()
    images = [torch.full((3, *size), v) for v, size in ((0.1, (8, 8)), (0.2, (8, 20)), (0.3, (16, 16)), (0.4, (4, 10)))]
    for mode in (True, False):
        model.train(mode)
        assert model(images) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    # images that fill the same padded batch go together: 8 × 8 and 16 × 16; 8 × 20 and 4 × 10, which becomes 8 × 20
    assert model.shapes[2:] == [[2, 3, 8, 8], [2, 3, 8, 24]]
    target = ClassScores((8, 8), 0, classes=model.classes)
    assert set(model([images[0]], [target])) == {"loss_mean"}
    with pytest.raises(ClassMismatch):
        model([images[0]], [ClassScores((8, 8), 0, classes=Classes(["a", "c"]))])
    with pytest.raises(InputError, match="4 images but 1 targets"):
        model(images, [target])


def test_what_a_model_declares_without_being_told() -> None:
    model = Mean()
    assert (model.name, model.title, model.in_channels, model.seen_size) == ("", "Mean", 3, (8, 8))
    assert model.resized((4, 10)) == (8, 20)
    assert model.anchor_shapes((8, 8)) is None
    assert (model.target_fields, model.recipe_defaults, model.metadata, model.weights_given) == ((), {}, {}, None)
    model.metadata["threshold"] = 0.4
    assert Mean().metadata == {}  # each has its own


def test_a_model_that_does_not_say_how_says_so() -> None:
    model = Model(["a"], Preprocess())
    with pytest.raises(NotImplementedError, match="implement batch_results"):
        model([torch.rand(3, 8, 8)])
    with pytest.raises(NotImplementedError, match="implement batch_losses"):
        model([torch.rand(3, 8, 8)], [ClassScores((8, 8), 0)])


def test_a_plain_module_gets_the_defaults_of_what_it_lacks(tmp_path) -> None:
    model = Plain()
    found = as_model(model)
    assert found is model
    assert found.classes == Classes(["x", "y"])
    assert (found.title, found.in_channels, found.seen_size, found.task) == ("Plain", 3, None, "")
    assert found.anchor_shapes((4, 4)) is None
    assert found.resized((4, 5)) == (4, 5)
    found.before_training(tmp_path, same_images=True)
    assert found.after_training([], tmp_path, False) is False
    found.metadata["threshold"] = 0.4
    assert as_model(Plain()).metadata == {}
    again = pickle.loads(pickle.dumps(copy.deepcopy(as_model(found))))
    assert again.metadata == {"threshold": 0.4}
    mean = Mean()
    assert as_model(mean) is mean
    with pytest.raises(InputError, match="the model is a list; give one of create_model or load"):
        as_model([])  # type: ignore[arg-type]


def test_an_argument_by_its_old_name_is_taken_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sightline")
    with shapes_only():
        model = create_model("ssdlite320_mobilenet_v2", ["a", "b"], slots=[3, 2])
    assert model.arguments["output_ids"] == [3, 2]
    assert [record.message for record in caplog.records] == [
        "ssdlite320_mobilenet_v2: the argument slots is now called output_ids"
    ]
    with pytest.raises(InputError, match="is given both output_ids and slots, its old name"):
        create_model("ssdlite320_mobilenet_v2", ["a", "b"], slots=[3, 2], output_ids=[2, 3])


def test_a_file_with_an_old_name_of_an_argument_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = create_model("ssdlite320_mobilenet_v2", ["a", "b"], image_size=64, output_ids=[3, 2])
    file = save(model, tmp_path / "model.safetensors")
    with safe_open(file, "pt") as opened:
        header, state = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    header["arguments"] = header["arguments"].replace("output_ids", "slots")
    save_file(state, file, header)
    caplog.set_level(logging.WARNING, "sightline")
    again = load(file)
    assert again.output_ids == [3, 2]
    assert again.arguments == model.arguments
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "the argument slots is now called output_ids"
    ]


def test_a_setting_by_its_old_name_is_taken_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sightline")
    with shapes_only():
        model = create_model("fast_rcnn_vgg16", ["a"], boxes={"bend": 0.5, "samples": 32})
        settings = create_model("fast_rcnn_vgg16", ["a"], boxes={"beta": 0.5, "samples": 32}).arguments["boxes"]
    assert model.arguments["boxes"] == settings
    assert (settings.beta, settings.samples, settings.nms_iou) == (0.5, 32, 0.3)
    message = "the setting boxes.bend is now called boxes.beta"
    assert [record.message for record in caplog.records] == [f"fast_rcnn_vgg16: {message}"]
    with pytest.raises(InputError, match="boxes of fast_rcnn_vgg16 is given both beta and bend, its old name"):
        create_model("fast_rcnn_vgg16", ["a"], boxes={"bend": 0.5, "beta": 0.5})
    with pytest.raises(InputError, match="settings of ssd300_vgg16 has no setting 'bend'"):
        create_model("ssd300_vgg16", ["a"], settings={"bend": 0.5})

    tiny = create_model("keypoint_rcnn_mobilenet_v2_fpn", ["a"], num_keypoints=3, boxes={"beta": 0.5})
    file = save(tiny, tmp_path / "model.safetensors")
    with safe_open(file, "pt") as opened:
        header, state = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    header["arguments"] = header["arguments"].replace('"beta"', '"bend"').replace("num_keypoints", "points")
    save_file(state, file, header)
    caplog.clear()
    assert load(file).arguments == tiny.arguments
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "the argument points is now called num_keypoints",
        message,
    ]


@pytest.mark.parametrize("name", ["squeezenet1_1", "convnext_tiny"])
def test_images_that_are_too_small_for_a_classifier(name: str) -> None:
    model = create_model(name, classes=["a", "b"], weights="none", image_size=16)
    image = torch.zeros(3, 20, 30)
    sentence = rf"{name} cannot take images of 16×16 pixels, since .* create it with a larger image_size, such as 224"
    with pytest.raises(InputError, match=sentence):
        model.eval()([image])
    with pytest.raises(InputError, match=sentence):
        model.train()([image], [ClassScores((20, 30), label=0, classes=model.classes)])
