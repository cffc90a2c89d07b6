"""Darknet's files, `.cfg` and `.weights`, as models: YOLO v1 to v3 and classifiers as their author published them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sightline.errors import InputError
from sightline.models.darknet.cfg import HEADS, classes_of, read_cfg
from sightline.models.darknet.detector import (
    SETTINGS,
    DarknetClassifier,
    DarknetDetector,
    DarknetSettings,
    build,
    darknet,
)
from sightline.models.darknet.network import DarknetNetwork
from sightline.models.darknet.weights import load_darknet_weights, save_darknet_weights
from sightline.models.model import Model
from sightline.models.published import coco_classes
from sightline.runtime import reading


def load_darknet(
    cfg: str | Path,
    weights: str | Path | None = None,
    names: str | Path | Iterable[str] | None = None,
    *,
    layers: int | None = None,
    letterbox: bool | None = None,
    settings: DarknetSettings = SETTINGS,
) -> DarknetDetector | DarknetClassifier:
    """A darknet model, in evaluation mode. It runs, trains, is saved (`sightline.save`) and exported like any other.

    Args:
        cfg: the `.cfg` file, or its text.
        weights: the `.weights` file; None starts from random numbers.
        names: names of the classes, in order: a `.names` file with one name per line, or the names. Without them, 80
            classes are taken for COCO's, others are called "class 0" ….
        layers: the weights contain only this number of first layers; None for all.
        letterbox: whether images keep their aspect ratio; None: as letter_box of the file says, else as darknet does,
            for [yolo] and [region]. False for models of the later fork of darknet, which stretches images unless told
            otherwise.
        settings: thresholds.

    Returns:
        A `DarknetDetector`, or a `DarknetClassifier` where no section gives boxes.

    Raises:
        InputError: a file cannot be read or does not fit the others; the sentence names it, and the line or layer.
    """
    sections = read_cfg(cfg)
    heads = [section for section in sections if section.kind in HEADS]
    if heads:
        count = classes_of(heads[0])
    else:
        channels, rows, columns = DarknetNetwork(sections).shapes[-1]
        count = channels * rows * columns
    model = build(sections, _names(names, count), letterbox, settings)
    model.name = "darknet"
    given = {"in_channels": model.in_channels, "cfg": model.cfg, "letterbox": letterbox, "settings": settings}
    model.arguments = {name: value for name, value in given.items() if value is not None}
    if weights is not None:
        load_darknet_weights(network_of(model), weights, layers)
    return model.eval()


def network_of(model: Model) -> DarknetNetwork:
    """The layers of a model, whose numbers `save_darknet_weights` writes."""
    found = model.net if isinstance(model, DarknetDetector) else model.network
    assert isinstance(found, DarknetNetwork)
    return found


def _names(names: str | Path | Iterable[str] | None, count: int) -> list[str]:
    if names is None:
        return coco_classes()[0] if count == 80 else [f"class {i}" for i in range(count)]
    source = "names"
    if isinstance(names, str | Path):
        source = str(names)
        lines = reading.read_text(names).splitlines()
        names = [line.strip() for line in lines if line.strip()]
    found = list(names)
    if len(found) != count:
        raise InputError(
            f"{source}: {len(found)} names, but the .cfg file has {count} classes; give one name per class"
        )
    return found


__all__ = [
    "DarknetClassifier",
    "DarknetDetector",
    "DarknetNetwork",
    "DarknetSettings",
    "darknet",
    "load_darknet",
    "load_darknet_weights",
    "network_of",
    "save_darknet_weights",
]
