"""Export a model to one ONNX file with everything inside: images of any size in, results in pixels of the image out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sightline.deploy.certificate import Certificate
from sightline.deploy.differences import TOLERANCE, Difference, compare, example_images
from sightline.deploy.exporting import network
from sightline.deploy.exporting.class_maps import add_class_map, cell_size
from sightline.deploy.exporting.deform_operator import exportable
from sightline.deploy.exporting.dense_parts import DetectorPart
from sightline.deploy.exporting.facts import facts_of
from sightline.deploy.exporting.nodes import Node, Nodes, add_preprocessing, in_cells, shown
from sightline.deploy.exporting.part import Part
from sightline.deploy.exporting.parts import SegmenterPart, part_of, require_exportable
from sightline.deploy.exporting.pasting import add_pasted_boxes, add_pasted_grids
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.nn.layers import fuse
from sightline.runtime.files import require_new_file, written_whole
from sightline.runtime.optional import require
from sightline.structures import Size
from sightline.words import counted

Pixels = Literal["uint8", "float32"]
Masks = Literal["small", "pasted"]


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: the file.
        inputs, outputs: shape of each input and output by name; variable sizes are names.
        megabytes: size of the file.
        difference: largest differences from the model's own results; None if they were not compared.
        provider: what ran the file for this comparison.
        certificate: what the file scored on labelled images; None if it was not scored.
    """

    path: Path
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    megabytes: float
    difference: Difference | None = None
    provider: str = ""
    certificate: Certificate | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether results differ by at most 0.001 in scores and half a pixel; None if they were not compared."""
        return None if self.difference is None else self.difference.within(TOLERANCE)

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.megabytes:.1f} MB)"]
        for title, values in (("takes", self.inputs), ("gives", self.outputs)):
            lines.append(f"{title}: {', '.join(f'{name} {shape}' for name, shape in values.items())}".replace("'", ""))
        if self.difference is not None:
            own = "" if self.certificate is None or self.certificate.precision == "fp32" else "of the fp32 file "
            lines.append(f"largest differences {own}from the model, by {self.provider}: {self.difference}")
            if not self.agrees:
                lines.append("this is more than rounding explains; compare on your own images, or report a bug")
        if self.certificate is not None:
            lines += ["", str(self.certificate)]
        return "\n".join(lines)


def export(
    model: Model,
    path: str | Path,
    *,
    pixels: Pixels = "uint8",
    scores: bool = False,
    masks: Masks = "small",
    images: Sequence[Tensor] | None = None,
    check: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Write a model to an ONNX file that contains its preprocessing, network, decoding and suppression.

    The file takes a batch of images of one size, and the number and size of images are free. Its outputs are in pixels
    of these images. Names of classes, the score threshold, preprocessing, task and version are in its metadata.

    Args:
        model: a model of the catalog. It is not changed.
        path: the file to write, ending in .onnx.
        pixels: what the file takes: "uint8", or "float32" in [0, 1], which keeps the precision of 16-bit images.
        scores: for segmentation models: also give the probabilities of all classes, which takes most of the time of a
            small network.
        masks: for models with masks: "small" gives each mask on a grid over its box, "pasted" in the whole image, which
            takes 4 bytes per pixel of each of the largest number of masks.
        images: images [C, H, W] for the comparison; by default a few rendered scenes.
        check: run the file with ONNX Runtime and compare its results with the model's.
        tell: called with a sentence before each step.

    Returns:
        What was written, with the largest differences.

    Raises:
        InputError: the name does not end in .onnx, the file exists, a package is missing, or the model cannot be
            exported; the message says why.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: an exported model's file ends in .onnx; name it {path.stem}.onnx")
    require_new_file(path)
    if pixels not in ("uint8", "float32"):
        raise InputError(f"pixels is {pixels!r}, but must be 'uint8' or 'float32'")
    if masks not in ("small", "pasted"):
        raise InputError(f"masks is {masks!r}, but must be 'small' or 'pasted'")
    for module, needed in (("onnx", "onnx"), ("onnxscript", "onnxscript"), ("onnxruntime", "onnxruntime")):
        if module != "onnxruntime" or check:
            require(module, needed, "export", "export to ONNX")
    require_exportable(model)
    tell(f"exporting {model.title} to ONNX, which may take minutes")
    own = fuse(copy.deepcopy(model).cpu().float())
    exportable(own)
    network.not_in_place(own)
    graph = whole_graph(own, pixels, scores, masks == "pasted")
    tell("writing the fp32 file")
    written = _write(graph, path)
    if not check:
        return written
    from sightline.deploy.runtimes import open_exported

    given = list(images) if images is not None else example_images(model.in_channels, pixels)
    tell(f"comparing it with the model on {counted(len(given))}")
    opened = open_exported(path)
    found = compare(model, opened, given)
    return Exported(path, written.inputs, written.outputs, written.megabytes, found, opened.provider)


def whole_graph(model: Model, pixels: Pixels = "uint8", scores: bool = False, pasted: bool = False) -> Any:
    """The ONNX model (`onnx_ir.Model`) of a model in evaluation mode: preprocessing, its part, and what follows it.

    Args:
        model: the model, on the CPU, in float32 and with folded norms.
        pixels, scores: as in `export`.
        pasted: whether masks are pasted into the image.
    """
    import onnx_ir as ir

    part = part_of(model)
    if pasted and "masks" not in part.outputs:
        raise InputError(f"{model.title} predicts no masks that could be pasted into the image; leave masks out")
    fixed, size = example_size(model)
    images = ir.Value(
        name="images",
        type=ir.TensorType(ir.DataType.UINT8 if pixels == "uint8" else ir.DataType.FLOAT),
        shape=ir.Shape(["batch", model.in_channels, "height", "width"]),
    )
    front = Nodes()
    prepared, inner, original = add_preprocessing(front, model, images, pixels == "uint8")  # refuses before long work
    divisor, batch = model.preprocess.divisor, prepared
    if not fixed and divisor > 1:
        batch = in_cells(front, batch, divisor)
    graph = network.exported(part, size, divisor, fixed)
    body = graph.graph
    cameras = [
        ir.Value(name=network.CAMERAS, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 3, 3]))
    ] * part.takes_cameras
    found = {value.name: value for value in body.inputs}
    for name, value in zip(network.input_names(part), (batch, inner, original, *cameras), strict=True):
        if name in found:
            ir.convenience.replace_all_uses_with(found[name], value)
    body.inputs[:] = [images, *cameras]
    first = body[0]
    body.insert_before(first, front.tape.nodes)
    kind, meanings = part.kind, dict(part.outputs)
    if pasted:
        kind, meanings = DetectorPart.kind, _pasted(body, part, original)
    if part.kind == SegmenterPart.kind:
        back, cell = Nodes(), cell_size(model, size)
        maps = add_class_map(back, model.preprocess, body.outputs[0], prepared, inner, original, cell, scores)
        body.extend(back.tape.nodes)
        body.outputs[:] = maps
    _name_outputs(body, part.kind, list(meanings), model)
    graph.metadata_props.clear()
    graph.metadata_props.update(facts_of(model, kind, {v.name: meanings[v.name] for v in body.outputs}, pixels, fixed))
    graph.producer_name, graph.producer_version = "sightline", facts_version()
    for node in body:  # where each node came from, which is longer than the node itself
        node.metadata_props.clear()
    return graph


def facts_version() -> str:
    """The version of the library, for the file."""
    import sightline

    return sightline.__version__


def example_size(model: Model) -> tuple[bool, Size]:
    """Whether the network sees images of one size alone, and (height, width) of an example batch."""
    p, side = model.preprocess, getattr(model, "crop", None)
    if side is not None:
        return True, (int(side), int(side))
    if p.fixed_size is not None:
        return True, _padded(p.fixed_size, p.divisor)
    return False, _padded((max(256, 4 * p.divisor), max(320, 5 * p.divisor)), p.divisor)


def _padded(size: Size, divisor: int) -> Size:
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def _pasted(body: Any, part: Part, original: Node) -> dict[str, str]:
    """Add the nodes that paste masks into the image, and give the meaning of each output by name."""
    names, back = list(part.outputs), Nodes()
    found = dict(zip(names, body.outputs, strict=True))
    cells, on_grids = int(found["masks"].shape[-1]), "mask_boxes" in found
    boxes = found.pop("mask_boxes") if on_grids else found["boxes"]
    paste = add_pasted_grids if on_grids else add_pasted_boxes
    found["masks"] = paste(back, found["masks"], boxes, original, cells)
    body.extend(back.tape.nodes)
    body.outputs[:] = list(found.values())
    return {name: part.outputs[name] for name in found} | {"masks": "[N, D, H, W] bool, in pixels of the image"}


def _name_outputs(body: Any, kind: str, names: list[str], model: Model) -> None:
    """Name the graph's outputs, and give them their types and shapes."""
    import onnx_ir as ir

    inside = [value for node in ir.traversal.RecursiveGraphIterator(body) for value in node.outputs]
    for value in [*inside, *body.initializers.values()]:
        if value.name in names:  # as a variable of a loop
            value.name = f"inner_{value.name}"
    kinds = {"labels": ir.DataType.INT64, "count": ir.DataType.INT64}
    most = next((v.shape[1] for v, name in zip(body.outputs, names, strict=False) if name == "boxes"), None)
    behind = ["height", "width"] if kind == SegmenterPart.kind else []
    for value, name in zip(body.outputs, names, strict=False):
        value.name = name
        pasted = name == "masks" and value.shape is None
        value.type = ir.TensorType(ir.DataType.BOOL if pasted else kinds.get(name, ir.DataType.FLOAT))
        sides = [most, "height", "width"] if pasted else [] if value.shape is None else list(value.shape)[1:]
        if behind:
            sides = [len(model.classes)] * (name == "scores") + behind
        value.shape = ir.Shape(["batch", *sides])


def _write(graph: Any, path: Path) -> Exported:
    """Write the model, and describe it."""
    import onnx_ir as ir

    with written_whole(path) as partial:
        ir.save(graph, partial)
    inputs, outputs = ({v.name: shown(v.shape) for v in values} for values in (graph.graph.inputs, graph.graph.outputs))
    return Exported(path, inputs, outputs, path.stat().st_size / 1e6)
