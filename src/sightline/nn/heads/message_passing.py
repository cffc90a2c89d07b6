"""Iterative message passing between the objects and the relations of a scene graph.

Xu, Zhu, Choy, Fei-Fei, "Scene graph generation by iterative message passing", CVPR 2017, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IterativeMessagePassing(nn.Module):
    """Objects and relations exchange messages, each with a GRU that they share with others of their kind (figure 3).

    Args:
        width: number of features D of an object and of a relation.
        iterations: number of times that messages are exchanged; 2 in the paper (section 4.3).
    """

    def __init__(self, width: int, iterations: int = 2):
        super().__init__()
        self.iterations = iterations
        self.node_gru, self.edge_gru = nn.GRUCell(width, width), nn.GRUCell(width, width)
        # v1, v2, w1, w2 of equations 3 and 4
        self.from_outgoing, self.from_incoming = nn.Linear(2 * width, 1), nn.Linear(2 * width, 1)
        self.from_subject, self.from_object = nn.Linear(2 * width, 1), nn.Linear(2 * width, 1)

    def forward(self, nodes: Tensor, edges: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Features of objects and relations → their final states.

        Args:
            nodes: [N, D], features of the objects.
            edges: [E, D], features of the relations.
            pairs: [E, 2] int64, subject and object of each relation.

        Returns:
            States of the objects [N, D] and of the relations [E, D].
        """
        node, edge = self.node_gru(nodes), self.edge_gru(edges)
        for _ in range(self.iterations):
            to_nodes, to_edges = self.messages(node, edge, pairs)
            node, edge = self.node_gru(to_nodes, node), self.edge_gru(to_edges, edge)
        return node, edge

    def messages(self, node: Tensor, edge: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The messages to each object [N, D] and to each relation [E, D]: sums with learnt weights (equations 3, 4)."""
        subject, object_ = pairs.unbind(1)
        of_subject, of_object = torch.cat([node[subject], edge], 1), torch.cat([node[object_], edge], 1)
        to_nodes = torch.zeros_like(node)
        to_nodes = to_nodes.index_add(0, subject, self.from_outgoing(of_subject).sigmoid() * edge)
        to_nodes = to_nodes.index_add(0, object_, self.from_incoming(of_object).sigmoid() * edge)
        to_edges = self.from_subject(of_subject).sigmoid() * node[subject]
        return to_nodes, to_edges + self.from_object(of_object).sigmoid() * node[object_]
