"""Networks after ResNet: published counts, torchvision's (or timm's) keys and outputs, maps at their strides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.nn.backbones.convnext import convnext_tiny
from sightline.nn.backbones.densenet import densenet121, densenet161, densenet169, densenet201
from sightline.nn.backbones.efficientnet_v2 import efficientnet_v2_s
from sightline.nn.backbones.features import Network
from sightline.nn.backbones.named import BACKBONES, PyramidName, build_backbone
from sightline.nn.backbones.nasnet import nasnet_large, nasnet_mobile
from sightline.nn.backbones.squeezenet import squeezenet1_0, squeezenet1_1
from sightline.nn.backbones.swin import swin_t
from sightline.nn.backbones.vit import vit_b_16, vit_b_32
from sightline.nn.backbones.xception import xception
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassMap, Instances
from tests.models import parity

COUNTS: dict[Callable[..., Network], int] = {
    densenet121: 7_978_856,
    densenet161: 28_681_000,
    densenet169: 14_149_480,
    densenet201: 20_013_928,
    squeezenet1_0: 1_248_424,
    squeezenet1_1: 1_235_496,
    xception: 22_855_952,
    vit_b_16: 86_567_656,
    vit_b_32: 88_224_232,
    swin_t: 28_288_354,
    convnext_tiny: 28_589_128,
    efficientnet_v2_s: 21_458_488,
    nasnet_large: 88_753_150,
    nasnet_mobile: 5_289_978,
}
# name in the reference pack, side of its images
REFERENCES = {
    densenet121: ("densenet121", 224),
    squeezenet1_1: ("squeezenet1_1", 224),
    xception: ("legacy_xception", 299),
    vit_b_16: ("vit_b_16", 224),
    swin_t: ("swin_t", 224),
    convnext_tiny: ("convnext_tiny", 224),
    efficientnet_v2_s: ("efficientnet_v2_s", 224),
}
LARGE = (xception, vit_b_16, swin_t, convnext_tiny, efficientnet_v2_s)  # a second or more each
SMALL: dict[str, dict[str, Any]] = {
    "densenet121": {"growth": 4, "depths": (1, 2, 1, 1)},
    "squeezenet1_0": {},
    "squeezenet1_1": {},
    "convnext_tiny": {"width": 8, "depths": (1, 1, 1, 1)},
    "vit_b_16": {"width": 64, "depth": 2},
    "vit_b_32": {"width": 64, "depth": 1},
    "swin_t": {"width": 32, "depths": (2, 1, 1, 1)},
    "nasnet_large": {"filters": 96, "repeats": 1},  # its cells after a reduction skip one
    "nasnet_mobile": {"filters": 96, "repeats": 2},
}


def small(name: str, **arguments: Any) -> Network:
    torch.manual_seed(0)
    return build_backbone(name, num_classes=3, known=PyramidName, **{**SMALL.get(name, {}), **arguments})


@pytest.mark.parametrize("build", COUNTS, ids=lambda b: b.__name__)
def test_parameter_counts_are_the_published_ones(build: Callable[..., nn.Module]) -> None:
    with shapes_only():
        assert sum(p.numel() for p in build().parameters()) == COUNTS[build]


@pytest.mark.parametrize("build", [*LARGE, nasnet_large], ids=lambda b: b.__name__)
def test_keys_and_shapes_of_the_large_networks_are_the_published_ones(
    build: Callable[..., nn.Module], shared: Path
) -> None:
    with shapes_only():
        state = build().state_dict()
    name = "nasnetalarge" if build is nasnet_large else REFERENCES[build][0]
    wanted = {key: shape for key, shape, _, _ in parity.manifest(shared, name)["state_dict"]}
    assert {key: list(value.shape) for key, value in state.items()} == wanted


@pytest.mark.parametrize(
    "build",
    [pytest.param(b, marks=[pytest.mark.slow] if b in LARGE else []) for b in REFERENCES],
    ids=lambda b: b.__name__,
)
def test_logits_equal_the_reference(build: Callable[..., nn.Module], shared: Path) -> None:
    name, side = REFERENCES[build]
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        net = build()
    parity.fill(net, shared, name)
    with torch.inference_mode():
        logits = net(parity.recipe(shared).batch([1, 2], side, side))
    parity.close(logits, ref["logits"], 20 * meta["float64_max_abs_diff"] + 1e-6)


@pytest.mark.parametrize("name", [*SMALL, "xception", "efficientnet_v2_s"])
def test_maps_have_the_channels_and_strides_they_say(name: str) -> None:
    net = small(name, in_channels=4).eval()
    maps = net.maps([stage.stride for stage in net.stages])
    assert {4, 8, 16, 32} <= set(maps.strides)
    with torch.inference_mode():
        for height, width in ((96, 64), (32, 160)):
            found = maps(torch.rand(2, 4, height, width))
            assert list(found) == [stage.layer for stage in net.stages]
            for x, stage in zip(found.values(), net.stages, strict=True):
                assert x.shape == (2, stage.channels, height // stage.stride, width // stage.stride)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_the_maps_learns(name: str) -> None:
    """Also if only some are taken: what makes the others is then not part of the backbone."""
    for strides in ((8, 16, 32), (4,)):
        maps = small(name).train().maps(strides)
        sum(x.square().sum() for x in maps(torch.rand(2, 3, 64, 96)).values()).backward()
        assert not [key for key, p in maps.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", SMALL)
def test_the_trunk_makes_the_last_map_of_the_classifier(name: str) -> None:
    if name.startswith("vit"):
        pytest.skip("its classifier has a class token")
    arguments = {"padded": False} if name.startswith(("squeezenet", "nasnet")) else {}
    net = small(name, **arguments).eval()
    x, seen = torch.rand(1, 3, 64, 64), []
    last = list(net.trunk())[-1]
    with torch.inference_mode():
        alone = net.trunk()(x)
        last.register_forward_hook(lambda *a: seen.append(a[2]))
        net(x)
    torch.testing.assert_close(seen[0], alone)


@pytest.mark.parametrize("name", SMALL)
def test_images_of_any_size_are_classified(name: str) -> None:
    net = small(name).eval()
    with torch.inference_mode():
        for size in ((64, 64), (75, 131), (48, 33)):
            logits = net(torch.rand(2, 3, *size))
            assert logits.shape == (2, 3)
            assert logits.isfinite().all()


SYSTEMS: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"min_size": 64, "max_size": 96, "channels": 8, "hidden": 8},
    "ssdlite": {"image_size": 64},
    "unet": {"channels": [8, 8, 8, 4, 4]},
    "fcn8s": {},
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_16", "swin_t", "nasnet_mobile"])
def test_detectors_and_segmenters_take_them(system: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks unlike a ResNet: padded, with branches, without a map of stride 2, with pairs of maps."""
    monkeypatch.setitem(BACKBONES, name, partial(BACKBONES[name], **SMALL[name]))
    argument = "encoder" if system in ("unet", "fcn8s") else "backbone"
    model = create_model(system, ["circle", "square"], **{argument: name}, **SYSTEMS[system])
    taken = [key for key, place in model.backbone_keys.items() if place is not None]
    assert len(taken) >= len(model.backbone_keys) - 3  # all but the classifier's layer and a class token
    images = [torch.rand(3, 64, 96), torch.rand(3, 96, 64)]
    targets: list[Any] = [ClassMap(torch.randint(0, 2, image.shape[-2:])) for image in images]
    if argument == "backbone":
        targets = [Instances(tuple(x.shape[-2:]), boxes=[[8, 8, 50, 60]], labels=[1]) for x in images]
    sum(model(images, targets).values()).backward()
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    with torch.no_grad():
        assert [result.image_size for result in model.eval()(images)] == [(64, 96), (96, 64)]


def test_a_system_that_needs_a_map_of_stride_2_says_so() -> None:
    with (
        torch.device("meta"),
        pytest.raises(InputError, match="Swin has no map of stride 2; its maps have 4, 8, 16, 32"),
    ):
        create_model("unet", ["circle", "square"], encoder="swin_t", depth=1)
