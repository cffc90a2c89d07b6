"""Arguments of a wrong kind from Python: one sentence, not an error from within."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.data.images import read_image
from sightline.errors import InputError


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sl.load(5), "path of a run's folder or a saved file, not from 5"),  # type: ignore[arg-type]
        (lambda: sl.evaluate(5, sl.scenes(2, 32)), "not from 5"),  # type: ignore[arg-type]
        (lambda: sl.create_model(5), "by its name, such as 'sightline_n', not by 5"),  # type: ignore[arg-type]
        (lambda: sl.train("sightline_n", sl.scenes(2, 32), recipe=5), "recipe is 5"),  # type: ignore[arg-type]
        (
            lambda: sl.train("sightline_n", sl.scenes(3, 32), keep="mAP50"),
            "keep is 'mAP50', but no metric of this run has that name; did you mean 'AP50'",
        ),
        (
            lambda: sl.predict(sl.create_model("sightline_n", ["a"]), Image.new("RGB", (32, 32)), classes=5),  # type: ignore[arg-type]
            "classes is 5",
        ),
    ],
)
def test_a_wrong_kind_is_one_sentence(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_the_limit_of_pixels_is_that_of_the_others(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (1000, 1000)).save(tmp_path / "large.png")  # above twice a thousandth of 178,956,970 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 178_956_970)
    monkeypatch.setenv("SIGHTLINE_LIMITS", "0.001")
    with pytest.raises(InputError, match=r"large\.png has more pixels .* SIGHTLINE_LIMITS=10"):
        read_image(tmp_path / "large.png", 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 178_956_970)
    monkeypatch.setenv("SIGHTLINE_LIMITS", "1")
    assert read_image(tmp_path / "large.png", 1).shape == (1, 1000, 1000)
