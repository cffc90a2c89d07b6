"""Mistakes that a type checker finds: each line that ends in `# error: CODE`, and no other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

import sightline as sl
from sightline.models.detection.faster_rcnn import faster_rcnn

sl.create_modell("resnet18", ["a"])  # error: attr-defined
sl.create_model(18, ["a"])  # error: arg-type
sl.predict("model.safetensors")  # error: call-arg
sl.evaluate("model.safetensors", batch_size="8")  # error: arg-type
print(sl.load("model.safetensors").preproces.channels)  # error: union-attr
print(sl.train("resnet18", "photos").modell)  # error: attr-defined
print(sl.evaluate("runs/first").metrics["AP"] + 1)  # error: operator


def call(image: Tensor) -> None:
    model = faster_rcnn(["cat"])
    model(image, [3])  # error: call-overload
    sl.load("model.safetensors")([image], None).keys()  # error: attr-defined


class Own(sl.Model):
    task = 3  # error: assignment

    def batch_results(self, batch: sl.ImageBatch) -> Tensor:  # error: override
        return batch.tensor

    def batch_losses(self, images: Sequence[Tensor]) -> dict[str, Tensor]:  # error: override
        return {}
