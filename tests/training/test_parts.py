"""The loop's helpers, each alone: averaging, order and collation, the metrics' files, folders, the display."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pickle
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.nn.layers.fuse import fuse
from sightline.runtime.devices import require_device, running
from sightline.structures import ClassMap, Instances
from sightline.training import devices
from sightline.training.checkpoint import TrainState, isolated_rng
from sightline.training.ema import Ema
from sightline.training.guard import Guard, NonFiniteLoss
from sightline.training.loader import EpochBatches, make_loader, trainable, worker_count
from sightline.training.metrics_log import MetricsLog, atomic_write, choose_metric, plain_row, require_metric, score
from sightline.training.norm_warmup import NormWarmup
from sightline.training.optimizer import make_optimizer, parameter_groups
from sightline.training.progress import ProgressDisplay, duration, losses_text
from sightline.training.recipe import Recipe
from sightline.training.records import Records
from sightline.training.run import Run, cpu_name, existing_run_folder, new_folder, new_run_folder, write_environment
from sightline.training.schedule import Clock
from tests.training import toy


def test_running_statistics_follow_within_few_steps():
    """After 90 steps of the same images, a norm's statistics are those of the images, whatever its own momentum.

    A momentum of 0, which keeps the statistics as they are, stays 0.
    """
    quick, slow, kept, cumulative = (nn.BatchNorm2d(2, momentum=momentum) for momentum in (0.2, 0.01, 0.0, None))
    model = nn.ModuleList([quick, slow, kept, cumulative])
    warmup = NormWarmup(model)
    images = 3 * torch.randn(4, 2, 5, 5) + 7
    before = 1.0  # the part of the statistics that is still what they began with
    for step in range(90):
        warmup.begin_step(step)
        slow(images)
        before *= 0.9
    mean, variance = images.mean((0, 2, 3)), images.var((0, 2, 3))
    torch.testing.assert_close(slow.running_mean, (1 - before) * mean)
    torch.testing.assert_close(slow.running_var, (1 - before) * variance + before)
    momentums = {}
    for step in (99, 199, 999, 5000):
        warmup.begin_step(step)
        momentums[step] = slow.momentum
    assert momentums == {99: 0.1, 199: 0.05, 999: 0.01, 5000: 0.01}
    assert (quick.momentum, kept.momentum, cumulative.momentum) == (0.2, 0.0, None)
    warmup.begin_step(0)
    warmup.end()
    assert slow.momentum == 0.01


def test_a_folded_model_cannot_be_trained():
    model = create_model("mobilenet_v1", ["a", "b"], width=0.25, image_size=32)
    with pytest.raises(InputError, match=r"folded into its convolutions .* train the model that it was made from"):
        parameter_groups(fuse(model), Recipe(lr=0.1, weight_decay=0.0))


def test_ema_against_its_definition():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    ema = Ema(model, 0.6)
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(1, 12):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor += torch.randn(tensor.shape) if tensor.is_floating_point() else 1
        ema.update(model)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            floating = value.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * value if floating else value.clone()
    for name, value in ema.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3), st.integers(0, 5))
def test_order_is_a_permutation_in_batches(length, size, seed, epoch):
    order = EpochBatches(length, size, seed)
    order.begin(epoch)
    batches = list(order)
    flat = [index for batch in batches for _, index in batch]
    assert {e for batch in batches for e, _ in batch} == {epoch}
    lonely = length % size == 1 and length > size > 1
    assert len(flat) == len(set(flat)) == length - lonely
    assert len(batches) == len(order) == order.count
    assert all(len(batch) == size for batch in batches[:-1])
    again = EpochBatches(length, size, seed)
    first = len(batches) // 2
    again.begin(epoch, first)
    assert list(again) == batches[first:]
    assert len(again) == len(batches) - first


def test_order_differs_from_epoch_to_epoch_and_seed_to_seed():
    def order(seed, epoch):
        batches = EpochBatches(50, 50, seed)
        batches.begin(epoch)
        return next(iter(batches))

    assert [i for _, i in order(0, 0)] != [i for _, i in order(0, 1)]
    assert [i for _, i in order(0, 0)] != [i for _, i in order(1, 0)]


def test_order_of_validation_is_the_datasets_and_complete():
    assert [[i for _, i in b] for b in EpochBatches(5, 2, shuffle=False)] == [[0, 1], [2, 3], [4]]


def test_augmentation_is_a_pure_function_of_seed_epoch_and_position():
    data = toy.Blobs(6)

    def images(epoch, batch_size, workers):
        order = EpochBatches(6, batch_size, seed=3)
        order.begin(epoch)
        found = {}
        for batch in make_loader(data, order, toy.jitter, workers):
            pictures, targets = batch.to("cpu")
            found |= {t.source: (i, t.boxes) for i, t in zip(pictures, targets, strict=True)}
        return found

    first = images(2, 6, 0)
    assert toy.same(first, {name: first[name] for name in images(2, 6, 0)})
    other = images(2, 2, 1)
    assert all(toy.same(first[name], other[name]) for name in other)
    rng = np.random.default_rng([3, 2, 4])  # as promised
    image, target = toy.jitter(*data[4], rng)
    assert toy.same(first["blob4.png"], (image, target.boxes))
    assert not toy.same(first, images(3, 6, 0))


def test_many_small_tensors_from_workers_keep_few_files_open():
    class Crowded(toy.Blobs):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image, target.replace(**{f"field{k}": torch.zeros(1) for k in range(30)})

    order = EpochBatches(32, 16, shuffle=False)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    batches = list(make_loader(Crowded(32), order, workers=1))
    if before:
        assert len(os.listdir("/proc/self/fd")) - before < 32 + 20  # one an image, none a field
    images, targets = batches[1].to("cpu")
    assert len(images) == len(targets) == 16
    assert isinstance(targets[0], Instances)
    assert "field29" in targets[0]


def test_workers(monkeypatch):
    in_memory, on_disk = toy.Blobs(2), toy.Blobs(2)
    on_disk.root = "somewhere"
    assert worker_count(in_memory, None) == 0
    assert worker_count(in_memory, 3) == 3
    for cores, workers in ((None, 0), (1, 0), (2, 1), (3, 2), (64, 2)):  # one core stays for the training
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert worker_count(on_disk, None) == workers


def test_trainable():
    target = Instances(
        (9, 9),
        boxes=[[1, 1, 5, 5], [2, 2, 2, 6], [2, 2, 6, 2], [0, 0, 9, 9.0]],
        labels=[0, 1, 2, 3],
        crowd=[0, 0, 0, 1],
        captions=["a", "b", "c", "d"],
    )
    kept = trainable(target)
    assert kept.labels.tolist() == [0]
    assert kept.captions == ["a"]
    whole = target[:1]
    assert trainable(whole) is whole
    assert len(trainable(target[1:])) == 0
    empty = Instances((9, 9))
    assert trainable(empty) is empty
    dense = ClassMap(torch.zeros(3, 3))
    assert trainable(dense) is dense


def test_own_randomness_is_not_noticed_outside():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = [draw(), draw()]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = draw()
    with isolated_rng(7):
        inside = draw()
    again = []

    def fail():
        with isolated_rng(7):
            again.append(draw())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert again == [inside]
    assert [first, draw()] == expected


def test_metrics_files_are_valid_after_each_row(tmp_path):
    log = MetricsLog(tmp_path, [{"epoch": 1, "train/loss": 2.0}])
    log.add({"epoch": 2, "train/loss": float("nan"), "val/AP": torch.tensor(0.5), "note": 'a "b", c'})
    log.add({"epoch": 3, "train/loss": np.float32(0.25), "val/AP": None})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [
        {"epoch": 1, "train/loss": 2.0},
        {"epoch": 2, "train/loss": None, "val/AP": 0.5, "note": 'a "b", c'},
        {"epoch": 3, "train/loss": 0.25, "val/AP": None},
    ]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [list(row) for row in table] == [["epoch", "train/loss", "val/AP", "note"]] * 3
    assert table[1] == {"epoch": "2", "train/loss": "", "val/AP": "0.5", "note": 'a "b", c'}
    MetricsLog(tmp_path, rows[:1])  # a resumed run forgets what came after its checkpoint
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_metric_chosen():
    assert choose_metric({"train/loss": 1.0}, "auto") == "train/loss"
    assert choose_metric({"train/loss": 1.0, "val/loss": 2.0}, "auto") == "val/loss"
    assert choose_metric(plain_row({"val/loss": 2.0, "val/AP": float("nan")}), "auto") == "val/loss"
    assert choose_metric({"val/loss": 2.0, "val/AP": 0.0}, "auto") == "val/AP"
    assert choose_metric({"val/loss": 2.0, "val/error": 0.5, "val/AP": 0.0}, "auto") == "val/error"  # the first
    assert choose_metric({"val/loss": 2.0, "val/error": None, "val/AP": 0.0}, "auto") == "val/AP"
    assert choose_metric({"val/loss": 2.0, "val/other_loss": 1.0}, "auto") == "val/loss"
    assert choose_metric({"epoch": 1, "val/loss": 2.0, "val/AP": 0.0}, "last") == "epoch"
    require_metric("last", ["AP"])


def test_lower_is_better_for_losses_and_for_what_is_said():
    row = {"val/loss": 2.0, "val/error": 3.0, "val/AP": 0.5, "val/none": None}
    assert [score(row, name, ("error",)) for name in row] == [-2.0, -3.0, 0.5, None]
    assert score(row, "val/error") == 3.0


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half of tw")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_run_folders(tmp_path):
    base = tmp_path / "runs"
    assert new_run_folder(base, "blood") == base / "blood"
    assert new_run_folder(base, "blood") == base / "blood"  # still empty
    (base / "blood" / "recipe.yaml").write_text("")
    with pytest.raises(InputError, match=r"blood exists and is not empty.*another name .--name.*--resume"):
        new_run_folder(base, "blood")
    assert new_run_folder(base).name == "run1"
    assert new_run_folder(base).name == "run2"
    with pytest.raises(InputError, match=r"recipe.yaml is a file"):
        new_folder(base / "blood" / "recipe.yaml")
    with pytest.raises(InputError, match=r"cannot be written to \(Not a directory\)"):
        new_folder(base / "blood" / "recipe.yaml" / "deeper")
    with pytest.raises(InputError, match="the run's name is ' '"):
        new_run_folder(base, " ")
    assert existing_run_folder(base / "blood") == base / "blood"


def test_unwritable_folder(tmp_path, monkeypatch):
    def refuse(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(InputError, match=r"runs.b cannot be written to \(Permission denied\); give another folder"):
        new_run_folder(tmp_path / "runs", "b")


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("backbone.body.layer1.0.conv1.weight", True),
        ("backbone.features.0.0.0.weight", True),
        ("backbone.fpn.inner_blocks.0.0.weight", False),
        ("backbone.extra.0.0.0.weight", False),
        ("rpn.head.conv.0.0.weight", False),
    ],
)
def test_backbone_layers(name, backbone):
    assert bool(re.search(Model.backbone_layers, name)) == backbone


def test_all_but_the_last_layer_is_the_backbone_of_a_classifier():
    model = create_model("mobilenet_v2", ["a", "b"])
    groups = parameter_groups(model, Recipe(lr=0.2, backbone_lr_factor=0.5))
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    head = {"network.classifier.1.weight", "network.classifier.1.bias"}
    assert all(rates[id(p)] == (0.2 if name in head else 0.1) for name, p in model.named_parameters())


@pytest.mark.parametrize(("optimizer", "decayed"), [("adamw", {"weight"}), ("sgd", {"weight", "bias", "norm"})])
def test_vectors_decay_under_sgd_alone(optimizer, decayed):
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.head = nn.Linear(4, 2)
    kinds = {
        id(p): "norm" if name.startswith("backbone.1") else name.split(".")[-1] for name, p in model.named_parameters()
    }
    groups = parameter_groups(model, Recipe(optimizer=optimizer, lr=0.2, weight_decay=0.3, backbone_lr_factor=0.5))
    seen = [(kinds[id(p)], g["lr"], g["weight_decay"]) for g in groups for p in g["params"]]
    assert len(seen) == 6
    assert all(decay == (0.3 if kind in decayed else 0.0) for kind, _, decay in seen)
    assert sorted(lr for _, lr, _ in seen) == [0.1] * 4 + [0.2] * 2


def test_the_batch_of_a_class_map_is_saved_with_its_labels(tmp_path):
    target = ClassMap(torch.tensor([[0, 1], [2, 1]]), ["a", "b", "c"], source="map.png")
    guard = Guard(tmp_path, nn.Linear(1, 1))
    guard.begin([torch.zeros(3, 2, 2)], [target], 0, 0, 0.1)
    with pytest.raises(NonFiniteLoss, match=r"map\.png"):
        guard.finite({"loss": torch.tensor(math.inf)})
    (saved,) = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)["targets"]
    assert saved["source"] == "map.png"
    assert saved["labels"].tolist() == [[0, 1], [2, 1]]


def test_durations():
    assert [duration(s) for s in (0.4, 59.4, 65, 3600, 7322)] == [
        "0 s",
        "59 s",
        "1 min 05 s",
        "1 h 00 min",
        "2 h 02 min",
    ]


def test_display_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    clock = Clock(Recipe(epochs=2), steps_per_epoch=5)
    with ProgressDisplay(True, clock, batches=5) as display:
        display._last = 0.0
        clock.tick(5)
        display.batch(1, 3, {"cls": 0.5, "box": 0.25}, 1e-3)
        display._bar.refresh()
        display.epoch({"epoch": 1, "lr": 0.1, "seconds": 7.0, "train/loss": 0.75, "val/AP": None}, best=True)
    shown = screen.getvalue()
    assert "epoch 2/2, batch 3/5" in shown
    assert "loss 0.75 (cls 0.5, box 0.25)  lr 1.0e-03" in shown
    assert "epoch 1/2  loss 0.75  val AP n/a  lr 1.0e-01  7 s" in shown


def test_the_line_of_an_epoch_has_the_total_of_all_losses_and_five_metrics(capsys):
    row = {"epoch": 1, "lr": 0.1, "seconds": 7.0} | {f"train/loss_{i}": 0.5 for i in range(9)}
    row |= {"train/loss": 4.5, "val/loss": 1.0} | {f"val/m{i}": 0.25 for i in range(7)}
    with ProgressDisplay(True, Clock(Recipe(epochs=2), steps_per_epoch=5), batches=5) as display:
        display.epoch(row, best=False)
    shown = capsys.readouterr().err
    assert "loss 4.5 (loss_0 0.5, " in shown
    assert "loss_8 0.5)  val loss 1  m0 0.25" in shown
    assert "m4" in shown
    assert "m5" not in shown


def test_run_tells_how_it_ended(tmp_path):
    recipe = Recipe(minutes=3, patience=2)
    best = {"epoch": 1, "val/AP": 0.5, "train/loss": 1.25}

    def text(stopped, best=best, metric="val/AP"):
        return str(Run(tmp_path, nn.Identity(), recipe, [best], best, metric if best else None, stopped))

    assert "finished 1 epoch\nbest is epoch 1: val/AP 0.5 (train/loss 1.25)" in text("finished")
    assert text("finished", metric="epoch").endswith("the last epoch is kept, epoch 1 (val/AP 0.5, train/loss 1.25)")
    assert "the time budget (3 minutes) is used up" in text("minutes")
    assert "no better result for 2 epochs" in text("patience")
    assert "interrupted after 1 epoch; continue with the same command, --name " in text("interrupted", {})


def test_samples_are_picklable():
    order = EpochBatches(3, 2)
    loader = make_loader(toy.Blobs(3), order, toy.jitter)
    assert len(pickle.loads(pickle.dumps(loader.dataset))) == 3


def test_the_best_epoch_by_hand():
    """Higher is better: of equals the later is kept, but only a strictly better one counts for patience."""
    recipe = Recipe(epochs=9, keep="val/AP")
    records = object.__new__(Records)
    records.parts, records.validates, records.lower_is_better = SimpleNamespace(recipe=recipe), True, ()
    state = TrainState()

    def judge(epoch, value, validated=True):
        row = {"epoch": epoch, "val/AP": value} if validated else {"epoch": epoch}
        return records._judge(state, row, validated), state.best_score, state.improved

    assert judge(1, None, validated=False) == (False, None, 0)  # nothing to choose by yet
    assert state.metric is None
    assert judge(2, 0.5) == (True, 0.5, 2)
    assert judge(3, 0.25) == (False, 0.5, 2)
    assert judge(4, 0.5) == (True, 0.5, 2)
    assert judge(5, 0.75) == (True, 0.75, 5)
    assert judge(6, None) == (False, 0.75, 5)
    assert judge(7, None, validated=False) == (False, 0.75, 5)


def test_epochs_without_improvement_are_counted():
    """Patience 2: over when two epochs after the last better one are done; None never ends."""
    state = TrainState(epoch=5, improved=4)
    assert not state.stale(1)  # nothing was measured yet
    state.best_score = 0.5
    assert [state.stale(patience) for patience in (1, 2, 3, None)] == [True, False, False, False]
    state.epoch = 6
    assert [state.stale(patience) for patience in (1, 2, 3, None)] == [True, True, False, False]


def test_losses_are_means_over_images():
    """2 images of a loss of 3 and 1 image of a loss of 6: the mean of the three is 4."""
    state = TrainState()
    state.add({"a": 3.0, "b": 0.0}, 2)
    state.add({"a": 6.0}, 1)
    assert (state.sums, state.images, state.batch) == ({"a": 12.0, "b": 0.0}, 3, 2)
    means = devices.mean_over_processes(Accelerator(cpu=True), state.sums, state.images)
    assert means == {"a": 4.0, "b": 0.0}
    state.elapsed, state.epoch, state.step = 7.5, 3, 11
    state.next_epoch()
    assert (state.epoch, state.batch, state.images, state.sums, state.step) == (4, 0, 0, {}, 11)
    assert state.epoch_began == 7.5


@pytest.mark.parametrize(
    ("world", "rank", "count", "main"),
    [(None, None, 1, True), ("1", "0", 1, True), ("4", "0", 4, True), ("4", "2", 4, False), ("x", "2", 1, True)],
)
def test_processes_that_were_launched_together(monkeypatch, world, rank, count, main):
    for name, value in (("WORLD_SIZE", world), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert devices.world_size() == count
    assert devices.is_main() is main


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in (None, "cpu", "cuda", "cuda:0", "cuda:1", torch.device("cpu")):
        require_device(device)
    for device in ("cuda:2", "cuda:x", "mps", "cpu:0", "gpu"):
        with pytest.raises(InputError, match="this machine does not have it; it has cpu, cuda:0, cuda:1"):
            require_device(device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"device is 'cuda', but this machine does not have it; it has cpu$"):
        require_device("cuda")


def test_modes_come_back_module_by_module():
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.BatchNorm2d(1)))
    model.train()
    model[1].eval()
    with running(model, None) as place:
        assert place.type == "cpu"
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False, False]


def test_losses_in_words():
    assert losses_text({"cls": 0.5, "box": 0.25}) == "loss 0.75 (cls 0.5, box 0.25)"
    assert losses_text({"cls": 1 / 3}) == "loss 0.3333"
    assert losses_text({"loss": 2.0, "cls": 0.5, "box": 0.25}) == "loss 2 (cls 0.5, box 0.25)"
    assert [duration(s) for s in (-3, 59.6, 3599.4, 3599.6, 86400)] == [
        *("0 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "24 h 00 min")
    ]


def test_the_processor_s_name_where_the_system_does_not_tell(monkeypatch):
    def fail(*_, **__):
        raise OSError

    monkeypatch.setattr("pathlib.Path.read_text", fail)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for processor, name in (("", "x86_64"), ("a good one", "a good one")):
        monkeypatch.setattr("platform.processor", lambda processor=processor: processor)
        assert cpu_name() == name


def test_the_environment_of_a_resumed_run(tmp_path, monkeypatch):
    """What it began with stays; each resumption is added, with what has changed since."""
    monkeypatch.setattr("sys.argv", ["/usr/bin/sightline", "train", "a"])
    write_environment(tmp_path, "cpu", 1, {"model": "m"}, resumed=False)
    first = json.loads((tmp_path / "environment.json").read_text())
    assert first["commands"] == [["sightline", "train", "a"]]
    assert (first["run"], first["processes"], first["device"]) == ({"model": "m"}, 1, "cpu")
    monkeypatch.setattr("sys.argv", ["/usr/bin/sightline", "train", "--resume"])
    for count in (1, 2):
        write_environment(tmp_path, "cpu", 2, {"model": "other"}, resumed=True)
        again = json.loads((tmp_path / "environment.json").read_text())
        assert again["commands"] == [["sightline", "train", "a"]] + [["sightline", "train", "--resume"]] * count
        assert (again["run"], again["processes"], again["started"]) == ({"model": "m"}, 1, first["started"])
        assert [one["processes"] for one in again["resumed"]] == [2] * count
        assert "python" not in again["resumed"][0]
    for name in ("commands", "resumed"):
        (tmp_path / "environment.json").write_text(json.dumps(first | {name: "odd"}))
        with pytest.raises(InputError, match="the entries 'commands' and 'resumed' must be lists"):
            write_environment(tmp_path, "cpu", 1, None, resumed=True)
    write_environment(tmp_path, "cpu", 1, None, resumed=False)  # a run that begins anew asks nothing of what was there
    assert "run" not in json.loads((tmp_path / "environment.json").read_text())


@pytest.mark.parametrize(
    ("available", "initialised", "single"), [(True, False, True), (True, True, False), (False, False, True)]
)
def test_what_an_earlier_run_left_is_cleared_unless_processes_share_it(monkeypatch, available, initialised, single):
    seen = []
    monkeypatch.setattr("torch.distributed.is_available", lambda: available)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: initialised)
    monkeypatch.setattr(
        "accelerate.state.AcceleratorState._reset_state", lambda reset_partial_state: seen.append(reset_partial_state)
    )
    monkeypatch.setattr("accelerate.state.PartialState", lambda cpu: SimpleNamespace(num_processes=1, device="here"))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert devices.joined("cpu") == ("here", True)
    assert devices.joined(None) == ("here", False)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert devices.joined(None) == ("here", True)
    assert seen == [single] * 3


def test_a_line_is_shown_every_half_minute(monkeypatch, capsys):
    """Without a terminal, batches are said 30 seconds apart, however many there are; with none shown, nothing is."""
    now = [100.0]
    monkeypatch.setattr("sightline.training.progress.time.monotonic", lambda: now[0])
    clock = Clock(Recipe(epochs=2), steps_per_epoch=50)
    for shown, wanted in ((True, [4, 7, 10]), (False, [])):
        now[0] = 100.0
        with ProgressDisplay(shown, clock, batches=50) as display:
            for batch in range(1, 11):
                now[0] += 10
                display.batch(0, batch + 1, {"a": 1.0}, 0.1)
        lines = [line for line in capsys.readouterr().err.splitlines() if "batch" in line]
        assert [int(line.split("batch ")[1].split("/")[0]) for line in lines] == wanted


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_recipe_s(name, kind):
    recipe = Recipe(epochs=1, optimizer=name, lr=0.5, momentum=0.75, weight_decay=0.125)
    optimizer = make_optimizer(nn.Linear(2, 2), recipe)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == group["base_lr"] == 0.5
        assert group.get("momentum", 0.75) == 0.75
    assert max(group["weight_decay"] for group in optimizer.param_groups) == 0.125


@pytest.mark.parametrize(("kind", "asynchronous"), [("cpu", False), ("cuda", True)])
def test_batches_are_copied_beside_the_work_to_a_gpu_alone(monkeypatch, tmp_path, kind, asynchronous):
    given = {}
    monkeypatch.setattr(devices, "joined", lambda device: (torch.device(kind), True))
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: given.update(options))
    devices.make_accelerator(Recipe(epochs=1, accumulate=3), tmp_path)
    assert given["dataloader_config"].non_blocking is asynchronous
    assert given["gradient_accumulation_steps"] == 3
