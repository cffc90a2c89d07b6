"""Several processes that share the images of an evaluation have the result of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.evaluation import Joining, evaluate
from sightline.evaluation.sharing import Pairs, Part
from sightline.tasks import TASKS
from tests.evaluation.shared_cases import IMAGES, KINDS, case, measure_of
from tests.training.test_processes import launched

SCRIPT = """
import json, sys
from accelerate.state import PartialState
from tests.evaluation.shared_cases import KINDS, case, measure_of
from sightline.evaluation import evaluate

found = {}
for name in KINDS:
    model, data = case(name)
    result = evaluate(model, data, measure_of(name), batch_size=2, progress=False, shared=True)
    found[name] = [result.to_dict(), result.predictions is not None and len(result.predictions)]
with open(f"{sys.argv[1]}/{PartialState().process_index}.json", "w") as file:
    json.dump(found, file)
"""


def approximately(value: Any) -> Any:
    """Equal values, numbers up to the rounding of sums."""
    if isinstance(value, dict):
        return {key: approximately(part) for key, part in value.items()}
    if isinstance(value, list):
        return [approximately(part) for part in value]
    return pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True) if isinstance(value, float) else value


def test_there_is_a_case_of_every_task() -> None:
    assert {*TASKS} <= {*KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_parts_are_joined_to_the_whole(name: str) -> None:
    model, data = case(name)
    whole = evaluate(model, data, measure_of(name), progress=False)
    parts = []
    for rows in (range(0), range(3), range(3, 4), range(4, IMAGES)):
        made = measure_of(name)(data.classes, True)
        assert isinstance(made, Joining) == (name != "counting")
        measure: Any = made if isinstance(made, Joining) else Pairs(made)
        part = Part(data, rows)
        for i in range(len(part)):
            image, target = part[i]
            if name == "scene_graph":
                measure.ask(model, [image], [target])
            measure.add(target, model([image])[0])
        parts.append(measure)
    for part in parts[1:]:
        parts[0].join(part)
    joined = parts[0].result([data.name(i) for i in range(IMAGES)])
    assert approximately(json.loads(json.dumps(whole.to_dict()))) == json.loads(json.dumps(joined.to_dict()))
    if name != "counting":
        assert len(joined.predictions) == IMAGES


@pytest.mark.slow
def test_two_processes_have_the_result_of_one(tmp_path: Path) -> None:
    launched(SCRIPT, tmp_path)
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for name in KINDS:
        model, data = case(name)
        whole = evaluate(model, data, measure_of(name), batch_size=2, progress=False)
        values = json.loads(json.dumps(whole.to_dict()))
        assert approximately(values) == main[name][0], name
        assert {**values, **other[name][0]}.keys() == values.keys()
        assert approximately(values["metrics"]) == other[name][0]["metrics"], name
        assert (main[name][1], other[name][1]) == ((False if name == "counting" else IMAGES), False)


def test_an_evaluation_in_one_process_is_not_shared(tmp_path: Path) -> None:
    model, data = case("classification")
    alone = evaluate(model, data, measure_of("classification"), progress=False, shared=True)
    assert len(alone.predictions or ()) == IMAGES
