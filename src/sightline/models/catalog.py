"""The model catalog: every model by its name, and the list of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.arguments import parameters
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
from sightline.models.entry import Entry as Entry
from sightline.models.model import Model
from sightline.models.published import DATA, PUBLISHED, Published, class_names, coco_classes, find_published
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
from sightline.runtime.shapes import shapes_only
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
    classes, arguments = published_head(entry)
    return entry.build(classes, **{k: v for k, v in arguments.items() if k in parameters(entry)} | dict(given or {}))


def published_head(entry: Entry, published: Published | None = None) -> tuple[Classes, dict[str, Any]]:
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
