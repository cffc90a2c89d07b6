"""Facts that are taught of several systems and that no other test states in so many words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.models.creation import create_model
from sightline.nn.backbones.googlenet import Inception, googlenet_lrn
from sightline.nn.backbones.mobilenet_v2 import InvertedResidual
from sightline.nn.heads.rpn_single import TwoScoreHead
from sightline.ops.boxes import decode_boxes
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances


def small_faster_rcnn() -> nn.Module:
    torch.manual_seed(0)
    arguments = {"min_size": 64, "max_size": 64, "channels": 16, "hidden": 16}
    return create_model("faster_rcnn_mobilenet_v2_fpn", ["a", "b"], **arguments).eval()


def test_faster_rcnn_has_four_losses() -> None:
    target = Instances((64, 64), boxes=[[8.0, 8, 40, 48]], labels=[1])
    losses = small_faster_rcnn()([torch.rand(3, 64, 64)], [target])
    assert {*losses} == {"loss_objectness", "loss_proposal_box", "loss_classification", "loss_box"}


def test_each_final_box_has_been_corrected_twice() -> None:
    """An anchor, moved by the first stage's correction, and the result by the second stage's."""
    model = small_faster_rcnn()
    batch, _ = model.prepare([torch.rand(3, 64, 64)], None)
    with torch.no_grad():
        model.rpn.head.bbox_pred.bias.fill_(0.2)  # every correction of the first stage is near this
        model.roi_heads.box_predictor.bbox_pred.bias.fill_(0.5)
        model.roi_heads.box_predictor.cls_score.bias[1] = 5.0
        maps = model.backbone(batch.tensor)
        _, deltas, anchors = model.rpn.outputs(maps, batch)
        first = decode_boxes(torch.cat(deltas, 1)[0], torch.cat(anchors))
        (proposals,), _ = model.rpn(maps, batch)
        _, corrections = model.roi_heads.predict(maps, [proposals], batch)
        second = decode_boxes(corrections[:, 1], proposals, (10.0, 10.0, 5.0, 5.0))
        results, _ = model.process(batch, None)

    def among(boxes: Tensor, candidates: Tensor) -> bool:
        inside = candidates.clamp(0, 64)
        return bool(((boxes[:, None] - inside).abs().amax(-1).amin(1) < 1e-3).all())

    assert among(proposals, first)  # once corrected
    assert len(results[0]["boxes"])
    own = results[0]["labels"] == 1  # output 0 is the background
    assert own.any()
    assert among(results[0]["boxes"][own], second)  # and once more
    assert not among(results[0]["boxes"][own], proposals)


def test_the_proposal_head_of_the_small_network_of_the_paper() -> None:
    """A hidden vector of 256 numbers, 2k scores and 4k coordinates per cell (ZF network, k = 9 anchors)."""
    head = TwoScoreHead(256, 9, 256)
    hidden = head.conv(torch.zeros(1, 256, 3, 4))
    assert hidden.shape == (1, 256, 3, 4)
    assert head.cls_logits(hidden).shape == (1, 2 * 9, 3, 4)
    assert head.bbox_pred(hidden).shape == (1, 4 * 9, 3, 4)


def test_googlenet_has_nine_modules_and_ends_in_1024_channels_of_7_by_7() -> None:
    with shapes_only():
        network = googlenet_lrn()
        modules = [module for module in network.modules() if isinstance(module, Inception)]
        seen: list[torch.Size] = []
        modules[-1].register_forward_hook(lambda *call: seen.append(call[2].shape))
        network.eval()(torch.zeros(1, 3, 224, 224))
        assert len(modules) == 9
        assert seen == [(1, 1024, 7, 7)]
        assert sum(isinstance(module, nn.LocalResponseNorm) for module in network.modules()) == 2


def test_an_inception_module_joins_four_branches_along_the_channels() -> None:
    torch.manual_seed(0)
    module = googlenet_lrn(aux_heads=False).inception3a.eval()
    x = torch.rand(1, 192, 5, 6)
    with torch.inference_mode():
        branches = [branch(x) for branch in module.children()]
        found = module(x)
    assert [branch.shape[1] for branch in branches] == [64, 128, 32, 32]
    assert torch.equal(found, torch.cat(branches, 1))


def test_the_projection_of_an_inverted_residual_has_no_non_linearity() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, 6, 1, 6, nn.BatchNorm2d).eval()
    x = torch.randn(1, 4, 7, 7)
    with torch.inference_mode():
        found = block(x)
        inner = block.block[:-2](x)
        expected = torch.einsum("oi,nihw->nohw", block.block[-2].weight[:, :, 0, 0], inner) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(found, expected)
    assert (found < 0).any()
    assert (inner >= 0).all()
    assert inner.max() <= 6
