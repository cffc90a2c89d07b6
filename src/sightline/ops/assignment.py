"""Assignment of anchors to ground truth objects, and sampling of anchors for a loss.

Matchers take the IoU [G, N] of G ground truth objects with N anchors, and return [N] int64: the index of the object,
`BACKGROUND` or `BETWEEN`. They record no gradients and do not synchronise with the GPU. G = 0 (an image without
objects: all background) and N = 0 are allowed. An object without any overlap is not matched; an IoU of NaN (two boxes
without area) is no overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError

BACKGROUND = -1
"""Index of anchors whose IoU with all objects is low."""

BETWEEN = -2
"""Index of anchors whose IoU is too high for background and too low for a match; losses ignore them."""


@torch.no_grad()
def match_threshold(iou: Tensor, high: float, low: float, allow_low_quality: bool = False) -> Tensor:
    """Match each anchor to the object with the highest IoU, if it is at least `high`. Below `low` it is background.

    Args:
        iou: [G, N] IoU of objects and anchors.
        high: minimum IoU of a match.
        low: anchors with a lower IoU are background; those between `low` and `high` are ignored.
        allow_low_quality: whether anchors with the highest IoU for some object (several, if they tie) are matched at
            any IoU, so that almost every object has an anchor.

    Returns:
        [N] int64: index of the object, −1 for background, −2 for ignored.

    Raises:
        InputError: `low` is above `high`.

    Source: Ren et al., Faster R-CNN, PAMI 2017, section 3.1.2; `allow_low_quality` is rule (i). Such an anchor is
    matched to its own best object, which may be a different one, as in published implementations. Departure from these:
    an object without any overlap gets no anchor (there it gets all anchors that it does not overlap).
    """
    if low > high:
        raise InputError(f"the low threshold {low} is above the high one {high}; exchange them")
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return _all_background(iou)
    overlap, best = iou.max(0)
    matches = torch.where(overlap >= high, best, BETWEEN)
    matches = torch.where(overlap >= low, matches, BACKGROUND)
    if allow_low_quality:
        most = iou.amax(1, keepdim=True)
        claimed = (iou == most.masked_fill(most <= 0, torch.inf)).any(0)
        matches = torch.where(claimed, best, matches)
    return matches


@torch.no_grad()
def match_best(iou: Tensor, threshold: float) -> Tensor:
    """Match each anchor to the object with the highest IoU above a threshold, and each object to its best anchor.

    Args:
        iou: [G, N] IoU of objects and anchors.
        threshold: minimum IoU of a match, except for the best anchor of an object.

    Returns:
        [N] int64: index of the object, or −1 for background. An anchor that is the best of several objects is matched
        to the last of them.

    Source: Liu et al., SSD, 2016, section 2.2, "Matching strategy".
    """
    matches = match_threshold(iou, threshold, threshold)
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return matches
    overlap, anchor = iou.max(1)
    claim = torch.arange(iou.shape[0], device=iou.device).where(overlap > 0, BACKGROUND)
    # the largest index wins: writing by index would be nondeterministic on a GPU
    claims = torch.full_like(matches, BACKGROUND).scatter_reduce_(0, anchor, claim, "amax")
    return torch.where(claims >= 0, claims, matches)


@torch.no_grad()
def match_greedy(iou: Tensor, threshold: float) -> Tensor:
    """Greedy one-to-one matching, then matching by threshold.

    The pair with the highest IoU is matched and removed, until every object has an anchor. Then each remaining anchor
    is matched to the object with the highest IoU, if it is above `threshold`. The loop runs over objects, not anchors;
    each step reads the matrix once.

    Args:
        iou: [G, N] IoU of objects and anchors.
        threshold: the IoU of matches of the remaining anchors must be above this.

    Returns:
        [N] int64: index of the object, or −1 for background.

    Source: the multibox assignment of textbooks, such as Zhang et al., Dive into Deep Learning, section "Anchor boxes".
    An object that overlaps no remaining anchor is not matched.
    """
    matches = _all_background(iou)
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return matches
    truths, anchors = iou.shape
    left = iou.nan_to_num(nan=0.0)  # a copy by default
    overlap, best = left.max(0)
    matches = torch.where(overlap > threshold, best, BACKGROUND)
    for _ in range(min(truths, anchors)):
        largest, position = left.flatten().max(0, keepdim=True)
        truth, anchor = position // anchors, position % anchors
        matches[anchor] = torch.where(largest > 0, truth, matches[anchor])
        left.index_fill_(0, truth, -1.0).index_fill_(1, anchor, -1.0)
    return matches


def sample_balanced(
    positive: Tensor, negative: Tensor, size: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Sample at most `size` anchors at random, with a maximum fraction of positives. Negatives fill the rest.

    Args:
        positive, negative: [N] bool.
        size: maximum number of samples.
        positive_fraction: maximum fraction of positives, in [0, 1].
        generator: random number generator. A CPU generator gives the same result on every device.

    Returns:
        Indices of positives and of negatives, int64 on the device of `positive`. If all are selected, they are in
        ascending order, and the generator is not used. This function synchronises with the GPU, since the lengths of
        the results depend on the values.

    Source: Ren et al., Faster R-CNN, PAMI 2017, section 3.1.3.
    """
    positives, negatives = positive.nonzero().flatten(), negative.nonzero().flatten()
    positives = _choose(positives, int(size * positive_fraction), generator)
    return positives, _choose(negatives, size - len(positives), generator)


def _choose(ids: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if count >= len(ids):
        return ids
    device = generator.device if generator is not None else ids.device
    return ids[torch.randperm(len(ids), generator=generator, device=device)[:count].to(ids.device)]


def _all_background(iou: Tensor) -> Tensor:
    return torch.full((iou.shape[1],), BACKGROUND, dtype=torch.int64, device=iou.device)
