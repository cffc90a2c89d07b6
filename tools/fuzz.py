"""Damages files of every kind for as long as wanted: python tools/fuzz.py [SECONDS]. Only `InputError` may come out.

What else comes out is written to fuzz-failures/ with the file that caused it.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.hostile.fuzzing import READERS, damaged, samples

from sightline.errors import InputError


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3600
    generator, failures, rounds, began = np.random.default_rng(), 0, 0, time.monotonic()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        files = samples(Path(place))
        while time.monotonic() - began < seconds:
            for kind, (name, good) in files.items():
                rounds += 1
                file = Path(place, name)
                file.write_bytes(damaged(good, generator))
                try:
                    READERS[kind](file)
                except InputError:
                    pass
                except Exception:
                    failures += 1
                    kept = Path("fuzz-failures", f"{kind}-{failures}-{name}")
                    kept.parent.mkdir(exist_ok=True)
                    kept.write_bytes(file.read_bytes())
                    kept.with_suffix(".txt").write_text(traceback.format_exc(), encoding="utf-8")
    print(f"{rounds} files in {time.monotonic() - began:.0f} seconds: {failures} failures")


if __name__ == "__main__":
    main()
