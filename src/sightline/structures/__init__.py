"""Data types of the library: image batches, targets and predictions, class names, and images with a camera.

Targets and predictions have the same types: `Instances`, `ClassMap`, `ClassScores` or `Events`. Coordinates are in
pixels of the image, with x to the right and y down. (0, 0) is the outer corner of the top-left pixel. Boxes are (x1,
y1, x2, y2).
"""

from sightline.structures.batch import ImageBatch, require_images
from sightline.structures.class_map import IGNORE, ClassMap
from sightline.structures.class_scores import ClassScores
from sightline.structures.classes import BACKGROUND, Classes
from sightline.structures.clip import Clip, as_clip
from sightline.structures.events import Events
from sightline.structures.instances import Instances
from sightline.structures.size import Size
from sightline.structures.target import Target
from sightline.structures.view import Camera, View, camera_of, with_camera
from sightline.structures.whole_image import WholeImage

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "Camera",
    "ClassMap",
    "ClassScores",
    "Classes",
    "Clip",
    "Events",
    "ImageBatch",
    "Instances",
    "Size",
    "Target",
    "View",
    "WholeImage",
    "as_clip",
    "camera_of",
    "require_images",
    "with_camera",
]
