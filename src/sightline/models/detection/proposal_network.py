"""The region proposal network alone: Ren et al. 2015, section 3.1, trained for what it finds, whatever its class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.single_map import mobilenet_v2_body, vgg_body
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.vgg import vgg16
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.nn.layers import Norm
from sightline.ops.boxes import scale_boxes
from sightline.structures import Classes, ImageBatch, Instances


class ProposalNetwork(Detector):
    """A model of task "proposal": results have boxes and scores (objectness, best first) and no labels.

    `sightline.evaluation.proposals` measures it by recall. It can serve Fast R-CNN: `fast.proposer = network.propose`.

    Args:
        classes: names of the data's classes, which it learns from alike.
        preprocess: images → batch.
        backbone: batch [N, C, H, W] → maps by name.
        rpn: maps → proposals.
    """

    task = "proposal"

    def __init__(self, classes: Iterable[str], preprocess: Preprocess, backbone: nn.Module, rpn: SingleMapRPN):
        super().__init__(classes, preprocess)
        self.backbone = backbone
        self.rpn = rpn

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """A batch → proposals of each image; with targets, the two losses (equation 1)."""
        maps = self.backbone(batch.tensor)
        if targets is not None:
            return [], self.rpn(maps, batch, targets)[1]
        return [{"boxes": boxes, "scores": scores} for boxes, scores in self.rpn.ranked_proposals(maps, batch)], {}

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Proposals in pixels of the batch → `Instances` in pixels of the images that came in."""
        rows = zip(found, batch.scales, batch.original_sizes, strict=True)
        return [
            Instances.unchecked(
                size,
                classes=self.classes,
                boxes=scale_boxes(fields["boxes"], (1 / sx, 1 / sy)),
                scores=fields["scores"],
            )
            for fields, (sx, sy), size in rows
        ]

    def propose(self, image: Tensor) -> Tensor:
        """Image [C, H, W] → boxes [P, 4] xyxy in its pixels, best first: a proposer for Fast R-CNN."""
        boxes: Tensor = self([image])[0].boxes
        return boxes


PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 2000), min_size=16)
SMALL_PROPOSALS = ProposalSettings(before_nms=(3000, 3000), after_nms=(1000, 1000), min_size=4)


def region_proposal_network_vgg16(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    trainable_layers: int = 5,
    min_size: int = 600,
    max_size: int = 1000,
    proposals: ProposalSettings = PROPOSALS,
    output_ids: Sequence[int] | None = None,
) -> ProposalNetwork:
    """The paper's, on VGG-16.

    Args:
        classes: names of the data's classes.
        in_channels: channels of the images.
        trainable_layers: how many of the five blocks of convolutions learn.
        min_size, max_size: the images' sides inside the network.
        proposals: numbers of the stage; by default the best 2000 boxes are given.
        output_ids: not used, as there is no output a class.
    """
    net = vgg16(in_channels=in_channels, hidden=1)
    body = vgg_body(net, trainable_layers)
    rpn = SingleMapRPN(body.taken[0], 512, sizes=(128, 256, 512), settings=proposals)
    model = ProposalNetwork(
        Classes(classes), imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def region_proposal_network_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 7,
    min_size: int = 320,
    max_size: int = 640,
    proposals: ProposalSettings = SMALL_PROPOSALS,
    output_ids: Sequence[int] | None = None,
) -> ProposalNetwork:
    """The same on MobileNet v2's map of stride 16, with smaller anchors, for a few cores.

    Args:
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        trainable_layers: how many of the backbone's seven parts learn.
        classes, in_channels, min_size, max_size, proposals, output_ids: as for `region_proposal_network_vgg16`.
    """
    net, body = mobilenet_v2_body(in_channels, norm, trainable_layers)
    rpn = SingleMapRPN(body.taken[0], 96, sizes=(32, 64, 128, 256), hidden=128, settings=proposals)
    model = ProposalNetwork(
        Classes(classes), imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn
    )
    model.backbone_keys = shared_keys(net, model)
    return model
