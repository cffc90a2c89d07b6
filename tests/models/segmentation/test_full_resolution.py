"""The network without down-sampling: its cost by hand and by counting, and how far it sees."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from sightline.models.segmentation.full_resolution import full_resolution_net
from sightline.runtime.shapes import shapes_only

NAMES = ["ground", "circle", "square"]


def test_the_cost_that_is_told() -> None:
    with shapes_only():
        model = full_resolution_net(NAMES)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval().network(torch.empty(1, 3, 480, 640))
    by_hand = 9 * 3 * 32 + 7 * 9 * 32 * 32
    assert by_hand == 65_376
    assert counter.get_total_flops() == 2 * 480 * 640 * (by_hand + 32 * len(NAMES))


def test_how_far_it_sees() -> None:
    for dilated, wanted in ((True, 1 + 2 * (1 + 1 + 2 + 4)), (False, 9)):
        network = full_resolution_net(NAMES, width=4, layers=4, dilated=dilated).network.eval()
        assert network.sees == wanted
        x = torch.rand(1, 3, 41, 41, requires_grad=True)
        # without the non-linearities every pixel that is seen has a part in the answer
        for layer in list(network)[:-1]:
            layer[2] = torch.nn.Identity()
        network(x)[0, :, 20, 20].sum().backward()
        rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
        assert int(rows.max() - rows.min()) + 1 == wanted
    assert full_resolution_net(NAMES, width=1).network.sees == 257
    assert full_resolution_net(NAMES, width=1, dilated=False).network.sees == 17
