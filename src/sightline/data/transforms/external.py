"""Augmentations of kornia as pieces of a recipe: perspective, blur, erasing, colour jiggle, and what else it has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.mirroring import mirrors_wrongly, swap_for
from sightline.data.transforms.targets import boxes_of, move_keypoints, place_instances, within_image
from sightline.errors import InputError
from sightline.structures import ClassMap, ClassScores, Instances, Size, Target


@dataclass(frozen=True)
class Kornia:
    """A kornia augmentation (or a sequence of them) on image, boxes, masks and keypoints; kornia's own `p` counts.

    Reproducible: torch is seeded from the generator for the call and restored after it. Boxes go as their four corners
    and come back as the tight box around them; then the rules of `Compose` apply (clip, `min_visible`). What kornia
    does without a matrix (elastic and optical distortions) leaves boxes and keypoints where they were.

    Args:
        augmentation: e.g. `kornia.augmentation.RandomPerspective(0.3, p=0.5)`.
        min_visible: as in `Compose`.
        keypoint_swap: as in `Compose`; where it is not known, an image that kornia mirrored is mirrored back if its
            objects have keypoints.

    Raises:
        InputError: kornia cannot apply it to the image or to what the target holds; the message carries its reason.
    """

    augmentation: Any
    min_visible: float = 0.3
    keypoint_swap: tuple[int, ...] | None = None

    def bind(self, data: Any, size: Size | None) -> Kornia:
        """The same, with the data's pairs of keypoints."""
        return replace(self, keypoint_swap=swap_for(self.keypoint_swap, data))

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]:
        from kornia.constants import DataKey

        target = within_image(target)
        values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        inputs: dict[str, Tensor] = {"image": values[None]}
        keys = {"image": DataKey.INPUT}
        if isinstance(target, Instances) and len(target):
            x1, y1, x2, y2 = target.boxes.double().unbind(1)
            corners = torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], dim=1).view(-1, 2)
            # kornia counts from the centre of the first pixel, we from its corner.
            inputs["corners"], keys["corners"] = (corners[None] - 0.5).float(), DataKey.KEYPOINTS
            if "keypoints" in target:
                points = target.keypoints[..., :2].reshape(1, -1, 2)
                inputs["points"], keys["points"] = points.float() - 0.5, DataKey.KEYPOINTS
            if "masks" in target:
                inputs["masks"], keys["masks"] = target.masks[None].float(), DataKey.MASK
        elif isinstance(target, ClassMap):
            # Beyond the border kornia fills with 0, so ids move up by one and 0 comes back as IGNORE.
            inputs["map"], keys["map"] = (target.labels + 1)[None, None].float(), DataKey.MASK
        moved = self._run(inputs, keys, generator, target)
        mirrored = "points" in moved and _turns_over(moved["corners"][0])
        if mirrored and mirrors_wrongly(target, self.keypoint_swap):
            moved, mirrored = _mirrored_back(moved), False
        output = moved["image"][0]
        if image.dtype == torch.uint8:
            output = output.mul(255).round_().clamp_(0, 255)
        size = (int(output.shape[1]), int(output.shape[2]))
        return output.to(image.dtype), self._target(target, moved, size, self.keypoint_swap if mirrored else None)

    def _run(
        self, inputs: dict[str, Tensor], keys: dict[str, Any], generator: np.random.Generator, target: Target
    ) -> dict[str, Tensor]:
        from kornia.augmentation import AugmentationSequential
        from kornia.constants import DataKey, Resample

        sequence = AugmentationSequential(
            self.augmentation,
            data_keys=[keys[name] for name in inputs],
            extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None}},
        )
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(int(generator.integers(2**63)))
            try:
                outputs = sequence(*inputs.values())
            except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    f"{getattr(target, 'source', None) or 'an image'} with {', '.join(inputs)}: "
                    f"{type(self.augmentation).__name__} of kornia cannot be applied to it ({error}); use another one"
                ) from error
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        return dict(zip(inputs, outputs, strict=True))

    def _target(self, target: Target, moved: dict[str, Tensor], size: Size, swap: tuple[int, ...] | None) -> Target:
        if isinstance(target, ClassScores):
            return ClassScores(size, target.label, target.scores, target.classes, target.source)
        if isinstance(target, ClassMap):
            return ClassMap(moved["map"][0, 0].round().long() - 1, target.classes, source=target.source)
        if not len(target):
            return target.replace(image_size=size)
        before = boxes_of(target)
        corners = (moved["corners"][0] + 0.5).double().view(len(target), 4, 2)
        after = torch.cat([corners.amin(1), corners.amax(1)], dim=1).numpy()
        if size == tuple(target.image_size) and np.abs(after - before).max() < 1e-3:
            after = before  # only the colours changed
        x, y = corners.unbind(-1)
        area = (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1).abs().numpy() / 2  # of the moved quadrangle
        growth = area / np.maximum((before[:, 2:] - before[:, :2]).prod(1), 1e-12)
        keypoints = None
        if "keypoints" in target:
            places = (moved["points"][0] + 0.5).view(len(target), -1, 2)
            keypoints = move_keypoints(target.keypoints, places, size, swap)
        turned = after is not before
        return place_instances(
            target,
            after,
            size,
            self.min_visible,
            growth=growth,
            turned=turned,
            move_masks=lambda rows: moved["masks"][0, rows] > 0.5,
            keypoints=keypoints,
        )


def _turns_over(corners: Tensor) -> bool:
    """Whether the corners [4N, 2] of boxes, in order once clockwise on the screen, now go round the other way."""
    x, y = corners.double().view(-1, 4, 2).unbind(-1)
    return float((x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum()) < 0


def _mirrored_back(moved: dict[str, Tensor]) -> dict[str, Tensor]:
    """What kornia gave, left and right exchanged."""
    last = moved["image"].shape[-1] - 1  # kornia counts from pixel centres
    flipped = dict(moved)
    for name in ("image", "masks", "map"):
        if name in moved:
            flipped[name] = moved[name].flip(-1)
    for name in ("corners", "points"):
        flipped[name] = torch.stack([last - moved[name][..., 0], moved[name][..., 1]], dim=-1)
    return flipped
