"""The latent space of a layer: features of images or objects, reduced to two dimensions.

Principal components, or t-SNE (van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008; as in section 4.2,
features are first reduced to 50 principal components). Both are scikit-learn's (extra `explain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.features import Part, chosen_rows, on_data, visible_cells
from sightline.explain.layers import default_layer, layer_named
from sightline.models.model import Model
from sightline.ops.regions import roi_align
from sightline.runtime.optional import require
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import BACKGROUND, IGNORE, Classes, ClassMap, ClassScores, Instances

Reduction = Literal["pca", "tsne"]
_BINS = 3
"""Bins along each side of an object, whose mean is its feature."""
_FIRST = 50
"""Number of principal components that t-SNE starts from."""


@dataclass(frozen=True)
class LatentSpace:
    """Features of N images or objects, and their points in two dimensions.

    Attributes:
        layer: path of the layer in the model.
        method: "pca" or "tsne".
        points: [N, 2] float64.
        features: [N, C] float32.
        images: [N] int64, index of each point's image in the data set.
        names: name of each point's image.
        boxes: [N, 4] float32 (x1, y1, x2, y2) of each point's object in pixels of the image; None for whole images.
        labels: [N] int64 class ids; −1 without a class.
        classes: names of the classes.
        explained: for "pca", the shares of the variance along the two axes.
    """

    layer: str
    method: str
    points: NDArray[np.float64]
    features: NDArray[np.float32]
    images: NDArray[np.int64]
    names: list[str]
    boxes: NDArray[np.float32] | None
    labels: NDArray[np.int64]
    classes: Classes
    explained: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def class_name(self, i: int) -> str:
        """The class of a point; "" without a class."""
        label = int(self.labels[i])
        return self.classes[label] if label >= 0 else ""

    def to_dict(self) -> dict[str, Any]:
        """The points with their classes, as JSON values; the features are left out."""
        points = [
            {"image": name, "class": self.class_name(i), "point": self.points[i].tolist()}
            | ({} if self.boxes is None else {"box": self.boxes[i].tolist()})
            for i, name in enumerate(self.names)
        ]
        explained = None if self.explained is None else list(self.explained)
        return {"layer": self.layer, "method": self.method, "explained_variance": explained, "points": points}


def latent_space(
    model: Model,
    data: Any,
    layer: str | None = None,
    *,
    method: Reduction = "pca",
    limit: int | None = 1000,
    perplexity: float = 30.0,
    which: int = 0,
    batch_size: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LatentSpace:
    """The features of a layer for a data set, reduced to two dimensions.

    If the labels are objects, each object is a point: the mean of the map inside its box (RoI align). Otherwise each
    image is a point: the mean of its map; the class of a class map is the one with the most pixels, apart from a class
    named "background".

    Args:
        model: any model.
        data: images with labels.
        layer: path of a module; by default the layer that explanations use.
        method: "pca" for principal components, "tsne" for t-SNE.
        limit: maximum number of images, and of objects, chosen by `seed`; None for all.
        perplexity: of t-SNE, about the number of neighbours of a point; at most a third of the points is used.
        which: which map, from 0, if the layer returns several.
        batch_size: images per batch.
        seed: seed of the choice of images and of t-SNE.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: scikit-learn is not installed, there are fewer than 3 points, there is no such layer, its output is
            not a map for each image, or the method is unknown.
    """
    if method not in ("pca", "tsne"):
        raise InputError(f"method is {method!r}, but must be 'pca' or 'tsne'")
    require("sklearn", "scikit-learn", "explain", "a latent space")
    seed = require_seed(seed)
    limit = None if limit is None else require_whole("limit", limit, 3, 10**7)
    name = layer or default_layer(model)
    module = layer_named(model, name)
    rows = chosen_rows(data, limit, seed)
    features, images, labels, boxes = [], [], [], []
    parts = on_data(model, data, module, rows, which=which, batch_size=batch_size, device=device, progress=progress)
    for part in parts:
        for i, row in enumerate(part.rows):
            target = data.target(row)
            own = points_of(target)
            vectors = _features(part, i, own.boxes).float().cpu()
            features.append(vectors)
            images += [row] * len(vectors)
            labels.append(own.labels)
            if own.boxes is not None:
                boxes.append(own.boxes)
    every = torch.cat(features).numpy() if features else np.zeros((0, 0), np.float32)
    kept = np.asarray(chosen_rows(every, limit, seed)) if len(every) else np.arange(0)
    if len(kept) < 3:
        raise InputError(
            f"a latent space needs at least 3 images or objects, but there are {len(kept)}; give more data"
        )
    if not np.isfinite(every[kept]).all():
        raise InputError(f"the layer {name!r} returned values that are not finite, so its features cannot be reduced")
    points, explained = reduce(every[kept], method, perplexity, seed)
    image_ids = np.asarray(images, dtype=np.int64)[kept]
    return LatentSpace(
        layer=name,
        method=method,
        points=points,
        features=every[kept],
        images=image_ids,
        names=[data.name(int(i)) for i in image_ids],
        boxes=torch.cat(boxes).numpy()[kept] if boxes else None,
        labels=torch.cat(labels).numpy()[kept],
        classes=data.classes,
        explained=explained,
    )


def reduce(
    features: NDArray[np.float32], method: Reduction, perplexity: float = 30.0, seed: int = 0
) -> tuple[NDArray[np.float64], tuple[float, float] | None]:
    """Reduce features [N, C] to points [N, 2]; for "pca" also the shares of the variance along the two axes."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, channels = features.shape
    wide = features.astype(np.float64)
    components = min(2 if method == "pca" else _FIRST, count, channels)
    pca = PCA(components, svd_solver="full").fit(wide)
    reduced = pca.transform(wide)
    if method == "pca":
        shares = [*np.nan_to_num(pca.explained_variance_ratio_).tolist(), 0.0][:2]
        points = np.zeros((count, 2))  # one channel has one axis
        points[:, :components] = reduced
        return points, (shares[0], shares[1])
    neighbours = max(1.0, min(perplexity, (count - 1) / 3))
    tsne = TSNE(2, perplexity=neighbours, init="pca" if components > 1 else "random", random_state=seed % 2**32)
    return tsne.fit_transform(reduced.astype(np.float32)).astype(np.float64), None


def _features(part: Part, i: int, boxes: Tensor | None) -> Tensor:
    """[P, C] features of the objects of an image, with boxes [P, 4], or of the image."""
    maps, batch = part.maps[i : i + 1].float(), part.batch
    if boxes is None:
        rows, columns = visible_cells(maps, batch, i)
        return maps[:, :, rows, columns].mean((2, 3))
    boxes = batch.in_batch(boxes.to(maps.device), i)
    down, across = (cells / side for side, cells in zip(batch.tensor.shape[-2:], maps.shape[-2:], strict=True))
    cells = boxes * boxes.new_tensor([across, down, across, down])
    return roi_align(maps, [cells], _BINS, sampling_ratio=2, aligned=True).mean((2, 3))


@dataclass(frozen=True)
class Points:
    """The points of one image in a latent space.

    Attributes:
        labels: [P] int64 class ids; −1 without a class.
        boxes: [P, 4] float32 (x1, y1, x2, y2) in pixels of the image; None if the image is the only point.
    """

    labels: Tensor
    boxes: Tensor | None = None


@singledispatch
def points_of(target: Any) -> Points:
    """The points of an image in a latent space; by default the image, without a class."""
    return Points(torch.tensor([-1]))


@points_of.register
def _(target: Instances) -> Points:
    return Points(target.labels.cpu(), target.boxes.float())


@points_of.register
def _(target: ClassScores) -> Points:
    return Points(torch.tensor([-1 if target.label is None else target.label]))


@points_of.register
def _(target: ClassMap) -> Points:
    labels = target.labels[target.labels != IGNORE]
    background = target.classes.id(BACKGROUND) if target.classes and BACKGROUND in target.classes else IGNORE
    labels = labels[labels != background]
    return Points(labels.mode().values[None].cpu() if len(labels) else torch.tensor([-1]))
