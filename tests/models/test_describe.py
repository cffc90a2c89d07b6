"""Descriptions of models, and the one name of the image size."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sightline.errors import InputError
from sightline.models.catalog import ENTRIES, models
from sightline.models.creation import create_model
from sightline.models.describe import _arguments, describe
from sightline.models.entry import Entry
from sightline.runtime.shapes import shapes_only
from tests.models.test_contract import of_model

NAMES = ["circle", "square"]


def built(name: str, **arguments: Any) -> Any:
    with shapes_only():
        return create_model(name, NAMES, **arguments)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_every_argument_has_a_type_and_a_meaning(entry: Entry) -> None:
    rows = _arguments(entry)
    assert "image_size" in [row["name"] for row in rows]
    fields = [field for row in rows for field in row.get("fields", ())]
    for row in rows + fields:
        assert row["meaning"], row["name"]
        assert not row["meaning"].startswith("as "), row["name"]
        assert "typing" not in row["type"], row["name"]
    json.dumps(rows)


def test_a_description_says_what_the_paper_and_the_file_do() -> None:
    row = describe("fasterrcnn_resnet50_fpn")
    assert (row["name"], row["task"], row["parameters"]) == ("faster_rcnn_resnet50_fpn", "detection", 41_755_286)
    assert row["file"] == "sightline/models/detection/faster_rcnn.py"
    assert "Ren et al. 2015" in row["paper"]
    arguments = {a["name"]: a for a in row["arguments"]}
    assert (arguments["min_size"]["default"], arguments["max_size"]["default"]) == (800, 1333)
    fields = {f["name"]: f["default"] for f in arguments["proposals"]["fields"]}
    assert (fields["before_nms"], fields["nms_iou"]) == ((2000, 1000), 0.7)
    assert [(w["data"], w["of"]) for w in row["weights"]] == [
        ("imagenet", "resnet50"),
        ("imagenet_v2", "resnet50"),
        ("coco", "faster_rcnn_resnet50_fpn"),
    ]
    assert {w["licence"] for w in row["weights"]} == {"BSD-3-Clause"}
    # the builder's own defaults, not the class's
    for name, group, field, value in (
        ("retinanet_resnet50_fpn_v2", "settings", "box_loss", "giou"),
        ("faster_rcnn_vgg16", "proposals", "after_nms", (2000, 300)),
    ):
        groups = {a["name"]: a.get("fields") for a in describe(name)["arguments"]}
        assert {f["name"]: f["default"] for f in groups[group]}[field] == value
    classifier = describe("efficientnet_b1")
    assert classifier["file"] == "sightline/nn/backbones/efficientnet.py"
    seen = [(w["preprocess"]["resize"], w["preprocess"]["interpolation"]) for w in classifier["weights"]]
    assert seen == [(256, "bicubic"), (255, "bilinear")]
    with pytest.raises(InputError, match=r"did you mean .*retinanet_resnet50_fpn"):
        describe("retinanet_resnet5")


def test_the_list_is_filtered_by_task_and_weights() -> None:
    rows = models("segmentation", "coco")
    assert {row["task"] for row in rows} == {"segmentation"}
    assert {row["name"] for row in rows} == {
        "fcn_resnet50",
        "fcn_resnet101",
        "deeplabv3_resnet50",
        "deeplabv3_resnet101",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
    }
    assert models("classification", "coco") == []
    with pytest.raises(InputError, match="no task 'segmentatio'; did you mean 'segmentation'"):
        models("segmentatio")
    with pytest.raises(InputError, match="no data of published weights 'cococo'; did you mean 'coco'"):
        models(weights="cococo")


SIZES = {"yolo_v1": 448, "yolo_9000": 320, "darknet": 128, "ssd": 512}  # others need not take 256


def side(model: Any) -> int:
    """Pixels inside the network, as `image_size` means them."""
    if hasattr(model, "crop"):
        return int(model.crop)
    if hasattr(model.settings if hasattr(model, "settings") else None, "crop") and model.name.startswith("r_cnn"):
        return int(model.settings.crop)
    size = model.preprocess.fixed_size
    return int(model.preprocess.min_size if size is None else size[0])


@pytest.mark.parametrize("entry", [of_model(entry.name, entry) for entry in ENTRIES])
def test_every_model_takes_image_size(entry: Entry) -> None:
    size = next((v for k, v in SIZES.items() if entry.name.startswith(k)), 256)
    assert side(built(entry.name, image_size=size)) == size


def test_image_size_and_the_papers_names() -> None:
    model = built("faster_rcnn_mobilenet_v2_fpn", image_size=240)
    assert (model.preprocess.min_size, model.preprocess.max_size) == (240, 400)  # 480 and 800 in its usual ratio
    assert model.arguments == {"in_channels": 3, "min_size": 240, "max_size": 400}
    model = built("faster_rcnn_mobilenet_v2_fpn", image_size=240, max_size=300)
    assert (model.preprocess.min_size, model.preprocess.max_size) == (240, 300)
    model = built("mobilenet_v2", crop=96)  # its name before
    assert (model.crop, model.arguments) == (96, {"in_channels": 3, "image_size": 96})
    model = built("r_cnn_resnet18", image_size=64, regions={"samples": 8})
    assert (model.settings.crop, model.settings.samples) == (64, 8)
    assert built("unet_small", image_size=64).preprocess.divisor == 16
    with pytest.raises(InputError, match="both image_size and min_size"):
        built("faster_rcnn_vgg16", image_size=240, min_size=240)
    with pytest.raises(InputError, match="both image_size and crop"):
        built("mobilenet_v2", image_size=240, crop=240)
    with pytest.raises(InputError, match="image_size of faster_rcnn_vgg16 is 'large', but it takes a whole number"):
        built("faster_rcnn_vgg16", image_size="large")
    with pytest.raises(InputError, match=r"has no argument 'imgsize'; did you mean 'image_size'\?"):
        built("faster_rcnn_vgg16", imgsize=240)
    with pytest.raises(InputError, match="min_size is 0"):
        built("faster_rcnn_vgg16", image_size=0)


def test_a_segmenter_of_a_fixed_size_answers_in_the_image_s_own() -> None:
    model = create_model("unet_small", NAMES, width=4, depth=2, image_size=32).eval()
    with torch.inference_mode():
        (found,) = model([torch.rand(3, 50, 90)])
    assert found.labels.shape == (50, 90)
    assert model.preprocess([torch.rand(3, 50, 90)])[0].sizes == [(32, 57)]
