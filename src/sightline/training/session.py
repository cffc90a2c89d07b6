"""All objects that a training run needs, created in one place. `sightline.training.loop` runs the epochs."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.facts import log_unmirrored, remember, with_training_full_scale
from sightline.data.joint import JointData
from sightline.data.transforms.base import Transform
from sightline.models.model import Model
from sightline.models.trunk import find_trunk
from sightline.runtime.locking import held_lock
from sightline.runtime.sharing import Share
from sightline.training import checkpoint, devices
from sightline.training.budget import BudgetWatch
from sightline.training.checkpoint import Parts, SaveModel, TrainState
from sightline.training.ema import Ema
from sightline.training.features import CachedFeatures, cached_features
from sightline.training.freezing import Freezing
from sightline.training.guard import Guard
from sightline.training.interrupt import Interrupts
from sightline.training.loader import EpochBatches, Items, make_loader, require_fitting, worker_count
from sightline.training.norm_warmup import NormWarmup
from sightline.training.optimizer import make_optimizer
from sightline.training.progress import ProgressDisplay, duration
from sightline.training.recipe import Recipe
from sightline.training.records import Records
from sightline.training.run import existing_run_folder, new_run
from sightline.training.schedule import Clock
from sightline.training.step import Step, StepModule
from sightline.training.threads import Threads, threads_to_try
from sightline.training.together import copy_from_main, keep_own_statistics
from sightline.training.validation import Validate, Validation
from sightline.words import counted

CLOSED = "augmentation {name}: images are no longer combined from here on; the training loss may jump"
"""The message when augmentation switches to its last part."""


@dataclass
class Session:
    """A training run in progress.

    Attributes:
        folder: the run's folder.
        parts: recipe, model, optimizer, averaged weights and accelerator: everything whose state a checkpoint holds.
        state: the progress of the run.
        net: the model as wrapped by `accelerate`.
        optimizer: the optimizer as wrapped by `accelerate`.
        order: decides which images form which batch.
        loader: yields batches of training images and targets.
        batches: batches per epoch.
        validation: computes the validation metrics.
        records: writes the files of the run.
        clock: measures progress and remaining time.
        guard: stops training at the first loss that is not finite.
        display: shows progress.
        budget: warns if the time budget is too short.
        interrupts: handles Ctrl-C.
        freezing: which parts of the model learn in which epoch.
        norms: lets the running statistics of batch normalisation follow quickly at first.
        threads: chooses the number of threads by their speed.
        features: cached features of the training images and of the validation images; empty without a cache.
        held: releases the lock of the run's folder when it is closed.
        closing: whether augmentation has switched to its last part; None if the augmentation has no such part.
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
    freezing: Freezing
    norms: NormWarmup
    threads: Threads
    features: list[CachedFeatures]
    held: ExitStack
    closing: bool | None = None

    @property
    def recipe(self) -> Recipe:
        return self.parts.recipe

    @property
    def accelerator(self) -> Any:
        return self.parts.accelerator

    def scaled_loss(self, loss: Tensor, share: Share) -> Tensor:
        """Scale a batch's loss so that the optimizer step uses the mean over its batches, and over the images of each.

        accelerate divides by `accumulate`, but the last group of batches of an epoch may be smaller. The gradients are
        averaged over the processes, of which one may have fewer images of a batch than another.
        """
        accumulate = self.recipe.accumulate
        group = min(accumulate, self.batches - self.state.batch // accumulate * accumulate)
        factor = accumulate / group * share.weight * self.accelerator.num_processes
        return loss if factor == 1 else loss * factor

    def count_step(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Update everything that follows an optimizer step: averaged weights, clock, display, Ctrl-C."""
        self.state.step += 1
        if self.parts.ema is not None:
            self.parts.ema.update(self.parts.model)
        self.clock.tick(self.state.step)
        self.budget.step(self.state.step)
        self.threads.step()
        self.display.batch(epoch, self.state.batch, losses, self.state.lr)
        self.interrupts.check()

    def validate(self, epoch: int) -> dict[str, Any]:
        """Return the validation columns of an epoch; empty if the epoch is not validated."""
        last = self.clock.out_of_time or epoch + 1 == self.recipe.epochs
        if not self.validation or not (last or (epoch + 1) % self.recipe.validate_every == 0):
            return {}
        self.display.validating(epoch)
        began = self.clock.elapsed
        with self.interrupts.allowed():
            metrics = self.validation.metrics(self.parts.weights)
        self.state.validation_seconds = self.clock.validated(self.clock.elapsed - began)
        self.clock.tick(self.state.step)  # if validation was faster than expected, the time is used for training
        return metrics

    def closed(self, epoch: int) -> bool | None:
        """Return whether the epoch ended with the last part of the augmentation; the switch is reported once."""
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
    """Create the session of a new run, or of the run to resume in `folder`. Arguments and errors are those of `fit`."""
    require_fitting(model, data, validation)
    remember(model, data)
    validation = with_training_full_scale(model, validation)
    log_unmirrored(data, transform)
    varying = recipe.unfreeze_every is not None or isinstance(data, JointData)  # parts learn in some batches only
    accelerator = devices.make_accelerator(recipe, folder, trackers, device, varying)
    held = ExitStack()

    def claimed() -> Path:
        own = existing_run_folder(folder) if resume else new_run(folder)
        held.enter_context(
            held_lock(own, f"the run {own} is being trained by another process; wait until it has ended")
        )
        return own

    folder = devices.on_main(accelerator, claimed)
    checkpoint.seed_everything(recipe.seed + accelerator.process_index)
    model.to(accelerator.device)
    copy_from_main(accelerator, model)  # before the average of its weights begins with them
    freezing = Freezing(model, recipe)
    ema = None if recipe.ema is None else Ema(model, recipe.ema)
    optimizer = make_optimizer(model, recipe)
    parts = Parts(recipe, model, optimizer, ema, accelerator)
    state = checkpoint.load_checkpoint(folder, parts) if resume else TrainState()
    measured = validation is not None or validate is not None
    records = Records(folder, parts, state, save, measured, facts, resume, lower_is_better)
    devices.start_trackers(accelerator, recipe)
    if not resume:
        checkpoint.save_checkpoint(folder, state, parts)  # the state to return to if the first epoch is interrupted

    began = time.monotonic()
    features = _features(model, data, validation, folder, recipe, transform, accelerator)
    spent = time.monotonic() - began
    if recipe.minutes is not None:  # on a machine that is slower than expected, some epochs are trained all the same
        spent = min(spent, 0.8 * 60 * recipe.minutes)
    if features:
        step = features[0].step
    order, loader, val_loader = _batches(model, data, validation, recipe, transform, accelerator, features)
    trained = model if step is None else StepModule(model, step)
    net, prepared = accelerator.prepare(trained, optimizer)
    keep_own_statistics(net)
    loader = devices.prepared_loader(accelerator, loader)
    clock = Clock(
        recipe,
        steps_per_epoch=-(-len(loader) // recipe.accumulate),
        # Validation runs the forward pass only, a third of a training step, once or (with metrics) twice per image.
        validation_share=len(validation or ()) / len(data) * (1 if validate is None else 2) / 3,
        elapsed=state.elapsed + spent,
        validation_seconds=state.validation_seconds,
        share=lambda value: devices.on_main(accelerator, lambda: value),
    )
    closing = 0.0 if transform is None else transform.closing
    if closing > 0:
        order.closing = lambda epoch, batch: clock.progress_at(epoch, batch / order.count) >= 1 - closing
    display = ProgressDisplay(progress and accelerator.is_main_process, clock, len(loader))
    if features:
        size = sum(part.size for part in features) / 2**20
        views = counted(features[0].views, "view")
        display.say(f"features of {views} of each image computed in {duration(spent)} ({size:.1f} MiB)")
    workers = 0 if features else worker_count(data, recipe.workers)
    counts = threads_to_try(recipe.minutes, accelerator.device, accelerator.num_processes, workers)
    return Session(
        folder,
        parts,
        state,
        net,
        prepared,
        order,
        loader,
        len(loader),
        Validation(val_loader, validate, accelerator, recipe.seed, features[-1].step if features else step),
        records,
        clock,
        Guard(folder, model),
        display,
        BudgetWatch(recipe, clock, model, display.warn, quick_model),
        Interrupts(enabled=accelerator.num_processes == 1),
        freezing,
        NormWarmup(model),
        Threads(*counts, display.say),
        features,
        held,
    )


def _batches(
    model: Model,
    data: Items,
    validation: Items | None,
    recipe: Recipe,
    transform: Transform | None,
    accelerator: Any,
    features: list[CachedFeatures],
) -> tuple[EpochBatches, Any, Any]:
    """The order of the training batches, their loader, and that of the validation batches, None without validation."""
    gpu = accelerator.device.type == "cuda"
    processes = {"processes": accelerator.num_processes, "index": accelerator.process_index}
    order = EpochBatches(len(data), recipe.batch_size, recipe.seed, **processes)
    if features:
        loader: Any = features[0].loader(order)
    else:
        loader = make_loader(data, order, transform, recipe.workers, gpu, size=model.seen_size)
    val_loader: Any = None
    if validation is not None:
        sequential = EpochBatches(len(validation), recipe.batch_size, recipe.seed, shuffle=False, **processes)
        if features:
            val_loader = features[1].loader(sequential)
        else:
            val_loader = make_loader(validation, sequential, None, recipe.workers, gpu, persistent=False)
    return order, loader, val_loader


def _features(
    model: Model,
    data: Items,
    validation: Items | None,
    folder: Path,
    recipe: Recipe,
    transform: Transform | None,
    accelerator: Any,
) -> list[CachedFeatures]:
    """The cached features of the training images and of the validation images, if the recipe asks for them."""
    if recipe.cache_features is None:
        return []
    trunk = find_trunk(model)
    kept: list[CachedFeatures] = []
    with checkpoint.isolated_rng(recipe.seed):
        for part, views in ((data, recipe.cache_features), (validation, 1)):
            if part is not None:
                kept.append(
                    cached_features(
                        model,
                        trunk,
                        part,
                        folder / f"features{len(kept)}.bin",
                        accelerator,
                        views=views,
                        transform=transform,
                        batch_size=recipe.batch_size,
                        workers=recipe.workers,
                        seed=recipe.seed,
                    )
                )
    return kept
