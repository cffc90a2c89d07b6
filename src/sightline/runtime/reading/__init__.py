"""Read files: bytes, text, JSON, YAML, XML, CSV and NumPy arrays. All files are read through these functions.

Whatever is wrong with a file, these functions raise only an `InputError` that names it. Only regular files are
opened: a named pipe, a device or a socket could block, or never end. `sightline.runtime.limits` limits how much is
read. Nothing in a file is ever executed or imported by name.
"""

from sightline.runtime.reading.arrays import read_array
from sightline.runtime.reading.csv_text import parse_csv, read_csv
from sightline.runtime.reading.files import (
    PathLike,
    is_hidden,
    open_binary,
    read_bytes,
    require_file,
    unusual_kind,
    walk,
)
from sightline.runtime.reading.json_text import parse_json, read_json, require_depth
from sightline.runtime.reading.text import decode, head, read_text, start_encoding
from sightline.runtime.reading.xml_text import decode_xml, iter_xml, read_xml
from sightline.runtime.reading.yaml_text import parse_yaml, read_yaml
from sightline.words import CONTROL, kind_of, shown

__all__ = [
    "CONTROL",
    "PathLike",
    "decode",
    "decode_xml",
    "head",
    "is_hidden",
    "iter_xml",
    "kind_of",
    "open_binary",
    "parse_csv",
    "parse_json",
    "parse_yaml",
    "read_array",
    "read_bytes",
    "read_csv",
    "read_json",
    "read_text",
    "read_xml",
    "read_yaml",
    "require_depth",
    "require_file",
    "shown",
    "start_encoding",
    "unusual_kind",
    "walk",
]
