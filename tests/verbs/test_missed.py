"""Why objects are missed, through the verbs and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import sightline as sl
from tests.explain.planted import SIZE, Break, Planted


def test_a_folder_with_a_page_and_a_wall_per_cause_is_written(tmp_path: Path) -> None:
    data = sl.scenes(3, SIZE)
    model = Planted(data, "anchor", Break(silent=2))
    written = sl.explain_missed(model, data[:], tmp_path / "out", method=None, progress=False)
    names = [file.relative_to(tmp_path / "out").as_posix() for file in written.files]
    assert names[:3] == ["missed.json", "missed.html", "class_never_predicted.png"]
    Image.open(written.files[2]).verify()
    values = json.loads(written.files[0].read_text(encoding="utf-8"))
    assert values == written.found.to_dict()
    assert values["threshold"] == 0.5
    again = sl.missed_objects(model, data[:], threshold=0.3, progress=False)
    assert (again.threshold, again.objects) == (0.3, written.found.objects)
    with pytest.raises(sl.InputError, match="is not empty"):
        sl.explain_missed(model, data[:], tmp_path / "out", progress=False)
