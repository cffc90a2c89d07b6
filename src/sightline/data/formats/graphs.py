"""What the readers of scene graphs share: objects with ids, and relations between these ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble
from sightline.data.relations import COLUMNS, ENDS, TABLE
from sightline.data.tables import Table
from sightline.errors import InputError
from sightline.structures import Size
from sightline.words import counted


@dataclass(frozen=True)
class GraphObject:
    """An object of a scene graph.

    Attributes:
        id: its id in the file, unique within its image.
        label: its class.
        box: x1, y1, x2, y2, in pixels or as fractions of the image.
        where: its place in the file, for messages.
        attributes: additional data, as `Gather.object` takes them.
        line: its line in the file, or None.
    """

    id: int
    label: str
    box: tuple[float, float, float, float]
    where: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None


@dataclass
class ImageGraph:
    """The graph of one image.

    Attributes:
        image: the image, without entries.
        objects: its objects by id.
        relations: (id of the subject, predicate, id of the object).
    """

    image: Listed
    objects: dict[int, GraphObject] = field(default_factory=dict)
    relations: list[tuple[int, str, int]] = field(default_factory=list)

    def relate(self, subject: int, predicate: str, other: int, where: str) -> None:
        """Add a relation.

        Raises:
            InputError: it has no predicate, or is of an object that is not in the image.
        """
        if not predicate:
            raise InputError(f"{where} has no predicate; write one, or remove it")
        for id in (subject, other):
            if id not in self.objects:
                raise InputError(
                    f"{where} is of object {id}, which is not among the image's objects; correct or remove it"
                )
        self.relations.append((subject, predicate, other))


def dataset_of_graphs(
    root: Path,
    format: str,
    graphs: Sequence[ImageGraph],
    classes: Sequence[str] | None,
    images: Path | None,
    *,
    most_classes: int | None = None,
    most_predicates: int | None = None,
    relative: bool = False,
    notes: Sequence[str] = (),
) -> Dataset:
    """A dataset of images with objects and relations.

    Args:
        root, format, images, relative, notes: as for `sightline.data.formats.listed.assemble`.
        graphs: the images.
        classes: class names given by the user; objects of other classes raise an error.
        most_classes: without given classes, only objects of the most frequent ones are kept; None for all.
        most_predicates: only relations with the most frequent predicates are kept; None for all.
    """
    notes = list(notes)
    if classes is None and most_classes is not None:
        labels = Counter(own.label for graph in graphs for own in graph.objects.values())
        if len(labels) > most_classes:
            kept = {name for name, _ in labels.most_common(most_classes)}
            lost = sum(count for name, count in labels.items() if name not in kept)
            notes.append(
                f"of {len(labels)} classes the {most_classes} most frequent are read, without "
                f"{counted(lost, 'object')} of others; name those that you want with classes="
            )
            for graph in graphs:
                graph.objects = {id: own for id, own in graph.objects.items() if own.label in kept}
    if most_predicates is not None:
        predicates = Counter(predicate for graph in graphs for _, predicate, _ in graph.relations)
        if len(predicates) > most_predicates:
            used = {name for name, _ in predicates.most_common(most_predicates)}
            lost = sum(count for name, count in predicates.items() if name not in used)
            notes.append(
                f"of {len(predicates)} predicates the {most_predicates} most frequent are read, without "
                f"{counted(lost, 'relation')} of others"
            )
            for graph in graphs:
                graph.relations = [own for own in graph.relations if own[1] in used]
    loops = sum(subject == other for graph in graphs for subject, _, other in graph.relations)
    if loops:
        notes.append(f"{counted(loops, 'relation')} of an object with itself left out")
        for graph in graphs:
            graph.relations = [own for own in graph.relations if own[0] != own[2]]
    gather, added = Gather(classes), []

    def add(gather: Gather, one: Listed, entry: tuple[int, GraphObject], size: Size) -> None:
        number, own = entry
        x1, y1, x2, y2 = own.box
        if relative:
            height, width = size if all(size) else (float("nan"), float("nan"))
            x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
        gather.object(own.where, own.label, box=(x1, y1, x2, y2), attributes=own.attributes)
        added.append((len(gather.image_extra) - 1, number, own.id))

    for number, graph in enumerate(graphs):
        graph.image.entries = [(number, own) for own in graph.objects.values()]
    listed = [graph.image for graph in graphs]
    dataset = assemble(root, format, listed, add, gather, images=images, relative=relative, notes=notes)
    columns = _related(dataset.source.columns, graphs, added)
    return Dataset(replace(dataset.source, columns=columns, about=TABLE))


def _related(columns: Columns, graphs: Sequence[ImageGraph], added: Sequence[tuple[int, int, int]]) -> Columns:
    """The columns with the relations between the objects that were added.

    Args:
        columns: of all images.
        graphs: the graphs in which the objects were listed.
        added: for each object, in the order of the columns: its image, the index of its graph, its id there.
    """
    place = {(graph, id): row for row, (_, graph, id) in enumerate(added)}
    image_of = {graph: image for image, graph, _ in added}
    rows: list[list[dict[str, Any]]] = [[] for _ in range(columns.images)]
    for number, image in image_of.items():
        first = int(columns.offsets[image])
        for subject, predicate, other in graphs[number].relations:
            ends = [place.get((number, id)) for id in (subject, other)]
            if None not in ends:
                a, b = (int(end) - first for end in ends if end is not None)
                rows[image].append({"subject": a, "predicate": predicate, "object": b})
    ids = np.array([id for _, _, id in added], np.int64)
    table = Table.from_rows(rows, ENDS, columns=COLUMNS)
    return columns.replace(ids=ids, tables={**columns.tables, TABLE: table})
