"""Which class each output of a layer belongs to, so that weights can be loaded into a model with other classes.

A layer whose shape depends on the classes has one or several outputs per class. `Model.class_outputs` names them in
order. Weights trained for other classes are copied output by output, where both models name the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

BACKGROUND = "(background)"
"""Name of the outputs of a head's background; a class called "background" is not meant."""
NO_CLASS = "(no class)"
"""Name of outputs that do not depend on the classes, such as those of boxes and objectness."""
UNUSED = "(unused)"
"""Name of outputs without a meaning, such as those of COCO's ids without a class."""


class Output(NamedTuple):
    """What an output of a layer stands for.

    Attributes:
        name: name of a class, `BACKGROUND`, `NO_CLASS` or `UNUSED`.
        place: which of the outputs of this name it is: number of the group (such as an anchor), number within it.
    """

    name: str
    place: tuple[int, int] = (0, 0)


def outputs_in_groups(names: Sequence[str], count: int, *, own: int = 0, each: int = 1) -> list[Output] | None:
    """The outputs of a layer that repeats one pattern: first those of no class, then those of each class in turn.

    Args:
        names: the classes, in the order of their outputs.
        count: number of outputs of the layer. Its quotient by the length of the pattern is the number of groups, such
            as the anchors of a cell.
        own: number of outputs per group that belong to no class, such as the five of a box and its objectness.
        each: number of successive outputs per class, such as the four of its box.

    Returns:
        `count` outputs, or None if `count` is not a multiple of the pattern's length.
    """
    length = own + each * len(names)
    if not length or count % length:
        return None
    found = []
    for group in range(count // length):
        found += [Output(NO_CLASS, (group, i)) for i in range(own)]
        found += [Output(name, (group, i)) for name in names for i in range(each)]
    return found


def copy_of_same_outputs(
    value: Tensor,
    own: Tensor,
    outputs: Sequence[Sequence[Output]],
    own_outputs: Sequence[Sequence[Output]],
    *,
    competing: bool = False,
) -> tuple[Tensor, list[str]] | None:
    """A layer's initial weights, with those outputs replaced that were trained for the same classes.

    Args:
        value: the trained weights.
        own: the initial weights; both have any number of axes.
        outputs: what the indices of the first axis of `value` stand for, and those of the second if it also depends on
            the classes, and so on.
        own_outputs: the same for `own`.
        competing: whether the classes share one probability (a softmax without background). The other outputs then
            start from the mean of those copied, plus their own initial weights. Trained logits are much larger than
            initial ones, so that the copied classes would otherwise win everywhere; an equal summand of all logits
            changes nothing, so that the classes start as equals and the copied ones compare as before.

    Returns:
        The weights, and the names of the classes that were found, as the model spells them. None if both have no output
        in common, or only the background's, which says nothing without the classes that it was trained against.
    """
    axes = len(own_outputs)
    fits = len(outputs) == axes > 0 and value.ndim == own.ndim >= axes and value.shape[axes:] == own.shape[axes:]
    lengths = [(*map(len, pair),) for pair in zip(outputs, own_outputs, strict=False)]
    if not fits or lengths != list(zip(value.shape[:axes], own.shape[:axes], strict=True)):
        return None
    pairs = [_same(theirs, ours) for theirs, ours in zip(outputs, own_outputs, strict=True)]
    found = {own_outputs[0][to].name for to, _ in pairs[0]}
    if not all(pairs) or found == {BACKGROUND}:
        return None
    at = torch.meshgrid(*(torch.tensor([to for to, _ in pair]) for pair in pairs), indexing="ij")
    taken = torch.meshgrid(*(torch.tensor([source for _, source in pair]) for pair in pairs), indexing="ij")
    filled = own.detach().clone()
    filled[at] = value[taken].to(filled)
    if competing and axes == 1:
        fresh = sorted(set(range(len(filled))) - {to for to, _ in pairs[0]})
        filled[fresh] += value[taken].to(filled).mean(0)
    names = dict.fromkeys(output.name for output in own_outputs[0])
    return filled, [name for name in names if name in found and name not in (BACKGROUND, NO_CLASS)]


def _same(outputs: Sequence[Output], own: Sequence[Output]) -> list[tuple[int, int]]:
    """Pairs (position in `own`, position in `outputs`) of the same outputs; equal spelling goes before similar."""
    exact = {output: i for i, output in enumerate(outputs) if output.name != UNUSED}
    similar: dict[Output, int] = {}
    for output, i in exact.items():
        similar.setdefault(_plain(output), i)
    found = [(to, exact.get(output, similar.get(_plain(output)))) for to, output in enumerate(own)]
    return [(to, source) for to, source in found if source is not None]


def _plain(output: Output) -> Output:
    """The output with its name in lower case, and with underscores as spaces."""
    return output._replace(name=" ".join(output.name.lower().replace("_", " ").split()))


def outputs_of(classes: Iterable[str], output_ids: Sequence[int] | None, background: bool) -> list[str]:
    """The class of each output of a detector's head; output 0 is the background if there is one."""
    names = list(classes)
    ids = output_ids or range(1, len(names) + 1)
    found = [BACKGROUND] + [UNUSED] * max(ids)
    for name, output in zip(names, ids, strict=True):
        found[output] = name
    return found if background else found[1:]


def one_axis(names: Sequence[str], shape: Sequence[int]) -> list[list[Output]]:
    """The outputs of a layer [N, …] with one output per name, any number of times; an empty list for other layers."""
    found = outputs_in_groups(names, shape[0]) if shape else None
    return [] if found is None else [found]


def predictor_outputs(predictor: nn.Module, names: Sequence[str], key: str, shape: Sequence[int]) -> list[list[Output]]:
    """The outputs of a layer of a region predictor, for `Detector.class_outputs`.

    Args:
        predictor: has `outputs_per_class`: for each of its layers, the number of successive outputs per class, or 0 for
            a layer whose outputs are the same for all classes.
        names: as `Detector.output_names`.
        key, shape: as for `Detector.class_outputs`.
    """
    each: dict[str, int] = getattr(predictor, "outputs_per_class", {})
    layer = key.split(".")[-2]
    if layer not in each:
        return []
    shared = outputs_in_groups([], shape[0], own=shape[0])
    found = outputs_in_groups(names, shape[0], each=each[layer]) if each[layer] else shared
    return [] if found is None else [found]
