"""Images with camera parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.carrying import CarryingTensor
from sightline.structures.size import Size


@dataclass(frozen=True, eq=False)
class Camera:
    """The intrinsics of a camera, and the depth map of its image if there is one.

    Attributes:
        intrinsics: [3, 3] float64 matrix from camera coordinates (X, Y, Z) in metres, with Z pointing forwards, to
            homogeneous pixels (x·Z, y·Z, Z). Pixel coordinates start at the outer corner of the top-left pixel. If
            yours start at the centre of that pixel, add 0.5 to both coordinates of the principal point.
        depth: [H, W] depth Z of each pixel in units of `depth_scale`, 0 where it is unknown; None without a depth map.
        depth_scale: metres per unit of depth, such as 0.001 for millimetres.
        assumed: whether the intrinsics are a guess, because the camera is unknown.
    """

    intrinsics: Tensor
    depth: Tensor | None = None
    depth_scale: float = 1.0
    assumed: bool = False

    def moved(self, matrix: Any, size: Size) -> Camera:
        """The camera of an image after an affine transform of its pixels.

        A mirrored image has a negative focal length. The scene does not change, so quantities in metres stay valid.

        Args:
            matrix: [3, 3] affine matrix from pixels of the image to pixels of the transformed image.
            size: (height, width) of the transformed image.
        """
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        depth = None if self.depth is None else _nearest(self.depth, matrix.inverse(), size)
        return replace(self, intrinsics=matrix @ self.intrinsics.cpu(), depth=depth)

    def resized(self, size: Size, new_size: Size) -> Camera:
        """The camera after the image was resized from `size` to `new_size`, both (height, width)."""
        factors = torch.tensor([new_size[1] / size[1], new_size[0] / size[0], 1.0], dtype=torch.float64)
        return self.moved(factors.diag(), new_size)

    def to(self, device: torch.device | str) -> Camera:
        """The same camera with its depth map on `device`. The intrinsics stay on their device."""
        return self if self.depth is None else replace(self, depth=self.depth.to(device))


def _nearest(depth: Tensor, inverse: Tensor, size: Size) -> Tensor:
    """The depth of the source pixel nearest to each transformed pixel; 0 outside the source."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    centres = torch.stack([x, y, torch.ones_like(x)]).double().flatten(1)
    column, row = (inverse @ centres)[:2].floor().long().to(depth.device)
    inside = (column >= 0) & (column < depth.shape[1]) & (row >= 0) & (row < depth.shape[0])
    found = depth[row.clamp(0, depth.shape[0] - 1), column.clamp(0, depth.shape[1] - 1)]
    return torch.where(inside, found, torch.zeros_like(found)).reshape(size)


def require_intrinsics(values: Any, what: str = "intrinsics") -> Tensor:
    """A camera matrix as a [3, 3] float64 tensor; see `Camera`.

    Args:
        values: the matrix, as a tensor, an array or nested lists.
        what: its name in messages.

    Raises:
        InputError: it is not the matrix of a camera.
    """
    try:
        matrix = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):  # lists of different lengths, or other values than numbers
        raise InputError(
            f"{what}: {str(values)[:80]} is not a matrix of [3, 3] numbers; give the "
            "camera's [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels"
        ) from None
    if matrix.shape != (3, 3):
        raise InputError(f"{what}: the shape is {list(matrix.shape)}, but must be [3, 3]")
    if not matrix.isfinite().all() or matrix[2].tolist() != [0, 0, 1]:
        raise InputError(f"{what}: {matrix.tolist()} must be finite with a last row of 0, 0, 1")
    if not abs(float(matrix[:2, :2].det())) > 1e-9 * float(matrix[:2, :2].norm()) ** 2:
        raise InputError(
            f"{what}: {matrix.tolist()} is singular, so that pixels do not belong to directions; the focal lengths in "
            "the first two rows must not be 0"
        )
    return matrix


class View(CarryingTensor):
    """An image [C, H, W] with its camera, for models that need it. It can be used in place of an image tensor.

    A view is a tensor of the image's pixels. Operations on it return plain tensors without a camera, so that a camera
    is never kept for pixels that it does not fit. Copies and changes of device or dtype keep the camera (`to`, `float`,
    `clone`, …). Sightline's augmentations and a model's preprocessing transform the camera together with the pixels
    (see `ImageBatch.cameras`). Mosaic, mixup and kornia augmentations drop it.

    Args:
        image: [C, H, W] uint8, or float in [0, 1]; not copied.
        intrinsics: [3, 3] camera matrix, see `Camera`.
        depth: [H, W] depth map, or None.
        depth_scale: metres per unit of depth.

    Raises:
        InputError: a shape is wrong, the intrinsics or the scale are not finite, the last row of the intrinsics is not
            (0, 0, 1), or they are singular: different directions would have the same pixel.
    """

    camera: Camera

    def __new__(cls, image: Tensor, intrinsics: Any, depth: Any = None, depth_scale: float = 1.0) -> Self:
        if image.ndim != 3:
            raise InputError(f"the image of a view has shape {list(image.shape)}, but must be [C, H, W]")
        matrix = require_intrinsics(intrinsics)
        if not 0 < depth_scale < float("inf"):
            raise InputError(f"depth_scale is {depth_scale}, but must be a number of metres above 0, such as 0.001")
        known = None if depth is None else torch.as_tensor(depth)
        if known is not None and known.shape != image.shape[1:]:
            raise InputError(f"the depth has shape {list(known.shape)}, but the image has {list(image.shape[1:])}")
        return cls.of(image, Camera(matrix, known, float(depth_scale)))

    @classmethod
    def of(cls, image: Tensor, camera: Camera) -> Self:
        """A view from an image and its camera, without checks."""
        view = image.as_subclass(cls)
        view.camera = camera
        return view

    @property
    def intrinsics(self) -> Tensor:
        """[3, 3] float64; see `Camera`."""
        return self.camera.intrinsics

    @property
    def depth(self) -> Tensor | None:
        """[H, W]; see `Camera`."""
        return self.camera.depth

    @property
    def metres(self) -> Tensor | None:
        """[H, W] float32 depth of each pixel in metres, NaN where it is unknown; None without a depth map."""
        if self.camera.depth is None:
            return None
        values = self.camera.depth.to(torch.float32)
        return torch.where(values > 0, values * self.camera.depth_scale, torch.nan)

    def cropped(self, left: int, top: int, right: int, bottom: int) -> Self:
        """The crop of columns `left` to `right` and rows `top` to `bottom`, without a copy of the pixels."""
        shift = torch.tensor([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=torch.float64)
        depth = None if self.depth is None else self.depth[top:bottom, left:right]
        return self.of(
            self[:, top:bottom, left:right], replace(self.camera, intrinsics=shift @ self.intrinsics, depth=depth)
        )

    def _kept(self, image: Tensor) -> Self:
        return self.of(image, self.camera.to(image.device))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        camera = self.camera
        depth = None if camera.depth is None else camera.depth.clone()
        return self.of(self.clone(), replace(camera, intrinsics=camera.intrinsics.clone(), depth=depth))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _view_again, (self.as_subclass(Tensor), self.camera)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        channels, height, width = self.shape
        fx, fy = (round(v, 2) for v in self.intrinsics.diagonal()[:2].tolist())
        depth = "" if self.depth is None else ", with depth"
        return f"View({channels} channels, {width}×{height} pixels, {self.dtype}, focal length {fx} × {fy}{depth})"


def _view_again(image: Tensor, camera: Camera) -> View:
    return View.of(image, camera)


def camera_of(image: Tensor) -> Camera | None:
    """The camera of an image; None for a plain tensor."""
    return image.camera if isinstance(image, View) else None


def with_camera(image: Tensor, camera: Camera | None) -> Tensor:
    """The image as a `View` with this camera; the image itself if `camera` is None."""
    return image if camera is None else View.of(image, camera)
