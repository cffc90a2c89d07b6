"""The stages of R-CNN's training without gradient steps: extract features, fit an SVM and a box regressor per class.

Girshick et al. 2014, section 2.3 and appendices B and C, with the settings of the authors' code: SVMs with C = 0.001 on
features scaled to a mean norm of 20, a weight of 2 for positives, regions below IoU 0.3 as negatives; ridge regression
with λ = 1000 on regions above IoU 0.6.

Departures: hard negatives are collected in rounds over all images, not image by image; regression targets are centred,
not whitened.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import box_iou, clip_boxes_to_image, encode_boxes
from sightline.ops.proposals.cache import ArrayFolder, content_key
from sightline.runtime.optional import require
from sightline.structures import Classes, Instances

Examples = Sequence[tuple[Tensor, Instances]]
log = logging.getLogger("sightline")


class RegionModel(Protocol):
    """The interface of an R-CNN that the stages use.

    Attributes:
        head: "svm", or "softmax", which needs no SVMs.
        body: the network, which is not changed. The last of its `channels` is the number of features for classes.
        settings, proposals: their `repr` identifies what the features depend on. Features of `settings.chunk` regions
            are computed at once.
        svm_weight, svm_bias, svm_fitted, box_weight, box_bias: buffers for the results, set in place.
    """

    head: Any
    body: Any
    classes: Classes
    preprocess: Any
    settings: Any
    proposals: Any
    training: bool
    svm_weight: Tensor
    svm_bias: Tensor
    svm_fitted: Tensor
    box_weight: Tensor
    box_bias: Tensor

    def propose(self, image: Tensor) -> Tensor: ...
    def warp(self, image: Tensor, regions: Tensor) -> Tensor: ...
    def features(self, crops: Tensor) -> tuple[Tensor, Tensor]: ...
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


@dataclass(frozen=True)
class StageSettings:
    """Settings of the stages.

    Attributes:
        svm_c: regularisation parameter C of the SVMs.
        positive_weight: weight of positives relative to negatives.
        norm: mean norm that features are scaled to.
        negative_iou: regions with a lower IoU with every object of a class are negatives of the class.
        first_negatives: number of random negatives per class for the first SVM.
        rounds: maximum number of rounds of hard negative mining.
        max_negatives: maximum number of hard negatives per class; it limits the memory.
        ridge: λ of the ridge regression.
        pair_iou: regions with a higher IoU with an object train the box regression.
        seed: random seed.
    """

    svm_c: float = 1e-3
    positive_weight: float = 2.0
    norm: float = 20.0
    negative_iou: float = 0.3
    first_negatives: int = 2000
    rounds: int = 3
    max_negatives: int = 20000
    ridge: float = 1000.0
    pair_iou: float = 0.6
    seed: int = 0


@dataclass
class StageReport:
    """Statistics of the stages.

    Attributes:
        images, regions: number of images and regions.
        positives: number of objects of each class.
        negatives: number of negatives in the last SVM of each class.
        pairs: number of regions that the box regressor of each class was fitted on.
    """

    images: int = 0
    regions: int = 0
    positives: dict[str, int] = field(default_factory=dict)
    negatives: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Example:
    """One image: its regions (objects first), its labels, and the key of its stored features."""

    key: str
    regions: Tensor
    objects: Tensor  # boxes, including crowds and difficult objects, which are never negatives
    labels: Tensor
    learned: Tensor  # labels of the first regions

    def overlaps(self, classes: int) -> Tensor:
        """[R, K]: the largest IoU of each region with an object of each class."""
        best = torch.zeros(classes, len(self.regions))
        if len(self.objects):
            iou = box_iou(self.objects, self.regions)
            for label in self.labels.unique().tolist():
                best[label] = iou[self.labels == label].amax(0)
        return best.T


def fit_stages(
    model: RegionModel,
    data: Examples,
    *,
    folder: str | Path | None = None,
    settings: StageSettings | None = None,
    progress: bool = False,
) -> StageReport:
    """Fit the SVMs (unless `head="softmax"`) and the box regressors of a model, in place.

    Args:
        model: model whose network has been fine-tuned.
        data: sequence of (image, `Instances`).
        folder: folder to store the features of the regions in (about 10 MB per image), so that an interrupted fit can
            be resumed; by default a temporary folder.
        settings: settings of the stages.
        progress: whether to log progress.

    Raises:
        InputError: no image contains an object, classes differ, or scikit-learn is missing.
    """
    settings = settings or StageSettings()
    if model.head == "svm":
        require("sklearn", "scikit-learn", "classical", "the SVMs of R-CNN")
    training = model.training
    model.eval()
    try:
        if folder is not None:
            return _fit(model, data, ArrayFolder(folder), settings, progress)
        with tempfile.TemporaryDirectory(prefix="sightline-features-") as temporary:
            return _fit(model, data, ArrayFolder(temporary), settings, progress)
    finally:
        model.train(training)


def _fit(model: RegionModel, data: Examples, kept: ArrayFolder, s: StageSettings, progress: bool) -> StageReport:
    examples = _describe(model, data, kept, progress)
    names = list(model.classes)
    report = StageReport(len(examples), sum(len(e.regions) for e in examples))
    counts = torch.cat([e.learned for e in examples]).bincount(minlength=len(names)).tolist() if examples else [0]
    if not any(counts):
        raise InputError(
            f"the {len(examples)} images hold no object (crowds and difficult ones do not count), "
            "but R-CNN's stages learn from objects; give labelled images"
        )
    report.positives = dict(zip(names, counts, strict=True))
    features = _Features(kept, examples, model.body.channels[-1])
    scale, box_scale = (s.norm / max(norm, 1e-6) for norm in features.norms())
    boxes = _fit_boxes(features, len(names), s, box_scale)
    report.pairs = {name: pairs for name, (_, _, pairs) in zip(names, boxes, strict=True)}
    device = model.box_weight.device
    model.box_weight.copy_(torch.stack([torch.as_tensor(w) for w, _, _ in boxes]).to(device) * box_scale)
    model.box_bias.copy_(torch.stack([torch.as_tensor(b) for _, b, _ in boxes]).to(device))
    if model.head == "svm":
        weight, bias, negatives = _fit_svms(features, len(names), s, scale, progress)
        report.negatives = dict(zip(names, negatives, strict=True))
        model.svm_weight.copy_(torch.from_numpy(weight * scale).to(device))
        model.svm_bias.copy_(torch.from_numpy(bias).to(device))
        model.svm_fitted.fill_(True)
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing and model.head == "svm":
        log.warning("no object of %s to learn from: its SVM will find none", ", ".join(missing))
    return report


@torch.no_grad()
def _describe(model: RegionModel, data: Examples, kept: ArrayFolder, progress: bool) -> list[_Example]:
    """Compute the features of all regions of all images, and store them as float16; stored features are reused."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in model.body.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    described = f"{digest.hexdigest()} {model.settings!r} {model.proposals!r}"
    examples = []
    for number in range(len(data)):
        image, target = data[number]
        if target.classes is not None and target.classes != model.classes:
            model.classes.require_same(target.classes, "the model", target.source or "the data")
        model.preprocess.check([image])
        target = target.to("cpu")
        target = target.replace(boxes=clip_boxes_to_image(target.boxes, target.image_size))
        pixels = model.preprocess.prepare(image)
        learned = (target.boxes[:, 2:] > target.boxes[:, :2]).all(1)
        for mark in ("crowd", "difficult"):
            if mark in target:
                learned &= ~target.fields[mark]
        objects = target.boxes.float()
        regions = torch.cat([objects[learned], model.propose(pixels).cpu()])
        key = content_key(image, described, str(regions.shape), str(objects[learned].tolist()))
        if kept.get(key) is None:
            parts = [torch.cat(model.features(model.warp(pixels, r)), 1) for r in regions.split(model.settings.chunk)]
            width = model.svm_weight.shape[1] + model.box_weight.shape[2]
            found = torch.cat(parts) if parts else torch.zeros(0, width)
            kept.keep(key, found.float().clamp(-65504, 65504).cpu().numpy().astype(np.float16))
        examples.append(_Example(key, regions, objects, target.labels, target.labels[learned]))
        if progress and (number + 1) % 20 == 0:
            log.info("features of %d of %d images", number + 1, len(data))
    return examples


class _Features:
    """The stored features for classes and for boxes, as float32.

    Args:
        kept: folder of the features.
        examples: images that the features belong to.
        split: number of columns for classes; the remaining columns are for boxes.
    """

    def __init__(self, kept: ArrayFolder, examples: list[_Example], split: int):
        self.kept, self.examples, self.split = kept, examples, split

    def _array(self, image: int) -> np.ndarray:
        found = self.kept.get(self.examples[image].key)
        if found is None:
            raise InputError(f"{self.kept.folder}: features were removed while they were needed; fit again")
        return found

    def classes(self, image: int, rows: Any = slice(None)) -> np.ndarray:
        return self._array(image)[rows, : self.split].astype(np.float32)

    def boxes(self, image: int, rows: Any = slice(None)) -> np.ndarray:
        return self._array(image)[rows, self.split :].astype(np.float32)

    def gather(self, codes: np.ndarray) -> np.ndarray:
        """The rows for classes of regions given as image · 2³² + row, in sorted order."""
        images = codes >> 32
        found = [self.classes(int(i), codes[images == i] & 0xFFFFFFFF) for i in np.unique(images)]
        return np.concatenate(found) if found else np.zeros((0, self.split), np.float32)

    def norms(self) -> tuple[float, float]:
        """Mean norm of the features for classes, and of those for boxes."""
        total, count = np.zeros(2), 0
        for image in range(len(self.examples)):
            total += [np.linalg.norm(part(image), axis=1).sum() for part in (self.classes, self.boxes)]
            count += len(self.examples[image].regions)
        return total[0] / max(count, 1), total[1] / max(count, 1)


def _fit_svms(
    features: _Features, classes: int, s: StageSettings, scale: float, progress: bool
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Weights [K, F] and biases [K] for scaled features, and the number of negatives of each last SVM."""
    random = np.random.default_rng(s.seed)
    examples = features.examples
    positives: list[list[np.ndarray]] = [[] for _ in range(classes)]
    drawn: list[list[np.ndarray]] = [[] for _ in range(classes)]
    share = -(-s.first_negatives // len(examples))
    for image, example in enumerate(examples):
        background = (example.overlaps(classes) < s.negative_iou).numpy()
        for k in range(classes):
            positives[k].append(_codes(image, (example.learned == k).nonzero().flatten().numpy()))
            rows = np.flatnonzero(background[:, k])
            drawn[k].append(_codes(image, random.permutation(rows)[:share]))
    objects = [np.concatenate(p) for p in positives]
    negatives = [np.sort(np.concatenate(d)) for d in drawn]
    weight = np.zeros((classes, features.split), np.float32)
    bias = np.full(classes, -100.0, np.float32)  # a class without objects is never found
    changed = [k for k in range(classes) if len(objects[k])]
    for turn in range(s.rounds + 1):
        for k in changed:
            shown, background_rows = features.gather(objects[k]) * scale, features.gather(negatives[k]) * scale
            weight[k], bias[k] = fit_svm(shown, background_rows, s.svm_c, s.positive_weight)
        if turn == s.rounds:
            break
        if progress:
            log.info("SVMs, round %d: %d regions of background", turn + 1, sum(len(negatives[k]) for k in changed))
        harder = _hard_negatives(features, weight, bias, s, scale)
        before = negatives
        negatives = [np.union1d(n, h) for n, h in zip(before, harder, strict=True)]
        changed = [k for k in changed if len(negatives[k]) > len(before[k])]
    return weight, bias, [len(n) for n in negatives]


def _hard_negatives(
    features: _Features, weight: np.ndarray, bias: np.ndarray, s: StageSettings, scale: float
) -> list[np.ndarray]:
    """Codes of the negatives inside the margin or misclassified, for each class; the hardest if there are too many."""
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in bias]
    for image, example in enumerate(features.examples):
        values = features.classes(image) @ (weight.T * scale) + bias
        hard = (values > -1) & (example.overlaps(len(bias)) < s.negative_iou).numpy()
        for k in np.flatnonzero(hard.any(0)):
            rows = np.flatnonzero(hard[:, k])
            codes, value = found[k]
            codes, value = np.concatenate([codes, _codes(image, rows)]), np.concatenate([value, values[rows, k]])
            if len(codes) > s.max_negatives:
                best = np.argsort(-value, kind="stable")[: s.max_negatives]
                codes, value = codes[best], value[best]
            found[k] = codes, value
    return [codes for codes, _ in found]


def _codes(image: int, rows: np.ndarray) -> np.ndarray:
    return (np.int64(image) << np.int64(32)) + rows.astype(np.int64)


def fit_svm(
    positive: np.ndarray, negative: np.ndarray, c: float, positive_weight: float = 1.0
) -> tuple[np.ndarray, float]:
    """Fit a linear SVM with hinge loss: weights [F] and bias such that w·x + b is above 0 for positives.

    Args:
        positive, negative: features [P, F] and [N, F].
        c: regularisation parameter C.
        positive_weight: weight of positives relative to negatives.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    if len(negative) == 0:  # there are only objects
        return np.zeros(positive.shape[1], np.float32), 1.0
    rows = np.concatenate([positive, negative])
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    svm = LinearSVC(
        C=c,
        loss="hinge",
        class_weight={1: positive_weight, 0: 1.0},
        intercept_scaling=10,  # the bias is regularised too, but weakly
        random_state=0,
        max_iter=2000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an approximate fit is enough, since mining fits again
        svm.fit(rows, truth)
    return svm.coef_[0].astype(np.float32), float(svm.intercept_[0])


def _fit_boxes(
    features: _Features, classes: int, s: StageSettings, scale: float
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Weights [4, G] for scaled features, bias [4] and number of pairs of each class."""
    pairs: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in range(classes)]
    for image, example in enumerate(features.examples):
        count = len(example.learned)
        if not count:
            continue
        objects = example.regions[:count]
        iou, nearest = box_iou(objects, example.regions).max(0)
        iou[:count] = 0  # the deltas of an object's own box are 0
        rows = (iou > s.pair_iou).nonzero().flatten()
        deltas = encode_boxes(objects[nearest[rows]], example.regions[rows])
        labels = example.learned[nearest[rows]]
        for k in labels.unique().tolist():
            own = labels == k
            pairs[k].append((image, rows[own].numpy(), deltas[own].numpy()))
    fitted, inputs = [], features.boxes(0).shape[1]
    for own_pairs in pairs:
        parts = ((features.boxes(image, rows) * scale, deltas) for image, rows, deltas in own_pairs)
        weight, bias = ridge_regression(parts, s.ridge, inputs, 4)
        fitted.append((weight, bias, sum(len(rows) for _, rows, _ in own_pairs)))
    return fitted


def ridge_regression(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], penalty: float, inputs: int, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression on data in several parts: w = (XᵀX + λI)⁻¹ XᵀY, with centred X and Y.

    Args:
        parts: pairs of features [n, inputs] and targets [n, outputs].
        penalty: λ; it does not apply to the bias.
        inputs, outputs: number of features and of targets. Without any part, weights and bias are 0.

    Returns:
        Weights [outputs, inputs] and bias [outputs], float32.
    """
    xx, xy = np.zeros((inputs, inputs)), np.zeros((inputs, outputs))
    x_sum, y_sum, count = np.zeros(inputs), np.zeros(outputs), 0
    for rows, targets in parts:
        x, y = rows.astype(np.float64), targets.astype(np.float64)
        xx += x.T @ x
        xy += x.T @ y
        x_sum, y_sum, count = x_sum + x.sum(0), y_sum + y.sum(0), count + len(x)
    if count == 0:
        return np.zeros((outputs, inputs), np.float32), np.zeros(outputs, np.float32)
    x_mean, y_mean = x_sum / count, y_sum / count
    xx -= count * np.outer(x_mean, x_mean)
    xy -= count * np.outer(x_mean, y_mean)
    xx[np.diag_indices(inputs)] += penalty
    weight = np.linalg.solve(xx, xy).T
    return weight.astype(np.float32), (y_mean - weight @ x_mean).astype(np.float32)
