"""The catalog: names → builders. A builder is a plain function; the catalog adds published weights and nothing else."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.classification import classifier
from sightline.models.detection import faster_rcnn, localiser, ssdlite
from sightline.models.published import PUBLISHED, Published, coco_classes, find_published
from sightline.models.weights import load_weights, read_checkpoint
from sightline.structures import Classes


@dataclass(frozen=True)
class Entry:
    """A model by name.

    Attributes:
        name: in the catalog.
        builder: (classes, *, in_channels, …) → model.
        task: "detection", "classification".
        paper: where it is from.
        aliases: other names for it.
        backbone: catalog name of the classifier whose weights its backbone takes.
        start: arguments that suit a start from pretrained weights, unless given otherwise.
    """

    name: str
    builder: Callable[..., nn.Module]
    task: str
    paper: str
    aliases: tuple[str, ...] = ()
    backbone: str | None = None
    start: dict[str, Any] = field(default_factory=dict)


_FASTER = "Ren et al. 2015, Faster R-CNN; Lin et al. 2017, Feature pyramid networks"
_FROZEN = {"norm": "frozen", "trainable_layers": 3}

ENTRIES = (
    Entry(
        "faster_rcnn_resnet50_fpn",
        faster_rcnn.faster_rcnn_resnet50_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_resnet50_fpn_v2",
        faster_rcnn.faster_rcnn_resnet50_fpn_v2,
        "detection",
        "Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        ("fasterrcnn_resnet50_fpn_v2",),
        "resnet50",
        {"trainable_layers": 3},
    ),
    Entry(
        "faster_rcnn_resnet18_fpn",
        faster_rcnn.faster_rcnn_resnet18_fpn,
        "detection",
        _FASTER,
        (),
        "resnet18",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_mobilenet_v3_large_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v3_large_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_mobilenet_v3_large_fpn",),
        "mobilenet_v3_large",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_mobilenet_v3_large_320_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v3_large_320_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_mobilenet_v3_large_320_fpn",),
        "mobilenet_v3_large",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_mobilenet_v2_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v2_fpn,
        "detection",
        _FASTER,
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "ssdlite320_mobilenet_v3_large",
        ssdlite.ssdlite320_mobilenet_v3_large,
        "detection",
        "Howard et al. 2019, Searching for MobileNetV3",
        (),
        "mobilenet_v3_large",
        {"reduced_tail": False},
    ),
    Entry(
        "ssdlite320_mobilenet_v2",
        ssdlite.ssdlite320_mobilenet_v2,
        "detection",
        "Sandler et al. 2018, MobileNetV2",
        (),
        "mobilenet_v2",
    ),
    *(
        Entry(f"localiser_{backbone}", builder, "detection", "Krizhevsky et al. 2012; Redmon et al. 2016", (), backbone)
        for backbone, builder in (
            ("mobilenet_v2", localiser.localiser_mobilenet_v2),
            ("resnet18", localiser.localiser_resnet18),
        )
    ),
    *(
        Entry(name, getattr(classifier, name), "classification", paper)
        for names, paper in (
            (
                ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
                "He et al. 2016, Deep residual learning",
            ),
            (("alexnet",), "Krizhevsky et al. 2012, ImageNet classification; Krizhevsky 2014, One weird trick"),
            (
                ("vgg16", "vgg16_bn", "vgg19"),
                "Simonyan and Zisserman 2015, Very deep convolutional networks",
            ),
            (("mobilenet_v2",), "Sandler et al. 2018, MobileNetV2"),
            (("mobilenet_v3_small", "mobilenet_v3_large"), "Howard et al. 2019, Searching for MobileNetV3"),
        )
        for name in names
    ),
)

_BY_NAME = {name: entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}


def find(name: str) -> Entry:
    """The entry of a name or alias; an unknown one is refused with the nearest."""
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`sightline models` lists them."
        raise InputError(f"there is no model {name!r}; {hint}")
    return _BY_NAME[name]


def create_model(
    name: str,
    classes: Iterable[str] | None = None,
    weights: str | Path | None = None,
    *,
    in_channels: int = 3,
    **arguments: Any,
) -> nn.Module:
    """Build a model of the catalog and load weights into it.

    Args:
        name: of the catalog, or torchvision's for the same network.
        classes: names of the classes. May be left out where `weights` brings its own.
        weights: "coco" or "imagenet" for published weights (downloaded once); a local file (a whole model's, or a
            classifier's for the backbone); "hf://owner/repository/file" for a file of the Hugging Face hub; None starts
            from random numbers.
        in_channels: channels of the images.
        arguments: of the builder.

    Returns:
        The model; `model.weights_report` says what was loaded and what was left out.

    Raises:
        InputError: no such model, argument, or weights; classes are missing; the weights are another model's.
    """
    entry = find(name)
    _check_arguments(entry, arguments)
    names = None if classes is None else Classes(classes)
    published = _published(entry, weights)
    preset: dict[str, Any] = {}
    same_classes = True
    if published is not None and published.network == entry.name:
        preset = dict(published.arguments)
        own, slots = coco_classes() if published.data == "coco" else (published.outputs, None)
        names = names or Classes(own)
        same_classes = names == Classes(own)
        if slots is not None and same_classes:
            preset["slots"] = slots
    elif weights is not None:
        preset = dict(entry.start)
    if names is None:
        raise InputError(f"{entry.name} needs its classes: give classes=[…], for a dataset classes=data.classes")
    arguments = {k: v for k, v in preset.items() if k in _parameters(entry)} | arguments
    model: Any = entry.builder(names, in_channels=in_channels, **arguments)
    model.name = entry.name
    model.arguments = {"in_channels": in_channels, **arguments}
    model.weights_report = None
    if weights is not None:
        path = _locate(weights, published)
        state, metadata = read_checkpoint(path)
        if published is None and metadata.get("classes"):
            same_classes = list(names) == json.loads(metadata["classes"])
        model.weights_report = load_weights(model, state, str(path), same_classes=same_classes)
    return model


def models() -> list[dict[str, Any]]:
    """The catalog as rows: name, task, parameters (with 80 COCO or 1000 ImageNet classes), paper, published weights."""
    rows = []
    for entry in ENTRIES:
        count = 1000 if entry.task == "classification" else 80
        with torch.device("meta"):  # nothing is allocated or filled
            model = entry.builder([str(i) for i in range(count)])
        rows.append(
            {
                "name": entry.name,
                "task": entry.task,
                "parameters": sum(p.numel() for p in model.parameters()),
                "paper": entry.paper,
                "aliases": list(entry.aliases),
                "weights": {p.data: p.metric for p in PUBLISHED if p.network in (entry.name, entry.backbone)},
            }
        )
    return rows


def _published(entry: Entry, weights: str | Path | None) -> Published | None:
    """The published checkpoint that `weights` names: of the model itself, or of its backbone's classifier."""
    if weights is None or isinstance(weights, Path):
        return None
    if weights not in ("coco", "imagenet"):
        return next((p for p in PUBLISHED if Path(weights).name == p.file), None)
    found = find_published(entry.name, weights)
    if found is None and entry.backbone is not None:
        found = find_published(entry.backbone, weights)
    if found is None:
        known = [p.data for p in PUBLISHED if p.network in (entry.name, entry.backbone)]
        raise InputError(f"there are no {weights!r} weights for {entry.name}; there are {', '.join(known) or 'none'}")
    return found


def _locate(weights: str | Path, published: Published | None) -> Path:
    """The local file of `weights`, downloaded where it is a published name or on the hub."""
    text = str(weights)
    if text.startswith("hf://"):
        from huggingface_hub import hf_hub_download

        owner, repository, file = [*text.removeprefix("hf://").split("/", 2), "", ""][:3]
        if not file:
            raise InputError(f"weights {text!r} must have the form hf://owner/repository/file")
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    if published is None or text not in ("coco", "imagenet"):
        return Path(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(published.url, str(path), published.hash_prefix)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{published.url} could not be downloaded ({error}); "
                "get the file another way and give its path as weights"
            ) from error
    return path


def _parameters(entry: Entry) -> list[str]:
    return [n for n, p in inspect.signature(entry.builder).parameters.items() if p.kind is p.KEYWORD_ONLY]


def _check_arguments(entry: Entry, arguments: dict[str, Any]) -> None:
    known = _parameters(entry)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}."
            raise InputError(f"{entry.name} has no argument {name!r}; {hint}")
