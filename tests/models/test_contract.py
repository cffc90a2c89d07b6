"""The contract, for every model of the catalog."""

from __future__ import annotations

import copy
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import ClassMismatch, InputError
from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.darknet import DarknetSettings
from sightline.models.detection.efficientdet import EfficientDetSettings
from sightline.models.detection.grid_sliding import GridSettings
from sightline.models.detection.overfeat import OverFeatSettings
from sightline.models.detection.r_cnn import RCNNSettings
from sightline.models.detection.retinanet import RetinaNetSettings
from sightline.models.detection.sliding_window import WindowSettings
from sightline.models.detection.yolo_v1 import YOLOv1Settings
from sightline.models.saving import load, save
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.event_proposals import EventSettings
from sightline.nn.heads.mesh_regions import MeshSettings
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.layers import fuse
from sightline.ops.meshes.cubify import cubify
from sightline.runtime.shapes import shapes_only
from sightline.structures import IGNORE, Classes, ClassMap, ClassScores, Events, Instances
from sightline.structures.meshes import Mesh
from sightline.structures.relations import Relation, triplets_of
from tests.nn.folding import foldable_norms

NAMES = ["circle", "square", "star"]
SMALL: dict[str, dict[str, Any]] = {
    "faster_rcnn_vgg16": {"min_size": 96, "max_size": 160, "hidden": 32},
    "faster_rcnn": {"min_size": 96, "max_size": 160, "boxes": BoxSettings(samples=32, max_detections=9)},
    "region_proposal_network": {"min_size": 96, "max_size": 160},
    "fast_rcnn": {"min_size": 96, "max_size": 160, "hidden": 32, "limit": 300},
    "r_fcn": {"min_size": 96, "max_size": 160},
    "light_head": {"min_size": 96, "max_size": 160},
    "cube_rcnn": {"min_size": 96, "max_size": 160, "boxes": BoxSettings(samples=32, max_detections=9)},
    "mask_rcnn": {"min_size": 96, "max_size": 160, "boxes": BoxSettings(samples=32, max_detections=9)},
    "keypoint_rcnn": {
        "min_size": 96,
        "max_size": 160,
        "num_keypoints": 3,
        "boxes": BoxSettings(samples=32, max_detections=9),
    },
    "ssdlite320": {"image_size": 160},
    "ssd300": {"image_size": 64, "maps": 4},
    "ssd512": {"image_size": 64, "maps": 4},
    "ssd_mobilenet": {"image_size": 96},
    "densecap": {
        "min_size": 96,
        "max_size": 160,
        "hidden": 32,
        "words": ["a", "red", "circle", "left", "of", "blue", "star"],
        "boxes": BoxSettings(samples=32, max_detections=9),
    },
    "mesh_rcnn": {
        "min_size": 96,
        "max_size": 160,
        "grid": 8,
        "depth_hidden": 16,
        "boxes": BoxSettings(samples=32, max_detections=5),
        "meshes": MeshSettings(samples=2, refined=1, points=50),
    },
    "retinanet_resnet": {"min_size": 96, "max_size": 160},
    "retinanet": {
        "min_size": 96,
        "max_size": 160,
        "channels": 32,
        "settings": RetinaNetSettings(box_loss="giou", min_score=0.005),  # below the scores that it starts with
    },
    "fcos_resnet": {"min_size": 96, "max_size": 160},
    "fcos": {"min_size": 96, "max_size": 160, "channels": 32},
    "sightline_n_pose": {"image_size": 160, "num_keypoints": 3},
    "sightline_": {"image_size": 160},
    "efficientdet": {"image_size": 128, "settings": EfficientDetSettings(min_score=0.0001)},
    "pp_yolo_resnet": {"image_size": 64},
    "pp_yolo": {"image_size": 96},
    "r_cnn": {"regions": RCNNSettings(crop=32, proposals=24, samples=8)},
    "localiser": {"image_size": 96},
    "yolo_v1_mobilenet_v2": {"image_size": 64, "grid": 2, "settings": YOLOv1Settings(min_score=0.0)},
    "yolo_v1": {"image_size": 64, "grid": 2, "hidden": 16},
    "sliding_window": {
        "min_size": 48,
        "max_size": 64,
        "windows": WindowSettings(sizes=(24, 48), ratios=(1.0,), stride=0.5, crop=48, samples=8, random=2, hard=2),
    },
    "grid_sliding": {"min_size": 48, "max_size": 64, "grid": GridSettings(cells=4, regions=(2, 3), crop=48)},
    "overfeat_mobilenet": {"min_size": 64, "max_size": 96, "locations": OverFeatSettings(scales=(1.0, 1.5))},
    "overfeat": {
        "min_size": 64,
        "max_size": 96,
        "hidden": [16],
        "box_hidden": [16],
        "locations": OverFeatSettings(scales=(1.0,)),
    },
    "scene_graph": {
        "min_size": 96,
        "max_size": 160,
        "predicates": ["on", "near"],
        "boxes": BoxSettings(samples=32, max_detections=9),
    },
    "resnet": {"crop": 64},
    "mobilenet": {"crop": 64},
    "efficientnet": {"crop": 64},
    "darknet19": {"crop": 64},
    "darknet53": {"crop": 64},
    "darknet": {"image_size": 96, "settings": DarknetSettings(min_score=0.001)},
    "yolo_v2": {"image_size": 64},
    "yolo_9000": {"image_size": 64},
    **{name: {"crop": 64} for name in ("resnext", "wide_resnet")},
    "seresnet50": {"crop": 64},
    "googlenet": {"crop": 64},
    "inception_v3": {"crop": 96},
    "densenet121": {"crop": 64, "growth": 4, "depths": [1, 2, 2, 1]},
    "densenet": {"crop": 64},
    "squeezenet": {"crop": 64},
    "xception": {"crop": 64},
    "convnext": {"crop": 64, "width": 16, "depths": [1, 1, 2, 1]},
    "vit_b": {"crop": 64, "width": 64, "depth": 2},
    "swin": {"crop": 64, "width": 32, "depths": [1, 2, 1, 1]},
    "nasnet": {"crop": 64, "filters": 96, "repeats": 1},
    "alexnet": {"crop": 64, "hidden": 32},
    "vgg": {"crop": 64, "hidden": 32},
    "fcn_resnet": {"min_size": 64, "max_size": 96},
    **{f"fcn{stride}s_vgg16": {"hidden": 16, "width": 4} for stride in (8, 16, 32)},
    **{f"fcn{stride}s_mobilenet_v2": {} for stride in (8, 16, 32)},
    "deconvnet": {"window": 2, "hidden": 16, "width": 4},
    "segnet": {"width": 4},
    "unet_mobilenet_v2": {"channels": [32, 24, 16, 16, 8]},
    "unet_lite0": {"channels": [32, 24, 16, 16]},
    "unet_resnet18": {"depth": 3, "channels": [16, 16, 8]},
    "unet": {"width": 4},
    "full_resolution_net": {"width": 4},
    "sliding_segmentation": {"width": 4, "hidden": 8},
    "deeplabv3_mobilenet_v2": {"width": 16},
    "deeplabv3": {"min_size": 64, "max_size": 96},
    "lraspp": {"inner": 16},
    "video_captioner": {
        "image_size": 64,
        "frames": 4,
        "grid": 4,
        "pixels": 4,
        "width": 16,
        "hidden": 16,
        "vector": 32,
        "words": ["runs", "jumps"],
        "events": EventSettings(min_score=0.0),
    },
}
# a named row of the same builder is tested; see test_backbones.py
GENERIC = tuple(entry.name for entry in ENTRIES if entry.takes_backbones and entry.classifier())
# they differ from a tested one in widths, depths and sizes alone: only built
VARIANTS = {
    **{f"efficientnet_b{i}": "efficientnet_b0" for i in range(1, 8)},
    **{f"efficientdet_d{i}": "efficientdet_d0" for i in range(1, 8)},
    "fcn_resnet101": "fcn_resnet50",
    "deeplabv3_resnet101": "deeplabv3_resnet50",
    **dict.fromkeys(("resnext101_32x8d", "resnext101_64x4d"), "resnext50_32x4d"),
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), "resnet50"),
    "vgg11": "vgg16",
    "vgg13": "vgg16",
    "alexnet_lrn": "alexnet",
    **dict.fromkeys(("vgg11_bn", "vgg13_bn", "vgg19_bn"), "vgg16_bn"),
    **{f"densenet{depth}": "densenet121" for depth in (161, 169, 201)},
    "squeezenet1_0": "squeezenet1_1",
    "vit_b_32": "vit_b_16",
    "nasnet_large": "nasnet_mobile",
}
# the heads of a tested one on tested detectors
COMBINED = tuple(
    entry.name
    for entry in ENTRIES
    if re.fullmatch(r"sightline_\w+_(mask|pose)", entry.name) and not entry.name.startswith("sightline_n_")
)
UNTESTED = (*VARIANTS, *GENERIC, *COMBINED, "senet154")  # the last: tests/nn/backbones/test_senet.py
ALL = [entry.name for entry in ENTRIES if entry.name not in UNTESTED]
OBJECTS = ("detection", "dense_captioning", "scene_graph", "cuboids", "meshes")
"""Tasks whose models find objects, by boxes and classes among others."""
DETECTORS = [entry.name for entry in ENTRIES if entry.task in OBJECTS and entry.name not in UNTESTED]
SEGMENTERS = [entry.name for entry in ENTRIES if entry.task == "segmentation" and entry.name not in UNTESTED]
HEAVY = (
    *("sightline_s", "sightline_m"),
    "ssd512_vgg16",  # as SSD300
    *("resnet34", "resnet101", "resnet152", "overfeat_fast", "overfeat_accurate", "vgg16_bn", "vgg19"),
    *("resnext50_32x4d", "googlenet_lrn", "inception_v3"),
    *("xception", "efficientnet_v2_s"),
    *("darknet53", "yolo_v2_darknet19", "yolo_9000_darknet19"),
    "retinanet_resnet18_fpn",  # as on MobileNet
    *("pp_yolo_resnet50_vd", "pp_yolo_resnet18_vd"),
    *("localiser_resnet18", "sliding_window_resnet18", "grid_sliding_resnet18"),  # as on MobileNet
    "yolo_v1",
    *("fcn16s_vgg16", "fcn32s_vgg16", "fcn16s_mobilenet_v2", "fcn32s_mobilenet_v2", "unet_resnet18"),
    "deeplabv3_mobilenet_v3_large",  # as on MobileNet v2
    *(
        "faster_rcnn_vgg16",
        "fast_rcnn_vgg16",
        "region_proposal_network_vgg16",
        "r_fcn_resnet101",
        "light_head_rcnn_resnet101",
        "densecap_vgg16",
    ),
)
# the same code as another that is tested, on another backbone or of another size: tested with the slow tests
REPEATED = (
    *("sightline_s", "sightline_m", "sightline_lite1", "sightline_lite2", "sightline_resnet18", "sightline_resnet50"),
    *("resnet34", "resnet101", "resnet152", "vgg19", "efficientnet_lite1", "efficientnet_lite2"),
    *("video_captioner_mobilenet_v2", "video_captioner_resnet50"),
    *("faster_rcnn_resnet18_fpn", "faster_rcnn_resnet50_fpn", "faster_rcnn_mobilenet_v3_large_320_fpn"),
    *("cube_rcnn_resnet50_fpn", "cube_rcnn_mobilenet_v2_fpn"),
    *("mask_rcnn_resnet50_fpn", "keypoint_rcnn_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet18_fpn"),
    *("fast_rcnn_vgg16", "region_proposal_network_vgg16", "r_fcn_resnet50", "r_fcn_resnet101"),
    *("light_head_rcnn_resnet101", "r_cnn_resnet18", "localiser_resnet18"),
    *("sliding_window_resnet18", "grid_sliding_resnet18", "overfeat_accurate", "ssd512_vgg16"),
    *("pp_yolo_resnet18_vd", "yolo_v2_darknet19", "yolo_9000_darknet19"),
    *("fcn16s_vgg16", "fcn32s_vgg16", "fcn16s_mobilenet_v2", "fcn32s_mobilenet_v2", "unet_resnet18"),
    "deeplabv3_mobilenet_v3_large",
    *("densecap_mobilenet_v2", "densecap_resnet50", "densecap_vgg16"),
    *("mesh_rcnn_mobilenet_v2_fpn", "mesh_rcnn_resnet50_fpn"),
    *("scene_graph_resnet50_fpn", "scene_graph_mobilenet_v2_fpn"),
    *(f"scene_graph_frequency_{name}_fpn" for name in ("resnet50", "mobilenet_v2", "lite0")),
)
# these look at every image at its own size, or at crops of it
APART = (
    *("r_cnn", "sliding_window", "grid_sliding", "overfeat", "sliding_segmentation", "full_resolution_net"),
    *("deeplabv3", "lraspp", "resnet", "alexnet", "vgg", "mobilenet", "efficientnet", "darknet19", "darknet53"),
    "googlenet",
    *("densenet", "squeezenet", "convnext", "vit_b", "swin", "nasnet"),
)
LIGHT = [name for name in ALL if "resnet50" not in name and name not in HEAVY]


def every(names: list[str]) -> pytest.MarkDecorator:
    """One test per model, one model after another, so that each is built once; repetitions only with the slow tests."""
    return pytest.mark.parametrize("name", [of_model(name, name) for name in names], scope="module")


def of_model(name: str, *values: Any) -> Any:
    """What a test of this model is given; the test is slow if a test of another model runs the same code."""
    slow = name in REPEATED or name in VARIANTS or name in COMBINED
    words = [name, *(value for value in values if isinstance(value, str) and value != name)]
    return pytest.param(*values, id="-".join(words), marks=pytest.mark.slow if slow else ())


def build(name: str, **arguments: Any) -> nn.Module:
    """A small model of this name, the same numbers every time."""
    model = _made(name, **arguments) if arguments else copy.deepcopy(_built(name))
    torch.manual_seed(0)
    return model


@lru_cache(maxsize=2)
def evaluated(name: str) -> nn.Module:
    """The same in evaluation mode, for tests that change nothing in it."""
    return build(name).eval()


@lru_cache(maxsize=2)
def _built(name: str) -> nn.Module:
    return _made(name)


def _made(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    small = next(values for prefix, values in SMALL.items() if name.startswith(prefix))
    return create_model(name, NAMES, **{**small, **arguments})


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (channels, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def target(model: nn.Module, size: tuple[int, int], boxes: list[list[float]] | None = None) -> Any:
    if model.task == "classification":
        return ClassScores(size, label=1, classes=model.classes)
    if model.task == "segmentation":
        rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
        labels = (rows * 3 // size[0] + columns * 2 // size[1]) % 3
        labels[: size[0] // 8, : size[1] // 8] = IGNORE
        return ClassMap(labels, model.classes)
    if model.task == "video_captioning":  # a still image is a clip of one frame, 1/8 s
        return Events(size, [[0.0, 0.06], [0.05, 0.12]], ["it runs", "it jumps"], 0.125, classes=model.classes)
    boxes = [[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]] if boxes is None else boxes
    scale = torch.tensor([size[1], size[0]] * 2)
    found = Instances(
        size, classes=model.classes, boxes=torch.tensor(boxes).reshape(-1, 4) * scale, labels=[0, 2][: len(boxes)]
    )
    return with_further_fields(found) if getattr(model, "target_fields", ()) else found


def with_further_fields(found: Instances) -> Instances:
    """Masks that fill the boxes, three keypoints along diagonals, captions, cuboids and meshes before the camera."""
    (height, width), boxes = found.image_size, found.boxes
    (cube,) = cubify(torch.ones(1, 1, 1, 1, dtype=torch.bool)).split()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    along = torch.tensor([0.1, 0.5, 0.9])[None, :, None]
    places = boxes[:, None, :2] * (1 - along) + boxes[:, None, 2:] * along
    return found.replace(
        masks=(columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2),
        keypoints=torch.cat([places, torch.full_like(places[..., :1], 2)], -1),
        captions=["a red circle left of a blue star", "a star"][: len(boxes)],
        meshes=[cube.with_vertices(cube.vertices + torch.tensor([k, 0.0, 4.0])) for k in range(len(boxes))],
        **related(len(found)),
        cuboids=torch.tensor([0.3, -0.2, 4.0, 0.5, 0.7, 0.9, 0.1, 0.2, 0.8]).expand(len(found), 9),
    )


def related(count: int) -> dict[str, Any]:
    """The first object is on the second, if there are two."""
    return {"keys": torch.arange(count), "relations": [[Relation("on", 1)], []] if count == 2 else [[]] * count}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_parameters_of_a_tested_one(name: str) -> None:
    """Those of more layers are the same again."""
    assert kinds_of_entries(name) <= kinds_of_entries(VARIANTS[name])


@cache
def kinds_of_entries(name: str) -> set[str]:
    """The keys of a model's state without the numbers of its layers."""
    with shapes_only():
        return {re.sub(r"\d+", "#", key) for key in _made(name).state_dict()}


@every(ALL)
def test_losses_are_finite_and_reach_every_learning_parameter(name: str) -> None:
    model = build(name).train()
    images = [image(90, 120), image(70, 64, seed=1)]
    losses = model(images, [target(model, (90, 120)), target(model, (70, 64))])
    assert isinstance(losses, dict)
    for loss in losses.values():
        assert loss.ndim == 0
        assert loss.isfinite()
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@every(LIGHT)
def test_what_comes_back_depends_on_targets_alone(name: str) -> None:
    model = build(name)
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            assert isinstance(model([image(80, 80), image(80, 80, seed=2)]), list)
            assert isinstance(model([image(80, 80), image(80, 80, seed=2)], [target(model, (80, 80))] * 2), dict)


@every(LIGHT)
def test_batched_equals_one_by_one(name: str) -> None:
    """Two images of unlike sizes and contents that fill one padded batch, and between them one of another."""
    model = build(name).eval()
    if name in DETECTORS or name.startswith("region_proposal"):
        model = model.double()  # in float32 a last bit decides between two boxes, or where a region's edge snaps to
    images = [image(90, 120), image(65, 64, seed=2), image(92, 118, seed=1)]
    images[2][:, :40] //= 4
    if name != "unet" and not name.startswith(APART):
        assert any({0, 2} <= set(group) for group in model.preprocess.groups(images))
    with torch.inference_mode():
        together = model(images)
        for picture, result in zip(images, together, strict=True):
            (alone,) = model([picture])
            assert result.image_size == tuple(picture.shape[-2:])
            same_results(result, alone)
    if isinstance(together[0], Instances):
        first, second = (result.boxes for result in together[::2])
        assert len(first)
        assert len(second)
        assert first.shape != second.shape or not torch.equal(first, second)


def same_results(a: Any, b: Any) -> None:
    """Every field equal, whichever there are: scores, labels, boxes, masks, keypoints and what is added to them."""
    if not isinstance(a, Instances):
        torch.testing.assert_close(a.scores, b.scores, atol=2e-4, rtol=2e-4)
        return
    assert a.fields.keys() == b.fields.keys()
    assert len(a) == len(b)
    for field, value in a.fields.items():
        other = b.fields[field]
        if field == "relations":
            same_relations(a, b)
        elif not isinstance(value, Tensor):
            for one, two in zip(value, other, strict=True):
                if isinstance(one, Mesh):
                    assert torch.equal(one.faces, two.faces)
                    torch.testing.assert_close(one.vertices, two.vertices, atol=1e-4, rtol=1e-4)
                else:
                    assert one == two, field
        elif value.is_floating_point():
            torch.testing.assert_close(value, other, atol=1e-4, rtol=1e-6, msg=lambda text, f=field: f"{f}: {text}")
        else:
            assert torch.equal(value, other), field


def same_relations(a: Instances, b: Instances) -> None:
    """The same triplets with the same scores, in any order of nearly equal scores."""
    ours, theirs = ({t[:3]: t.score for t in triplets_of(own)} for own in (a, b))
    assert ours == pytest.approx(theirs, abs=1e-4)


@every(LIGHT)
def test_uint8_and_float_images_are_the_same(name: str) -> None:
    model = evaluated(name)
    picture = image(90, 120)
    with torch.inference_mode():
        a, b = model([picture])[0], model([picture.float() / 255])[0]
    torch.testing.assert_close(a.scores, b.scores)


@every(LIGHT)
def test_folded_it_answers_the_same(name: str) -> None:
    model = build(name).eval().double()  # in float32 a last bit can decide between two boxes
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.7, 1.4, generator=generator)
    with torch.inference_mode():
        whole, fused = model([image(64, 80)])[0], fuse(model)
        results: list[Any] = []
        assert not foldable_norms(lambda: results.extend(fused([image(64, 80)])))
    (folded,) = results
    torch.testing.assert_close(folded.scores, whole.scores, atol=1e-6, rtol=1e-6)
    if isinstance(whole, Instances):
        torch.testing.assert_close(folded.boxes, whole.boxes, atol=1e-4, rtol=1e-6)


@every(DETECTORS)
def test_an_image_without_objects_is_normal(name: str) -> None:
    model = build(name)
    empty = Instances((80, 100), classes=model.classes)
    losses = model([image(80, 100), image(80, 100, seed=1)], [empty, empty])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    mixed = model([image(80, 100), image(80, 100, seed=1)], [empty, target(model, (80, 100))])
    assert all(loss.isfinite() for loss in mixed.values())


@every([n for n in DETECTORS if n in LIGHT])
@pytest.mark.parametrize("size", [(1, 1), (3, 400), (33, 47), (1200, 900)])
def test_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    model = evaluated(name)
    with torch.inference_mode():
        result = model([image(*size)])[0]
    assert result.image_size == size
    assert result.classes == Classes(NAMES)
    height, width = size
    assert (result.boxes >= -1e-3).all()
    assert (result.boxes <= torch.tensor([width, height, width, height]) + 1e-2).all()
    assert ((result.scores >= 0) & (result.scores <= 1)).all()
    assert (result.scores[:-1] >= result.scores[1:]).all()


@every(LIGHT)
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels(name: str, channels: int) -> None:
    model = build(name, in_channels=channels)
    assert model.in_channels == channels
    images = [image(80, 90, channels), image(80, 90, channels, seed=1)]
    assert all(v.isfinite() for v in model(images, [target(model, (80, 90))] * 2).values())
    with pytest.raises(InputError, match=r"image 1 has shape \[3, 50, 50\], but this model takes"):
        model([images[0], image(50, 50)])


@every(LIGHT)
def test_saved_and_loaded_it_answers_the_same(name: str, tmp_path: Path) -> None:
    model = evaluated(name)
    file = save(model, tmp_path / "model.safetensors", {"AP": 0.5})
    again = load(file)
    assert again.classes == model.classes
    assert again.name == name
    assert again.metadata == {"AP": 0.5}
    with torch.inference_mode():
        a, b = model([image(90, 120)])[0], again([image(90, 120)])[0]
    assert torch.equal(a.scores, b.scores)
    assert not list(tmp_path.glob(".*"))


@every(LIGHT)
def test_targets_of_other_classes_are_refused_by_name(name: str) -> None:
    model = evaluated(name)
    other = Classes(["circle", "square", "hexagon"])
    if model.task == "classification":
        wrong: Any = ClassScores((80, 80), label=0, classes=other, source="a.jpg")
    elif model.task == "segmentation":
        wrong = ClassMap(torch.zeros(80, 80), other, source="a.jpg")
    elif model.task == "video_captioning":
        wrong = Events((80, 80), [[0, 1]], ["it runs"], 1.0, classes=other, source="a.jpg")
    else:
        wrong = Instances((80, 80), classes=other, boxes=[[1, 1, 9, 9]], labels=[0], source="a.jpg")
    with pytest.raises(ClassMismatch, match=r"a\.jpg lacks 'star' and a\.jpg also has 'hexagon'"):
        model([image(80, 80)], [wrong])


@every(SEGMENTERS)
def test_a_map_without_pixels_that_count_is_normal(name: str) -> None:
    model = build(name)
    nothing = ClassMap(torch.full((80, 100), IGNORE), model.classes)
    losses = model([image(80, 100), image(80, 100, seed=1)], [nothing, nothing])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


@every([n for n in SEGMENTERS if n in LIGHT])
@pytest.mark.parametrize("size", [(1, 1), (3, 150), (33, 47)])
def test_maps_of_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    model = evaluated(name)
    with torch.inference_mode():
        result = model([image(*size)])[0]
    assert result.image_size == size
    assert result.classes == Classes(NAMES)
    assert torch.equal(result.scores.gather(0, result.labels[None])[0], result.scores.amax(0))
    torch.testing.assert_close(result.scores.sum(0), torch.ones(size))


@every(SEGMENTERS)
def test_a_map_of_another_size_than_its_image_is_refused(name: str) -> None:
    model = evaluated(name)
    with pytest.raises(InputError, match=r"has a map of \[40, 40\] pixels, but its image has \[80, 80\]"):
        model([image(80, 80)], [target(model, (40, 40))])


@every(DETECTORS + SEGMENTERS)
def test_one_target_an_image(name: str) -> None:
    model = evaluated(name)
    with pytest.raises(InputError, match="there are 2 images but 1 targets"):
        model([image(80, 80), image(80, 80)], [target(model, (80, 80))])


@pytest.mark.parametrize(
    "name",
    [
        "ssdlite320_mobilenet_v2",
        pytest.param("sightline_n", marks=pytest.mark.slow),  # detection/test_sightline_detector.py has three
        "faster_rcnn_mobilenet_v2_fpn",
        "retinanet_mobilenet_v2_fpn",
        "fcos_mobilenet_v2_fpn",
    ],
)
def test_it_overfits_two_images(name: str) -> None:
    few = {"proposals": ProposalSettings(before_nms=(300, 100), after_nms=(100, 50), samples=64)}
    model = build(name, **few if name.startswith("faster_rcnn") else {}).train()
    images = [torch.full((3, 96, 96), 60, dtype=torch.uint8) for _ in range(2)]
    boxes = [[16.0, 16.0, 64.0, 64.0], [40.0, 24.0, 88.0, 72.0]]
    targets = []
    for picture, box, label in zip(images, boxes, (0, 2), strict=True):
        x1, y1, x2, y2 = map(int, box)
        picture[label, y1:y2, x1:x2] = 250
        targets.append(Instances((96, 96), classes=model.classes, boxes=[box], labels=[label]))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(1, 51):  # most need less
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
        if step >= 20 and step % 10 == 0:
            results = answers(model, images)
            if step == 50 or all(map(is_found, results, boxes, (0, 2))):
                break
    for result, box, label in zip(results, boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        assert result.boxes[0].tolist() == pytest.approx(box, abs=10)


def answers(model: nn.Module, images: list[Tensor]) -> list[Instances]:
    """The results of a copy that takes its batch statistics from these images: two images are none to average."""
    own = copy.deepcopy(model)
    for module in own.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        own(images)
        return own.eval()(images)


def is_found(result: Instances, box: list[float], label: int) -> bool:
    return len(result) > 0 and int(result.labels[0]) == label and result.boxes[0].tolist() == pytest.approx(box, abs=10)
