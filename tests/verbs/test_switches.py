"""The variants that switches stand for, and the sentences about switches that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import InputError
from sightline.training.recipe import Recipe
from sightline.verbs.switches import Variant, seeds_of, variants_of

BASE = Recipe(epochs=1, lr=1e-3)
MODEL = "retinanet_mobilenet_v2_fpn"


def variants(*switches: str, base: Recipe = BASE, arguments: dict[str, Any] | None = None) -> list[Variant]:
    return variants_of(switches, base, MODEL, arguments or {})


def test_the_example_of_the_help() -> None:
    """Mosaic, ema and another rate: each alone and each pair."""
    found = variants("mosaic", "ema", "lr=1e-3,3e-3", "arg:min_size=160,240")
    assert [variant.name for variant in found] == [
        *("base", "mosaic", "no ema", "lr=0.003", "min_size=160", "min_size=240"),
        *("mosaic + no ema", "mosaic + lr=0.003", "mosaic + min_size=160", "mosaic + min_size=240"),
        *("no ema + lr=0.003", "no ema + min_size=160", "no ema + min_size=240"),
        *("lr=0.003 + min_size=160", "lr=0.003 + min_size=240"),
    ]
    pair = found[7]
    assert (pair.settings, pair.parts) == ({"augmentation": "mosaic", "lr": 3e-3}, ("mosaic", "lr=0.003"))
    assert pair.recipe(BASE) == BASE.changed(augmentation="mosaic", lr=3e-3)
    assert found[13].arguments_of({"max_size": 500}) == {"max_size": 500, "min_size": 160}
    assert [found[0].slug, pair.slug, found[10].slug] == ["base", "mosaic+lr=0.003", "no-ema+lr=0.003"]


@pytest.mark.parametrize(
    ("switch", "base", "name", "settings"),
    [
        ("ema", {"ema": None}, "ema", {"ema": 0.999}),
        ("mirror", {}, "no mirror", {"mirror": False}),
        ("mirror", {"mirror": False}, "mirror", {"mirror": True}),
        ("mosaic", {"augmentation": "mosaic"}, "no mosaic", {"augmentation": "default"}),
        ("default", {}, "no default", {"augmentation": "none"}),
        ("none", {}, "none", {"augmentation": "none"}),
        ("clip", {}, "no clip", {"clip_norm": None}),
        ("warmup", {"warmup_steps": 0}, "warmup", {"warmup_steps": 100}),
        ("weight_decay", {}, "no weight_decay", {"weight_decay": 0.0}),
        ("optimizer=sgd", {}, "optimizer=sgd", {"optimizer": "sgd"}),
        ("ema=none", {}, "ema=none", {"ema": None}),
        ("milestones=[0.5,0.8]", {}, "milestones=[0.5,0.8]", {"milestones": (0.5, 0.8)}),
    ],
)
def test_relative_to_the_base(switch: str, base: dict[str, Any], name: str, settings: dict[str, Any]) -> None:
    found = variants(switch, base=BASE.changed(**base))[1]
    assert (found.name, found.settings) == (name, settings)


def test_arguments_of_the_model() -> None:
    found = variants("arg:settings.box_loss=l1,giou")  # giou is the builder's own
    assert [variant.name for variant in found] == ["base", "settings.box_loss=l1"]
    assert found[1].arguments_of({"settings": {"gamma": 3.0}}) == {"settings": {"gamma": 3.0, "box_loss": "l1"}}


def test_mappings_as_in_python() -> None:
    found = variants_of({"ema": None, "lr": [1e-3, 3e-3], "batch_size": 4}, BASE, MODEL, {})
    assert [variant.name for variant in found[:4]] == ["base", "no ema", "lr=0.003", "batch_size=4"]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("switches", "what"),
    [
        ([], "there is nothing to compare"),
        (["mosiac"], "no switch 'mosiac'; did you mean 'mosaic'?"),
        (["emma"], "did you mean 'ema'?"),
        (["warmup_step=3"], "did you mean 'warmup_steps'?"),
        (["anchors"], "known are"),
        (["min_size=3"], "give arg:min_size=…"),
        (["arg:min_sice=3"], "did you mean 'min_size'?"),
        (["arg:settings.box_los=l1"], "did you mean 'box_loss'?"),
        (["arg:min_size"], "needs values: arg:min_size=…"),
        (["arg:min_size=wide"], "takes a whole number"),
        (["lr"], "the switch lr needs values, such as lr=0.001,…"),
        (["lr=1e-3"], "changes nothing, because the base has lr 0.001"),
        (["lr=3e-3,0.003"], "has the value lr=0.003 twice"),
        (["lr=1e-3,0.001,3e-3"], "has the value 0.001 twice"),
        (["lr=-1"], "lr is -1"),
        (["lr=,"], "empty value"),
        (["lr="], "must be a name such as ema"),
        (["=3"], "must be a name such as ema"),
        (["augmentation=strog"], "unknown augmentation recipe 'strog'"),
        (["ema", "ema"], "the switch ema is given twice"),
        (["ema", "ema=0.9"], "the switch ema is given twice"),
        (["clip", "clip_norm=1"], "both change clip_norm"),
        (["mosaic", "strong"], "both change augmentation.*augmentation=…"),
        (["minutes=3"], "give --minutes"),
        (["seed=1,2"], "give --seeds"),
    ],
)
def test_one_sentence_for_each_mistake(switches: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what.replace("?", r"\?").replace("=…,…", "=…")):
        variants(*switches)


def test_an_empty_list_of_values() -> None:
    with pytest.raises(InputError, match="empty list of values"):
        variants_of({"lr": []}, BASE, MODEL, {})


@pytest.mark.parametrize(("seeds", "what"), [(0, "at least one"), ([1, 1], "hold one twice"), (1.5, "seeds is 1.5")])
def test_bad_seeds(seeds: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        seeds_of(seeds, 0)


def test_seeds() -> None:
    assert seeds_of(3, 7) == (7, 8, 9)
    assert seeds_of([5, 2], 0) == (5, 2)
    with pytest.raises(InputError, match="seed is -1"):
        seeds_of([-1], 0)
