"""Describing and reconstructing rendered scenes: each task trained and tested through the command line.

    python benchmarks/scene.py run NAME …    # writes benchmarks/results/scene.json and scene.md
    python benchmarks/scene.py table

Each run of `RUNS` renders scenes that say what their labels are about, and trains on them with `sightline train`, which
chooses the task and the model by that. It is measured on its test scenes, which were not used in training. The scenes
of a run lie in runs/scene/data, so that runs on the same scenes share them.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import scene_runs
import sightline as sl
from sightline.training.run import run_facts

RESULTS = Path(__file__).parent / "results"


SCENES = ("--train", "400", "--val", "40", "--test", "100", "--size", "160", "--seed", "5")
SINGLE = ("--train", "1200", "--val", "40", "--test", "100", "--size", "256", "--seed", "5", "--objects", "1", "1")
MANY = ("--train", "2400", *SINGLE[2:])
MORE = ("--train", "800", "--val", "60", "--test", "100", "--size", "160", "--seed", "5")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        kind: what the labels of the scenes are about.
        train: options of `sightline train`.
        scenes: options of `sightline scenes`.
        shown: the metrics of the table.
        tests: further tests of the trained model: name → options of `sightline evaluate`.
    """

    kind: str
    train: tuple[str, ...] = ()
    scenes: tuple[str, ...] = SCENES
    shown: tuple[str, ...] = ()
    tests: dict[str, tuple[str, ...]] = field(default_factory=dict)


RELATIONS = ("PredCls/ngR@50", "SGDet/ngR@50", "PredCls/R@50", "SGDet/R@50", "PredCls/ngmR@50", "AP50")
MESHES = ("F1@0.3", "F1@0.1", "F1@0.5", "AP_mesh", "normal_consistency")
CUBOIDS = ("AP3D25", "AP3D", "AP3D50", "depth_error", "size_error")
RUNS: dict[str, Run] = {
    "captions": Run(
        "captions",
        ("--epochs", "12", "--set", "validate_every=3"),
        shown=("mAP", "box_mAP", "caption_score", "caption_score_blind", "exact"),
    ),
    "relations": Run("relations", ("--epochs", "6"), (*SCENES, "--objects", "2", "5"), shown=RELATIONS),
    "relations, frequency baseline": Run(
        "relations",
        ("--model", "scene_graph_frequency_lite0_fpn", "--epochs", "6"),
        (*SCENES, "--objects", "2", "5"),
        shown=RELATIONS,
    ),
    "cuboids": Run("cuboids", ("--epochs", "24", "--set", "validate_every=6"), MORE, CUBOIDS),
    "cuboids with depth": Run(
        "cuboids", shown=CUBOIDS, train=("--epochs", "20", "--set", "validate_every=5", "--arg", "depth=true")
    ),
    "meshes": Run("meshes", ("--epochs", "13", "--set", "validate_every=6"), SINGLE, shown=MESHES),
    "meshes, voxels only": Run(
        "meshes", ("--epochs", "9", "--arg", "stages=0", "--set", "validate_every=4"), SINGLE, shown=MESHES
    ),
    "meshes, voxels only, 6 more epochs": Run(
        "meshes",
        (
            *("--model", "mesh_rcnn_lite0_fpn", "--weights", "runs/scene/meshes,_voxels_only", "--lr", "5e-4"),
            *("--epochs", "6", "--arg", "stages=0", "--set", "validate_every=3"),
        ),
        SINGLE,
        shown=MESHES,
    ),
    "meshes, voxels only, 2400 scenes": Run(
        "meshes", ("--epochs", "13", "--arg", "stages=0", "--set", "validate_every=4"), MANY, shown=MESHES
    ),
    "meshes, refined": Run(
        "meshes",
        (
            *("--model", "mesh_rcnn_lite0_fpn", "--weights", "runs/scene/meshes,_voxels_only,_2400_scenes"),
            *("--epochs", "1", "--lr", "5e-4", "--arg", "stages=3", "--set", "validate_every=1"),
        ),
        MANY,
        shown=MESHES,
    ),
    "events": Run(
        "events",
        ("--epochs", "30", "--batch-size", "6", "--set", "validate_every=10"),
        ("--train", "400", "--val", "60", "--test", "60", "--size", "96", "--seed", "5"),
        shown=("caption_score", "caption_score_blind", "exact", "recall", "precision"),
    ),
}


READING = """The captions' mAP flatters: captions of one form share most of their words, so that a caption score above
0.25 needs little. Beside it stand `exact`, the fraction of the captions of found regions that are right word for word,
and `caption_score_blind`, what the best single sentence would score in place of all of them. Captions name size,
colour, material and class of their own object mostly rightly; the other object that they compare it with is mostly a
guess, so that hardly a sentence is right as a whole. Recall of scene graphs at 50 is without graph constraint (`ngR`):
several predicates hold for a pair, so that with it (`R`) no model exceeds about 0.42 here. The frequency baseline's
detector was trained for two epochs, which matters for `SGDet` only. Meshes are those of the voxels; the second row
continues from the weights of the first, so that its minutes come on top. The third row is one training, of 1.7 times
as many steps as these two together, on twice as many scenes (F1@0.3 of the 40 validation scenes, which choose the
epoch: 0.733, 0.768 and 0.829). It and the rows after it were trained on the AMD EPYC, those before on the Intel Xeon.
The refined meshes go on from the third row with the three stages of refinement for one epoch: a little better in
each metric, but their surfaces are not yet smooth. Cuboids with depth were trained on half as many scenes as those
without, for fewer epochs."""


def run(args: argparse.Namespace) -> None:
    for name in args.names or RUNS:
        own = RUNS[name]
        folder: Path = args.runs / name.replace(" ", "_")
        data = args.runs / "data" / "_".join([own.kind, *(word for word in own.scenes if not word.startswith("-"))])
        if not data.exists():
            scene_runs.sightline("scenes", data, "--kind", own.kind, *own.scenes, "--quiet")
        options = [*own.train, *args.option]
        threads = {"OMP_NUM_THREADS": str(args.threads)}
        if not (folder / "benchmark.json").exists():
            scene_runs.train([str(data), *options], folder, options, threads, (data, "test"), "cpu")
        facts = json.loads((folder / "benchmark.json").read_text())
        known = run_facts(folder)
        facts |= {"model": known.model, "epochs": len((folder / "metrics.jsonl").read_text().splitlines())}
        facts["command"] = " ".join(["sightline train DATA", *options])
        facts["scenes"] = " ".join(["sightline scenes DATA --kind", own.kind, *own.scenes])
        facts |= scene_runs.cost(folder, str(known.model), options, sl.open_dataset(data)["test"], args.timed)
        record(name, facts)
    table()


def table() -> None:
    """Write the Markdown table of what has been recorded."""
    known = json.loads((RESULTS / "scene.json").read_text())
    lines = [
        "# Describing and reconstructing rendered scenes",
        "",
        "`benchmarks/scene.py`; the metrics are those of the test scenes. CPU minutes: processor time of the training "
        "with its validation; empty where it was not taken. ms: median time of one image on the processor, one by one, "
        "on a machine with other work. One seed each.",
        "",
        "| run | model | parameters | GFLOP | ms | CPU minutes | epochs | metrics |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in known.items():
        minutes = "" if row["cpu"] is None else f"{row['cpu'] / 60:.0f}"
        shown = RUNS[name].shown if name in RUNS and RUNS[name].shown else tuple(row["metrics"])[:4]
        metrics = ", ".join(f"{key} {row['metrics'][key]:.3f}" for key in shown if row["metrics"].get(key) is not None)
        lines.append(
            f"| {name} | {row['model']} | {row['parameters']:,} | {row['gflops']:.1f} | {row['ms']:.0f} | "
            f"{minutes} | {row['epochs']} | {metrics} |"
        )
    lines += ["", "## Commands", ""]
    lines += [
        f"- {name}: `{row['scenes']}`, `{row['command']}`; load {row['load'] or 'not taken'}"
        for name, row in known.items()
    ]
    machines = sorted({f"{row['machine']}; {row['versions']}" for row in known.values()})
    lines += ["", *machines]
    lines += ["", READING]
    (RESULTS / "scene.md").write_text("\n".join([*lines, ""]))


def record(name: str, row: dict[str, object]) -> None:
    path = RESULTS / "scene.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = row
    path.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("run", "table"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUNS))
    parser.add_argument("--runs", type=Path, default=Path("runs/scene"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timed", type=int, default=20, help="number of images that are timed")
    parser.add_argument("--option", action="append", default=[], help="further option of sightline train")
    args = parser.parse_args()
    table() if args.work == "table" else run(args)


if __name__ == "__main__":
    main()
