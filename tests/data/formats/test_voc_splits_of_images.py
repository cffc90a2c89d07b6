"""Splits of VOC that are named as folders of images alone: their labels are in the data's own folder of labels."""

from __future__ import annotations

import pytest
from PIL import Image

import sightline as sl

LABEL = (
    "<annotation><filename>{name}.jpg</filename><size><width>20</width><height>10</height></size><object><name>a</name>"
    "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{right}</xmax><ymax>8</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize("inner", ["", "{split}/"], ids=["one folder of labels", "folders of splits in it"])
def test_labels_of_folders_of_images(tmp_path, inner):
    for split, name, right in (("first", "1", 5), ("first", "2", 6), ("second", "3", 7)):
        image = tmp_path / "JPEGImages" / split / f"{name}.jpg"
        label = tmp_path / "Annotations" / inner.format(split=split) / f"{name}.xml"
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(image)
        label.write_text(LABEL.format(name=name, right=right))
    data = sl.open_dataset(
        tmp_path, train=tmp_path / "JPEGImages/first", val=tmp_path / "JPEGImages/second", format="voc"
    )
    assert [data["train"][i][1].boxes.tolist() for i in range(2)] == [[[1, 2, 5, 8]], [[1, 2, 6, 8]]]
    assert data["val"][0][1].boxes.tolist() == [[1, 2, 7, 8]]
