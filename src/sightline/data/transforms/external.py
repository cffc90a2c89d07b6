"""Augmentations from kornia, such as perspective, blur, erasing and colour jiggle, as transforms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Transform
from sightline.data.transforms.mirroring import swap_for
from sightline.data.transforms.motion import Motion
from sightline.data.transforms.targets import corners_of, follow, mirrors_wrongly, parts_of, within_image
from sightline.errors import InputError
from sightline.structures import Size


@dataclass(frozen=True)
class Kornia(Transform):
    """Apply a kornia augmentation (or a sequence) to image, boxes, masks and keypoints, with kornia's own `p`.

    It is reproducible: torch is seeded from the generator for the call, and its state is restored afterwards. The four
    corners of boxes are transformed, and the result is their bounding box; then the rules of `Compose` apply (clipping,
    `min_visible`). Operations without a matrix (elastic and optical distortions) do not move boxes and keypoints.

    Args:
        augmentation: e.g. `kornia.augmentation.RandomPerspective(0.3, p=0.5)`.
        min_visible: as in `Compose`.
        keypoint_swap: as in `Compose`; if unknown, an image that kornia mirrored is mirrored back if its objects have
            keypoints.

    Raises:
        InputError: kornia cannot be applied to the image or target; the message contains the reason.
    """

    augmentation: Any
    min_visible: float = 0.3
    keypoint_swap: tuple[int, ...] | None = None

    def bind(self, data: Any, size: Size | None) -> Kornia:
        """Return this augmentation with the keypoint pairs of the data."""
        return replace(self, keypoint_swap=swap_for(self.keypoint_swap, data))

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        target = within_image(target)
        motion = self._run(image, target, generator)
        swap = self.keypoint_swap
        if motion.mirrored and mirrors_wrongly(target, swap):
            motion = motion.mirrored_back()
        output = motion.image
        if image.dtype == torch.uint8:
            output = output.mul(255).round_().clamp_(0, 255)
        return output.to(image.dtype), follow(target, motion, self.min_visible, swap)

    def _run(self, image: Tensor, target: Any, generator: np.random.Generator) -> Moved:
        from kornia.augmentation import AugmentationSequential
        from kornia.constants import DataKey, Resample

        values = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        inputs: dict[str, Tensor] = {"image": values[None]}
        keys = {"image": DataKey.INPUT}
        parts = parts_of(target)
        for name, points in parts.points.items():
            # kornia's origin is the centre of the first pixel, ours is its corner
            inputs[name], keys[name] = (points.reshape(1, -1, 2) - 0.5).float(), DataKey.KEYPOINTS
        for name, (pixels, outside) in parts.pixels.items():
            # kornia fills with 0 beyond the border
            inputs[name] = (pixels.float() - float(outside)).reshape(1, -1, *pixels.shape[-2:])
            keys[name] = DataKey.MASK
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
        return Moved(inputs["image"], dict(zip(inputs, outputs, strict=True)))


class Moved(Motion):
    """The image and the parts of its target, as transformed by kornia.

    Args:
        source: [1, C, H, W], the original image.
        outputs: [1, C, h, w] as "image"; [1, K, 2] points relative to pixel centres, of which "corners" are the four of
            each box (or of the image) in clockwise order; [1, K, h, w] pixels.
    """

    def __init__(self, source: Tensor, outputs: dict[str, Tensor]):
        self.source, self.outputs = source, outputs
        self.image = outputs["image"][0]
        self.size = (int(self.image.shape[1]), int(self.image.shape[2]))
        self.same_size = self.size == tuple(source.shape[2:])
        self.corners = (outputs["corners"][0] + 0.5).double().view(-1, 4, 2) if "corners" in outputs else None
        self.mirrored = self.corners is not None and float(_doubled_areas(self.corners).sum()) < 0

    @property
    def moves(self) -> bool:
        """Whether the image's corners moved; used for targets that do not define how they follow."""
        still = corners_of(torch.tensor([[0, 0, self.source.shape[3], self.source.shape[2]]]))
        return not (self.same_size and self.corners is not None and bool((self.corners - still).abs().max() < 1e-3))

    def boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        if self.corners is None:
            return boxes, np.ones(len(boxes)), False
        after = torch.cat([self.corners.amin(1), self.corners.amax(1)], dim=1).numpy()
        still = self.same_size and bool(np.abs(after - boxes).max() < 1e-3)  # only colours changed
        area = _doubled_areas(self.corners).abs().numpy() / 2
        growth = area / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-12)
        return boxes if still else after, growth, not still

    def points(self, name: str, points: Tensor) -> Tensor:
        return (self.outputs[name][0] + 0.5).view(points.shape) if name in self.outputs else points

    def pixels(self, name: str, values: Tensor, outside: int | bool = 0, rows: Tensor | None = None) -> Tensor:
        if name not in self.outputs:
            return values.new_zeros((*values.shape[:-2], *self.size))
        moved = self.outputs[name][0]
        moved = moved[0] if values.ndim == 2 else moved if rows is None else moved[rows]
        if values.dtype == torch.bool:
            return moved > 0.5
        return (moved if values.is_floating_point() else moved.round()).to(values.dtype) + outside

    def mirrored_back(self) -> Moved:
        """The same, with left and right swapped."""
        last = self.size[1] - 1  # kornia's coordinates refer to pixel centres
        flipped = {
            name: value.flip(-1) if value.ndim == 4 else torch.stack([last - value[..., 0], value[..., 1]], dim=-1)
            for name, value in self.outputs.items()
        }
        return Moved(self.source, flipped)


def _doubled_areas(corners: Tensor) -> Tensor:
    """[N], of quadrangles [N, 4, 2]; negative if their corners are counter-clockwise in the image."""
    x, y = corners.unbind(-1)
    return (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1)
