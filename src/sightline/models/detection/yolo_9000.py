"""YOLO9000: Redmon and Farhadi, "YOLO9000: better, faster, stronger", CVPR 2017, section 4.

YOLO v2 with classes in a word tree. The class of a box is found on a walk down from the root, which stops at a more
general class when the network is uncertain: an animal, if not a dog. The model learns boxes and classes from detection
data, and more classes from classification data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.detector import Detections
from sightline.models.detection.yolo_v2 import Anchors, YOLOv2, YOLOv2Settings, _paper, _small
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.heads.yolo_v2 import RegionOutputs
from sightline.ops.word_tree import WordTree, descend, log_conditionals, log_probabilities
from sightline.structures import Classes, ClassScores, ImageBatch, Instances

Pair = tuple[str, int]

YOLO_9000_ANCHORS: Anchors = ((0.77871, 1.14074), (3.00525, 4.31277), (9.22725, 9.61974))
"""The authors' three anchors for images of 544 × 544 pixels, 17 × 17 cells, from their configuration files."""


@dataclass(frozen=True)
class YOLO9000Settings(YOLOv2Settings):
    """Settings of YOLO9000, in addition to those of YOLO v2.

    Attributes:
        tree_threshold: the walk down the tree continues while the class probability is at least this high.
        assumed_iou: assumed minimum IoU of the box with the object in images with only a class label.
    """

    tree_threshold: float = 0.5
    assumed_iou: float = 0.3


class YOLO9000(YOLOv2):
    """YOLO v2 with a softmax over each group of siblings of a word tree.

    The head has one output for each of the tree's T nodes. The model's classes are some or all of these nodes. A box
    that ends at another node gets the nearest class above it; without such a class it is no detection.

    Targets are `Instances`, or `ClassScores` with a label for images without boxes. In an image without boxes, only the
    box with the highest objectness × P(label) is trained: its class, and an objectness of at least `assumed_iou`.

    Departure: the score of a detection is objectness × P(class).

    Args:
        classes, preprocess, backbone, anchors, sizes, settings: as for `YOLOv2`.
        head: maps → region map [N, A·(5 + T), H / 32, W / 32].
        tree: holds every class as a node.
    """

    settings: YOLO9000Settings
    takes_labels = True
    """The model also learns from `sightline.data.joint.JointData`."""

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: FeatureMaps,
        head: nn.Module,
        anchors: Anchors,
        sizes: Sequence[int] = (),
        settings: YOLO9000Settings | None = None,
        *,
        tree: WordTree,
    ):
        names = classes if isinstance(classes, Classes) else Classes(classes)
        output_ids = [tree.id(name) + 1 for name in names]
        super().__init__(names, preprocess, backbone, head, anchors, sizes, settings or YOLO9000Settings(), output_ids)
        self.tree = tree
        known = set(output_ids)
        nearest = [next((n + 1 for n in reversed(tree.path(node)) if n + 1 in known), 0) for node in range(len(tree))]
        for name, value in (("groups", tree.groups), ("children", tree.children), ("paths", tree.paths)):
            self.register_buffer(f"_{name}", value.clone(), persistent=False)
        self.register_buffer("_nearest", torch.tensor(nearest), persistent=False)

    _groups: Tensor
    _children: Tensor
    _paths: Tensor
    _nearest: Tensor

    @property
    def output_names(self) -> list[str]:
        """The node of each output: there is one for every node of the tree, whether it is a class or not."""
        return list(self.tree.names)

    def prepare(self, images: Sequence[Tensor], targets: Any) -> tuple[ImageBatch, Any]:
        """Like YOLO v2; labels of targets without boxes are also converted to outputs of the head."""
        if targets is None or all(isinstance(t, Instances) for t in targets):
            return super().prepare(images, targets)
        batch, moved = super().prepare(images, [self._without_boxes(t) for t in targets])
        assert moved is not None
        outputs = self._output_of_class.tolist()
        both: list[Instances | ClassScores] = []
        for target, placed in zip(targets, moved, strict=True):
            if isinstance(target, ClassScores) and target.label is not None:
                both.append(ClassScores(placed.image_size, outputs[target.label], source=target.source))
            else:
                both.append(placed)
        return batch, both

    def _without_boxes(self, target: Any) -> Instances:
        if isinstance(target, Instances):
            return target
        what = target.source or "a target"
        if not isinstance(target, ClassScores) or target.label is None:
            raise InputError(f"{what} is {type(target).__name__} without boxes or label; give Instances or ClassScores")
        if not 0 <= target.label < len(self.classes):
            raise InputError(f"{what} has label {target.label}, but ids are 0 to {len(self.classes) - 1}")
        return Instances(target.image_size, classes=target.classes, source=target.source)

    def process(self, batch: ImageBatch, targets: Any) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the losses."""
        if targets is None or all(isinstance(t, Instances) for t in targets):
            return super().process(batch, targets)
        outputs = self.split(self.network(batch.tensor))
        placed = [i for i, t in enumerate(targets) if isinstance(t, Instances)]
        labelled = [i for i in range(len(targets)) if i not in placed]
        labels = torch.tensor([targets[i].label for i in labelled], device=self._groups.device) - 1
        losses = self.label_losses(RegionOutputs(*(part[labelled] for part in outputs)), labels)
        losses = {name: loss * len(labelled) / len(targets) for name, loss in losses.items()}
        if placed:
            own = RegionOutputs(*(part[placed] for part in outputs))
            for name, loss in self.losses(own, self.assign(own, [targets[i] for i in placed])).items():
                losses[name] = losses.get(name, 0) + loss * len(placed) / len(targets)
        for name in ("loss_box", "loss_no_object", *(("loss_prior",) if self._has_prior else ())):
            losses.setdefault(name, outputs.objects.new_zeros(()))  # the same losses for every batch
        return [], losses

    def label_losses(self, outputs: RegionOutputs, labels: Tensor) -> Losses:
        """ "loss_classification" and "loss_objectness" of images [N] whose label alone is known (section 4, "Joint
        classification and detection"), over their number.

        Args:
            outputs: of the images.
            labels: [N] int64, nodes.
        """
        objects, logits = outputs.objects.flatten(1), outputs.classes.flatten(1, 3)
        with torch.no_grad():
            best = [
                (F.logsigmoid(o) + log_probabilities(log_conditionals(c, self._groups), path[None])[:, 0])
                for o, c, path in zip(objects, logits, self._paths[labels], strict=True)
            ]
            chosen = torch.stack(best).argmax(1)
        image = torch.arange(len(labels), device=labels.device)
        short = (self.settings.assumed_iou - objects[image, chosen].sigmoid()).clamp(min=0)
        return {
            "loss_classification": self.settings.classes * self.class_loss(logits[image, chosen], labels) / len(labels),
            "loss_objectness": self.settings.objects / 2 * short.square().sum() / len(labels),
        }

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of −log P(node | parent) over each label and its ancestors: logits [M, T], nodes [M].

        Descendants of the label are not trained.
        """
        conditionals = log_conditionals(logits, self._groups)
        path = self._paths[labels]
        return -(conditionals.gather(1, path.clamp(min=0)) * (path >= 0)).sum()

    def score_table(self, objects: Tensor, logits: Tensor) -> Tensor:
        """Objectness [..., D] and logits [..., D, T] → scores [..., D, T], 0 except where the walk down ends."""
        rows = logits.flatten(0, -2)
        box, node, score = self.scores(objects.flatten(), rows)
        return torch.zeros_like(rows).index_put((box, node), score).view_as(logits)

    def scores(self, objects: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness [D] and logits [D, T] → box, node and score where the walk down the tree ends at a class."""
        likely = (objects > self.settings.min_score).nonzero().flatten()  # class scores do not exceed the objectness
        conditionals = log_conditionals(logits[likely], self._groups)
        node, total = descend(conditionals, self._groups, self._children, self.settings.tree_threshold)
        output = self._nearest[node]
        held = output > 0
        if bool((output != node + 1).any()):  # a class above the node is at least as likely
            path = self._paths[(output - 1).clamp(min=0)]
            steps = conditionals.gather(1, path.clamp(min=0))
            total = torch.where(path >= 0, steps, torch.zeros_like(steps)).sum(1)
        score = objects[likely] * total.exp()
        held &= score > self.settings.min_score
        return likely[held], output[held] - 1, score[held]


SETTINGS = YOLO9000Settings()


def yolo_9000_darknet19(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    tree: list[Pair] | None = None,
    image_size: int = 544,
    anchors: list[list[float]] | None = None,
    sizes: list[int] | None = None,
    settings: YOLO9000Settings = SETTINGS,
) -> YOLO9000:
    """YOLO9000 on the network of `yolo_v2_darknet19`, with three anchors.

    The paper says "the base YOLOv2 architecture but only 3 priors". The authors' own network for it lacks YOLO v2's
    additional layers and the passthrough.

    Args:
        classes: names of the classes, each a node of the tree.
        in_channels: number of channels of the images.
        tree: [name, parent] of each node, where parent is the index of an earlier node, or −1 for roots. By default all
            classes are roots. `sightline.data.word_tree.read_word_tree` reads published trees.
        image_size, anchors, sizes, settings: as for `yolo_v2_darknet19`; the authors' anchors for YOLO9000 and 544.
    """
    words, more = _words(classes, tree)
    return _paper(YOLO9000, words, in_channels, image_size, anchors, sizes, settings, **more)


def yolo_9000_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    tree: list[Pair] | None = None,
    image_size: int = 256,
    anchors: list[list[float]] | None = None,
    sizes: list[int] | None = None,
    settings: YOLO9000Settings = SETTINGS,
) -> YOLO9000:
    """YOLO9000 on the network of `yolo_v2_mobilenet_v2`; arguments as for `yolo_9000_darknet19`."""
    words, more = _words(classes, tree)
    return _small(YOLO9000, words, in_channels, image_size, anchors, sizes, settings, **more)


def _words(classes: Iterable[str], tree: Sequence[Sequence[str | int]] | None) -> tuple[Classes, dict[str, Any]]:
    names = Classes(classes)
    if not len(names):
        raise InputError("a detector needs at least one class; give classes=[…] with their names")
    words = WordTree.flat(names) if tree is None else WordTree(tree)
    return names, {"tree": words, "outputs": len(words), "usual": YOLO_9000_ANCHORS, "usual_size": 544}


_PAPER = "Redmon and Farhadi 2017, YOLO9000: better, faster, stronger"

ENTRIES = (
    Entry(
        name="yolo_9000_darknet19", builder=yolo_9000_darknet19, task="detection", paper=_PAPER, backbone="darknet19"
    ),
    Entry(
        name="yolo_9000_mobilenet_v2",
        builder=yolo_9000_mobilenet_v2,
        task="detection",
        paper=_PAPER,
        backbone="mobilenet_v2",
    ),
)
