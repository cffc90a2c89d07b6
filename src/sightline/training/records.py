"""The files that a run writes: recipe and environment at the start; metrics, models and checkpoint after each epoch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sightline.training import devices
from sightline.training.checkpoint import Parts, SaveModel, TrainState, save_checkpoint, save_models
from sightline.training.metrics_log import MetricsLog, Row, choose_metric, plain_row, score
from sightline.training.recipe import run_part
from sightline.training.run import write_environment


def about_run(folder: Path, facts: Mapping[str, Any] | None, resumed: bool) -> Mapping[str, Any] | None:
    """The entry "run" of recipe.yaml; a resumed run keeps the existing one."""
    return (run_part(folder / "recipe.yaml") if resumed else None) or facts


class Records:
    """Writes the files of a run, in the main process only.

    Args:
        folder: the run's folder.
        parts: recipe, model, optimizer, averaged weights and accelerator.
        state: the progress of the run.
        save: writes a model to a file.
        validates: whether the run has validation data or metrics.
        facts: additional entries for the files: model, arguments, weights, data.
        resumed: True for a resumed run, which keeps the entries written at its start.
        lower_is_better: validation metrics, besides losses, for which lower is better.
    """

    def __init__(
        self,
        folder: Path,
        parts: Parts,
        state: TrainState,
        save: SaveModel,
        validates: bool,
        facts: Mapping[str, Any] | None = None,
        resumed: bool = False,
        lower_is_better: Collection[str] = (),
    ):
        self.folder, self.parts, self.save, self.validates = folder, parts, save, validates
        self.lower_is_better = lower_is_better
        self.log: MetricsLog | None = None
        if parts.accelerator.is_main_process:
            parts.recipe.to_yaml(folder / "recipe.yaml", about_run(folder, facts, resumed))
            accelerator = parts.accelerator
            write_environment(folder, accelerator.device, accelerator.num_processes, facts, resumed)
            self.log = MetricsLog(folder, state.rows)

    def close_epoch(
        self, state: TrainState, validation: Mapping[str, Any], elapsed: float, closed: bool | None = None
    ) -> tuple[Row, bool]:
        """Record an epoch and move `state` to the next one.

        Args:
            state: after the last batch of the epoch.
            validation: the validation columns; empty if the epoch was not validated.
            elapsed: total seconds of the run.
            closed: for augmentations that stop combining images in the last part of the run (mosaic): whether the
                epoch ended in that part. None for other augmentations.

        Returns:
            The epoch's row, and whether it is the best so far. Of equally good epochs the later one is the best,
            because it was trained longer.
        """
        state.elapsed = elapsed
        losses = devices.mean_over_processes(self.parts.accelerator, state.sums, state.images)
        columns: Row = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": state.lr,
            "seconds": round(elapsed - state.epoch_began, 3),
            **{f"train/{name}": value for name, value in losses.items()},
            "train/loss": sum(losses.values()),
            **validation,
            **({} if closed is None else {"closed": int(closed)}),
        }
        row = plain_row(columns)
        best = self._judge(state, row, validated=bool(validation))
        if self.log is not None:
            self.log.add(row)
            save_models(self.folder, state, self.parts, row, best, self.save)
        if best:
            state.best = row
        state.rows.append(row)
        state.next_epoch()
        save_checkpoint(self.folder, state, self.parts)
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        self.parts.accelerator.log(numbers, step=row["epoch"])
        return row, best

    def _judge(self, state: TrainState, row: Row, validated: bool) -> bool:
        if state.metric is None:
            if self.validates and not validated:
                return False  # the metric is chosen after the first validation
            state.metric = choose_metric(row, self.parts.recipe.keep)
        value = score(row, state.metric, self.lower_is_better)
        if value is None:
            return False
        if state.best_score is None or value > state.best_score:
            state.improved = row["epoch"]
        elif value < state.best_score:
            return False
        state.best_score = value
        return True
