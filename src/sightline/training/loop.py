"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.facts import remember, say_what_is_not_mirrored, scaled_as_learnt
from sightline.data.transforms.base import Augmentation, as_transform
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.training import checkpoint, devices, half
from sightline.training.budget import BudgetWatch
from sightline.training.checkpoint import Parts, SaveModel, TrainState
from sightline.training.ema import Ema
from sightline.training.guard import Guard
from sightline.training.interrupt import Interrupts
from sightline.training.loader import (
    EpochBatches,
    Items,
    make_loader,
    require_fitting,
    worker_errors,
)
from sightline.training.metrics_log import Row
from sightline.training.optimizer import make_optimizer
from sightline.training.progress import ProgressDisplay
from sightline.training.recipe import Recipe
from sightline.training.records import Records
from sightline.training.run import Run, existing_run_folder, new_run
from sightline.training.schedule import Clock, set_learning_rate
from sightline.training.validation import Validate, validation_metrics

CLOSED = "augmentation {name}: from here on images are no longer combined; the training loss may jump, for it is theirs"
"""What is said when the last part of the augmentation begins."""


def fit(
    model: nn.Module,
    data: Items,
    recipe: Recipe,
    folder: str | Path,
    *,
    validation: Items | None = None,
    validate: Validate | None = None,
    lower_is_better: Collection[str] = (),
    quick_model: str | None = None,
    transform: Augmentation | None = None,
    resume: bool = False,
    trackers: Sequence[Any] = (),
    progress: bool = True,
    on_epoch: Callable[[Row], object] | None = None,
    save: SaveModel | None = None,
    device: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """Train `model` on `data` by `recipe`, writing everything of the run to `folder`.

    Written are recipe.yaml, environment.json, metrics.jsonl and metrics.csv (a row an epoch), last.safetensors and
    best.safetensors, and checkpoint/, from which the run can be resumed. On the CPU a resumed run ends with the very
    weights of an uninterrupted one. The first Ctrl-C ends training after the step it is in and leaves a checkpoint
    there; a second one ends it at once, and what is left is the checkpoint of the last whole epoch. With several
    processes, Ctrl-C ends at once and the checkpoint is always the last whole epoch's.

    Args:
        model: `model(images, targets)` gives a dict of named scalar losses. It is trained in place.
        data: gives (image [C, H, W], target) for each position. Crowd regions and boxes without area are left out.
        recipe: all numbers of the run.
        folder: must not exist, or be empty, unless `resume`.
        validation: where val/loss is measured after each epoch.
        validate: gives further metrics of a model after each epoch, such as AP (called in the main process only). The
            best epoch is chosen by the first that is available, unless `recipe.keep` names another.
        lower_is_better: metrics of `validate` of which less is better.
        quick_model: name of a model of the same task for small time budgets, for the advice where minutes are few.
        transform: augmentation of the training images: `(image, target, generator) -> (image, target)`.
        resume: go on with the run in `folder`.
        trackers: names of trackers accelerate knows, or its `GeneralTracker` objects.
        progress: show a bar (on a terminal) and a line an epoch, on stderr.
        on_epoch: called with each epoch's row once its checkpoint is written.
        save: writes a model to a file: `(model, path, metadata)`; by default `sightline.models.saving.save`.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the best there is.
        facts: what the run's files say of it beside its numbers, such as model and data; JSON values.

    Returns:
        The run, whose model has the weights of the best epoch and is in eval mode.

    Raises:
        InputError: the data does not fit the model, the folder is in use, or nothing is there to resume.
        NonFiniteLoss: a loss became infinite or not a number; the batch is saved in the folder.
    """
    model = as_model(model)
    require_fitting(model, data, validation)
    remember(model, data)
    validation = scaled_as_learnt(model, validation)
    augmentation = None if transform is None else as_transform(transform)
    say_what_is_not_mirrored(data, augmentation)
    accelerator = devices.make_accelerator(recipe, Path(folder), trackers, device)
    folder = devices.on_main(accelerator, lambda: existing_run_folder(folder) if resume else new_run(folder))
    checkpoint.seed_everything(recipe.seed + accelerator.process_index)
    model.to(accelerator.device)
    ema = None if recipe.ema is None else Ema(model, recipe.ema)
    optimizer = make_optimizer(model, recipe)
    parts = Parts(recipe, model, optimizer, ema, accelerator)
    state = checkpoint.load_checkpoint(folder, parts) if resume else TrainState()
    begun = state.epoch
    validates = validation is not None or validate is not None
    records = Records(folder, parts, state, save or checkpoint.save_model, validates, facts, resume, lower_is_better)
    devices.start_trackers(accelerator, recipe)
    if not resume:
        checkpoint.save_checkpoint(folder, state, parts)  # what an interruption of the first epoch goes back to

    gpu = accelerator.device.type == "cuda"
    order = EpochBatches(len(data), recipe.batch_size, recipe.seed)
    loader = make_loader(data, order, augmentation, recipe.workers, gpu, size=model.seen_size)
    held_out = None
    if validation is not None:
        in_turn = EpochBatches(len(validation), recipe.batch_size, recipe.seed, shuffle=False)
        held_out = make_loader(validation, in_turn, None, recipe.workers, gpu, persistent=False)
    net, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    clock = Clock(
        recipe,
        steps_per_epoch=-(-len(loader) // recipe.accumulate),
        # an image is looked at once or twice, and forward only, a third of a training step
        validation_share=len(validation or ()) / len(data) * (1 if validate is None else 2) / 3,
        elapsed=state.elapsed,
        validation_seconds=state.validation_seconds,
        share=lambda value: devices.on_main(accelerator, lambda: value),
    )
    closing = 0.0 if augmentation is None else augmentation.closing
    if closing > 0:
        order.closing = lambda epoch, batch: clock.progress_at(epoch, batch / order.count) >= 1 - closing
    closed = False
    guard = Guard(folder, model)
    display = ProgressDisplay(progress and accelerator.is_main_process, clock, len(loader))
    budget = BudgetWatch(recipe, clock, model, display.warn, quick_model)
    interrupts = Interrupts(enabled=accelerator.num_processes == 1)
    batches = len(loader)

    interrupted = False
    try:
        with display, interrupts, worker_errors():
            clock.tick(state.step)
            for epoch in clock.epochs(state.epoch):
                if state.stale(recipe.patience):
                    break

                net.train()
                order.begin(epoch, state.batch)
                for images, targets in loader:
                    state.lr = set_learning_rate(optimizer, recipe, state.step, clock.progress)
                    guard.begin(images, targets, epoch, state.step, state.lr)
                    with accelerator.accumulate(net):
                        with half.guarded(accelerator.device, recipe.precision):
                            losses = net(images, targets)
                        loss = sum(losses.values())
                        # accelerate divides by `accumulate`, but the last group of an epoch may be smaller
                        group = min(recipe.accumulate, batches - state.batch // recipe.accumulate * recipe.accumulate)
                        accelerator.backward(loss if group == recipe.accumulate else loss * (recipe.accumulate / group))
                        values = guard.finite(losses)
                        if accelerator.sync_gradients and recipe.clip_norm is not None:
                            norm = accelerator.clip_grad_norm_(net.parameters(), recipe.clip_norm)
                            if accelerator.scaler is None:  # fp16's scaler skips the steps that overflow
                                guard.finite({"gradient norm": norm})
                        optimizer.step()
                        optimizer.zero_grad()
                    state.add(values, len(images))
                    if accelerator.sync_gradients:
                        state.step += 1
                        if ema is not None:
                            ema.update(model)
                        clock.tick(state.step)
                        budget.step(state.step)
                        display.batch(epoch, state.batch, values, state.lr)
                        interrupts.check()
                        if clock.out_of_time:
                            break

                metrics: dict[str, Any] = {}
                last = clock.out_of_time or epoch + 1 == recipe.epochs
                if validates and (last or (epoch + 1) % recipe.validate_every == 0):
                    display.validating(epoch)
                    began = clock.elapsed
                    with interrupts.allowed():
                        metrics = devices.on_main(
                            accelerator,
                            lambda: validation_metrics(parts.weights, held_out, validate, accelerator, recipe.seed),
                        )
                    state.validation_seconds = clock.validated(clock.elapsed - began)
                    clock.tick(state.step)  # time kept for a validation that took less is there to train in
                if order.closing is not None:  # whether the epoch's last batch was one of whole images
                    before, closed = closed, order.closing(epoch, order.count - 1)
                    if closed and not before:
                        display.say(CLOSED.format(name=recipe.augmentation))
                row, best = records.close_epoch(
                    state, metrics, clock.elapsed, None if order.closing is None else closed
                )
                display.epoch(row, best)
                if on_epoch is not None:
                    on_epoch(row)
    except KeyboardInterrupt:
        interrupted = True
        if interrupts.safe:
            state.elapsed = clock.elapsed
            checkpoint.save_checkpoint(folder, state, parts)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batches of {recipe.batch_size} images do not fit into the memory of {accelerator.device}; give a smaller "
            "batch_size and a larger accumulate"
        ) from error
    finally:
        devices.stop_trackers(accelerator)
        devices.release(accelerator, model, net)

    checkpoint.load_best(folder, parts)
    model.eval()
    stopped = "interrupted" if interrupted else _why_it_ended(state, recipe, begun)
    run = Run(folder, model, recipe, state.rows, state.best, state.metric, stopped)
    display.say(str(run))
    return run


def _why_it_ended(state: TrainState, recipe: Recipe, begun: int) -> str:
    if recipe.epochs is not None and state.epoch == begun >= recipe.epochs:
        return "done"
    if state.epoch == recipe.epochs:
        return "finished"
    return "patience" if state.stale(recipe.patience) else "minutes"
