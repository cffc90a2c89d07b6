"""Whatever stands in place of a value: it is read, or named in a sentence; nothing else happens."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sightline.data.check import check
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .drawn import outlined

ODD = [None, True, -1, 1e400, float("nan"), 2**70, "", "x", [], [1], [[1]], {}, {"a": 1}, [None], ["x", "y"]]
ODD_TEXTS = ["", "x", "-1", "0", "nan", "inf", "99999999999999999999", "1,2", ";", "1,2;3,4", "1,2,3"]
TRIALS = 150


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def use(root: Path, to: str) -> None:
    """Open it, look at all there is, write it again."""
    with suppress(InputError):
        data = open_dataset(root, format=to)
        check(data, full=False, progress=False)
        convert(data, root.parent / "again", to, symlink=True)
        for view in (data, data.with_fields("masks") if data.columns.segmentations.data.size else data):
            view.target(0)
    shutil.rmtree(root.parent / "again", ignore_errors=True)


@pytest.mark.parametrize(("to", "name"), [("via", "via_project.json"), ("labelme", "a.json")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_json(tmp_path: Path, to: str, name: str):
    convert(outlined(False)[[0]], tmp_path / "in", to)
    file = tmp_path / "in" / name
    base = json.loads(file.read_text())
    if to == "via":
        shape = {"name": "ellipse", "cx": 3, "cy": 4, "rx": 2, "ry": 3, "theta": 1}
        (entry,) = base["_via_img_metadata"].values()
        entry["regions"].append({"shape_attributes": shape, "region_attributes": {"class": "zebra", "x": "y"}})
    else:
        base["shapes"].append({"label": "zebra", "points": [[1, 2], [3, 4]], "shape_type": "circle", "flags": {}})
    generator = np.random.default_rng(0)
    every = list(places(base))
    for k in generator.integers(0, len(every), TRIALS).tolist():
        changed = copy.deepcopy(base)
        at = changed
        for key in every[k][:-1]:
            at = at[key]
        at[every[k][-1]] = ODD[int(generator.integers(len(ODD)))]
        file.write_text(json.dumps(changed))
        use(tmp_path / "in", to)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_xml(tmp_path: Path):
    convert(outlined(False)[[0]], tmp_path / "in", "cvat")
    file = tmp_path / "in" / "annotations.xml"
    more = (
        '<ellipse label="zebra" cx="3" cy="4" rx="2" ry="3" rotation="10"></ellipse><box label="zebra" xtl="1" ytl="1" '
        'xbr="3" ybr="4" rotation="3"/><skeleton label="zebra"><points label="1" points="3,4"/></skeleton>'
    )
    base = ElementTree.fromstring(file.read_text().replace("  </image>", f"{more}</image>"))
    every = [(element, key) for element in base.iter() for key in element.attrib]
    generator = np.random.default_rng(0)
    for k in generator.integers(0, len(every), TRIALS).tolist():
        element, key = every[k]
        old = element.attrib[key]
        element.attrib[key] = ODD_TEXTS[int(generator.integers(len(ODD_TEXTS)))]
        file.write_text(ElementTree.tostring(base, encoding="unicode"))
        use(tmp_path / "in", "cvat")
        element.attrib[key] = old
