"""The verb explain: why a model gives the answers that it gives."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import NamingHelp, app
from sightline.cli.inputs import parse_classes
from sightline.cli.options import (
    Camera,
    ClassNames,
    Device,
    Format,
    FullScale,
    Model,
    Quiet,
    TestSplit,
    TrainSplit,
    ValSplit,
)
from sightline.errors import InputError


@app.command(cls=NamingHelp)
def explain(
    model: Model,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES", help="Images, folders, or patterns such as 'photos/*.jpg'.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            metavar="NAME,…",
            help="{methods}; several separated by commas. By default layer_cam for detectors and grad_cam for other "
            "models.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TARGET",
            help="What to explain: a class (dog), one detection (box:0, box:0:delta, mask:0, keypoint:0:left_eye), a "
            "class of a class map (class:road), a proposal (proposal:0), a word of a caption (word:0:red), a relation "
            "(relation:0), an event (event:0), or the depth or shape of an object (depth:0, mesh:0). By default the "
            "class or object with the highest score.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="PATH", help="A layer of the model, such as backbone.layer4.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A new folder; by default explanations/explain1, explain2, …, or RUN/missed with --missed.",
        ),
    ] = None,
    missed: Annotated[
        bool,
        typer.Option(
            "--missed",
            help="For each object that a detector misses, find the step that lost it. IMAGES is a labelled dataset.",
        ),
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="With --missed: minimum score of a detection; the default is that of predict.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of masks, perturbed copies or steps, for the methods that use them.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="What replaces removed pixels: zero, mean or blur; by default zero.")
    ] = None,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="Measure how faithful the methods are, instead of drawing. IMAGES is a labelled dataset.",
        ),
    ] = False,
    cases: Annotated[int, typer.Option(help="With --score: number of explanations per method.")] = 20,
    split: Annotated[
        str | None, typer.Option(help="With --score or --missed: the split; by default test, otherwise val.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Perturbed copies per batch.")] = 16,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    format: Format = None,
    full_scale: FullScale = None,
    camera: Camera = None,
    classes: ClassNames = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw which parts of images a model's answer depends on.

    Writes one picture per image, with the heat maps of all methods side by side, and explanations.json. With --missed,
    writes missed.html, missed.json and one picture per cause.
    """
    from sightline import api
    from sightline.training.run import new_folder, removed_if_empty

    if score and missed:
        raise InputError("--score and --missed are different questions; give one of them")
    sources = {"train": train, "val": val, "test": test, "format": format}
    data_args: Any = {"classes": parse_classes(classes), "open_args": {**sources, "full_scale": full_scale}}
    if camera is not None and (score or missed):
        raise InputError("--camera is for images without labels; the images of --score and --missed have their own")
    if score:
        if len(images) > 1 or target is not None:
            raise InputError("--score takes one DATA, whose labels say what is explained; leave out --for and the rest")
        with nullcontext() if out is None else removed_if_empty(new_folder(out, "give another --out")):
            table = api.score_explanations(
                model,
                images[0],
                split,
                methods=parse_methods(method),
                layer=layer,
                samples=samples,
                baseline=baseline,
                cases=cases,
                seed=seed,
                batch_size=batch_size,
                device=device,
                progress=not quiet,
                **data_args,
            )
        typer.echo(str(table))
        if out is not None:
            typer.echo(f"table:    {api.write_faithfulness(table, out) / 'faithfulness.md'}")
        return
    if missed:
        names = parse_methods(method)
        given = {"--for": target, "--layer": layer, "--samples": samples, "--baseline": baseline}
        _require_alone(images, given, names)
        written = api.explain_missed(
            model,
            images[0],
            out,
            split,
            threshold=threshold,
            method=names[0] if names else "layer_cam",
            device=device,
            progress=not quiet,
            **data_args,
        )
        typer.echo("\n".join(map(str, [written.found, *(f"note: {note}" for note in written.notes), *written.files])))
        return
    labelled = {"split": split, "classes": classes or None, **sources}
    option = next((name for name, value in labelled.items() if value is not None), None)
    if option is not None or threshold is not None:
        which = f"--{option} belongs to --score or --missed" if option else "--threshold belongs to --missed"
        raise InputError(f"{which}; leave it out")
    source: Any = images if len(images) > 1 else images[0]
    found = api.explain_to_folder(
        model,
        source,
        out,
        methods=parse_methods(method),
        target=target,
        layer=layer,
        samples=samples,
        baseline=baseline,
        seed=seed,
        batch_size=batch_size,
        full_scale=full_scale,
        camera=camera,
        device=device,
        progress=not quiet,
    )
    typer.echo(str(found))


def _require_alone(images: list[str], given: dict[str, Any], methods: list[str] | None) -> None:
    """Check the arguments that --missed is given together with.

    Raises:
        InputError: they do not fit.
    """
    other = next((name for name, value in given.items() if value is not None), None)
    if other is not None:
        raise InputError(f"{other} belongs to the explanation of images, not to --missed; leave it out")
    if len(images) != 1:
        raise InputError(f"--missed takes one data set with labels, not {len(images)} paths; give one")
    if methods is not None and len(methods) != 1:
        raise InputError(f"--missed draws one heat map per object, not {', '.join(methods)}; give one method")


def parse_methods(values: list[str] | None) -> list[str] | None:
    """Parse --method: names separated by commas; None for the default of the model."""
    if not values:
        return None
    names = [name.strip() for text in values for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"--method {','.join(values)!r} has no names; give names such as grad_cam,lime")
    return names
