"""Word trees: sums by hand, walks by a loop, and the file format."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sightline.data.word_tree import read_word_tree
from sightline.errors import InputError
from sightline.ops.word_tree import WordTree, descend, log_conditionals, log_probabilities

# siblings need not stand together: "cat" comes behind the kinds of dog
PAIRS = [
    *[("animal", -1), ("vehicle", -1), ("dog", 0), ("poodle", 2), ("terrier", 2), ("cat", 0)],
    *[("car", 1), ("boat", 1), ("airedale", 4), ("stone", -1)],
]
TREE = WordTree(PAIRS)
SIBLINGS = [[0, 1, 9], [2, 5], [3, 4], [6, 7], [8]]


def logits(seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(4, 5, len(TREE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_groups_and_paths_by_hand() -> None:
    assert TREE.groups.tolist() == [0, 0, 1, 2, 2, 1, 3, 3, 4, 0]
    assert TREE.children.tolist() == [1, 3, 2, -1, 4, -1, -1, -1, -1, -1]
    assert TREE.path(8) == [0, 2, 4, 8]
    assert TREE.paths[8].tolist() == [0, 2, 4, 8]
    assert TREE.paths[7].tolist() == [1, 7, -1, -1]
    assert TREE.id("terrier") == 4
    assert WordTree(TREE.pairs).names == TREE.names


def test_siblings_share_all_of_their_parent() -> None:
    x = logits()
    conditionals = log_conditionals(x, TREE.groups)
    for group in SIBLINGS:
        torch.testing.assert_close(conditionals[..., group].exp().sum(-1), torch.ones(4, 5, dtype=torch.float64))
        torch.testing.assert_close(conditionals[..., group], x[..., group].log_softmax(-1))
    far = log_conditionals(x * 1e4, TREE.groups)
    assert far.isfinite().all()


def test_a_node_s_probability_is_the_product_along_its_path() -> None:
    x = torch.zeros(len(TREE))
    x[2], x[3] = math.log(3), math.log(4)  # a dog three times as likely as a cat; a poodle four times a terrier
    found = log_probabilities(log_conditionals(x, TREE.groups), TREE.paths).exp()
    third = 1 / 3
    wanted = [third, third, third * 0.75, third * 0.75 * 0.8, third * 0.75 * 0.2, third * 0.25]
    wanted += [third / 2, third / 2, third * 0.75 * 0.2, third]
    assert found.tolist() == pytest.approx(wanted)
    all_ = log_probabilities(log_conditionals(logits(), TREE.groups), TREE.paths).exp()
    leaves = [node for node in range(len(TREE)) if TREE.children[node] < 0]
    torch.testing.assert_close(all_[..., leaves].sum(-1), torch.ones(4, 5, dtype=torch.float64))


def test_gradients_are_those_of_softmax() -> None:
    x = logits()[0, 0].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: log_probabilities(log_conditionals(v, TREE.groups), TREE.paths), (x,), atol=1e-6
    )


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_walk_down_equals_a_loop(threshold: float) -> None:
    conditionals = log_conditionals(logits(7), TREE.groups)
    node, total = descend(conditionals, TREE.groups, TREE.children, threshold)
    for row, found, value in zip(conditionals.flatten(0, 1).exp(), node.flatten(), total.flatten(), strict=True):
        p = row.tolist()
        at = max(SIBLINGS[0], key=lambda n: p[n])
        product = p[at]
        while True:
            below = [n for n, (_, parent) in enumerate(PAIRS) if parent == at]
            best = max(below, key=lambda n: p[n], default=None)
            if best is None or product * p[best] < threshold:
                break
            at, product = best, product * p[best]
        assert (int(found), float(value.exp())) == (at, pytest.approx(product))


def test_no_boxes_and_a_flat_tree() -> None:
    flat = WordTree.flat(["a", "b", "c"])
    node, total = descend(torch.zeros(0, 3), flat.groups, flat.children, 0.5)
    assert node.shape == total.shape == (0,)
    x = torch.randn(6, 3)
    node, total = descend(log_conditionals(x, flat.groups), flat.groups, flat.children, 0.99)
    assert torch.equal(node, x.argmax(1))
    torch.testing.assert_close(total.exp(), x.softmax(1).amax(1))


def test_trees_that_are_none() -> None:
    with pytest.raises(InputError, match="at least one node"):
        WordTree([])
    with pytest.raises(InputError, match=r"not '9k\.tree'; sightline\.data\.word_tree\.read_word_tree reads one"):
        WordTree("9k.tree")
    with pytest.raises(InputError, match=r"node 0 \('a'\) of the word tree has parent 1"):
        WordTree([("a", 1), ("b", -1)])
    with pytest.raises(InputError, match="node 1 of the word tree is named 'a' as node 0 is"):
        WordTree([("a", -1), ("a", 0)])
    for wrong in ([1, 2], [("a", "x")], [("a", -1), ("b", 0.9)]):
        with pytest.raises(InputError, match=r"a word tree is a list of \[name, parent\] pairs"):
            WordTree(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'bird' is no node"):
        TREE.id("bird")


def test_the_published_format(tmp_path: Path) -> None:
    file, names = tmp_path / "small.tree", tmp_path / "small.names"
    file.write_text("n00002137 -1\nn00021939 -1\nn00019128 1\n\nn00019129 2\n")
    assert read_word_tree(file) == [["n00002137", -1], ["n00021939", -1], ["n00019128", 1], ["n00019129", 2]]
    names.write_text("abstraction\nartifact\ndrum cymbal\nartifact\n")
    pairs = read_word_tree(file, names)
    assert [name for name, _ in pairs] == ["abstraction", "artifact", "drum cymbal", "artifact (n00019129)"]
    assert WordTree(pairs).path(3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a -1\nb\n", "small.tree, line 2: 'b' must be a name and the number of its parent"),
        ("a -1\nb ²\n", "line 2: 'b ²' must be a name"),
        ("a -1\nb x\n", "line 2: 'b x' must be a name"),
        ("a -1\nb 1\n", "line 2: parent 1 of 'b' must be -1 or the number of an earlier node, 0 to 0"),
        ("\n", "the file contains no tree"),
    ],
)
def test_files_that_hold_no_tree(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "small.tree"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_word_tree(file)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_word_tree(tmp_path / "none.tree")
    (tmp_path / "a.tree").write_bytes(b"a\xff -1\n")
    with pytest.raises(InputError, match=r"a\.tree is not UTF-8 text"):
        read_word_tree(tmp_path / "a.tree")
    (tmp_path / "a.tree").write_text("a -1\n")
    (tmp_path / "a.names").write_text("one\ntwo\n")
    with pytest.raises(InputError, match=r"has 2 names, but the tree of .* has 1 nodes"):
        read_word_tree(tmp_path / "a.tree", tmp_path / "a.names")
