"""What a training works with, set up in one place; `sightline.training.loop` reads the epochs from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.facts import remember, say_what_is_not_mirrored, scaled_as_learnt
from sightline.data.transforms.base import Transform
from sightline.models.model import Model
from sightline.training import checkpoint, devices
from sightline.training.budget import BudgetWatch
from sightline.training.checkpoint import Parts, SaveModel, TrainState
from sightline.training.ema import Ema
from sightline.training.guard import Guard
from sightline.training.interrupt import Interrupts
from sightline.training.loader import EpochBatches, Items, make_loader, require_fitting
from sightline.training.optimizer import make_optimizer
from sightline.training.progress import ProgressDisplay
from sightline.training.recipe import Recipe
from sightline.training.records import Records
from sightline.training.run import existing_run_folder, new_run
from sightline.training.schedule import Clock
from sightline.training.step import Step, Stepping
from sightline.training.validation import Validate, Validation

CLOSED = "augmentation {name}: from here on images are no longer combined; the training loss may jump, for it is theirs"
"""What is said when the last part of the augmentation begins."""


@dataclass
class Session:
    """A training in progress.

    Attributes:
        folder: of the run.
        parts: recipe, model, optimizer, averaged weights and accelerator: all whose state a checkpoint holds.
        state: where the run stands.
        net: the model as `accelerate` has wrapped it.
        optimizer: the optimizer as `accelerate` has wrapped it.
        order: decides which images are in which batch.
        loader: batches of training images with their targets.
        batches: how many of them an epoch has, in each process.
        validation: measures the model after an epoch.
        records: the files of the run.
        clock: how far the run is, and how much time is left.
        guard: stops at the first loss that is not finite.
        display: the progress that is shown.
        budget: gives advice where the time is short.
        interrupts: Ctrl-C.
        closing: whether the augmentation was switched to that of the last part of the run; None if it has no such part.
    """

    folder: Path
    parts: Parts
    state: TrainState
    net: Any
    optimizer: Any
    order: EpochBatches
    loader: Any
    batches: int
    validation: Validation
    records: Records
    clock: Clock
    guard: Guard
    display: ProgressDisplay
    budget: BudgetWatch
    interrupts: Interrupts
    closing: bool | None = None

    @property
    def recipe(self) -> Recipe:
        return self.parts.recipe

    @property
    def accelerator(self) -> Any:
        return self.parts.accelerator

    def share_of_step(self, loss: Tensor) -> Tensor:
        """A batch's loss such that an optimizer step sees the mean over its batches.

        accelerate divides by `accumulate`, but the last group of an epoch may be smaller.
        """
        accumulate = self.recipe.accumulate
        group = min(accumulate, self.batches - self.state.batch // accumulate * accumulate)
        return loss if group == accumulate else loss * (accumulate / group)

    def count_step(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Note that the optimizer has made a step: average the weights, take the time, show it."""
        self.state.step += 1
        if self.parts.ema is not None:
            self.parts.ema.update(self.parts.model)
        self.clock.tick(self.state.step)
        self.budget.step(self.state.step)
        self.display.batch(epoch, self.state.batch, losses, self.state.lr)
        self.interrupts.check()

    def validate(self, epoch: int) -> dict[str, Any]:
        """The columns of an epoch's validation; empty where the epoch is not validated."""
        last = self.clock.out_of_time or epoch + 1 == self.recipe.epochs
        if not self.validation or not (last or (epoch + 1) % self.recipe.validate_every == 0):
            return {}
        self.display.validating(epoch)
        began = self.clock.elapsed
        with self.interrupts.allowed():
            metrics = devices.on_main(self.accelerator, lambda: self.validation.metrics(self.parts.weights))
        self.state.validation_seconds = self.clock.validated(self.clock.elapsed - began)
        self.clock.tick(self.state.step)  # time kept for a validation that took less is there to train in
        return metrics

    def closed(self, epoch: int) -> bool | None:
        """Whether the last batch of an epoch was of the augmentation's last part, which is said once."""
        if self.order.closing is None:
            return None
        before, self.closing = self.closing, self.order.closing(epoch, self.order.count - 1)
        if self.closing and not before:
            self.display.say(CLOSED.format(name=self.recipe.augmentation))
        return self.closing


def set_up(
    model: Model,
    data: Items,
    recipe: Recipe,
    folder: Path,
    *,
    validation: Items | None,
    validate: Validate | None,
    lower_is_better: Collection[str],
    quick_model: str | None,
    transform: Transform | None,
    resume: bool,
    trackers: Sequence[Any],
    progress: bool,
    step: Step | None,
    save: SaveModel,
    device: str | None,
    facts: Mapping[str, Any] | None,
) -> Session:
    """A session that begins, or goes on where the run in `folder` stopped; arguments and errors as for `fit`."""
    require_fitting(model, data, validation)
    remember(model, data)
    validation = scaled_as_learnt(model, validation)
    say_what_is_not_mirrored(data, transform)
    accelerator = devices.make_accelerator(recipe, folder, trackers, device)
    folder = devices.on_main(accelerator, lambda: existing_run_folder(folder) if resume else new_run(folder))
    checkpoint.seed_everything(recipe.seed + accelerator.process_index)
    model.to(accelerator.device)
    ema = None if recipe.ema is None else Ema(model, recipe.ema)
    optimizer = make_optimizer(model, recipe)
    parts = Parts(recipe, model, optimizer, ema, accelerator)
    state = checkpoint.load_checkpoint(folder, parts) if resume else TrainState()
    measured = validation is not None or validate is not None
    records = Records(folder, parts, state, save, measured, facts, resume, lower_is_better)
    devices.start_trackers(accelerator, recipe)
    if not resume:
        checkpoint.save_checkpoint(folder, state, parts)  # what an interruption of the first epoch goes back to

    gpu = accelerator.device.type == "cuda"
    order = EpochBatches(len(data), recipe.batch_size, recipe.seed)
    loader: Any = make_loader(data, order, transform, recipe.workers, gpu, size=model.seen_size)
    val_loader = None
    if validation is not None:
        sequential = EpochBatches(len(validation), recipe.batch_size, recipe.seed, shuffle=False)
        val_loader = make_loader(validation, sequential, None, recipe.workers, gpu, persistent=False)
    trained = model if step is None else Stepping(model, step)
    net, prepared, loader = accelerator.prepare(trained, optimizer, loader)
    clock = Clock(
        recipe,
        steps_per_epoch=-(-len(loader) // recipe.accumulate),
        # an image is looked at once or twice, and forward only, a third of a training step
        validation_share=len(validation or ()) / len(data) * (1 if validate is None else 2) / 3,
        elapsed=state.elapsed,
        validation_seconds=state.validation_seconds,
        share=lambda value: devices.on_main(accelerator, lambda: value),
    )
    closing = 0.0 if transform is None else transform.closing
    if closing > 0:
        order.closing = lambda epoch, batch: clock.progress_at(epoch, batch / order.count) >= 1 - closing
    display = ProgressDisplay(progress and accelerator.is_main_process, clock, len(loader))
    return Session(
        folder,
        parts,
        state,
        net,
        prepared,
        order,
        loader,
        len(loader),
        Validation(val_loader, validate, accelerator, recipe.seed, step),
        records,
        clock,
        Guard(folder, model),
        display,
        BudgetWatch(recipe, clock, model, display.warn, quick_model),
        Interrupts(enabled=accelerator.num_processes == 1),
    )
