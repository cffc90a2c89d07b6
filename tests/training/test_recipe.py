"""The recipe: its values checked, its YAML read and written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import InputError
from sightline.training.recipe import Recipe


def test_defaults_are_filled_in():
    assert Recipe().epochs == 30
    assert Recipe(minutes=10).epochs is None
    assert Recipe(minutes=10, epochs=5).epochs == 5
    assert Recipe(optimizer="sgd").lr == 0.01
    assert Recipe(optimizer="adamw").lr == 5e-4
    assert Recipe(optimizer="sgd", lr=0.3, weight_decay=0.0).weight_decay == 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0, but it must be a whole number of at least 1; give 1 or more"),
        ({"epochs": 2.5}, "epochs is 2.5, but it must be a whole number"),
        ({"epochs": True}, "epochs is True, but it must be a whole number"),
        ({"minutes": 0}, "minutes is 0, but it must be a number above 0"),
        ({"batch_size": -1}, "batch_size is -1, but it must be a whole number of at least 1"),
        ({"accumulate": 0}, "accumulate is 0"),
        (
            {"lr": -0.1},
            "lr is -0.1, but it must be a number above 0 and at most 1000000.0",
        ),
        ({"lr": 0}, "lr is 0,"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"momentum": 1}, "momentum is 1, but it must be a number at least 0 and below 1"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"backbone_lr_factor": -1}, "backbone_lr_factor is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"gamma": 0}, "gamma is 0, but it must be a number above 0 and at most 1"),
        ({"clip_norm": 0}, r"clip_norm is 0, but it must be a number above 0; give none not to clip"),
        ({"ema": 1.0}, "ema is 1.0, but it must be a number at least 0 and below 1"),
        ({"patience": 0}, "patience is 0"),
        ({"validate_every": 0}, "validate_every is 0"),
        ({"workers": -2}, "workers is -2"),
        ({"seed": -1}, "seed is -1"),
        ({"augmentation": ""}, "augmentation is '', but it must be a name"),
        ({"keep": 3}, "keep is 3"),
        ({"optimizer": "adam"}, "optimizer is 'adam', but it must be one of sgd, adamw; did you mean 'adamw'"),
        ({"schedule": "linear"}, "schedule is 'linear', but it must be one of cosine, step, constant"),
        ({"precision": "fp32"}, "precision is 'fp32', but it must be one of no, bf16, fp16"),
        ({"milestones": (16, 22)}, r"milestones are \[16, 22\], but they are parts of the run .* 0.615 and 0.846"),
        ({"milestones": (0.9, 0.7)}, "must rise"),
    ],
)
def test_wrong_values_are_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        Recipe(**values)


@given(
    st.builds(
        Recipe,
        epochs=st.none() | st.integers(1, 1000),
        minutes=st.none() | st.floats(0.1, 1e4),
        optimizer=st.sampled_from(["sgd", "adamw"]),
        lr=st.none() | st.floats(1e-8, 10),
        milestones=st.lists(st.floats(0.01, 0.99), max_size=4).map(lambda m: tuple(sorted(m))),
        ema=st.none() | st.floats(0, 0.99999),
        clip_norm=st.none() | st.floats(1e-3, 100),
        seed=st.integers(0, 2**40),
    )
)
def test_yaml_keeps_everything(recipe):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        recipe.to_yaml(f"{folder}/recipe.yaml")
        assert Recipe.from_yaml(f"{folder}/recipe.yaml") == recipe


def test_changed():
    assert Recipe().changed(epochs=3, lr=0.1) == Recipe(epochs=3, lr=0.1)
    assert Recipe().changed(optimizer="sgd") == Recipe(optimizer="sgd")  # with the usual rate of SGD, not AdamW's
    assert Recipe(lr=0.3).changed(optimizer="sgd").lr == 0.3
    assert Recipe(milestones=(0.5,)).changed(seed=1).milestones == (0.5,)
    with pytest.raises(InputError, match="unknown entry 'batchsize'; did you mean 'batch_size'"):
        Recipe().changed(batchsize=3)
    with pytest.raises(InputError, match="epochs is 0"):
        Recipe().changed(epochs=0)


def test_yaml_names_every_value(tmp_path):
    Recipe().to_yaml(tmp_path / "recipe.yaml")
    lines = (tmp_path / "recipe.yaml").read_text().splitlines()
    names = [line.split(":")[0] for line in lines if not line.startswith("-")]
    assert names == [field.name for field in dataclasses.fields(Recipe)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch: 3", "recipe.yaml holds the unknown entry 'epoch'; did you mean 'epochs'"),
        ("colour: red", "unknown entry 'colour'; known are epochs, minutes"),
        ("lr: -1e-3", "lr is -0.001"),
        ("epochs: many", "epochs is 'many', but it must be a whole number"),
        ("- 1\n- 2", "recipe.yaml holds a list, not a recipe"),
        ("lr: [", "recipe.yaml is not valid YAML"),
        (b"\xff\xfe\x00", "recipe.yaml begins with the byte order mark of UTF-16"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, sentence):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence):
        Recipe.from_yaml(path)


def test_short_files(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-3\nmilestones: [0.5]\n")  # YAML 1.1 reads 1e-3 as text
    assert Recipe.from_yaml(path) == Recipe(lr=1e-3, milestones=(0.5,))
    path.write_text("")
    assert Recipe.from_yaml(path) == Recipe()
    with pytest.raises(InputError, match="there is no recipe"):
        Recipe.from_yaml(tmp_path / "other.yaml")


def test_a_bare_no_is_no_truth_value(tmp_path):
    (tmp_path / "recipe.yaml").write_text("precision: no\n")
    assert Recipe.from_yaml(tmp_path / "recipe.yaml").precision == "no"


def test_a_value_out_of_range_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("lr: -1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.yaml: lr is -1"):
        Recipe.from_yaml(file)


@pytest.mark.parametrize("word", ["none", "None"])
def test_the_word_none_turns_a_setting_off(word: str) -> None:
    recipe = Recipe.from_dict({"ema": word, "clip_norm": word, "augmentation": "none"})
    assert (recipe.ema, recipe.clip_norm, recipe.augmentation) == (None, None, "none")
