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
from sightline.models.detection import (
    fast_rcnn,
    faster_rcnn,
    faster_rcnn_single,
    grid_sliding,
    keypoint_rcnn,
    light_head_rcnn,
    localiser,
    mask_rcnn,
    overfeat,
    proposal_network,
    r_cnn,
    r_fcn,
    sliding_window,
    ssdlite,
)
from sightline.models.published import PUBLISHED, Published, class_names, coco_classes, find_published, local_file
from sightline.models.weights import head_fits, load_weights, read_checkpoint
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.rpn import ProposalSettings
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


_SETTINGS = {"proposals": ProposalSettings, "boxes": BoxSettings, "settings": ssdlite.SSDSettings}
_SETTINGS |= {
    "windows": sliding_window.WindowSettings,
    "grid": grid_sliding.GridSettings,
    "locations": overfeat.OverFeatSettings,
}
_SETTINGS |= {"regions": r_cnn.RCNNSettings}
"""Arguments of builders that are settings."""

_FASTER = "Ren et al. 2015, Faster R-CNN; Lin et al. 2017, Feature pyramid networks"
_MASK = "He et al. 2017, Mask R-CNN"
_R_FCN = "Dai et al. 2016, R-FCN"
_LIGHT = "Li et al. 2017, Light-head R-CNN"
_FROZEN = {"norm": "frozen", "trainable_layers": 3}

ENTRIES = (
    *(
        Entry(
            f"r_cnn_{backbone}",
            builder,
            "detection",
            "Girshick et al. 2014, Rich feature hierarchies for accurate object detection and semantic segmentation",
            (),
            backbone,
        )
        for backbone, builder in (("mobilenet_v2", r_cnn.r_cnn_mobilenet_v2), ("resnet18", r_cnn.r_cnn_resnet18))
    ),
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
        "mask_rcnn_resnet50_fpn",
        mask_rcnn.mask_rcnn_resnet50_fpn,
        "detection",
        _MASK,
        ("maskrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
    ),
    Entry(
        "mask_rcnn_resnet50_fpn_v2",
        mask_rcnn.mask_rcnn_resnet50_fpn_v2,
        "detection",
        "He et al. 2017, Mask R-CNN; Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        ("maskrcnn_resnet50_fpn_v2",),
        "resnet50",
        {"trainable_layers": 3},
    ),
    Entry(
        "mask_rcnn_mobilenet_v2_fpn",
        mask_rcnn.mask_rcnn_mobilenet_v2_fpn,
        "detection",
        _MASK,
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "keypoint_rcnn_resnet50_fpn",
        keypoint_rcnn.keypoint_rcnn_resnet50_fpn,
        "detection",
        "He et al. 2017, Mask R-CNN, section 5",
        ("keypointrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
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
        _FROZEN | {"norm_eps": 1e-3},  # what the classifier was trained with
    ),
    Entry(
        "faster_rcnn_mobilenet_v3_large_320_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v3_large_320_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_mobilenet_v3_large_320_fpn",),
        "mobilenet_v3_large",
        _FROZEN | {"norm_eps": 1e-3},  # what the classifier was trained with
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
        "faster_rcnn_vgg16",
        faster_rcnn_single.faster_rcnn_vgg16,
        "detection",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "faster_rcnn_mobilenet_v2",
        faster_rcnn_single.faster_rcnn_mobilenet_v2,
        "detection",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "region_proposal_network_vgg16",
        proposal_network.region_proposal_network_vgg16,
        "proposal",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "region_proposal_network_mobilenet_v2",
        proposal_network.region_proposal_network_mobilenet_v2,
        "proposal",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "fast_rcnn_vgg16",
        fast_rcnn.fast_rcnn_vgg16,
        "detection",
        "Girshick 2015, Fast R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "fast_rcnn_mobilenet_v2",
        fast_rcnn.fast_rcnn_mobilenet_v2,
        "detection",
        "Girshick 2015, Fast R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    *(
        Entry(name, builder, "detection", paper, (), backbone, {"norm": "frozen", "trainable_layers": parts})
        for name, builder, paper, backbone, parts in (
            ("r_fcn_resnet50", r_fcn.r_fcn_resnet50, _R_FCN, "resnet50", 3),
            ("r_fcn_resnet101", r_fcn.r_fcn_resnet101, _R_FCN, "resnet101", 3),
            ("r_fcn_mobilenet_v2", r_fcn.r_fcn_mobilenet_v2, _R_FCN, "mobilenet_v2", 5),
            ("light_head_rcnn_resnet101", light_head_rcnn.light_head_rcnn_resnet101, _LIGHT, "resnet101", 3),
            ("light_head_rcnn_mobilenet_v2", light_head_rcnn.light_head_rcnn_mobilenet_v2, _LIGHT, "mobilenet_v2", 5),
        )
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
        Entry(f"{name}_{backbone}", getattr(module, f"{name}_{backbone}"), "detection", paper, (), backbone)
        for name, module, paper in (
            ("sliding_window", sliding_window, "Rowley, Baluja, Kanade 1998, Neural network-based face detection"),
            ("grid_sliding", grid_sliding, "Rowley, Baluja, Kanade 1998; Redmon et al. 2016, You only look once"),
        )
        for backbone in ("mobilenet_v2", "resnet18")
    ),
    *(
        Entry(f"overfeat_{variant}", builder, "detection", "Sermanet et al. 2014, OverFeat", (), backbone)
        for variant, builder, backbone in (
            ("fast", overfeat.overfeat_fast, None),
            ("accurate", overfeat.overfeat_accurate, None),
            ("mobilenet_v2", overfeat.overfeat_mobilenet_v2, "mobilenet_v2"),
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
        typed = _letters(name)
        near = [known for known in _BY_NAME if typed and typed in _letters(known)][:3]
        near = near or difflib.get_close_matches(name, _BY_NAME, 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`sightline models` lists them."
        raise InputError(f"there is no model {name!r}; {hint}")
    return _BY_NAME[name]


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


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
        classes: names of the classes. May be left out where `weights` brings its own: published weights of the whole
            model, a file that `save` wrote, and any local file whose head has as many outputs as the published one:
            1000 are taken for ImageNet's classes, a detector's 91 for COCO's 80.
        weights: "coco" or "imagenet" for published weights (downloaded once); a local file (a whole model's, or a
            classifier's for the backbone); "hf://owner/repository/file" for a file of the Hugging Face hub; None starts
            from random numbers. A head of other classes is left out; where a file does not name its classes and has
            as many as `classes`, they are taken to be the same, and the log says so.
        in_channels: channels of the images.
        arguments: of the builder. Those not given are the ones that suit the weights.

    Returns:
        The model; `model.weights_report` says what was loaded and what was left out.

    Raises:
        InputError: no such model, argument, or weights; classes are missing; the weights are another model's.
    """
    entry = find(name)
    _check_arguments(entry, arguments)
    if in_channels < 1:
        raise InputError(f"in_channels is {in_channels}, but images have at least one channel")
    names = None if classes is None else Classes(classes)
    published = _published(entry, weights)
    if names is None and (weights is None or (published is not None and published.network == entry.backbone)):
        raise InputError(_needs_classes(entry))  # before anything is downloaded
    preset: dict[str, Any] = {}
    same_classes, note, path = True, "", None
    if weights is not None:
        path = local_file(weights, published)
        state, metadata = read_checkpoint(path)
        known, preset = _brought(entry, published, state, metadata, names)
        if names is None and known is None:
            raise InputError(f"{_needs_classes(entry)}; {path} does not name its own")
        names = names or known
        same_classes = known is None or names == known
        if not same_classes:
            preset.pop("slots", None)
        if known is None:
            note = "the file does not name its classes; its head was taken to be of these, in this order"
        elif published is None and "classes" not in metadata:
            note = f"the file does not name its classes; by their number they were taken for {known!r}"
    arguments = {k: v for k, v in preset.items() if k in _parameters(entry)} | arguments
    model: Any = entry.builder(names, in_channels=in_channels, **arguments)
    model.name = entry.name
    model.arguments = {"in_channels": in_channels, **arguments}
    model.weights_report = None
    if path is not None:
        model.weights_report = load_weights(model, state, str(path), same_classes=same_classes, note=note)
    return model


def saved_arguments(metadata: dict[str, str]) -> dict[str, Any]:
    """The builder's arguments, from the metadata of a file that `sightline.models.saving.save` wrote."""
    arguments: dict[str, Any] = json.loads(metadata["arguments"])
    for key, kind in _SETTINGS.items():
        if isinstance(arguments.get(key), dict):
            arguments[key] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments[key].items()})
    return arguments


def models() -> list[dict[str, Any]]:
    """The catalog as rows: name, task, parameters, paper, aliases, published weights with their metrics.

    Parameters are those that learn or could, as published: with 1000 ImageNet classes, or with COCO's 91 outputs and
    frozen norms where the published detector has them.
    """
    rows = []
    for entry in ENTRIES:
        with torch.device("meta"):  # nothing is allocated or filled
            model = _as_published(entry)
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


def _as_published(entry: Entry) -> nn.Module:
    classes, arguments = _published_head(entry)
    return entry.builder(classes, **{k: v for k, v in arguments.items() if k in _parameters(entry)})


def _published_head(entry: Entry) -> tuple[Classes, dict[str, Any]]:
    """The classes that an entry's published weights have, or would have, and the builder's arguments for them."""
    data = "imagenet" if entry.task == "classification" else "coco"
    published = find_published(entry.name, data)
    arguments = dict(published.arguments if published is not None else entry.start)
    if data == "imagenet":
        return Classes(class_names(data)), arguments
    if published is not None and published.person_only:
        return Classes(["person"]), arguments
    names, slots = coco_classes()
    if "slots" in _parameters(entry):
        arguments["slots"] = slots
    return Classes(names), arguments


def _brought(
    entry: Entry,
    published: Published | None,
    state: dict[str, torch.Tensor],
    metadata: dict[str, str],
    wanted: Classes | None,
) -> tuple[Classes | None, dict[str, Any]]:
    """What a checkpoint says of the model: its classes, where they are known, and the builder's arguments."""
    ours = metadata.get("format", "").startswith("sightline model")
    if ours and metadata["model"] == entry.name:
        arguments = saved_arguments(metadata)
        arguments.pop("in_channels", None)
        return Classes(json.loads(metadata["classes"])), arguments
    classes, arguments = _published_head(entry)
    if published is not None and published.network == entry.name:
        return classes, arguments
    if not ours and wanted in (None, classes):
        with torch.device("meta"):
            if head_fits(_as_published(entry), state):
                return classes, arguments
    if not any(key.startswith("backbone.") for key in state):
        return None, dict(entry.start)  # a classifier's
    arguments.pop("slots", None)
    arguments.pop("norm_eps", None)  # a matter of that training, not of the network
    return Classes(json.loads(metadata["classes"])) if ours else None, arguments


def _needs_classes(entry: Entry) -> str:
    return f"{entry.name} needs its classes: give classes=[…], for a dataset classes=data.classes"


def _published(entry: Entry, weights: str | Path | None) -> Published | None:
    """The published checkpoint that `weights` names: of the model itself, or of its backbone's classifier."""
    if weights is None:
        return None
    if weights not in ("coco", "imagenet"):
        return next((p for p in PUBLISHED if Path(weights).name == p.file), None)
    found = find_published(entry.name, str(weights))
    if found is None and entry.backbone is not None:
        found = find_published(entry.backbone, str(weights))
    if found is None:
        known = [p.data for p in PUBLISHED if p.network in (entry.name, entry.backbone)]
        raise InputError(f"there are no {weights!r} weights for {entry.name}; there are {', '.join(known) or 'none'}")
    return found


def _parameters(entry: Entry) -> list[str]:
    return [n for n, p in inspect.signature(entry.builder).parameters.items() if p.kind is p.KEYWORD_ONLY]


def _check_arguments(entry: Entry, arguments: dict[str, Any]) -> None:
    known = _parameters(entry)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}."
            raise InputError(f"{entry.name} has no argument {name!r}; {hint}")
