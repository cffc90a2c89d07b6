"""Any value of a label file may be of any kind: it is read, or named in one sentence."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline.errors import InputError
from tests.hostile.formats import changes, samples

NAMES = ("coco", "coco of images", "createml", "datumaro", "huggingface", "label-studio", "label-studio min", "labelme")
NAMES += ("panoptic", "panoptic-instances", "supervisely", "via")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [pytest.param(12, id="few"), pytest.param(10**6, id="all", marks=pytest.mark.slow)])
def test_any_value_is_read_or_named(name: str, most: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "sightline")
    found = samples(tmp_path)
    assert tuple(sorted(found)) == NAMES
    sample, folder = found[name], tmp_path / name
    folder.mkdir(exist_ok=True)
    sample.write(folder, sample.content)
    sample.use(folder)  # as it is, it can be read
    all_changes = changes(sample.content)
    order = np.random.default_rng(sum(name.encode())).permutation(len(all_changes))[:most]
    sentences = []
    for position in order.tolist():
        what, content = all_changes[position]
        sample.write(folder, content)
        try:
            sample.use(folder)
        except InputError as error:
            sentences.append(str(error))
        except Exception as error:
            raise AssertionError(f"{name}: {what}: {type(error).__name__} {error}") from error
    assert sentences
    assert not [sentence for sentence in sentences if "\n" in sentence]


@pytest.mark.parametrize("path", [None, 5, b"x", [], {}, "a\0", "a" * 5000, "~nobody-here/x", "/dev/null", "none"])
def test_a_path_that_is_none(path: object) -> None:
    with pytest.raises(InputError, match=r"give the path|not a valid path|must be a string"):
        sightline.open_dataset(path)  # type: ignore[arg-type]
