"""Build a model of the catalog by its name, and load weights into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from sightline.errors import InputError
from sightline.models.arguments import (
    largest_whole,
    parameters,
    require_arguments,
    require_parameters,
    with_image_size,
    with_settings,
)
from sightline.models.catalog import as_published, find, published_head
from sightline.models.entry import BACKBONE_ARGUMENTS, Entry
from sightline.models.model import Model
from sightline.models.published import DATA, PUBLISHED, Published, find_published
from sightline.models.saved_metadata import saved_arguments, saved_classes, saved_entry
from sightline.models.weight_files import is_installed, local_file
from sightline.models.weights import head_fits, load_weights, read_checkpoint, require_weights
from sightline.runtime.shapes import shapes_only
from sightline.runtime.values import require_whole
from sightline.structures import Classes

NO_WEIGHTS = "none"
"""The name of random weights, for a training run that would otherwise start from installed ones."""


def create_model(
    name: str,
    classes: Iterable[str] | None = None,
    weights: str | Path | None = None,
    *,
    in_channels: int = 3,
    **arguments: Any,
) -> Model:
    """Build a model of the catalog and load weights into it.

    Args:
        name: name in the catalog, or torchvision's name of the same network.
        classes: names of the classes. They can be omitted if `weights` determines them: for published weights of the
            whole model, for a file written by `save`, and for any local file whose head has the same number of outputs
            as the published one (1000: ImageNet's classes; 91 for a detector: COCO's 80; 21 for a segmenter: VOC's).
        weights: one of

            - "coco", "voc", "imagenet", "imagenet_v2", "imagenet_swag", "imagenet_swag_linear" or "clutter" (see
              `sightline.models.published.DATA`): published weights, downloaded once or installed;
            - the path of a file: weights of the whole model, or of a classifier for the backbone (for `darknet` also a
              .weights file);
            - the folder of a run: its best model;
            - "hf://owner/repository/file": a file of the Hugging Face hub;
            - None or "none": random weights.

            If the classes differ, layers that depend on them keep the outputs of the classes that have the same name
            (case does not matter, and "_" is a space); the others start from random weights. If a file does not name
            its classes but has as many as `classes`, they are assumed to be the same, and this is logged.
        in_channels: number of channels of the images.
        arguments: arguments of the builder; their defaults depend on the weights. Settings can be given as a dictionary
            of the fields to change, such as `boxes={"samples": 32}`. Every model takes `image_size`, the size of the
            images inside the network in pixels. For a builder with `min_size` and `max_size`, it sets `min_size`, and
            `max_size` is scaled with it.

    Returns:
        The model. `model.weights_report` lists what was loaded and what was not.

    Raises:
        InputError: there is no such model, argument or weights; classes are missing; or the weights belong to a
            different model.
    """
    entry = find(name)
    weights = None if weights == NO_WEIGHTS else weights
    arguments = with_image_size(entry, arguments)
    require_arguments(entry, arguments)
    given, arguments = arguments, with_settings(entry, arguments)
    require_whole("in_channels", in_channels, 1, "channels", "give the number of channels of the images")
    names = None if classes is None else Classes(classes)
    if names is not None and not len(names):
        raise InputError(f"{entry.name} needs at least one class; give classes=[…] with their names")
    published = _find_published(entry, weights, arguments)
    if names is None and (
        weights is None or (published is not None and published.network == entry.classifier(arguments))
    ):
        raise InputError(_needs_classes(entry))  # before anything is downloaded
    preset: dict[str, Any] = {}
    same_classes, note, path, trained = True, "", None, None
    if str(weights).endswith(".weights"):
        return _with_darknet_weights(entry, names, str(weights), in_channels, arguments)
    if weights is not None:
        path = local_file(weights, published)
        state, metadata = read_checkpoint(path)
        known, preset = _checkpoint_head(entry, published, state, metadata, names, str(path), arguments)
        if names is None and known is None:
            raise InputError(f"{_needs_classes(entry)}; {path} does not name its own")
        names = names or known
        same_classes = known is None or names == known
        if known is not None and not same_classes:
            trained = _checkpoint_model(entry, metadata, known, preset, str(path))
            preset.pop("output_ids", None)
        if known is None:
            note = "the file does not name its classes; they are assumed to be the given ones, in this order"
        elif published is None and "classes" not in metadata:
            note = f"the file does not name its classes; from their number they are assumed to be {known!r}"
    preset = {k: v for k, v in preset.items() if k in parameters(entry)}
    arguments = preset | with_settings(entry, given, preset)
    assert names is not None  # given, or known from the weights
    model = _build(entry, names, in_channels, arguments)
    if path is not None:
        model.weights_report = load_weights(
            model, state, str(path), same_classes=same_classes, trained=trained, note=note
        )
        _restore_record(model, metadata, str(path))
    model.weights_given = None if weights is None else str(weights)
    return model


_SAME_LAYERS = {"in_channels", "image_size", "multi_scale", "norm", "norm_eps", "trainable_layers", "settings"}
"""Arguments of a builder that leave the layers of a network as they are."""


def checked_arguments(name: str, arguments: Mapping[str, Any], weights: str | Path | None = None) -> dict[str, Any]:
    """The arguments of a model's builder under their current names, checked without building the model.

    Args:
        name: name of the model in the catalog.
        arguments: arguments of `create_model`.
        weights: initial weights as for `create_model`; nothing is downloaded, and no file is opened.

    Raises:
        InputError: there is no such model, argument, setting or weights, or a value has the wrong type.
    """
    entry = find(name)
    given = with_image_size(entry, arguments)
    own = {key: value for key, value in given.items() if key != "in_channels"}
    require_arguments(entry, own)
    with_settings(entry, own)
    if weights not in (None, NO_WEIGHTS):
        _find_published(entry, weights, own)
        if weights not in DATA and not str(weights).startswith("hf://"):
            require_weights(weights)
    return given


def installed_start(name: str, arguments: Mapping[str, Any]) -> Published | None:
    """The published weights that training starts from by default; None if there are none or they are not installed.

    They are the ImageNet weights of the model or of its backbone's classifier or, of a model that has none, its weights
    from made-up images, if no argument changes its layers.

    Args:
        name: the model's name.
        arguments: the arguments of its builder, which may name the backbone.
    """
    entry = find(name)
    starts = [(entry.name, "imagenet"), (entry.classifier(arguments), "imagenet")]
    if arguments.keys() <= _SAME_LAYERS:
        starts.append((entry.name, "clutter"))
    found = next((p for n, data in starts if n is not None and (p := find_published(n, data)) is not None), None)
    return found if found is not None and is_installed(found) else None


def _restore_record(model: Model, metadata: dict[str, str], where: str) -> None:
    """Keep the record of the training images of a saved model whose weights were loaded."""
    kept = saved_entry(metadata, "metadata", where, dict) if "metadata" in metadata else {}
    if "trained_on" in kept:
        model.metadata = {"trained_on": kept["trained_on"]}


def _build(entry: Entry, names: Classes, in_channels: int, arguments: dict[str, Any]) -> Model:
    if entry.name == "darknet" or in_channels > 16 or largest_whole(arguments) > 2048:  # the model may be very large
        require_parameters(entry.name, lambda: entry.build(names, in_channels=in_channels, **arguments))
    model = entry.build(names, in_channels=in_channels, **arguments)
    model.name = entry.name
    model.arguments = {"in_channels": in_channels, **arguments}
    return model


def _with_darknet_weights(
    entry: Entry, names: Classes | None, file: str, in_channels: int, arguments: dict[str, Any]
) -> Model:
    """The model with the weights of a darknet file, which names neither layers nor classes."""
    from sightline.models.darknet import load_darknet_weights, network_of

    if entry.name != "darknet":
        raise InputError(
            f"{file}: a darknet .weights file fits only its own .cfg file; use the model darknet with cfg=FILE"
        )
    if names is None:
        raise InputError(_needs_classes(entry))
    model = _build(entry, names, in_channels, arguments)
    load_darknet_weights(network_of(model), file)
    return model


def _checkpoint_head(
    entry: Entry,
    published: Published | None,
    state: dict[str, torch.Tensor],
    metadata: dict[str, str],
    given_classes: Classes | None,
    where: str,
    given: Mapping[str, Any],
) -> tuple[Classes | None, dict[str, Any]]:
    """The classes of a checkpoint if they are known, and the builder's arguments for it."""
    ours = metadata.get("format", "").startswith("sightline model")
    if ours and saved_entry(metadata, "model", where) == entry.name:
        arguments = saved_arguments(metadata, where)
        arguments.pop("in_channels", None)
        return saved_classes(metadata, where), arguments
    classes, arguments = published_head(entry, published)
    if published is not None and published.network == entry.name:
        return classes, arguments
    if not ours and given_classes in (None, classes):
        with shapes_only():
            backbone = {k: v for k, v in given.items() if k in BACKBONE_ARGUMENTS}
            if head_fits(as_published(entry, backbone), state):
                return classes, arguments
    relative = metadata.get("task") == entry.task  # such as an FCN-32s for an FCN-16s
    if not relative and not any(key.startswith("backbone.") for key in state):
        return None, dict(entry.start)  # weights of a classifier
    arguments.pop("output_ids", None)
    arguments.pop("norm_eps", None)  # specific to that training, not to the network
    return saved_classes(metadata, where) if ours else None, arguments


def _checkpoint_model(
    entry: Entry, metadata: dict[str, str], known: Classes, preset: Mapping[str, Any], where: str
) -> Model | None:
    """The model that a checkpoint's weights belong to, without memory for them; None if it cannot be built.

    Its `class_outputs` tell which classes the outputs of its layers belong to.
    """
    try:
        if "model" in metadata:
            entry, arguments = find(metadata["model"]), saved_arguments(metadata, where)
        else:
            arguments = {name: value for name, value in preset.items() if name in parameters(entry)}
        with shapes_only():
            return entry.build(known, **arguments)
    except InputError:  # for example of a model that is no longer in the catalog
        return None


def _needs_classes(entry: Entry) -> str:
    return f"{entry.name} needs its classes: give classes=[…], or classes=data.classes for a dataset"


def _find_published(entry: Entry, weights: str | Path | None, arguments: Mapping[str, Any]) -> Published | None:
    """The published checkpoint named by `weights`, of the model itself or of its backbone's classifier; else None."""
    if weights is None:
        return None
    if weights not in DATA:
        return next((p for p in PUBLISHED if Path(weights).name == p.file), None)
    found, backbone = find_published(entry.name, str(weights)), entry.classifier(arguments)
    if found is None and backbone is not None:
        found = find_published(backbone, str(weights))
    if found is None:
        known = [p.data for p in PUBLISHED if p.network in (entry.name, backbone)]
        if not known:
            raise InputError(
                f"there are no published weights for {entry.name}, neither {weights!r} nor others; give a file or a "
                "run's folder, or leave weights out to train from random weights"
            )
        raise InputError(f"there are no {weights!r} weights for {entry.name}; there are {', '.join(known)}")
    return found
