"""Certificates of exported files on real data: train for minutes, export as fp32, fp16 and int8, record the figures.

    python benchmarks/certificate.py bccd sightline_n --minutes 5 --arg image_size=256
    python benchmarks/certificate.py flowers mobilenet_v2 --epochs 4 --weights FILE --arg image_size=128
    python benchmarks/certificate.py flowers mobilenet_v2 --run runs/flowers --precision int8

With --run an existing run of the model is exported instead of a new training. Each call adds its rows to
benchmarks/results/certificate.json and writes benchmarks/results/certificate.md. Every figure is read from the file's
own certificate, as `sightline doctor FILE` prints it; CPU time is that of the process, which other load disturbs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

import sightline as sl
from sightline.deploy.certificate import Certificate, Score
from sightline.errors import InputError

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
HEADINGS = (
    *("data", "model", "trained", "precision", "images", "metric", "before → after", "difference", "float layers"),
    *("MB", "ms", "machine"),
)
CALLS = 15
"""Calls whose median CPU time counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of ../shared/data")
    parser.add_argument("model", help="the name of a model")
    parser.add_argument("--minutes", type=float, default=5, help="of the training, unless --epochs is given")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--weights", help="what the training starts from")
    parser.add_argument("--arg", action="append", default=[], help="an argument of the model: name=number")
    parser.add_argument("--run", type=Path, help="a run of this model, instead of a training")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16", "int8"])
    given = parser.parse_args()
    arguments = {name: float(value) if "." in value else int(value) for name, value in map(_pair, given.arg)}
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or trained(given, arguments, Path(folder))
        for precision in given.precision:
            record(row(given, run, precision, Path(folder) / f"{precision}.onnx"))


def record(one: dict[str, Any]) -> None:
    """Add a row to the results, in place of an earlier one of the same kind."""
    store = RESULTS / "certificate.json"
    found = json.loads(store.read_text()) if store.exists() else []
    same = [all(old[name] == one[name] for name in ("data", "model", "precision")) for old in found]
    found = [old for old, replaced in zip(found, same, strict=True) if not replaced] + [one]
    store.write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "certificate.md").write_text(document(found))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def trained(given: argparse.Namespace, arguments: dict[str, Any], folder: Path) -> Path:
    """The folder of a new run."""
    length = {"epochs": given.epochs} if given.epochs else {"minutes": given.minutes}
    own = {"arguments": arguments, "weights": given.weights, "runs": folder, "name": "run", "report": False}
    return sl.train(given.model, DATA / given.data, **own, **length).folder


def training_of(run: Path) -> str:
    """How long a run was, on images of which size, and from which weights."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    length = f"{recipe['epochs']} epochs" if recipe["epochs"] else f"{recipe['minutes']:g} min"
    sizes = [f"{name} {value}" for name, value in recipe["run"]["arguments"].items() if name.endswith("_size")]
    weights = [Path(recipe["run"]["weights"]).name] if recipe["run"].get("weights") else []
    return ", ".join([length, *sizes, *weights])


def row(given: argparse.Namespace, run: Path, precision: Any, path: Path) -> dict[str, Any]:
    """One precision of one model: its certificate, or the sentence of its refusal."""
    own = {"data": given.data, "model": given.model, "trained": training_of(run), "precision": precision}
    own |= {"max_drop": given.max_drop, "metrics": sl.load(run).metadata.get("metrics")}
    began = time.perf_counter()
    try:
        written = sl.export(
            run,
            path,
            precision=precision,
            data=DATA / given.data,
            calibration=given.calibration,
            max_drop=given.max_drop,
            tell=print,
        )
    except InputError as error:
        print(error)
        return own | {"refused": str(error).replace(str(path), path.name)}
    assert written.certificate is not None
    print(written, flush=True)
    certificate = written.certificate.to_dict() | {"data": given.data}
    took = time.perf_counter() - began
    return own | {"certificate": certificate, "cpu_ms": cpu_ms(path, given.data), "export_seconds": took}


def cpu_ms(path: Path, data: str) -> float:
    """Median CPU milliseconds of one image with one thread: preprocessing, network, decoding and suppression."""
    torch.set_num_threads(1)
    image, model = sl.open_dataset(DATA / data)[0][0], sl.load(path)
    times = []
    for _ in range(CALLS):
        began = time.process_time()
        model([image])
        times.append(1000 * (time.process_time() - began))
    return statistics.median(times)


def document(rows: list[dict[str, Any]]) -> str:
    """The table of all rows."""
    last = Certificate.from_dict(next(one["certificate"] for one in reversed(rows) if "certificate" in one))
    versions = ", ".join(f"{name} {version}" for name, version in last.versions.items())
    lines = [
        "# Exported files with certificates",
        "",
        f"One thread; {versions}.",
        "Made by `python benchmarks/certificate.py DATA MODEL`; the figures are those of each file's own certificate",
        "(`sightline doctor FILE`). The metric is the first of the task, on the validation split. The difference is",
        "from the PyTorch model for fp32 and from the fp32 file otherwise, with its 95 % bootstrap interval, paired by",
        "image. CPU time (ms) is that of one image with everything inside, on a machine that other work shared. The",
        "trainings are short, so the metrics show what an export loses, not what a model can reach.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---|---|---|---|---:|---|---|---|---:|---:|---:|---|",
    ]
    for one in rows:
        start = f"| {one['data']} | {one['model']} | {one['trained']} | {one['precision']} |"
        if "refused" in one:
            lines.append(f"{start} | | refused: {one['refused']} | | | | | |")
            continue
        found = Certificate.from_dict(one["certificate"])
        lines.append(
            f"{start} {found.images} | {found.metric} | {found.judged.reference:.4f} → {found.judged.exported:.4f} | "
            f"{shown(found.judged)} | {kept(found)} | {found.bytes[0] / 1e6:.1f} | {one['cpu_ms']:.1f} | "
            f"{found.seconds['machine']} |"
        )
    return "\n".join(lines) + "\n"


def shown(score: Score) -> str:
    """The difference with its interval."""
    low, high = score.interval or (float("nan"), float("nan"))
    return f"{score.difference:+.4f} ({low:+.4f} to {high:+.4f})"


def kept(found: Certificate) -> str:
    """How many layers stayed in float."""
    return f"{len(found.float_layers)} of {found.layers}" if found.precision == "int8" else ""


if __name__ == "__main__":
    main()
