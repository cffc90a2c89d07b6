"""The boundary for files: right values come through, and whatever is wrong is one sentence that names the file."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from sightline.errors import InputError
from sightline.runtime import limits, reading

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{k}: &{k} [{','.join([f'*{chr(ord(k) - 1)}'] * 9)}]\n" for k in "bcdefghi"
)


def refused(action, *words: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        action()
    assert time.perf_counter() - started < 5
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfcat", "cat"),
        ("Käfer".encode(), "Käfer"),
        ("Käfer".encode("latin-1"), "Käfer"),
        ("Déjà\nseñor".encode("latin-1"), "Déjà\nseñor"),
        ("猫 dog".encode("utf-16"), "猫 dog"),
        (b"c\0a\0t\0", "cat"),
        ("猫\n狗\n".encode("utf-16-le"), "猫\n狗\n"),
        ("猫\n狗\n".encode("utf-16-be"), "猫\n狗\n"),
    ],
)
def test_text_in_any_usual_encoding(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "names.txt").write_bytes(data)
    assert reading.read_text(tmp_path / "names.txt") == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("红灯\n绿灯\n", "gbk"),
        ("犬\nドッグ\n", "shift_jis"),
        ("ドッグ\n", "shift_jis"),
        ("고양이\n", "euc_kr"),
        ("кошка\nя\n", "cp1251"),
        ("cat\ndog 犬\n", "big5"),
    ],
)
def test_an_encoding_that_cannot_be_known_is_refused(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "names.txt").write_bytes(text.encode(encoding))
    refused(lambda: reading.read_text(tmp_path / "names.txt"), "names.txt", "UTF-8")


def test_right_values_come_through(tmp_path: Path) -> None:
    value = {"a": [1, -2.5, True, None, "x[{"], "b": {"c": [[1, 2], [3, 4]]}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(value) + "same: &s [1, 2]\nagain: *s\n")
    (tmp_path / "a.xml").write_text("<?xml version='1.0'?><a><b>1 &amp; 2</b></a>")
    (tmp_path / "a.csv").write_text('x,"1, 2"\n\ny,"two\nlines"\n')
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    assert reading.read_json(tmp_path / "a.json", dict) == value
    assert reading.read_yaml(tmp_path / "a.yaml") == value | {"same": [1, 2], "again": [1, 2]}
    assert reading.read_xml(tmp_path / "a.xml").findtext("b") == "1 & 2"
    assert [e.tag for kind, e in reading.iter_xml(tmp_path / "a.xml") if kind == "end"] == ["b", "a"]
    assert reading.read_csv(tmp_path / "a.csv") == [["x", "1, 2"], ["y", "two\nlines"]]
    assert reading.read_array(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert reading.parse_yaml("[on, null, 0123, 1.10]", "names", as_text=True) == ["on", "null", "0123", "1.10"]


def test_only_ordinary_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    place = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the name of a socket may have 107 characters only
    place.bind("socket")
    for name, word in (("pipe", "named pipe"), ("socket", "socket"), (".", "folder"), ("none", "no file")):
        refused(lambda name=name: reading.read_bytes(tmp_path / name), name if name != "." else str(tmp_path), word)
    refused(lambda: reading.read_bytes("/dev/zero"), "/dev/zero", "device")
    refused(lambda: reading.read_bytes("a\0b"), "a\\x00b")
    place.close()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("{", "too early"),
        ('{"a": 1', "too early"),
        ("[" * 100_000, "depth"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "depth"),
        ("[" + "1" * 5000 + "]", "digits"),
        ('{"a": nan}', "line 1, column 7"),
        ("[1]", "an object is expected"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "a.json").write_text(text)
    refused(lambda: reading.read_json(tmp_path / "a.json", dict), "a.json", word)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BOMB, "aliases"),
        ("&a [*a]", "refers to itself"),
        ("a: &a {b: {c: *a}}", "refers to itself"),
        ("[" * 100_000, "depth"),
        ("epochs: " + "9" * 5000, "digits"),
        ("a: !!python/object/apply:os.system [ls]", "python"),
        ("a: [1", "line"),
        ("2020-99-99", "month"),
        ("!!int x", "x"),
        ("{[a]: b}: c", ""),
        ("a: *b", "alias"),
        ("a: 1\nb: {c: 2, c: 3}", "holds the key 'c' twice (lines 2 and 2)"),
        ("a\x07b", ""),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    refused(lambda: reading.read_yaml(tmp_path / "a.yaml"), "a.yaml", word)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("<a><b></a>", "mismatched"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "entities"),
        ("<a>" * 5000 + "</a>" * 5000, "depth"),
    ],
)
def test_bad_xml(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    refused(lambda: reading.read_xml(tmp_path / "a.xml"), "a.xml", word)
    refused(lambda: list(reading.iter_xml(tmp_path / "a.xml")), "a.xml", word if text else "no element")


def test_bad_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((4, 4), np.uint8))
    good = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "giant.npy").write_bytes(good.replace(b"(4, 4), }        ", b"(99999999, 999),}"))
    (tmp_path / "short.npy").write_bytes(good[:-1])
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    for name, word in (("giant", "truncated"), ("short", "truncated"), ("text", "no"), ("objects", "Python objects")):
        refused(lambda name=name: reading.read_array(tmp_path / f"{name}.npy"), f"{name}.npy", word)


def test_one_setting_raises_all_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("[" * 150 + "]" * 150)
    refused(lambda: reading.read_json(tmp_path / "a.json"), "150", "limit of 100", "SIGHTLINE_LIMITS=10")
    monkeypatch.setenv("SIGHTLINE_LIMITS", "×2")
    assert limits.limits().depth == 200
    assert isinstance(reading.read_json(tmp_path / "a.json"), list)
    monkeypatch.setenv("SIGHTLINE_LIMITS", "off")
    assert isinstance(reading.read_json(tmp_path / "a.json"), list)
    monkeypatch.setenv("SIGHTLINE_LIMITS", "many")
    refused(lambda: reading.read_json(tmp_path / "a.json"), "SIGHTLINE_LIMITS", "many")


def test_files_above_the_limit_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no room
    refused(lambda: reading.read_json(tmp_path / "a.json"), "a.json", "SIGHTLINE_LIMITS")
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20)})
        file.truncate(2**41)
    refused(lambda: reading.read_array(tmp_path / "a.npy"), "a.npy", "SIGHTLINE_LIMITS")


def test_long_fields_of_a_csv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("x," + "1" * 200_000 + "\n")
    assert len(reading.read_csv(tmp_path / "a.csv")[0][1]) == 200_000
    monkeypatch.setenv("SIGHTLINE_LIMITS", "0.001")
    refused(lambda: reading.read_csv(tmp_path / "a.csv"), "a.csv", "line 1", "limit")


def test_names_are_shown_on_one_line_without_control_characters() -> None:
    assert reading.shown("plain Käfer 猫.jpg") == "plain Käfer 猫.jpg"
    assert reading.shown(Path("a\nb\x1b[31m\udce4")) == "a\\nb\\x1b[31m\\udce4"
