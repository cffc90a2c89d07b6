"""Assignment: which ground truth each anchor should find, and which anchors a loss counts.

The matchers take the overlaps iou [G, N] of G ground truths with N anchors and give [N] int64: the ground truth's
index, `BACKGROUND` or `BETWEEN`. They build nothing of the graph, wait for no accelerator, and take G = 0 (an image
without objects: all background) and N = 0. A ground truth that overlaps no anchor claims none; an overlap of nan, which
two boxes of zero area have, matches nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError

BACKGROUND = -1
"""Overlaps no ground truth enough."""

BETWEEN = -2
"""Overlaps one too much for background and too little for a match: left out of the losses."""


@torch.no_grad()
def match_threshold(iou: Tensor, high: float, low: float, allow_low_quality: bool = False) -> Tensor:
    """Each anchor takes the ground truth it overlaps most: a match from `high` on, background below `low`.

    Args:
        iou: [G, N] overlaps.
        high: least overlap of a match.
        low: overlaps below are background; between `low` and `high` the anchor is left out.
        allow_low_quality: an anchor with the largest overlap of some ground truth keeps its own best match however
            small the overlap is (several anchors, where they tie), so that hardly any ground truth goes without.

    Returns:
        [N] int64: a ground truth's index, −1 background, −2 between.

    Raises:
        InputError: `low` is above `high`.

    Source: Ren et al., Faster R-CNN, PAMI 2017, section 3.1.2; rule (i) there is `allow_low_quality`. An anchor taken
    by it gets ITS best ground truth, which need not be the one that called for it, as in published implementations.
    Departure from those: a ground truth that overlaps nothing calls for no anchor (there it calls for all it does not
    overlap).
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
    """Each anchor takes the ground truth it overlaps most, if enough; then each ground truth claims its best anchor.

    Args:
        iou: [G, N] overlaps.
        threshold: least overlap of a match that no ground truth claimed.

    Returns:
        [N] int64: a ground truth's index, or −1 background. Of several ground truths that claim one anchor the last
        has it.

    Source: Liu et al., SSD, 2016, section 2.2, "Matching strategy".
    """
    matches = match_threshold(iou, threshold, threshold)
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return matches
    overlap, anchor = iou.max(1)
    claim = torch.arange(iou.shape[0], device=iou.device).where(overlap > 0, BACKGROUND)
    # The largest index among equal claims: writing by index would leave the winner to chance on a GPU.
    claims = torch.full_like(matches, BACKGROUND).scatter_reduce_(0, anchor, claim, "amax")
    return torch.where(claims >= 0, claims, matches)


@torch.no_grad()
def match_greedy(iou: Tensor, threshold: float) -> Tensor:
    """Greedy one-to-one assignment, then by threshold.

    The largest overlap of all assigns its ground truth to its anchor and strikes out both; so on until every ground
    truth has an anchor of its own. Then every anchor left takes the ground truth it overlaps most, if above
    `threshold`. This loops over ground truths (each step needs the one before), never over anchors; a step reads the
    matrix once.

    Args:
        iou: [G, N] overlaps.
        threshold: the anchors left need more than this.

    Returns:
        [N] int64: a ground truth's index, or −1 background.

    Source: the form in which multibox assignment is taught, as in Zhang et al., Dive into Deep Learning, section
    "Anchor boxes". No anchor goes to a ground truth that overlaps none of those left.
    """
    matches = _all_background(iou)
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return matches
    truths, anchors = iou.shape
    left = iou.nan_to_num(nan=0.0)  # a copy, unless told otherwise
    overlap, best = left.max(0)
    matches = torch.where(overlap > threshold, best, BACKGROUND)
    for _ in range(min(truths, anchors)):
        largest, position = left.flatten().max(0, keepdim=True)
        truth, anchor = position // anchors, position % anchors
        matches[anchor] = torch.where(largest > 0, truth, matches[anchor])
        left.index_fill_(0, truth, -1.0).index_fill_(1, anchor, -1.0)
    return matches


def sample_balanced(
    positive: Tensor,
    negative: Tensor,
    size: int,
    positive_fraction: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose at random at most `size` anchors, of which at most a fraction positive; negatives fill what is left.

    Args:
        positive, negative: [N] bool.
        size: how many in all.
        positive_fraction: the largest share of positives, in [0, 1].
        generator: the source of chance. One on the CPU gives the same choice on every device.

    Returns:
        Ids of the positives and of the negatives, int64 on `positive`'s device; in rising order and without use of
        chance where all are taken. Counting the two waits for an accelerator, for the results' lengths depend on it.

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
