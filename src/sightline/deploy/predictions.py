"""Operations on a prediction before it is returned, by its type; functions for additional types can be registered."""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import ClassMap, Events, Instances

NO_CLASSES = "classes can be selected only among objects, which this model does not predict; leave classes out"


@singledispatch
def filter_prediction(prediction: Any, threshold: float, classes: Tensor | None) -> Any:
    """Keep the objects that have a minimum score and one of some classes; other predictions are returned unchanged.

    Args:
        prediction: the prediction for one image, on the CPU.
        threshold: the minimum score of objects.
        classes: [n] int64, the ids of the classes to keep; None for all.

    Raises:
        InputError: classes are given, but the prediction has none.
    """
    if classes is not None:
        raise InputError(NO_CLASSES)
    return prediction


@filter_prediction.register
def _filter_objects(prediction: Instances, threshold: float, classes: Tensor | None) -> Instances:
    if "scores" in prediction:
        prediction = prediction[prediction.scores >= threshold]
    if classes is not None:
        if "labels" not in prediction:
            raise InputError("the model's objects have no classes, so none can be selected; leave classes out")
        prediction = prediction[torch.isin(prediction.labels, classes)]
    return prediction


@filter_prediction.register
def _filter_events(prediction: Events, threshold: float, classes: Tensor | None) -> Events:
    if classes is not None:
        raise InputError("events have no classes, so none can be selected; leave classes out")
    return prediction if prediction.scores is None else prediction[prediction.scores >= threshold]


@singledispatch
def are_objects(prediction: Any) -> bool:
    """Whether a prediction is the objects of one image."""
    return False


@are_objects.register
def _instances_are(prediction: Instances) -> bool:
    return True


@singledispatch
def with_source(prediction: Any, source: str | None) -> Any:
    """Set the attribute `source` of a prediction to the name of its image, if its type has this attribute."""
    if dataclasses.is_dataclass(prediction) and any(field.name == "source" for field in dataclasses.fields(prediction)):
        return dataclasses.replace(prediction, source=source)  # type: ignore[type-var]
    return prediction


@with_source.register
def _objects_with_source(prediction: Instances, source: str | None) -> Instances:
    prediction.source = source
    return prediction


@with_source.register
def _map_with_source(prediction: ClassMap, source: str | None) -> ClassMap:
    return prediction.named(source)


@singledispatch
def class_probabilities(prediction: Any) -> Tensor | None:
    """[K, H, W] float, the probability of each class at each pixel; None if the prediction has none."""
    return None


@class_probabilities.register
def _probabilities_of_map(prediction: ClassMap) -> Tensor | None:
    return prediction.scores
