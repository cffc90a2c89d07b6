"""The formats by name, what each can store, and which can be written."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from sightline.data.formats import (
    activitynet,
    cityscapes,
    cityscapes_instances,
    coco,
    createml,
    csv_boxes,
    csv_labels,
    cvat,
    datumaro,
    folders,
    huggingface,
    kitti,
    label_studio,
    labelme,
    masks,
    omni3d,
    open_images_relations,
    panoptic,
    panoptic_instances,
    pix3d,
    semantic,
    supervisely,
    via,
    visual_genome,
    visual_genome_graphs,
    voc,
    yolo,
    yolo_pose,
    yolo_seg,
)
from sightline.data.kinds import KINDS, Kind

FORMATS: Mapping[str, ModuleType] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "yolo-seg": yolo_seg,
    "yolo-pose": yolo_pose,
    "via": via,
    "labelme": labelme,
    "cvat": cvat,
    "masks": masks,
    "semantic": semantic,
    "csv": csv_boxes,
    "createml": createml,
    "label-studio": label_studio,
    "supervisely": supervisely,
    "datumaro": datumaro,
    "pix3d": pix3d,
    "huggingface": huggingface,
    "kitti": kitti,
    "omni3d": omni3d,
    "cityscapes": cityscapes,
    "cityscapes-instances": cityscapes_instances,
    "panoptic": panoptic,
    "panoptic-instances": panoptic_instances,
    "activitynet": activitynet,
    "visual-genome-graphs": visual_genome_graphs,
    "open-images-relations": open_images_relations,
    "visual-genome": visual_genome,
    "csv-labels": csv_labels,
    "folders": folders,
}
"""The formats by name, in the order in which they are tried."""
WRITTEN: tuple[str, ...] = tuple(name for name, module in FORMATS.items() if hasattr(module, "write"))
"""The formats that can also be written."""


def supported_kinds(format: str) -> list[Kind]:
    """The kinds of label that a format can store: those its module names, else objects."""
    named = vars(FORMATS[format]).get("WRITES")
    return [kind for kind in KINDS.values() if (kind.has_objects if named is None else kind.name in named)]
