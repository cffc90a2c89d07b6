"""Any backbone under any system that can use it; groups of arguments; models of one's own in the catalog."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

import sightline
from sightline.errors import InputError
from sightline.models import catalog
from sightline.models.catalog import ENTRIES, find
from sightline.models.creation import create_model
from sightline.models.describe import describe
from sightline.models.detection.faster_rcnn import faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.models.preprocess import InputSize, Preprocess
from sightline.models.published import find_published
from sightline.models.segmentation.segmenter import Segmenter
from sightline.nn.backbones.dilation import dilated_maps
from sightline.nn.backbones.named import BACKBONES, BackboneName, BackboneOptions, StridedName, build_backbone
from sightline.nn.layers import FrozenBatchNorm2d
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassMap, Instances

NAMES = ["circle", "square"]
OPEN = [entry for entry in ENTRIES if entry.takes_backbones]
SOME = ("resnet34", "vgg16_bn", "mobilenet_v3_small")


def argument(entry: Entry) -> str:
    return "backbone" if "backbone" in entry.arguments else "encoder"


def names_of(kind: Any) -> set[str]:
    return {part for one in get_args(kind) for part in (names_of(one) if get_args(one) else {one}) if part}


def test_every_classifier_is_a_backbone() -> None:
    assert set(get_args(BackboneName)) == BACKBONES.keys()
    assert BACKBONES.keys() == {entry.name for entry in ENTRIES if entry.task == "classification"}


@pytest.mark.parametrize("entry", OPEN, ids=lambda entry: entry.name)
def test_a_system_is_built_on_other_backbones(entry: Entry) -> None:
    """And takes the classifier's tensors: its layers up to the last map have a place in the model."""
    name = argument(entry)
    for backbone in SOME:
        if backbone not in names_of(entry.arguments[name].kind):
            continue
        with shapes_only():
            model = create_model(entry.name, NAMES, **{name: backbone})
            net = build_backbone(backbone, num_classes=1)
        assert model.arguments == {"in_channels": 3, name: backbone}
        taken = [key for key, place in model.backbone_keys.items() if place is not None]
        assert taken[0] == next(iter(net.state_dict()))
        assert len(taken) >= 0.5 * len(list(net.state_dict())), backbone


SMALL: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"backbone": "mobilenet_v3_small", "min_size": 64, "max_size": 96, "channels": 16, "hidden": 16},
    "retinanet": {"backbone": "mobilenet_v1", "min_size": 64, "max_size": 96, "channels": 32, "depth": 1},
    "fcos": {"backbone": "efficientnet_b0", "min_size": 64, "max_size": 96, "channels": 32, "depth": 1},
    "ssdlite": {"backbone": "resnet18", "image_size": 96},
    "r_fcn": {"backbone": "mobilenet_v1", "min_size": 64, "max_size": 96, "bins": 3, "hidden": 16},
    "unet": {"encoder": "mobilenet_v3_small", "channels": [16, 16, 8, 8, 8]},
    "deeplabv3": {"encoder": "mobilenet_v1", "width": 16},
    "lraspp": {"encoder": "resnet18", "inner": 16},
    "fcn8s": {"encoder": "mobilenet_v3_small"},
}


@pytest.mark.parametrize("name", SMALL)
def test_it_learns_and_predicts_on_another_backbone(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, NAMES, **SMALL[name])
    images = [torch.rand(3, 70, 90), torch.rand(3, 64, 64)]
    targets: list[Any] = [ClassMap(torch.randint(0, 2, image.shape[-2:])) for image in images]
    if find(name).task == "detection":
        targets = [Instances((70, 90), boxes=[[8, 8, 50, 60]], labels=[1]), Instances((64, 64), boxes=[], labels=[])]
    sum(model(images, targets).values()).backward()
    first = next(p for p in model.parameters() if p.requires_grad)
    assert first.grad is not None
    assert first.grad.isfinite().all()
    with torch.no_grad():
        results = model.eval()(images)
    assert [r.image_size for r in results] == [(70, 90), (64, 64)]


def test_the_published_weights_of_the_encoder_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps are then the classifier's own."""
    torch.manual_seed(0)
    net = BACKBONES["resnet34"](1000).eval()
    published = find_published("resnet34", "imagenet")
    assert published is not None
    (tmp_path / "checkpoints").mkdir()
    torch.save(net.state_dict(), tmp_path / "checkpoints" / published.file)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = create_model("unet", NAMES, encoder="resnet34", weights="imagenet").eval()
    x, stem = torch.rand(1, 3, 64, 64), nn.Sequential(net.conv1, net.bn1, nn.ReLU())
    with torch.no_grad():
        maps = model.network.encoder(x)
        assert torch.equal(maps["relu"], stem(x))
        assert torch.equal(maps["layer1"], net.layer1(net.maxpool(stem(x))))
    assert model.weights_report.fresh
    assert all(key.startswith(("network.blocks", "network.score")) for key in model.weights_report.fresh)
    assert not any("no such entry" in entry for entry in model.weights_report.left_out)


def test_a_saved_model_remembers_its_backbone(tmp_path: Path) -> None:
    model = create_model("unet", NAMES, encoder="mobilenet_v3_small", depth=2, channels=[8, 8])
    again = sightline.load(sightline.save(model, tmp_path / "model.safetensors"))
    assert again.arguments == model.arguments
    assert again.network.encoder.taken == model.network.encoder.taken


@pytest.mark.parametrize("name", get_args(StridedName))
def test_dilation_keeps_every_second_cell(name: str) -> None:
    """Of the map of stride 32 every cell is one of the dilated map of stride 16 (Chen et al. 2015, section 3.1)."""
    if name not in ("resnet18", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"):
        pytest.skip("as a smaller one of them, or only slower")
    torch.manual_seed(0)
    net = BACKBONES[name](1).eval()
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        fine, coarse = net.maps((16, 32))(x).values()
        low, dense = dilated_maps(net, 16, 16)(x).values()
    assert torch.equal(low, fine)
    assert dense.shape[-2:] == fine.shape[-2:]
    eighths = dilated_maps(BACKBONES[name](1).eval(), 8, 16)
    assert eighths.strides == [8, 8]
    with torch.no_grad():
        assert {tuple(found.shape[-2:]) for found in eighths(x).values()} == {(16, 16)}
    if name in ("resnet18", "mobilenet_v1", "mobilenet_v2"):  # squeezing sees other cells
        torch.testing.assert_close(dense[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-5)


def test_an_unknown_or_unsuitable_backbone_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="backbone of faster_rcnn is 'resnet35', but it takes one of 'resnet18', "):
        create_model("faster_rcnn", NAMES, backbone="resnet35", weights="imagenet")
    with pytest.raises(
        InputError, match=r"encoder of deeplabv3 is 'vgg16', but it takes one of .*'efficientnet_v2_s'$"
    ):
        create_model("deeplabv3", NAMES, encoder="vgg16")
    with pytest.raises(
        InputError, match=r"no backbone 'alexnet' for this model; give one of resnet18, .*nasnet_mobile$"
    ):
        faster_rcnn(NAMES, backbone="alexnet")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="faster_rcnn_resnet50_fpn has no argument 'backbone'"):
        create_model("faster_rcnn_resnet50_fpn", NAMES, backbone="resnet34")
    with pytest.raises(InputError, match="anchor_sizes has 2 lists, but must have 5"):
        create_model("faster_rcnn", NAMES, backbone="resnet18", anchor_sizes=[[32], [64]])


def test_groups_of_arguments_are_given_flat_by_name_and_whole_in_python() -> None:
    with shapes_only():
        learning: dict[str, Any] = {"norm": "frozen", "trainable_layers": 2}
        flat = create_model("faster_rcnn", NAMES, backbone="resnet18", image_size=240, **learning)
        whole = faster_rcnn(
            NAMES,
            backbone="resnet18",
            options=BackboneOptions(**learning),
            size=InputSize(240, 400),
        )
    for model in (flat, whole):
        assert (model.preprocess.min_size, model.preprocess.max_size) == (240, 400)
        assert isinstance(model.backbone.body["bn1"], FrozenBatchNorm2d)
        parts = {key.split(".")[2] for key, p in model.named_parameters() if "body" in key and p.requires_grad}
        assert parts == {"layer3", "layer4"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        InputSize().min_size = 3  # type: ignore[misc]


def test_norms_keep_the_network_s_own_epsilon() -> None:
    for options, eps in ((BackboneOptions("frozen"), 1e-3), (BackboneOptions("frozen", 1e-5), 1e-5)):
        net = build_backbone("mobilenet_v3_small", options=options)
        assert {m.eps for m in net.modules() if isinstance(m, FrozenBatchNorm2d)} == {eps}
    assert build_backbone("vgg16", options=BackboneOptions("frozen"), hidden=1) is not None  # it has none


def dots(classes: list[str], *, in_channels: int = 3, width: int = 4) -> Segmenter:
    """One layer.

    Args:
        width: not of this world.
    """
    network = nn.Conv2d(in_channels, len(classes), width + 1, padding=width // 2)
    return Segmenter(classes, Preprocess(divisor=1, min_size=16, max_size=32), network)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Entry:
    monkeypatch.setattr(catalog, "ENTRIES", list(catalog.ENTRIES))
    monkeypatch.setattr(catalog, "_BY_NAME", dict(catalog._BY_NAME))
    entry = Entry(name="dots", builder=dots, task="segmentation", paper="A test, 2020", defaults={"width": 2})
    catalog.add(entry)
    return entry


def test_a_model_of_one_s_own_is_built_saved_and_loaded_by_name(own: Entry, tmp_path: Path) -> None:
    catalog.add(own)  # again, as a notebook's cell does
    model = sightline.create_model("dots", NAMES)
    assert model.network.kernel_size == (3, 3)
    assert sightline.load(sightline.save(model, tmp_path / "dots.safetensors")).name == "dots"
    assert "dots" in [row["name"] for row in catalog.models("segmentation")]
    with pytest.raises(InputError, match="has no argument 'widht'; did you mean 'width'"):
        create_model("dots", NAMES, widht=3)
    with pytest.raises(InputError, match="there is a model 'unet' in the catalog; give yours another name"):
        catalog.add(Entry(name="mine", builder=dots, task="segmentation", paper="", aliases=("unet",)))
    with pytest.raises(InputError, match=r"catalog.add takes an Entry\(name="):
        catalog.add("dots")  # type: ignore[arg-type]


def test_a_model_of_one_s_own_is_described(own: Entry) -> None:
    about = describe("dots")
    assert about["file"] == Path(__file__).as_posix()
    assert about["parameters"] == 3 * 21 * 9 + 21  # VOC's classes
    made = type("Made", (nn.Module,), {"__init__": lambda self, classes, *, in_channels=3: nn.Module.__init__(self)})
    made.__module__ = "nowhere"  # as in a notebook: without a file
    catalog.add(Entry(name="made", builder=made, task="segmentation", paper=""))
    assert (describe("made")["file"], describe("made")["preprocess"]) == ("", "")
    assert "made" in [row["name"] for row in catalog.models("segmentation")]
    plain = create_model("made", NAMES, in_channels=4)
    assert (plain.name, list(plain.classes), plain.recipe_defaults) == ("made", [], {})


def test_a_builder_must_give_a_model(own: Entry) -> None:
    catalog.add(Entry(name="text", builder=lambda classes, *, in_channels=3: "dots", task="segmentation", paper=""))
    with pytest.raises(InputError, match="the builder of text returned a str, but must return a Model"):
        create_model("text", NAMES)


class Pixels(Segmenter):
    """A class as builder, whose arguments may also be given by position."""

    def __init__(self, classes: list[str], in_channels: int = 3, width: int = 4) -> None:
        super().__init__(classes, Preprocess(divisor=1), nn.Conv2d(in_channels, len(classes), 2 * width - 1))


def test_a_class_is_a_builder(own: Entry, tmp_path: Path) -> None:
    catalog.add(catalog.Entry(name="pixels", builder=Pixels, task="segmentation", paper="", summary="Mine."))
    model = create_model("pixels", NAMES, in_channels=1, width=2)
    assert (model.network.in_channels, model.network.kernel_size) == (1, (3, 3))
    assert model.arguments == {"in_channels": 1, "width": 2}
    saved = sightline.save(model, tmp_path / "pixels.safetensors")
    assert sightline.load(saved).arguments == {"in_channels": 1, "width": 2}
    del catalog._BY_NAME["pixels"]
    with pytest.raises(
        InputError, match=r"pixels.safetensors: there is no model 'pixels'.* added to sightline\.models\.catalog before"
    ):
        sightline.load(saved)
    catalog._BY_NAME["pixels"] = catalog.ENTRIES[-1]
    described = describe("pixels")
    assert [(a["name"], a["default"]) for a in described["arguments"]] == [("in_channels", 3), ("width", 4)]
    assert described["file"] == Path(__file__).resolve().as_posix()
    with pytest.raises(InputError, match="has no argument 'image_size'; it has in_channels, width"):
        create_model("pixels", NAMES, image_size=32)


@pytest.mark.parametrize(("name", "given", "known"), [("unet", "backbone", "encoder"), ("fcos", "encoder", "backbone")])
def test_the_other_name_of_the_backbone_is_suggested(name: str, given: str, known: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no argument '{given}'; did you mean '{known}'"):
        create_model(name, NAMES, **{given: "resnet18"})
    with pytest.raises(InputError, match=f"segnet has no argument '{given}'; it has in_channels"):
        create_model("segnet", NAMES, **{given: "resnet18"})


def test_a_builder_takes_another_s_arguments() -> None:
    @extends(dots)
    def more_dots(classes: list[str], *, count: int = 1, **arguments: Any) -> Segmenter:
        return dots(classes, **arguments)

    entry = Entry(name="more", builder=more_dots, task="segmentation", paper="", fixed={"count": 2})
    assert {name: a.default for name, a in entry.arguments.items()} == {"in_channels": 3, "width": 4}
    assert entry.build(NAMES, width=6).network.kernel_size == (7, 7)
