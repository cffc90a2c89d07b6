"""The catalog: names → builders. A builder is a plain function; the catalog adds published weights and nothing else."""

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
    sliding_window,
    ssd,
    ssd_mobilenet,
    ssdlite,
    yolo_9000,
    yolo_v1,
    yolo_v2,
)
from sightline.models.entry import BACKBONE_ARGUMENTS, Entry
from sightline.models.model import Model
from sightline.models.published import DATA, PUBLISHED, Published, class_names, coco_classes, find_published, local_file
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
from sightline.models.weights import head_fits, load_weights, read_checkpoint
from sightline.runtime import reading
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
    *sliding_segmentation.ENTRIES,
    *full_resolution.ENTRIES,
    *fcn.ENTRIES,
    *deconvnet.ENTRIES,
    *segnet.ENTRIES,
    *unet.ENTRIES,
    *fcn_resnet.ENTRIES,
    *deeplab_v3.ENTRIES,
    *lr_aspp.ENTRIES,
    *classifiers.ENTRIES,
]
"""Every model by name."""

_BY_NAME = {name: entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}


def add(entry: Entry) -> None:
    """Give a model of one's own a name: `create_model`, the command line and saved files then know it.

    Args:
        entry: its row. The builder is called as builder(classes, in_channels=…, …), with the arguments that are given.

    Raises:
        InputError: it is no `Entry`, or one of its names is another model's.
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
    """The entry of a name or alias; an unknown one is refused with the nearest."""
    if not isinstance(name, str):
        raise InputError(f"a model is built by its name, such as 'sightline_n', not by {name!r}")
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
) -> Model:
    """Build a model of the catalog and load weights into it.

    Args:
        name: of the catalog, or torchvision's for the same network.
        classes: names of the classes. May be left out where `weights` brings its own: published weights of the whole
            model, a file that `save` wrote, and any local file whose head has as many outputs as the published one:
            1000 are taken for ImageNet's classes, a detector's 91 for COCO's 80, a segmenter's 21 for VOC's.
        weights: "coco", "voc", "imagenet" or "imagenet_v2" for published weights (downloaded once); a local file (a
            whole model's, or a classifier's for the backbone; for `darknet` also a .weights file), or a run's folder,
            whose best model is taken; "hf://owner/repository/file" for a file of the Hugging Face hub; None starts from
            random numbers. A head of other classes is left out; where a file does not name its classes and has as many
            as `classes`, they are taken to be the same, and the log says so.
        in_channels: channels of the images.
        arguments: of the builder. Those not given are the ones that suit the weights. Settings may be given as a
            dictionary of the numbers that differ from the model's own: boxes={"samples": 32}. Every model takes
            `image_size`, pixels inside the network; where a builder has `min_size` and `max_size` it is the former,
            and the latter keeps its ratio to it.

    Returns:
        The model; `model.weights_report` says what was loaded and what was left out.

    Raises:
        InputError: no such model, argument, or weights; classes are missing; the weights are another model's.
    """
    entry = find(name)
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
    same_classes, note, path = True, "", None
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
        if not same_classes:
            preset.pop("output_ids", None)
        if known is None:
            note = "the file does not name its classes; its head was taken to be of these, in this order"
        elif published is None and "classes" not in metadata:
            note = f"the file does not name its classes; by their number they were taken for {known!r}"
    preset = {k: v for k, v in preset.items() if k in parameters(entry)}
    arguments = preset | with_settings(entry, given, preset)
    assert names is not None  # given, or brought by the weights
    model = _built(entry, names, in_channels, arguments)
    if path is not None:
        model.weights_report = load_weights(model, state, str(path), same_classes=same_classes, note=note)
        _remember(model, metadata, str(path))
    model.weights_given = None if weights is None else str(weights)
    return model


def _remember(model: Model, metadata: dict[str, str], where: str) -> None:
    """What weights of a saved model were trained on, for they have seen those images."""
    kept = saved_entry(metadata, "metadata", where, dict) if "metadata" in metadata else {}
    if "trained_on" in kept:
        model.metadata = {"trained_on": kept["trained_on"]}


def _built(entry: Entry, names: Classes, in_channels: int, arguments: dict[str, Any]) -> Model:
    if entry.name == "darknet" or in_channels > 16 or largest_whole(arguments) > 2048:  # else it is of an ordinary size
        require_parameters(entry.name, lambda: entry.build(names, in_channels=in_channels, **arguments))
    model = entry.build(names, in_channels=in_channels, **arguments)
    model.name = entry.name
    model.arguments = {"in_channels": in_channels, **arguments}
    return model


def _with_darknet_weights(
    entry: Entry, names: Classes | None, file: str, in_channels: int, arguments: dict[str, Any]
) -> Model:
    """The model with the numbers of a darknet file, which names neither layers nor classes."""
    from sightline.models.darknet import load_darknet_weights, network_of

    if entry.name != "darknet":
        raise InputError(
            f"{file}: darknet's files hold the numbers of their own .cfg; take the model darknet, cfg=FILE"
        )
    if names is None:
        raise InputError(_needs_classes(entry))
    assert names is not None  # given, or brought by the weights
    model = _built(entry, names, in_channels, arguments)
    load_darknet_weights(network_of(model), file)
    return model


def saved_arguments(metadata: dict[str, str], where: str) -> dict[str, Any]:
    """The builder's arguments, from the metadata of a file that `sightline.models.saving.save` wrote.

    Raises:
        InputError: an entry of the file is missing, or is none that the builder takes.
    """
    saved_entry(metadata, "model", where)
    arguments = saved_entry(metadata, "arguments", where, dict)
    try:
        entry = find(metadata["model"])
        arguments = with_image_size(entry, arguments)
        require_arguments(entry, {k: v for k, v in arguments.items() if k != "in_channels"})
        if "antialiased" not in metadata.get("preprocess", "antialiased"):
            arguments = _without_antialiasing(entry) | arguments  # written before it could be chosen
        return with_settings(entry, arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def saved_classes(metadata: dict[str, str], where: str) -> Classes:
    """The class names, from the metadata of a saved model's file; errors as for `saved_arguments`."""
    names = saved_entry(metadata, "classes", where, list)
    try:
        return Classes(names)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def saved_entry(metadata: dict[str, str], name: str, where: str, kind: type = str) -> Any:
    """An entry of a saved model's metadata: a text, or of another kind the value of its JSON.

    Raises:
        InputError: it is missing, no JSON, or of another kind.
    """
    if name not in metadata:
        raise InputError(f"{where} lacks the entry {name!r} of a saved model; save the model again")
    return metadata[name] if kind is str else reading.parse_json(metadata[name], f"{where}, its entry {name!r}", kind)


def _without_antialiasing(entry: Entry) -> dict[str, Any]:
    """What classifiers and segmenters learnt with before their images were antialiased and of any length."""
    known = shared(entry.task).before_antialiasing
    return {name: value for name, value in known.items() if name in parameters(entry)}


@checked_keywords
def models(task: str | None = None, weights: str | None = None) -> list[dict[str, Any]]:
    """The catalog as rows: name, task, parameters, paper, aliases, published weights with their metrics.

    Parameters are those that learn or could, as published: with 1000 ImageNet classes, with VOC's 21, or with COCO's 91
    outputs and frozen norms where the published detector has them.

    Args:
        task: only models of this task, such as "segmentation".
        weights: only models with published weights of this data, such as "imagenet", their own or of their backbone.
            "coco" includes "voc", which is COCO's images with Pascal VOC's classes.

    Raises:
        InputError: there is no such task or data; the message names those there are.
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
        with torch.device("meta"):  # nothing is allocated or filled
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
    """The network with the classes and arguments that its published weights have, or would have, and those `given`."""
    classes, arguments = _published_head(entry)
    return entry.build(classes, **{k: v for k, v in arguments.items() if k in parameters(entry)} | dict(given or {}))


def _published_head(entry: Entry, published: Published | None = None) -> tuple[Classes, dict[str, Any]]:
    """The classes that an entry's published weights have, or would have, and the builder's arguments for them."""
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
    wanted: Classes | None,
    where: str,
    given: Mapping[str, Any],
) -> tuple[Classes | None, dict[str, Any]]:
    """What a checkpoint says of the model: its classes, where they are known, and the builder's arguments."""
    ours = metadata.get("format", "").startswith("sightline model")
    if ours and saved_entry(metadata, "model", where) == entry.name:
        arguments = saved_arguments(metadata, where)
        arguments.pop("in_channels", None)
        return saved_classes(metadata, where), arguments
    classes, arguments = _published_head(entry, published)
    if published is not None and published.network == entry.name:
        return classes, arguments
    if not ours and wanted in (None, classes):
        with torch.device("meta"):
            backbone = {k: v for k, v in given.items() if k in BACKBONE_ARGUMENTS}
            if head_fits(as_published(entry, backbone), state):
                return classes, arguments
    relative = metadata.get("task") == entry.task  # such as an FCN-32s for an FCN-16s
    if not relative and not any(key.startswith("backbone.") for key in state):
        return None, dict(entry.start)  # a classifier's
    arguments.pop("output_ids", None)
    arguments.pop("norm_eps", None)  # a matter of that training, not of the network
    return saved_classes(metadata, where) if ours else None, arguments


def _needs_classes(entry: Entry) -> str:
    return f"{entry.name} needs its classes: give classes=[…], for a dataset classes=data.classes"


def _published(entry: Entry, weights: str | Path | None, arguments: Mapping[str, Any]) -> Published | None:
    """The published checkpoint that `weights` names: of the model itself, or of its backbone's classifier."""
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
                f"no weights of {entry.name} are published, {weights!r} or others; give a file or a run's folder, or "
                "train it from random numbers: leave weights out"
            )
        raise InputError(f"there are no {weights!r} weights for {entry.name}; there are {', '.join(known)}")
    return found
