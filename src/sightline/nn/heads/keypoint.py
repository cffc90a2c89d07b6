"""The keypoint branch of region-based detectors: He et al., "Mask R-CNN", ICCV 2017, section 5.

A keypoint is treated as a mask of a single pixel: the branch predicts a heatmap over the region for each of an object's
P keypoints, and the position of the keypoint is a classification among all cells of the heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.heads.box import RegionFeatures, RegionHeads, Samples
from sightline.nn.heads.mask import foreground, init_for_relu, zero_loss
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances

_HEAT_BYTES = 4 * 2**20  # of float32 heat maps, as large as their boxes, held at once; more leaves the cache


class KeypointHead(nn.Sequential):
    """Eight 3×3 convolutions: [R, C, h, w] → [R, convs[-1], h, w].

    Args:
        channels: number of channels of the region features.
        convs: number of output channels of each convolution.
    """

    def __init__(self, channels: int, convs: Sequence[int] = (512,) * 8):
        layers: list[nn.Module] = []
        for out in convs:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True)]
            channels = out
        super().__init__(*layers)
        self.out_channels = channels
        init_for_relu(self)


class KeypointPredictor(nn.Module):
    """Upsampling by 4, by a transposed convolution and bilinear interpolation: [R, C, h, w] → [R, P, 4h, 4w]."""

    def __init__(self, channels: int, num_keypoints: int):
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(channels, num_keypoints, 4, 2, 1)
        init_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.kps_score_lowres(x), scale_factor=2.0, mode="bilinear", align_corners=False)


class KeypointRegionHeads(RegionHeads):
    """Regions → classes, boxes and keypoints. Detections get fields "keypoints" and "keypoint_scores", losses a
    "loss_keypoint".

    Args:
        boxes: the two branches of Faster R-CNN.
        keypoint_features: function that crops the features of regions for this branch, on a finer grid.
        keypoint_head: [R, C, h, w] → [R, D, h, w].
        keypoint_predictor: [R, D, h, w] → heat maps [R, P, M, M].
    """

    def __init__(
        self,
        boxes: RegionHeads,
        keypoint_features: RegionFeatures,
        keypoint_head: nn.Module,
        keypoint_predictor: nn.Module,
    ):
        super().__init__(boxes.region_features, boxes.box_head, boxes.box_predictor, boxes.settings)
        self.keypoint_features = keypoint_features
        self.keypoint_head = keypoint_head
        self.keypoint_predictor = keypoint_predictor

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        """The detections with "keypoints" [N, P, 3] in pixels of the batch, and "keypoint_scores" [N, P]."""
        found = super().detect(maps, proposals, batch)
        boxes = [fields["boxes"] for fields in found]
        points, scores = heatmaps_to_keypoints(self.predict_heat(maps, boxes, batch).float(), torch.cat(boxes))
        counts = [len(own) for own in boxes]
        parts = zip(found, points.split(counts), scores.split(counts), strict=True)
        return [fields | {"keypoints": own, "keypoint_scores": heat} for fields, own, heat in parts]

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of classes, boxes and keypoints."""
        losses = super().region_losses(maps, samples, batch, targets)
        regions, objects, labels = foreground(samples)
        if not len(labels):
            batch_count(0)  # the other processes may have some, and wait for this count
            return losses | {"loss_keypoint": zero_loss(self.keypoint_head, self.keypoint_predictor)}
        heat = self.predict_heat(maps, regions, batch)
        points = [target.keypoints[own] for target, own in zip(targets, objects, strict=True) if len(own)]
        return losses | {"loss_keypoint": self.keypoint_loss(heat, torch.cat(points), torch.cat(regions))}

    def predict_heat(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Heat maps [ΣR, P, M, M] before the softmax over their cells, for the regions of all images."""
        return self.keypoint_predictor(self.keypoint_head(self.keypoint_features(maps, regions, batch)))

    def keypoint_loss(self, heat: Tensor, points: Tensor, boxes: Tensor) -> Tensor:
        """Mean cross-entropy over the cells of the heatmaps whose keypoint is labelled and inside the region.

        Shapes: heat [R, P, M, M], points [R, P, 3], boxes [R, 4].
        """
        if points.shape[1] != heat.shape[1]:
            raise InputError(
                f"the objects have {points.shape[1]} keypoints, but the model has {heat.shape[1]}; "
                f"create it with num_keypoints={points.shape[1]}"
            )
        cells, counted = keypoints_to_cells(points, boxes, heat.shape[-1])
        terms = F.cross_entropy(heat.flatten(0, 1).flatten(1), cells.flatten(), reduction="none")
        counted = counted.flatten().to(terms.dtype)
        return (terms * counted).sum() / batch_count(counted.sum())


def keypoints_to_cells(points: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The cell of a size × size grid over the box that contains each keypoint.

    Args:
        points: [R, P, 3] x, y in pixels, visibility.
        boxes: [R, 4] xyxy pixels.
        size: number of cells along each side.

    Returns:
        [R, P] int64 indices of the cells, row by row, 0 for keypoints that are not used; and [R, P] bool, whether the
        keypoint is labelled and inside the box. The right and bottom edges of the box belong to the last cells.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    place = points[..., :2]
    cell = ((place - low) * (size / (high - low))).floor()
    cell = torch.where(place == high, size - 1, cell)
    counted = ((cell >= 0) & (cell < size)).all(-1) & (points[..., 2] > 0)
    cell = cell.nan_to_num().clamp(0, size - 1).long()  # for boxes without area
    return torch.where(counted, cell[..., 1] * size + cell[..., 0], 0), counted


def heatmaps_to_keypoints(heat: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The positions of the maxima of heatmaps after bicubic resizing to their boxes.

    Boxes of similar size are resized together, by products with matrices of interpolation weights.

    Args:
        heat: [R, P, M, M] float.
        boxes: [R, 4] xyxy pixels.

    Returns:
        [R, P, 3] x, y in pixels and visibility 2 (the model does not distinguish visible from hidden keypoints); and
        [R, P] the maximum values.
    """
    points = heat.new_full((*heat.shape[:2], 3), 2.0)
    scores = heat.new_zeros(heat.shape[:2])
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    pixels = sides.ceil()
    # automatic mixed precision would compute these products in half precision
    with torch.autocast(heat.device.type, enabled=False):
        for own in _chunks(pixels, heat.shape[1]):
            width, height = (int(side) for side in pixels[own].amax(0).tolist())
            rows = _cubic_weights(pixels[own, 1], height, heat.shape[2])
            columns = _cubic_weights(pixels[own, 0], width, heat.shape[3])
            wide = heat[own].flatten(1, 2) @ columns.transpose(1, 2)  # [n, P·M, width]
            wide = wide.unflatten(1, heat.shape[1:3]).transpose(1, 2).flatten(2)  # [n, M, P·width]
            # the maximum of each column first: `amax` is many times as fast as `max` with indices
            best, column = (rows @ wide).amax(1).unflatten(1, (-1, width)).max(-1)
            own_column = column[:, None, :, None].expand(-1, heat.shape[2], -1, -1)
            row = (rows @ wide.unflatten(2, (-1, width)).gather(3, own_column)[..., 0]).argmax(1)
            cell = torch.minimum(torch.stack([column, row], -1), pixels[own, None] - 1) + 0.5
            points[own, :, :2] = cell * (sides / pixels)[own, None] + boxes[own, None, :2]
            scores[own] = best
    return points, scores


def _chunks(pixels: Tensor, points: int) -> list[Tensor]:
    """Groups of boxes ([N, 2] integer width, height) to resize together: similar in size, and limited in memory."""
    order = pixels.prod(1).argsort()
    if not len(order):
        return []
    chunks, start = [], 0
    sizes = pixels[order].long().tolist()
    while start < len(order):
        end, width, height = start, 0, 0
        while end < len(order):
            width, height = max(width, sizes[end][0]), max(height, sizes[end][1])
            if end > start and 4 * points * width * height * (end + 1 - start) > _HEAT_BYTES:
                break
            end += 1
        chunks.append(order[start:end])
        start = end
    return chunks


def _cubic_weights(lengths: Tensor, pixels: int, cells: int) -> Tensor:
    """Weights [N, pixels, cells] of bicubic interpolation (Keys 1981, a = −0.75) of `cells` values to `lengths` [N].

    Values outside the grid are those of the border cells. Pixels beyond the length repeat the last pixel.
    """
    step = cells / lengths[:, None]
    pixel = torch.arange(pixels, device=lengths.device, dtype=lengths.dtype)
    position = (torch.minimum(pixel, lengths[:, None] - 1) + 0.5) * step - 0.5
    first = position.floor()
    weights = lengths.new_zeros(len(lengths), pixels, cells)
    for offset in (-1, 0, 1, 2):
        d = (position - first - offset).abs()
        near = (1.25 * d - 2.25) * d * d + 1
        far = ((-0.75 * d + 3.75) * d - 6) * d + 3
        cell = (first + offset).clamp(0, cells - 1).long()
        weights.scatter_add_(2, cell[..., None], torch.where(d <= 1, near, far)[..., None])
    return weights
