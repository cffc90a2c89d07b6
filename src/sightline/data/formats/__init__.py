"""Annotation formats: each is recognised by the contents of a folder, read into a `Dataset`, and written from one."""

from sightline.data.formats.conversion import Conversion, convert
from sightline.data.formats.opening import open_dataset
from sightline.data.formats.table import FORMATS, WRITTEN, supported_kinds

__all__ = ["FORMATS", "WRITTEN", "Conversion", "convert", "open_dataset", "supported_kinds"]
