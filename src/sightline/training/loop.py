"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.transforms.base import Augmentation, as_transform
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.training import checkpoint, devices, half
from sightline.training.checkpoint import SaveModel
from sightline.training.loader import Items, worker_errors
from sightline.training.metrics_log import Row
from sightline.training.recipe import Recipe
from sightline.training.run import Run
from sightline.training.schedule import set_learning_rate
from sightline.training.session import Session, set_up
from sightline.training.step import Step
from sightline.training.validation import Validate


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
    step: Step | None = None,
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
        step: what is done with a batch instead of `model(images, targets)`: gives its losses.
        save: writes a model to a file: `(model, path, metadata)`; by default `sightline.models.saving.save`.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the best there is.
        facts: what the run's files say of it beside its numbers, such as model and data; JSON values.

    Returns:
        The run, whose model has the weights of the best epoch and is in eval mode.

    Raises:
        InputError: the data does not fit the model, the folder is in use, or nothing is there to resume.
        NonFiniteLoss: a loss became infinite or not a number; the batch is saved in the folder.
    """
    trained = as_model(model)
    session = set_up(
        trained,
        data,
        recipe,
        Path(folder),
        validation=validation,
        validate=validate,
        lower_is_better=lower_is_better,
        quick_model=quick_model,
        transform=None if transform is None else as_transform(transform),
        resume=resume,
        trackers=trackers,
        progress=progress,
        step=step,
        save=save or checkpoint.save_model,
        device=device,
        facts=facts,
    )
    state, clock = session.state, session.clock
    begun, interrupted = state.epoch, False
    try:
        with session.display, session.interrupts, worker_errors():
            clock.tick(state.step)
            for epoch in clock.epochs(state.epoch):
                if state.stale(recipe.patience):
                    break
                row = train_epoch(session, epoch)
                if on_epoch is not None:
                    on_epoch(row)
    except KeyboardInterrupt:
        interrupted = True
        if session.interrupts.safe:
            state.elapsed = clock.elapsed
            checkpoint.save_checkpoint(session.folder, state, session.parts)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batches of {recipe.batch_size} images do not fit into the memory of {session.accelerator.device}; give a "
            "smaller batch_size and a larger accumulate"
        ) from error
    finally:
        devices.stop_trackers(session.accelerator)
        devices.release(session.accelerator, trained, session.net)

    checkpoint.load_best(session.folder, session.parts)
    trained.eval()
    stopped = "interrupted" if interrupted else _why_it_ended(session, begun)
    run = Run(session.folder, trained, recipe, state.rows, state.best, state.metric, stopped)
    session.display.say(str(run))
    return run


def train_epoch(session: Session, epoch: int) -> Row:
    """One epoch: the batches, the validation, and the row of metrics, which is returned."""
    recipe, accelerator, optimizer = session.recipe, session.accelerator, session.optimizer
    net, state, guard = session.net, session.state, session.guard
    net.train()
    session.order.begin(epoch, state.batch)
    for images, targets in session.loader:
        state.lr = set_learning_rate(optimizer, recipe, state.step, session.clock.progress)
        guard.begin(images, targets, epoch, state.step, state.lr)
        with accelerator.accumulate(net):
            with half.guarded(accelerator.device, recipe.precision):
                losses = net(images, targets)
            accelerator.backward(session.share_of_step(sum(losses.values())))
            values = guard.finite(losses)
            if accelerator.sync_gradients and recipe.clip_norm is not None:
                norm = accelerator.clip_grad_norm_(net.parameters(), recipe.clip_norm)
                if accelerator.scaler is None:  # fp16's scaler skips the steps that overflow
                    guard.finite({"gradient norm": norm})
            optimizer.step()
            optimizer.zero_grad()
        state.add(values, len(images))
        if accelerator.sync_gradients:
            session.count_step(epoch, values)
            if session.clock.out_of_time:
                break
    metrics = session.validate(epoch)
    row, best = session.records.close_epoch(state, metrics, session.clock.elapsed, session.closed(epoch))
    session.display.epoch(row, best)
    return row


def _why_it_ended(session: Session, begun: int) -> str:
    state, recipe = session.state, session.recipe
    if recipe.epochs is not None and state.epoch == begun >= recipe.epochs:
        return "done"
    if state.epoch == recipe.epochs:
        return "finished"
    return "patience" if state.stale(recipe.patience) else "minutes"
