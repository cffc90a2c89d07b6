"""DenseCap: one map as in the paper and a pyramid, words from the data, captions of regions, context."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sightline as sl
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.candidates import select
from sightline.models.preprocess import InputSize
from sightline.models.scene.densecap import DenseCap, densecap_single
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.caption_regions import BilinearRegions, CaptionSettings, enlarged
from sightline.nn.heads.rpn import ProposalSettings
from sightline.structures import ImageBatch, Instances
from sightline.structures.vocabulary import END, Vocabulary

CAPTIONS = ["a red circle left of a blue star", "a blue star"]
WORDS = Vocabulary.of(CAPTIONS).words
TINY: dict[str, Any] = {
    "min_size": 64,
    "max_size": 96,
    "words": WORDS,
    "hidden": 32,
    "embedding": 16,
    "hidden_words": 16,
    "captions": CaptionSettings(longest=8, beam=2),
    "boxes": BoxSettings(samples=16, max_detections=5, min_score=0.01),
    "proposals": ProposalSettings(before_nms=(50, 50), after_nms=(20, 20), min_size=1),
}


def made(**arguments: Any) -> DenseCap:
    torch.manual_seed(0)
    model = create_model("densecap_lite0", ["circle", "star"], **{**TINY, "channels": 16, **arguments})
    assert isinstance(model, DenseCap)
    return model


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(seed))


def target(model: DenseCap, captions: list[str] | None = None) -> Instances:
    boxes = torch.tensor([[5.0, 5, 30, 40], [40, 20, 75, 60]])
    own = CAPTIONS if captions is None else captions
    return Instances((64, 80), classes=model.classes, boxes=boxes, labels=[0, 1], captions=own, source="a.jpg")


@pytest.fixture(scope="module")
def model() -> DenseCap:
    return made().eval()


def test_results_have_a_caption_per_box(model):
    with torch.inference_mode():
        (found,) = model([picture()])
    assert len(found) == len(found.captions) > 0
    known = set(WORDS)
    assert all(set(caption.split()) <= known for caption in found.captions)
    assert all(len(caption.split()) <= 8 for caption in found.captions)
    assert "words" not in found


def test_a_region_has_one_box_and_suppresses_boxes_of_other_classes(model):
    """The detections are those that `select` finds among the candidates, and none overlaps another by more than NMS."""
    with torch.no_grad():
        batch, _ = model.prepare([picture()], None)
        (candidates,), (found,) = model.candidates(batch), model.batch_results(batch)
        maps = model.backbone(batch.tensor)
        background = model.roi_heads.predict(maps, [candidates.origins], batch)[0][:, 0]
    assert ((candidates.scores > 0).sum(1) == 1).all()
    described = candidates.logits.exp().sum(1) / (candidates.logits.exp().sum(1) + background.exp())
    torch.testing.assert_close(candidates.scores.amax(1), described, atol=1e-5, rtol=1e-4)
    rows, classes = select(candidates, model.selection())
    torch.testing.assert_close(candidates.scores[rows, classes], found.scores, atol=1e-5, rtol=1e-4)
    assert classes.tolist() == found.labels.tolist()
    overlap = sl.ops.boxes.box_iou(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlap.max() <= model.roi_heads.settings.nms_iou + 1e-3


@pytest.mark.parametrize(("context", "own_layers"), [(None, False), (None, True), (2.0, True), (2.0, False)])
def test_captions_are_those_of_the_detected_regions(context, own_layers):
    """Each caption is the most likely one of the code of the region that its box was regressed from."""
    model = made(context=context, own_layers=own_layers, captions=CaptionSettings(longest=8, beam=1)).eval()
    with torch.inference_mode():
        batch, _ = model.prepare([picture(), picture(1)], None)
        maps = model.backbone(batch.tensor)
        regions, results = model.regions_of(maps, batch), model.batch_results(batch)
        for i, result in enumerate(results):
            alone = [own if k == i else own[:0] for k, own in enumerate(regions)]
            candidates = model.candidates(batch)[i]
            rows, _ = select(candidates, model.selection())
            chosen = [own[rows] if k == i else own for k, own in enumerate(alone)]
            every = [torch.arange(len(own)) for own in chosen]
            codes = model.roi_heads.codes(maps, chosen, batch)
            described = model.roi_heads.described(codes, maps, chosen, every, batch)
            ids = model.roi_heads.captioner.greedy(described, 8).ids
            assert model.vocabulary.decode(ids) == result.captions
            scores = model.word_scores(one_image(batch, i), chosen[i][:1], ids[:1])
            assert scores.shape == (1, 8)
            assert (scores <= 0).all()


def one_image(batch: ImageBatch, i: int) -> ImageBatch:
    return ImageBatch.pad([batch.tensor[i]], [batch.original_sizes[i]], 32)


def test_losses_and_their_weight():
    model = made()
    torch.manual_seed(0)
    once = model([picture()], [target(model)])
    assert set(once) == {
        *("loss_objectness", "loss_proposal_box", "loss_classification", "loss_box", "loss_caption"),
    }
    heavier = made(captions=CaptionSettings(longest=8, weight=3.0))
    torch.manual_seed(0)
    again = heavier([picture()], [target(heavier)])
    assert again["loss_caption"].item() == pytest.approx(3 * once["loss_caption"].item(), rel=1e-4)
    assert again["loss_box"].item() == pytest.approx(once["loss_box"].item(), rel=1e-4)


def test_scores_and_boxes_weigh_a_tenth_of_the_captions(monkeypatch):
    """Section 3.2 of the paper; if they weigh as much, colours are learned late."""
    model = made()
    torch.manual_seed(0)
    found = model([picture()], [target(model)])
    monkeypatch.setattr(model, "other_weight", 1.0)
    torch.manual_seed(0)
    plain = model([picture()], [target(model)])
    for name, loss in found.items():
        assert loss.item() == pytest.approx(plain[name].item() * (1 if name == "loss_caption" else 0.1), rel=1e-4)


@pytest.mark.parametrize("own_layers", [True, False])
def test_layers_of_the_captions_learn_from_captions_alone(own_layers):
    model = made(own_layers=own_layers)
    assert (model.roi_heads.caption_head is not None) == own_layers
    losses = model([picture(), picture(1)], [target(model), target(model)])
    losses.pop("loss_caption").backward(retain_graph=True)
    head = model.roi_heads.box_head.fc6.weight
    assert (head.grad is None) == own_layers
    if own_layers:
        learned = model.roi_heads.caption_head.fc6.weight
        before = learned.grad.clone()
        sum(losses.values()).backward()
        assert before.abs().sum() > 0
        assert torch.equal(learned.grad, before)
        assert head.grad.abs().sum() > 0


def test_words_of_different_width_are_learned_together():
    """Targets that were prepared one by one, for cached features."""
    model = made()
    pairs = [model.prepare([picture(i)], [target(model, own)]) for i, own in enumerate((CAPTIONS, CAPTIONS[1:] * 2))]
    widths = [prepared[0].words.shape[1] for _, prepared in pairs]
    assert widths[0] != widths[1]
    batch = ImageBatch.pad([own.tensor[0] for own, _ in pairs], [(64, 80)] * 2, 32)
    assert model.batch_losses(batch, [prepared[0] for _, prepared in pairs])["loss_caption"].isfinite()


def test_words_of_the_caption_become_targets(model):
    _, (own,) = model.prepare([picture()], [target(model, ["a red moon", "a blue star"])])
    known = model.vocabulary
    assert own.words.tolist() == [
        [known.id("a"), known.id("red"), 1, END],
        [known.id("a"), *map(known.id, ("blue", "star")), END],
    ]
    _, (empty,) = model.prepare([picture()], [Instances((64, 80), classes=model.classes)])
    assert len(empty.words) == 0


def test_captions_without_known_words_are_refused(model):
    message = r"none of 2 captions has a word that densecap_lite0 knows \('ein Haus', …; it knows "
    with pytest.raises(InputError, match=message):
        model([picture()], [target(model, ["ein Haus", "zwei"])])
    plain = target(model)
    without = Instances((64, 80), classes=model.classes, boxes=plain.boxes, labels=plain.labels, source="a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg has no captions, but this model learns from them"):
        model([picture()], [without])


def test_bad_arguments():
    with pytest.raises(InputError, match=r"context is 0\.5, but must be above 1"):
        made(context=0.5)
    with pytest.raises(InputError, match="word 0 of the vocabulary is 'Red'"):
        made(words=["Red"])
    with pytest.raises(InputError, match="words of densecap_lite0 is 'red', but it takes a list of texts"):
        made(words="red")


def test_saved_with_its_words(model, tmp_path):
    again = sl.load(sl.save(model, tmp_path / "m.safetensors"))
    assert again.vocabulary == model.vocabulary
    with torch.inference_mode():
        assert again([picture()])[0].captions == model([picture()])[0].captions


def test_one_map_as_in_the_paper():
    torch.manual_seed(0)
    single = one_map()
    losses = single(
        [picture()], [Instances((64, 80), boxes=torch.tensor([[5.0, 5, 30, 40]]), labels=[0], captions=CAPTIONS[:1])]
    )
    assert all(loss.isfinite() for loss in losses.values())
    with torch.inference_mode():
        (found,) = single.eval()([picture()])
    assert len(found.captions) == len(found) > 0


def one_map() -> DenseCap:
    arguments = {name: value for name, value in TINY.items() if name not in ("min_size", "max_size")}
    return densecap_single(
        ["region"], backbone="mobilenet_v2", anchor_sizes=(16, 32), rpn_channels=16, size=InputSize(64, 96), **arguments
    )


def test_bilinear_features_are_single_samples():
    """On a map of its own columns' numbers, each cell of the grid reads the column at its centre."""
    ramp = torch.arange(8.0).repeat(1, 1, 8, 1)
    batch = ImageBatch.pad([torch.zeros(3, 128, 128)], [(128, 128)], 32)
    found = BilinearRegions("map", 16, size=2)({"map": ramp}, [torch.tensor([[16.0, 16, 80, 80]])], batch)
    # cells of 32 pixels with centres at 32 and 64, columns' centres at 8, 24, 40 …
    assert found[0, 0].tolist() == [[1.5, 3.5], [1.5, 3.5]]


def test_context_is_the_region_enlarged_about_its_centre():
    boxes = torch.tensor([[10.0, 10, 20, 30], [0, 0, 10, 10]])
    assert enlarged(boxes, 2.0, (50, 60)).tolist() == [[5, 0, 25, 40], [0, 0, 15, 15]]
