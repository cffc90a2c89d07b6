"""The application: the verbs in their order, help, errors as sentences, and several processes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
import typer.core

from sightline.errors import InputError
from sightline.runtime.processes import is_first_error, is_main, world_size
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
"""Errors of the operating system that a user can fix; others are bugs of the program."""


DEBUG = "SIGHTLINE_DEBUG"
"""The environment variable that shows the traceback of an unexpected error."""
_USAGE: Any = typer.BadParameter.__mro__[2]
"""The base class of the argument parser's errors (`ClickException`), which print their own message."""

_ORDER = (
    *(
        "annotate",
        "check",
        "convert",
        "look",
        "anchors",
        "train",
        "compare",
        "ablate",
        "evaluate",
        "predict",
        "explain",
        "inside",
    ),
    *("export", "serve", "models", "doctor", "scenes", "report", "demo"),
)


class _Verbs(typer.core.TyperGroup):
    """Runs a verb; a user's mistake or Ctrl-C prints a sentence instead of a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of a typical workflow."""
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
            if is_first_error():
                typer.echo(f"error: {shown(sentence)}", file=sys.stderr if is_main() else sys.__stderr__)
            raise typer.Exit(code) from None


class NamingHelp(typer.core.TyperCommand):
    """A verb whose help lists names from the library's own tables, which are imported only when help is printed."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from sightline.data.formats import WRITTEN
        from sightline.data.transforms.recipes import NAMES, POLICIES
        from sightline.explain.methods import METHODS
        from sightline.tasks import default_models, task_names

        tables = {"{formats}": WRITTEN, "{augmentations}": tuple(NAMES), "{tasks}": task_names()}
        tables["{methods}"] = tuple(METHODS)
        tables["{default_models}"] = default_models()
        for parameter in self.params:
            text = getattr(parameter, "help", None) or ""
            for place, names in tables.items():
                text = text.replace(place, f"{', '.join(names[:-1])} or {names[-1]}")
            text = text.replace("{policies}", f"{', '.join(POLICIES[:-1])} and {POLICIES[-1]}")
            parameter.help = text or None  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code of an error and its message."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        where = f"{error.filename}: " if error.filename else ""
        return 2, f"{where}{error.strerror}; choose another folder, or free some space"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "allocate memory" in text:
        return 2, "there is not enough memory; use smaller images, a smaller batch size or a smaller model"
    return 70, f"unexpected {type(error).__name__}: {text[:300]} (a bug in Sightline; {DEBUG}=1 shows where)"


app = typer.Typer(
    name="sightline",
    cls=_Verbs,
    help="What is in an image, where, and why the model thinks so.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        from sightline import __version__

        typer.echo(__version__)
        raise typer.Exit()


SHARED = ("train", "evaluate")
"""The verbs whose work several processes share."""


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """What is in an image, where, and why the model thinks so."""
    verb = context.invoked_subcommand
    if world_size() > 1 and verb not in SHARED:
        raise InputError(
            f"{verb} was started in {world_size()} processes, but only {' and '.join(SHARED)} share their work; start "
            f"`sightline {verb}` once"
        )


def start_processes(processes: int | None) -> None:
    """Start the processes asked for, wait for them and exit; return in each of these processes, or if it is one.

    Args:
        processes: their number; None for one, or for those that `accelerate launch --cpu` did not start.

    Raises:
        InputError: the number is below 1, or differs from that of processes that a launcher has started.
    """
    from sightline.runtime.launching import end_with_launcher, launch, unstarted_processes
    from sightline.runtime.values import require_whole

    if processes is not None:
        processes = require_whole("processes", processes, 1, "workers", "give the number of GPUs, or 1")
    if world_size() > 1:
        if processes not in (None, world_size()):
            raise InputError(
                f"--processes is {processes}, but the launcher has started {world_size()} processes; leave it out"
            )
        end_with_launcher()
        return
    missing = unstarted_processes() if processes is None else None
    if missing == 0:
        raise InputError(
            "accelerate launch --cpu starts one process only, unless it uses MPI; give the number here (--processes 2)"
        )
    count = processes or missing or 1
    if count > 1:
        raise typer.Exit(launch(count, sys.argv[1:]))
