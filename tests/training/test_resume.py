"""Stopping and going on: a resumed run ends with the very weights of an uninterrupted one."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence

import pytest
import torch

from sightline.errors import InputError
from sightline.structures import Classes
from sightline.training.interrupt import Interrupts
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from tests.training import toy

RECIPE = Recipe(epochs=4, batch_size=3, accumulate=2, warmup_steps=3, ema=0.9, lr=0.01, patience=10)


def train(folder, recipe=RECIPE, *, seed=0, transform=toy.jitter, **kwargs):
    kwargs = {"validation": toy.Blobs(5, seed=1), "save": toy.save, "progress": False, **kwargs}
    return fit(toy.model(seed), toy.Blobs(14), recipe, folder, transform=transform, **kwargs)


def everything(folder) -> dict:
    """All of a checkpoint but the times."""
    content = toy.state(folder)
    for name in ("elapsed", "epoch_began", "validation_seconds"):
        del content["state"][name]
    for row in [*content["state"]["rows"], content["state"]["best"]]:
        row.pop("seconds", None)
    return content


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(folder)


def assert_equal_to(uninterrupted, folder, run):
    reference, whole = uninterrupted
    assert toy.same(everything(folder), everything(reference))
    assert toy.same(run.model.state_dict(), whole.model.state_dict())
    assert toy.same(toy.load(folder / "best.safetensors")[0], toy.load(reference / "best.safetensors")[0])
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4
    assert not run.interrupted


def press_ctrl_c_at(call: int, function, press=lambda: signal.raise_signal(signal.SIGINT)):
    """`function`, during whose n-th call Ctrl-C is pressed."""
    calls = 0

    def pressed(*args):
        nonlocal calls
        calls += 1
        if calls == call:
            press()
        return function(*args)

    return pressed


def test_killed_after_two_epochs(tmp_path, uninterrupted):
    class Killed(Exception):
        pass

    def kill(row):
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, on_epoch=kill)
    run = train(tmp_path, seed=99, resume=True)  # a new process would come with other weights and random states
    assert_equal_to(uninterrupted, tmp_path, run)


@pytest.mark.parametrize("image", [1, 20, 33, 45])
def test_ctrl_c_in_an_epoch(tmp_path, uninterrupted, image):
    """Ctrl-C comes while some image is being augmented, also between two halves of an accumulated batch."""
    run = train(tmp_path, transform=press_ctrl_c_at(image, toy.jitter))
    assert run.interrupted
    assert "--resume" in run.message
    assert len(run.metrics) < 4
    assert everything(tmp_path)["state"]["step"] < 12
    run = train(tmp_path, seed=99, resume=True)
    assert_equal_to(uninterrupted, tmp_path, run)


def test_ctrl_c_leaves_the_step_it_came_in(tmp_path):
    run = train(tmp_path, transform=press_ctrl_c_at(20, toy.jitter))
    state = everything(tmp_path)["state"]
    assert (state["epoch"], state["batch"], state["step"]) == (1, 2, 4)  # 5 batches an epoch, 2 a step
    assert len(run.metrics) == 1
    assert run.metrics[0]["epoch"] == run.best["epoch"] == 1


def test_ctrl_c_before_the_first_validation_gives_what_is_saved(tmp_path):
    recipe = dataclasses.replace(RECIPE, validate_every=3)
    run = train(tmp_path, recipe, transform=press_ctrl_c_at(20, toy.jitter))
    assert run.interrupted
    assert not (tmp_path / "best.safetensors").exists()
    assert toy.same(run.model.state_dict(), toy.state(tmp_path)["ema"]["model"])


def test_ctrl_c_in_a_validation(tmp_path, uninterrupted):
    def nothing(model):
        return {}

    run = train(tmp_path, validate=press_ctrl_c_at(3, nothing))
    state = everything(tmp_path)["state"]
    assert (state["epoch"], state["batch"], state["step"]) == (2, 5, 9)  # all of epoch 3 but its validation
    assert len(run.metrics) == 2
    run = train(tmp_path, seed=99, resume=True, validate=nothing)
    assert_equal_to(uninterrupted, tmp_path, run)


def test_second_ctrl_c_goes_back_to_the_epochs_start(tmp_path, uninterrupted):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run = train(tmp_path, transform=press_ctrl_c_at(25, toy.jitter, twice))
    assert run.interrupted
    state = everything(tmp_path)["state"]
    assert (state["epoch"], state["batch"]) == (1, 0)
    run = train(tmp_path, seed=99, resume=True)
    assert_equal_to(uninterrupted, tmp_path, run)


def test_interrupted_twice(tmp_path, uninterrupted):
    assert train(tmp_path, transform=press_ctrl_c_at(17, toy.jitter)).interrupted
    assert train(tmp_path, resume=True, transform=press_ctrl_c_at(9, toy.jitter)).interrupted
    assert_equal_to(uninterrupted, tmp_path, train(tmp_path, resume=True))


def test_resuming_a_finished_run_changes_nothing(tmp_path, uninterrupted):
    train(tmp_path)
    run = train(tmp_path, resume=True)
    assert run.stopped == "done"
    assert "nothing was left to do after 4 epochs" in str(run)
    assert_equal_to(uninterrupted, tmp_path, run)


def test_more_epochs_and_sgd(tmp_path):
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", weight_decay=0.0, epochs=2)
    train(tmp_path, recipe)
    run = train(tmp_path, dataclasses.replace(recipe, epochs=3), resume=True)
    assert [row["epoch"] for row in run.metrics] == [1, 2, 3]


def test_a_real_ctrl_c_with_workers(tmp_path):
    """A process of its own, whose reader processes get the signal as well, as from a terminal."""
    script = f"""
        import os, signal, sys
        from tests.training.test_resume import *

        def press(row):
            if row["epoch"] == 1:
                os.killpg(0, signal.SIGINT)

        if __name__ == "__main__":
            run = train({str(tmp_path / "run")!r}, dataclasses.replace(RECIPE, workers=1, epochs=3), on_epoch=press)
            print(run.stopped, len(run.metrics), flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("interrupted 1\n", "")


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"there is no run .*nowhere to resume; start it without --resume"):
        train(tmp_path / "nowhere", resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no checkpoint .*state.pt to resume from"):
        train(tmp_path / "empty", resume=True)
    train(tmp_path / "run", dataclasses.replace(RECIPE, epochs=1))
    with pytest.raises(InputError, match=r"the recipe differs .*\(lr 0.01 → 0.5\)"):
        train(tmp_path / "run", dataclasses.replace(RECIPE, lr=0.5), resume=True)
    model = toy.model()
    with pytest.raises(InputError, match=r"the recipe differs .*\(precision 'no' → 'bf16'\)"):
        fit(model, toy.Blobs(14), dataclasses.replace(RECIPE, precision="bf16"), tmp_path / "run", resume=True)
    assert "forward" not in vars(model)  # a refusal leaves nothing on the model

    def blobs(classes: Sequence[str]) -> toy.Blobs:
        data = toy.Blobs(14)
        data.classes = Classes(classes)
        return data

    renamed = toy.model(classes=["dark", "bright"])
    with pytest.raises(
        InputError, match=r'model \(its classes: \["bright", "dark"\] there, \["dark", "bright"\] here\)'
    ):
        fit(renamed, blobs(renamed.classes), RECIPE, tmp_path / "run", resume=True, save=toy.save)
    other = toy.model(classes=["a", "b", "c"])
    with pytest.raises(InputError, match=r"belongs to another model: 'cls.bias' is \[2\] there and \[3\] here"):
        fit(other, blobs(other.classes), RECIPE, tmp_path / "run", resume=True, save=toy.save)
    (tmp_path / "run" / "checkpoint" / "state.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        train(tmp_path / "run", resume=True)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    train(tmp_path, dataclasses.replace(RECIPE, epochs=1))
    before = toy.state(tmp_path)
    whole = torch.save

    def disk_full(content, path):
        whole(content, path)
        if path.name == ".state.partial.pt":
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        train(tmp_path, dataclasses.replace(RECIPE, epochs=2), resume=True)
    assert toy.same(toy.state(tmp_path), before)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    train(tmp_path, dataclasses.replace(RECIPE, epochs=1))
    before = toy.state(tmp_path)

    def disk_full(content, path):  # what PyTorch 2.13 raises
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 27896192 vs 27896080")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(InputError, match="on a full disk; free some space, then start again"):
        train(tmp_path / "new", dataclasses.replace(RECIPE, epochs=1))
    with pytest.raises(InputError, match="checkpoint cannot be written there, as on a full disk; the one of the epoch"):
        train(tmp_path, dataclasses.replace(RECIPE, epochs=2), resume=True)
    assert toy.same(toy.state(tmp_path), before)


def test_the_handler_before_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
