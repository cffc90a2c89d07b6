"""Message passing against a loop over objects and relations, and the frequency bias against counts."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.nn.heads.message_passing import IterativeMessagePassing
from sightline.nn.heads.relations import FrequencyBias
from sightline.ops.pairs import ordered_pairs


def test_messages_are_those_of_the_paper() -> None:
    """Equations 3 and 4 of Xu et al. 2017, one object and one relation after the other."""
    torch.manual_seed(0)
    layer = IterativeMessagePassing(6).double()
    pairs = ordered_pairs([3, 1, 2])
    node, edge = torch.randn(6, 6, dtype=torch.float64), torch.randn(len(pairs), 6, dtype=torch.float64)

    def weight(gate: torch.nn.Linear, i: int, e: int) -> torch.Tensor:
        return torch.sigmoid(gate.weight[0] @ torch.cat([node[i], edge[e]]) + gate.bias)

    to_nodes, to_edges = layer.messages(node, edge, pairs)
    for i in range(6):
        expected = torch.zeros(6, dtype=torch.float64)
        for e, (subject, object_) in enumerate(pairs.tolist()):
            if subject == i:
                expected = expected + weight(layer.from_outgoing, i, e) * edge[e]
            if object_ == i:
                expected = expected + weight(layer.from_incoming, i, e) * edge[e]
        torch.testing.assert_close(to_nodes[i], expected)
    for e, (subject, object_) in enumerate(pairs.tolist()):
        expected = weight(layer.from_subject, subject, e) * node[subject]
        expected = expected + weight(layer.from_object, object_, e) * node[object_]
        torch.testing.assert_close(to_edges[e], expected)
    assert torch.equal(to_nodes[3], torch.zeros(6, dtype=torch.float64))  # alone in its image


def test_images_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    layer = IterativeMessagePassing(4, iterations=3)
    pairs = ordered_pairs([2, 3])
    nodes, edges = torch.randn(5, 4), torch.randn(len(pairs), 4)
    both = layer(nodes, edges, pairs)
    alone = layer(nodes[2:], edges[2:], pairs[2:] - 2)
    torch.testing.assert_close(both[0][2:], alone[0])
    torch.testing.assert_close(both[1][2:], alone[1])
    without = IterativeMessagePassing(4, iterations=0)
    without.load_state_dict(layer.state_dict())
    assert not torch.allclose(without(nodes, edges, pairs)[0], both[0])
    assert layer(nodes[:0], edges[:0], pairs[:0])[1].shape == (0, 4)


def test_the_bias_is_the_logit_of_the_frequency() -> None:
    bias = FrequencyBias(3, 2, prior=2.0)
    assert bias(torch.tensor([0]), torch.tensor([1])).tolist() == [[0.0, 0.0]]  # one half: nothing is known
    subjects, objects = torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 1, 0])
    bias.count(subjects, objects, torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1]]).bool())
    assert bias.relations[0, 1].tolist() == [2, 0]
    assert bias.pairs[0, 1] == 3
    assert bias.seen().nonzero().tolist() == [[0, 1, 0], [2, 0, 1]]
    # overall frequencies (2 + 1) / (4 + 2) and (1 + 1) / (4 + 2), as two further pairs
    expected = [[(2 + 2 * 3 / 6) / 5, (0 + 2 * 2 / 6) / 5], [3 / 6, 2 / 6]]
    found = bias(torch.tensor([0, 1]), torch.tensor([1, 1]))
    assert found.tolist() == [[pytest.approx(math.log(p / (1 - p)), abs=1e-5) for p in row] for row in expected]
    assert {name for name, _ in bias.named_buffers()} == set(bias.state_dict()) == {"relations", "pairs"}
