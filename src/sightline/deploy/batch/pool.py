"""The process pool: workers on this machine, which are replaced when they are killed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from sightline.deploy.batch.chunk import Chunk, Done, Settings, failed_chunk
from sightline.errors import InputError

COMMAND = [sys.executable, "-m", "sightline.deploy.batch.worker"]
_KILLED = "the process that predicted this image was killed twice, possibly because memory ran out"


class _Killed(Exception):
    """A worker process has ended without an answer."""


class _Worker:
    """A worker process, started when it is first needed.

    Args:
        settings: the job.
        threads: number of its threads.
    """

    def __init__(self, settings: Settings, threads: int):
        self.settings, self.threads = settings, threads
        self.process: subprocess.Popen[str] | None = None

    def predict(self, chunk: Chunk) -> Done:
        """Predict a chunk.

        Raises:
            InputError: the model cannot be loaded or its results not be written.
            _Killed: the process was killed.
        """
        if self.process is None:
            self._start()
        return Done(**self._ask({"part": chunk.part, "names": chunk.names}))

    def _start(self) -> None:
        environment = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
        )
        try:
            self._ask(self.settings.to_dict())
        except _Killed:
            raise InputError(
                "a worker process was killed while it loaded the model, possibly because memory ran out; use fewer "
                "workers"
            ) from None

    def _ask(self, values: dict[str, Any]) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with suppress(OSError):  # a broken pipe
            self.process.stdin.write(json.dumps(values) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line.endswith("\n"):
            self.end()
            raise _Killed
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            self.end()
            raise InputError(found["error"])
        return found

    def end(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()


def predict_in_pool(
    settings: Settings, chunks: Sequence[Chunk], workers: int, new_part: Callable[[], int]
) -> Iterator[Done]:
    """Predict chunks by several processes; yield what became of each, in the order of completion.

    The chunk of a killed worker is predicted again by a new one. If that is killed, too, the chunk is divided, until
    the image that it is due to is alone, which is then listed in errors/.

    Args:
        settings: the job. Of several GPUs, each worker takes another one.
        chunks: the chunks.
        workers: number of processes.
        new_part: returns the number of a further part.

    Raises:
        InputError: an error of a worker.
    """
    waiting: queue.SimpleQueue[tuple[Chunk, int] | None] = queue.SimpleQueue()
    finished: queue.SimpleQueue[Done | BaseException | int] = queue.SimpleQueue()
    for chunk in chunks:
        waiting.put((chunk, 0))
    count = max(1, min(workers, len(chunks)))
    threads = max(1, (os.cpu_count() or 1) // count)
    pool = [_Worker(_on_gpu(settings, number), threads) for number in range(count)]

    stopping = threading.Event()

    def serve(worker: _Worker) -> None:
        while (task := waiting.get()) is not None and not stopping.is_set():
            chunk, deaths = task
            try:
                finished.put(worker.predict(chunk))
            except _Killed:
                if deaths == 0:
                    waiting.put((chunk, 1))
                elif len(chunk.names) == 1:
                    finished.put(failed_chunk(settings, chunk, _KILLED))
                else:
                    middle = len(chunk.names) // 2
                    waiting.put((replace(chunk, names=chunk.names[:middle]), 1))
                    waiting.put((Chunk(new_part(), chunk.names[middle:]), 1))
                    finished.put(1)
            except BaseException as error:
                finished.put(error)
                return

    served = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in pool]
    try:
        for thread in served:
            thread.start()
        left = len(chunks)
        while left:
            found = finished.get()
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, int):
                left += found
                continue
            left -= 1
            yield found
    finally:
        stopping.set()
        for _ in served:
            waiting.put(None)
        for worker in pool:
            worker.end()


def _on_gpu(settings: Settings, number: int) -> Settings:
    """The settings of a worker: of several GPUs, each takes another one."""
    count = torch.cuda.device_count()
    if settings.device != "cuda" or count < 2:
        return settings
    return replace(settings, device=f"cuda:{number % count}")
