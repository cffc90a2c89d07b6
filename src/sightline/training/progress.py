"""The progress display of a training run: a bar with losses and remaining time, and one line per epoch."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from sightline.training.metrics_log import Row
from sightline.training.schedule import Clock

log = logging.getLogger("sightline")

_BAR_EVERY = 0.2
_LINE_EVERY = 30.0
_METRICS = 5
"""Number of validation metrics in the line of an epoch, besides the loss."""


class ProgressDisplay:
    """A progress bar on a terminal, plain lines otherwise, on stderr.

    Args:
        shown: False shows nothing.
        clock: the clock of the run.
        batches: batches per epoch.
    """

    def __init__(self, shown: bool, clock: Clock, batches: int):
        self.shown, self.clock, self.batches = shown, clock, batches
        self._bar: Any = None
        self._task: Any = None
        self._last = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[numbers]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0, left="", numbers="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.shown:
            print(line, file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Print a warning; log it if the display is off."""
        if self.shown:
            self.say(f"warning: {line}")
        else:
            log.warning("%s", line)

    def batch(self, epoch: int, batch: int, losses: Mapping[str, float], lr: float) -> None:
        """Show a batch's losses. This is called for every batch but drawn only from time to time."""
        now = time.monotonic()
        if not self.shown or now - self._last < (_BAR_EVERY if self._bar is not None else _LINE_EVERY):
            return
        self._last = now
        left = self.clock.remaining
        time_left = "" if left is None else f"{duration(left)} left"
        numbers = f"{losses_text(losses)}  lr {lr:.1e}"
        title = f"{self._epoch_text(epoch + 1)}, batch {batch}/{self.batches}"
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self.clock.progress, description=title, left=time_left, numbers=numbers
            )
        else:
            self.say(f"{title}  {numbers}  {time_left}")

    def validating(self, epoch: int) -> None:
        """Show that validation of an epoch is running."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._epoch_text(epoch + 1)}, validation", numbers="")

    def epoch(self, row: Row, best: bool) -> None:
        """Print the line of an epoch."""
        parts = [self._epoch_text(row["epoch"]), losses_text(_part(row, "train/"))]
        val_metrics = dict(list(_part(row, "val/").items())[: 1 + _METRICS])
        if val_metrics:
            parts.append("val " + "  ".join(f"{name} {_number(value)}" for name, value in val_metrics.items()))
        parts += [f"lr {row['lr']:.1e}", duration(row["seconds"])]
        left = self.clock.remaining
        if left is not None and self.clock.progress < 1:
            parts.append(f"{duration(left)} left")
        self.say("  ".join(parts) + ("  best" if best else ""))

    def _epoch_text(self, number: int) -> str:
        total = self.clock.total_epochs
        return f"epoch {number}" if total is None else f"epoch {number:>{len(str(total))}}/{total}"


def _part(row: Row, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "n/a"


def losses_text(losses: Mapping[str, Any]) -> str:
    """The total loss, with its terms in parentheses."""
    terms = {name: value for name, value in losses.items() if name != "loss"}
    total = losses["loss"] if "loss" in losses else sum(terms.values())
    inside = f" ({', '.join(f'{name} {_number(value)}' for name, value in terms.items())})" if len(terms) > 1 else ""
    return f"loss {_number(total)}{inside}"


def duration(seconds: float) -> str:
    """Format a time span: 7 s, 3 min 05 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
