"""Small 3-D scenes, rendered on demand, with exact ground truth for every task."""

from __future__ import annotations

from sightline.data.scenes.camera import Camera, cuboid_corners
from sightline.data.scenes.catalog import (
    CLASSES,
    COLOURS,
    KEYPOINTS,
    MATERIALS,
    RELATIONS,
    SEMANTIC_CLASSES,
    SIZES,
    STUFF,
)
from sightline.data.scenes.dataset import scene_seeds, scenes
from sightline.data.scenes.folder import write_scenes
from sightline.data.scenes.motion import FRAMES_PER_SECOND, MOTIONS, Event, Video, video
from sightline.data.scenes.scene import Relation, Scene, SceneObject
from sightline.data.scenes.still import render

__all__ = [
    "CLASSES",
    "COLOURS",
    "FRAMES_PER_SECOND",
    "KEYPOINTS",
    "MATERIALS",
    "MOTIONS",
    "RELATIONS",
    "SEMANTIC_CLASSES",
    "SIZES",
    "STUFF",
    "Camera",
    "Event",
    "Relation",
    "Scene",
    "SceneObject",
    "Video",
    "cuboid_corners",
    "render",
    "scene_seeds",
    "scenes",
    "video",
    "write_scenes",
]
