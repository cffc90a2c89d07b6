"""Every command and all Python in the README and in docs/ run, on small rendered scenes in place of DATA."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline import cli
from sightline.data.scenes import write_scenes
from sightline.data.videos import write_video

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SMALLER = (
    (r"(create_model\(.*?)(, image_size=\d+)?\)", r"\1, image_size=96)"),
    (r"\b(epochs|minutes)=\d+", "epochs=1, batch_size=4, workers=0, progress=False"),
    (r', weights="(coco|imagenet)"', ""),  # published weights need the network
)
"""What is written smaller to be run here: images, trainings, and no published weights. Nothing else is changed."""
TRAINING = "--epochs 1 --arg image_size=96 --batch-size 4 --set workers=0 --quiet --device cpu"
"""What `sightline train` is given in place of --minutes, --epochs and --weights."""
COMPARISON = "--epochs 1 --set batch_size=4 --set workers=0 --quiet --device cpu"
"""What `sightline compare` is given in place of --minutes."""
NOT_RUN = ("make", "python3", "pip", "git", ".", "accelerate", "demo", "curl", "kill")
"""The first word of commands that make an environment, take minutes, or need a server; `make demo` and `make test` are
run by hand."""
SERVERS = ("serve", "annotate")
"""Verbs that do not end by themselves; tests/deploy/serve and tests/labelling run them."""


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(document: Path) -> Iterator[list[str]]:
    """The words of each command line, without its comment."""
    for text in blocks(document, "", "console", "bash", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] not in NOT_RUN:
                yield words


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The current folder, with what the documents name: DATA, a photograph, a folder of them, a large picture."""
    scenes = write_scenes(tmp_path / "scenes", 8, 4, 4, size=96, progress=False)
    images = [path.read_bytes() for path in sorted((scenes / "test").glob("*.png"))]
    document = request.node.callspec.params["document"].name
    if document == "segmentation.md":  # DATA are class maps there
        sightline.convert(scenes, tmp_path / "DATA", "semantic")
    elif document == "dense_captions.md":  # captions there
        write_scenes(tmp_path / "DATA", 8, 4, 4, size=96, kind="captions", progress=False)
    elif document in ("classification.md", "transfer.md", "comparing_models.md"):  # and one class per image here
        labelled = sightline.scenes(16, 96, kind="class_scores", objects=(1, 1))
        sightline.convert(labelled, tmp_path / "DATA", "folders")
    elif document == "meshes.md":  # DATA have meshes
        write_scenes(tmp_path / "DATA", 4, 2, 2, size=96, kind="meshes", objects=(1, 1), progress=False)
    elif document == "video_captions.md":  # and videos here
        write_scenes(tmp_path / "DATA", 4, 2, 1, 32, kind="events", progress=False)
    else:
        scenes.rename(tmp_path / "DATA")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(images[:2]):
        (tmp_path / "photos" / f"{number}.png").write_bytes(image)
    for name in ("photo.jpg", "huge.png"):
        (tmp_path / name).write_bytes(images[0])
    if document == "video.md":
        pytest.importorskip("av")
        write_video(tmp_path / "video.mp4", np.zeros((6, 32, 48, 3), np.uint8), 8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SLOW_PYTHON = ("comparing_models.md", "exporting.md", "interoperability.md", "scaling.md")
"""Documents whose Python takes long, or needs optional packages."""
PYTHON = [
    pytest.param(document, marks=[pytest.mark.slow] if document.name in SLOW_PYTHON else [], id=document.name)
    for document in DOCUMENTS
    if blocks(document, "python")
]
SLOW = (
    "comparing_models.md",
    "models.md",
    "segmentation.md",
    "transfer.md",
    "explaining.md",
    "exporting.md",
    "large_images.md",
    "looking_inside.md",
    "meshes.md",
    "cuboids.md",
    "dense_captions.md",
    "video.md",
    "video_captions.md",
    "scaling.md",
)
"""Documents whose commands train large networks, score hundreds of images, or have tests of their own."""
SHELL = [
    pytest.param(document, marks=[pytest.mark.slow] if document.name in SLOW else [])
    for document in DOCUMENTS
    if any(commands(document))
]


@pytest.mark.parametrize("document", PYTHON)
def test_the_python_in_a_document_runs(document: Path, place: Path) -> None:
    names: dict[str, object] = {"sightline": sightline}
    if "data = " not in "".join(blocks(document, "python")):  # it takes the reader's own
        names["data"] = sightline.open_dataset("DATA")
    for text in blocks(document, "python"):
        for pattern, smaller in SMALLER:
            text = re.sub(pattern, smaller, text)
        exec(compile(text, document.name, "exec"), names)


@pytest.mark.parametrize("document", SHELL, ids=lambda path: path.name)
def test_the_commands_in_a_document_run(document: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, words in enumerate(commands(document)):
        if words[0] == "sightline" and words[1] in SERVERS:
            continue
        assert words[0] == "sightline", f"{document.name} has the command {' '.join(words)}, which is not run"
        if words[1] == "train":
            joined = re.sub(r" --(minutes|epochs|weights) \S+", "", shlex.join(words))
            words = [*shlex.split(joined), *TRAINING.split()]
        if words[1] == "compare":
            words = [*shlex.split(re.sub(r" --minutes \S+", "", shlex.join(words))), *COMPARISON.split()]
        words = [word.replace("[NAME]", "sightline_n") for word in words]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, f"{document.name}, command {number}: {shlex.join(words)}"
