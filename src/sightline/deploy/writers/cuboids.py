"""Write cuboids: COCO JSON with the camera of each image, and KITTI's label files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.writers.base import PredictedImage, Written, file_paths, require_prediction
from sightline.deploy.writers.coco import FORMATS, LABELS
from sightline.deploy.writers.detection import DetectionFiles
from sightline.evaluation._cuboid_rows import observation_angle, yaw_of
from sightline.structures import Instances

KITTI = "kitti"


class CuboidWriter:
    """Writes one annotation per object with its nine numbers "cuboids", as in the field of `Instances`.

    With the format "kitti" there is also one label file per image in labels/, in the layout of KITTI's results: class,
    truncated and occluded (−1, unknown), alpha, box, height, width, length, x, y, z of the middle of the lower side,
    rotation_y and score. KITTI's boxes turn about the vertical only: roll and pitch are lost.
    """

    formats = ("json", KITTI)

    def begin(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]) -> CuboidFiles:
        return CuboidFiles(folder, paths, classes, formats)


@dataclass(frozen=True)
class _ImageWithCamera(PredictedImage):
    """An image whose entry in the JSON file also has its camera."""

    matrix: Tensor
    assumed: bool

    def entry(self) -> dict[str, Any]:
        camera: dict[str, Any] = {"matrix": [[round(v, 4) for v in row] for row in self.matrix.tolist()]}
        return super().entry() | {"camera": camera | ({"assumed": True} if self.assumed else {})}


class CuboidFiles(DetectionFiles):
    """See `sightline.deploy.writers.base.Writing`."""

    def __init__(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]):
        super().__init__(folder, paths, classes, [name for name in formats if name in FORMATS])
        self._kitti = [folder / LABELS / path for path in file_paths(paths, (".txt",), ".txt")]
        self._with_kitti = KITTI in formats

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Instances, "objects (Instances)")
        shown = image
        if len(prediction) and "cameras" in prediction:
            shown = _ImageWithCamera(**vars(image), matrix=prediction.cameras[0], assumed="camera_guess" in prediction)
        super().add(shown, prediction, ids)
        if self._with_kitti:
            path = self._kitti[image.position]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(kitti_lines(prediction)), encoding="utf-8")

    def finish(self, threshold: float, given: bool) -> Written:
        done = super().finish(threshold, given)
        return Written(
            done.summary, [*done.files, *([f"{LABELS}/"] if self._with_kitti else [])], done.objects, done.hint
        )


def kitti_lines(result: Instances) -> list[str]:
    """The lines of KITTI's label file for the objects of an image.

    Positions in pixels count from the centre of the first pixel there, and y is that of the lower side of the cuboid.
    """
    cuboids = result.cuboids.double()
    yaws = torch.from_numpy(yaw_of(cuboids.numpy()))
    alphas = torch.from_numpy(observation_angle(cuboids.numpy()))
    bottom = cuboids[:, 1:2] + cuboids[:, 4:5] / 2
    sides = cuboids[:, [4, 3, 5]]
    place = torch.cat([cuboids[:, :1], bottom, cuboids[:, 2:3]], 1)
    scores = result.scores.double() if "scores" in result else torch.ones(len(result)).double()
    numbers = torch.cat([alphas[:, None], result.boxes.double() - 0.5, sides, place, yaws[:, None], scores[:, None]], 1)
    names = result.names() if result.classes is not None else [f"class{k}" for k in result.labels.tolist()]
    return [
        f"{name.replace(' ', '_')} -1 -1 {' '.join(f'{value:.4f}' for value in row)}\n"
        for name, row in zip(names, numbers.tolist(), strict=True)
    ]
