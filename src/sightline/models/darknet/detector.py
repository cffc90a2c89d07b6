"""Models built from darknet's `.cfg` files: detectors, or classifiers if there is no head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.class_outputs import Output
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.darknet.cfg import HEADS, Section, read_cfg, render_cfg, with_classes
from sightline.models.darknet.heads import heads_of
from sightline.models.darknet.network import DarknetNetwork
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.models.detection.candidates import DenseCandidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.yolo_v1 import LEAST_SIDE
from sightline.models.entry import Entry
from sightline.models.model import Losses, Model
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class DarknetSettings:
    """Thresholds and limits of the detections.

    Attributes:
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        candidates: maximum number of (box, class) pairs per image before NMS.
        max_detections: maximum number of detections per image.
    """

    min_score: float = 0.005
    nms_iou: float = 0.45
    candidates: int = 1000
    max_detections: int = 100


class _Described(Model):
    """Arguments of a model that hold the text of its `.cfg`, not the name of a file that may be elsewhere."""

    cfg: str
    _arguments: dict[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the builder, as `save` keeps them."""
        given = self._arguments
        return given | {"cfg": self.cfg} if given.get("cfg") is not None else given

    @arguments.setter
    def arguments(self, values: dict[str, Any]) -> None:
        self._arguments = values


class DarknetDetector(_Described, Detector):
    """Layers of the file → maps → heads → boxes.

    Args:
        classes: names of the K classes, as many as every head has.
        sections: of `read_cfg`.
        letterbox: as in `DarknetPreprocess`; None: as letter_box of the file says, else as darknet does for its kind of
            head.
        settings: thresholds.

    Departures from darknet: the greatest factor on an anchor is e^10; objectness of [yolo] and [region] starts at 0.01
    and not at 0.5; statistics of normalisations move by a tenth a step, not by a hundredth; [region] is not drawn to
    its anchors during the first 12 800 images. The terms of later files' losses (iou_loss, …_normalizer) are read over.
    """

    background_output = False
    origin = "anchor"
    recipe_defaults: dict[str, Any] = {"clip_norm": 35.0}  # losses are sums over an image, so gradients are large

    def __init__(
        self,
        classes: Iterable[str],
        sections: Sequence[Section],
        letterbox: bool | None = None,
        settings: DarknetSettings | None = None,
    ):
        net = DarknetNetwork(sections)
        grids = [net.sections[i].kind == "detection" for i in net.heads]
        channels, height, width = net.input_shape
        if letterbox is None:
            letterbox = bool(sections[0].whole("letter_box", 0 if any(grids) else 1))
        super().__init__(classes, DarknetPreprocess(channels, (height, width), letterbox))
        self.net, self.heads = net, heads_of(net)
        self.cfg = render_cfg(sections)
        self.settings = settings or DarknetSettings()
        self.class_layers = rf"^net\.layers\.({'|'.join(str(i - 1) for i in net.heads)})\."
        for i, head in zip(net.heads, self.heads, strict=True):
            if head.num_classes != len(self.classes):
                raise net.sections[i].error(f"classes={head.num_classes}, but {len(self.classes)} names were given")
            head.start(net.layers[i - 1])

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """The outputs that the head after this layer reads."""
        layer = int(key.split(".")[2]) + 1
        head = next(head for i, head in zip(self.net.heads, self.heads, strict=True) if i == layer)
        return head.class_outputs(self.output_names, shape)

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the losses."""
        canvas: Size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        outputs = self.split(self.network(batch.tensor))
        if targets is None:
            return self.decode(outputs, canvas), {}
        return [], self.losses(outputs, self.assign(outputs, targets, canvas), targets, canvas)

    def network(self, images: Tensor) -> list[Tensor]:
        """Batch [N, C, H, W] → the map of each head [N, C_i, H_i, W_i], before any activation."""
        return self.net(images)

    def split(self, maps: Sequence[Tensor]) -> list[Any]:
        """Maps → the parts of each: `heads.Outputs`, or `yolo_v1.Outputs` for [detection]."""
        return [head.split(x) for head, x in zip(self.heads, maps, strict=True)]

    def assign(self, outputs: Sequence[Any], targets: Sequence[Instances], canvas: Size) -> list[Any]:
        """What each place of each head should say. `canvas`: (height, width) of the batch."""
        return [head.assign(out, targets, canvas) for head, out in zip(self.heads, outputs, strict=True)]

    def losses(
        self, outputs: Sequence[Any], assigned: Sequence[Any], targets: Sequence[Instances], canvas: Size
    ) -> Losses:
        """ "loss_centre", "loss_size", "loss_objectness", "loss_no_object" and "loss_classification", each the sum over
        all heads."""
        total: Losses = {}
        for head, out, matches in zip(self.heads, outputs, assigned, strict=True):
            for name, value in head.losses(out, matches, targets, canvas).items():
                total[name] = total[name] + value if name in total else value
        return total

    @torch.no_grad()
    def decode(self, outputs: Sequence[Any], canvas: Size) -> Detections:
        """The best boxes of each image after per-class NMS; labels are 1 … K."""
        s, results = self.settings, []
        boxes, scores = self.placed(outputs, canvas)
        for score, own in zip(scores, boxes, strict=True):
            values, ids = score.flatten().topk(min(s.candidates, score.numel()))
            ids = ids[values > s.min_score]
            place, label, value = ids // score.shape[1], ids % score.shape[1] + 1, values[: len(ids)]
            found = clip_boxes_to_image(own[place], canvas)
            solid = (found[:, 2:] > found[:, :2]).all(1)
            found, label, value = found[solid], label[solid], value[solid]
            keep = batched_nms(found, value, label, s.nms_iou)[: s.max_detections]
            results.append({"boxes": found[keep], "labels": label[keep], "scores": value[keep]})
        return results

    def placed(self, outputs: Sequence[Any], canvas: Size) -> tuple[Tensor, Tensor]:
        """Boxes [N, D, 4] in pixels of the batch, not clipped, and scores [N, D, K] of all heads."""
        pairs = list(zip(self.heads, outputs, strict=True))
        boxes = torch.cat([head.boxes(out, canvas) for head, out in pairs], 1)
        return boxes, torch.cat([head.scores(out) for head, out in pairs], 1)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`: the predictions of all heads, each of which is a level. Pixels are those of the
        canvas, letterbox included."""
        canvas: Size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        outputs = self.split(self.network(batch.tensor))
        pairs = list(zip(self.heads, outputs, strict=True))
        logits = torch.cat([head.logits(out) for head, out in pairs], 1)
        origins = [head.origins(out, canvas) for head, out in pairs]
        boxes, scores = self.placed(outputs, canvas)
        counts = [own.shape[0] for own in origins]
        return DenseCandidates(boxes, logits, scores, torch.cat(origins), counts)

    def map_layers(self) -> list[nn.Module]:
        """The map that each head's last convolution reads."""
        return [self.net.map_before(i - 1) for i in self.net.heads]

    def selection(self) -> Selection:
        """Boxes that lie in the bars of the letterbox are removed afterwards."""
        s = self.settings
        return Selection(s.min_score, s.candidates, "image", LEAST_SIDE, "nms", s.nms_iou, s.max_detections)

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """As `Detector.finish`, out of the letterbox; what lies in its bars alone is dropped."""
        assert isinstance(self.preprocess, DarknetPreprocess)
        moved = []
        for fields, size in zip(found, batch.original_sizes, strict=True):
            boxes = self.preprocess.back(fields["boxes"], size)
            solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
            moved.append({name: v[solid] for name, v in (fields | {"boxes": boxes}).items()})
        return super().finish(moved, batch)


class DarknetClassifier(_Described, ImageClassifier):
    """A network without heads: its last numbers are logits. The shorter side of the image becomes the network's, and
    the middle is taken; values stay in [0, 1].

    Args:
        classes: names of the K classes, as many as it has outputs.
        sections: of `read_cfg`.
    """

    def __init__(self, classes: Iterable[str], sections: Sequence[Section]):
        network = DarknetNetwork(sections)
        channels, height, width = network.input_shape
        outputs, rows, columns = network.shapes[-1]
        if height != width:
            raise sections[0].error(f"width={width} and height={height}, but a classifier's image must be a square")
        preprocess = Preprocess([0.0] * channels, [1.0] * channels, min_size=width, max_size=None, divisor=1)
        Model.__init__(self, classes, preprocess)
        if outputs * rows * columns != len(self.classes):
            raise InputError(
                f"{sections[0].source}: without [yolo], [region] or [detection] it is a classifier, whose "
                f"{outputs * rows * columns} outputs are not the {len(self.classes)} classes; give as many names"
            )
        self.network = network
        self.crop, self.label_smoothing = width, 0.0
        weighted = network.weighted()
        self.head_is(f"layers.{weighted[-1][0] if weighted else -1}")
        self.cfg = render_cfg(sections)

    def map_layers(self) -> list[nn.Module]:
        """The last map before pooling and dense layers."""
        assert isinstance(self.network, DarknetNetwork)
        return [self.network.map_before(len(self.network.layers) - 1)]


SETTINGS = DarknetSettings()


def build(
    sections: Sequence[Section],
    classes: Iterable[str],
    letterbox: bool | None = None,
    settings: DarknetSettings = SETTINGS,
) -> DarknetDetector | DarknetClassifier:
    """The model of sections: a detector if one of them gives boxes."""
    if any(section.kind in HEADS for section in sections):
        return DarknetDetector(classes, sections, letterbox, settings)
    return DarknetClassifier(classes, sections)


def darknet(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    cfg: str | None = None,
    image_size: int | None = None,
    letterbox: bool | None = None,
    settings: DarknetSettings = SETTINGS,
) -> DarknetDetector | DarknetClassifier:
    """Build the model of a darknet `.cfg` file. Its heads are adapted to the number of classes.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images; it overrides that of the file.
        cfg: path of a .cfg file, or its text; None uses a small network similar to tiny YOLO v3.
        image_size: side of the square that images are resized to, in pixels; None uses the size in the file.
        letterbox: whether images keep their aspect ratio. None uses letter_box of the file, or else darknet's default,
            which is True for [yolo] and [region].
        settings: thresholds and limits of the detections.

    Raises:
        InputError: the file cannot be read or does not describe a network. The message names file, line and section.
    """
    names = Classes(classes)
    if not len(names):
        raise InputError("a darknet model needs at least one class; give classes=[…] with their names")
    sections = with_classes(read_cfg(TINY if cfg is None else cfg), len(names))
    sections[0] = sections[0].with_options(channels=in_channels)
    if image_size is not None:
        if image_size < 1:
            raise InputError(f"image_size is {image_size}, but must be at least 1 pixel")
        sections[0] = sections[0].with_options(width=image_size, height=image_size)
    return build(sections, names, letterbox, settings)


def _tiny() -> str:
    def conv(filters: int, size: int = 3) -> str:
        return (
            f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={size}\nstride=1\npad=1\nactivation=leaky\n"
        )

    def head(mask: str) -> str:
        anchors = "6,8, 14,17, 23,36, 50,51, 83,104, 212,196"  # of YOLO v3's tiny network, for 256 instead of 416
        return (
            "[convolutional]\nfilters=18\nsize=1\nstride=1\npad=1\nactivation=linear\n"
            f"[yolo]\nmask={mask}\nanchors={anchors}\nclasses=1\nnum=6\nignore_thresh=.7\ntruth_thresh=1\n"
        )

    pool = "[maxpool]\nsize=2\nstride=2\n"
    trunk = "".join(conv(c) + pool for c in (16, 32, 64, 128))
    coarse = conv(256) + pool + conv(256) + conv(128, 1) + conv(256) + head("3,4,5")
    fine = "[route]\nlayers=-4\n" + conv(64, 1) + "[upsample]\nstride=2\n[route]\nlayers=-1,8\n" + conv(128)
    return "[net]\nwidth=256\nheight=256\nchannels=3\n" + trunk + coarse + fine + head("0,1,2")


TINY = _tiny()
"""The `.cfg` text of a small network with YOLO v3's layers: two heads, at strides 32 and 16."""


ENTRIES = (
    Entry(
        name="darknet",
        builder=darknet,
        task="detection",
        paper="Redmon and Farhadi 2018, YOLOv3; the files of darknet, their program",
    ),
)
