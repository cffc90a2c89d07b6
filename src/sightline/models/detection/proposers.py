"""Proposals for Fast R-CNN: sliding windows, selective search, stored boxes, or a function of your own.

A proposer is a callable from an image [C, H, W] to boxes [P, 4] xyxy in its pixels, best first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.proposals import Proposer

ProposerName = Literal["windows", "selective_search"]


class Windows:
    """Windows of several sizes and aspect ratios on a regular grid, about 1800 by default.

    Args:
        scales: square root of a window's area, as a fraction of the image's shorter side.
        ratios: ratios of height to width.
        step: distance between neighbouring windows, as a fraction of their size.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.15, 0.25, 0.4, 0.6, 0.85),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        step: float = 0.33,
    ):
        if not scales or not ratios or min(*scales, *ratios, step) <= 0:
            raise InputError(
                f"scales {list(scales)}, ratios {list(ratios)} and step {step} must be above 0, one of each at least"
            )
        self.scales, self.ratios, self.step = tuple(scales), tuple(ratios), step

    def __call__(self, image: Tensor) -> Tensor:
        """[C, H, W] → [P, 4], the largest windows first. Windows exceed the border by less than half their size."""
        height, width = image.shape[-2:]
        found = []
        for scale in sorted(self.scales, reverse=True):
            side = scale * min(height, width)
            step = max(1.0, self.step * side)
            rows = torch.arange(step / 2, height, step, device=image.device)
            columns = torch.arange(step / 2, width, step, device=image.device)
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            centres = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
            windows = centres + _windows(side, self.ratios, image.device)
            found.append(clip_boxes_to_image(windows.reshape(-1, 4), (height, width)))
        return torch.cat(found)


class StoredProposals:
    """Proposals stored by image content, for a slow proposer or for proposals that come with the data.

    An augmented image is a different image. Train without augmentation, or only with flips, as the paper does.

    Args:
        proposer: called for images without stored proposals; with None, such images raise an error.
        limit: maximum number of images to store (2000 boxes take 32 KB). Beyond it, the oldest entries are removed.
    """

    def __init__(self, proposer: Proposer | None = None, limit: int = 10_000):
        self.proposer, self.limit = proposer, limit
        self._boxes: dict[bytes, Tensor] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    def add(self, image: Tensor, boxes: Tensor) -> None:
        """Store `boxes` [P, 4] (xyxy in pixels of the image, best first) for `image` [C, H, W]."""
        self._boxes[_content(image)] = checked(boxes).detach().to("cpu", torch.float32)
        if len(self._boxes) > self.limit:
            del self._boxes[next(iter(self._boxes))]

    def __call__(self, image: Tensor) -> Tensor:
        """[C, H, W] → [P, 4]."""
        key = _content(image)
        if key not in self._boxes:
            if self.proposer is None:
                raise InputError(
                    f"no proposals are stored for an image of {image.shape[-2]} × {image.shape[-1]} pixels (height × "
                    "width); add() them for exactly this image, or give a proposer to ask"
                )
            self.add(image, self.proposer(image))
        return self._boxes[key]


def make_proposer(name: ProposerName) -> Proposer:
    """Create a proposer by name.

    Args:
        name: "windows" for the windows of a grid, or "selective_search" for selective search (Uijlings et al. 2013) in
            fast mode, as in the paper, with results stored in memory. The latter needs the extra `classical`.
    """
    if name == "windows":
        return Windows()
    if name == "selective_search":
        from sightline.ops.proposals import SelectiveSearch

        return StoredProposals(SelectiveSearch())
    raise InputError(
        f"proposer is {name!r}, but must be 'windows' or 'selective_search'; set a function of your own afterwards: "
        "model.proposer = function"
    )


def checked(boxes: Tensor) -> Tensor:
    """Return the boxes of a proposer after checking their shape and values."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(
            f"a proposer gave boxes of shape {list(boxes.shape)}, but they must be [P, 4] (x1, y1, x2, y2)"
        )
    if not boxes.isfinite().all():
        raise InputError("a proposer gave a box with a coordinate that is not a number; leave such boxes out")
    return boxes


def _windows(side: float, ratios: Sequence[float], device: torch.device) -> Tensor:
    """[len(ratios), 4] boxes around (0, 0), not rounded to whole pixels, since windows may be small."""
    ratio = torch.tensor(ratios, device=device)
    width, height = side / ratio.sqrt(), side * ratio.sqrt()
    return torch.stack([-width, -height, width, height], 1) / 2


def _content(image: Tensor) -> bytes:
    pixels = image.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{pixels.dtype}{list(pixels.shape)}".encode(), digest_size=16)
    digest.update(pixels.numpy().data)
    return digest.digest()
