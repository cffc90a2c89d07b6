"""Assignment against loops written out, worked examples and reference values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import assignment as ops
from sightline.ops.mining import hard_negatives


def distinct_overlaps(truths: int, anchors: int, seed: int) -> Tensor:
    """A matrix without ties, so that every rule has one answer; about a fifth of it is 0 as in real images."""
    generator = torch.Generator().manual_seed(seed)
    iou = (torch.randperm(truths * anchors, generator=generator) + 1).double() / (truths * anchors)
    return (iou.view(truths, anchors) - 0.2).clamp(min=0)


MATRICES = st.builds(distinct_overlaps, st.integers(1, 6), st.integers(1, 30), st.integers(0, 10**6))


def threshold_loop(iou: list[list[float]], high: float, low: float, allow_low_quality: bool) -> list[int]:
    matches = []
    for anchor in range(len(iou[0])):
        column = [row[anchor] for row in iou]
        best = column.index(max(column))
        match = best if column[best] >= high else -2 if column[best] >= low else -1
        if allow_low_quality and any(row[anchor] == max(row) > 0 for row in iou):
            match = best
        matches.append(match)
    return matches


@given(iou=MATRICES, thresholds=st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.4)]), allow=st.booleans())
@settings(deadline=None, max_examples=80)
def test_threshold_equals_a_loop(iou: Tensor, thresholds: tuple[float, float], allow: bool) -> None:
    expected = threshold_loop(iou.tolist(), *thresholds, allow)
    assert ops.match_threshold(iou, *thresholds, allow).tolist() == expected


def test_threshold_by_hand() -> None:
    iou = torch.tensor([[0.8, 0.2, 0.0, 0.45], [0.1, 0.6, 0.25, 0.0], [0.0, 0.2, 0.3, 0.0]])
    assert ops.match_threshold(iou, 0.7, 0.3).tolist() == [0, -2, -2, -2]
    # Ground truth 1 keeps anchor 1 and ground truth 2 anchor 2, though their overlaps are below 0.7.
    assert ops.match_threshold(iou, 0.7, 0.3, allow_low_quality=True).tolist() == [0, 1, 2, -2]
    assert ops.match_threshold(iou, 0.5, 0.5).tolist() == [0, 1, -1, -1]


def test_an_object_that_overlaps_no_anchor_claims_none() -> None:
    iou = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.9, 0.0, 0.1, 0.0]])
    assert ops.match_threshold(iou, 0.7, 0.3, allow_low_quality=True).tolist() == [1, -1, -1, -1]
    assert ops.match_best(iou, 0.5).tolist() == [1, -1, -1, -1]
    assert ops.match_greedy(iou, 0.5).tolist() == [1, -1, -1, -1]
    iou[0] = torch.nan  # two boxes without area
    assert ops.match_threshold(iou[:1], 0.7, 0.3, allow_low_quality=True).tolist() == [-1] * 4
    assert ops.match_best(iou[:1], 0.5).tolist() == [-1] * 4
    assert ops.match_greedy(iou, 0.5).tolist() == [1, -1, -1, -1]


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InputError, match=r"the low threshold 0.7 is above the high one 0.3"):
        ops.match_threshold(torch.zeros(1, 1), 0.3, 0.7)


def test_images_without_objects_and_without_anchors() -> None:
    for match in (
        lambda iou: ops.match_threshold(iou, 0.7, 0.3, True),
        lambda iou: ops.match_best(iou, 0.5),
        lambda iou: ops.match_greedy(iou, 0.5),
    ):
        assert match(torch.zeros(0, 3)).tolist() == [-1, -1, -1]
        assert match(torch.zeros(2, 0)).tolist() == []
        assert match(torch.zeros(0, 3)).dtype == torch.int64


def best_loop(iou: list[list[float]], threshold: float) -> list[int]:
    matches = threshold_loop(iou, threshold, threshold, False)
    for truth, row in enumerate(iou):
        if max(row) > 0:
            matches[row.index(max(row))] = truth
    return matches


@given(iou=MATRICES)
@settings(deadline=None, max_examples=60)
def test_best_equals_a_loop(iou: Tensor) -> None:
    assert ops.match_best(iou, 0.5).tolist() == best_loop(iou.tolist(), 0.5)


def greedy_loop(iou: list[list[float]], threshold: float) -> list[int]:
    truths, anchors = set(range(len(iou))), set(range(len(iou[0])))
    matches = [-1] * len(iou[0])
    while truths and anchors:
        value, truth, anchor = max((iou[t][a], t, a) for t in truths for a in anchors)
        if value == 0:
            break
        matches[anchor] = truth
        truths.remove(truth)
        anchors.remove(anchor)
    for anchor in anchors:
        column = [row[anchor] for row in iou]
        if max(column) > threshold:
            matches[anchor] = column.index(max(column))
    return matches


@given(iou=MATRICES)
@settings(deadline=None, max_examples=60)
def test_greedy_equals_a_loop(iou: Tensor) -> None:
    before = iou.clone()
    assert ops.match_greedy(iou, 0.5).tolist() == greedy_loop(iou.tolist(), 0.5)
    assert torch.equal(iou, before)


def test_greedy_by_hand() -> None:
    # Both objects overlap anchor 0 most; the first takes it (0.9), so the second takes anchor 2 (0.3), and anchor 1
    # goes by threshold. With threshold 0.6 it goes to nobody.
    iou = torch.tensor([[0.9, 0.55, 0.1], [0.8, 0.2, 0.3]])
    assert ops.match_greedy(iou, 0.5).tolist() == [0, 0, 1]
    assert ops.match_greedy(iou, 0.6).tolist() == [0, -1, 1]


def test_sampling_keeps_numbers_and_fractions() -> None:
    positive = torch.zeros(1000, dtype=torch.bool)
    positive[::10] = True  # 100
    negative = ~positive
    negative[1::10] = False  # 100 are left out
    generator = torch.Generator().manual_seed(0)
    positives, negatives = ops.sample_balanced(positive, negative, 64, 0.25, generator)
    assert (len(positives), len(negatives)) == (16, 48)
    assert positive[positives].all()
    assert negative[negatives].all()
    assert len(set(positives.tolist())) == 16
    assert len(set(negatives.tolist())) == 48
    # Few positives: negatives fill the rest. Few of both: all are taken, in order.
    few = torch.zeros(1000, dtype=torch.bool)
    few[[7, 300]] = True
    positives, negatives = ops.sample_balanced(few, negative, 64, 0.5, generator)
    assert positives.tolist() == [7, 300]
    assert len(negatives) == 62
    positives, negatives = ops.sample_balanced(positive, negative, 2**20, 0.5)
    assert torch.equal(positives, positive.nonzero().flatten())
    assert torch.equal(negatives, negative.nonzero().flatten())
    nothing = torch.zeros(0, dtype=torch.bool)
    assert [len(ids) for ids in ops.sample_balanced(nothing, nothing, 64, 0.5)] == [0, 0]


def test_sampling_follows_its_generator_alone() -> None:
    positive = torch.arange(400) % 2 == 0

    def choose(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [ids.tolist() for ids in ops.sample_balanced(positive, ~positive, 32, 0.5, generator)]

    state = torch.random.get_rng_state()
    assert choose(1) == choose(1) != choose(2)
    assert torch.equal(state, torch.random.get_rng_state())


def test_sampling_takes_each_candidate_equally_often() -> None:
    positive = torch.ones(20, dtype=torch.bool)
    generator = torch.Generator().manual_seed(5)
    count = torch.zeros(20)
    for _ in range(2000):
        count[ops.sample_balanced(positive, ~positive, 5, 1.0, generator)[0]] += 1
    # Binomial of 2000 draws at 1/4: mean 500, standard deviation 19.4; five of them either way.
    assert (count - 500).abs().max() < 97


@given(seed=st.integers(0, 10**6), ratio=st.sampled_from([1.0, 2.5, 3.0]), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@settings(deadline=None, max_examples=40)
def test_hard_negatives_equal_a_loop(seed: int, ratio: float, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    loss = torch.randperm(60, generator=generator).view(3, 20).float()
    positive = torch.rand(3, 20, generator=generator) < share
    chosen = hard_negatives(loss, positive, ratio)
    for row in range(3):
        negatives = [i for i in range(20) if not positive[row, i]]
        hardest = sorted(negatives, key=lambda i: -loss[row, i].item())
        count = math.ceil(ratio * int(positive[row].sum()))
        assert chosen[row].nonzero().flatten().tolist() == sorted(hardest[:count])


def test_nothing_waits_for_the_device_or_mixes_devices() -> None:
    iou = torch.zeros(4, 9, device="meta")
    assert ops.match_threshold(iou, 0.7, 0.3, True).device.type == "meta"
    assert ops.match_best(iou, 0.5).device.type == "meta"
    assert ops.match_greedy(iou, 0.5).device.type == "meta"
    assert hard_negatives(iou, iou > 0.5).device.type == "meta"


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity/ops/matchers.npz")
    quality = torch.from_numpy(reference["quality"])
    for case in json.loads(str(reference["meta"]))["cases"]:
        ours = ops.match_threshold(
            quality, case["high_threshold"], case["low_threshold"], case["allow_low_quality_matches"]
        )
        assert ours.tolist() == reference[case["key"]].tolist()
    assert ops.match_best(quality, 0.5).tolist() == reference["ssd_matcher_0.5"].tolist()
