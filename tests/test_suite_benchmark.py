"""The development suite of benchmarks/: what it computes without a training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.data.dataset import Dataset
from sightline.evaluation import evaluate_detection
from sightline.structures import Classes, Instances

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def suite() -> Any:
    """The modules of the suite, which import each other by name."""
    if not BENCHMARKS.is_dir():
        pytest.skip("an installed package has no benchmarks")
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import suite  # type: ignore[import-not-found]
        import suite_measure  # type: ignore[import-not-found]
        import suite_sets  # type: ignore[import-not-found]
        import suite_table  # type: ignore[import-not-found]

        yield SimpleNamespace(main=suite, measure=suite_measure, sets=suite_sets, table=suite_table)
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
                del sys.modules[name]


def boxes(rows: list[list[float]], scores: list[float] | None = None) -> Instances:
    more = {} if scores is None else {"scores": torch.tensor(scores)}
    return Instances((100, 100), boxes=torch.tensor(rows), labels=torch.zeros(len(rows), dtype=torch.int64), **more)


def test_ap_by_shape_ignores_the_objects_and_detections_of_other_shapes(suite: Any):
    square, long = [0.0, 0.0, 20.0, 20.0], [0.0, 50.0, 80.0, 60.0]
    targets = [boxes([square, long])]
    # The square is found, the long object is not; the best-scored detection is a long one where nothing is.
    found = [boxes([square, [0.0, 80.0, 90.0, 90.0]], [0.5, 0.9])]
    shapes = suite.measure.by_shape(evaluate_detection(targets, found, ["a"]))
    assert shapes["up to 1.5"] == {"AP": 1.0, "AP50": 1.0, "objects": 1}
    assert shapes["1.5 to 3"] == {"AP": None, "AP50": None, "objects": 0}
    assert shapes["above 3"] == {"AP": 0.0, "AP50": 0.0, "objects": 1}


def test_predictions_of_a_peer_are_matched_by_file_name_and_category(suite: Any, tmp_path: Path):
    images = [torch.zeros(3, 100, 100, dtype=torch.uint8) for _ in range(2)]
    targets = [boxes([[0.0, 0.0, 20.0, 20.0]]), boxes([[50.0, 40.0, 80.0, 60.0]])]
    test = Dataset.from_instances(images, targets, Classes(["a"]), names=["x.png", "y.png"])
    annotations, found = tmp_path / "test.json", tmp_path / "found.json"
    listed = [{"id": 7, "file_name": "y.png"}, {"id": 3, "file_name": "x.png"}]
    annotations.write_text(json.dumps({"images": listed, "categories": [{"id": 5, "name": "a"}]}))
    rows = [(3, [0, 0, 20, 20]), (7, [50, 40, 30, 20])]
    found.write_text(json.dumps([{"image_id": i, "category_id": 5, "bbox": box, "score": 0.5} for i, box in rows]))
    assert suite.measure.of_predictions(found, test, annotations)["metrics"]["AP"] == 1


def row(name: str, where: str, seed: int, ap: float, **more: Any) -> dict[str, Any]:
    shapes = {shape: {"AP": ap, "AP50": ap, "objects": 1} for shape in ("up to 1.5", "1.5 to 3", "above 3")}
    made: dict[str, Any] = {
        "name": name,
        "peer": False,
        "set": where,
        "task": "detection",
        "minutes": 3.0,
        "seed": seed,
        "protocol": "wall",
        "measured_on": "test",
        "failed": "",
        "options": [],
        "load": [0.1, 1.9],
        "versions": {"torch": "2"},
        "machine": "m",
        "metrics": {"AP": ap, "AP50": ap},
        "per_class": {},
        "by_shape": shapes,
        "errors": {"AP50_gains": {"missed": 0.25}},
    }
    return made | more


def test_the_table_has_mean_and_range_over_seeds_and_the_mean_over_sets_of_complete_systems(suite: Any):
    rows = [row("ours", "a", 0, 0.4), row("ours", "a", 1, 0.6), row("ours", "b", 0, 0.1), row("ours", "b", 1, 0.1)]
    rows += [row("part", "a", 0, 0.9), row("bad", "a", 0, 0.0, failed="no memory")]
    text = suite.table.table({"runs": rows})
    assert "## 3 minutes, measured on test, protocol wall" in text
    assert "| ours | 2 | 0.500 (0.400 … 0.600) | 0.100 (0.100 … 0.100) | 0.300 |" in text
    assert "| part | 1 | 0.900 |  |  |" in text
    assert "- bad, a, 3 minutes, seed 0: no memory" in text


def test_a_row_replaces_the_earlier_one_of_the_same_run(suite: Any, tmp_path: Path):
    file = tmp_path / "suite.json"
    for made in (row("ours", "a", 0, 0.4), row("ours", "a", 1, 0.5), row("ours", "a", 0, 0.7)):
        suite.main.keep(file, made)
    assert [(r["seed"], r["metrics"]["AP"]) for r in suite.main.stored(file)["runs"]] == [(1, 0.5), (0, 0.7)]


def test_the_cpu_clock_stands_still_while_the_process_sleeps(suite: Any):
    code = (
        "import time, cpu_clock; sleep, real = time.sleep, time.monotonic; cpu_clock.install(0.5); "
        "began, cpu = time.monotonic(), time.process_time(); sleep(0.5); "
        "[i * i for i in range(10**6)]; "
        "print((time.monotonic() - began) / (time.process_time() - cpu))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(0.5, rel=0.02)
