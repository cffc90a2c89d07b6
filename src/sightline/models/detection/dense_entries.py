"""The catalog's dense detectors: all boxes in one pass."""

from __future__ import annotations

from sightline.models.detection import ssdlite
from sightline.models.entry import Entry

DENSE_ENTRIES = (
    Entry(
        "ssdlite320_mobilenet_v3_large",
        ssdlite.ssdlite320_mobilenet_v3_large,
        "detection",
        "Howard et al. 2019, Searching for MobileNetV3",
        (),
        "mobilenet_v3_large",
        {"reduced_tail": False},
    ),
    Entry(
        "ssdlite320_mobilenet_v2",
        ssdlite.ssdlite320_mobilenet_v2,
        "detection",
        "Sandler et al. 2018, MobileNetV2",
        (),
        "mobilenet_v2",
    ),
)
