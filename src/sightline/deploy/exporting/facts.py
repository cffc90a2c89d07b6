"""What an exported file says about itself: JSON values in the metadata of the ONNX model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import sightline
from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.keep_size import KeepSize
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.models.saving import own_facts
from sightline.models.spatial.cube_rcnn import CubeRCNN
from sightline.structures import Classes

FORMAT = "sightline onnx 1"
_TEXTS = ("version", "model", "task", "kind", "dtype", "images")
"""The entries that are texts."""
_TYPES = {"classes": list, "preprocess": dict, "outputs": dict, "metadata": dict, "fixed_size": bool}
"""The entries that are JSON, and the types of their values."""
FOCAL = "assumed_focal"
"""The entry of files that take cameras: the focal length of images without one, in heights of the image."""


def facts_of(model: Model, kind: str, outputs: Mapping[str, str], dtype: str, fixed: bool) -> dict[str, str]:
    """The metadata of an exported model: strings by name; lists and objects are JSON.

    Args:
        model: the model.
        kind: kind of its results (`Part.kind`).
        outputs: meaning of each output by name.
        dtype: dtype of the images, "uint8" or "float32".
        fixed: whether the network itself has a fixed input size (images of any size are resized to it).
    """
    values: dict[str, Any] = {
        "classes": list(model.classes),
        "preprocess": preprocess_facts(model),
        "outputs": dict(outputs),
        "metadata": own_facts(model),
        "fixed_size": fixed,
    }
    named = {"format": FORMAT, "version": sightline.__version__, "model": model.name, "task": model.task, "kind": kind}
    if isinstance(model, CubeRCNN):
        named[FOCAL] = json.dumps(model.assumed_focal)
    images = f"[N, {model.in_channels}, H, W] {dtype}{'' if dtype == 'uint8' else ', 0 to 1'}, all of one size"
    return {
        **named,
        "dtype": dtype,
        "images": images,
        **{name: json.dumps(value, default=str) for name, value in values.items()},
    }


def preprocess_facts(model: Model) -> dict[str, Any]:
    """The preprocessing inside the file, as JSON values."""
    p = model.preprocess
    return {
        "description": p.extra_repr(),
        "kind": type(p).__name__,
        "mean": p.mean.flatten().tolist(),
        "std": p.std.flatten().tolist(),
        "min_size": p.min_size,
        "max_size": p.max_size,
        "fixed_size": p.fixed_size,
        "divisor": p.divisor,
        "antialias": p.antialias,
        "interpolation": p.interpolation,
        "centre_crop": model.crop if isinstance(model, ImageClassifier) else None,
    }


def read_facts(found: Mapping[str, str], where: str) -> dict[str, Any]:
    """The metadata of a file, with JSON values read.

    Raises:
        InputError: the file was not written by Sightline, or by a later version, or its metadata is damaged.
    """
    if not found.get("format", "").startswith("sightline onnx"):
        raise InputError(
            f"{where}: this ONNX file was not written by Sightline, so its inputs and classes are unknown; export a "
            "model with sightline export"
        )
    if found["format"] != FORMAT:
        raise InputError(
            f"{where}: written by Sightline {found.get('version', 'of a later version')} as {found['format']!r}, which "
            f"this version {sightline.__version__} does not know; install a later version"
        )
    try:
        facts = {name: json.loads(value) if name in (*_TYPES, FOCAL) else value for name, value in found.items()}
        wrong = _wrong(facts)
    except json.JSONDecodeError as error:
        wrong = str(error)
    if wrong:
        raise InputError(f"{where}: its metadata is damaged ({wrong}); export the model again")
    return facts


def _wrong(facts: Mapping[str, Any]) -> str:
    """What is wrong with the entries of a file in a few words; empty if nothing is."""
    missing = [name for name in (*_TEXTS, *_TYPES) if name not in facts]
    if missing:
        return f"there is no {missing[0]}"
    for name, kind in _TYPES.items():
        if not isinstance(facts[name], kind):
            return f"{name} is {str(facts[name])[:60]}"
    focal = facts.get(FOCAL, 1.0)
    if not isinstance(focal, int | float) or not 0 < focal < math.inf:
        return f"{FOCAL} is {str(focal)[:60]}"
    if facts["dtype"] not in ("uint8", "float32"):
        return f"dtype is {facts['dtype'][:60]}"
    try:
        Classes(facts["classes"])
        preprocess_from(facts["preprocess"])
        str(facts["preprocess"]["description"])
    except InputError as error:
        return str(error)
    except KeyError as error:
        return f"preprocess has no {error}"
    except (IndexError, TypeError, ValueError, RuntimeError):
        return f"preprocess is {str(facts['preprocess'])[:60]}"
    return ""


def preprocess_from(facts: Mapping[str, Any]) -> Preprocess:
    """The preprocessing that a file contains, from `preprocess_facts`; it is used for sizes, not on images."""
    mean, std = facts["mean"], facts["std"]
    if facts["kind"] == "KeepSize":
        return KeepSize(mean, std, divisor=facts["divisor"])
    size = facts["fixed_size"]
    return Preprocess(
        mean,
        std,
        min_size=facts["min_size"],
        max_size=facts["max_size"],
        fixed_size=None if size is None else (int(size[0]), int(size[1])),
        divisor=facts["divisor"],
        antialias=facts["antialias"],
        interpolation=facts["interpolation"],
    )
