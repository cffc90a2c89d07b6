"""A tree of words, and softmax over each group of siblings: Redmon and Farhadi, "YOLO9000: better, faster, stronger",
CVPR 2017, section 4, "Hierarchical classification".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sightline.errors import InputError

Pairs = Sequence[Sequence[str | int]]
"""(name, parent) of each node: the parent's position, before the node's own, or −1 for a root."""


class WordTree:
    """T nodes, each with a name and a parent; the children of one parent are a group, and so are the roots.

    Args:
        pairs: (name, parent) of each node.

    Attributes:
        names: of the nodes.
        parents: int64 [T], positions, −1 for roots.
        groups: int64 [T], the group of each node, 0 … G − 1; that of the roots is 0.
        children: int64 [T], the group of each node's children, −1 for leaves.
        paths: int64 [T, D], each node and its ancestors, root first, then −1.

    Raises:
        InputError: there is no node, a parent does not stand before its child, or two nodes have one name.
    """

    def __init__(self, pairs: Pairs):
        if not pairs:
            raise InputError("a word tree needs at least one node; give (name, parent) pairs, parent -1 for a root")
        if isinstance(pairs, str) or not all(_is_pair(pair) for pair in pairs):
            raise InputError(
                f"a word tree is a list of [name, parent] pairs, not {str(pairs)[:60]!r}; "
                "sightline.data.word_tree.read_word_tree reads one from its file"
            )
        self.names = tuple(str(name) for name, _ in pairs)
        parents = [int(parent) for _, parent in pairs]
        for node, parent in enumerate(parents):
            if not -1 <= parent < node:
                raise InputError(
                    f"node {node} ({self.names[node]!r}) of the word tree has parent {parent}, but a parent must be -1 "
                    "(for a root) or the position of an earlier node"
                )
        self._ids: dict[str, int] = {}
        for node, name in enumerate(self.names):
            if self._ids.setdefault(name, node) != node:
                raise InputError(
                    f"node {node} of the word tree is named {name!r} as node {self._ids[name]} is; rename one"
                )
        group_of: dict[int, int] = {-1: 0}
        for parent in parents:
            group_of.setdefault(parent, len(group_of))
        paths: list[list[int]] = []
        for node, parent in enumerate(parents):
            paths.append([*(paths[parent] if parent >= 0 else ()), node])
        depth = max(map(len, paths))
        self._parents, self._paths = parents, paths
        self.parents = torch.tensor(parents)
        self.groups = torch.tensor([group_of[parent] for parent in parents])
        self.children = torch.tensor([group_of.get(node, -1) for node in range(len(parents))])
        self.paths = torch.tensor([path + [-1] * (depth - len(path)) for path in paths])

    @classmethod
    def flat(cls, names: Iterable[str]) -> WordTree:
        """Roots alone: one softmax over all."""
        return cls([(name, -1) for name in names])

    @property
    def pairs(self) -> list[list[str | int]]:
        """What it was made of, as JSON takes it."""
        return [[name, parent] for name, parent in zip(self.names, self._parents, strict=True)]

    def __len__(self) -> int:
        return len(self.names)

    def id(self, name: str) -> int:
        """The node of a name."""
        if name not in self._ids:
            raise InputError(f"{name!r} is no node of the word tree; add it with its parent, or correct the name")
        return self._ids[name]

    def path(self, node: int) -> list[int]:
        """The node's ancestors and itself, root first."""
        return list(self._paths[node])


def _is_pair(pair: object) -> bool:
    return isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 and isinstance(pair[1], int)


def log_conditionals(logits: Tensor, groups: Tensor) -> Tensor:
    """log P(node | parent): softmax within each group of siblings.

    Args:
        logits: [..., T] float.
        groups: [T], as in a `WordTree`.

    Returns:
        [..., T]; over each group the exponentials sum to 1.
    """
    index = groups.expand_as(logits)
    shape = (*logits.shape[:-1], int(groups.max()) + 1)
    highest = logits.detach().new_full(shape, -torch.inf).scatter_reduce(-1, index, logits.detach(), "amax")
    shifted = logits - highest.gather(-1, index)
    sums = torch.zeros(shape, dtype=logits.dtype, device=logits.device).scatter_add(-1, index, shifted.exp())
    return shifted - sums.log().gather(-1, index)


def log_probabilities(conditionals: Tensor, paths: Tensor) -> Tensor:
    """log P(node): the sum of the conditionals from the root to the node.

    Args:
        conditionals: [..., T], logarithms.
        paths: [M, D], of the nodes asked for.

    Returns:
        [..., M].
    """
    total = conditionals.new_zeros((*conditionals.shape[:-1], len(paths)))
    for nodes in paths.unbind(1):  # one step down at a time: all of it at once would be D times as large
        held = nodes >= 0
        step = conditionals.index_select(-1, nodes.clamp(min=0))
        total = total + torch.where(held, step, torch.zeros_like(step))
    return total


def descend(conditionals: Tensor, groups: Tensor, children: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Walk down from the root by the likeliest child while its probability stays at or above `threshold`.

    The likeliest root is always taken: there is nothing above it to stay at.

    Args:
        conditionals: [..., T], logarithms.
        groups, children: as in a `WordTree`.
        threshold: on P(node), the product of the conditionals from the root.

    Returns:
        node [...] int64 where the walk ends, and its log P(node) [...].
    """
    index = groups.expand_as(conditionals)
    count = int(groups.max()) + 1
    shape = (*conditionals.shape[:-1], count)
    highest = conditionals.new_full(shape, -torch.inf).scatter_reduce(-1, index, conditionals, "amax")
    nodes = torch.arange(conditionals.shape[-1], device=groups.device)
    last = len(nodes)
    ties = torch.where(conditionals == highest.gather(-1, index), nodes, last)
    best = index.new_full(shape, last).scatter_reduce(-1, index, ties, "amin").clamp(max=last - 1)
    node, total = best[..., 0], highest[..., 0]
    going = torch.ones_like(node, dtype=torch.bool)
    limit = torch.as_tensor(threshold, dtype=total.dtype).log()
    while True:
        group = children[node]
        below = group.clamp(min=0)[..., None]
        further = total + highest.gather(-1, below)[..., 0]
        going = going & (group >= 0) & (further >= limit.to(total.device))
        if not bool(going.any()):
            return node, total
        node = torch.where(going, best.gather(-1, below)[..., 0], node)
        total = torch.where(going, further, total)
