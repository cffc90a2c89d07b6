"""Proposals: regions of an image that may hold an object, whatever its class.

A source of proposals is any callable: image [C, H, W] → boxes [P, 4] in its pixels, best first. It stands here, above
data and models, because both ends use it: a region-based detector asks it for regions, and data is prepared with it.
"""

from sightline.ops.proposals.cache import ArrayFolder, CachedProposals
from sightline.ops.proposals.selective_search import Proposer, SelectiveSearch

__all__ = ["ArrayFolder", "CachedProposals", "Proposer", "SelectiveSearch"]
