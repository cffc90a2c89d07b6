"""Every bad input of the table ends in one sentence, in time and without taking the memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.forking import Forks
from tests.hostile.table import Bad, table
from tests.hostile.world import World, make_world, sightline

TABLE = table()
SLOW = ("checkpoint: ",)
"""Beginnings of names of entries that start a training: of each kind, every fourth is run by default."""
SECONDS, BYTES = 10, 2 * 2**30


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("hostile"))


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
    assert len(TABLE) >= 150
    assert {bad.verb.split(" ")[0] for bad in TABLE} >= set(verbs)
    assert len({(bad.what, bad.verb) for bad in TABLE}) == len(TABLE)


def _marked(position: int, bad: Bad) -> object:
    slow = bad.what.startswith(SLOW) and position % 4
    return pytest.param(bad, id=f"{position}", marks=[pytest.mark.slow] if slow else [])


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
    warned = bad.verb.startswith("check ") and code == 0  # what does not hinder a training is a warning
    assert warned or code in (1, 2), f"{bad.what}: ended with {code}: {said[-400:]}"
    assert "Traceback" not in said, bad.what
    assert "error: unexpected" not in said, f"{bad.what}: {said[-400:]}"
    assert "\x1b" not in said, bad.what
    assert bad.word in said, f"{bad.what}: {said[-400:]}"
