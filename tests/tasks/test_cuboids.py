"""3-D boxes from labels to a report, by the command line and in Python; cameras that are known, assumed or wrong."""

from __future__ import annotations

import json
import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sightline as sl
from sightline.data.cuboids import cuboid_arguments
from sightline.data.transforms import Compose, HorizontalFlip, Rotate
from sightline.errors import InputError
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.cuboid import CuboidCoder, RegionCameras, cuboid_losses, depth_channels
from sightline.ops.cuboid_iou import paired_cuboid_iou
from sightline.ops.cuboids import cuboid_parts, cuboids_from_parts, moved_cuboids, project
from sightline.ops.rotations import rotation_to_6d, view_rotation
from sightline.report.draw_cuboids import outline
from sightline.structures import Classes, Instances, View
from sightline.verbs.explained import parse_target
from tests.test_cli import done

SMALL = ("min_size=64", "max_size=96", "channels=16", "hidden=32")
OPTIONS = [*(part for value in SMALL for part in ("--arg", value)), "--batch-size", "4", "--set", "workers=0", "-q"]
QUIET = ("-q", "--device", "cpu")
MATRIX = [[70.0, 0, 40], [0, 70, 32], [0, 0, 1]]
CUBOIDS = torch.tensor(
    [[0.3, -0.2, 4.0, 0.5, 0.7, 0.9, 0.1, 0.2, 0.8], [-0.8, 0.4, 6.0, 1.0, 0.6, 0.4, 0.0, -0.3, 2.0]]
)


@cache
def plain_model() -> Any:
    """A model that no test changes."""
    return small()


def small(depth: bool = False, **more: Any) -> Any:
    torch.manual_seed(0)
    few = BoxSettings(samples=32, min_score=0.01, max_detections=4)
    arguments = {"min_size": 64, "max_size": 96, "channels": 16, "hidden": 32, "boxes": few} | more
    return sl.create_model("cube_rcnn_lite0_fpn", ["cup", "box"], depth=depth, **arguments).eval()


def picture(depth: float | None = None) -> View:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, 64, 80), generator=generator, dtype=torch.uint8)
    far = None if depth is None else torch.full((64, 80), depth)
    return sl.View(pixels, MATRIX, far)


def labels(cuboids: Tensor = CUBOIDS) -> Instances:
    boxes = torch.tensor([[30.0, 15, 60, 40], [15.0, 20, 45, 50]])[: len(cuboids)]
    return Instances(
        (64, 80),
        classes=Classes(["cup", "box"]),
        boxes=boxes,
        labels=[0, 1][: len(boxes)],
        cuboids=cuboids,
        source="a.png",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    done("scenes", out, "--kind", "cuboids", "--train", "4", "--val", "2", "--test", "0", "--size", "64", "-q")
    return out


def test_the_command_line_from_scenes_to_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Training can start" in done("check", folder).out
    done("look", folder, "-n", "2", "-o", "look.png")
    done("train", folder, "--epochs", "1", "--name", "a", *OPTIONS, "--device", "cpu", "--arg", "depth=true")
    row = json.loads(Path("runs/a/metrics.jsonl").read_text())
    assert {"val/AP3D", "val/AP3D25", "train/loss_depth", "train/loss_uncertainty"} <= row.keys()

    model, train = sl.load("runs/a"), sl.open_dataset(folder)["train"]
    assert model.depth_input is not None
    own = cuboid_arguments(train)
    assert model.assumed_focal == own["assumed_focal"]
    assert model.roi_heads.coder.virtual_depth == tuple(own["virtual_depth"])
    assert model.roi_heads.coder.class_sides[1:].tolist() == [pytest.approx(row) for row in own["class_sides"]]

    done("evaluate", "runs/a", "--json", "found.json", *QUIET)
    measured = json.loads(Path("found.json").read_text())
    assert (measured["task"], measured["protocol"]) == ("cuboids", "Omni3D AP3D")

    done("predict", "runs/a", folder / "val", "--out", "out", "--save", "json,kitti", "--threshold", "0.001", *QUIET)
    saved = json.loads(Path("out/predictions.json").read_text())
    assert all(len(entry["cuboids"]) == 9 for entry in saved["annotations"])
    assert saved["images"][0]["camera"]["assumed"] is True
    lines = [line for file in Path("out/labels").glob("*.txt") for line in file.read_text().splitlines()]
    assert len(lines) == len(saved["annotations"]) > 0
    assert {len(line.split()) for line in lines} == {16}

    Path("runs/a/report.html").unlink()
    done("report", "runs/a")
    assert "Recall by 3-D IoU" in Path("runs/a/report.html").read_text()


def test_what_the_data_determines() -> None:
    images = [sl.View(torch.zeros(3, 64, 80, dtype=torch.uint8), np.diag([f, f, 1])) for f in (32.0, 64, 64)]
    far = CUBOIDS.clone()
    far[:, 2] = 8
    crowd = labels().replace(crowd=torch.tensor([True, True]))
    data = sl.Dataset.from_instances(images, [labels(far), labels(far), crowd], ["cup", "box", "none"])
    found = cuboid_arguments(data)
    assert found["assumed_focal"] == 1
    assert found["class_sides"][:2] == [[0.5, 0.7, 0.9], [1, 0.6, 0.4]]
    assert found["class_sides"][2] == pytest.approx([0.75, 0.65, 0.65])  # the mean of all
    # virtual depths of 16 and 8: the logarithms' mean and deviation
    assert found["virtual_depth"] == (
        pytest.approx(math.log(128) / 2, abs=1e-4),
        pytest.approx(math.log(2) / 2, abs=1e-4),
    )
    assert cuboid_arguments(sl.scenes(1, 48, kind="class_scores", objects=(1, 1))) == {}
    assert cuboid_arguments("no dataset") == {}


def outputs_of(cuboids: Tensor, cameras: RegionCameras, coder: CuboidCoder) -> Tensor:
    """The outputs of a network that is right about everything, by the paper's formulas."""
    centres, sides, rotations = cuboid_parts(moved_cuboids(cuboids, cameras.frames))
    x1, y1, x2, y2 = cameras.boxes.unbind(1)
    pixels = project(centres[:, None], cameras.intrinsics)[:, 0]
    offsets = (pixels - torch.stack([x1 + x2, y1 + y2], 1) / 2) / torch.stack([x2 - x1, y2 - y1], 1)
    mean, deviation = coder.virtual_depth
    depth = ((centres[:, 2] * cameras.heights / cameras.intrinsics[:, 1, 1]).log() - mean) / deviation
    allocentric = view_rotation(centres).mT @ rotations
    parts = [offsets, depth[:, None], (sides / coder.class_sides[1:]).log(), rotation_to_6d(allocentric)]
    return torch.cat([*parts, torch.full((len(cuboids), 1), -50.0)], 1)


@pytest.mark.parametrize("change", [None, HorizontalFlip(1), Rotate((20.0, 20.0))], ids=["plain", "flip", "turn"])
def test_right_outputs_cost_nothing_and_decode_to_the_labels(change: Any) -> None:
    """Also in a mirrored or rotated image, whose camera is mirrored or rotated, and which the network sees as it is."""
    image, target = picture(), labels()
    if change is not None:
        image, target = Compose([change], min_visible=0)(image, target, np.random.default_rng(0))
    model = small(class_sides=[[0.6, 0.6, 0.6], [0.8, 0.8, 0.8]])
    batch, (moved,) = model.prepare([image], [target])
    cameras = RegionCameras.of([moved.boxes], batch)
    assert (cameras.intrinsics.diagonal(dim1=1, dim2=2) > 0).all()
    coder = model.roi_heads.coder
    decoded = coder(outputs_of(target.cuboids, cameras, coder), moved.labels, cameras)
    losses = cuboid_losses(decoded, target.cuboids, cameras)
    assert max(float(loss) for loss in losses.values()) < 1e-4
    found = moved_cuboids(cuboids_from_parts(*decoded.parts(cameras)), cameras.frames.mT)
    assert paired_cuboid_iou(found, target.cuboids).min() > 0.999
    assert (-decoded.uncertainty).exp().tolist() == [1, 1]


def test_losses_are_apart_and_know_symmetries() -> None:
    model = plain_model()
    batch, (moved,) = model.prepare([picture()], [labels()])
    cameras, coder = RegionCameras.of([moved.boxes], batch), model.roi_heads.coder
    right = outputs_of(CUBOIDS, cameras, coder)
    names = ("loss_centre", "loss_depth", "loss_sides", "loss_rotation")
    for name, columns in zip(names, (slice(0, 2), slice(2, 3), slice(3, 6), slice(6, 12)), strict=True):
        wrong = right.clone()
        wrong[:, columns] += 0.3
        losses = cuboid_losses(coder(wrong, moved.labels, cameras), CUBOIDS, cameras)
        assert float(losses[name]) > 0.02
        assert max(float(losses[other]) for other in names if other != name) < 1e-4
        assert float(losses["loss_cuboid"]) > 0.02
    # turned by half a turn about its height, the cuboid is the same
    half = right.clone()
    half[:, 6:9] *= -1
    losses = cuboid_losses(coder(half, moved.labels, cameras), CUBOIDS, cameras)
    assert float(losses["loss_rotation"]) < 1e-4
    assert float(losses["loss_cuboid"]) < 1e-4
    # depth by hand: all eight corners move along the ray of the centre, relative to the object's size
    wrong = right.clone()
    wrong[:, 2] += 1
    centres, sides, _ = cuboid_parts(CUBOIDS)
    moved_by = (centres * (math.exp(coder.virtual_depth[1]) - 1)).abs().sum(1) / sides.square().mean(1).sqrt()
    found = cuboid_losses(coder(wrong, moved.labels, cameras), CUBOIDS, cameras)["loss_depth"]
    assert float(found) == pytest.approx(math.sqrt(2) * float(moved_by.mean()), rel=1e-4)


def test_virtual_depth_does_not_depend_on_zoom_or_resolution() -> None:
    """A camera of twice the focal length sees the same image of an object twice as far away."""
    boxes = torch.tensor([[10.0, 10, 30, 40]])
    found = []
    for matrix, size in ((MATRIX, 64), ([[140.0, 0, 40], [0, 140, 32], [0, 0, 1]], 64), (MATRIX, 96)):
        model = small(min_size=size, max_size=2 * size)
        image = View(picture().as_subclass(Tensor), matrix)
        batch, _ = model.prepare([image], None)
        cameras = RegionCameras.of([batch.in_batch(boxes)], batch)
        found.append(float(model.roi_heads.coder(torch.zeros(1, 13) + 0.5, torch.tensor([1]), cameras).depths))
    assert found[1] == pytest.approx(2 * found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_a_camera_is_assumed_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    model, image = small(assumed_focal=1.5), picture()
    plain = image.as_subclass(Tensor)
    with caplog.at_level(logging.WARNING, logger="sightline"), torch.no_grad():
        (known,) = model([image])
        assert not caplog.messages
        (guessed,), _ = model([plain]), model([plain])
    assert len(caplog.messages) == 1
    assert "a focal length of 1.5 heights of the image is assumed" in caplog.messages[0]
    assert "camera_guess" not in known
    assert known.cameras[0].tolist() == [pytest.approx(row, abs=1e-3) for row in MATRIX]
    assert guessed.camera_guess.all()
    assert guessed.cameras[0].tolist() == [[96, 0, 40], [0, 96, 32], [0, 0, 1]]
    drawn = sl.draw(plain, guessed, size=120)
    assert drawn.size == (120 + 4 + 96, 96)  # the image, and a square from above


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (2, -3.0, r"a\.png: cuboid 1 is behind the camera: its centre has z = -3 metres"),
        (2, 0.0, r"a\.png: cuboid 1 is behind the camera"),
        (4, 0.0, r"a\.png: cuboid 1 has the sides 1, 0, 0\.4 metres \(w, h, l\), but each must be above 0"),
    ],
)
def test_impossible_targets_are_refused(column: int, value: float, words: str) -> None:
    wrong = CUBOIDS.clone()
    wrong[1, column] = value
    with pytest.raises(InputError, match=words):
        plain_model()([picture()], [labels(wrong)])
    unknown = CUBOIDS.clone()
    unknown[1] = math.nan  # the box is learned, the cuboid is not
    assert all(loss.isfinite() for loss in plain_model()([picture()], [labels(unknown)]).values())
    unknown[0] = math.nan
    assert plain_model()([picture()], [labels(unknown)])["loss_depth"].detach() == 0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="class_sides must be 2 lists of w, h, l above 0"):
        small(class_sides=[[1, 1, 1]])
    with pytest.raises(InputError, match="class_sides must be 2 lists"):
        small(class_sides=[[1, 1, 1], [1, 0, 1]])
    with pytest.raises(InputError, match="the deviation of virtual_depth and the focal length must be above 0"):
        small(virtual_depth=(1.0, 0.0))


def test_depth_maps_are_an_input() -> None:
    model = small(depth=True)
    batch, _ = model.prepare([picture(4.0)], None)
    channels = depth_channels(batch, (1.0, 0.5))
    assert channels.shape == (1, 2, *batch.tensor.shape[-2:])
    focal = float(batch.cameras[0].intrinsics[1, 1])
    expected = (math.log(4 * batch.sizes[0][0] / focal) - 1) / 0.5
    assert channels[0, 0, 3, 3].item() == pytest.approx(expected, abs=1e-5)
    assert channels[0, 1, 3, 3] == 1
    model.depth_input.weight.data.normal_(0, 0.1)
    model.roi_heads.cuboid_predictor.cuboid_pred.weight.data.normal_(0, 0.05)
    with torch.no_grad():
        near, far, none = (model([picture(value)])[0] for value in (2.0, 20.0, None))
    assert not torch.equal(near.cuboids, far.cuboids)
    assert len(none)
    assert plain_model().depth_input is None


def test_the_depth_of_a_cuboid_is_explained() -> None:
    model, image = small().requires_grad_(False), picture()
    model.roi_heads.cuboid_predictor.cuboid_pred.weight.data.normal_(0, 0.1)
    with torch.no_grad():
        (result,) = model([image])
    target = parse_target("depth:1", model, image)
    metres = float(result.cuboids[1, 2])
    assert target.describe(model).startswith(f"depth ({metres:.2f} m) of box 1: ")
    batch, _ = model.prepare([image], None)
    assert float(target.score(model, batch).exp()) == pytest.approx(metres, rel=1e-3)
    assert float(target.score(model, batch.with_copies(batch.tensor * 0)).exp()) != pytest.approx(metres, rel=1e-6)
    with pytest.raises(InputError, match="99"):
        parse_target("depth:99", model, image)
    plain = sl.create_model("ssdlite320_mobilenet_v2", ["cup"]).eval()
    with pytest.raises(InputError, match="ssdlite320_mobilenet_v2 predicts no cuboids"):
        sl.explain.cuboid_targets.cuboid_depth(plain, image, 0)


def test_outlines_from_above() -> None:
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert outline([(0.5, 0.5), *square, (0.5, 0)]) == [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert outline([(2, 1)]) == []
    assert outline([(0, 0), (2, 2), (1, 1)]) == [(0, 0), (2, 2)]


def test_drawing_cuboids() -> None:
    image, target = picture(), labels()
    drawn = np.asarray(sl.draw(image, target, size=320))
    assert drawn.shape == (256, 320 + 4 + 256, 3)
    colours = [tuple(map(int, sl.report.colours.class_colour(k))) for k in (0, 1)]
    corner = project(torch.tensor([[0.3, -0.2, 4.0]]), torch.tensor(MATRIX))[0] * 4
    x, y = (round(v) for v in corner.tolist())
    around = drawn[y - 60 : y + 60, x - 60 : x + 60].reshape(-1, 3)
    assert (around == colours[0]).all(1).any()  # edges of the first cuboid are near the place of its centre
    above = drawn[:, 324:].reshape(256, 256, 3)
    rows = [np.flatnonzero((above == colour).all(2).any(1)).mean() for colour in colours]
    assert rows[1] < rows[0]  # what is farther away is higher
    # one reaches behind the camera: its edges are cut there
    sl.draw(image, labels(torch.tensor([[0.0, 0, 0.3, 2, 2, 2, 0, 0, 0.5]])), size=200)
    # without a camera the boxes are drawn
    plain = sl.draw(image.as_subclass(Tensor), target, size=320)
    assert plain.size == (320 + 4 + 256, 256)
