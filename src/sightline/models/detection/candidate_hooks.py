"""What explanations ask a detector for: its candidates, and the scores of one detection's additional fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from sightline.errors import InputError
from sightline.models.detection.candidates import Candidates, DenseCandidates, Selection
from sightline.models.model import Model
from sightline.structures import ImageBatch


class CandidateHooks(Model):
    """The hooks of a detector for explanations and export.

    Every detector implements `selection`, and `candidates` or, if it is dense, `dense_candidates`.

    Attributes:
        scores_regions: whether `candidates` scores the regions that it is given.
        origin: what boxes are regressed from (`Candidates.origins`): an anchor or window of fixed size, a cell of a
            map, or a region proposal.
    """

    scores_regions: bool = False
    origin: Literal["anchor", "cell", "region"] = "cell"

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """All boxes of each image of a batch before selection, with gradients if they are enabled.

        Args:
            batch: a batch that `prepare` returned.
            regions: [R_i, 4] boxes of each image in pixels of the batch, which a region-based detector scores instead
                of its own proposals, so that rows mean the same for changed images. Other detectors ignore them: their
                rows always mean the same.

        Raises:
            InputError: the detector has no such scores.
        """
        return self.dense_candidates(batch).of_images(batch.sizes)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """The candidates of all images of a batch at once, by tensor operations alone, so that it can be exported.

        Args:
            batch: as in `candidates`. Only its tensor is used.

        Raises:
            InputError: the places of this detector's candidates depend on the image.
        """
        raise InputError(f"{self.title} does not expose its candidates, so its boxes cannot be explained")

    def selection(self) -> Selection:
        """How the detections are selected from the candidates.

        A head with outputs that belong to no class (`output_ids`) also selects their boxes, which are removed
        afterwards.
        """
        return Selection()

    def points_fit(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """Whether any point may be responsible for an object, for detectors whose `origin` is "cell".

        By default a point fits if the centre of its cell lies inside the object.

        Args:
            candidates: of one image.
            boxes: [G, 4] objects in pixels of the batch.

        Returns:
            [G] bool.
        """
        centres = (candidates.origins[:, None, :2] + candidates.origins[:, None, 2:]) / 2
        return ((centres > boxes[:, :2]) & (centres < boxes[:, 2:])).all(2).any(0)

    def region_frame(self, region: Tensor) -> Tensor | None:
        """The rectangle that the maps of a region [4] cover, in pixels of the batch: [4], or None.

        None for a network that runs on the whole image. One that runs on crops has maps of each crop.
        """
        return None

    def proposal_candidates(self, batch: ImageBatch) -> list[Candidates]:
        """The boxes of a region proposal network before selection, with one column: the objectness.

        Raises:
            InputError: the detector has no region proposal network.
        """
        raise InputError(f"{self.title} has no region proposal network; explain a box of it instead")

    def proposal_selection(self) -> Selection:
        """How proposals are selected from `proposal_candidates` in prediction."""
        raise InputError(f"{self.title} has no region proposal network; explain a box of it instead")

    def mask_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """The mask of one detection of each image of a batch, with gradients if they are enabled.

        Args:
            batch: a batch of N images that `prepare` returned.
            boxes: [N, 4] detected boxes in pixels of the batch.
            rows, classes: [N] int64, the candidates that were detected.

        Returns:
            [N, M, M] logits on a grid over each box (or over a box around it that the model uses for its masks).

        Raises:
            InputError: the model predicts no masks.
        """
        raise InputError(
            f"{self.title} predicts no masks; explain a box of it, such as box:0, or use a model with masks"
        )

    def keypoint_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """The scores of the P keypoints of one detection of each image of a batch, with gradients if they are enabled.

        Args:
            batch, boxes, rows, classes: as for `mask_logits_of`.

        Returns:
            [N, P] logits: the peak of each keypoint's heat map, or its visibility if the model has no heat maps.

        Raises:
            InputError: the model predicts no keypoints.
        """
        raise InputError(
            f"{self.title} predicts no keypoints; explain a box of it, such as box:0, or use a model with keypoints"
        )

    def part_level(self, batch: ImageBatch, box: Tensor, level: int) -> int:
        """The level, of `map_layers`, that the mask or the keypoints of a detected box are predicted from.

        Args:
            batch: a batch of one image.
            box: [4] in pixels of the batch.
            level: that of the box's candidate, which is the default.
        """
        return level
