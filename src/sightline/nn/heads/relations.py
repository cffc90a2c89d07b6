"""Parts that predict the relations between given objects: by message passing, and by the frequency of predicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import RegionFeatures, TwoLayerHead
from sightline.nn.heads.message_passing import IterativeMessagePassing
from sightline.ops.pairs import GEOMETRY, pair_geometry, union_boxes
from sightline.structures import ImageBatch


@dataclass(frozen=True)
class RelationSettings:
    """Settings of relations.

    Attributes:
        objects: maximum number of detections per image between which relations are predicted, the best by score.
        kept: maximum number of relations per image in results: the best, and the best of the best pairs.
        pairs, positive_fraction: number of sampled pairs per image in training, and the maximum fraction of those that
            have a relation, if there are more pairs.
        jitter: standard deviation of the sides of objects in training, as a fraction of their size, so that relations
            are also right between detections, which are not exact.
    """

    objects: int = 32
    kept: int = 100
    pairs: int = 256
    positive_fraction: float = 0.5
    jitter: float = 0.05


class MessagePassingHead(nn.Module):
    """Features of objects and of the boxes around pairs → message passing → classes and predicates (figure 3).

    Args:
        pair_features: function that crops the features of the boxes around pairs.
        pair_head: features of these boxes [E, C, h, w] → [E, D].
        inputs: number of features F of an object.
        num_classes, num_predicates: K and P.
        iterations: number of times that messages are exchanged.
    """

    def __init__(
        self,
        pair_features: RegionFeatures,
        pair_head: TwoLayerHead,
        inputs: int,
        num_classes: int,
        num_predicates: int,
        iterations: int = 2,
    ):
        super().__init__()
        width = pair_head.out_features
        self.pair_features = pair_features
        self.pair_head = pair_head
        self.pair_geometry = nn.Sequential(nn.Linear(GEOMETRY, width), nn.ReLU(), nn.Linear(width, width))
        self.node_input = nn.Linear(inputs, width)
        self.message_passing = IterativeMessagePassing(width, iterations)
        self.cls_score = nn.Linear(width, num_classes)
        self.predicate_score = nn.Linear(width, num_predicates)

    def forward(
        self, maps: dict[str, Tensor], features: Tensor, boxes: Sequence[Tensor], pairs: Tensor, batch: ImageBatch
    ) -> tuple[Tensor, Tensor]:
        """Score the classes of objects, and the predicates of pairs.

        Args:
            maps: the maps of the batch.
            features: [ΣN, F] of the objects of all images.
            boxes: [N_i, 4] of each image, in pixels of the batch.
            pairs: [E, 2] int64, see `sightline.ops.pairs.ordered_pairs`; all pairs, or a part of those of each image.
            batch: the batch.

        Returns:
            Logits of classes [ΣN, K] and of predicates [E, P], to which a frequency bias may be added.
        """
        places = torch.cat(list(boxes))
        subjects, objects = places[pairs[:, 0]], places[pairs[:, 1]]
        counts = torch.tensor([len(own) for own in boxes], device=pairs.device)
        image = torch.repeat_interleave(counts)[pairs[:, 0]]
        around = union_boxes(subjects, objects).split(image.bincount(minlength=len(boxes)).tolist())
        sizes = torch.tensor(batch.sizes, device=pairs.device)[image]
        edges = self.pair_head(self.pair_features(maps, around, batch))
        edges = edges + self.pair_geometry(pair_geometry(subjects, objects, sizes).to(edges.dtype))
        node, edge = self.message_passing(F.relu(self.node_input(features)), edges, pairs)
        return self.cls_score(node), self.predicate_score(edge)


class FrequencyBias(nn.Module):
    """How often each predicate holds between objects of two classes, as a logit: the frequency bias.

    Zellers, Yatskar, Thomson, Choi, "Neural motifs: scene graph parsing with global context", CVPR 2018, sections 3
    and 4.2: the class labels of two objects alone predict most predicates of a scene graph.

    Departures: predicates are independent, so that the bias is the logit of a frequency, not the logarithm of a share
    of all predicates. Frequencies are counted during training, as batch normalisation counts its statistics, and are
    not changed by gradients. Those of rare pairs of classes are drawn towards the frequency of the predicate between
    objects of any class, which counts as `prior` pairs.

    Args:
        num_classes, num_predicates: K and P.
        prior: number of pairs that the frequency between any classes counts as.
    """

    relations: Tensor
    pairs: Tensor

    def __init__(self, num_classes: int, num_predicates: int, prior: float = 2.0):
        super().__init__()
        self.prior = prior
        self.register_buffer("relations", torch.zeros(num_classes, num_classes, num_predicates))
        self.register_buffer("pairs", torch.zeros(num_classes, num_classes))

    @torch.no_grad()
    def count(self, subjects: Tensor, objects: Tensor, holds: Tensor) -> None:
        """Count pairs of objects.

        Args:
            subjects, objects: [E] int64, the class ids of each pair.
            holds: [E, P] bool, the predicates that hold between them.
        """
        at = (subjects, objects)
        self.relations.index_put_(at, holds.to(self.relations.dtype), accumulate=True)
        self.pairs.index_put_(at, torch.ones_like(subjects, dtype=self.pairs.dtype), accumulate=True)

    def forward(self, subjects: Tensor, objects: Tensor) -> Tensor:
        """Class ids [E] and [E] of pairs → logits [E, P]."""
        overall = (self.relations.sum((0, 1)) + 1) / (self.pairs.sum() + 2)
        count = self.pairs[subjects, objects][:, None]
        share = (self.relations[subjects, objects] + self.prior * overall) / (count + self.prior)
        return share.logit(eps=1e-6)

    def seen(self) -> Tensor:
        """[K, K, P] bool: the triplets (class of the subject, class of the object, predicate) seen in training."""
        return self.relations > 0
