"""Damaged files of every kind: only `InputError` may leave their readers. `tools/fuzz.py` goes on for hours."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import InputError
from tests.hostile.fuzzing import READERS, damaged, samples


@pytest.mark.parametrize("kind", sorted(READERS))
@pytest.mark.parametrize("rounds", [pytest.param(12, id="few"), pytest.param(2000, id="many", marks=pytest.mark.slow)])
def test_only_input_errors_leave_a_reader(kind: str, rounds: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(sum(kind.encode()))
    name, good = samples(tmp_path / "good")[kind]
    sentences = []
    for _ in range(rounds):
        file = tmp_path / name
        file.write_bytes(damaged(good, generator))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                READERS[kind](file)
        except InputError as error:
            sentences.append(str(error))
    assert sentences
    assert [sentence for sentence in sentences if name not in sentence] == []
