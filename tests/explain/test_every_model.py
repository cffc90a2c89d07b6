"""Every method explains every model of the catalog, and leaves it as it was."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import InputError
from sightline.explain.box_targets import DetectedBox
from sightline.explain.explanation import explain_image
from sightline.explain.methods import METHODS, method_named, settings_of
from sightline.explain.relation_targets import RelationScore
from sightline.explain.target import prepared
from sightline.verbs.explained import default_target
from tests.explain.test_explanation import equal, state_of
from tests.explain.test_layers import model_of
from tests.models.test_contract import ALL, OBJECTS, image

QUICK = ("mobilenet_v2", "alexnet", "unet_small", "sightline_n", "faster_rcnn_mobilenet_v2_fpn", "yolo_v1_mobilenet_v2")
POOLED = (
    *("mobilenet_v1", "mobilenet_v2", "resnet", "resnext", "seresnet", "efficientnet", "darknet19", "darknet53"),
    *("googlenet", "inception_v3", "densenet", "xception", "swin", "nasnet"),
)
"""Classifiers that end in global average pooling and one linear layer, which CAM explains."""
EXPLAINED = [name for name in ALL if name != "light_head_rcnn_resnet101"]  # its random weights propose no region
FEW = {"samples": 2, "batch_size": 2, "window": 64, "stride": 64, "segments": 4, "seed": 0}


def few(name: str) -> Any:
    """A method with as few samples as it takes."""
    return method_named(name, **{key: value for key, value in FEW.items() if key in settings_of(METHODS[name])})


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPLAINED]
)
def test_every_method_explains_every_model(name: str) -> None:
    model, picture = model_of(name), image(90, 120)
    before, target, refused = state_of(model), default_target(model, picture), set()
    size = prepared(model, picture).original_sizes[0]  # of a video, that of its film
    assert size[0] == 90
    assert size[1] % 120 == 0
    boxed = isinstance(target, DetectedBox)
    for method in METHODS:
        try:
            found = explain_image(model, picture, few(method), target)
        except InputError as error:
            refused.add(method)
            sentence = str(error)
            continue
        assert found.heat.shape == size, method
        assert bool(found.heat.isfinite().all()), method
        assert found.target == target.describe(model)
        assert (found.box is not None) == (model.task in (*OBJECTS, "proposal")), method
    assert equal(before, state_of(model))
    assert not refused or "; use " in sentence  # the methods that can
    assert ("d_rise" in refused) == (not boxed)
    assert boxed == (model.task in OBJECTS and not isinstance(target, RelationScore))
    assert refused <= {"cam", "d_rise"}
    if model.task == "classification":  # others may end in pooling, such as the crops of R-CNN
        assert ("cam" in refused) != name.startswith(POOLED)
