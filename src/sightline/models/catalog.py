"""The model catalog: builds models by name and loads weights into them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.arguments import (
    largest_whole,
    parameters,
    require_arguments,
    require_parameters,
    with_image_size,
    with_settings,
)
from sightline.models.by_task import shared
from sightline.models.classification import named as classifiers
from sightline.models.darknet import detector as darknet
from sightline.models.detection import (
    efficientdet,
    fast_rcnn,
    faster_rcnn,
    faster_rcnn_single,
    fcos,
    grid_sliding,
    keypoint_rcnn,
    light_head_rcnn,
    localiser,
    mask_rcnn,
    overfeat,
    pp_yolo,
    proposal_network,
    r_cnn,
    r_fcn,
    retinanet,
    sightline_detector,
    sightline_mask,
    sightline_pose,
    sliding_window,
    ssd,
    ssd_mobilenet,
    ssdlite,
    yolo_9000,
    yolo_v1,
    yolo_v2,
)
from sightline.models.entry import BACKBONE_ARGUMENTS
from sightline.models.entry import Entry as Entry
from sightline.models.model import Model
from sightline.models.published import (
    DATA,
    PUBLISHED,
    Published,
    class_names,
    coco_classes,
    find_published,
    is_installed,
    local_file,
)
from sightline.models.scene import densecap, iterative_message_passing, neural_motifs, video_captions
from sightline.models.segmentation import (
    deconvnet,
    deeplab_v3,
    fcn,
    fcn_resnet,
    full_resolution,
    lr_aspp,
    segnet,
    sliding_segmentation,
    unet,
)
from sightline.models.spatial import cube_rcnn, mesh_rcnn
from sightline.models.weights import head_fits, load_weights, read_checkpoint
from sightline.runtime import reading
from sightline.runtime.shapes import shapes_only
from sightline.runtime.values import require_whole
from sightline.structures import Classes
from sightline.words import did_you_mean

ENTRIES: list[Entry] = [
    *r_cnn.ENTRIES,
    *faster_rcnn.ENTRIES,
    *mask_rcnn.ENTRIES,
    *keypoint_rcnn.ENTRIES,
    *faster_rcnn_single.ENTRIES,
    *proposal_network.ENTRIES,
    *fast_rcnn.ENTRIES,
    *r_fcn.ENTRIES,
    *light_head_rcnn.ENTRIES,
    *localiser.ENTRIES,
    *sliding_window.ENTRIES,
    *grid_sliding.ENTRIES,
    *overfeat.ENTRIES,
    *sightline_detector.ENTRIES,
    *sightline_mask.ENTRIES,
    *sightline_pose.ENTRIES,
    *ssd.ENTRIES,
    *ssd_mobilenet.ENTRIES,
    *ssdlite.ENTRIES,
    *retinanet.ENTRIES,
    *fcos.ENTRIES,
    *pp_yolo.ENTRIES,
    *yolo_v1.ENTRIES,
    *yolo_v2.ENTRIES,
    *yolo_9000.ENTRIES,
    *darknet.ENTRIES,
    *efficientdet.ENTRIES,
    *densecap.ENTRIES,
    *cube_rcnn.ENTRIES,
    *sliding_segmentation.ENTRIES,
    *full_resolution.ENTRIES,
    *fcn.ENTRIES,
    *deconvnet.ENTRIES,
    *segnet.ENTRIES,
    *unet.ENTRIES,
    *fcn_resnet.ENTRIES,
    *deeplab_v3.ENTRIES,
    *lr_aspp.ENTRIES,
    *video_captions.ENTRIES,
    *mesh_rcnn.ENTRIES,
    *classifiers.ENTRIES,
    *iterative_message_passing.ENTRIES,
    *neural_motifs.ENTRIES,
]
"""All entries of the catalog."""

_BY_NAME = {name: entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}


NO_WEIGHTS = "none"
"""The name of random weights, for a training that would otherwise start from installed ones."""


def add(entry: Entry) -> None:
    """Add a model of your own to the catalog, for `create_model`, the command line, `save` and `load`.

    Args:
        entry: the new entry. The builder is called as `builder(classes, in_channels=…, …)`, with the arguments of
            `create_model`.

    Raises:
        InputError: the argument is not an `Entry`, or one of its names is taken.
    """
    if not isinstance(entry, Entry) or not entry.name:
        raise InputError(f"catalog.add takes an Entry(name=…, builder=…, task=…, paper=…), not {entry!r}")
    if any(entry is known for known in ENTRIES):
        return
    for name in (entry.name, *entry.aliases):
        if name in _BY_NAME:
            raise InputError(f"there is a model {name!r} in the catalog; give yours another name")
    ENTRIES.append(entry)
    _BY_NAME.update(dict.fromkeys((entry.name, *entry.aliases), entry))


def find(name: str) -> Entry:
    """The entry with this name or alias.

    Raises:
        InputError: there is no such model. The message suggests the nearest names.
    """
    if not isinstance(name, str):
        raise InputError(f"a model is built by its name, such as 'sightline_n', not by {name!r}")
    if name not in _BY_NAME:
        typed = _letters(name)
        near = [known for known in _BY_NAME if typed and typed in _letters(known)]
        near = sorted(near, key=lambda known: not _letters(known).startswith(typed))[:3]
        near = near or difflib.get_close_matches(name, _BY_NAME, 3, 0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`sightline models` lists them."
        raise InputError(f"there is no model {name!r}; {hint}")
    return _BY_NAME[name]


def is_known(name: str) -> bool:
    """Whether the catalog has a model with this name or alias; a model made without the catalog may have any name."""
    return name in _BY_NAME


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


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

            - "coco", "voc", "imagenet", "imagenet_v2", "imagenet_swag" or "imagenet_swag_linear" (see
              `sightline.models.published.DATA`): published weights, downloaded once;
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
    published = _published(entry, weights, arguments)
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
        known, preset = _brought(entry, published, state, metadata, names, str(path), arguments)
        if names is None and known is None:
            raise InputError(f"{_needs_classes(entry)}; {path} does not name its own")
        names = names or known
        same_classes = known is None or names == known
        if known is not None and not same_classes:
            trained = _trained(entry, metadata, known, preset, str(path))
            preset.pop("output_ids", None)
        if known is None:
            note = "the file does not name its classes; they are assumed to be the given ones, in this order"
        elif published is None and "classes" not in metadata:
            note = f"the file does not name its classes; from their number they are assumed to be {known!r}"
    preset = {k: v for k, v in preset.items() if k in parameters(entry)}
    arguments = preset | with_settings(entry, given, preset)
    assert names is not None  # given, or known from the weights
    model = _built(entry, names, in_channels, arguments)
    if path is not None:
        model.weights_report = load_weights(
            model, state, str(path), same_classes=same_classes, trained=trained, note=note
        )
        _remember(model, metadata, str(path))
    model.weights_given = None if weights is None else str(weights)
    return model


def installed_start(name: str, arguments: Mapping[str, Any]) -> Published | None:
    """The ImageNet weights of a model or of its backbone's classifier if they are installed; else None.

    Args:
        name: the model's name.
        arguments: the arguments of its builder, which may name the backbone.
    """
    entry = find(name)
    networks = (entry.name, entry.classifier(arguments))
    found = next((p for n in networks if n is not None and (p := find_published(n, "imagenet")) is not None), None)
    return found if found is not None and is_installed(found) else None


def _remember(model: Model, metadata: dict[str, str], where: str) -> None:
    """Keep the record of the training images of a saved model whose weights were loaded."""
    kept = saved_entry(metadata, "metadata", where, dict) if "metadata" in metadata else {}
    if "trained_on" in kept:
        model.metadata = {"trained_on": kept["trained_on"]}


def _built(entry: Entry, names: Classes, in_channels: int, arguments: dict[str, Any]) -> Model:
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
    assert names is not None  # given, or brought by the weights
    model = _built(entry, names, in_channels, arguments)
    load_darknet_weights(network_of(model), file)
    return model


def saved_arguments(metadata: dict[str, str], where: str) -> dict[str, Any]:
    """The builder's arguments, from the metadata of a file written by `sightline.models.saving.save`.

    Raises:
        InputError: an entry of the metadata is missing, or the builder does not accept an argument.
    """
    saved_entry(metadata, "model", where)
    arguments = saved_entry(metadata, "arguments", where, dict)
    try:
        entry = find(metadata["model"])
        arguments = with_image_size(entry, arguments)
        require_arguments(entry, {k: v for k, v in arguments.items() if k != "in_channels"})
        if "antialiased" not in metadata.get("preprocess", "antialiased"):
            arguments = _without_antialiasing(entry) | arguments  # saved before antialiasing was an option
        return with_settings(entry, arguments)
    except InputError as error:
        own = " A model of your own must be added to sightline.models.catalog before its file is loaded."
        known = metadata["model"] in _BY_NAME
        raise InputError(f"{where}: {error}{'' if known else own}") from None


def saved_classes(metadata: dict[str, str], where: str) -> Classes:
    """The class names, from the metadata of a saved model's file. Raises the same errors as `saved_arguments`."""
    names = saved_entry(metadata, "classes", where, list)
    try:
        return Classes(names)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def saved_entry(metadata: dict[str, str], name: str, where: str, kind: type = str) -> Any:
    """An entry of a saved model's metadata: a string, or a value of type `kind` decoded from JSON.

    Raises:
        InputError: the entry is missing, is not valid JSON, or has a different type.
    """
    if name not in metadata:
        raise InputError(f"{where} lacks the entry {name!r} of a saved model; save the model again")
    return metadata[name] if kind is str else reading.parse_json(metadata[name], f"{where}, its entry {name!r}", kind)


def _without_antialiasing(entry: Entry) -> dict[str, Any]:
    """Preprocessing arguments of classifiers and segmenters saved before antialiasing was an option."""
    known = shared(entry.task).before_antialiasing
    return {name: value for name, value in known.items() if name in parameters(entry)}


@checked_keywords
def models(task: str | None = None, weights: str | None = None) -> list[dict[str, Any]]:
    """List the models of the catalog.

    Args:
        task: list only models of this task, such as "segmentation".
        weights: list only models with published weights for this dataset, such as "imagenet". This includes weights of
            the backbone. "coco" includes "voc", which is COCO's images with Pascal VOC's classes.

    Returns:
        One dictionary per model: name, task, number of parameters, paper, aliases, and published weights with their
        metrics. The number of parameters is that of the published model, with 1000 ImageNet classes, VOC's 21 classes
        or COCO's 91 outputs; frozen normalisation layers are not counted.

    Raises:
        InputError: there is no such task or dataset. The message lists those that exist.
    """
    tasks = list(dict.fromkeys(entry.task for entry in ENTRIES))
    for what, value, known in (("task", task, tasks), ("data of published weights", weights, list(DATA))):
        if value is not None and value not in known:
            sentences = [did_you_mean(value, known, ""), f"there are {', '.join(known)}"]
            raise InputError(f"there is no {what} {value!r}; {' '.join(filter(None, sentences))}")
    data = {"coco", "voc"} if weights == "coco" else {weights}
    rows = []
    for entry in ENTRIES:
        published = {p.data: p.metric for p in PUBLISHED if p.network in (entry.name, entry.classifier())}
        if (task is not None and entry.task != task) or (weights is not None and not data & published.keys()):
            continue
        with shapes_only():  # allocates no memory
            model = as_published(entry)
        rows.append(
            {
                "name": entry.name,
                "task": entry.task,
                "parameters": sum(p.numel() for p in model.parameters()),
                "paper": entry.paper,
                "aliases": list(entry.aliases),
                "weights": published,
            }
        )
    return rows


def as_published(entry: Entry, given: Mapping[str, Any] | None = None) -> Model:
    """The model with the classes and arguments of its published weights (or the usual ones), and with those `given`."""
    classes, arguments = _published_head(entry)
    return entry.build(classes, **{k: v for k, v in arguments.items() if k in parameters(entry)} | dict(given or {}))


def _published_head(entry: Entry, published: Published | None = None) -> tuple[Classes, dict[str, Any]]:
    """The classes of an entry's published weights (or the usual ones), and the builder's arguments for them."""
    data = shared(entry.task).published_data
    if published is None or published.network != entry.name:
        published = find_published(entry.name, data)
    arguments = dict(published.arguments if published is not None else entry.start)
    if data != "coco":
        return Classes(class_names(data)), arguments
    if published is not None and published.person_only:
        return Classes(["person"]), arguments
    names, output_ids = coco_classes()
    if "output_ids" in parameters(entry):
        arguments["output_ids"] = output_ids
    return Classes(names), arguments


def _brought(
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
    classes, arguments = _published_head(entry, published)
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


def _trained(
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


def _published(entry: Entry, weights: str | Path | None, arguments: Mapping[str, Any]) -> Published | None:
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
