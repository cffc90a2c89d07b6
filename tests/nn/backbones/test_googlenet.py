"""GoogLeNet, the paper's and torchvision's: counts, keys, outputs, maps; what SE-Inception adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.nn.backbones.aux_heads import drop_aux_heads
from sightline.nn.backbones.googlenet import GoogLeNet, Inception, googlenet, googlenet_lrn
from sightline.nn.layers import Renormalise, SqueezeExcitation
from sightline.runtime.shapes import shapes_only
from tests.models import parity


@pytest.mark.parametrize(
    ("build", "without", "heads"), [(googlenet, 6_624_904, 13_004_888), (googlenet_lrn, 6_998_552, 13_378_280)]
)
def test_parameter_counts_are_the_published_ones(build, without: int, heads: int) -> None:  # type: ignore[no-untyped-def]
    with shapes_only():
        assert sum(p.numel() for p in build(aux_heads=False).parameters()) == without
        assert sum(p.numel() for p in build().parameters()) == heads
        dropped = build()
    drop_aux_heads(dropped)
    assert sum(p.numel() for p in dropped.parameters()) == without


def test_all_logits_equal_the_reference(shared: Path) -> None:
    ref, meta = parity.outputs(shared, "googlenet")
    x, tolerance = parity.recipe(shared).batch([1, 2], 224, 224), 20 * meta["float64_max_abs_diff"] + 1e-6
    with parity.undrawn():
        plain, transforming = googlenet(transform_input=False), googlenet()
    parity.fill(plain, shared, "googlenet")
    transforming.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        outputs, transformed = plain.outputs(x), transforming.eval()(x[:1])
    parity.close(outputs["out"], ref["logits"], tolerance)
    parity.close(outputs["aux1"], ref["aux_logits1"], tolerance)
    parity.close(outputs["aux2"], ref["aux_logits2"], tolerance)
    parity.close(transformed, ref["logits_transform_input"][:1], tolerance)


@pytest.mark.parametrize("build", [googlenet, googlenet_lrn])
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_have_the_channels_and_strides_they_say(build, channels: int) -> None:  # type: ignore[no-untyped-def]
    net = build(1, in_channels=channels, aux_heads=False).eval()
    maps = net.maps((2, 4, 8, 16, 32))
    with torch.inference_mode():
        found = maps(torch.rand(1, channels, 96, 64)).values()
    wanted = [(64, 48, 32), (192, 24, 16), (480, 12, 8), (832, 6, 4), (1024, 3, 2)]
    assert [tuple(x.shape[1:]) for x in found] == wanted
    assert list(zip(maps.channels, maps.strides, strict=True)) == [(c, 96 // h) for c, h, _ in wanted]


def test_the_paper_s_network_normalises_responses_where_figure_3_does() -> None:
    with shapes_only():
        net = googlenet_lrn()
    places = [name for name, layer in net.layers().items() if isinstance(layer, nn.LocalResponseNorm)]
    names = list(net.layers())
    assert [names[names.index(place) - 1] for place in places] == ["maxpool1", "conv3"]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    kernels = {m.branch3[1].conv.kernel_size for m in net.modules() if isinstance(m, Inception)}
    assert kernels == {(5, 5)}


def test_squeeze_and_excitation_follows_each_module() -> None:
    """A module of C outputs has two dense layers of C · C / 16 weights more."""
    with shapes_only():
        plain, attentive = (GoogLeNet(10, aux_heads=False, attention=a) for a in (None, SqueezeExcitation))
    outputs = (256, 480, 512, 512, 512, 528, 832, 832, 1024)
    more = sum(2 * c * (c // 16) + c // 16 + c for c in outputs)
    assert sum(p.numel() for p in attentive.parameters()) == sum(p.numel() for p in plain.parameters()) + more
    torch.manual_seed(0)
    module = Inception(4, (2, 2, 2, 2, 2, 2), _convolution, 3, SqueezeExcitation)
    x = torch.rand(2, 4, 5, 5)
    se, module.se = module.se, None
    assert se is not None
    without = module(x)
    module.se = se
    torch.testing.assert_close(module(x), se(without))


def _convolution(channels: int, out: int, kernel: int, padding: int = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=padding))


def test_renormalised_images_are_those_of_tensorflow() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(Renormalise()((pixels - mean) / std), 2 * pixels - 1)
    torch.testing.assert_close(Renormalise(1)(torch.zeros(1, 1, 1, 1)), torch.full((1, 1, 1, 1), 2 * 0.449 - 1))
    assert not Renormalise().state_dict()
