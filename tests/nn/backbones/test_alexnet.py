"""The AlexNet of 2012: two groups and local response normalisation."""

from __future__ import annotations

import torch

from sightline.nn.backbones.alexnet import alexnet_lrn
from sightline.nn.layers import local_response_norm
from sightline.runtime.shapes import shapes_only


def test_the_paper_s_network_has_60_965_224_parameters() -> None:
    with shapes_only():
        net = alexnet_lrn()
    by_hand = [(11 * 11 * 3 + 1) * 96, (5 * 5 * 48 + 1) * 256, (9 * 256 + 1) * 384, (9 * 192 + 1) * 384]
    by_hand += [(9 * 192 + 1) * 256, (6 * 6 * 256 + 1) * 4096, 4097 * 4096, 4097 * 1000]
    assert sum(p.numel() for p in net.parameters()) == sum(by_hand) == 60_965_224


def test_the_second_convolution_s_halves_see_the_halves_of_their_input() -> None:
    torch.manual_seed(0)
    layers = list(alexnet_lrn(hidden=1).features)
    convolution = layers[4]
    x = torch.rand(1, 96, 6, 6)
    changed = x.clone()
    changed[:, 48:] += 1
    with torch.inference_mode():
        differs = (convolution(x) != convolution(changed)).flatten(2).any(-1)[0]
    assert not differs[:128].any()
    assert differs[128:].all()


def test_response_normalisation_is_the_paper_s_formula() -> None:
    """b_i = a_i / (2 + 1e-4 · Σ a_j²)^0.75, with j from i − 2 to i + 2 (section 3.3)."""
    torch.manual_seed(0)
    a = torch.rand(1, 7, 2, 2, dtype=torch.float64) * 200
    found = local_response_norm()(a)
    for i in range(7):
        near = a[0, max(0, i - 2) : i + 3]
        torch.testing.assert_close(found[0, i], a[0, i] / (2 + 1e-4 * (near**2).sum(0)) ** 0.75)


def test_its_maps_have_about_the_strides_they_say() -> None:
    net = alexnet_lrn(hidden=1).eval()
    with torch.inference_mode():
        maps = net.maps((4, 8, 16, 32))(torch.rand(1, 3, 224, 224))
    assert [x.shape[1:] for x in maps.values()] == [(96, 55, 55), (256, 27, 27), (256, 13, 13), (256, 6, 6)]
