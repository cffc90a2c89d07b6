"""Inception v3: counts, torchvision's keys and outputs, the padded form for feature pyramids."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sightline.nn.backbones.inception_v3 import InceptionV3, Mixed, inception_v3
from sightline.nn.backbones.named import PyramidName, build_backbone
from sightline.nn.layers import SqueezeExcitation
from sightline.runtime.shapes import shapes_only
from tests.models import parity


def test_parameter_counts_are_the_published_ones() -> None:
    with shapes_only():
        assert sum(p.numel() for p in inception_v3().parameters()) == 27_161_264
        assert sum(p.numel() for p in inception_v3(aux_heads=False).parameters()) == 23_834_568


def test_all_logits_equal_the_reference(shared: Path) -> None:
    ref, meta = parity.outputs(shared, "inception_v3")
    x, tolerance = parity.recipe(shared).batch([1, 2], 299, 299), 20 * meta["float64_max_abs_diff"] + 1e-6
    with parity.undrawn():
        net, transforming = inception_v3(transform_input=False), inception_v3()
    parity.fill(net, shared, "inception_v3")
    transforming.load_state_dict(net.state_dict())
    with torch.inference_mode():
        outputs = net.outputs(x)
        transformed = transforming.eval()(x[:1])
    parity.close(outputs["out"], ref["logits"], tolerance)
    parity.close(outputs["aux"], ref["aux_logits"], tolerance)
    parity.close(transformed, ref["logits_transform_input"][:1], tolerance)


@pytest.fixture(scope="module")
def padded() -> InceptionV3:
    torch.manual_seed(0)
    net = build_backbone("inception_v3", num_classes=2, known=PyramidName)
    assert isinstance(net, InceptionV3)
    return net.eval()


def test_padded_maps_are_aligned_and_the_published_ones_are_smaller(padded: InceptionV3) -> None:
    published = build_backbone("inception_v3", num_classes=2).eval()
    published.load_state_dict(padded.state_dict())
    x, strides = torch.rand(1, 3, 96, 128), (2, 4, 8, 16, 32)
    with torch.inference_mode():
        aligned, smaller = padded.maps(strides)(x).values(), published.maps(strides)(x).values()
    assert [tuple(m.shape[1:]) for m in aligned] == [
        *((64, 48, 64), (192, 24, 32), (288, 12, 16), (768, 6, 8), (2048, 3, 4)),
    ]
    assert [m.shape[-2] for m in smaller] == [45, 20, 9, 4, 1]


def test_auxiliary_logits_of_small_images(padded: InceptionV3) -> None:
    with torch.inference_mode():
        assert {n: tuple(o.shape) for n, o in padded.outputs(torch.rand(1, 3, 64, 64)).items()} == {
            "out": (1, 2),
            "aux": (1, 2),
        }


def test_squeeze_and_excitation_follows_each_module() -> None:
    with shapes_only():
        net = inception_v3(attention=SqueezeExcitation)
    blocks = [m.se for m in net.modules() if isinstance(m, Mixed)]
    squeezed = [block.fc2.out_channels for block in blocks if isinstance(block, SqueezeExcitation)]
    assert squeezed == [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]
