"""Sightline: what is in an image, where, and why the model thinks so.

import sightline as sl

data = sl.open_dataset("my_images")
run = sl.train(data=data, minutes=3)
print(sl.evaluate(run.model, data["test"]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sightline._version import __version__ as __version__
from sightline.runtime.waiting import spin_briefly

spin_briefly()

if TYPE_CHECKING:
    from sightline import data as data
    from sightline import evaluation as evaluation
    from sightline import explain as explain
    from sightline import interop as interop
    from sightline import models as models
    from sightline import nn as nn
    from sightline import ops as ops
    from sightline import report as report
    from sightline import training as training
    from sightline.api import (
        ablate,
        activations,
        annotate,
        check,
        compare,
        contact_sheet,
        convert,
        draw,
        evaluate,
        explain_images,
        explain_missed,
        explain_to_folder,
        export,
        first_filters,
        latent_space,
        load,
        look_inside,
        missed_objects,
        optimize,
        predict,
        predict_to_folder,
        predict_to_parquet,
        predict_video,
        read_predictions,
        scenes,
        score_explanations,
        serve,
        server_app,
        strongest_patches,
        train,
        write_report,
    )
    from sightline.data.dataset import Dataset
    from sightline.data.formats import open_dataset
    from sightline.data.images import read_image
    from sightline.errors import ClassMismatch, InputError
    from sightline.models.catalog import models as list_models
    from sightline.models.creation import create_model
    from sightline.models.model import Model
    from sightline.models.saving import save
    from sightline.models.summary import summary
    from sightline.structures import Classes, ClassMap, ClassScores, Clip, Events, ImageBatch, Instances, View
    from sightline.training.recipe import Recipe

# A name is imported when it is first used, so that `import sightline` costs next to nothing.
_HOMES = {
    "ClassMap": ("sightline.structures", "ClassMap"),
    "ClassMismatch": ("sightline.errors", "ClassMismatch"),
    "ClassScores": ("sightline.structures", "ClassScores"),
    "Classes": ("sightline.structures", "Classes"),
    "Clip": ("sightline.structures", "Clip"),
    "Dataset": ("sightline.data.dataset", "Dataset"),
    "Events": ("sightline.structures", "Events"),
    "ImageBatch": ("sightline.structures", "ImageBatch"),
    "InputError": ("sightline.errors", "InputError"),
    "Instances": ("sightline.structures", "Instances"),
    "Model": ("sightline.models.model", "Model"),
    "Recipe": ("sightline.training.recipe", "Recipe"),
    "View": ("sightline.structures", "View"),
    "ablate": ("sightline.api", "ablate"),
    "activations": ("sightline.api", "activations"),
    "annotate": ("sightline.api", "annotate"),
    "check": ("sightline.api", "check"),
    "compare": ("sightline.api", "compare"),
    "contact_sheet": ("sightline.api", "contact_sheet"),
    "convert": ("sightline.api", "convert"),
    "create_model": ("sightline.models.creation", "create_model"),
    "draw": ("sightline.api", "draw"),
    "evaluate": ("sightline.api", "evaluate"),
    "explain_images": ("sightline.api", "explain_images"),
    "explain_missed": ("sightline.api", "explain_missed"),
    "explain_to_folder": ("sightline.api", "explain_to_folder"),
    "export": ("sightline.api", "export"),
    "first_filters": ("sightline.api", "first_filters"),
    "latent_space": ("sightline.api", "latent_space"),
    "list_models": ("sightline.models.catalog", "models"),
    "load": ("sightline.api", "load"),
    "look_inside": ("sightline.api", "look_inside"),
    "missed_objects": ("sightline.api", "missed_objects"),
    "optimize": ("sightline.api", "optimize"),
    "open_dataset": ("sightline.data.formats", "open_dataset"),
    "predict": ("sightline.api", "predict"),
    "predict_to_folder": ("sightline.api", "predict_to_folder"),
    "predict_to_parquet": ("sightline.api", "predict_to_parquet"),
    "predict_video": ("sightline.api", "predict_video"),
    "read_image": ("sightline.data.images", "read_image"),
    "read_predictions": ("sightline.api", "read_predictions"),
    "save": ("sightline.models.saving", "save"),
    "scenes": ("sightline.api", "scenes"),
    "score_explanations": ("sightline.api", "score_explanations"),
    "serve": ("sightline.api", "serve"),
    "server_app": ("sightline.api", "server_app"),
    "strongest_patches": ("sightline.api", "strongest_patches"),
    "summary": ("sightline.models.summary", "summary"),
    "train": ("sightline.api", "train"),
    "write_report": ("sightline.api", "write_report"),
}

_PARTS = ("data", "evaluation", "explain", "interop", "models", "nn", "ops", "report", "training")
"""Packages that are imported when they are first used: `sl.ops.boxes` after `import sightline as sl`."""

__all__ = [
    "ClassMap",
    "ClassMismatch",
    "ClassScores",
    "Classes",
    "Clip",
    "Dataset",
    "Events",
    "ImageBatch",
    "InputError",
    "Instances",
    "Model",
    "Recipe",
    "View",
    "ablate",
    "activations",
    "annotate",
    "check",
    "compare",
    "contact_sheet",
    "convert",
    "create_model",
    "draw",
    "evaluate",
    "explain_images",
    "explain_missed",
    "explain_to_folder",
    "export",
    "first_filters",
    "latent_space",
    "list_models",
    "load",
    "look_inside",
    "missed_objects",
    "open_dataset",
    "optimize",
    "predict",
    "predict_to_folder",
    "predict_to_parquet",
    "predict_video",
    "read_image",
    "read_predictions",
    "save",
    "scenes",
    "score_explanations",
    "serve",
    "server_app",
    "strongest_patches",
    "summary",
    "train",
    "write_report",
]


if not TYPE_CHECKING:  # type checkers see the imports above, and so a name that is not there

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            module, attribute = _HOMES[name]
            value = getattr(import_module(module), attribute)
            globals()[name] = value
            return value
        if name in _PARTS:
            return import_module(f"sightline.{name}")  # which also makes it an attribute of this module
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_PARTS, "__version__"]
