"""The training loop; read it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.transforms.base import Augmentation, as_transform
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.runtime.allocator import kept_memory
from sightline.runtime.sharing import shared_batch
from sightline.training import checkpoint, devices, half
from sightline.training.checkpoint import SaveModel
from sightline.training.guard import one_value_refused
from sightline.training.loader import Items, worker_errors
from sightline.training.metrics_log import EPOCH, Row
from sightline.training.recipe import Recipe
from sightline.training.run import Run
from sightline.training.schedule import set_learning_rate
from sightline.training.session import Session, set_up
from sightline.training.step import Step
from sightline.training.together import average_statistics
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
    """Train `model` on `data` with the settings of `recipe`, and write all results to `folder`.

    The folder gets recipe.yaml, environment.json, metrics.jsonl and metrics.csv (one row per epoch), last.safetensors,
    best.safetensors, and checkpoint/, from which the run can be resumed. On the CPU a resumed run ends with exactly the
    weights of an uninterrupted run. The first Ctrl-C stops training after the current step and writes a checkpoint. The
    second Ctrl-C stops at once; the checkpoint is then that of the last complete epoch. With several processes, Ctrl-C
    always stops at once.

    Args:
        model: called as `model(images, targets)`; returns a dict of named scalar losses. It is trained in place.
        data: a dataset of (image [C, H, W], target) pairs. Crowd regions and boxes without area are ignored.
        recipe: the settings of the run.
        folder: must not exist or must be empty, unless `resume` is True.
        validation: the dataset on which val/loss is computed after each epoch.
        validate: computes additional metrics of a model after each epoch, such as AP. The best epoch is chosen by its
            first available metric, unless `recipe.keep` names another. With several processes it is called in all of
            them, so that they can share the images (`sightline.evaluation.evaluate(…, shared=True)`); the metrics of
            the main process count.
        lower_is_better: names of those metrics of `validate` for which lower is better.
        quick_model: name of a faster model for the same task, to be suggested if the time budget is too short.
        transform: augmentation of the training images: `(image, target, generator) -> (image, target)`.
        resume: continue the run in `folder`.
        trackers: names of experiment trackers known to accelerate, or `GeneralTracker` objects.
        progress: show a progress bar (on a terminal) and one line per epoch, on stderr.
        on_epoch: called with the row of each epoch after its checkpoint is written.
        step: computes the losses of a batch in place of `model(images, targets)`.
        save: writes a model to a file: `(model, path, metadata)`; by default `sightline.models.saving.save`.
        device: "cpu", "cuda", "cuda:1" or "mps"; by default the best available device.
        facts: additional entries for the files of the run, such as its model and data; JSON values.

    Returns:
        The run. Its model has the weights of the best epoch and is in eval mode.

    Raises:
        InputError: the data does not fit the model, the folder is in use, or there is no run to resume.
        NonFiniteLoss: a loss became infinite or NaN; the batch is saved in the folder.
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
        with session.display, session.interrupts, worker_errors(), kept_memory():
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
            f"batches of {recipe.batch_size} images do not fit into the memory of {session.accelerator.device}; use a "
            "smaller batch_size and a larger accumulate"
        ) from error
    finally:
        session.held.close()
        session.freezing.end()
        session.norms.end()
        session.threads.end()
        for part in session.features:
            part.remove()
        devices.stop_trackers(session.accelerator)
        devices.release(session.accelerator, trained, session.net)

    checkpoint.load_best(session.folder, session.parts)
    trained.eval()
    stopped = "interrupted" if interrupted else _why_it_ended(session, begun)
    run = Run(session.folder, trained, recipe, state.rows, state.best, state.metric, stopped)
    session.display.say(str(run))
    return run


def train_epoch(session: Session, epoch: int) -> Row:
    """Train and validate one epoch; return its row of metrics."""
    recipe, accelerator, optimizer = session.recipe, session.accelerator, session.optimizer
    net, state, guard = session.net, session.state, session.guard
    net.train()
    for sentence in session.freezing.begin(epoch):
        session.display.say(sentence)
    session.order.begin(epoch, state.batch)
    session.threads.begin_epoch()
    for images, targets in session.loader:
        state.lr = set_learning_rate(optimizer, recipe, state.step, session.clock.progress)
        session.norms.begin_step(state.step)
        guard.begin(images, targets, epoch, state.step, state.lr)
        share = session.order.share(state.batch)
        with accelerator.accumulate(net):
            with (
                one_value_refused(),
                half.guarded(accelerator.device, recipe.precision),
                shared_batch(share, accelerator.device),
            ):
                losses = net(images, targets)
            accelerator.backward(session.scaled_loss(sum(losses.values()), share))
            values = guard.finite(losses)
            if accelerator.sync_gradients and recipe.clip_norm is not None:
                norm = accelerator.clip_grad_norm_(net.parameters(), recipe.clip_norm)
                if accelerator.scaler is None:  # fp16's scaler skips the steps that overflow
                    guard.finite({"gradient norm": norm})
            optimizer.step()
            optimizer.zero_grad()
        state.add(values, share.own)
        if accelerator.sync_gradients:
            session.count_step(epoch, values)
            if session.clock.out_of_time:
                break
    average_statistics(accelerator, [session.parts.model, session.parts.weights])
    metrics = session.validate(epoch)
    row, best = session.records.close_epoch(state, metrics, session.clock.elapsed, session.closed(epoch))
    session.display.epoch(row, best and state.metric != EPOCH)
    return row


def _why_it_ended(session: Session, begun: int) -> str:
    state, recipe = session.state, session.recipe
    if recipe.epochs is not None and state.epoch == begun >= recipe.epochs:
        return "done"
    if state.epoch == recipe.epochs:
        return "finished"
    return "patience" if state.stale(recipe.patience) else "minutes"
