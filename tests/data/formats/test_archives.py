"""Zip and tar: unpacked once, again when the archive changes, never outside, never half."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from sightline.data.formats import archives, open_dataset
from sightline.errors import InputError

from .helpers import everything, picture, voc

DOG = ("dog", 1, 2, 3, 4)


def folder(root: Path) -> Path:
    picture(root / "train" / "a.jpg")
    voc(root / "train" / "a.xml", "a.jpg", [DOG])
    picture(root / "valid" / "b.jpg")
    voc(root / "valid" / "b.xml", "b.jpg", [])
    return root


def packed(source: Path, target: Path, inside: str = "") -> Path:
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as opened:
            opened.writestr("__MACOSX/._a.jpg", b"x")
            for path in files:
                opened.write(path, inside + path.relative_to(source).as_posix())
    else:
        with tarfile.open(target, "w:gz" if target.suffix.lower() in (".gz", ".tgz") else "w") as opened:
            for path in files:
                opened.add(path, inside + path.relative_to(source).as_posix())
    return target


@pytest.mark.parametrize("name", ["my data.zip", "d.tar", "d.tar.gz", "d.TGZ"])
@pytest.mark.parametrize("inside", ["", "deep/er/"])
def test_read_as_the_folder(tmp_path: Path, name: str, inside: str):
    source = folder(tmp_path / "in")
    (tmp_path / "x").mkdir()
    archive = packed(source, tmp_path / "x" / name, inside)
    data = open_dataset(archive)
    assert everything(data) == everything(open_dataset(source)) == {("train", "a.jpg"): [DOG], ("val", "b.jpg"): []}
    assert sorted(os.listdir(tmp_path / "x")) == sorted([f".{name}.sightline", name])
    assert data.image(0).shape == (3, 48, 64)


def test_unpacked_once_and_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    archive = packed(folder(tmp_path / "in"), tmp_path / "d.zip")
    first = archives.unpacked(archive)
    (first / "mark").write_text("still here")
    assert archives.unpacked(archive) == first
    assert (first / "mark").exists()
    assert len(caplog.records) == 1
    voc(tmp_path / "in" / "train" / "a.xml", "a.jpg", [("cat", 1, 2, 3, 4)])
    packed(tmp_path / "in", archive)
    os.utime(archive, ns=(1, 1))
    assert everything(open_dataset(archive))["train", "a.jpg"] == [("cat", 1, 2, 3, 4)]
    assert not (first / "mark").exists()


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = packed(folder(tmp_path / "in"), tmp_path / "d.zip")
    read, count = zipfile.ZipExtFile.read, []

    def fail_later(self: zipfile.ZipExtFile, n: int = -1) -> bytes:
        count.append(1)
        if len(count) > 4:
            raise KeyboardInterrupt
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail_later)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(archive)
    assert sorted(os.listdir(tmp_path)) == ["d.zip", "in"]
    monkeypatch.undo()
    assert len(open_dataset(archive)) == 2


def test_what_lies_in_the_way_is_not_removed(tmp_path: Path):
    archive = packed(folder(tmp_path / "in"), tmp_path / "d.zip")
    (tmp_path / ".d.zip.sightline").mkdir()
    (tmp_path / ".d.zip.sightline" / "mine").write_text("x")
    with pytest.raises(InputError, match=r"is in the way of unpacking, but was not created by it"):
        open_dataset(archive)
    assert (tmp_path / ".d.zip.sightline" / "mine").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_lead_out(tmp_path: Path, name: str, kind: str):
    archive = tmp_path / "in" / f"d.{kind}"
    archive.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("fine.txt", "x")
            opened.writestr(zipfile.ZipInfo(name), "x")
    else:
        with tarfile.open(archive, "w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(InputError, match=r"leads out of the folder it is unpacked into; it was not unpacked"):
        open_dataset(archive)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [archive.name, "in"]


def test_links_and_devices(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(info, "/etc/passwd")
    paths = [tmp_path / "l.zip"]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        paths.append(tmp_path / f"{kind.decode()}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            info = tarfile.TarInfo("entry")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    for path in paths:
        with pytest.raises(InputError, match=r"'(link|entry)', which is a link or a device; it was not unpacked"):
            open_dataset(path)


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("zeros", b"\0" * 2_000_000)
        opened.writestr("more", b"x")
    monkeypatch.setattr(archives, "_SMALL", 1000)
    with pytest.raises(InputError, match=r"expands to more than 200 times its \d+ bytes"):
        open_dataset(tmp_path / "d.zip")
    monkeypatch.setenv("SIGHTLINE_LIMITS", "0.0000005")
    with pytest.raises(InputError, match=r"the number of files in .* is 2, above the limit of 1"):
        open_dataset(tmp_path / "d.zip")
    assert os.listdir(tmp_path) == ["d.zip"]


def test_damaged_and_empty(tmp_path: Path):
    whole = packed(folder(tmp_path / "in"), tmp_path / "d.zip").read_bytes()
    for name, content, sentence in (
        ("cut.zip", whole[:-100], "is damaged or not an archive"),
        ("flipped.zip", whole.replace(b"<annotation>", b"<annotatiom>", 1), "is damaged or not an archive"),
        ("text.tar.gz", b"hello", "is damaged or not an archive"),
        ("empty.zip", b"PK\x05\x06" + bytes(18), "contains no files"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            open_dataset(tmp_path / name)
        assert not (tmp_path / f".{name}.sightline").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = packed(folder(tmp_path / "in"), tmp_path / "d.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    data = open_dataset(archive)
    assert len(data) == 2
    assert data.root is not None
    assert data.root.is_relative_to(tmp_path / "cache" / "sightline")
