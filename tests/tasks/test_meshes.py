"""Meshes from labels to a report, by the command line and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.mesh_files import read_mesh
from sightline.errors import InputError
from sightline.explain.cases import box_cases
from sightline.explain.mesh_targets import depth_target, shape_target
from sightline.tasks import TASKS
from tests.test_cli import done

SMALL = ("min_size=64", "max_size=96", "channels=16", "hidden=16", "grid=8", "voxel_width=8", "depth_hidden=8")
SMALL += ("mesh_width=8", "stages=1")
OPTIONS = [*(part for value in SMALL for part in ("--arg", value)), "--batch-size", "2", "--set", "workers=0", "-q"]
QUIET = ("-q", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    counts = ("--train", "2", "--val", "1", "--test", "0")
    done("scenes", out, "--kind", "meshes", "--objects", "1", "2", *counts, "--size", "64", "-q")
    return out


def test_the_command_line_from_scenes_to_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Training can start" in done("check", folder).out
    done("look", folder, "-n", "1", "-o", "look.png")
    with Image.open("look.png") as picture:
        assert picture.width > 260  # the shapes alone are beside the image
    done("train", folder, "--epochs", "1", "--name", "a", *OPTIONS, "--device", "cpu", "--weights", "none")
    row = json.loads(Path("runs/a/metrics.jsonl").read_text())
    assert {"val/F1@0.3", "val/AP_mesh", "train/loss_voxel", "train/loss_chamfer"} <= row.keys()
    page = Path("runs/a/report.html").read_text()
    assert "Shapes are drawn over the image" in page
    assert page.count("<canvas") >= 2  # of the labels at least

    model = sl.load("runs/a")
    assert (model.name, model.task) == ("mesh_rcnn_lite0_fpn", "meshes")
    sl.save(model.eval(), "model.safetensors")
    image = sl.open_dataset(folder)["val"].with_fields("meshes").image(0)
    again = sl.load("model.safetensors").eval()
    with torch.no_grad():
        one, other = (own([image])[0] for own in (model.eval(), again))
    assert torch.equal(one.depths, other.depths)

    assert "F1@0.3" in done("evaluate", "runs/a", folder, "--split", "val", *QUIET).out
    found = done("predict", "runs/a", folder / "val", "--out", "found", "--threshold", "0.01", *QUIET).out
    assert "meshes as OBJ in meshes/" in found
    table = json.loads(Path("found/predictions.json").read_text())
    assert len(table["annotations"]) > 0
    for entry in table["annotations"]:
        mesh = read_mesh(Path("found") / entry["mesh"])
        low, high = mesh.bounds
        assert 0 < float(low[2]) < entry["depth"] * 1.5
        assert float(high[2]) > entry["depth"] * 0.5
    assert len(list(Path("found").glob("*.png"))) == 1
    image_file = next((folder / "val").rglob("*.png"))
    done("explain", "runs/a", image_file, "--for", "mesh:0", "--method", "layer_cam", "--out", "why", *QUIET)
    assert list(Path("why").rglob("*.png"))


@pytest.mark.parametrize("kind", ["ply", "glb"])
def test_other_mesh_files_are_written_by_name(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    data = sl.scenes(1, 64, kind="meshes", objects=(1, 1))
    arguments = {"image_size": 64, "grid": 8, "stages": 1, "mesh_width": 8}
    model = sl.create_model("mesh_rcnn_lite0_fpn", data.classes, **arguments)
    done_ = sl.predict_to_folder(model, data, tmp_path / "out", save=f"{kind},csv", threshold=0.01, draw=None)
    assert {"predictions.json", "predictions.csv", "meshes/"} == set(done_.files)
    files = list((tmp_path / "out" / "meshes").iterdir())
    assert len(files) == done_.objects > 0
    assert all(file.suffix == f".{kind}" and len(read_mesh(file).faces) for file in files)
    plain = sl.predict_to_folder(model, data, tmp_path / "json", save="json", threshold=0.01, draw=None)
    assert plain.files == ["predictions.json", "meshes/"]
    assert all(file.suffix == ".obj" for file in (tmp_path / "json" / "meshes").iterdir())


def test_the_data_chooses_the_task_and_the_model() -> None:
    assert TASKS["meshes"].labels.about == "meshes"
    data = sl.scenes(1, 48, kind="meshes")
    assert data.about == "meshes"
    plain = sl.scenes(1, 48)
    with pytest.raises(InputError, match="mesh_rcnn_lite0_fpn learns from meshes, but the dataset has no field"):
        sl.train("mesh_rcnn_lite0_fpn", plain, epochs=1, progress=False)


def test_shapes_and_depths_are_explained() -> None:
    data = sl.scenes(1, 64, seed=2, kind="meshes", objects=(1, 1)).with_fields("meshes")
    image, target = data[0]
    torch.manual_seed(0)
    model = sl.create_model("mesh_rcnn_lite0_fpn", data.classes, image_size=64, grid=8, stages=1).eval()
    batch, _ = model.prepare([image], None)
    shape, depth = shape_target(model, image, ["0"]), depth_target(model, image, ["0"])
    assert shape.occupied.shape == (8, 8, 8)
    with torch.no_grad():
        voxels, depths = model.shapes_of(batch, torch.tensor([shape.of.batch_box]))
    assert shape.score(model, batch).item() == pytest.approx(float(voxels[0][shape.occupied].mean()), abs=1e-6)
    assert depth.score(model, batch).item() == pytest.approx(float(depths[0, 0]), abs=1e-6)
    assert shape.describe(model).startswith("shape of box 0: ")
    assert depth.describe(model).startswith("depth of box 0: ")
    assert (shape.box, shape.level) == (depth.box, depth.level)
    assert len(list(box_cases(model, "a", image, target))) <= 1
    other = sl.create_model("faster_rcnn_mobilenet_v2_fpn", data.classes, image_size=64)
    with pytest.raises(InputError, match=r"predicts no meshes, so mesh:… is no target of it"):
        shape_target(other, image, ["0"])
    with pytest.raises(InputError, match="box 99 is not one of them"):
        shape_target(model, image, ["99"])
