"""The events that explanations are scored on, and the scores of explanations of videos."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

import sightline as sl
from sightline.data.events import source_of_events
from sightline.explain.event_targets import event_cases, event_word
from sightline.models.model import Model
from sightline.structures import Clip, Events

HEIGHT, WIDTH, FRAMES = 24, 32, 4


@lru_cache
def captioner() -> Model:
    torch.manual_seed(0)
    settings = {"frames": FRAMES, "grid": 2, "pixels": 4, "width": 8, "hidden": 8, "vector": 16, "hidden_words": 16}
    return sl.create_model("video_captioner_lite0", ["event"], words=["a", "b"], image_size=32, **settings).eval()


def clip() -> Clip:
    frames = torch.randint(0, 256, (3, 8, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    return Clip(frames.to(torch.uint8), fps=4)  # 2 seconds


def events(times: list[list[float]], scores: list[float] | None = None) -> Events:
    known = None if scores is None else torch.tensor(scores)
    return Events((HEIGHT, WIDTH), torch.tensor(times), ("a b",) * len(times), 2.0, known)


def test_each_labelled_event_is_found_by_its_best_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    model = captioner()
    # the second has a higher score than the first; the third finds nothing, as the first event is taken
    found = events([[0.0, 0.9], [0.0, 1.0], [0.0, 1.1], [1.0, 2.0]], [0.5, 0.9, 0.4, 0.3])
    monkeypatch.setattr(model, "batch_results", lambda batch: [found])
    cases = list(event_cases(model, "v", clip(), events([[0.0, 1.0], [1.3, 1.9], [1.6, 1.7]])))
    assert [case.target.interval for case in cases] == [(0.0, 0.5), (0.5, 1.0)]
    # the film has four frames, at 0.25, 0.75, 1.25 and 1.75 s
    shown = [case.inside.any(0).unflatten(0, (FRAMES, WIDTH)) for case in cases]
    assert [frames.all(1).tolist() for frames in shown] == [[True, True, False, False], [False, False, False, True]]
    assert all(case.inside.shape == (HEIGHT, FRAMES * WIDTH) for case in cases)


def test_an_event_between_two_frames_has_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = captioner()
    monkeypatch.setattr(model, "batch_results", lambda batch: [events([[0.8, 1.0]], [0.5])])
    (case,) = event_cases(model, "v", clip(), events([[0.8, 1.0]]))
    assert case.inside.unflatten(1, (FRAMES, WIDTH)).all(0).all(1).tolist() == [False, True, False, False]
    assert not list(event_cases(model, "v", clip(), events([])))
    assert not list(event_cases(model, "v", clip(), events([[1.5, 2.0]])))


def test_explanations_of_events_are_scored() -> None:
    model, own = captioner(), clip()
    label = sl.predict(model, own, threshold=0)
    assert len(label), "the model predicts events, which are its labels here"
    label = Events(label.image_size, label.times, label.captions, label.duration)
    data = sl.Dataset(source_of_events([own], [label]))
    table = sl.score_explanations(model, data, methods=["layer_cam"], cases=1, steps=2, progress=False)
    rows = {row.method: row for row in table.rows}
    assert rows.keys() == {"layer_cam", "random", "centre"}
    assert all(row.cases == 1 and not row.errors and row.pointing is not None for row in table.rows)
    assert table.chance is not None
    assert 0.25 <= table.chance <= 1


def test_a_word_is_named_by_itself_or_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    model = captioner()
    monkeypatch.setattr(model, "batch_results", lambda batch: [events([[0.0, 1.0]], [0.5])])
    places = [event_word(model, clip(), 0, word).place for word in ("a", "b", "0", "1")]
    assert places == [0, 1, 0, 1]
    assert event_word(model, clip(), 0, "1").describe(model).startswith("the word 'b' of the event 'a b'")
    with pytest.raises(sl.InputError, match="the caption of event 0 is 'a b', without '2'"):
        event_word(model, clip(), 0, "2")
