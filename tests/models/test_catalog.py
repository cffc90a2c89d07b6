"""The catalog: names, arguments, and published numbers of parameters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline
from sightline.errors import InputError
from sightline.models.catalog import ENTRIES, find, models
from sightline.models.creation import create_model
from sightline.models.detection.grid_sliding import GridSettings
from sightline.models.published import PUBLISHED
from sightline.runtime.shapes import shapes_only
from tests.models.test_contract import of_model

NAMES = ["circle", "square"]
# torchvision's metadata of its published weights: heads of 91, 21 and 1000 outputs
PARAMETERS = {
    "faster_rcnn_resnet50_fpn": 41_755_286,
    "faster_rcnn_resnet50_fpn_v2": 43_712_278,
    "mask_rcnn_resnet50_fpn": 44_401_393,
    "mask_rcnn_resnet50_fpn_v2": 46_359_409,
    "keypoint_rcnn_resnet50_fpn": 59_137_258,
    "faster_rcnn_mobilenet_v3_large_fpn": 19_386_354,
    "faster_rcnn_mobilenet_v3_large_320_fpn": 19_386_354,
    "ssd300_vgg16": 35_641_826,
    "ssdlite320_mobilenet_v3_large": 3_440_060,
    "retinanet_resnet50_fpn": 34_014_999,
    "retinanet_resnet50_fpn_v2": 38_198_935,
    "fcos_resnet50_fpn": 32_269_600,
    "fcn_resnet50": 35_322_218,
    "fcn_resnet101": 54_314_346,
    "deeplabv3_resnet50": 42_004_074,
    "deeplabv3_resnet101": 60_996_202,
    "deeplabv3_mobilenet_v3_large": 11_029_328,
    "lraspp_mobilenet_v3_large": 3_221_538,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "seresnet50": 28_088_024,
    "senet154": 115_088_984,
    "googlenet": 13_004_888,
    "googlenet_lrn": 13_378_280,
    "inception_v3": 27_161_264,
    "alexnet_lrn": 60_965_224,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg19_bn": 143_678_248,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_lite0": 4_652_008,  # Google's files
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, object]]:
    return {str(row["name"]): row for row in models()}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_the_published_ones(rows: dict[str, dict[str, object]]) -> None:
    assert {name: rows[name]["parameters"] for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", [n for n in PARAMETERS if n.startswith(("faster", "ssd"))])
def test_ninety_classes_of_one_s_own_have_as_many(name: str) -> None:
    arguments = {"norm": "frozen"} if name.startswith("faster") and not name.endswith("v2") else {}
    with shapes_only():
        model = create_model(name, [str(i) for i in range(90)], **arguments)
    assert parameters(model) == PARAMETERS[name]


def test_parameters_of_ssdlite_with_mobilenet_v2_by_hand(rows: dict[str, dict[str, object]]) -> None:
    def separable(c: int, out: int) -> int:  # depthwise 3×3 and its norm, then 1×1 with a bias
        return 9 * c + 2 * c + c * out + out

    def extra(c: int, middle: int, out: int) -> int:  # 1×1, depthwise 3×3, 1×1, each with a norm
        return c * middle + 2 * middle + 9 * middle + 2 * middle + middle * out + 2 * out

    maps = [576, 1280, 512, 256, 256, 128]
    backbone = 3_504_872 - 1281 * 1000
    extras = extra(1280, 256, 512) + extra(512, 128, 256) + extra(256, 128, 256) + extra(256, 64, 128)
    heads = sum(separable(c, 6 * 91) + separable(c, 6 * 4) for c in maps)
    assert rows["ssdlite320_mobilenet_v2"]["parameters"] == backbone + extras + heads
    # the paper's is 4.3 million (MobileNet v2, table 6), with 81 outputs
    with shapes_only():
        assert parameters(create_model("ssdlite320_mobilenet_v2", [str(i) for i in range(80)])) / 1e6 == pytest.approx(
            4.3, rel=0.1
        )


# what the papers call them; models of one paper stand together
SOME_ROWS = {
    "resnet50": ("classification", "deep residual learning"),
    "efficientnet_b0": ("classification", "EfficientNet"),
    "faster_rcnn_resnet50_fpn": ("detection", "feature pyramid networks"),
    "ssd300_vgg16": ("detection", "SSD"),
    "fcos_resnet50_fpn": ("detection", "FCOS"),
    "retinanet_resnet50_fpn": ("detection", "focal loss"),
    "mask_rcnn_resnet50_fpn": ("detection", "Mask R-CNN"),
    "unet": ("segmentation", "U-Net"),
    "fcn_resnet50": ("segmentation", "fully convolutional networks"),
    "deeplabv3_resnet50": ("segmentation", "rethinking atrous convolution"),
}


def test_rows_say_what_there_is(rows: dict[str, dict[str, object]]) -> None:
    assert {name: rows[name]["task"] for name in SOME_ROWS} == {name: task for name, (task, _) in SOME_ROWS.items()}
    for name, (_, paper) in SOME_ROWS.items():
        assert paper.lower() in str(rows[name]["paper"]).lower()
    for name, row in rows.items():
        assert re.search(r"(19|20)\d\d", str(row["paper"])), name
        assert row["aliases"] == list(find(name).aliases)
    assert rows["faster_rcnn_resnet50_fpn"]["aliases"] == ["fasterrcnn_resnet50_fpn"]
    assert rows["faster_rcnn_resnet50_fpn"]["weights"] == {
        "imagenet": "top-1 76.130 %",
        "imagenet_v2": "top-1 80.858 %",
        "coco": "COCO val2017 box AP 37.0",
    }
    assert rows["faster_rcnn_resnet18_fpn"]["weights"] == {"imagenet": "top-1 69.758 %"}
    assert {p.network for p in PUBLISHED} <= rows.keys()


@pytest.mark.parametrize("entry", [of_model(entry.name, entry) for entry in ENTRIES])
def test_a_model_knows_its_name_and_arguments(entry: object) -> None:
    with shapes_only():
        model = sightline.create_model(entry.name, NAMES)
    assert model.name == entry.name
    assert model.task == entry.task
    assert list(model.classes) == NAMES
    assert model.arguments == {"in_channels": 3}
    assert model.weights_report is None


def test_torchvision_s_names_are_the_same_models() -> None:
    for name in ("resnet50_fpn", "resnet50_fpn_v2", "mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn"):
        assert find(f"fasterrcnn_{name}") is find(f"faster_rcnn_{name}")
    with shapes_only():
        assert create_model("fasterrcnn_resnet50_fpn", NAMES).name == "faster_rcnn_resnet50_fpn"
    names = [n for entry in ENTRIES for n in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"there is no model 'resnet51'; did you mean .*resnet50"):
        create_model("resnet51", NAMES)
    with pytest.raises(InputError, match=r"no model 'resnet'; did you mean resnet18, resnet34, resnet50\?"):
        create_model("resnet", NAMES)
    with pytest.raises(InputError, match=r"no model 'Faster-RCNN'; did you mean faster_rcnn, faster_rcnn_resnet50_fpn"):
        create_model("Faster-RCNN", NAMES)
    with pytest.raises(InputError, match=r"did you mean .*ssdlite320_mobilenet_v2"):
        create_model("ssdlite_mobilenet_v2", NAMES)
    with pytest.raises(InputError, match=r"there is no model 'qqqqq'; `sightline models` lists them"):
        create_model("qqqqq", NAMES)


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"v2 has no argument 'imagesize'; did you mean 'image_size'\?"):
        create_model("ssdlite320_mobilenet_v2", NAMES, imagesize=160)
    with pytest.raises(InputError, match=r"resnet18 has no argument 'zzz'; it has .*crop"):
        create_model("resnet18", NAMES, zzz=1)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_classes_are_missed(entry: object) -> None:
    with pytest.raises(InputError, match=rf"{entry.name} needs its classes: give classes=\[…\], or"):
        create_model(entry.name)
    with shapes_only(), pytest.raises(InputError, match="needs at least one class; give classes="):
        create_model(entry.name, [])


def test_classes_are_a_list_of_distinct_names() -> None:
    with pytest.raises(InputError, match=r"classes must be a list of names, not the single string 'cat'"):
        create_model("resnet18", "cat")
    with pytest.raises(InputError, match=r"class 'cat' occurs twice"):
        create_model("resnet18", ["cat", "dog", "cat"])


def test_weights_that_there_are_not() -> None:
    with pytest.raises(InputError, match=r"there are no 'coco' weights for faster_rcnn_resnet18_fpn; there are im"):
        create_model("faster_rcnn_resnet18_fpn", NAMES, weights="coco")
    with pytest.raises(InputError, match=r"there are no 'coco' weights for resnet18; there are imagenet"):
        create_model("resnet18", weights="coco")
    with pytest.raises(InputError, match=r"weights imagnet: there is no such file; give a path, or a published name"):
        create_model("resnet18", NAMES, weights="imagnet")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"in_channels": 0}, "in_channels is 0, but it must be a whole number of at least 1"),
        ({"trainable_layers": 8}, "trainable_layers is 8, but this backbone has 7 parts"),
        ({"trainable_layers": -1}, "trainable_layers is -1"),
        ({"norm": "group"}, r"norm is 'group', but must be 'batch' \(learns\) or 'frozen'"),
        ({"min_size": 900, "max_size": 800}, "min_size is 900 and max_size 800"),
        ({"min_size": 0}, "min_size is 0"),
        ({"output_ids": [1]}, r"output_ids must be 2 distinct outputs above 0, one per class, not \[1\]"),
        ({"output_ids": [1, 1]}, "output_ids must be 2 distinct outputs"),
        ({"output_ids": [0, 1]}, "output_ids must be 2 distinct outputs above 0"),
    ],
)
def test_values_that_no_model_can_have(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        create_model("faster_rcnn_mobilenet_v2_fpn", NAMES, **arguments)


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*a: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.hub, "download_url_to_file", never)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with shapes_only():
        create_model("resnet18", NAMES)
    assert not (tmp_path / "torch").exists()


def test_settings_as_a_dictionary_of_what_differs() -> None:
    model = create_model("grid_sliding_mobilenet_v2", ["a"], grid={"crop": 48, "regions": [2, 3]})
    assert model.settings == GridSettings(crop=48, regions=(2, 3))
    with pytest.raises(InputError, match=r"has no setting 'cropp'; did you mean 'crop'\?"):
        create_model("grid_sliding_mobilenet_v2", ["a"], grid={"cropp": 48})
