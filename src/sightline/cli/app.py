"""The application: what every verb shares, and how a mistake becomes a sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from sightline.errors import InputError

_OF_THE_SYSTEM = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""Refusals of the operating system that a user can do something about; others are faults of the program."""


_ORDER = (
    *("check", "convert", "look", "anchors", "train", "evaluate", "predict"),
    *("models", "doctor", "scenes", "report", "demo"),
)


class _Verbs(typer.core.TyperGroup):
    """Runs a verb; what goes wrong by a mistake or by Ctrl-C becomes a sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which one needs them, whichever file they are in."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in _OF_THE_SYSTEM:
                raise
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"error: {where}{error.strerror}; choose another place, or make room there", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    name="sightline",
    cls=_Verbs,
    help="What is in an image, where, and why the model thinks so.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A folder of images and labels in any format of the README, or a label file."),
]
KnownData = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="As for the other verbs; by default the data that was trained on."),
]
Split = Annotated[
    str | None, typer.Option(help="Where this split is, if not found by itself: a folder, a label file, a list.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="The format of DATA, if the folder holds several: coco, voc, yolo, …", show_default=False
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, or a saved model.")]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--classes",
        metavar="OLD=NEW,…",
        help="Rename or merge classes: apple=fruit,pear=fruit; junk= leaves one out; names alone keep these.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
FullScale = Annotated[
    int | None,
    typer.Option(help="Of images of more than 8 bits: the value of white, such as 4095; by default found."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; by default the best there is.")]


def _version(asked: bool) -> None:
    if asked:
        from sightline import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say the version and exit.")
    ] = False,
) -> None:
    """What is in an image, where, and why the model thinks so."""
