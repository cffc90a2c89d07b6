"""The base class of detectors that score regions of an image's maps: Fast R-CNN, Faster R-CNN and their kin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sightline.models.class_outputs import Output, predictor_outputs
from sightline.models.detection.candidate_parts import require_regions
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detector
from sightline.models.preprocess import Preprocess
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.heads.box import RegionHeads
from sightline.nn.heads.regions import AlignedRegions
from sightline.structures import ImageBatch


@runtime_checkable
class _Levels(Protocol):
    """What knows the maps that it reads."""

    @property
    def levels(self) -> tuple[str, ...]: ...


class RegionDetector(Detector):
    """Backbone → maps; maps and regions → classes and boxes. Subclasses say where regions come from.

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name, from fine to coarse.
        roi_heads: maps and regions → detections.
        output_ids: as in `Detector`.
    """

    class_layers = r"roi_heads\.box_predictor\."
    scores_regions = True
    origin = "region"

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        roi_heads: RegionHeads,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.roi_heads = roi_heads

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """The outputs of the box predictor: scores, and deltas of each class or of all."""
        return predictor_outputs(self.roi_heads.box_predictor, self.output_names, key, shape)

    def regions_of(self, maps: dict[str, Tensor], batch: ImageBatch) -> Sequence[Tensor]:
        """The regions [R_i, 4] that detections are made from, in pixels of the batch."""
        raise NotImplementedError

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: every region, with one box for each class."""
        maps = self.backbone(batch.tensor)
        given = self.regions_of(maps, batch) if regions is None else regions
        require_regions(given, batch)
        logits, deltas = self.roi_heads.predict(maps, given, batch)
        scored = self.roi_heads.scored(logits, deltas, given, batch.sizes)
        found = []
        for region, own, (scores, boxes) in zip(given, logits.split([len(r) for r in given]), scored, strict=True):
            of_classes = self.of_classes(boxes.transpose(1, 2)).transpose(1, 2)  # classes are the last axis of outputs
            levels = self.level_of(maps, region, batch)
            found.append(Candidates(of_classes, self.of_classes(own), self.of_classes(scores), region, levels))
        return found

    def selection(self) -> Selection:
        s = self.roi_heads.settings
        return Selection(s.min_score, min_size=s.min_size, nms_iou=s.nms_iou, max_detections=s.max_detections)

    def map_layers(self) -> list[nn.Module]:
        """The maps that regions are scored from."""
        heads = self.roi_heads
        reader = heads if isinstance(heads, _Levels) else heads.region_features
        if isinstance(self.backbone, FeatureMaps) and isinstance(reader, _Levels):
            return [self.backbone[name] for name in reader.levels]
        layers = map_layers(self.backbone)
        return layers[: len(reader.levels)] if isinstance(reader, _Levels) else layers

    def level_of(self, maps: dict[str, Tensor], boxes: Tensor, batch: ImageBatch) -> Tensor:
        """The level, of `map_layers`, that the features of boxes [R, 4] are cropped from: [R] int64."""
        crops = self.roi_heads.region_features
        if isinstance(crops, AlignedRegions):
            return crops.level_of(maps, boxes, batch)
        return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)

    def part_level(self, batch: ImageBatch, box: Tensor, level: int) -> int:
        """The level that fits the detected box, which its region was perhaps not cropped from."""
        return int(self.level_of(self.backbone(batch.tensor), box[None], batch))
