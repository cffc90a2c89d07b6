"""Training from beginning to end: what is learnt, what is written, what is refused."""

from __future__ import annotations

import csv
import json
import time

import pytest
import torch
import yaml

from sightline.errors import ClassMismatch, InputError
from sightline.structures import Classes, Instances
from sightline.training.guard import NonFiniteLoss
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from tests.training import toy

QUICK = Recipe(epochs=2, batch_size=4, warmup_steps=2, ema=None)


def train(folder, recipe=QUICK, data=None, model=None, **kwargs):
    model = toy.model() if model is None else model
    return fit(
        model, toy.Blobs() if data is None else data, recipe, folder, **{"save": toy.save, "progress": False, **kwargs}
    )


def accuracy(model) -> dict[str, float]:
    data = toy.Blobs(16, seed=1)
    found = model([image for image, _ in data])
    right = [int(f.labels[0]) == int(t.labels[0]) for f, (_, t) in zip(found, data, strict=True)]
    return {"AP": sum(right) / len(right)}


@pytest.mark.parametrize("ema", [None, 0.99])
def test_learns(tmp_path, ema):
    recipe = Recipe(epochs=12, batch_size=4, lr=0.01, warmup_steps=4, ema=ema)
    run = train(tmp_path, recipe, toy.Blobs(24), validation=toy.Blobs(12, seed=1), validate=accuracy)
    losses = [row["train/loss"] for row in run.metrics]
    assert losses[-1] < 0.5 * losses[0]
    assert run.best["val/AP"] >= 0.9
    assert accuracy(run.model)["AP"] == run.best["val/AP"]  # the weights given back are those that were measured
    assert not run.model.training
    assert run.stopped == "finished"
    assert not run.interrupted


def test_writes_the_run(tmp_path):
    seen, measured, closed = [], [], []

    def validate(model):
        time.sleep(0.1)
        measured.append(time.monotonic())
        return {"AP": 0.5}

    def on_epoch(row):
        seen.append(row)
        closed.append(time.monotonic())

    run = train(tmp_path / "runs" / "first", validation=toy.Blobs(5), validate=validate, on_epoch=on_epoch)
    folder = tmp_path / "runs" / "first"
    assert run.folder == folder
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "recipe.yaml",
        "environment.json",
        "metrics.jsonl",
        "metrics.csv",
        "last.safetensors",
        "best.safetensors",
        "checkpoint",
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == run.metrics == seen
    assert 0 < rows[1]["seconds"] <= closed[1] - measured[0] + 0.001  # the epoch's own time, rounded
    columns = ["epoch", "step", "lr", "seconds", "train/cls", "train/box", "train/loss", "val/loss", "val/AP"]
    assert list(rows[0]) == columns
    assert rows[1]["train/loss"] == pytest.approx(rows[1]["train/cls"] + rows[1]["train/box"])
    with (folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == columns
    assert float(table[1]["val/loss"]) == rows[1]["val/loss"]
    assert Recipe.from_yaml(folder / "recipe.yaml") == QUICK
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    weights, metadata = toy.load(folder / "best.safetensors")
    assert metadata["metrics"] == run.best
    assert metadata["epoch"] == run.best["epoch"] == 2
    assert toy.same(weights, dict(run.model.state_dict()))
    assert "best is epoch 2: val/AP 0.5" in str(run)  # of equals the later


def test_the_last_epoch_is_kept_whatever_its_metric(tmp_path, capsys):
    scores = iter([0.7, 0.1])
    folder = tmp_path / "run"
    recipe = QUICK.changed(keep="last")
    run = train(folder, recipe, validation=toy.Blobs(5), validate=lambda _: {"AP": next(scores)}, progress=True)
    assert (run.best["epoch"], run.best["val/AP"]) == (2, 0.1)
    assert toy.same(toy.load(folder / "best.safetensors")[0], toy.load(folder / "last.safetensors")[0])
    shown = capsys.readouterr().err
    assert "AP 0.1" in shown
    assert "best" not in shown


def test_best_is_kept_when_later_epochs_are_worse(tmp_path):
    scores = iter([0.1, 0.7, 0.3, 0.2])
    states = []

    def validate(model):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"AP": next(scores), "AP50": None}

    run = train(tmp_path, Recipe(epochs=4, batch_size=4), validate=validate)
    assert run.best["epoch"] == 2
    assert run.metric == "val/AP"
    assert toy.same(dict(run.model.state_dict()), states[1])
    assert toy.same(toy.load(tmp_path / "last.safetensors")[0], states[3])
    assert run.metrics[0]["val/AP50"] is None


@pytest.mark.parametrize(
    ("keep", "validate", "metric", "best"),
    [
        ("auto", {"AP": None}, "val/loss", None),
        ("AP50", {"AP50": [0.2, 0.1]}, "val/AP50", 1),
        ("val/other_loss", {"other_loss": [0.2, 0.1]}, "val/other_loss", 2),
        ("train/box", {}, "train/box", None),
    ],
)
def test_best_by(tmp_path, keep, validate, metric, best):
    calls = iter(range(2))

    def numbers(model):
        epoch = next(calls)
        return {name: value and value[epoch] for name, value in validate.items()}

    recipe = Recipe(epochs=2, batch_size=4, keep=keep)
    run = train(tmp_path, recipe, validation=toy.Blobs(4), validate=numbers)
    assert run.metric == metric
    if best is not None:
        assert run.best["epoch"] == best


def test_best_by_an_unknown_metric_is_refused(tmp_path):
    with pytest.raises(InputError, match="keep is 'AP5', but no metric of this run has that name; did you mean 'AP50'"):
        train(tmp_path, Recipe(epochs=1, keep="AP5"), validate=lambda m: {"AP50": 1.0})


def test_validates_every_second_epoch_and_the_last(tmp_path):
    run = train(tmp_path, Recipe(epochs=5, batch_size=4, validate_every=2), validation=toy.Blobs(4))
    assert ["val/loss" in row for row in run.metrics] == [False, True, False, True, True]
    assert run.metric == "val/loss"
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["val/loss"] != "" for row in csv.DictReader(file)] == [False, True, False, True, True]


def test_stops_when_patience_is_over(tmp_path):
    scores = iter([0.1, 0.5, 0.5, 0.4, 0.5, 0.9])
    run = train(tmp_path, Recipe(epochs=6, batch_size=4, patience=3), validate=lambda m: {"AP": next(scores)})
    assert len(run.metrics) == 5  # three epochs without anything better than the second
    assert run.stopped == "patience"
    assert "no better result for 3 epochs" in run.message


def test_validation_leaves_training_as_it_is(tmp_path):
    """Whether and how one validates changes nothing about the weights, even if validation draws random numbers."""
    train(tmp_path / "a")
    train(tmp_path / "b", validation=toy.Blobs(3), validate=lambda m: {"AP": float(torch.rand(()))})
    assert toy.same(toy.state(tmp_path / "a")["model"], toy.state(tmp_path / "b")["model"])


def test_validation_loss_is_the_mean_over_images_in_eval_mode(tmp_path):
    held_out = toy.Blobs(7, seed=3)
    run = train(tmp_path, Recipe(epochs=1, batch_size=4, ema=None), validation=held_out)
    losses = [sum(run.model([image], [target]).values()).item() for image, target in held_out]
    assert run.metrics[0]["val/loss"] == pytest.approx(sum(losses) / 7, rel=1e-5)


class Brightness(toy.BlobDetector):
    """Its loss is an image's mean, whatever the weights are; the gradient of the last bias is 3 and −4."""

    def forward(self, images, targets=None):
        mean = torch.stack([image.float().mean() / 255 for image in images]).mean()
        pull = 3 * self.cls.bias[0] - 4 * self.cls.bias[1]
        return {"loss": mean + pull - pull.detach()}


def test_an_epoch_s_loss_is_the_mean_over_its_images(tmp_path):
    """Batches of 3 and 2 images: each counts by its images, in training and in validation."""
    data = toy.Blobs(5)
    for number, (image, _) in enumerate(data):
        image.fill_(51 * number)  # 0, 0.2, 0.4, 0.6, 0.8: their mean is 0.4 in whatever order they come
    held_out = toy.Blobs(5)
    for number, (image, _) in enumerate(held_out):
        image.fill_(51 if number < 3 else 255)  # batches of means 0.2 and 1: (3 · 0.2 + 2 · 1) / 5
    run = train(tmp_path, Recipe(epochs=1, batch_size=3, ema=None), data, Brightness(), validation=held_out)
    assert run.metrics[0]["train/loss"] == pytest.approx(0.4, rel=1e-6)
    assert run.metrics[0]["val/loss"] == pytest.approx(0.52, rel=1e-6)


def test_a_gradient_longer_than_the_limit_is_scaled_to_it(tmp_path):
    """The gradient (3, −4) is 5 long: cut to a length of 0.5 it is (0.3, −0.4), and below the limit it stays."""
    for limit, step in ((0.5, 0.1), (6.0, 1.0), (None, 1.0)):
        model = Brightness()
        before = model.cls.bias.detach().clone()
        recipe = Recipe(
            epochs=1, batch_size=4, optimizer="sgd", lr=0.1, weight_decay=0.0, warmup_steps=0, clip_norm=limit, ema=None
        )
        train(tmp_path / str(limit), recipe, toy.Blobs(4), model)
        moved = (model.cls.bias.detach() - before).tolist()
        assert moved == pytest.approx([-0.1 * 3 * step, 0.1 * 4 * step], rel=1e-4)


@pytest.mark.parametrize("images", [16, 12])
def test_accumulating_equals_a_larger_batch(tmp_path, images):
    """Without batch norm's and dropout's dependence on the batch, two half batches step as one whole; and the last of
    an epoch, where there is no second, as itself."""

    class Plain(toy.BlobDetector):
        def train(self, mode=True):
            return super().train(False)

    def weights(name, **kwargs):
        torch.manual_seed(0)
        recipe = Recipe(epochs=2, optimizer="sgd", lr=0.1, clip_norm=None, ema=None, **kwargs)
        train(tmp_path / name, recipe, toy.Blobs(images), Plain())
        return toy.state(tmp_path / name)

    whole, halves = weights("whole", batch_size=8), weights("halves", batch_size=4, accumulate=2)
    assert whole["state"]["step"] == halves["state"]["step"] == 4
    for name, value in whole["model"].items():
        torch.testing.assert_close(halves["model"][name], value, rtol=1e-4, atol=1e-6)


def test_worker_processes_change_nothing(tmp_path):
    for name, workers in (("none", 0), ("one", 1)):
        train(tmp_path / name, Recipe(epochs=2, batch_size=4, workers=workers), transform=toy.jitter)
    assert toy.same(toy.state(tmp_path / "none")["model"], toy.state(tmp_path / "one")["model"])


def test_bf16(tmp_path):
    model = toy.model()
    run = train(tmp_path / "a", Recipe(epochs=1, batch_size=4, precision="bf16"), model=model)
    assert run.metrics[0]["train/loss"] > 0
    assert "forward" not in vars(model)  # what accelerate hangs on the model is taken off again
    run = train(tmp_path / "b", QUICK, model=model)  # another precision in the same process
    assert run.model.cls.weight.dtype == torch.float32


def test_backbone_learns_slower(tmp_path):
    model = toy.model()
    before = {k: v.clone() for k, v in model.named_parameters()}
    recipe = Recipe(epochs=1, batch_size=4, optimizer="sgd", backbone_lr_factor=0.0, weight_decay=0.0, ema=None)
    train(tmp_path, recipe, model=model)
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {"cls.weight", "cls.bias", "box.weight", "box.bias"}


def test_tracker_objects_hear_everything(tmp_path):
    from accelerate.tracking import GeneralTracker

    class Listener(GeneralTracker):
        name = "listener"
        requires_logging_directory = False

        def __init__(self):
            super().__init__()
            self.config, self.rows, self.finished = {}, [], False

        @property
        def tracker(self):
            return self

        def store_init_configuration(self, values):
            self.config = values

        def log(self, values, step, **kwargs):
            self.rows.append((step, values))

        def finish(self):
            self.finished = True

    listener = Listener()
    run = train(tmp_path, trackers=[listener])
    assert listener.config["epochs"] == 2
    assert [step for step, _ in listener.rows] == [1, 2]
    assert listener.rows[1][1]["train/loss"] == run.metrics[1]["train/loss"]
    assert listener.finished


def test_unknown_or_absent_tracker(tmp_path):
    with pytest.raises(InputError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        train(tmp_path / "a", trackers=["tensorbord"])
    with pytest.raises(InputError, match="tracker 'clearml' is not installed"):
        train(tmp_path / "b", trackers=["clearml"])


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_first_non_finite_loss_stops_and_saves_the_batch(tmp_path, bad):
    class Bad(toy.BlobDetector):
        calls = 0

        def forward(self, images, targets=None):
            losses = super().forward(images, targets)
            self.calls += 1
            if self.calls == 5:
                nothing = losses["box"] * 0
                # the square root's slope at zero is infinite: a finite loss with a gradient that is not
                losses["box"] = losses["box"] / nothing if bad == "loss" else losses["box"] + nothing.abs().sqrt()
            return losses

    torch.manual_seed(0)
    name = "'box' is (inf|nan)" if bad == "loss" else "'gradient norm' is nan"
    with pytest.raises(NonFiniteLoss, match=rf"stopped at epoch 2, step 5: {name}.*blob\d+.png.*nonfinite_batch.pt"):
        train(tmp_path, Recipe(epochs=2, batch_size=3), model=Bad())
    saved = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)
    assert len(saved["images"]) == len(saved["targets"]) == 3
    target = saved["targets"][0]
    assert target["source"].startswith("blob")
    assert target["boxes"].shape == (1, 4)
    assert all(value.isfinite().all() for value in saved["model"].values())  # the step was not taken
    assert saved["rng"].dtype == torch.uint8
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_what_teaches_nothing_is_left_out(tmp_path):
    seen = []

    class Watching(toy.BlobDetector):
        def forward(self, images, targets=None):
            seen.extend(targets)
            return super().forward(images, targets)

    class Odd(toy.Blobs):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            boxes = torch.cat([torch.tensor([[3.0, 3.0, 3.0, 9.0], [0.0, 0.0, 16.0, 16.0]]), target.boxes])
            return image, Instances(
                (16, 16), classes=toy.CLASSES, boxes=boxes, labels=[0, 1, int(target.labels[0])], crowd=[0, 1, 0]
            )

    train(tmp_path, Recipe(epochs=1, batch_size=4), Odd(4), Watching(), validation=Odd(4))
    assert [len(target) for target in seen] == [1] * 8


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_ends_training_with_its_own_sentence(tmp_path, workers):
    class Broken(toy.Blobs):
        def __getitem__(self, index):
            if index == 7:
                raise InputError("blob7.png: the file is truncated; replace it")
            return super().__getitem__(index)

    with pytest.raises(InputError) as caught:
        train(tmp_path, Recipe(epochs=1, batch_size=4, workers=workers), Broken())
    assert str(caught.value) == "blob7.png: the file is truncated; replace it"


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="the training set holds no images"):
        train(tmp_path / "a", data=toy.Blobs(0))
    with pytest.raises(InputError, match="the validation set holds no images"):
        train(tmp_path / "a", validation=toy.Blobs(0))
    other = toy.Blobs()
    other.classes = Classes(["bright", "red"])
    with pytest.raises(ClassMismatch, match="the training set lacks 'dark' and the training set also has 'red'"):
        train(tmp_path / "a", data=other)
    grey = toy.Blobs()
    grey.items[0] = (grey.items[0][0][:1], grey.items[0][1])
    with pytest.raises(InputError, match="has 1 channels, but the model takes 3; make the model with in_channels=1"):
        train(tmp_path / "a", data=grey)
    with pytest.raises(InputError, match=r"precision is 'fp16', but this device is cpu"):
        train(tmp_path / "a", Recipe(precision="fp16"), device="cpu")
    with pytest.raises(InputError, match="device is 'cuda:99', but this machine does not have it; it has cpu"):
        train(tmp_path / "a", device="cuda:99")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"used exists and is not empty, and nothing is overwritten; give another"):
        train(tmp_path / "used")
    assert (tmp_path / "used" / "notes.txt").read_text() == "mine"
    frozen = toy.model().requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        train(tmp_path / "b", model=frozen)


def test_shows_a_line_an_epoch_and_nothing_when_asked_to_be_silent(tmp_path, capsys):
    train(tmp_path / "a", validation=toy.Blobs(4), validate=lambda m: {"AP": 0.25}, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith("epoch 1/2  loss ")
    assert "val loss " in lines[0]
    assert "AP 0.25" in lines[0]
    assert "best is epoch 2" in lines[-1]
    train(tmp_path / "b", progress=False)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_recipe_of_a_run_repeats_it(tmp_path):
    train(tmp_path / "a", Recipe(epochs=2, batch_size=4, seed=5), transform=toy.jitter)
    assert yaml.safe_load((tmp_path / "a" / "recipe.yaml").read_text())["seed"] == 5
    train(tmp_path / "b", Recipe.from_yaml(tmp_path / "a" / "recipe.yaml"), transform=toy.jitter)
    assert toy.same(toy.state(tmp_path / "a")["model"], toy.state(tmp_path / "b")["model"])
