"""Outputs, targets and losses of darknet's heads [yolo], [region] and [detection].

YOLO v3 (Redmon and Farhadi 2018, section 2), YOLO v2 (Redmon and Farhadi 2017, "YOLO9000", section 2) and YOLO v1.
Boxes are xyxy in pixels of the batch; labels of targets are 1 … K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.class_outputs import NO_CLASS, Output, outputs_in_groups
from sightline.models.darknet.cfg import Section, classes_of
from sightline.models.darknet.layers import Convolution
from sightline.models.darknet.network import DarknetNetwork, Shape, require_head_width
from sightline.models.detection.yolo_v1 import Assignment, YOLOv1, YOLOv1Settings, grid_cells
from sightline.models.detection.yolo_v1 import Outputs as GridOutputs
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import box_convert, box_iou, elementwise_iou
from sightline.structures import Instances, Size

_MOST = 10.0  # a width of e^10 anchors is beyond any image, and finite
_LEAST_SIDE = 1e-2  # pixels; the logarithm of an object without width or height must be finite


class Outputs(NamedTuple):
    """Outputs of a head with anchors for D = A · h · w predictions, before any activation.

    Attributes:
        places: [N, D, 4], (x, y) inside the cell, and (width, height) relative to the anchor.
        objectness: [N, D].
        classes: [N, D, K].
        size: (h, w) of the map; predictions are in the order of anchors, rows and cells.
    """

    places: Tensor
    objectness: Tensor
    classes: Tensor
    size: Size


class Matches(NamedTuple):
    """The targets of each prediction.

    Attributes:
        ids: [N, D] int64, index of its object, or −1.
        ignored: [N, D] bool, whether it is ignored: neither object nor background.
    """

    ids: Tensor
    ignored: Tensor


@dataclass(frozen=True)
class AnchorHead:
    """A [yolo] or [region] section.

    Attributes:
        kind: "yolo" or "region".
        num_classes: K.
        anchors: (width, height) of all anchors of the section: pixels of the image, or of [region] cells.
        mask: which of them this head predicts: A.
        softmax: classes exclude each other ([region] with softmax=1).
        grid: α of α·σ(x) − (α − 1) / 2, scale_x_y of later files.
        ignore_iou: predictions with a higher IoU with an object that they are not assigned to are not trained as
            background.
        truth_iou: predictions with a higher IoU with an object are assigned to it; 1 disables this.
        rescore: whether the target objectness is the IoU with the object instead of 1.
        weights: loss weights of boxes, objectness of objects, objectness of background, and classes.
    """

    kind: str
    num_classes: int
    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    softmax: bool = False
    grid: float = 1.0
    ignore_iou: float = 0.5
    truth_iou: float = 1.0
    rescore: bool = False
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    @classmethod
    def of(cls, s: Section) -> AnchorHead:
        """The head of a section."""
        numbers, count = s.numbers("anchors"), s.whole("num", 1, 1)
        if len(numbers) < 2 * count or min(numbers) <= 0:
            raise s.error(f"num={count} anchors need {2 * count} numbers above 0, but anchors has {len(numbers)}")
        anchors = tuple(zip(numbers[0 : 2 * count : 2], numbers[1 : 2 * count : 2], strict=True))
        classes = classes_of(s)
        if s.kind == "yolo":
            mask = tuple(s.whole_numbers("mask")) or tuple(range(count))
            if not all(0 <= m < count for m in mask) or len(set(mask)) < len(mask):
                raise s.error(f"mask={s.options.get('mask')} must name different ones of the anchors 0 to {count - 1}")
            ignore, truth = s.number("ignore_thresh", 0.5), s.number("truth_thresh", 1.0)
            return cls("yolo", classes, anchors, mask, False, s.number("scale_x_y", 1.0), ignore, truth)
        weights = tuple(
            s.number(f"{name}_scale", default)
            for name, default in (("coord", 1.0), ("object", 1.0), ("noobject", 1.0), ("class", 1.0))
        )
        softmax, rescore = bool(s.whole("softmax", 0)), bool(s.whole("rescore", 0))
        ignore = s.number("thresh", 0.5)
        return cls("region", classes, anchors, tuple(range(count)), softmax, 1.0, ignore, 1.0, rescore, weights)  # type: ignore[arg-type]

    @property
    def numbers(self) -> int:
        """Numbers a place."""
        return 5 + self.num_classes

    def channels(self, map_size: Size) -> Shape:
        """Shape of the map that it reads."""
        return (len(self.mask) * self.numbers, *map_size)

    def class_outputs(self, names: Sequence[str], shape: Sequence[int]) -> list[list[Output]]:
        """For each anchor box and objectness, then the classes."""
        found = outputs_in_groups(names, shape[0], own=5) if shape else None
        return [] if found is None else [found]

    def start(self, layer: nn.Module, prior: float = 0.01) -> None:
        """Let objectness start at `prior` everywhere: thousands of empty places do not drown the first steps."""
        conv = layer[0] if isinstance(layer, Convolution) else None
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.normal_(conv.weight, std=0.01)
            with torch.no_grad():
                conv.bias.view(-1, self.numbers)[:, 4] = -math.log((1 - prior) / prior)

    def split(self, x: Tensor) -> Outputs:
        """Map [N, A·(5 + K), h, w] → its parts, in float32."""
        n, _, h, w = x.shape
        rows = x.reshape(n, len(self.mask), self.numbers, h * w).transpose(2, 3).flatten(1, 2).float()
        return Outputs(rows[..., :4], rows[..., 4], rows[..., 5:], (h, w))

    def _shapes(self, size: Size, canvas: Size, like: Tensor) -> Tensor:
        """All anchors [all, 2] in pixels."""
        shapes = like.new_tensor(self.anchors)
        return shapes if self.kind == "yolo" else shapes * self._cell(size, canvas, like)

    @staticmethod
    def _cell(size: Size, canvas: Size, like: Tensor) -> Tensor:
        """Width and height of a cell in pixels."""
        return like.new_tensor([canvas[1] / size[1], canvas[0] / size[0]])

    def _own(self, size: Size, canvas: Size, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cell (column, row) and anchor in pixels of each place: [D, 2] both."""
        h, w = size
        row, column = torch.meshgrid(
            torch.arange(h, device=like.device), torch.arange(w, device=like.device), indexing="ij"
        )
        cells = torch.stack([column, row], -1).reshape(-1, 2).to(like.dtype).repeat(len(self.mask), 1)
        anchors = self._shapes(size, canvas, like)[list(self.mask)].repeat_interleave(h * w, 0)
        return cells, anchors

    def boxes(self, out: Outputs, canvas: Size) -> Tensor:
        """[N, D, 4] xyxy in pixels of a batch of `canvas` (height, width)."""
        cells, anchors = self._own(out.size, canvas, out.places)
        within = self.grid * out.places[..., :2].sigmoid() - (self.grid - 1) / 2
        centres = (cells + within) * self._cell(out.size, canvas, out.places)
        sides = anchors * out.places[..., 2:].clamp(max=_MOST).exp()
        return box_convert(torch.cat([centres, sides], -1), "cxcywh", "xyxy")

    def scores(self, out: Outputs) -> Tensor:
        """[N, D, K]: objectness times each class's probability."""
        classes = out.classes.softmax(-1) if self.softmax else out.classes.sigmoid()
        return out.objectness.sigmoid()[..., None] * classes

    def logits(self, out: Outputs) -> Tensor:
        """[N, D, K] of the classes."""
        return out.classes

    def origins(self, out: Outputs, canvas: Size) -> Tensor:
        """The anchors [D, 4] around the centres of their cells, xyxy in pixels of a batch of `canvas`."""
        cells, anchors = self._own(out.size, canvas, out.places)
        centres = (cells + 0.5) * self._cell(out.size, canvas, out.places)
        return box_convert(torch.cat([centres, anchors], -1), "cxcywh", "xyxy")

    @torch.no_grad()
    def assign(self, out: Outputs, targets: Sequence[Instances], canvas: Size) -> Matches:
        """Each object to the cell of its centre and, of ALL anchors of the section, the one most like it in shape; if
        the mask does not name that anchor, the object is another head's. Of several objects at a place the last.
        """
        boxes = self.boxes(out, canvas)
        (h, w), shapes = out.size, self._shapes(out.size, canvas, out.places)
        cell = self._cell(out.size, canvas, out.places)
        slots = torch.full((len(shapes),), -1, device=boxes.device)
        slots[list(self.mask)] = torch.arange(len(self.mask), device=boxes.device)
        ids = torch.full(boxes.shape[:2], -1, device=boxes.device)
        ignored = torch.zeros_like(ids, dtype=torch.bool)
        for i, target in enumerate(targets):
            if not len(target):
                continue
            centres, sides = box_convert(target.boxes.float(), "xyxy", "cxcywh").split(2, -1)
            alike = box_iou(F.pad(sides, (2, 0)), F.pad(shapes, (2, 0)))
            slot = slots[alike.nan_to_num().argmax(1)]
            column, row = torch.minimum((centres / cell).long().clamp(min=0), slots.new_tensor([w - 1, h - 1])).T
            here = slot >= 0
            place = (slot * h * w + row * w + column)[here]
            objects = torch.arange(len(target), device=boxes.device)[here]
            ids[i].scatter_reduce_(0, place, objects, "amax")
            overlap, nearest = box_iou(target.boxes.float(), boxes[i]).nan_to_num().max(0)
            ids[i] = torch.where((overlap > self.truth_iou) & (ids[i] < 0), nearest, ids[i])
            ignored[i] = (overlap > self.ignore_iou) & (ids[i] < 0)
        return Matches(ids, ignored)

    def losses(self, out: Outputs, matches: Matches, targets: Sequence[Instances], canvas: Size) -> Losses:
        """Sums over an image, averaged over the images.

        [yolo]: cross-entropy of x, y, objectness and each class for itself, half the square of width and height.
        [region]: half the squares of all but the classes; those, with softmax, by cross-entropy. Boxes count by 2 −
        the object's share of the image. The gradients are darknet's; but where `truth_iou` gives a place the object of
        another cell, the centre is drawn to the border between the two, not beyond; and of two objects at one place
        the last alone is learnt, where darknet's [yolo] learns the classes of both.
        """
        count = len(matches.ids)
        image, place = (matches.ids >= 0).nonzero(as_tuple=True)
        firsts = place.new_tensor([sum(len(t) for t in targets[:i]) for i in range(count)])
        at = firsts[image] + matches.ids[image, place]
        target_boxes = torch.cat([t.boxes for t in targets])[at].float()
        labels = torch.cat([t.labels for t in targets])[at] - 1
        cells, anchors = self._own(out.size, canvas, out.places)
        centres, sides = box_convert(target_boxes, "xyxy", "cxcywh").split(2, -1)
        sides = sides.clamp(min=_LEAST_SIDE)
        small = (2 - sides.prod(-1) / (canvas[0] * canvas[1]))[:, None]
        within = centres / self._cell(out.size, canvas, out.places) - cells[place]
        within = ((within + (self.grid - 1) / 2) / self.grid).clamp(0, 1)
        numbers, classes = out.places[image, place], out.classes[image, place]
        truth = (matches.ids >= 0).float()
        if self.rescore and len(place):
            own = self.boxes(out, canvas).detach()[image, place]
            truth[image, place] = elementwise_iou(own, target_boxes, eps=1e-12)
        box, positive, negative, of_class = self.weights
        logistic = _cross_entropy if self.kind == "yolo" else _half_square
        objectness = logistic(out.objectness, truth) * (~matches.ignored)
        held = matches.ids >= 0
        if self.softmax:
            kinds = F.cross_entropy(classes, labels, reduction="sum")
        else:
            kinds = _cross_entropy(classes, F.one_hot(labels, self.num_classes).float()).sum()
        terms = {
            "loss_centre": box * (logistic(numbers[:, :2], within) * small).sum(),
            "loss_size": box * (0.5 * (numbers[:, 2:] - (sides / anchors[place]).log()).square() * small).sum(),
            "loss_objectness": positive * objectness[held].sum(),
            "loss_no_object": negative * objectness[~held].sum(),
            "loss_classification": of_class * kinds,
        }
        return {name: value / count for name, value in terms.items()}


class GridHead:
    """A [detection] section: YOLO v1's grid, whose rules are those of `YOLOv1`.

    With sqrt=1 the network says the roots of the sides, and its loss is theirs; else the sides themselves. Departures
    from darknet: outputs are cut to [0, 1] for the scores, a negative side or root is a side of 0, and with softmax=1
    the loss of the classes goes through the softmax.
    """

    def __init__(self, s: Section):
        self.num_classes, self.grid, self.num = classes_of(s), s.whole("side", 7, 1), s.whole("num", 1, 1)
        self.softmax, self.roots = bool(s.whole("softmax", 0)), bool(s.whole("sqrt", 0))
        self.rescore = bool(s.whole("rescore", 0))
        coordinates, objects, no_objects, classes = (
            s.number(f"{name}_scale", 1.0) for name in ("coord", "object", "noobject", "class")
        )
        settings = YOLOv1Settings(coordinates, objects, no_objects, classes)
        names = [str(i) for i in range(self.num_classes)]
        self.rules = YOLOv1(names, Preprocess(), nn.Identity(), nn.Identity(), self.grid, self.num, settings)

    def channels(self, map_size: Size) -> Shape:
        """Shape of the map that it reads."""
        return self.grid**2 * (5 * self.num + self.num_classes), 1, 1

    def class_outputs(self, names: Sequence[str], shape: Sequence[int]) -> list[list[Output]]:
        """The classes of every cell, then all confidences and boxes, as in `split`."""
        count = self.grid**2 * len(names)
        classes = outputs_in_groups(names, count)
        if not shape or shape[0] <= count or classes is None:
            return []
        return [classes + [Output(NO_CLASS, (0, i)) for i in range(shape[0] - count)]]

    def start(self, layer: nn.Module) -> None:
        """Nothing is set: the outputs are linear."""

    def split(self, x: Tensor) -> GridOutputs:
        """[N, S·S·(K + 5·B)]: classes of all cells, then all confidences, then all places → those parts."""
        s, b, k = self.grid, self.num, self.num_classes
        classes, confidences, places = x.flatten(1).float().split([s * s * k, s * s * b, s * s * b * 4], 1)
        classes = classes.reshape(-1, s, s, k)
        places = places.reshape(-1, s, s, b, 4)
        return GridOutputs(places, confidences.reshape(-1, s, s, b), classes.softmax(-1) if self.softmax else classes)

    def _with_roots(self, out: GridOutputs) -> GridOutputs:
        """The outputs as `YOLOv1` reads them, whose boxes have roots of sides."""
        if self.roots:
            return out
        centres, sides = out.places.split(2, -1)
        return out._replace(places=torch.cat([centres, sides.clamp(min=0).sqrt()], -1))

    def boxes(self, out: GridOutputs, canvas: Size) -> Tensor:
        """[N, S·S·B, 4] xyxy in pixels of a batch of `canvas` (height, width)."""
        return self.rules.boxes_in(self._with_roots(out), [canvas] * len(out.places))

    def scores(self, out: GridOutputs) -> Tensor:
        """[N, S·S·B, K]."""
        return self.rules.scores(out)

    def logits(self, out: GridOutputs) -> Tensor:
        """[N, S·S·B, K]: the outputs of the classes, which all boxes of a cell share."""
        return self.rules.logits(out)

    def origins(self, out: GridOutputs, canvas: Size) -> Tensor:
        """The cells [S·S·B, 4], xyxy in pixels of a batch of `canvas`."""
        return grid_cells(canvas, self.grid, self.num, out.places.device)

    def assign(self, out: GridOutputs, targets: Sequence[Instances], canvas: Size) -> Assignment:
        """As `YOLOv1.assign`."""
        found = self.rules.assign(self._with_roots(out), targets)
        return found if self.rescore else found._replace(ious=torch.ones_like(found.ious))

    def losses(self, out: GridOutputs, matches: Assignment, targets: Sequence[Instances], canvas: Size) -> Losses:
        """As `YOLOv1.losses`; "loss_size" is that of the sides where the network says those."""
        if not self.roots:
            centres, roots = matches.places.split(2, -1)
            matches = matches._replace(places=torch.cat([centres, roots.square()], -1))
        return self.rules.losses(out, matches)


def heads_of(network: DarknetNetwork) -> list[Any]:
    """The heads of a network, an `AnchorHead` or a `GridHead` each.

    Raises:
        InputError: a head's keys do not fit the layer before it.
    """
    found: list[Any] = []
    for i in network.heads:
        section = network.sections[i]
        head = GridHead(section) if section.kind == "detection" else AnchorHead.of(section)
        require_head_width(network, i, head.channels(network.shapes[i][1:]))
        if isinstance(head, AnchorHead):
            _require_whole_cells(network, section, network.shapes[i][1:])
        found.append(head)
    return found


def _require_whole_cells(network: DarknetNetwork, section: Section, cells: Sequence[int]) -> None:
    _, height, width = network.input_shape
    if height % cells[0] or width % cells[1]:
        raise section.error(
            f"an image of {width}×{height} pixels does not divide into the {cells[1]}×{cells[0]} cells of its map; "
            "give a width and a height (image_size) that are multiples of 32"
        )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _half_square(logits: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (logits.sigmoid() - targets).square()
