"""Same seed, same pixels; and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from sightline.data.scenes import Scene, render, video

_PROGRAM = """
import zlib
from sightline.data.scenes import render
for seed in range(4):
    scene = render(seed)
    print(zlib.crc32(scene.image.tobytes()), zlib.crc32(scene.depth.tobytes()), zlib.crc32(scene.cuboids.tobytes()))
"""


def _sums(scene: Scene) -> tuple[int, int, int]:
    return tuple(zlib.crc32(part.tobytes()) for part in (scene.image, scene.depth, scene.cuboids))


def test_same_seed_same_pixels() -> None:
    for seed in (0, 7, 2**40 + 3):
        assert _sums(render(seed)) == _sums(render(seed))
    first, second = video(3, 6, 64), video(3, 6, 64)
    assert np.array_equal(first.images, second.images)
    assert first.events[0].caption == second.events[0].caption


# The second run does without the processor's wide instructions: rounding must not depend on them.
@pytest.mark.parametrize("features", ["", "AVX512F AVX512_SKX AVX2 FMA3"])
def test_same_pixels_in_another_process(features: str) -> None:
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": features}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM], capture_output=True, text=True, env=environment, check=False
    )
    if run.returncode and features and "NPY_DISABLE_CPU_FEATURES" in run.stderr:
        pytest.skip("this NumPy or processor has no wide instructions to do without")
    assert run.returncode == 0, run.stderr
    expected = [" ".join(str(part) for part in _sums(render(seed))) for seed in range(4)]
    assert run.stdout.split("\n")[:4] == expected


def test_different_seeds_differ() -> None:
    seeds = [*range(20), 2**32, 2**32 + 1, 2**33]  # a seed beyond 32 bits must not fall onto a short one
    assert len({_sums(render(seed, 32)) for seed in seeds}) == len(seeds)


def test_a_scene_is_cheap() -> None:
    # About 10 ms on a quiet core (benchmarks/results/scenes.md); the bound leaves room for busy machines.
    for seed in range(3):
        best = np.inf
        for _ in range(10):
            start = time.perf_counter()
            scene = render(seed)
            assert scene.keypoints.shape[0] == len(scene.objects)
            best = min(best, time.perf_counter() - start)
        assert best < 0.06
