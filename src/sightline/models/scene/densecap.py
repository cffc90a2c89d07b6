"""DenseCap: Johnson, Karpathy, Fei-Fei, "DenseCap: fully convolutional localization networks for dense captioning",
CVPR 2016: Faster R-CNN whose second stage decides whether a region is described, corrects its box once more, and
generates its caption by an LSTM (figure 2).

`densecap_single` is the paper's network: one map of stride 16 and VGG's own fully connected layers. `densecap` has a
feature pyramid, whose finer maps suit small regions.

Departures: region features are sampled at the centres of the grid's cells; captions are found by beam search; the layer
that decides whether a region is described also tells the classes of the data (with one class, as in Visual Genome, it
is exactly that decision); regions of the second stage are sampled as in Faster R-CNN, positive from IoU 0.5. On a
feature pyramid, whose fully connected layers start from random numbers, captions have fully connected layers of their
own (`own_layers`), see `sightline.nn.heads.caption_regions`; the paper's layers are those of a trained classifier. The
departures of the captions are those of `sightline.nn.heads.captioner`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.detection.candidates import Selection
from sightline.models.detection.detector import Detections, head_outputs
from sightline.models.detection.faster_rcnn import SMALL_START, START, FasterRCNN, faster_rcnn
from sightline.models.detection.faster_rcnn_single import faster_rcnn_single
from sightline.models.entry import Entry, extends
from sightline.models.model import Losses
from sightline.nn.heads.box import BoxSettings, RegionHeads
from sightline.nn.heads.caption_regions import (
    BilinearRegions,
    CaptionRegionHeads,
    CaptionSettings,
    aligned_once,
)
from sightline.nn.heads.captioner import Captioner
from sightline.nn.heads.regions import AlignedRegions, PooledRegions, SharedBoxPredictor
from sightline.nn.heads.rpn import ProposalSettings
from sightline.structures import ImageBatch, Instances
from sightline.structures.vocabulary import Vocabulary
from sightline.words import counted, listed

CAPTIONS = CaptionSettings()
ANY_WORDS = ("region",)
"""The vocabulary of a model that is created without one."""


class DenseCap(FasterRCNN):
    """Backbone → region proposals → region features → scores, boxes and captions (figure 2).

    Results have "captions", one per object. Targets need the field "captions".

    Arguments as for `FasterRCNN`; `roi_heads` are `CaptionRegionHeads`, whose captioner has the words of `vocabulary`,
    which is set after construction.
    """

    task = "dense_captioning"
    unexportable = "it writes captions word by word, and the words say where they end"
    target_fields = ("captions",)
    roi_heads: CaptionRegionHeads
    vocabulary: Vocabulary
    other_weight = 0.1
    """Factor of the losses of scores and boxes, of the proposals and of the second stage (section 3.2)."""
    # mirrored images would need other words for left and right; "light" changes brightness, but no hues
    recipe_defaults = {"augmentation": "light", "mirror": False}

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Like every detector; targets also get "words" [N, T], the ids of the words of their captions.

        Raises:
            InputError: no caption of the targets has a word of the model's vocabulary.
        """
        batch, moved = super().prepare(images, targets)
        if moved is None:
            return batch, None
        captions = [list(t.captions) if "captions" in t else [] for t in moved]
        every = [caption for own in captions for caption in own]
        if every and not any(map(self.vocabulary.known, every)):
            raise InputError(
                f"none of {counted(len(every), 'caption')} has a word that {self.title} knows ({every[0]!r}, …; it "
                f"knows {listed(self.vocabulary.words)}); create it with words=Vocabulary.of(captions).words, or give "
                "train its name, which takes the words of the data"
            )
        ids = self.vocabulary.encode(every, self.roi_heads.caption_settings.longest, batch.tensor.device)
        split = ids.split([len(own) for own in captions])
        return batch, [t.replace(words=own) for t, own in zip(moved, split, strict=True)]

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the five losses (section 3.2)."""
        found, losses = super().process(batch, targets)
        return found, {
            name: value if name == "loss_caption" else self.other_weight * value for name, value in losses.items()
        }

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with captions in place of the ids of their words."""
        captioned: list[dict[str, Any]] = [
            {name: value for name, value in fields.items() if name != "words"}
            | {"captions": self.vocabulary.decode(fields["words"])}
            for fields in found
        ]
        return super().finish(captioned, batch)

    def selection(self) -> Selection:
        """Boxes suppress each other whatever their classes are."""
        s = self.roi_heads.settings
        return Selection(
            s.min_score, min_size=s.min_size, nms_iou=s.nms_iou, max_detections=s.max_detections, per_class=False
        )

    def word_scores(self, batch: ImageBatch, regions: Tensor, words: Tensor) -> Tensor:
        """The log probability of each word of a caption of one region of each image, given the words before it.

        Args:
            batch: a batch of N images that `prepare` returned.
            regions: [N, 4] regions, one per image, in pixels of the batch.
            words: [N, T] ids of the words.

        Returns:
            [N, T], with gradients if they are enabled.
        """
        maps, own = self.backbone(batch.tensor), list(regions[:, None])
        rows = [torch.zeros(1, dtype=torch.int64, device=regions.device)] * len(own)
        described = self.roi_heads.described(self.roi_heads.codes(maps, own, batch), maps, own, rows, batch)
        return self.roi_heads.captioner.log_probabilities(described, words)


def _with_captions(
    base: FasterRCNN,
    region_features: BilinearRegions | AlignedRegions,
    width: int,
    words: Sequence[str],
    embedding: int,
    hidden_words: int,
    captions: CaptionSettings,
    context: float | None,
    own_layers: bool,
) -> DenseCap:
    """Faster R-CNN with the heads of DenseCap in place of its own."""
    vocabulary = Vocabulary(words)
    if context is not None and context <= 1:
        raise InputError(f"context is {context}, but must be above 1, such as 2 for regions twice as large, or None")
    predictor = SharedBoxPredictor(width, head_outputs(base.classes, base.output_ids))
    boxes = RegionHeads(region_features, base.roi_heads.box_head, predictor, base.roi_heads.settings)
    captioner = Captioner(width * (1 if context is None else 2), len(vocabulary), embedding, hidden_words)
    own = copy.deepcopy(boxes.box_head) if own_layers else None
    model = DenseCap.on(base, CaptionRegionHeads(boxes, captioner, captions, context, own))
    model.vocabulary = vocabulary
    return model


@extends(faster_rcnn)
def densecap(
    classes: Iterable[str],
    *,
    words: Sequence[str] = ANY_WORDS,
    embedding: int = 512,
    hidden_words: int = 512,
    captions: CaptionSettings = CAPTIONS,
    context: float | None = None,
    own_layers: bool = True,
    **arguments: Any,
) -> DenseCap:
    """DenseCap on a feature pyramid of any backbone. Other arguments as for `faster_rcnn`.

    Args:
        classes: names of the classes; one class, such as "region", for data that only describes regions.
        words: the vocabulary, without the tokens of start, end and unknown words; `train` takes the words of the
            training captions (`Vocabulary.of`).
        embedding: length of the vectors of words.
        hidden_words: width of the LSTM.
        captions: settings of the captions.
        context: factor by which regions are enlarged to their context, which captions are also made from; None for
            captions from the region alone, as in the paper.
        own_layers: whether captions have fully connected layers of their own, beside those of scores and boxes; False
            for the same ones, as in the paper.
        arguments: additional arguments of `faster_rcnn`.
    """
    base = faster_rcnn(classes, **arguments)
    features = base.roi_heads.region_features
    assert isinstance(features, AlignedRegions)
    width = base.roi_heads.box_head.out_features
    assert isinstance(width, int)
    return _with_captions(
        base, aligned_once(features), width, words, embedding, hidden_words, captions, context, own_layers
    )


@extends(faster_rcnn_single)
def densecap_single(
    classes: Iterable[str],
    *,
    hidden: int = 4096,
    words: Sequence[str] = ANY_WORDS,
    embedding: int = 512,
    hidden_words: int = 512,
    captions: CaptionSettings = CAPTIONS,
    context: float | None = None,
    own_layers: bool = False,
    **arguments: Any,
) -> DenseCap:
    """DenseCap on one map of stride 16 of any backbone, as in the paper. Other arguments as for `faster_rcnn_single`.

    Args:
        classes, words, embedding, hidden_words, captions, context, own_layers: as for `densecap`.
        hidden: width of the fully connected layers; VGG's published weights have 4096.
        arguments: additional arguments of `faster_rcnn_single`.
    """
    base = faster_rcnn_single(classes, hidden=hidden, **arguments)
    features = base.roi_heads.region_features
    assert isinstance(features, PooledRegions)
    return _with_captions(
        base,
        BilinearRegions(features.level, features.stride, features.size),
        hidden,
        words,
        embedding,
        hidden_words,
        captions,
        context,
        own_layers,
    )


SMALL: dict[str, Any] = {
    "min_size": 256,
    "max_size": 448,
    "finest": 8,
    "channels": 96,
    "hidden": 384,
    "anchor_sizes": tuple((float(base), base * 2**0.5) for base in (24, 48, 96, 192)),
    "proposals": ProposalSettings(samples=128, before_nms=(500, 300), after_nms=(200, 100)),
    "boxes": BoxSettings(samples=48, positive_fraction=0.5, nms_iou=0.4, max_detections=50),
    "embedding": 256,
    "hidden_words": 256,
    "captions": CaptionSettings(samples=12),
    "context": 3.0,
}
"""Arguments for training runs on CPUs: smaller images and fewer regions than the paper's, narrower layers; captions are
also made from the surroundings of regions, since they say where something is."""
RECIPE: dict[str, Any] = {"lr": 1e-3, "epochs": 24}
"""Training settings of the small models: captions need many steps, boxes few."""
PAPER_SINGLE: dict[str, Any] = {
    "min_size": 600,
    "max_size": 720,
    "proposals": ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 300)),
    "boxes": BoxSettings(samples=256, positive_fraction=0.5, nms_iou=0.3, max_detections=100),
}
"""Sections 3.1.2 and 4: longer side of 720 pixels, 256 regions of which half are positive, 300 proposals."""
_PAPER = "Johnson et al. 2016, DenseCap"

ENTRIES = (
    Entry(
        name="densecap",
        builder=densecap,
        task="dense_captioning",
        paper=f"{_PAPER}; Lin et al. 2017, Feature pyramid networks",
        start={"norm": "frozen"},
    ),
    Entry(
        name="densecap_lite0",
        builder=densecap,
        task="dense_captioning",
        paper=_PAPER,
        summary="EfficientNet-Lite0 with a narrow pyramid, for training on CPUs.",
        start=SMALL_START,
        fixed={"backbone": "efficientnet_lite0", "version": 1},
        defaults=SMALL,
        recipe=RECIPE,
    ),
    Entry(
        name="densecap_mobilenet_v2",
        builder=densecap,
        task="dense_captioning",
        paper=_PAPER,
        summary="MobileNet v2 with a narrow pyramid, for training on CPUs.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1},
        defaults=SMALL,
        recipe=RECIPE,
    ),
    Entry(
        name="densecap_resnet50",
        builder=densecap,
        task="dense_captioning",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid.",
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="densecap_vgg16",
        builder=densecap_single,
        task="dense_captioning",
        paper=_PAPER,
        summary="VGG-16, the paper's network.",
        start={"trainable_layers": 3},
        fixed={"backbone": "vgg16", "norm": "batch", "norm_eps": None},
        defaults=PAPER_SINGLE,
    ),
)
