"""The region proposal network as a class-agnostic model of its own: Ren et al. 2015, section 3.1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from sightline.models.detection.candidate_parts import proposal_candidates, proposal_selection
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.parts import dense_layers, single_map
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import InputSize, Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.ops.boxes import scale_boxes
from sightline.structures import Classes, ImageBatch, Instances


class ProposalNetwork(Detector):
    """A model of task "proposal": results have boxes and scores (objectness), best first, and no labels.

    `sightline.evaluation.proposals` measures its recall. It can provide proposals for Fast R-CNN:
    `fast.proposer = network.propose`.

    Args:
        classes: names of the classes in the data; the model does not distinguish them.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name.
        rpn: maps → proposals.
    """

    task = "proposal"

    def __init__(self, classes: Iterable[str], preprocess: Preprocess, backbone: nn.Module, rpn: SingleMapRPN):
        super().__init__(classes, preprocess)
        self.backbone = backbone
        self.rpn = rpn

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The proposals of each image of a batch; if targets are given, the two losses (equation 1)."""
        maps = self.backbone(batch.tensor)
        if targets is not None:
            return [], self.rpn(maps, batch, targets)[1]
        return [{"boxes": boxes, "scores": scores} for boxes, scores in self.rpn.ranked_proposals(maps, batch)], {}

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: every anchor, with one column, the objectness."""
        return self.proposal_candidates(batch)

    def map_layers(self) -> list[nn.Module]:
        """The maps of the backbone."""
        return map_layers(self.backbone)

    def selection(self) -> Selection:
        return self.proposal_selection()

    def proposal_candidates(self, batch: ImageBatch) -> list[Candidates]:
        return proposal_candidates(self.rpn, self.backbone(batch.tensor), batch)

    def proposal_selection(self) -> Selection:
        return proposal_selection(self.rpn.settings)

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Convert proposals from pixels of the batch to `Instances` in pixels of the original images."""
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


SIZE = InputSize(600, 1000)
PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 2000), min_size=16)


def region_proposal_network(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "vgg16",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    anchor_sizes: Sequence[float] = (128, 256, 512),
    rpn_channels: int = 512,
    proposals: ProposalSettings = PROPOSALS,
    output_ids: Sequence[int] | None = None,
) -> ProposalNetwork:
    """The region proposal network on one map of stride 16, of any backbone.

    Args:
        classes: names of the data's classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        anchor_sizes: anchor sizes at each cell, in pixels; each size comes in three aspect ratios.
        rpn_channels: channels of the RPN's 3×3 convolution.
        proposals: settings of the proposal stage; by default the best 2000 boxes are returned.
        output_ids: unused, since the outputs do not depend on the classes.
    """
    net = build_backbone(backbone, in_channels, options, known=PyramidName, **dense_layers(backbone, 1))
    body = single_map(net, options.trainable_layers)
    (level,), (channels,) = body.taken, body.channels
    rpn = SingleMapRPN(level, channels, sizes=anchor_sizes, hidden=rpn_channels, settings=proposals)
    model = ProposalNetwork(Classes(classes), imagenet_preprocess(in_channels, size), body, rpn)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Ren et al. 2015, Faster R-CNN"

ENTRIES = (
    Entry(name="region_proposal_network", builder=region_proposal_network, task="proposal", paper=_PAPER),
    Entry(
        name="region_proposal_network_vgg16",
        builder=region_proposal_network,
        task="proposal",
        paper=_PAPER,
        summary="The paper's, on VGG-16.",
        start={"trainable_layers": 3},
        fixed={"backbone": "vgg16", "norm": "batch", "norm_eps": None},
    ),
    Entry(
        name="region_proposal_network_mobilenet_v2",
        builder=region_proposal_network,
        task="proposal",
        paper=_PAPER,
        summary="The same on MobileNet v2's map of stride 16, with smaller anchors, for a few cores.",
        start={"norm": "frozen", "trainable_layers": 5},
        fixed={"backbone": "mobilenet_v2"},
        defaults={
            "min_size": 320,
            "max_size": 640,
            "anchor_sizes": (32, 64, 128, 256),
            "rpn_channels": 128,
            "proposals": ProposalSettings(before_nms=(3000, 3000), after_nms=(1000, 1000), min_size=4),
        },
    ),
)
