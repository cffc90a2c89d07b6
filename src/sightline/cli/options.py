"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A folder of images and labels, a label file or an archive; the format is detected."
    ),
]
OptionalData = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Images and labels; by default the data that the model was trained on."),
]
TrainSplit = Annotated[
    str | None,
    typer.Option(help="The training split, if it is not detected: a folder, a label file or a list of images."),
]
ValSplit = Annotated[str | None, typer.Option(help="The validation split, if it is not detected.")]
TestSplit = Annotated[str | None, typer.Option(help="The test split, if it is not detected.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="The format of DATA, such as coco or yolo, if it contains several.", show_default=False
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a run, or a saved or exported model.")]
Runtime = Annotated[
    str | None,
    typer.Option(help="The runtime for an exported model: onnxruntime (the default) or openvino."),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--classes",
        metavar="OLD=NEW,…",
        help="Rename, merge or drop classes: apple=fruit,pear=fruit,junk= drops junk. Names without = keep only those "
        "classes.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A name from `sightline models`. By default {default_models}, depending on the labels.",
        show_default=False,
    ),
]
StartWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Initial weights: imagenet, coco, clutter (sightline_n), a file, the folder of a run, or none (random). "
        "By default imagenet if the backbone's weights are installed, clutter for sightline_n, otherwise none.",
    ),
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="A recipe.yaml with settings; other options override it.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other setting of the recipe, such as ema=none; can be repeated."
    ),
]
ModelArguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="An argument of the model, such as image_size=320 or settings.nms_iou=0.5; can be repeated. "
        "`sightline models MODEL` lists them. Training chooses some of the others from the dataset and the time "
        "budget, and prints each choice with its reason.",
    ),
]
RunMinutes = Annotated[
    float | None, typer.Option("--minutes", help="Time budget of each run in minutes, as for train.")
]
RunEpochs = Annotated[int | None, typer.Option("--epochs", help="Number of epochs of each run.")]
ComparedMetric = Annotated[
    str | None,
    typer.Option("--metric", help="The metric to compare; by default the one that selects the best epoch."),
]
ComparedSplit = Annotated[
    str | None, typer.Option("--split", help="The split to compare on; by default test, otherwise val.")
]
ComparisonFolder = Annotated[
    Path,
    typer.Option("--out", "-o", help="The folder for all runs and tables; repeating the command continues it."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images per batch.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")]
FullScale = Annotated[
    int | None,
    typer.Option(
        help="For images with more than 8 bits per sample: the value of white, such as 4095; by default it is "
        "estimated."
    ),
]
Camera = Annotated[
    str | None,
    typer.Option(
        help="For models of cuboids and meshes: the camera, as its focal length in pixels (focal=900) or a JSON file "
        "with its matrix, or with one matrix for each image.",
        metavar="FILE.json|focal=PIXELS",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(help="Number of processes to start on this machine, such as one per GPU; they share the work."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; by default the best one available.")]
