"""The report of meshes: metrics, classes, and each image with its shapes, which can be turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.evaluation.meshes import MEANINGS
from sightline.evaluation.result import shown_threshold
from sightline.report import sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.drawing import draw
from sightline.report.mesh_viewer import viewer, viewers
from sightline.report.page import bar, esc, number, sentence
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER
from sightline.structures import Instances
from sightline.structures.meshes import Mesh
from sightline.words import counted

_COLUMNS = ("F1@0.1", "F1@0.5", "AP_mesh", "box_AP50", "chamfer", "normal_consistency", "found")


class MeshReport(TaskReport):
    """The report of meshes."""

    cards = ("F1@0.3", "AP_mesh", "normal_consistency", "chamfer", "found", "box_AP50")
    meanings = MEANINGS
    entries = {**dict.fromkeys(("objects?", "detections?"), int), "object_f1?": [NUMBER]}
    class_entries = {"F1@0.3": OPTIONAL_NUMBER, "AP_mesh": OPTIONAL_NUMBER, "objects": int, "detections": int}
    explanation = (
        "Shapes are drawn over the image, and from another side to its right. Those under the pictures can be turned "
        "with the pointer: above the label, below the prediction."
    )

    def parts(self) -> tuple[Part, ...]:
        return self.metrics, Part("classes", "Classes", classes)

    def counts(self, result: Evaluation) -> Sequence[str]:
        if "objects" not in result:
            return ()
        return counted(result["objects"], "object"), counted(result["detections"], "detection")

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw the shapes over the image; detections below `shown_threshold` are left out."""
        target, prediction = result.targets[position], result.predictions[position]
        if len(prediction):
            prediction = prediction[prediction.scores >= shown_threshold(result)]
        f1 = result.object_f1[result.image_of == position]
        caption = "· F1@0.3 " + ", ".join(f"{value:.2f}" for value in f1) if len(f1) else "· no objects"
        sides = [("labels", target), ("prediction", prediction)]
        pictures = [(what, draw(image, own, size=size, scale=1.5)) for what, own in sides]
        shown = [
            viewer(Mesh.of(own.meshes[i]), _colour(own, i), f"{what}: {own.names()[i] if own.classes else i}")
            for what, own in sides
            for i in range(min(len(own), 2))
        ]
        return GalleryImage(pictures, caption, viewers(shown))


def _colour(own: Instances, i: int) -> tuple[int, int, int]:
    return class_colour(int(own.labels[i]))


def classes(result: Evaluation | None) -> str:
    """One row per class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    rows = [
        [
            sections.class_name(name, ids),
            bar(row["F1@0.3"], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in ("F1@0.3", *_COLUMNS)),
            str(row["objects"]),
            str(row["detections"]),
        ]
        for name, row in sections.ranked(result, "F1@0.3")
    ]
    heads = ("class", "", "F1@0.3", *(esc(column.replace("_", " ")) for column in _COLUMNS), "objects", "detections")
    return sections.folded(heads, rows)
