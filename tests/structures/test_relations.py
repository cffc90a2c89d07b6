"""Relations of objects: what selecting, removing, joining and storing objects does to them."""

from __future__ import annotations

import pytest
import torch

from sightline.data.dataset import Dataset
from sightline.data.transforms.mosaic import joined
from sightline.errors import InputError
from sightline.structures import Instances
from sightline.structures.relations import Relation, Triplet, ranked, triplets_of, with_triplets


def three(*triplets: Triplet, **more: object) -> Instances:
    """Three objects in a row."""
    boxes = [[0, 0, 9, 9], [10, 0, 19, 9], [20, 0, 29, 9]]
    return with_triplets(Instances((20, 30), boxes=boxes, labels=[0, 1, 0], **more), triplets)  # type: ignore[arg-type]


LEFT, RIGHT, ON = Triplet(0, "left of", 1), Triplet(2, "right of", 1), Triplet(2, "on", 0)


def test_selecting_objects_keeps_the_relations_between_them() -> None:
    objects = three(LEFT, RIGHT, ON)
    assert triplets_of(objects) == [LEFT, RIGHT, ON]
    assert triplets_of(objects[[2, 0]]) == [Triplet(0, "on", 1)]
    assert triplets_of(objects[torch.tensor([False, True, True])]) == [Triplet(1, "right of", 0)]
    assert triplets_of(objects[1]) == []
    assert triplets_of(objects[:0]) == []
    assert triplets_of(Instances((5, 5))) == []


def test_the_most_certain_come_first() -> None:
    scored = [Triplet(0, "near", 1, 0.3), Triplet(0, "left of", 1, 0.9), Triplet(1, "near", 2, 0.3)]
    assert ranked(three(*scored)) == [scored[1], scored[0], scored[2]]


def test_a_relation_to_an_object_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"a\.jpg has the relation 0 on 3, but its objects are numbered 0 to 2"):
        three(Triplet(0, "on", 3), source="a.jpg")
    broken = three(LEFT).replace(relations=[[Relation("on", 7)], [], []])
    with pytest.raises(InputError, match=r"image 0: object 0 is 'on' object 7, but there is no object with this key"):
        Dataset.from_instances([torch.zeros(3, 20, 30)], [broken], ["a", "b"])
    twice = three(LEFT).replace(keys=torch.tensor([4, 5, 4]))
    with pytest.raises(InputError, match="two objects with the key 4"):
        Dataset.from_instances([torch.zeros(3, 20, 30)], [twice], ["a", "b"])
    only_keys = Instances((20, 30), boxes=[[0, 0, 1, 1]], labels=[0], keys=[0])
    with pytest.raises(InputError, match="only one of the fields keys and relations"):
        Dataset.from_instances([torch.zeros(3, 20, 30)], [only_keys], ["a"])


def test_joined_objects_keep_their_own_relations() -> None:
    both = joined([three(LEFT), three(ON)[[0, 2]], Instances((20, 30)), three(RIGHT)])
    assert triplets_of(both) == [LEFT, Triplet(4, "on", 3), Triplet(7, "right of", 6)]
    assert sorted(both.keys.tolist()) == sorted(set(both.keys.tolist()))


def test_a_dataset_keeps_them() -> None:
    empty = Instances((20, 30))
    targets = [three(LEFT, RIGHT), empty, three(ON)[[2, 1, 0]]]
    data = Dataset.from_instances([torch.zeros(3, 20, 30)] * 3, targets, ["a", "b"])
    assert data.predicates == ("left of", "on", "right of")
    assert "relations" not in data.target(0)
    data = data.with_fields("keys", "relations")
    assert [triplets_of(target) for _, target in data] == [[LEFT, RIGHT], [], [Triplet(0, "on", 2)]]
    assert triplets_of(data[[2]][0][1]) == [Triplet(0, "on", 2)]
    assert triplets_of(data.filter(classes=["a"])[0][1]) == []
    assert triplets_of((data + data)[5][1]) == [Triplet(0, "on", 2)]
    assert triplets_of(data.filter(min_area=100)[0][1]) == []
    plain = Dataset.from_instances([torch.zeros(3, 20, 30)], [empty], ["a"])
    assert plain.predicates == ()
    with pytest.raises(InputError, match="the dataset has no field 'relations'"):
        plain.with_fields("relations")
