"""Exported models run by ONNX Runtime or OpenVINO, as models with the usual calls and results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.deploy.certificate import Certificate, certificate_in
from sightline.deploy.exporting.cameras import as_input, cameras_of, seen_by
from sightline.deploy.exporting.facts import FOCAL, preprocess_from, read_facts
from sightline.deploy.exporting.parts import READERS
from sightline.deploy.openvino_gathering import gather_vectors
from sightline.deploy.openvino_resizing import INNER_SIZE, replace_antialiased, size_as_input, with_shapes
from sightline.deploy.sizes import PerSize, Run, Shapes, short
from sightline.errors import InputError
from sightline.models.model import Losses, Model
from sightline.models.spatial.cameras import warn_of_assumed
from sightline.models.spatial.cube_rcnn import UNKNOWN_DISTANCES
from sightline.runtime.optional import require
from sightline.structures import Camera, ImageBatch, Size
from sightline.words import listed

RUNTIMES = ("onnxruntime", "openvino")


class ExportedModel(Model):
    """A model in an exported file. It predicts like every model, but has no losses and no weights.

    Images of one size form a batch. Images that are not of the file's dtype are converted: float in [0, 1] is rounded
    to 256 levels for a file that takes uint8.

    Args:
        facts: the metadata of the file, of `read_facts`.
        run: runs the file.
        provider: what runs it, such as "ONNX Runtime, CPUExecutionProvider".
        path: the file.

    Attributes:
        provider, path: as given.
        facts: as given.
    """

    def __init__(self, facts: dict[str, Any], run: Run, provider: str, path: Path):
        super().__init__(facts["classes"], preprocess_from(facts["preprocess"]))
        self.facts, self.provider, self.path = facts, provider, path
        self.task, self.name, self.metadata = facts["task"], facts["model"], facts["metadata"]
        self.unsaveable = f"{path} is an exported model; copy its file instead of saving it"
        self.takes_cameras = FOCAL in facts
        self._told = False
        self._run = run
        self.eval()

    @property
    def title(self) -> str:
        """The name in the catalog, and what runs it."""
        return f"{self.name or 'exported model'} ({self.provider})"

    @property
    def certificate(self) -> Certificate | None:
        """What the file scored on labelled images when it was exported; None if it was not scored."""
        return certificate_in(self.facts)

    def extra_repr(self) -> str:
        """The file, what it predicts, and what runs it, for `print`."""
        rows = {
            "file": self.path,
            "model": f"{self.name or 'of your own'}, {self.task.replace('_', ' ')}",
            "classes": f"{len(self.classes)}: {listed(list(self.classes), 6, 'classes')}",
        }
        if "boxes" in self.facts["outputs"]:
            stored = self.metadata.get("threshold")
            shown = f"{stored:.3g}" if isinstance(stored, float) else stored
            none = "none is saved with the model; predict uses 0.5"
            rows["threshold"] = none if stored is None else f"{shown}, used by predict"
        rows["runs by"] = self.provider
        return "\n".join(f"{name}: {value}" for name, value in rows.items())

    def forward(self, images: Sequence[Tensor], targets: Sequence[Any] | None = None) -> Losses | list[Any]:
        """Images [C, Hi, Wi] → one result per image.

        Raises:
            InputError: targets are given, or an image has another number of channels.
        """
        if targets is not None:
            raise InputError(f"{self.path}: an exported model has no losses; train the model that it was exported from")
        self.preprocess.check(images)
        results: dict[int, Any] = {}
        for group in self.groups(images):
            rows = [self.as_input(images[i]) for i in group]
            batch = torch.stack(rows) if len(rows) > 1 else rows[0][None].contiguous()  # one image is not copied
            inputs, cameras = {"images": batch.numpy()}, self._cameras([images[i] for i in group])
            if cameras:
                inputs["cameras"] = as_input(cameras).numpy()
            arrays = self._run(inputs)
            self._require_known_classes(arrays.get("labels"))
            outputs = {name: torch.from_numpy(value) for name, value in arrays.items()}
            sizes: list[Size] = [(batch.shape[-2], batch.shape[-1])] * len(group)
            found = READERS[self.facts["kind"]](outputs, sizes, self.classes)
            if cameras:
                found = [seen_by(own, camera) for own, camera in zip(found, cameras, strict=True)]
            results.update(zip(group, found, strict=True))
        return [results[i] for i in range(len(images))]

    def _cameras(self, images: Sequence[Tensor]) -> list[Camera]:
        """The camera of each image if the file takes cameras; else none."""
        if not self.takes_cameras:
            return []
        focal = self.facts[FOCAL]
        cameras = cameras_of(images, focal)
        if not self._told and any(camera.assumed for camera in cameras):
            warn_of_assumed(focal, UNKNOWN_DISTANCES)
            self._told = True
        return cameras

    def _require_known_classes(self, labels: np.ndarray | None) -> None:
        """Check that the graph has no more classes than the metadata names, so that no result has a wrong name.

        Raises:
            InputError: it has.
        """
        known = len(self.classes)
        if labels is not None and labels.size and int(labels.max()) >= known:
            raise InputError(
                f"{self.path}: the file gives class {int(labels.max())}, but its metadata names only classes 0 to "
                f"{known - 1}; export the model again"
            )

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Group images of one size: lists of positions."""
        found: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            found.setdefault(tuple(image.shape), []).append(i)
        return list(found.values())

    def batch_results(self, batch: ImageBatch) -> Sequence[Any]:
        """Not available: the file contains its preprocessing."""
        raise InputError(f"{self.path}: an exported model takes images, not preprocessed batches; call model(images)")

    def as_input(self, image: Tensor) -> Tensor:
        """An image [C, H, W] with the dtype that the file takes."""
        image = image.detach().cpu()
        if self.facts["dtype"] == "uint8":
            return image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
        return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def open_exported(
    path: str | Path, runtime: str = "onnxruntime", device: str | torch.device | None = None
) -> ExportedModel:
    """Open an exported file.

    Args:
        path: a file written by `sightline export`.
        runtime: "onnxruntime" or "openvino".
        device: "cpu" or "cuda"; None for the CPU. ONNX Runtime needs its GPU package for "cuda".

    Raises:
        InputError: there is no such file, it was not written by Sightline, the runtime is not installed or does not
            have the device, or it cannot read the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a file written by sightline export")
    if runtime not in RUNTIMES:
        raise InputError(f"runtime is {runtime!r}, but must be one of {', '.join(RUNTIMES)}")
    return (_with_onnx_runtime if runtime == "onnxruntime" else _with_openvino)(path, str(device or "cpu"))


def _with_onnx_runtime(path: Path, device: str) -> ExportedModel:
    require("onnxruntime", "onnxruntime", "export", "running an ONNX file")
    import onnxruntime

    wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    there = onnxruntime.get_available_providers()
    if wanted not in there:
        raise InputError(
            f"device is {device!r}, but this ONNX Runtime has only {', '.join(there)}; install onnxruntime-gpu, or "
            "leave the device out"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # the runtime's errors have no common public class
        raise InputError(f"{path}: ONNX Runtime cannot read this file ({short(error)}); export it again") from None
    facts = read_facts(session.get_modelmeta().custom_metadata_map, str(path))
    names = [output.name for output in session.get_outputs()]
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    require_own_graph(facts, {one.name: types.get(one.type, one.type) for one in session.get_inputs()}, names, path)

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, given), strict=True))

    return ExportedModel(facts, run, f"ONNX Runtime, {session.get_providers()[0]}", path)


def _with_openvino(path: Path, device: str) -> ExportedModel:
    require("openvino", "openvino", "openvino", "running a file with OpenVINO")
    require("onnx", "onnx", "export", "reading the metadata of an ONNX file")
    import onnx
    import openvino

    if device != "cpu":
        raise InputError(f"device is {device!r}, but OpenVINO runs on the CPU here; leave the device out")
    core = openvino.Core()
    # without the hint, processors with bfloat16 would compute in it
    precise = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        header = onnx.load(str(path), load_external_data=False)
        read = core.read_model(str(path))
        gather_vectors(read)
        model = read.clone()
        replace_antialiased(model)
        takes_size = size_as_input(model)
        began = time.perf_counter()
        compiled = core.compile_model(model, "CPU", precise)
        seconds = time.perf_counter() - began
    except Exception as error:  # as above
        raise InputError(f"{path}: OpenVINO cannot read this file ({short(error)}); use onnxruntime") from None
    facts = read_facts({entry.key: entry.value for entry in header.metadata_props}, str(path))
    names = [output.get_any_name() for output in compiled.outputs]
    types = {"u8": "uint8", "f32": "float32"}
    inputs = {one.get_any_name(): one.get_element_type().get_type_name() for one in read.inputs}
    require_own_graph(facts, {name: types.get(kind, kind) for name, kind in inputs.items()}, names, path)

    def running(compiled: Any) -> Run:
        request = compiled.create_infer_request()

        def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {name: np.array(found[i]) for i, name in enumerate(names)}  # the next call overwrites what it shares

        return run

    def for_shapes(shapes: Shapes) -> Run:
        return running(core.compile_model(with_shapes(read, dict(shapes)), "CPU", precise))

    general, preprocess = running(compiled), preprocess_from(facts["preprocess"])

    def sized(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inner = preprocess.fitted(given["images"].shape[2:])
        return general({**given, INNER_SIZE: np.array(inner, np.int64)})

    run = PerSize(sized if takes_size else general, for_shapes, seconds)
    return ExportedModel(facts, run, f"OpenVINO, {compiled.get_property('EXECUTION_DEVICES')[0]}", path)


def require_own_graph(facts: dict[str, Any], inputs: dict[str, str], outputs: list[str], path: Path) -> None:
    """Check that the inputs (with their dtypes) and outputs of a file are those that its metadata describes.

    Raises:
        InputError: they are not, or this version does not know the kind of results.
    """
    wanted = {"images": facts["dtype"]} | ({"cameras": "float32"} if FOCAL in facts else {})
    if inputs != wanted or not set(facts["outputs"]) <= set(outputs) or facts["kind"] not in READERS:
        raise InputError(
            f"{path}: its graph and its metadata do not belong together: it takes {inputs} and gives "
            f"{', '.join(outputs)}, but should take {wanted} and give {', '.join(facts['outputs'])} "
            f"({facts['kind']}); export the model again"
        )
