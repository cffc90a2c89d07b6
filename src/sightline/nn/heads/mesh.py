"""The refinement of meshes by graph convolution: Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019, section 3.3."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.frustum import Frustums
from sightline.ops.meshes.alignment import align_vertices
from sightline.ops.meshes.graph import Neighbours, neighbour_sum
from sightline.structures.meshes import Meshes

_NEIGHBOURS = 6
"""The mean number of neighbours in a closed triangle mesh."""


class GraphConv(nn.Module):
    """f'ᵢ = W₀ fᵢ + Σⱼ W₁ fⱼ over the neighbours j of vertex i: [V, C] → [V, D] (section 3.3, before the ReLU).

    W₁ starts smaller by the usual number of neighbours, so that sums are about as large as the vertex's own part.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.own, self.others = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        with torch.no_grad():
            self.others.weight.div_(_NEIGHBOURS)
            self.others.bias.div_(_NEIGHBOURS)

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        return self.own(x) + neighbour_sum(self.others(x), neighbours)


class RefinementStage(nn.Module):
    """One stage: vertices take features of the image, exchange them along edges, and move (figure 3).

    Args:
        channels: number of channels of the region features.
        width: number of features of a vertex.
        convs: number of graph convolutions.
        first: whether there is no stage before, whose features the vertices also have.
        reach: farthest that a vertex moves along an axis, in the unit of the local frame; 1 in the paper.
    """

    def __init__(self, channels: int, width: int, convs: int, first: bool, reach: float = 1.0):
        super().__init__()
        self.reach = reach
        self.bottleneck = nn.Linear(channels, width)
        inputs = [width * (1 if first else 2), *[width] * (convs - 1)]
        self.convs = nn.ModuleList(GraphConv(size + 3, width) for size in inputs)
        self.offsets = nn.Linear(width + 3, 3)
        nn.init.zeros_(self.offsets.weight)  # the first meshes are those of the voxels
        nn.init.zeros_(self.offsets.bias)

    def forward(
        self,
        features: Tensor,
        vertices: Tensor,
        seen: Tensor,
        owner: Tensor,
        neighbours: Neighbours,
        known: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Move vertices.

        Args:
            features: [R, C, h, w] of the regions.
            vertices: [V, 3] in the local frames of the regions.
            seen: [V, 2] where they are seen, as fractions of the box.
            owner: [V] the region of each.
            neighbours: of each vertex.
            known: [V, D] features of the stage before.

        Returns:
            the moved vertices [V, 3] and their features [V, D].
        """
        x = F.relu(self.bottleneck(align_vertices(features, seen, owner)))
        x = x if known is None else torch.cat([known, x], 1)
        for conv in self.convs:
            x = F.relu(conv(torch.cat([x, vertices], 1), neighbours))
        return vertices + self.reach * torch.tanh(self.offsets(torch.cat([x, vertices], 1))), x


class MeshHead(nn.Module):
    """Stages of refinement: [R, C, h, w] and R meshes → the meshes after each stage.

    Args:
        channels: number of channels of the region features.
        width: number of features of a vertex; 128 in the paper.
        stages: number of stages; 3 in the paper. With 0 the meshes stay as they are (its baseline "Voxel-Only").
        convs: number of graph convolutions per stage; 3 in the paper.
        reach: as in `RefinementStage`.
    """

    def __init__(self, channels: int, width: int = 128, stages: int = 3, convs: int = 3, reach: float = 1.0):
        super().__init__()
        self.stages = nn.ModuleList(RefinementStage(channels, width, convs, i == 0, reach) for i in range(stages))

    def forward(self, features: Tensor, meshes: Meshes, frustums: Frustums) -> list[Meshes]:
        """The meshes after each stage, in the local frames of their regions; without stages, the meshes themselves."""
        neighbours, owner = Neighbours(meshes.edges, len(meshes.vertices)), meshes.vertex_mesh
        known, found = None, []
        for stage in self.stages:
            seen = frustums.in_box(meshes.vertices, owner)
            vertices, known = stage(features, meshes.vertices, seen, owner, neighbours, known)
            meshes = meshes.with_vertices(vertices)
            found.append(meshes)
        return found or [meshes]
