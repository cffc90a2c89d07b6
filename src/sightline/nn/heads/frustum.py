"""View frustums of image regions, in which shapes are predicted (Gkioxari et al. 2019, sections 3.2 and B).

A box in the image and a range of depths bound a frustum. Voxels divide the frustum evenly in pixels and in depth, so
that they are aligned with the features of the region; the camera's intrinsics turn them into a shape in space.

Everything is predicted relative to the region, in its **local frame**: x to the right and y down as in the image, z
forwards; the origin is the point at the centre of the box and at the depth z_c; the unit is the longer side of the box
at this depth. In this frame, a shape depends neither on the distance nor on the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.structures import ImageBatch


@dataclass(frozen=True)
class Frustums:
    """R regions with the cameras of their images.

    Attributes:
        boxes: [R, 4] xyxy in pixels of the batch.
        focal: [R, 2, 2] A of pixel = A · (X / Z, Y / Z) + c. Its determinant is negative in mirrored images.
        centre: [R, 2] c.
    """

    boxes: Tensor
    focal: Tensor
    centre: Tensor

    @classmethod
    def of(cls, regions: Sequence[Tensor], batch: ImageBatch) -> Frustums:
        """The frustums of the regions [R_i, 4] of each image of a batch, whose images all have a camera."""
        boxes = torch.cat(list(regions))
        matrices = torch.stack([camera.intrinsics for camera in batch.require_cameras()]).to(boxes)
        counts = torch.tensor([len(own) for own in regions], device=boxes.device)
        image = torch.arange(len(regions), device=boxes.device).repeat_interleave(counts)
        return cls(boxes, matrices[image, :2, :2], matrices[image, :2, 2])

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Tensor) -> Frustums:
        return Frustums(self.boxes[rows], self.focal[rows], self.centre[rows])

    def like(self, features: Tensor) -> Frustums:
        """The same frustums in double precision if `features` are, else in single precision."""
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        return Frustums(self.boxes.to(dtype), self.focal.to(dtype), self.centre.to(dtype))

    @property
    def sides(self) -> Tensor:
        """[R] longer side of each box in pixels, at least 1."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).amax(1).clamp(min=1)

    @property
    def lengths(self) -> Tensor:
        """[R] focal length in pixels: the root of the determinant."""
        return torch.linalg.det(self.focal).abs().sqrt()

    @property
    def mirrored(self) -> Tensor:
        """[R] bool, whether the image shows the scene mirrored."""
        return torch.linalg.det(self.focal) < 0

    def _middles(self) -> Tensor:
        """[R, 2] from the principal point to the centre of the box, in pixels."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 - self.centre

    def from_cube(self, points: Tensor, extents: Tensor, owner: Tensor) -> Tensor:
        """Fractions of the frustum → local frame.

        Args:
            points: [P, 3] in [0, 1]: x and y as fractions of the box, z as a fraction of the range of depths.
            extents: [R] range of depths in units of the local frame.
            owner: [P] int64, the region of each point.
        """
        z = (points[:, 2] - 0.5) * extents[owner]
        relative = 1 + z * (self.sides / self.lengths)[owner]  # depth relative to that of the origin
        low, high = self.boxes[owner].split(2, 1)
        pixels = low + points[:, :2] * (high - low) - self.centre[owner]
        across = (pixels * relative[:, None] - self._middles()[owner]) / self.sides[owner, None]
        return torch.cat([across, z[:, None]], 1)

    def to_cube(self, points: Tensor, extents: Tensor, owner: Tensor) -> Tensor:
        """The inverse of `from_cube`: local frame [P, 3] → fractions of the frustum [P, 3]."""
        z = points[:, 2:] / extents[owner, None].clamp(min=1e-6) + 0.5
        return torch.cat([self.in_box(points, owner), z], 1)

    def in_box(self, points: Tensor, owner: Tensor) -> Tensor:
        """Where points [P, 3] of the local frame are seen, as fractions of the box: [P, 2]."""
        sides = self.sides[owner, None]
        relative = (1 + points[:, 2:] * sides / self.lengths[owner, None]).clamp(min=1e-3)  # in front of the camera
        pixels = (points[:, :2] * sides + self._middles()[owner]) / relative + self.centre[owner]
        low, high = self.boxes[owner].split(2, 1)
        return (pixels - low) / (high - low).clamp(min=1e-6)

    def to_camera(self, points: Tensor, depths: Tensor, owner: Tensor) -> Tensor:
        """Local frame [P, 3] → frame of the camera in metres [P, 3], for origins at `depths` [R]."""
        depth = depths[owner, None]
        z = depth * (1 + points[:, 2:] * (self.sides / self.lengths)[owner, None])
        across = points[:, :2] * self.sides[owner, None] + self._middles()[owner]
        inverse = torch.linalg.inv(self.focal)[owner]
        return torch.cat([(inverse @ across[..., None])[..., 0] * depth, z], 1)

    def from_camera(self, points: Tensor, depths: Tensor, owner: Tensor) -> Tensor:
        """The inverse of `to_camera`: metres [P, 3] → local frame [P, 3]."""
        depth, sides = depths[owner, None], self.sides[owner, None]
        across = (self.focal[owner] @ points[:, :2, None])[..., 0] / depth
        z = (points[:, 2:] / depth - 1) * self.lengths[owner, None] / sides
        return torch.cat([(across - self._middles()[owner]) / sides, z], 1)
