"""Results and labels in the forms of other libraries, one module per library.

None of these libraries is needed to import this package; supervision and pandas are imported by the functions that
create their objects. Boxes are (x1, y1, x2, y2) in pixels unless a form has its own.
"""

from sightline.interop.data_frames import to_pandas
from sightline.interop.fiftyone import from_fiftyone, to_fiftyone
from sightline.interop.geojson import from_geojson, to_geojson
from sightline.interop.huggingface import (
    from_huggingface,
    from_huggingface_row,
    to_huggingface,
    to_huggingface_row,
)
from sightline.interop.supervision import from_supervision, to_supervision
from sightline.interop.torchvision import from_torchvision, to_torchvision

__all__ = [
    "from_fiftyone",
    "from_geojson",
    "from_huggingface",
    "from_huggingface_row",
    "from_supervision",
    "from_torchvision",
    "to_fiftyone",
    "to_geojson",
    "to_huggingface",
    "to_huggingface_row",
    "to_pandas",
    "to_supervision",
    "to_torchvision",
]
