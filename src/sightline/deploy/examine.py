"""Examine an exported file: what it takes and gives, what it scored, and whether it has changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sightline.checks import Check, Checks
from sightline.deploy.certificate import KEY, Certificate, certificate_in, unchanged
from sightline.deploy.exporting.cameras import TAKEN
from sightline.deploy.exporting.facts import FOCAL, read_facts
from sightline.deploy.runtimes import require_own_graph
from sightline.deploy.thresholds import SAVED_THRESHOLD
from sightline.errors import InputError
from sightline.runtime.optional import require
from sightline.words import counted, listed


def examine(path: str | os.PathLike[str]) -> Checks:
    """Check an exported file: its inputs, outputs, classes, threshold and preprocessing, and its certificate.

    The file is not run. Only the package onnx is needed.

    Args:
        path: a file written by `sightline export`.

    Returns:
        A list of `Check`; one is an error if the file has changed since its certificate was written.

    Raises:
        InputError: there is no such file, it cannot be read, or it was not written by Sightline.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a file written by sightline export")
    require("onnx", "onnx", "export", "examining an exported file")
    import onnx

    try:
        content = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no common public class
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: this is no ONNX file, or it is damaged ({text}); export it again") from None
    facts = read_facts({entry.key: entry.value for entry in content.metadata_props}, str(path))
    initial = {value.name for value in content.graph.initializer}
    types = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}
    inputs = {
        value.name: types.get(value.type.tensor_type.elem_type, "another type")
        for value in content.graph.input
        if value.name not in initial
    }
    require_own_graph(facts, inputs, [value.name for value in content.graph.output], path)
    return Checks([*_file(path, content, facts), *_certificate(path, facts)])


def _file(path: Path, content: Any, facts: Mapping[str, Any]) -> Iterator[Check]:
    rows = {
        "file": f"{path}, {path.stat().st_size / 1e6:.1f} MB",
        "model": f"{facts['model'] or 'of your own'}, {facts['task']}, exported by sightline {facts['version']}",
        "images": facts["images"],
        **({"cameras": TAKEN} if FOCAL in facts else {}),
        **{value.name: facts["outputs"].get(value.name, _shape(value)) for value in content.graph.output},
        "classes": f"{len(facts['classes'])}: {listed(facts['classes'], 20, 'classes')}",
        "preprocessing": f"{facts['preprocess']['description']} (inside the file)",
    }
    for name, value in rows.items():
        yield Check("file", name, "ok", str(value))
    threshold = facts["metadata"].get("threshold")
    if facts["kind"] != "objects":
        return
    if threshold is None:
        yield Check("file", "threshold", "ok", "none is saved with the model; predict uses 0.5")
    elif isinstance(threshold, int | float) and 0 <= threshold <= 1:
        yield Check("file", "threshold", "ok", f"{threshold:.3g}, used by predict: {SAVED_THRESHOLD}")
    else:
        value = f"{threshold!r}, which is not a score from 0 to 1"
        yield Check("file", "threshold", "error", value, "export the model again, or predict with --threshold 0.5")


def _shape(value: Any) -> str:
    sides = value.type.tensor_type.shape.dim
    return f"[{', '.join(side.dim_param or str(side.dim_value) for side in sides)}]"


def _certificate(path: Path, facts: Mapping[str, Any]) -> Iterator[Check]:
    try:
        found = certificate_in(facts)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if found is None:
        advice = "sightline export MODEL FILE --data DATA scores the file on labelled images"
        yield Check("certificate", "certificate", "note", "none: the file was not scored", advice)
        return
    if unchanged(path, facts[KEY], found):
        yield Check("certificate", "unchanged", "ok", "the file is byte for byte the one that was scored")
    else:
        value = "the file is not the one that was scored: its graph, weights or metadata were written again"
        yield Check(
            "certificate", "unchanged", "error", value, "export the model again, or score it: sightline evaluate"
        )
    for name, value in found.rows().items():
        yield Check("certificate", name, "ok", value)
    for text in [*found.notes, *_doubts(found)]:
        yield Check("certificate", "note", "note", text)


def _doubts(found: Certificate) -> Iterator[str]:
    """What the interval says beyond the difference itself."""
    interval = found.judged.interval
    if interval is None:
        return
    most = -interval[0] if not found.lower_is_better else interval[1]
    if most > found.max_drop:
        yield (
            f"on {counted(found.images)} a drop of up to {most:.4f} cannot be excluded; more images make the interval "
            "narrower"
        )
