"""The base class of models that predict scene graphs: objects, and the relations between them.

Objects are those of Faster R-CNN. What predicts relations between boxes is a part of the model, so that the relations
between given boxes can be asked for, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output
from sightline.models.detection.detector import Detections
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.model import Losses
from sightline.nn.heads.mask import zero_loss
from sightline.nn.heads.relations import FrequencyBias, MessagePassingHead, RelationSettings
from sightline.ops.assignment import sample_balanced
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.pairs import ordered_pairs
from sightline.structures import ImageBatch, Instances
from sightline.structures.relations import FIELDS, Triplet, triplets_of, with_triplets
from sightline.words import did_you_mean


@dataclass(frozen=True)
class Graph:
    """What a model says about given objects of all images of a batch.

    Attributes:
        pairs: [E, 2] int64, subject and object of each pair, see `sightline.ops.pairs.ordered_pairs`.
        classes: [ΣN, K] float, class scores of the objects before the softmax, without background.
        predicates: [E, P] float, scores of the predicates before the sigmoid, without the frequency bias.
    """

    pairs: Tensor
    classes: Tensor
    predicates: Tensor


class SceneGraphDetector(FasterRCNN):
    """Faster R-CNN that also predicts relations: each object of a result has `relations` (`Instances.relations`).

    The score of a relation is the product of the scores of both objects and of the probability of the predicate.
    Several predicates can hold between two objects, so each has a probability of its own (a sigmoid). Published models
    choose one predicate per pair (a softmax with "no relation").

    Targets need the fields `keys` and `relations`. By default images are not mirrored in training, because "left of"
    would then be wrong. Pairs of objects without a labelled relation are trained as having none.

    Args:
        base: the detector.
        predicates: names of the P predicates.
        head: what scores relations; None to use only the frequency of predicates.
        frequency: counts how often predicates hold between classes of objects.
        biased: whether these frequencies are added to the scores of the head.
        settings: settings of relations.
    """

    task = "scene_graph"
    unexportable = "which pairs of objects it looks at depends on the image"
    target_fields = FIELDS
    class_layers = r"roi_heads\.box_predictor\.|head\.cls_score\.|^frequency\."
    recipe_defaults = {"augmentation": "light", "mirror": False}

    def __init__(
        self,
        base: FasterRCNN,
        predicates: Sequence[str],
        head: MessagePassingHead | None,
        frequency: FrequencyBias,
        biased: bool = True,
        settings: RelationSettings | None = None,
    ):
        super().__init__(base.classes, base.preprocess, base.backbone, base.rpn, base.roi_heads, base.output_ids)
        self.backbone_keys = base.backbone_keys
        self.predicates = tuple(predicates)
        self.head, self.frequency, self.biased = head, frequency, biased
        self.relation_settings = settings or RelationSettings()
        self._predicate_ids = {name: i for i, name in enumerate(self.predicates)}

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """Those of Faster R-CNN, the classes of the head, and pairs of classes of the frequencies."""
        names = [Output(name) for name in self.classes]
        if "frequency." in key:
            return [names, names]
        return [names] if "head.cls_score" in key else super().class_outputs(key, shape)

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """Like Faster R-CNN, with relations between the best detections; or with the losses of labelled relations."""
        maps = self.backbone(batch.tensor)
        proposals, proposal_losses = self.rpn(maps, batch, targets)
        found, box_losses = self.roi_heads(maps, proposals, batch, targets)
        if targets is not None:
            return [], proposal_losses | box_losses | self.relation_losses(maps, batch, targets)
        best = [{name: own[: self.relation_settings.objects] for name, own in fields.items()} for fields in found]
        graph = self.graph(maps, [fields["boxes"] for fields in best], batch)
        labels = [self._class_of_output[fields["labels"]] for fields in best]
        triplets = self.triplets(graph, labels, [fields["scores"] for fields in best])
        return [fields | {"triplets": own} for fields, own in zip(found, triplets, strict=True)], {}

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with the fields `keys` and `relations`."""
        results = []
        for fields, (sx, sy), size in zip(found, batch.scales, batch.original_sizes, strict=True):
            own: dict[str, Any] = dict(fields)
            triplets: list[Triplet] = own.pop("triplets")
            boxes = own["boxes"] / own["boxes"].new_tensor([sx, sy, sx, sy])
            labels = self._class_of_output[own["labels"]]
            objects = Instances.unchecked(size, classes=self.classes, **{**own, "boxes": boxes, "labels": labels})
            related = with_triplets(objects, triplets)
            results.append(related if self.output_ids is None else related[labels >= 0])
        return results

    def predict_relations(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor] | None = None
    ) -> list[Instances]:
        """Predict the relations between given objects: with their classes (predicate classification), or without
        (scene graph classification), as Xu et al. 2017, section 5.1, name them.

        Args:
            images: [C, H, W] each, uint8 or float in [0, 1].
            boxes: [N_i, 4] xyxy of the objects of each image, in its pixels.
            labels: [N_i] int64 class ids of the objects; None to predict them.

        Returns:
            For each image, these objects in the same order, with `keys`, `relations` and `scores` (1 for given labels).

        Raises:
            InputError: the numbers of images, boxes and labels differ.
        """
        lengths = [len(images), len(boxes), *([] if labels is None else [len(labels)])]
        counts = [] if labels is None else [(len(b), len(own)) for b, own in zip(boxes, labels, strict=False)]
        if len(set(lengths)) > 1 or any(a != b for a, b in counts):
            raise InputError(
                f"there are {len(images)} images, boxes of {len(boxes)} and labels of {lengths[-1]}; give boxes [N, 4] "
                "for each image, and labels [N] or none"
            )
        results: dict[int, Instances] = {}
        for group in self.groups(images):
            batch, _ = self.prepare([images[i] for i in group], None)
            device = batch.tensor.device
            places = [batch.in_batch(boxes[i].to(device, batch.tensor.dtype), k) for k, i in enumerate(group)]
            graph = self.graph(self.backbone(batch.tensor), places, batch)
            if labels is None:
                chosen = [own.softmax(-1).max(-1) for own in graph.classes.float().split([len(p) for p in places])]
                scores, ids = [own.values for own in chosen], [own.indices for own in chosen]
            else:
                ids = [labels[i].to(device) for i in group]
                scores = [torch.ones(len(own), device=device) for own in ids]
            for i, own_ids, own_scores, triplets, size in zip(
                group, ids, scores, self.triplets(graph, ids, scores), batch.original_sizes, strict=True
            ):
                own = {"boxes": boxes[i].to(device), "labels": own_ids, "scores": own_scores}
                results[i] = with_triplets(
                    Instances.unchecked(size, classes=self.classes, source=None, **own), triplets
                )
        return [results[i] for i in range(len(images))]

    def seen_combinations(self) -> list[tuple[str, str, str]]:
        """The combinations of subject class, predicate and object class that occurred in training, by name."""
        found = self.frequency.seen().nonzero().tolist()
        return [(self.classes[s], self.predicates[p], self.classes[o]) for s, o, p in found]

    # Parts

    def graph(
        self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch, pairs: Tensor | None = None
    ) -> Graph:
        """Score the classes of objects in given boxes, and the predicates between them.

        Args:
            maps: the maps of the batch.
            boxes: [N_i, 4] of each image, in pixels of the batch.
            batch: the batch.
            pairs: [E, 2], the pairs to score, ordered by image; None for all.
        """
        if pairs is None:
            pairs = ordered_pairs([len(own) for own in boxes], batch.tensor.device)
        heads = self.roi_heads
        features = heads.box_head(heads.region_features(maps, boxes, batch))
        if self.head is not None:
            return Graph(pairs, *self.head(maps, features, boxes, pairs, batch))
        logits = self.of_classes(heads.box_predictor(features)[0])
        return Graph(pairs, logits, logits.new_zeros(len(pairs), len(self.predicates)))

    def predicate_logits(self, graph: Graph, labels: Tensor) -> Tensor:
        """The scores of the predicates before the sigmoid [E, P], given the class ids of all objects [ΣN]."""
        if not self.biased:
            return graph.predicates
        subjects, objects = labels[graph.pairs].unbind(1)
        return graph.predicates + self.frequency(subjects.clamp(min=0), objects.clamp(min=0))

    @torch.no_grad()
    def triplets(self, graph: Graph, labels: Sequence[Tensor], scores: Sequence[Tensor]) -> list[list[Triplet]]:
        """The relations of each image by descending score: the best, and the best predicates of the best pairs.

        Args:
            graph: of all images of a batch, with all pairs of objects.
            labels: class ids [N_i] of the objects of each image.
            scores: their scores [N_i].
        """
        probabilities = self.predicate_logits(graph, torch.cat(list(labels))).float().sigmoid()
        found, first, edge = [], 0, 0
        for own in scores:
            count = len(own) * max(len(own) - 1, 0)
            pairs, part = graph.pairs[edge : edge + count] - first, probabilities[edge : edge + count]
            found.append(self._best(pairs, part * own.float()[pairs].prod(1, keepdim=True)))
            first, edge = first + len(own), edge + count
        return found

    def _best(self, pairs: Tensor, scores: Tensor) -> list[Triplet]:
        """The relations of one image to keep: pairs [E, 2], scores [E, P]."""
        kept = self.relation_settings.kept
        if not scores.numel():
            return []
        one = scores.argmax(1) + torch.arange(len(scores), device=scores.device) * scores.shape[1]
        of_pairs = one[scores.flatten()[one].topk(min(kept, len(one))).indices]
        chosen = torch.cat([scores.flatten().topk(min(kept, scores.numel())).indices, of_pairs]).unique()
        chosen = chosen[scores.flatten()[chosen].argsort(descending=True, stable=True)]
        rows, predicates = chosen // scores.shape[1], chosen % scores.shape[1]
        columns = (*pairs[rows].T.tolist(), predicates.tolist(), scores.flatten()[chosen].tolist())
        return [Triplet(s, self.predicates[p], o, score) for s, o, p, score in zip(*columns, strict=True)]

    # Training

    def relation_losses(self, maps: dict[str, Tensor], batch: ImageBatch, targets: Sequence[Instances]) -> Losses:
        """The losses of the labelled objects and of sampled pairs; in training mode, pairs are also counted.

        "loss_relation" is the binary cross-entropy of all predicates, summed over predicates and averaged over pairs;
        "loss_object" the cross-entropy of the classes that the head sees.
        """
        labels = [self._class_of_output[target.labels] for target in targets]
        pairs = ordered_pairs([len(target) for target in targets], batch.tensor.device)
        holds = self.truth(pairs, targets)
        ids = torch.cat(labels)
        if self.training:
            subjects, objects = ids[pairs].unbind(1)
            self.frequency.count(subjects, objects, holds)
        if self.head is None:
            return {}
        if not len(ids):
            return {"loss_relation": zero_loss(self.head), "loss_object": zero_loss(self.head)}
        chosen = self.sampled(holds, pairs, [len(target) for target in targets])
        boxes = [self._jittered(target.boxes, size) for target, size in zip(targets, batch.sizes, strict=True)]
        graph = self.graph(maps, boxes, batch, pairs[chosen])
        loss = F.binary_cross_entropy_with_logits(
            self.predicate_logits(graph, ids).float(), holds[chosen].float(), reduction="sum"
        )
        return {
            "loss_relation": loss / max(1, len(chosen)),
            "loss_object": F.cross_entropy(graph.classes.float(), ids),
        }

    def truth(self, pairs: Tensor, targets: Sequence[Instances]) -> Tensor:
        """[E, P] bool: whether each predicate holds between each of all ordered pairs of labelled objects.

        Predicates that the model does not have are ignored in evaluation mode: validation images may have predicates
        that no training image has.

        Raises:
            InputError: a predicate is not one of the model's, in training mode.
        """
        holds = torch.zeros(len(pairs), len(self.predicates), dtype=torch.bool)
        at, edge = [], 0
        for target in targets:
            n = len(target)
            for subject, predicate, object_, _ in triplets_of(target):
                if subject != object_ and (id := self._predicate_id(predicate, target)) is not None:
                    # pairs of a subject are in the order of their objects, without itself
                    row = edge + subject * (n - 1) + object_ - (object_ > subject)
                    at.append((row, id))
            edge += n * max(n - 1, 0)
        if at:
            rows, predicates = torch.tensor(at).unbind(1)
            holds[rows, predicates] = True
        return holds.to(pairs.device)

    def _predicate_id(self, name: str, target: Instances) -> int | None:
        if name not in self._predicate_ids and self.training:
            hint = did_you_mean(name, self.predicates, f"the model has {len(self.predicates)} predicates")
            raise InputError(
                f"{target.source or 'a target'} has the relation {name!r}, which the model does not know; {hint}; "
                "create the model with predicates=data.predicates"
            )
        return self._predicate_ids.get(name)

    def sampled(self, holds: Tensor, pairs: Tensor, counts: Sequence[int]) -> Tensor:
        """Rows of the pairs to learn from, at most `RelationSettings.pairs` per image, in ascending order."""
        s, found, edge = self.relation_settings, [], 0
        for count in counts:
            related = holds[edge : edge + count * max(count - 1, 0)].any(1)
            if len(related) > s.pairs:
                rows = torch.cat(sample_balanced(related, ~related, s.pairs, s.positive_fraction)).sort().values
            else:
                rows = torch.arange(len(related), device=pairs.device)
            found.append(rows + edge)
            edge += len(related)
        return torch.cat(found)

    def _jittered(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes [N, 4] whose sides moved at random; see `RelationSettings.jitter`."""
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        moved = boxes + self.relation_settings.jitter * sides * torch.randn_like(boxes).clamp(-2, 2)
        ordered = torch.cat([torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])], 1)
        return clip_boxes_to_image(ordered, size)


def require_predicates(predicates: Iterable[str]) -> tuple[str, ...]:
    """The names of predicates as a tuple.

    Raises:
        InputError: there are none, one is not text, or one is named twice.
    """
    names = tuple(predicates)
    if isinstance(predicates, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"predicates are {predicates!r}, but must be the names of at least one predicate")
    if len(set(names)) < len(names):
        raise InputError(f"the predicate {next(n for n in names if names.count(n) > 1)!r} is named twice; name it once")
    return names
