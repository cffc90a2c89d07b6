"""A worker process of the process pool: `python -m sightline.deploy.batch.worker`.

It reads one JSON object per line from stdin, first the settings and then chunks, and answers each with one on stdout.
It is not started by `multiprocessing`, so that a script that predicts by several workers needs no guard for its main
module.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict

from sightline.deploy.batch.chunk import Chunk, Settings, load_model, predict_chunk
from sightline.errors import InputError


def main() -> None:
    """Answer until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the main process handles it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like an answer

    def answer(values: object) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        settings = Settings.from_dict(json.loads(sys.stdin.readline()))
        model = load_model(settings)
        answer({"ready": True})
        for line in sys.stdin:
            values = json.loads(line)
            answer(asdict(predict_chunk(model, settings, Chunk(values["part"], tuple(values["names"])))))
    except InputError as error:
        answer({"error": str(error)})
    except Exception as error:
        answer({"error": f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"})


if __name__ == "__main__":
    main()
