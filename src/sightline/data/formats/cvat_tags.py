"""Tags of images in CVAT XML: classes of images if there are no shapes, else only kept beside the objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.image_labels import labelled
from sightline.data.kinds import GONE
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.structures import Classes
from sightline.words import counted, have

Tags = Sequence[tuple[Path, str, Sequence[str]]]
"""The file, the name and the tags of each image, in the order of the dataset."""


def notes_on(tags: Tags) -> list[str]:
    """A note on tags that are beside objects, so that they are no classes of images."""
    tagged = [own for *_, own in tags if own]
    if not tagged:
        return []
    return [
        f"{counted(len(tagged))} {have(len(tagged))} tags, such as {tagged[0][0]!r}, which are kept beside the objects "
        "but are no classes of the images"
    ]


def classified(source: Source, tags: Tags, given: Sequence[str] | None) -> Dataset:
    """The dataset of images without objects in which an image's tag is its class.

    Classes are the given ones, or those that occur, in the order of the file's labels. An image without a tag is left
    out with a note; one with several is a bad label (see `sightline.data.malformed`).
    """
    used = dict.fromkeys(tag for *_, own in tags for tag in own)
    listed = [name for name in source.classes if name in used]
    classes = Classes(given if given is not None else dict.fromkeys([*listed, *used]))
    labels = []
    for file, name, own in tags:
        where, label = f"{file}: {name}", GONE
        try:
            if len({*own}) > 1:
                raise InputError(f"{where} has the tags {', '.join(own)}, but an image has one class; keep one of them")
            if own and own[0] not in classes:
                raise files.unknown_class(where, f"tag {own[0]!r}", classes)
            label = classes.id(own[0]) if own else GONE
        except InputError as error:
            skip_label(error, file)
        labels.append(label)
    return labelled(Dataset(source), labels, classes)
