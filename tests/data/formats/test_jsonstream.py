"""Reading JSON in pieces: against the standard library reading it whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.formats import jsonstream
from sightline.data.formats.jsonstream import JsonFile
from sightline.errors import InputError

# What could mislead cutting and the search for segmentations: brackets, quotes, and keys inside strings.
nasty = st.sampled_from(['"segmentation": [1, 2]', "},", '"},{"', "]", "\\", "ü€", '{"segmentation":{}}', ""])
numbers = st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False, width=32)
segmentations = st.lists(st.lists(numbers, max_size=4), max_size=3) | st.fixed_dictionaries(
    {"size": st.just([3, 4]), "counts": st.lists(st.integers(0, 9), max_size=4) | st.sampled_from(["01[]\\`", ""])}
)
values = st.none() | numbers | nasty | st.lists(nasty, max_size=3) | st.dictionaries(nasty, segmentations, max_size=2)
elements = st.fixed_dictionaries(
    {"id": st.integers()}, optional={"segmentation": segmentations | st.none(), "x": values, "attributes": values}
)


def read(path: Path, streamed: set[str]) -> dict[str, Any]:
    """The file as the standard library would give it, put together again from the pieces."""
    found: dict[str, Any] = {}
    for key, value in JsonFile(path).items(streamed):
        if key in streamed and not isinstance(value, list | dict | str | int | float | None):
            found[key] = []
            for entries, texts in value:
                for entry in entries:
                    if isinstance(entry, dict) and type(entry.get("segmentation")) is int:
                        assert " " not in texts[entry["segmentation"]]
                        entry["segmentation"] = json.loads(texts[entry["segmentation"]])
                found[key] += entries
        else:
            found[key] = value
    return found


@settings(max_examples=300, deadline=None)
@given(
    annotations=st.lists(elements, max_size=12),
    images=st.lists(elements, max_size=4),
    other=values,
    chunk=st.integers(1, 200),
    indent=st.sampled_from([None, 0, 2]),
    order=st.permutations(["annotations", "images", "other"]),
)
def test_equals_reading_it_whole(
    tmp_path_factory: pytest.TempPathFactory, annotations, images, other, chunk, indent, order
):
    content = {"annotations": annotations, "images": images, "other": other}
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps({key: content[key] for key in order}, indent=indent, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonstream, "_CHUNK", chunk)
        assert read(path, {"annotations", "images"}) == json.loads(text)


def test_pieces_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonstream, "_CHUNK", 1000)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": [{"id": k, "segmentation": [[k, 1.5]]} for k in range(1000)]}))
    sizes = [len(entries) for _, batches in JsonFile(path).items({"annotations"}) for entries, _ in batches]
    assert sum(sizes) == 1000
    assert max(sizes) < 100


@pytest.mark.parametrize("content", ["{}", '{"a": 1}', '\ufeff{"a": 12}', ' {"a" : [ ] }\n'])
def test_small_files(tmp_path: Path, content: str):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert read(tmp_path / "a.json", {"annotations"}) == json.loads(content.lstrip("\ufeff"))


def test_every_truncation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonstream, "_CHUNK", 50)
    objects = [{"id": k, "segmentation": [[1, 2, 3]], "name": "a}, {"} for k in range(5)]
    text = json.dumps({"info": {"year": 2017}, "annotations": objects, "images": []})
    path = tmp_path / "cut.json"
    for size in range(1, len(text)):
        path.write_text(text[:size])
        with pytest.raises(InputError, match=r"cut\.json is (truncated|not valid JSON)") as error:
            read(path, {"annotations"})
        inside = text.index("annotations") + 15 < size < text.index("images") - 4
        if inside:
            assert 'truncated: it ends in "annotations" after' in str(error.value)
    path.write_text("")
    with pytest.raises(InputError, match=r"cut\.json is empty, but a JSON file is expected"):
        read(path, {"annotations"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", r"a\.json is not valid JSON: expecting an object such as \{ at character 0"),
        ('{"a" 1}', "expecting a colon at character 5"),
        ('{"a": 1 "b"}', r"expecting a comma or \} at character 8"),
        (
            '{"annotations": [{"id": 1}, {"id": x}]}',
            'in "annotations" after 1 entries: Expecting value at character 35',
        ),
        ('{"a": tru}', "Expecting value at character 6"),
    ],
)
def test_mistakes_are_placed(tmp_path: Path, content: str, words: str):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.json", {"annotations"})


def test_what_is_no_text(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff\xfe"}')
    with pytest.raises(InputError, match=r"a\.json is not JSON: .*utf-8"):
        read(tmp_path / "a.json", set())
