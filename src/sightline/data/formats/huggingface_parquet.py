"""Parquet files of Hugging Face datasets: reading rows, and saving their images as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sightline.data.formats.archives import filled_beside
from sightline.data.images import is_image
from sightline.errors import InputError
from sightline.runtime.limits import require_within
from sightline.runtime.optional import require

_ROWS = 64
"""Number of rows with images that are read at once."""
_KINDS = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


def read_parquet(path: Path) -> tuple[Iterable[tuple[int, Any]], list[str] | None]:
    """The rows of a file, numbered from 1, each with "file_name" and "objects"; and the category names.

    Images in the column "image" are saved beside the file, once.

    Raises:
        InputError: pyarrow is missing, or the file is damaged or contains neither image names nor images.
    """
    require("pyarrow", "pyarrow", "parquet", f"{path} is a Parquet file, which")
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            columns = schema.names
            require_within(f"the number of rows in {path}", opened.metadata.num_rows, "rows")
            if "file_name" not in columns and "image" not in columns:
                raise InputError(f"{path} has the columns {', '.join(columns[:8])}, but none named image or file_name")
            if "objects" not in columns:
                raise InputError(f"{path} has no column objects, so its images have no boxes; give a file with boxes")
            kept = [name for name in ("file_name", "objects", "text") if name in columns]
            rows: list[dict[str, Any]] = opened.read(columns=kept).to_pylist()
        if "file_name" not in columns:
            folder = filled_beside(path, lambda out: _write_images(path, out))
            places = {int(file.name.split("_", 1)[0]): file for file in folder.iterdir()}
            for k, row in enumerate(rows):
                row["file_name"] = str(places[k]) if k in places else f"row {k + 1}"
    except (arrow.ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); download it again"
        ) from None
    return enumerate(rows, 1), _names(schema.metadata)


def _write_images(path: Path, out: Path) -> None:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as opened:
        at = 0
        for batch in opened.iter_batches(batch_size=_ROWS, columns=["image"]):
            for entry in batch.column(0).to_pylist():
                content = entry.get("bytes") if isinstance(entry, dict) else entry
                if isinstance(content, bytes):
                    (out / f"{at:06d}_{_name(entry, content)}").write_bytes(content)
                at += 1


def _name(entry: Any, content: bytes) -> str:
    """The image's original name, or one derived from its content type."""
    stated = entry.get("path") if isinstance(entry, dict) else None
    if isinstance(stated, str) and is_image(stated):
        return stated.replace("\\", "/").rsplit("/", 1)[-1][-100:]
    return "image" + next((suffix for mark, suffix in _KINDS if content.startswith(mark)), ".jpg")


def _names(metadata: dict[bytes, bytes] | None) -> list[str] | None:
    """The category names that the library `datasets` wrote into a file; None if there are none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["objects"]
    except (KeyError, TypeError, ValueError):
        return None
    waiting = [features]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("_type") == "ClassLabel" and isinstance(value.get("names"), list):
                return [str(name) for name in value["names"]]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return None
