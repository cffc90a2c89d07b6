"""The table of kinds of label: every dataset's kind has a row, and a row of the user's own is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.data import kinds
from sightline.data.anchors import anchors
from sightline.data.kinds import KINDS, Kind, kind_of, kind_of_target
from sightline.data.torch_data import TorchData
from sightline.errors import InputError
from sightline.structures import Size


@dataclass(frozen=True)
class Count:
    """How many objects an image shows."""

    image_size: Size
    number: int


@pytest.fixture
def own() -> Iterator[Kind]:
    row = Kind(
        name="count",
        noun="counts",
        unit="images",
        target=Count,
        make=lambda source, row, size, fields: Count(size(), int(np.diff(source.columns.offsets)[row])),
    )
    kinds.add(row)
    yield row
    del KINDS[row.name]


@pytest.mark.parametrize("name", KINDS)
def test_targets_are_of_the_rows_type(name: str) -> None:
    data = sl.scenes(2, 32, seed=1, kind=name)  # type: ignore[arg-type]
    row = kind_of(data)
    assert (row.name, data.label_kind) == (name, row)
    assert type(data.target(0)) is row.target
    assert kind_of_target(data.target(0)) is row


CLASSED = [name for name, row in KINDS.items() if row.relabel is not None]
"""The kinds whose labels have classes: events have none."""


@pytest.mark.parametrize("name", CLASSED)
def test_class_ids_are_those_of_the_targets(name: str) -> None:
    data = sl.scenes(6, 32, seed=3, kind=name)  # type: ignore[arg-type]
    row = kind_of(data)
    if row.class_ids is None:
        assert row.has_maps
        return
    labels, images = row.class_ids(data.columns)
    for i in range(len(data)):
        target = data.target(i)
        stated = [target.label] if isinstance(target, sl.ClassScores) else target.labels.tolist()  # type: ignore[union-attr]
        assert labels[images == i].tolist() == stated


@pytest.mark.parametrize("name", CLASSED)
def test_relabelling(name: str) -> None:
    data = sl.scenes(6, 32, seed=2, kind=name)  # type: ignore[arg-type]
    first, second, *_ = data.classes
    other = data.with_class_mapping({first: second, second: None})
    assert first not in other.classes
    assert other.classes[0] == second  # what the first class became; what was of the second is gone


def test_unknown_kind() -> None:
    data = sl.scenes(1, 32)
    object.__setattr__(data.source, "kind", "smells")
    with pytest.raises(InputError, match="no kind of label 'smells'; available: instances, class_map, class_scores"):
        _ = data.label_kind


def test_own_kind_of_a_dataset(own: Kind) -> None:
    data = sl.scenes(3, 32, seed=1)
    numbers = [len(data.target(i)) for i in range(3)]  # type: ignore[arg-type]
    object.__setattr__(data.source, "kind", "count")
    assert [data.target(i) for i in range(3)] == [Count((32, 32), n) for n in numbers]
    assert data[1:][0][1] == Count((32, 32), numbers[1])
    with pytest.raises(InputError, match="counts have no classes that could be renamed"):
        data.with_class_mapping({data.classes[0]: "x"})
    with pytest.raises(InputError, match="anchors are computed from boxes, but the labels here are counts"):
        anchors(data)
    report = sl.check(data, progress=False)
    assert (report.ok, report.unit, report.counts) == (True, "images", {})
    with pytest.raises(InputError, match="a dataset of counts cannot be written as coco, which holds objects"):
        sl.convert(data, "nowhere", "coco")


def test_own_kind_of_a_torch_dataset(own: Kind) -> None:
    items = [(torch.zeros(3, 8, 8, dtype=torch.uint8), Count((8, 8), n)) for n in range(2)]
    data = TorchData(items, sl.Classes(["a"]))
    assert data.kind == "count"
    assert data[1][1] is items[1][1]


def test_taken_names_are_refused(own: Kind) -> None:
    with pytest.raises(InputError, match="a kind of label 'count' already"):
        kinds.add(own)


def test_what_is_no_kind_is_refused() -> None:
    for wrong in ("counts", Kind(name="counts", noun="counts", unit="objects", target="Count")):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"kinds\.add takes a Kind\(name=…, noun=…, unit=…, target=TYPE\), not"):
            kinds.add(wrong)  # type: ignore[arg-type]
