"""Parts of the export to ONNX: preprocessing, the network with its decoding, and what a file says about itself."""

from __future__ import annotations

__all__: list[str] = []
