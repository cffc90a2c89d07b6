"""What is done with a model's answer before it is handed on, by the type of answer: a type of your own may register."""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import ClassMap, Instances

NO_CLASSES = "classes are chosen among objects, but this model finds none; leave classes out"


@singledispatch
def kept(answer: Any, threshold: float, classes: Tensor | None) -> Any:
    """The part of an answer that is wanted: of objects those of a score and of classes; other answers as they are.

    Args:
        answer: of one image, on the CPU.
        threshold: objects of a lower score are left out.
        classes: [n] int64, the ids of the classes to keep; None for all.

    Raises:
        InputError: classes are chosen among something that has none.
    """
    if classes is not None:
        raise InputError(NO_CLASSES)
    return answer


@kept.register
def _kept_objects(answer: Instances, threshold: float, classes: Tensor | None) -> Instances:
    if "scores" in answer:
        answer = answer[answer.scores >= threshold]
    if classes is not None:
        if "labels" not in answer:
            raise InputError("the model's objects have no classes, so none can be chosen; leave classes out")
        answer = answer[torch.isin(answer.labels, classes)]
    return answer


@singledispatch
def with_source(answer: Any, source: str | None) -> Any:
    """The answer with the name of the image it belongs to, where its type has a `source`."""
    if dataclasses.is_dataclass(answer) and any(field.name == "source" for field in dataclasses.fields(answer)):
        return dataclasses.replace(answer, source=source)  # type: ignore[type-var]
    return answer


@with_source.register
def _objects_with_source(answer: Instances, source: str | None) -> Instances:
    answer.source = source
    return answer


@singledispatch
def class_probabilities(answer: Any) -> Tensor | None:
    """[K, H, W] float, the probability of each class at each pixel; None where the answer has none."""
    return None


@class_probabilities.register
def _probabilities_of_map(answer: ClassMap) -> Tensor | None:
    return answer.scores
