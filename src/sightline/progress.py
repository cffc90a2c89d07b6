"""A progress bar for work on many images; a training has its own (`sightline.training.progress`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, what: str, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream, if wanted and if a person looks; gone when the work is done.

    Args:
        total: images in all.
        what: is being done, such as "predicting".
        show: False for none.

    Yields:
        The function that says how many more images are done.
    """
    if not show or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
