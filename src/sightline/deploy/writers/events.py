"""Write the events of videos, in the layouts of ActivityNet Captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.deploy.writers.base import JSON_FILE, PredictedImage, Written, require_prediction, write_json
from sightline.structures import Events
from sightline.training.metrics_log import atomic_write
from sightline.words import counted

RESULTS_FILE = "results.json"
_FILES = {"json": JSON_FILE, "results": RESULTS_FILE}


class EventWriter:
    """Writes the events of all videos to one file.

    "json" is predictions.json in the layout of the labels, with "scores": {"v_a": {"duration": …, "timestamps": …,
    "sentences": …, "scores": …}}. "results" is results.json in the layout that the evaluator of ActivityNet Captions
    takes: {"version": …, "results": {"v_a": [{"sentence": …, "timestamp": …}]}, "external_data": …}.
    """

    formats = tuple(_FILES)

    def begin(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]) -> EventFiles:
        return EventFiles(folder, paths, formats)


class EventFiles:
    """See `sightline.deploy.writers.base.Writing`."""

    taken: frozenset[Path] = frozenset()

    def __init__(self, folder: Path, paths: Sequence[Path], formats: Sequence[str]):
        self.folder, self.formats = folder, formats
        stems = [path.stem for path in paths]
        self._names = stems if len({*stems}) == len(stems) else [path.as_posix() for path in paths]
        self._videos: dict[str, Events] = {}

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Events, "events (Events)")
        self._videos[self._names[image.position]] = prediction

    def finish(self, threshold: float, given: bool) -> Written:
        if "json" in self.formats:
            write_json({name: own.to_dict() for name, own in self._videos.items()}, self.folder)
        if "results" in self.formats:
            rows = {
                name: [
                    {"sentence": words, "timestamp": [round(float(t), 3) for t in times]}
                    for words, times in zip(own.captions, own.times.tolist(), strict=True)
                ]
                for name, own in self._videos.items()
            }
            content = {"version": "VERSION 1.0", "results": rows, "external_data": {"used": False, "details": ""}}
            with atomic_write(self.folder / RESULTS_FILE) as path:
                path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        total = sum(map(len, self._videos.values()))
        summary = f"{counted(total, 'event')} in {counted(len(self._videos), 'video')}"
        hint = "" if total else f"no event has a score of {threshold:g} or more; give a lower --threshold"
        return Written(summary, [_FILES[name] for name in self.formats], total, hint)
