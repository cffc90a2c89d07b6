"""The video captioner and its parts, against naive loops; and on four videos that it must learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.data.events import source_of_events
from sightline.errors import InputError
from sightline.explain.event_targets import best_event, event_score, event_word
from sightline.explain.occlusion import Occlusion
from sightline.models.scene.clips import ClipPreprocess
from sightline.models.scene.video_captions import VideoCaptioner, video_captioner
from sightline.models.trunk import find_trunk
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.frames import CellEncoder, FrameMaps, as_films, as_frames
from sightline.nn.heads.event_captions import MARGIN, POINTS, EventContext, EventFeatures
from sightline.nn.heads.event_proposals import EventProposals, EventSettings
from sightline.ops.intervals import decode_intervals, encode_intervals, interval_iou
from sightline.structures import Clip, Events
from sightline.training.features import CachedFeatures
from sightline.training.loader import EpochBatches, make_loader

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30)}
TIMES = {"left": (0.25, 1.0), "right": (1.0, 2.0)}


def moving(colour: str, way: str) -> Clip:
    """A square that moves to one side in one part of two seconds, at 4 frames a second."""
    frames = torch.full((3, 8, 32, 32), 90, dtype=torch.uint8)
    start, end = (round(4 * t) for t in TIMES[way])
    for t in range(8):
        step = round(20 * min(1.0, max(0.0, (t - start) / (end - start))))
        x = 2 + step if way == "right" else 22 - step
        frames[:, t, 12:20, x : x + 8] = torch.tensor(COLOURS[colour], dtype=torch.uint8)[:, None, None]
    return Clip(frames, fps=4)


WAYS = [(colour, way) for colour in COLOURS for way in TIMES]
CLIPS = [moving(*own) for own in WAYS]
EVENTS = [Events((32, 32), [TIMES[way]], [f"the {colour} square moves {way}"], 2.0) for colour, way in WAYS]
SMALL = {"image_size": 32, "frames": 8, "grid": 4, "pixels": 4, "width": 16, "hidden": 32, "vector": 64, "blocks": 1}
STEPS = 45
WORDS = ["the", "red", "green", "square", "moves", "left", "right"]


@pytest.fixture(scope="module")
def learned() -> VideoCaptioner:
    """A small model that has learned four videos by heart."""
    torch.manual_seed(0)
    model = video_captioner(words=WORDS, hidden_words=64, **SMALL)
    model.backbone.requires_grad_(False)
    trunk = find_trunk(model)
    with torch.no_grad(), trunk.recorded(model.eval()) as values:
        model(CLIPS)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4e-3)
    with trunk.replaced(model.train(), values):  # the frozen network runs once
        for _ in range(STEPS):
            optimizer.zero_grad()
            sum(model(CLIPS, EVENTS).values()).backward()
            optimizer.step()
    return model.eval()


def test_it_learns_four_videos(learned: VideoCaptioner) -> None:
    with torch.no_grad():
        results = learned(CLIPS)
    for found, wanted in zip(results, EVENTS, strict=True):
        assert found.captions[0] == wanted.captions[0]
        assert float(interval_iou(found.times[:1], wanted.times.double())) > 0.6
        assert found.scores[0] > 0.4
        assert (found.duration, found.image_size) == (2.0, (32, 32))
        assert (found.scores[:-1] >= found.scores[1:]).all()


def test_what_captions_are_made_from_is_learned_from_captions_alone() -> None:
    torch.manual_seed(0)
    model = video_captioner(words=WORDS, hidden_words=16, **SMALL)
    losses = model(CLIPS[:2], EVENTS[:2])
    caption = losses.pop("loss_caption")
    sum(losses.values()).backward(retain_graph=True)
    assert model.features.output.weight.grad.abs().sum() > 0
    assert model.caption_features.output.weight.grad is None
    caption.backward()
    assert model.caption_features.output.weight.grad.abs().sum() > 0


def test_scores_and_times_weigh_a_tenth_of_the_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = video_captioner(words=WORDS, hidden_words=16, **SMALL)
    found = {}
    for weight in (model.other_weight, 1.0):
        monkeypatch.setattr(model, "other_weight", weight)
        torch.manual_seed(0)
        found[weight] = model(CLIPS[:2], EVENTS[:2])
    for name, loss in found[0.1].items():
        assert loss.item() == pytest.approx(found[1.0][name].item() * (1 if name == "loss_caption" else 0.1), rel=1e-4)


def test_a_word_and_an_event_are_explained(learned: VideoCaptioner) -> None:
    """The colour of the square decides on its word: hiding what is not the square changes less."""
    target = event_word(learned, CLIPS[0], 0, "red")
    assert target.describe(learned).startswith("the word 'red' of the event 'the red square moves left' (")
    best = best_event(learned, CLIPS[0])
    assert best == event_score(learned, CLIPS[0], 0)
    with torch.no_grad():
        batch, _ = learned.prepare([CLIPS[0]], None)
        shown = learned.word_scores(batch, torch.tensor(target.intervals), 0, torch.tensor(target.ids))
        assert float(target.score(learned, batch)[0]) == pytest.approx(float(shown[0, 1]))
        own = float(learned.batch_results(batch)[0].scores[0])  # of the interval before it was corrected
        assert float(best.score(learned, batch).sigmoid()[0]) == pytest.approx(own, abs=0.1)
    (heat,) = sl.explain_images(learned, [CLIPS[0]], methods=Occlusion(window=8, stride=8), target="word:0:red")
    assert heat.image_size == (32, 8 * 32)
    square = CLIPS[0].film()[0] > 150
    assert square[heat.heat == heat.heat.max()].any()
    assert heat.heat[square].mean() > 1.5 * heat.heat[~square].mean()  # small: seven other frames show it, too
    # in all frames: without the square, or with a green one, "red" becomes unlikely; a patch elsewhere changes nothing
    pixels = torch.Tensor(CLIPS[0])
    red = pixels[0] > 150
    grey, green, above = (pixels.clone() for _ in range(3))
    grey[:, red] = 90
    green[:, red] = pixels.new_tensor(COLOURS["green"])[:, None]
    above[:, red.roll(-10, dims=1)] = 0
    batches = [learned.prepare([Clip(shown, fps=4)], None)[0] for shown in (pixels, grey, green, above)]
    with torch.no_grad():
        own, *others = (float(target.score(learned, batch)[0]) for batch in batches)
    assert own > -0.2
    assert max(others[:2]) < own - 2
    assert abs(others[2] - own) < 0.2
    (cam,) = sl.explain_images(learned, [CLIPS[0]])
    assert cam.heat.shape == (32, 8 * 32)
    with pytest.raises(InputError, match="the caption of event 0 is 'the red square moves left', without 'blue'"):
        event_word(learned, CLIPS[0], 0, "blue")
    with pytest.raises(InputError, match="word:0 does not say which word"):
        sl.explain_images(learned, [CLIPS[0]], target="word:0")
    with pytest.raises(InputError, match="event 99"):
        event_score(learned, CLIPS[0], 99)


def test_clips_of_any_rate_and_size_are_films_of_one_size() -> None:
    preprocess = ClipPreprocess((0.5,) * 3, (0.5,) * 3, frames=4, side=8)
    long = Clip(torch.arange(8, dtype=torch.uint8)[None, :, None, None].expand(3, 8, 6, 10) * 30, fps=2)
    still = torch.zeros(3, 12, 12)
    batch, _ = preprocess([long, still])
    assert tuple(batch.tensor.shape) == (2, 3, 8, 32)
    assert (batch.sizes, batch.original_sizes) == ([(8, 32)] * 2, [(6, 40), (12, 48)])
    assert (batch.durations, batch.frame_sizes) == ([4.0, 0.125], [(6, 10), (12, 12)])
    # the middles of the four parts, 0.5, 1.5, 2.5 and 3.5 s, show frames 1, 3, 5 and 7
    values = (batch.tensor[0, 0, 4, ::8] * 0.5 + 0.5) * 255
    assert values.tolist() == pytest.approx([30, 90, 150, 210], abs=1e-3)
    assert preprocess.groups([long, still]) == [[0, 1]]
    with pytest.raises(InputError, match=r"clip 0 has shape \[3, 0, 4, 4\]: it has no frames"):
        preprocess([torch.zeros(3, 0, 4, 4)])
    with pytest.raises(InputError, match="frames is 1, but events need at least 2"):
        ClipPreprocess((0.5,) * 3, (0.5,) * 3, frames=1, side=8)


def test_films_and_frames_are_the_same_pixels() -> None:
    frames = torch.arange(2 * 3 * 4 * 5 * 6.0).reshape(6, 4, 5, 6)
    films = as_films(frames, 3)
    assert torch.equal(films[1, :, :, 6:12], frames[4])
    assert torch.equal(as_frames(films, 3), frames)


def test_cells_hold_features_and_pixels_and_see_motion() -> None:
    maps = FrameMaps(FeatureMaps({"a": nn.Conv2d(3, 5, 1)}, [Stage("a", 5, 1)]), frames=3, grid=2, pixels=4)
    frames = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    cells = as_frames(maps(as_films(frames, 3)), 3)
    assert (maps.features, tuple(cells.shape)) == (5, (3, 5 + 3 * 16, 2, 2))
    wanted = maps.maps(frames)["a"][1, :, 4:, :4].mean((1, 2))
    torch.testing.assert_close(cells[1, :5, 1, 0], wanted)
    torch.testing.assert_close(cells[2, 5:, 0, 1].reshape(3, 4, 4), frames[2, :, :4, 4:])

    torch.manual_seed(0)
    encoder = CellEncoder(5, 3, frames=3, pixels=4, width=8, blocks=0).eval()
    still = as_films(cells[:1].expand(3, -1, -1, -1), 3)
    moved = still.clone()
    moved[:, 5:, 0, 2] += 1  # the upper left cell of the second of three frames
    with torch.no_grad():
        rest, motion = as_frames(encoder(still), 3), as_frames(encoder(moved), 3)
    torch.testing.assert_close(rest[1], rest[0])
    assert (motion - rest).abs().amax(1)[:, 0, 0].min() > 0  # it shows in all three: as a picture and as a change
    assert rest[:, -1].abs().max() < 1e-6
    # how much moves: the change by 1 before and after the second frame is half of what each of the others sees
    torch.testing.assert_close(motion[:, -1, 0, 0], torch.tensor([0.5, 1.0, 0.5]))
    assert motion[:, -1].flatten(1)[:, 1:].abs().max() < 1e-6


def test_events_are_read_as_by_a_naive_loop() -> None:
    torch.manual_seed(0)
    features = EventFeatures(width=3, frames=5, hidden=4, outputs=6)
    films = torch.rand(2, 3, 2, 5 * 2)
    times = torch.tensor([[0.1, 0.7], [0.0, 1.0], [0.4, 0.5]])
    video = torch.tensor([1, 0, 1])
    read = features.read(films, times, video)
    assert tuple(read.shape) == (3, POINTS, 3, 2, 2)
    for row, (start, end) in enumerate(times.tolist()):
        for point in range(POINTS):
            moment = start + (end - start) * (-MARGIN + (1 + 2 * MARGIN) * point / (POINTS - 1))
            place = min(max(moment * 5 - 0.5, 0), 4)
            low = int(np.floor(place))
            high, share = min(low + 1, 4), place - low
            frames = as_frames(films, 5).unflatten(0, (2, 5))[int(video[row])]
            wanted = frames[low] * (1 - share) + frames[high] * share
            torch.testing.assert_close(read[row, point], wanted, atol=1e-5, rtol=1e-5)
    assert tuple(features(films, times, video).shape) == (3, 6)
    assert features(films, times[:0], video[:0]).shape == (0, 6)


def test_the_context_is_that_of_the_paper() -> None:
    """The past of event i is the mean of (a_i · h_j) h_j over the events that end before it, its future the others."""
    torch.manual_seed(0)
    context = EventContext(4)
    vectors = torch.rand(5, 4)
    times = torch.tensor([[0.0, 0.2], [0.1, 0.6], [0.5, 0.9], [0.0, 0.1], [0.2, 0.6]])
    video = torch.tensor([0, 0, 0, 1, 0])
    found = context(vectors, times, video)
    for i in range(5):
        past, future = [], []
        for j in range(5):
            if i != j and video[i] == video[j]:
                weight = context.attention(vectors[i]) @ vectors[j] / 4**0.5
                (past if times[j, 1] < times[i, 1] else future).append(weight * vectors[j])
        parts = [sum(part) / len(part) if part else torch.zeros(4) for part in (past, future)]
        torch.testing.assert_close(found[i], torch.cat([parts[0], vectors[i], parts[1]]))
    assert found[3, :4].abs().sum() == found[3, 8:].abs().sum() == 0  # alone in its video


def test_proposals_are_anchors_that_are_corrected() -> None:
    times = torch.tensor([[0.1, 0.4], [0.45, 0.95]], dtype=torch.float64)
    anchors = torch.tensor([[0.0, 0.5], [0.5, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(decode_intervals(encode_intervals(times, anchors), anchors), times)
    assert encode_intervals(times, anchors)[0].tolist() == pytest.approx([0.0, np.log(0.6)])

    proposals = EventProposals(3, 8, 4, EventSettings(lengths=(0.25, 0.5), proposals=5))
    assert tuple(proposals.anchors.shape) == (16, 2)
    assert proposals.anchors[0].tolist() == pytest.approx([-0.0625, 0.1875])  # around the middle of the first frame
    events = torch.tensor([[0.25, 0.5]])
    matches = proposals.match(events)
    overlaps = interval_iou(events, proposals.anchors.clamp(0, 1))[0]
    assert ((matches == 0) == ((overlaps >= 0.5) | (overlaps == overlaps.max()))).all()
    assert ((matches == -1) == (overlaps < 0.35)).all()
    scores = torch.full((1, 16), -9.0)
    scores[0, matches == 0] = 3.0
    deltas = torch.zeros(1, 16, 2)
    deltas[0, matches == 0] = encode_intervals(
        events.expand(int((matches == 0).sum()), 2), proposals.anchors[matches == 0]
    )
    found, own = proposals.decode(scores, deltas)[0]
    assert found[0].tolist() == pytest.approx([0.25, 0.5])
    assert len(found) == 5
    assert ((found >= 0) & (found <= 1)).all()
    assert (own[:-1] >= own[1:]).all()
    good = proposals.losses(scores, deltas, [events])
    bad = proposals.losses(-scores, deltas + 1, [events])
    assert all(good[name] < 0.1 * bad[name] for name in good)
    nothing = proposals.losses(scores * 0 - 9, deltas, [events[:0]])
    assert nothing["loss_proposal_times"] == 0
    assert nothing["loss_proposal_score"] < 1e-3


def test_cached_features_give_the_same_losses(tmp_path) -> None:
    """The frozen network runs once per video; what learns receives the same numbers as without a cache."""
    torch.manual_seed(0)
    model = video_captioner(words=WORDS, hidden_words=32, **SMALL).eval()
    model.backbone.requires_grad_(False)
    data = sl.Dataset(source_of_events(CLIPS, EVENTS))
    features = CachedFeatures(find_trunk(model), tmp_path / "features.bin", len(data))
    order = EpochBatches(len(data), 3, shuffle=False)

    class Plain:
        device = torch.device("cpu")
        num_processes = 1

        def autocast(self):
            return torch.no_grad()

    features.compute(model, make_loader(data, order, workers=0), order, Plain())
    order.begin(0)
    numbers, targets = next(iter(features.loader(order))).to("cpu")
    torch.manual_seed(1)
    cached = features.step(model, numbers, targets)
    torch.manual_seed(1)
    plain = model(CLIPS[:3], EVENTS[:3])
    for name, value in plain.items():
        torch.testing.assert_close(cached[name], value, atol=1e-4, rtol=1e-4, msg=name)
    features.remove()


def test_a_video_without_events_is_normal() -> None:
    torch.manual_seed(0)
    model = video_captioner(words=WORDS, hidden_words=32, **SMALL)
    empty = Events((32, 32), [], [], 2.0)
    losses = model(CLIPS[:2], [empty, empty])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters())
    assert all(loss.isfinite() for loss in model(CLIPS[:2], [empty, EVENTS[1]]).values())


def test_words_that_it_does_not_know() -> None:
    model = video_captioner(words=["dog"], hidden_words=8, **SMALL)
    with pytest.raises(InputError, match="none of 1 caption has a word that VideoCaptioner knows"):
        model(CLIPS[:1], EVENTS[:1])
    known: list[Tensor] = [model.vocabulary.encode(["a dog runs"])]
    assert known[0].tolist() == [[1, 2, 1, 0]]
    with pytest.raises(InputError, match="pixels is 6, but must be a power of 2"):
        video_captioner(pixels=6)
