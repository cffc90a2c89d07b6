"""What a segmenter's pixels should say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.models.segmentation.segmenter import Segmenter
from sightline.ops.resized_logits import ResizedLogits
from sightline.structures import IGNORE, ClassMap


def segmenter(side: int) -> Segmenter:
    return Segmenter(["a", "b", "c"], Preprocess(min_size=side, max_size=side, divisor=1), nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize(("side", "new"), [(100, 52), (60, 83), (200, 52), (64, 64)])
def test_labels_lie_where_their_image_is(side: int, new: int) -> None:
    """The middle of a square stays there, whatever the sizes: pixels are taken by their centres."""
    model = segmenter(new)
    labels = torch.zeros(side, side, dtype=torch.int64)
    labels[side // 5 : 4 * side // 5, side // 2 :] = 1
    batch, _ = model.preprocess([torch.rand(3, side, side)])
    found = model.assign([ClassMap(labels, model.classes)], batch)[0]
    assert found.shape == (new, new)
    rows, columns = (found == 1).nonzero().float().add(0.5).mul(side / new).mean(0).tolist()
    assert rows == pytest.approx((side // 5 + 4 * side // 5) / 2, abs=0.3 * side / new)
    assert columns == pytest.approx((side // 2 + side) / 2, abs=0.3 * side / new)


def test_labels_that_are_no_class_are_told() -> None:
    model = segmenter(8)
    labels = torch.zeros(8, 8, dtype=torch.int64)
    labels[0, :3], labels[1, 0], labels[2, 0] = 5, -2, IGNORE
    with pytest.raises(InputError, match=r"m\.png has labels that are not class ids: -2 \(1 pixels\), 5 \(3 pixels\)"):
        model([torch.rand(3, 8, 8)], [ClassMap(labels, source="m.png")])


def test_probabilities_are_computed_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, computed = segmenter(16).eval(), []
    whole = ResizedLogits.__call__
    monkeypatch.setattr(ResizedLogits, "__call__", lambda self: computed.append(1) or whole(self))
    with torch.inference_mode():
        result = model([torch.rand(3, 20, 30)])[0].to("cpu").named("a.png")
    assert "with scores" in repr(result)
    assert not computed
    scores = result.scores
    assert scores is not None
    assert scores.shape == (3, 20, 30)
    assert torch.equal(scores.argmax(0), result.labels)
    assert result.scores is scores
    assert result.source == "a.png"
    assert len(computed) == 1
