"""Every bad input of the table ends in one sentence, in time and without taking the memory."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.forking import Forks
from tests.hostile.table import Bad, table
from tests.hostile.world import World, make_world, sightline

TABLE = table()
EVERY = {"checkpoint": 6, "evaluation.json": 3, "metrics.jsonl": 3, "model file": 3}
"""Of each kind of bad input, every second (or so many-th) is tried by default, the others with -m slow."""
SECONDS, BYTES = 10, 2 * 2**30


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all processes of a test run: the first makes it while the others wait."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "hostile.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_world(shared / "hostile")


def arguments(bad: Bad, folder: Path, world: World) -> list[str]:
    places = {"{f}": folder, "{data}": world.data, "{run}": world.run, "{image}": world.image}
    found = []
    for part in bad.verb.split(" "):
        for name, place in places.items():
            part = part.replace(name, str(place))
        found.append(part.replace("\xa0", " "))
    return found


def test_the_table_is_long_and_has_every_verb() -> None:
    verbs = [
        "check",
        "convert",
        "look",
        "anchors",
        "train",
        "evaluate",
        "predict",
        "models",
        "doctor",
        "scenes",
        "report",
        "demo",
    ]
    quick = [TABLE[position] for position in QUICK]
    assert len(quick) >= 150
    assert {bad.verb.split(" ")[0] for bad in quick} >= set(verbs)
    assert len({(bad.what, bad.verb) for bad in TABLE}) == len(TABLE)


def _kind(bad: Bad) -> str:
    kind, colon, _ = bad.what.partition(":")
    return kind if colon else bad.verb.split(" ")[0]


def _quick() -> set[int]:
    """Positions of the entries that are tried by default."""
    met: Counter[str] = Counter()
    chosen = set()
    for position, bad in enumerate(TABLE):
        kind = _kind(bad)
        if met[kind] % EVERY.get(kind, 2) == 0:
            chosen.add(position)
        met[kind] += 1
    return chosen


QUICK = _quick()


def _marked(position: int, bad: Bad) -> object:
    return pytest.param(bad, id=f"{position}", marks=[] if position in QUICK else [pytest.mark.slow])


@pytest.mark.parametrize("bad", [_marked(position, bad) for position, bad in enumerate(TABLE)])
def test_one_sentence(bad: Bad, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTLINE_DEBUG", raising=False)
    bad.make(tmp_path, world)
    monkeypatch.chdir(tmp_path)
    before = time.process_time()
    outcome = sightline(*arguments(bad, tmp_path, world))
    assert time.process_time() - before < SECONDS, bad.what
    _judge(bad, outcome.code, outcome.said)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    made = Forks(SECONDS, 4 * BYTES)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("bad", [pytest.param(bad, id=f"{position}") for position, bad in enumerate(TABLE)])
def test_one_sentence_as_a_program_of_its_own(
    bad: Bad, world: World, forks: Forks, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """`-o junit_family=xunit1 --junitxml=FILE` keeps the seconds of the processor and the memory of each entry."""
    if "\0" in bad.verb or "a" * 4000 in bad.verb:
        pytest.skip("the system itself refuses such arguments")
    bad.make(tmp_path, world)
    ended = forks.run(arguments(bad, tmp_path, world), tmp_path, tmp_path.parent / f"{tmp_path.name}.said")
    for name, value in (("what", bad.what), ("verb", bad.verb.split(" ")[0])):
        record_property(name, value)
    record_property("seconds", ended.seconds)
    record_property("megabytes", ended.megabytes)
    _judge(bad, ended.code, ended.said)
    assert ended.megabytes * 2**20 <= BYTES, f"{bad.what}: {ended.megabytes:.0f} MB"


def _judge(bad: Bad, code: int, said: str) -> None:
    assert code in ((0,) if bad.warned else (1, 2)), f"{bad.what}: ended with {code}: {said[-400:]}"
    assert "Traceback" not in said, bad.what
    assert "error: unexpected" not in said, f"{bad.what}: {said[-400:]}"
    assert "\x1b" not in said, bad.what
    assert bad.word in said, f"{bad.what}: {said[-400:]}"
