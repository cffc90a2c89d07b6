"""Two processes train one model: same weights in both, every image once, folders made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
import torch
from accelerate.state import PartialState
from tests.training import toy
from sightline.errors import InputError
from sightline.training.loop import fit
from sightline.training.recipe import Recipe

recipe = Recipe(epochs=2, batch_size=2, ema=0.9, accumulate=2)
options = {"validation": toy.Blobs(3, seed=1), "save": toy.save, "progress": False}
seen = []

def watch(image, target, generator):
    seen.append(target.source)
    return toy.jitter(image, target, generator)

folder = sys.argv[1]
first = fit(toy.model(), toy.Blobs(8), recipe, folder + "/run", transform=watch, **options)
again = fit(toy.model(5), toy.Blobs(8), Recipe(epochs=3, batch_size=2, ema=0.9, accumulate=2), folder + "/run",
            resume=True, transform=toy.jitter, validate=lambda model: {"AP": 0.25}, **options)
try:
    fit(toy.model(), toy.Blobs(8), recipe, folder + "/run", **options)
    refused = ""
except InputError as error:
    refused = str(error)
rank = PartialState().process_index
weights = [p.detach().double().sum().item() for p in again.model.parameters()]
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump({"weights": weights, "seen": seen, "rows": again.metrics, "refused": refused}, file)
"""


def test_two_processes(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "script.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["weights"] == two["weights"]
    for epoch in range(2):
        both = one["seen"][4 * epoch : 4 * epoch + 4] + two["seen"][4 * epoch : 4 * epoch + 4]
        assert sorted(both) == [f"blob{i}.png" for i in range(8)]
    for of_one, of_two in zip(one["rows"], two["rows"], strict=True):
        assert {k: v for k, v in of_one.items() if k != "seconds"} == {
            k: v for k, v in of_two.items() if k != "seconds"
        }
    assert [row["step"] for row in one["rows"]] == [1, 2, 3]
    assert one["rows"][2]["val/AP"] == 0.25
    assert "exists and is not empty" in one["refused"]
    assert "exists and is not empty" in two["refused"]
