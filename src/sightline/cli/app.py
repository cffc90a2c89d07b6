"""The application: what every verb shares, and how a mistake becomes a sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from sightline.errors import InputError
from sightline.runtime.reading import shown

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


DEBUG = "SIGHTLINE_DEBUG"
"""The environment variable that shows the traceback of an unexpected error."""
_USAGE: Any = typer.BadParameter.__mro__[2]
"""What the parser of arguments raises (`ClickException`); it prints its own sentence."""

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
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, _USAGE, BrokenPipeError):
            raise
        except Exception as error:
            if not isinstance(error, InputError) and os.environ.get(DEBUG):
                raise
            code, sentence = _explained(error)
            typer.echo(f"error: {shown(sentence)}", err=True)
            raise typer.Exit(code) from None


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code of an error and the sentence for it."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        where = f"{error.filename}: " if error.filename else ""
        return 2, f"{where}{error.strerror}; choose another place, or make room there"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "allocate memory" in text:
        return 2, "there is not enough memory for this; give smaller images, a smaller batch size or a smaller model"
    return 70, f"unexpected {type(error).__name__}: {text[:300]} (a fault of Sightline; {DEBUG}=1 shows where)"


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
