"""Modules built for their shapes alone."""

from __future__ import annotations

import torch
from torch import nn

from sightline.models.creation import create_model
from sightline.runtime.shapes import shapes_only


def test_names_shapes_and_types_are_those_of_the_meta_device() -> None:
    with torch.device("meta"):
        drawn = create_model("ssdlite320_mobilenet_v2", ["a"]).state_dict()
    with shapes_only():
        made = create_model("ssdlite320_mobilenet_v2", ["a"]).state_dict()
    assert all(value.is_meta for value in made.values())
    assert {k: (v.shape, v.dtype) for k, v in made.items()} == {k: (v.shape, v.dtype) for k, v in drawn.items()}


def test_nothing_is_drawn_into_them() -> None:
    with shapes_only():
        layer = nn.Linear(3, 2)
        before = layer.weight._version
        assert layer.weight.normal_() is layer.weight
        assert layer.weight.uniform_(-1, 1) is layer.weight
    assert layer.weight._version == before


def test_tensors_with_memory_are_filled_as_ever() -> None:
    values = torch.zeros(4, 4)
    with shapes_only():
        assert values.uniform_(1, 2).min() >= 1
        assert values.normal_(9, 0.1).min() > 5
    assert torch.empty(1).device.type == "cpu"
