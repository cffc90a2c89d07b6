"""The verbs of the library: complete jobs such as `train` and `evaluate`, built from the parts of the package.

The command line calls the same functions. Each verb has a module in `sightline.verbs`; only these modules read
`sightline.tasks.TASKS`.
"""

from __future__ import annotations

from sightline.keywords import checked_keywords
from sightline.report.drawing import draw as _draw
from sightline.verbs.ablate import ablate
from sightline.verbs.ablation_plan import plan_ablation
from sightline.verbs.ablation_runs import collect, run_ablation
from sightline.verbs.annotate import annotate
from sightline.verbs.check import check
from sightline.verbs.compare import compare
from sightline.verbs.convert import convert, scenes
from sightline.verbs.deploy import export, optimize
from sightline.verbs.evaluate import evaluate, measure
from sightline.verbs.explain import explain_images, explain_to_folder
from sightline.verbs.faithfulness import score_explanations
from sightline.verbs.faithfulness_table import write_faithfulness
from sightline.verbs.load import load
from sightline.verbs.look import anchors, contact_sheet, look
from sightline.verbs.look_inside import activations, first_filters, latent_space, look_inside, strongest_patches
from sightline.verbs.missed import explain_missed, missed_objects
from sightline.verbs.predict import (
    predict,
    predict_to_folder,
    predict_to_parquet,
    predict_video,
    read_predictions,
)
from sightline.verbs.prepare import prepare, recipe_for
from sightline.verbs.report import update_report
from sightline.verbs.report import write_report as _write_report
from sightline.verbs.serve import serve, server_app
from sightline.verbs.train import train, train_prepared

__all__ = [
    "ablate",
    "activations",
    "anchors",
    "annotate",
    "check",
    "collect",
    "compare",
    "contact_sheet",
    "convert",
    "draw",
    "evaluate",
    "explain_images",
    "explain_missed",
    "explain_to_folder",
    "export",
    "first_filters",
    "latent_space",
    "load",
    "look",
    "look_inside",
    "measure",
    "missed_objects",
    "optimize",
    "plan_ablation",
    "predict",
    "predict_to_folder",
    "predict_to_parquet",
    "predict_video",
    "prepare",
    "read_predictions",
    "recipe_for",
    "run_ablation",
    "scenes",
    "score_explanations",
    "serve",
    "server_app",
    "strongest_patches",
    "train",
    "train_prepared",
    "update_report",
    "write_faithfulness",
    "write_report",
]

draw = checked_keywords(_draw)
write_report = checked_keywords(_write_report)
