"""A progress bar for work on many images; training has its own (`sightline.training.progress`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int | None, what: str, show: bool, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr if it is a terminal; the bar disappears at the end.

    Args:
        total: number of images; None if it is not known.
        what: the work, such as "predicting".
        show: False shows no bar.
        unit: what is counted, in the plural.

    Yields:
        A function to be called with the number of units completed since the last call.
    """
    if not show or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
