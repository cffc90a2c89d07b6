"""Labels in other encodings than UTF-8, which XML declares and other files show at their beginning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .helpers import coco, coco_image, coco_object, picture, rows

CHINESE = ("gb2312", "GBK", "gb18030", "big5", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig")
ENCODINGS = [("貓" if e == "big5" else "猫", e) for e in CHINESE] + [
    ("chaîne", "iso-8859-1"),
    ("chaîne", "windows-1252"),
    ("кошка", "windows-1251"),
    ("кошка", "koi8-r"),
    ("ねこ", "shift_jis"),
    ("ねこ", "euc-jp"),
    ("고양이", "euc-kr"),
]
VOC = """<?xml version="1.0" encoding="{e}"?>
<annotation><filename>a.png</filename><size><width>64</width><height>48</height><depth>3</depth></size>
<object><name> {name} </name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>
</annotation>
"""
CVAT = """<?xml version="1.0" encoding="{e}"?>
<annotations><version>1.1</version><image id="0" name="a.png" width="64" height="48">
<box label="{name}" xtl="1" ytl="2" xbr="9" ybr="8"/></image></annotations>
"""


@pytest.mark.parametrize(("name", "encoding"), ENCODINGS)
@pytest.mark.parametrize("template", [VOC, CVAT], ids=["voc", "cvat"])
def test_xml_in_the_encoding_it_declares(name: str, encoding: str, template: str, tmp_path: Path):
    picture(tmp_path / "a.png")
    declared = {"utf-8-sig": "utf-8", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}.get(encoding, encoding)
    (tmp_path / "a.xml").write_bytes(template.format(e=declared, name=name).encode(encoding))
    ((found, *box),) = rows(open_dataset(tmp_path), 0)
    assert found == name
    assert box == ([1, 2, 9, 8] if template == CVAT else box)
    assert len(box) == 4


@pytest.mark.parametrize("template", [VOC, CVAT], ids=["voc", "cvat"])
@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_a_declared_encoding_that_is_none(encoding: str, template: str, tmp_path: Path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.xml").write_bytes(template.format(e=encoding, name="猫").encode())
    assert rows(open_dataset(tmp_path), 0)[0][0] == "猫"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_coco(encoding: str, tmp_path: Path):
    picture(tmp_path / "a.png")
    content = coco([coco_image(1, "a.png")], [coco_object(1, 1, 3, [1, 2, 3, 4])], {3: "猫"})
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    assert rows(open_dataset(tmp_path), 0) == [("猫", 1, 2, 4, 6)]


def test_coco_in_no_unicode(tmp_path: Path):
    picture(tmp_path / "a.png")
    content = coco([coco_image(1, "a.png")], [coco_object(1, 1, 3, [1, 2, 3, 4])], {3: "狗"})
    (tmp_path / "a.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("gbk"))
    with pytest.raises(InputError, match=r"a\.json is not JSON: .*; save it again as UTF-8"):
        open_dataset(tmp_path)
