"""U-Net: published numbers and sizes, mirrored borders, and any depth on a backbone."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.segmentation.unet import UNetwork, centre, unet, unet_small
from sightline.models.weights import load_weights
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.runtime.shapes import shapes_only
from tests.models.fitting import fitted_results

NAMES = ["ground", "cell"]
_STEPS = (("unet_lite0", 4), ("unet_mobilenet_v2", 5))
"""Steps of the decoder."""


def test_the_paper_s_parameters_and_sizes() -> None:
    with shapes_only():
        model = unet(NAMES, in_channels=1)
    assert sum(p.numel() for p in model.parameters()) == 31_030_658
    assert model.network.tile((388, 388)) == (572, 572)
    assert model.network.margin == (572 - 388) // 2
    assert model.network.tile((389, 388)) == (588, 572)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_output_covers_the_image_whatever_its_size(depth: int) -> None:
    network = UNetwork(1, 2, width=1, depth=depth).eval()
    with torch.no_grad():
        for size in ((1, 1), (3, 18), (20, 33)):
            assert network(torch.rand(1, 1, *size)).shape[-2:] == size


def test_valid_convolutions_see_the_mirrored_image() -> None:
    """The figure's steps, one by one, on an image mirrored around by the framework."""
    torch.manual_seed(0)
    network = UNetwork(1, 2, width=2, depth=2).eval()
    x = torch.rand(1, 1, 36, 44)  # outputs are multiples of 4: nothing is added at the bottom and right
    with torch.no_grad():
        tile = F.pad(x, (20, 20, 20, 20), mode="reflect")
        first = network.down[0](tile)
        second = network.down[1](F.max_pool2d(first, 2))
        low = network.bottom(F.max_pool2d(second, 2))
        up = network.ups[0](low)
        edge = (second.shape[-1] - up.shape[-1]) // 2
        up = network.blocks[0](torch.cat([second[..., edge:-edge, edge:-edge], up], 1))
        up = network.ups[1](up)
        edge = (first.shape[-1] - up.shape[-1]) // 2
        up = network.blocks[1](torch.cat([first[..., edge:-edge, edge:-edge], up], 1))
        wanted = network.score(up)
        assert wanted.shape[-2:] == (36, 44)
        torch.testing.assert_close(network(x), wanted)


def test_tiles_of_an_image_agree_with_the_whole() -> None:
    """Nothing is padded inside: where a tile's surroundings are given, its answer is the whole image's."""
    torch.manual_seed(0)
    network = UNetwork(1, 2, width=2, depth=2).eval()
    x = torch.rand(1, 1, 76, 76)
    with torch.no_grad():
        whole = network(x)
        tile = network(x[..., 12:64, 12:64])  # 12 is a multiple of 4, so that poolings fall alike
        torch.testing.assert_close(tile[..., 20:-20, 20:-20], whole[..., 32:44, 32:44])


def test_the_centre_of_a_map() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert centre(x, (2, 4))[0, 0].tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]
    assert torch.equal(centre(x, (6, 6)), x)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_any_depth_on_a_backbone(depth: int) -> None:
    for name in ("unet_mobilenet_v2", "unet_resnet18"):
        model = create_model(name, NAMES, depth=depth, channels=(16, 8, 8, 4, 4)).eval()
        assert model.preprocess.divisor == 2**depth
        assert model.network.encoder.strides == [2, 4, 8, 16, 32][:depth]
        with torch.no_grad():
            assert model([torch.rand(3, 21, 33)])[0].labels.shape == (21, 33)
    with pytest.raises(InputError, match="depth 6, but width ≥ 1 and 1 ≤ depth ≤ 5"):
        create_model("unet_mobilenet_v2", NAMES, depth=6)


def test_a_backbone_s_weights_load() -> None:
    """Strides of 2, 4 and 8 end with MobileNet's features 1, 3 and 6: all of these load, and nothing else is there."""
    net, model = mobilenet_v2(7), create_model("unet_mobilenet_v2", NAMES, depth=3)
    theirs = {k: torch.randn(v.shape).to(v.dtype) for k, v in net.state_dict().items()}
    load_weights(model, theirs, "mobilenet.pth")
    ours = model.network.encoder.state_dict()
    assert {key.split(".")[0] for key in ours} == {str(i) for i in range(7)}
    assert len(ours) == sum(len(net.features[i].state_dict()) for i in range(7))
    for key, value in ours.items():
        assert torch.equal(value, theirs[f"features.{key}"]), key


def count(inputs: int, out: int) -> int:
    """Parameters of a separable block by hand: three convolutions without biases, and scale and shift of each."""
    return inputs * out + 9 * out + out * out + 3 * 2 * out


def test_the_light_decoder_s_parameters_and_map() -> None:
    model = create_model("unet_lite0", NAMES).eval()
    skips = [16, 24, 40, 112, 320]  # of EfficientNet-Lite0's maps of strides 2 to 32
    steps = count(320 + 112, 128) + count(128 + 40, 64) + count(64 + 24, 48) + count(48 + 16, 32)
    assert model.network.encoder.channels == skips
    assert sum(p.numel() for p in model.network.blocks.parameters()) == steps
    assert sum(p.numel() for p in model.network.score.parameters()) == 33 * 2
    assert sum(p.numel() for p in model.network.direct.parameters()) == (40 + 112 + 320 + 3) * 2
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert model.network(x).shape == (1, 2, 32, 48)  # stride 2
        assert model([x[0]])[0].labels.shape == (64, 96)


def test_maps_of_the_encoder_are_scored_directly() -> None:
    """The logits are the decoder's and, resized, those of a 1×1 convolution of each map of stride 8, 16 and 32."""
    torch.manual_seed(0)
    own = {"encoder": "mobilenet_v2", "channels": (16, 8, 8, 4), "output_stride": 2}
    model, plain = unet(NAMES, **own, direct=True).eval(), unet(NAMES, **own).eval()
    assert not plain.load_state_dict(model.state_dict(), strict=False).missing_keys
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        without = plain.network(x)
        assert torch.equal(model.network(x), without)  # they start from zero
        for layer in model.network.direct:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
        maps = list(model.network.encoder(x).values())[2:]
        assert [m.shape[-1] for m in maps] == [12, 6, 3]
        for layer, features in zip(model.network.direct, maps, strict=True):
            scores = torch.einsum("kc,nchw->nkhw", layer.weight[..., 0, 0], features) + layer.bias[:, None, None]
            without = without + F.interpolate(scores, (32, 48), mode="bilinear")
        torch.testing.assert_close(model.network(x), without)


@pytest.mark.parametrize(("output_stride", "depth"), [(1, 5), (2, 3), (4, 5), (4, 3)])
def test_the_decoder_ends_at_a_stride(output_stride: int, depth: int) -> None:
    own = {"encoder": "mobilenet_v2", "channels": (16, 8, 8, 4, 4)[: {1: 5, 2: 4, 4: 3}[output_stride]]}
    model = unet(NAMES, **own, depth=depth, output_stride=output_stride).eval()
    with torch.no_grad():
        assert model.network(torch.rand(1, 3, 64, 64)).shape[-1] == 64 // output_stride
        assert model([torch.rand(3, 21, 33)])[0].labels.shape == (21, 33)
    least = {1: 1, 2: 2, 4: 3}[output_stride]
    with pytest.raises(InputError, match=f"depth {least - 1}, but width ≥ 1 and {least} ≤ depth ≤ 5"):
        unet(NAMES, **own, depth=least - 1, output_stride=output_stride)


def test_a_stride_that_the_decoder_lacks() -> None:
    with pytest.raises(InputError, match="output_stride is 8, but the decoder ends at 1, 2 or 4"):
        unet(NAMES, encoder="mobilenet_v2", output_stride=8)  # type: ignore[arg-type]


def test_frozen_parts_and_norms_of_the_encoder_stay() -> None:
    """Of five parts the last two learn; no running statistic of the encoder changes; the decoder learns."""
    from sightline.structures import ClassMap

    torch.manual_seed(0)
    model = create_model("unet_lite0", NAMES, norm="frozen", trainable_layers=2, channels=[16, 8, 8, 8]).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    targets = [ClassMap(torch.randint(0, 2, (64, 64)), model.classes) for _ in range(2)]
    sum(model([torch.rand(3, 64, 64) for _ in range(2)], targets).values()).backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    parts = {key.split(".")[2] for key in changed if key.startswith("network.encoder.")}
    assert parts == {"4", "5", "6", "7"}  # the stages of strides 16 and 32
    encoder = {key for key in changed if key.startswith("network.encoder.")}
    assert encoder
    assert not any(key.endswith(("running_mean", "running_var")) for key in encoder)
    assert {key.split(".")[2] for key in changed if key.startswith("network.score.")} == {"weight", "bias"}
    assert {key.split(".")[2] for key in changed if key.startswith("network.blocks.")} == {"0", "1", "2", "3"}


def test_the_encoder_is_the_backbone() -> None:
    model = create_model("unet_lite0", NAMES, channels=[16, 8, 8, 8])
    found = {key.split(".")[1] for key, _ in model.named_parameters() if re.search(model.backbone_layers, key)}
    assert found == {"encoder"}
    rates = {
        name: create_model(name, NAMES, channels=[16, 8, 8, 8, 8][-n:]).recipe_defaults["lr"] for name, n in _STEPS
    }
    assert rates == {"unet_lite0": 3e-3, "unet_mobilenet_v2": 1e-3}


def test_the_padded_form_learns_two_images() -> None:
    torch.manual_seed(0)
    from sightline.structures import ClassMap

    model = unet_small(NAMES, in_channels=1, width=4, depth=2).train()
    images = [torch.rand(1, 24, 24) * 0.2 for _ in range(2)]
    images[0][:, 4:16, 6:20] += 0.7
    images[1][:, 10:22, 2:14] += 0.7
    targets = [ClassMap((x[0] > 0.5).long(), model.classes) for x in images]
    results = fitted_results(model, images, targets, steps=25, lr=2e-2)
    for answer, target in zip(results, targets, strict=True):
        assert (answer.labels == target.labels).float().mean() > 0.97
