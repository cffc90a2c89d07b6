"""The JSON of a prediction: what `sightline predict` writes for one image, by the writer of the model's task."""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.deploy.predictions import filter_prediction, with_source
from sightline.deploy.serve.served import Loaded
from sightline.deploy.writers.base import JSON_FILE, PredictedImage
from sightline.structures import Size

_IN_MEMORY = Path("/dev/shm")
_PATH = Path("image.png")
"""The path that the writers see: no name that a client sends may reach the disk."""


@lru_cache(maxsize=1)
def _scratch() -> str | None:
    """A folder in memory for the files of the writers, which are flushed to the disk elsewhere; None for the usual."""
    return str(_IN_MEMORY) if _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) else None


def kept(result: Any, threshold: float, name: str) -> Any:
    """The result with the objects of at least the minimum score, and the name of its image."""
    return with_source(filter_prediction(result, threshold, None), name)


def prediction_json(
    loaded: Loaded, served: str, result: Any, threshold: float, size: Size, name: str, files: bool = False
) -> bytes:
    """The answer to a prediction.

    Args:
        loaded: the model that made the prediction.
        served: its name in the server.
        result: the result, filtered.
        threshold: the minimum score of objects.
        size: (height, width) of the image in pixels.
        name: the name of the image.
        files: also give the other files that the task writes for an image, such as class maps and meshes.

    Returns:
        JSON: {"model", "task", "threshold", "prediction": the contents of predictions.json, "files": {path: base64}}.
    """
    model = loaded.model
    with tempfile.TemporaryDirectory(dir=_scratch()) as place:
        folder = Path(place)
        writing = loaded.writer.begin(folder, [_PATH], model.classes, loaded.writer.formats[:1])
        writing.add(PredictedImage(1, 0, Path(name), size), result, None)
        writing.finish(threshold, True)
        prediction = (folder / JSON_FILE).read_bytes()
        others = {
            path.relative_to(folder).as_posix(): base64.b64encode(path.read_bytes()).decode("ascii")
            for path in sorted(folder.rglob("*"))
            if files and path.is_file() and path.name != JSON_FILE
        }
    if b"NaN" in prediction or b"Infinity" in prediction:  # of weights without finite values; JSON has no such numbers
        prediction = json.dumps(json.loads(prediction, parse_constant=lambda _: None), ensure_ascii=False).encode()
    head = {"model": served, "task": model.task, "threshold": threshold, **({"files": others} if files else {})}
    return json.dumps(head, ensure_ascii=False).encode()[:-1] + b', "prediction": ' + prediction + b"}"


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()
