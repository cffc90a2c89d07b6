"""Fields that are computed when they are first read."""

from __future__ import annotations

import pickle
from functools import partial

import pytest
import torch
from torch import Tensor

from sightline.structures import Classes, Instances
from sightline.structures.deferred import Deferred

CALLS: list[int] = []


def doubled(values: Tensor, size: int) -> Tensor:
    CALLS.append(len(values))
    return values[:, None, None].expand(-1, size, size) > 1


@pytest.fixture
def objects() -> Instances:
    """Four objects with masks [4, 6, 6], all True for the last two."""
    CALLS.clear()
    masks = Deferred(partial(doubled, size=6), (torch.arange(4),))
    boxes, scores = torch.tensor([[0.0, 0, 2, 2]]).expand(4, 4), torch.tensor([0.1, 0.2, 0.3, 0.4])
    return Instances((6, 6), classes=Classes(["a"]), boxes=boxes, scores=scores).replace(masks=masks)


def test_a_field_is_computed_once_and_only_if_it_is_read(objects: Instances) -> None:
    assert "masks" in objects
    assert len(objects) == 4
    assert "masks" in repr(objects)
    assert "masks" in dir(objects)
    assert CALLS == []
    assert objects.masks.flatten(1).all(1).tolist() == [False, False, True, True]
    assert objects.masks is objects.fields["masks"]
    assert CALLS == [4]


@pytest.mark.parametrize("item", [torch.tensor([False, False, True, True]), torch.tensor([3, 0]), slice(1, 3), 2, [2]])
def test_only_the_selected_objects_are_computed(item: Tensor | slice | int | list[int], objects: Instances) -> None:
    chosen = objects[item].to("cpu").replace(labels=torch.zeros(2, dtype=torch.int64))
    assert CALLS == []
    assert chosen.masks.shape == (len(chosen.scores), 6, 6)
    assert len(chosen) == CALLS.pop()
    assert not CALLS
    assert torch.equal(chosen.masks, objects.masks[[item] if isinstance(item, int) else item])


def test_tables_have_the_values(objects: Instances) -> None:
    assert objects.to_columns()["mask_pixels"] == [0, 0, 36, 36]
    assert Instances((6, 6), **objects.fields).masks.shape == (4, 6, 6)
    assert CALLS == [4]


def test_results_are_pickled_before_they_are_read(objects: Instances) -> None:
    again = pickle.loads(pickle.dumps(objects))
    assert CALLS == []
    assert torch.equal(again.masks, objects.masks)
