"""ONNX nodes that paste small masks into images: whole matrices of interpolation weights, for every pixel of the image.

A batch of N images of H × W pixels with D masks each takes 4·N·D·H·W bytes while masks are pasted.
"""

from __future__ import annotations

from collections.abc import Callable

from sightline.deploy.exporting.nodes import Node, Nodes


def add_pasted_boxes(nodes: Nodes, masks: Node, boxes: Node, original: Node, cells: int) -> Node:
    """Add what `sightline.ops.masks.paste_masks` does.

    Args:
        nodes: the list of nodes.
        masks: [N, D, M, M] float, probabilities.
        boxes: [N, D, 4] in pixels of the image.
        original: [2] int64, (height, width) of the images.
        cells: M.

    Returns:
        [N, D, H, W] bool.
    """

    def weights(low: Node, high: Node, pixels: Node) -> Node:
        centre = nodes.Mul(nodes.Add(high, low), 0.5)
        half = nodes.Mul(nodes.Sub(high, low), 0.5 * (cells + 2) / cells)
        first = _truncated(nodes, nodes.Sub(centre, half))
        last = _truncated(nodes, nodes.Add(centre, half))
        step = nodes.Div(cells + 2.0, nodes.Max(nodes.Add(nodes.Sub(last, first), 1.0), 1.0))
        place = nodes.Add(nodes.Sub(_numbers(nodes, pixels), first), 0.5)
        return _tents(nodes, nodes.Sub(nodes.Mul(place, step), 1.5), cells)

    return nodes.Greater(_products(nodes, masks, boxes, original, weights), 0.5)


def add_pasted_grids(nodes: Nodes, masks: Node, boxes: Node, original: Node, cells: int) -> Node:
    """Add what `sightline.ops.mask_grids.paste_grids` does; arguments as for `add_pasted_boxes`, masks are logits."""

    def weights(low: Node, high: Node, pixels: Node) -> Node:
        centre = nodes.Add(_numbers(nodes, pixels), 0.5)
        step = nodes.Div(float(cells), nodes.Max(nodes.Sub(high, low), 1e-30))
        place = nodes.Sub(nodes.Mul(nodes.Sub(centre, low), step), 0.5)
        place = nodes.Clip(place, nodes.constant(0.0), nodes.constant(cells - 1.0))
        inside = nodes.And(nodes.GreaterOrEqual(centre, low), nodes.Less(centre, high))
        return nodes.Where(nodes.Unsqueeze(inside, [3]), _tents(nodes, place, cells), 0.0)

    return nodes.Greater(_products(nodes, masks, boxes, original, weights), 0.0)


def _products(nodes: Nodes, masks: Node, boxes: Node, original: Node, weights: Callable[..., Node]) -> Node:
    """[N, D, H, W]: masks times the weights [N, D, pixels, M] along both axes."""
    left, top, right, bottom = (nodes.Slice(boxes, [i], [i + 1], [2]) for i in range(4))
    rows = weights(top, bottom, nodes.Squeeze(nodes.side(original, 0, 1)))
    columns = weights(left, right, nodes.Squeeze(nodes.side(original, 1, 2)))
    return nodes.MatMul(nodes.MatMul(rows, masks), nodes.Transpose(columns, perm=[0, 1, 3, 2]))


def _tents(nodes: Nodes, place: Node, cells: int) -> Node:
    """Weights [N, D, pixels, M] of linear interpolation at places [N, D, pixels] between M cells."""
    distance = nodes.Abs(nodes.Sub(nodes.Unsqueeze(place, [3]), [float(cell) for cell in range(cells)]))
    return nodes.Relu(nodes.Sub(1.0, distance))


def _numbers(nodes: Nodes, count: Node) -> Node:
    """0 to `count` − 1, float."""
    return nodes.cast(nodes.Range(0, count, 1), "FLOAT")


def _truncated(nodes: Nodes, x: Node) -> Node:
    return nodes.cast(nodes.cast(x, "INT64"), "FLOAT")
