"""The mask branch of region-based detectors: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017, section 3.

The branch predicts one mask per class for each region. The class predicted by the box branch selects the mask
(L = L_cls + L_box + L_mask).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import RegionFeatures, RegionHeads, Samples
from sightline.nn.layers import ConvNormAct, NormLayer
from sightline.ops.regions import roi_align
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances

_BITMAP_BYTES = 64 * 2**20  # of float32 bitmaps held at once while mask targets are cropped


class MaskHead(nn.Sequential):
    """3×3 convolutions with padding: [R, C, h, w] → [R, convs[-1], h, w] (figure 4, right).

    Args:
        channels: number of channels of the region features.
        convs: number of output channels of each convolution.
        norm: normalisation layer after each convolution; None in the paper.
    """

    def __init__(self, channels: int, convs: Sequence[int] = (256, 256, 256, 256), norm: NormLayer | None = None):
        inputs = [channels, *convs[:-1]]
        super().__init__(*(ConvNormAct(a, b, 3, norm=norm) for a, b in zip(inputs, convs, strict=True)))
        self.out_channels = convs[-1]
        init_for_relu(self)


class MaskPredictor(nn.Module):
    """Upsampling by 2, then one mask per class: [R, C, h, w] → [R, K+1, 2h, 2w] before the sigmoid.

    Args:
        channels: number of input channels.
        hidden: number of channels between the two layers.
        num_classes: K; the first output belongs to the background and is unused.
    """

    outputs_per_class = {"mask_fcn_logits": 1}

    def __init__(self, channels: int, hidden: int, num_classes: int):
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(channels, hidden, 2, 2)
        self.mask_fcn_logits = nn.Conv2d(hidden, num_classes + 1, 1)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask_fcn_logits(F.relu(self.conv5_mask(x)))


class MaskRegionHeads(RegionHeads):
    """Regions → classes, boxes and masks. Detections get a field "masks", losses a "loss_mask".

    Args:
        boxes: the two branches of Faster R-CNN.
        mask_features: function that crops the features of regions for this branch, on a finer grid.
        mask_head: [R, C, h, w] → [R, D, h, w].
        mask_predictor: [R, D, h, w] → [R, K+1, M, M].
    """

    def __init__(
        self, boxes: RegionHeads, mask_features: RegionFeatures, mask_head: nn.Module, mask_predictor: nn.Module
    ):
        super().__init__(boxes.region_features, boxes.box_head, boxes.box_predictor, boxes.settings)
        self.mask_features = mask_features
        self.mask_head = mask_head
        self.mask_predictor = mask_predictor

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        """The detections with "masks" [N, M, M]: probabilities on a grid over the box.

        Masks are predicted in the detected boxes, not in the proposals (section 3.1, "Inference").
        """
        found = super().detect(maps, proposals, batch)
        logits = self.predict_masks(maps, [fields["boxes"] for fields in found], batch)
        masks = select_class(logits, torch.cat([fields["labels"] for fields in found])).float().sigmoid()
        counts = [len(fields["labels"]) for fields in found]
        return [fields | {"masks": own} for fields, own in zip(found, masks.split(counts), strict=True)]

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of classes, boxes and masks."""
        losses = super().region_losses(maps, samples, batch, targets)
        regions, objects, labels = foreground(samples)
        if not len(labels):
            batch_count(0)  # the other processes may have some, and wait for this count
            return losses | {"loss_mask": zero_loss(self.mask_head, self.mask_predictor)}
        logits = self.predict_masks(maps, regions, batch)
        own_targets = self.mask_targets(regions, objects, targets, logits.shape[-1])
        return losses | {"loss_mask": self.mask_loss(logits, labels, own_targets)}

    def predict_masks(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Masks of every class [ΣR, K+1, M, M] before the sigmoid, for the regions of all images."""
        return self.mask_predictor(self.mask_head(self.mask_features(maps, regions, batch)))

    @torch.no_grad()
    def mask_targets(
        self, regions: Sequence[Tensor], objects: Sequence[Tensor], targets: Sequence[Instances], size: int
    ) -> Tensor:
        """The mask of each region's object, cropped to the region: [ΣR, size, size] in [0, 1] (section 3.1)."""
        return torch.cat(
            [
                crop_masks(target.masks, own, region, size) if len(own) else region.new_zeros(0, size, size)
                for region, own, target in zip(regions, objects, targets, strict=True)
            ]
        )

    def mask_loss(self, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy of the true class's mask; masks of other classes are not trained (section 3)."""
        own = F.binary_cross_entropy_with_logits(select_class(logits, labels), targets.to(logits.dtype))
        return own * (len(labels) / batch_count(len(labels)))


def crop_masks(masks: Tensor, objects: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop masks to boxes, by RoI align.

    Masks are converted to float in chunks, since they then take four times as much memory.

    Args:
        masks: [N, H, W] bool.
        objects: [R] int64, index of the mask of each box.
        boxes: [R, 4] xyxy pixels.
        size: height and width of the result.

    Returns:
        [R, size, size] float: fraction of each cell inside the mask.
    """
    cropped = boxes.new_zeros(len(boxes), size, size)
    chunk = max(1, _BITMAP_BYTES // (4 * max(1, masks[0].numel())))
    for start in range(0, len(masks), chunk):
        own = ((objects >= start) & (objects < start + chunk)).nonzero().flatten()
        rois = torch.cat([(objects[own, None] - start).to(boxes.dtype), boxes[own]], 1)
        cropped[own] = roi_align(masks[start : start + chunk, None].to(boxes.dtype), rois, size)[:, 0]
    return cropped


def select_class(outputs: Tensor, labels: Tensor) -> Tensor:
    """Select the output of each region's class: [R, K+1, …], labels [R] → [R, …]."""
    return outputs[torch.arange(labels.shape[0], device=labels.device), labels]


def foreground(samples: Samples) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The sampled regions without background: regions [P_i, 4] and objects [P_i] of each image, labels [ΣP]."""
    chosen = [of >= 0 for of in samples.objects]
    regions = [region[keep] for region, keep in zip(samples.regions, chosen, strict=True)]
    objects = [of[keep] for of, keep in zip(samples.objects, chosen, strict=True)]
    return regions, objects, samples.labels[torch.cat(chosen)]


def zero_loss(*branch: nn.Module) -> Tensor:
    """A loss of zero that depends on every parameter of a branch, for batches without positive regions.

    Distributed training needs a gradient for every parameter, and batch norm cannot run on an empty batch.
    """
    return torch.stack([p.flatten()[0] for module in branch for p in module.parameters()]).sum() * 0


def init_for_relu(module: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015, fan-out) of convolutions followed by ReLU; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
