"""The engine "ray": chunks are predicted by actors of Ray Data, one model each, on the machines of a Ray cluster."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from sightline.deploy.batch.chunk import Chunk, Done, Settings, load_model, predict_chunk
from sightline.deploy.batch.files import short
from sightline.errors import InputError

_FAILED = "error"


class Predictor:
    """An actor: loads the model once, and predicts the chunks that it gets.

    Args:
        settings: of `Settings.to_dict`.
    """

    def __init__(self, settings: dict[str, Any]):
        self.settings = Settings.from_dict(settings)
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))
        self.model = load_model(self.settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predict a chunk, {part, names}; the row of what became of it. A user's error is a value of the row."""
        try:
            done = predict_chunk(self.model, self.settings, Chunk(int(row["part"]), tuple(row["names"])))
        except InputError as error:
            return {"done": "", _FAILED: str(error)}
        return {"done": json.dumps(asdict(done)), _FAILED: ""}


def predict_by_ray(settings: Settings, chunks: Sequence[Chunk], workers: int) -> Iterator[Done]:
    """Predict chunks by Ray Data; yield what became of each, in the order of completion.

    Ray runs the chunk of a killed actor again on another one, which writes the same part. Without a running cluster,
    Ray starts one on this machine.

    Args:
        settings: the job. With the device "cuda", each actor asks Ray for a GPU.
        chunks: the chunks.
        workers: number of actors.

    Raises:
        InputError: an error of an actor, or Ray has given up.
    """
    import ray

    logging.getLogger("ray").setLevel(logging.WARNING)
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        except Exception as error:  # Ray's own errors of starting have no common class
            raise InputError(
                f"Ray cannot be started ({short(error)}); start a cluster (ray start --head), or leave the engine out"
            ) from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    rows = [{"part": chunk.part, "names": list(chunk.names)} for chunk in chunks]
    gpu = settings.device is not None and settings.device.startswith("cuda")
    actor: Any = Predictor
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        actor,
        fn_constructor_args=(settings.to_dict(),),
        concurrency=min(workers, len(rows)),
        num_cpus=0 if gpu else 1,
        num_gpus=1 if gpu else 0,
        max_restarts=-1,
        max_task_retries=-1,
    )
    try:
        for row in data.iter_rows():
            if row[_FAILED]:
                raise InputError(row[_FAILED])
            yield Done(**json.loads(row["done"]))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        raise InputError(f"Ray has given up ({short(cause or error)}); repeat the command to continue") from None
