"""The LSTM captioner against naive loops: one sequence at a time, and all sequences there are."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from sightline.nn.heads.captioner import Captioner
from sightline.structures.vocabulary import END, FIRST_WORD, PADDING, UNKNOWN


@pytest.fixture(scope="module", params=[True, False], ids=["repeated", "once"])
def captioner(request) -> Captioner:
    """Three words, so that all captions can be listed; large weights, so that they differ in likelihood."""
    torch.manual_seed(3)
    model = Captioner(6, FIRST_WORD + 3, embedding=8, hidden=8, repeated=request.param).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.8)
    return model


def naive(model: Captioner, feature: Tensor, caption: list[int], generating: bool) -> float:
    """The log probability of a caption, by one LSTM cell and one word at a time."""
    cell = nn.LSTMCell(8, 8)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).data = getattr(model.lstm, f"{name}_l0").data
    with torch.no_grad():
        image = model.image(feature[None])
        state, always = cell(image), image if model.repeated else 0
        total, before = 0.0, model.vocabulary
        for token in caption:
            state = cell(model.embedding.weight[before][None] + always, state)
            scores = model.output(state[0])[0]
            if generating:
                scores[UNKNOWN] = -torch.inf
            total += float(scores.log_softmax(0)[token])
            before = token
    return total


def every_caption(longest: int) -> list[list[int]]:
    words = range(FIRST_WORD, FIRST_WORD + 3)
    ended = [[*text, END] for length in range(longest) for text in itertools.product(words, repeat=length)]
    return ended + [list(text) for text in itertools.product(words, repeat=longest)]


def test_teacher_forcing_is_the_loop_over_words(captioner):
    features = torch.randn(3, 6)
    ids = torch.tensor([[2, 3, 4, END], [UNKNOWN, END, PADDING, PADDING], [PADDING] * 4])
    found = captioner.log_probabilities(features, ids)
    assert (found[ids == PADDING] == 0).all()
    sums = [naive(captioner, features[0], [2, 3, 4, END], False), naive(captioner, features[1], [UNKNOWN, END], False)]
    torch.testing.assert_close(found.sum(1)[:2], torch.tensor(sums))
    torch.testing.assert_close(captioner.loss(features, ids), -torch.tensor(sum(sums) / 6))


def test_a_wide_beam_finds_the_most_likely_of_all_captions(captioner):
    torch.manual_seed(0)
    features = torch.randn(5, 6)
    found = captioner.beam(features, longest=3, width=40)
    for feature, ids, score in zip(features, found.ids.tolist(), found.scores, strict=True):
        likely = {tuple(text): naive(captioner, feature, text, True) for text in every_caption(3)}
        best = max(likely, key=likely.__getitem__)
        assert tuple(ids) == best + (END,) * (3 - len(best))
        assert float(score) == pytest.approx(likely[best], abs=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_beams_are_those_of_a_naive_loop(captioner, width):
    torch.manual_seed(1)
    features = torch.randn(6, 6)
    found = captioner.beam(features, longest=4, width=width)
    for feature, ids, score in zip(features, found.ids.tolist(), found.scores, strict=True):
        beams: list[list[int]] = [[]]
        for _ in range(4):
            longer = [
                b if b[-1:] == [END] else [*b, t] for b in beams for t in (END, *range(FIRST_WORD, FIRST_WORD + 3))
            ]
            distinct = sorted({tuple(b) for b in longer}, key=lambda b: -naive(captioner, feature, list(b), True))
            beams = [list(b) for b in distinct[:width]]
        assert ids == beams[0] + [END] * (4 - len(beams[0]))
        assert float(score) == pytest.approx(naive(captioner, feature, beams[0], True), abs=1e-5)
    if width == 1:
        torch.testing.assert_close(captioner.greedy(features, 4), found)


def test_batched_captions_are_those_of_single_features(captioner):
    features = torch.randn(4, 6)
    together = captioner.beam(features, 5, 2)
    for row, feature in enumerate(features):
        alone = captioner.beam(feature[None], 5, 2)
        assert alone.ids[0].tolist() == together.ids[row].tolist()
        torch.testing.assert_close(alone.scores[0], together.scores[row])


def test_no_features_and_no_words(captioner):
    nothing = torch.zeros(0, 6)
    assert captioner.beam(nothing, 5).ids.shape == (0, 5)
    loss = captioner.loss(nothing, torch.zeros(0, 4, dtype=torch.int64))
    assert loss.requires_grad
    assert loss.item() == 0
    assert captioner.loss(torch.randn(2, 6), torch.full((2, 3), PADDING)).item() == 0


def test_the_unknown_word_is_never_generated(captioner):
    torch.manual_seed(2)
    biased = Captioner(6, FIRST_WORD + 3, 8, 8).eval()
    nn.init.constant_(biased.output.bias[UNKNOWN : UNKNOWN + 1], 50.0)
    assert UNKNOWN not in biased.beam(torch.randn(8, 6), 6, 3).ids


def test_it_learns_to_describe_features():
    torch.manual_seed(0)
    model = Captioner(4, FIRST_WORD + 5, 16, 16)
    features, ids = torch.eye(4), torch.tensor([[2, 3, END, -1], [4, END, -1, -1], [5, 6, 2, END], [3, 3, END, -1]])
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(features, ids).backward()
        optimizer.step()
    assert model.eval().greedy(features, 4).ids.tolist() == ids.clamp(min=END).tolist()


def test_small_differences_beside_a_large_common_part_are_learned_at_once():
    """What all features have in common does not hide what distinguishes them, so that not all captions are the same."""
    torch.manual_seed(0)
    model = Captioner(24, FIRST_WORD + 10, 32, 32)
    features = 20 * torch.rand(24) + torch.randn(8, 24)
    ids = torch.tensor([[2, 3 + k, 11, END] for k in range(8)])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(features, ids).backward()
        optimizer.step()
    assert (model.eval().greedy(features, 4).ids == ids).all(1).float().mean() >= 0.75


def test_a_single_feature_has_the_statistics_of_earlier_ones():
    model = Captioner(4, FIRST_WORD + 1, 8, 8)
    feature, ids = torch.randn(1, 4), torch.tensor([[2, END]])
    loss = model.loss(feature, ids)
    torch.testing.assert_close(loss, model.eval().loss(feature, ids))
    loss.backward()
    assert model.image[0].weight.grad.abs().sum() > 0
