"""The types of targets and predictions that Sightline knows."""

from sightline.structures.class_map import ClassMap
from sightline.structures.class_scores import ClassScores
from sightline.structures.events import Events
from sightline.structures.instances import Instances

Target = Instances | ClassMap | ClassScores | Events
"""Type of a target or a prediction."""
