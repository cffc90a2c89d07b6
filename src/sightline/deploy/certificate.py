"""The certificate of an exported file: what it scored on the user's data, beside the model that it was made from.

It is the last entry of the file's metadata, and is written behind the bytes of the finished file: in ONNX's format an
entry that follows a file belongs to it. It holds a hash of all bytes before it and of itself, so any later change of
the graph, the weights, the class names, the threshold or the figures is found. This guards against mistakes; it is no
signature, and anyone who changes the file can recompute the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import InputError

KEY = "certificate"
"""The name of the entry in the metadata."""


@dataclass(frozen=True)
class Score:
    """A metric of two models on the same images.

    Attributes:
        reference, exported: the metric of the model compared with, and of the file; None if it is not available.
        interval: bootstrap interval of exported − reference, paired by image, at the level of the certificate; None if
            there is none for this metric.
    """

    reference: float | None
    exported: float | None
    interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        """exported − reference."""
        return None if self.reference is None or self.exported is None else self.exported - self.reference


@dataclass(frozen=True)
class Certificate:
    """How an exported file scored on labelled images.

    Attributes:
        precision: "fp32", "fp16" or "int8".
        reference: what it was compared with, such as "the fp32 file in ONNX Runtime".
        data: the path or name of the data.
        split: the images that both were scored on.
        fingerprint: hexadecimal fingerprint of these images and their labels.
        images: their number.
        metric: the metric that the drop is judged by.
        protocol: the protocol of this metric, if it has a name.
        scores: metrics by name, the one that is judged first.
        max_drop: the largest drop that was allowed.
        lower_is_better: whether a lower metric is better, so that a drop is a rise of it.
        level: level of the intervals.
        float_layers: names of the layers that kept float weights; empty if none or all did.
        layers: number of layers.
        calibration: number of images that the ranges of values were measured on, and their split; 0 for none.
        bytes: size of the file without the certificate, and of the fp32 file.
        seconds: median time of one image for the reference and for the file, its (height, width), threads and machine.
        versions: of the libraries, by name.
        provider: what ran the file.
        date: date and time in UTC, ISO 8601.
        notes: remarks for the reader, one sentence each.
        sha256: of the bytes of the file before the certificate, and of all values above.
    """

    precision: str
    reference: str
    data: str
    split: str
    fingerprint: str
    images: int
    metric: str
    protocol: str
    scores: dict[str, Score]
    max_drop: float
    lower_is_better: bool
    level: float
    float_layers: tuple[str, ...]
    layers: int
    calibration: tuple[int, str]
    bytes: tuple[int, int]
    seconds: Mapping[str, Any]
    versions: dict[str, str]
    provider: str
    date: str
    notes: list[str] = field(default_factory=list)
    sha256: str = ""

    @property
    def judged(self) -> Score:
        """The metric that the drop is judged by."""
        return self.scores[self.metric]

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Certificate:
        """Create from the output of `to_dict`.

        Raises:
            InputError: a value is missing.
        """
        try:
            own = {name: values[name] for name in cls.__dataclass_fields__}
            scores = {
                name: Score(row["reference"], row["exported"], None if row["interval"] is None else (*row["interval"],))
                for name, row in own["scores"].items()
            }
            pairs = {name: tuple(own[name]) for name in ("float_layers", "calibration", "bytes")}
            return cls(**own | {"scores": scores} | pairs)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the certificate is incomplete ({error}); export the model again") from None

    def rows(self) -> dict[str, str]:
        """The certificate in words: what → value."""
        protocol = f" ({self.protocol})" if self.protocol else ""
        rows = {"measured on": f"{self.images} images ({self.split}) of {self.data}, fingerprint {self.fingerprint}"}
        for name, score in self.scores.items():
            rows[name + (protocol if name == self.metric else "")] = score_in_words(score, self.level)
        rows["largest drop allowed"] = f"{self.max_drop:g} of {self.metric}"
        rows["precision"] = self.precision + (
            f": {self.layers - len(self.float_layers)} of {self.layers} layers in 8 bits"
            if self.precision == "int8"
            else ""
        )
        if self.float_layers:
            rows["layers in float"] = ", ".join(self.float_layers)
        if self.calibration[0]:
            rows["calibrated on"] = f"{self.calibration[0]} images ({self.calibration[1]})"
        own, whole = (size / 1e6 for size in self.bytes)
        rows["size"] = f"{own:.1f} MB" + (f", {own / whole:.2f} × the fp32 file" if self.precision != "fp32" else "")
        height, width = self.seconds["size"]
        before, after = (1000 * self.seconds[name] for name in ("reference", "exported"))
        rows["time of one image"] = (
            f"{after:.1f} ms, {after / before:.2f} × the reference, "
            f"{height}×{width}, {self.seconds['threads']} threads, {self.seconds['machine']}"
        )
        rows["compared with"] = self.reference
        rows["run by"] = self.provider
        rows["versions"] = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        rows["date"] = self.date
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows))
        lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
        return "\n".join(["certificate", *lines, *(f"  note: {note}" for note in self.notes)])


def score_in_words(score: Score, level: float) -> str:
    """Both values of a metric and their difference in one line."""
    if score.difference is None:
        return "not available"
    text = f"{score.reference:.4f} → {score.exported:.4f}, difference {score.difference:+.4f}"
    if score.interval is None:
        return f"{text} (no interval for this metric)"
    low, high = score.interval
    return f"{text} ({100 * level:g} % interval {low:+.4f} to {high:+.4f})"


def stamp(path: Path, certificate: Certificate) -> Certificate:
    """Write a certificate behind an exported file that has none, and return it with the hash of the file.

    Raises:
        InputError: the file cannot be written.
    """
    values = certificate.to_dict()
    values |= {"sha256": _hash(path.read_bytes(), values)}
    found = Certificate.from_dict(values)
    try:
        with path.open("ab") as file:
            file.write(_entry(json.dumps(values)))
    except OSError as error:
        raise InputError(f"{path}: the certificate cannot be written ({error.strerror}); free some space") from None
    return found


def certificate_in(facts: Mapping[str, Any]) -> Certificate | None:
    """The certificate in the metadata of a file (`read_facts`), or None.

    Raises:
        InputError: it is damaged.
    """
    if KEY not in facts:
        return None
    try:
        values = json.loads(facts[KEY])
    except json.JSONDecodeError as error:
        raise InputError(f"the certificate is damaged ({error}); export the model again") from None
    return Certificate.from_dict(values if isinstance(values, dict) else {})


def unchanged(path: Path, text: str, certificate: Certificate) -> bool:
    """Whether a file is byte by byte what its certificate was written for.

    Args:
        path: the file.
        text: the certificate as it stands in the metadata.
        certificate: the same, read.
    """
    content, entry = path.read_bytes(), _entry(text)
    before = content[: len(content) - len(entry)]
    return content.endswith(entry) and _hash(before, json.loads(text)) == certificate.sha256


def _hash(content: bytes, values: Mapping[str, Any]) -> str:
    """SHA-256 of a file before its certificate and of the certificate without the hash."""
    own = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(content + json.dumps(own, sort_keys=True).encode()).hexdigest()


def _entry(text: str) -> bytes:
    """An entry of the metadata as a part of an ONNX file."""
    import onnx

    entry = onnx.StringStringEntryProto(key=KEY, value=text)
    found: bytes = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    return found
