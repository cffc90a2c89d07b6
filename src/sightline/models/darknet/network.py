"""The network that a darknet `.cfg` file describes, section by section."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.models.darknet import layers
from sightline.models.darknet.cfg import HEADS, Section
from sightline.nn.layers.space_to_depth import DarknetReorg

Shape = tuple[int, int, int]
"""Channels, height and width of a map."""


class DarknetNetwork(nn.Module):
    """Batch [N, C, H, W] → the map that each head reads, or, without heads, logits [N, K].

    Layer i is that of darknet's own count: the first section behind [net] is 0.

    Args:
        sections: of `read_cfg`.

    Attributes:
        sections: those of the layers.
        layers: one module per section.
        sources: for each layer, the layers whose outputs it reads; −1 is the image.
        shapes: (channels, height, width) of each output for images of the size of [net].
        input_shape: that of the image.
        heads: layers that give boxes, in order.

    Raises:
        InputError: a layer does not fit those before it; the sentence names file, line and section.
    """

    def __init__(self, sections: Sequence[Section]):
        super().__init__()
        net, self.sections = sections[0], list(sections[1:])
        self.input_shape: Shape = (
            net.whole("channels", 3, 1),
            net.whole("height", None, 1),
            net.whole("width", None, 1),
        )
        self.heads = [i for i, s in enumerate(self.sections) if s.kind in HEADS]
        self.sources: list[tuple[int, ...]] = []
        self.shapes: list[Shape] = []
        built = []
        for i, section in enumerate(self.sections):
            sources = self._sources(i, section)
            shapes = [self.input_shape if j < 0 else self.shapes[j] for j in sources]
            module, shape = self._layer(section, shapes, i)
            if min(shape) < 1:
                raise section.error(
                    f"nothing is left of its map of {shapes[0][1]}×{shapes[0][2]} cells; give a larger width and height"
                )
            self.sources.append(sources)
            self.shapes.append(shape)
            built.append(module)
        self.layers = nn.ModuleList(built)
        self._last_use = {j: i for i, sources in enumerate(self.sources) for j in sources}

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Pure tensor code: one map [N, C_i, H_i, W_i] per head, in the order of the file; or logits [N, K]."""
        kept = {-1: images}
        found = []
        for i, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            kept[i] = layer(*(kept[j] for j in sources))
            if i in self.heads:
                found.append(kept[i])
            for j in set(sources):
                if self._last_use[j] == i:
                    del kept[j]
            if i not in self._last_use and i < len(self.layers) - 1:
                del kept[i]
        return found or kept[len(self.layers) - 1].flatten(1)

    def map_before(self, i: int) -> nn.Module:
        """The nearest layer before layer i whose output is a map, not a vector; dropout counts as no layer."""
        while True:
            i = self.sources[i][0]
            if i <= 0 or (min(self.shapes[i][1:]) > 1 and not isinstance(self.layers[i], nn.Dropout)):
                return self.layers[max(i, 0)]

    def weighted(self) -> list[tuple[int, layers.Weighted]]:
        """Layers whose weights a `.weights` file contains, with their positions, in the order of the file."""
        return [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, layers.Weighted)]

    def _sources(self, i: int, section: Section) -> tuple[int, ...]:
        if section.kind == "route":
            asked = section.whole_numbers("layers")
            if not asked:
                raise section.error("layers is missing; add a line layers=… with the layers to take")
        elif section.kind == "shortcut":
            asked = section.whole_numbers("from")
            if len(asked) != 1:
                raise section.error("from must be one layer: from=-3 is the third above")
        else:
            return (i - 1,)
        found = [j if j >= 0 else i + j for j in asked]
        for name, j in zip(asked, found, strict=True):
            if not 0 <= j < i:
                raise section.error(f"it takes layer {name}, but is layer {i} itself and can only take 0 to {i - 1}")
            if j in self.heads:
                head = self.sections[j]
                raise section.error(f"it takes layer {name}, [{head.kind}] in line {head.line}, which gives no map")
        return (i - 1, *found) if section.kind == "shortcut" else tuple(found)

    def _layer(self, s: Section, shapes: Sequence[Shape], i: int) -> tuple[nn.Module, Shape]:
        """The module of a section, and the shape of its output."""
        c, h, w = shapes[0]
        match s.kind:
            case "convolutional":
                size, stride, groups = s.whole("size", 1, 1), s.whole("stride", 1, 1), s.whole("groups", 1, 1)
                filters = s.whole("filters", 1, 1)
                padding = size // 2 if s.whole("pad", 0) else s.whole("padding", 0)
                if c % groups or filters % groups:
                    raise s.error(f"groups={groups}, but must divide its {c} channels and its {filters} filters")
                normalize = bool(s.whole("batch_normalize", 0))
                conv = layers.Convolution(
                    c, filters, size, stride, padding, groups, normalize, _activation(s, "logistic")
                )
                return conv, (filters, *((n + 2 * padding - size) // stride + 1 for n in (h, w)))  # type: ignore[return-value]
            case "local":
                size, stride, filters = s.whole("size", 1, 1), s.whole("stride", 1, 1), s.whole("filters", 1, 1)
                padding = 1 if s.whole("pad", 0) else 0
                if padding and size // 2 != 1:
                    raise s.error(f"size={size} with pad=1; darknet pads one cell here, which suits size=3 alone")
                rows, columns = ((n + 2 * padding - size) // stride + 1 for n in (h, w))
                if min(rows, columns) < 1:
                    return nn.Identity(), (filters, rows, columns)  # refused by the caller
                local = layers.LocallyConnected(c, filters, size, stride, padding, (rows, columns))
                return layers.Local(local, _activation(s, "logistic")), (filters, rows, columns)
            case "connected":
                outputs = s.whole("output", 1, 1)
                normalize = bool(s.whole("batch_normalize", 0))
                return layers.Connected(c * h * w, outputs, normalize, _activation(s, "logistic")), (outputs, 1, 1)
            case "maxpool":
                stride = s.whole("stride", 1, 1)
                size = s.whole("size", stride, 1)
                pool = layers.MaxPool(size, stride, s.whole("padding", size - 1))
                return pool, (c, pool.output(h), pool.output(w))
            case "avgpool":
                return nn.AdaptiveAvgPool2d(1), (c, 1, 1)
            case "dropout":
                chance = s.number("probability", 0.5)
                if not 0 <= chance < 1:
                    raise s.error(f"probability={chance}, but must be at least 0 and below 1", "probability")
                return nn.Dropout(chance), (c, h, w)
            case "route":
                return self._route(s, shapes)
            case "shortcut":
                _, height, width = shapes[1]
                if height % h or width % w or height // h != width // w:
                    raise s.error(
                        f"it adds a map of {height}×{width} cells to one of {h}×{w}; the earlier one must be of the "
                        "same size, or larger by a whole factor"
                    )
                return layers.Shortcut(_activation(s, "linear")), (c, h, w)
            case "upsample":
                stride = s.whole("stride", 2, 1)
                return layers.Upsample(stride, s.number("scale", 1.0)), (c, h * stride, w * stride)
            case "reorg":
                return _reorg(s, (c, h, w))
            case "crop":
                height, width = s.whole("crop_height", 1, 1), s.whole("crop_width", 1, 1)
                if height > h or width > w:
                    raise s.error(f"it crops {height}×{width} of a map of {h}×{w}; give smaller numbers")
                return layers.Crop((height, width), not s.whole("noadjust", 0)), (c, height, width)
            case "softmax":
                return self._softmax(s, (c, h, w), i), (c, h, w)
            case "cost" | "yolo" | "region" | "detection":
                return nn.Identity(), (c, h, w)
        raise s.error("this section is not supported")

    def _route(self, s: Section, shapes: Sequence[Shape]) -> tuple[nn.Module, Shape]:
        groups, group = s.whole("groups", 1, 1), s.whole("group_id", 0)
        if group >= groups or any(c % groups for c, _, _ in shapes):
            counts = ", ".join(str(c) for c, _, _ in shapes)
            raise s.error(f"groups={groups} and group_id={group} do not fit maps of {counts} channels")
        if len({shape[1:] for shape in shapes}) > 1:
            sizes = ", ".join(f"{h}×{w}" for _, h, w in shapes)
            raise s.error(
                f"its maps differ in size ({sizes}); the width and height of [net] must be multiples of the "
                "coarsest stride, or layers= names others"
            )
        return layers.Route(groups, group), (sum(c for c, _, _ in shapes) // groups, *shapes[0][1:])

    def _softmax(self, s: Section, shape: Shape, i: int) -> nn.Module:
        groups, temperature = s.whole("groups", 1, 1), s.number("temperature", 1.0)
        numbers = shape[0] * shape[1] * shape[2]
        if numbers % groups or temperature <= 0:
            raise s.error(f"groups={groups} and temperature={temperature} do not fit {numbers} numbers")
        last = all(after.kind == "cost" for after in self.sections[i + 1 :])
        if last and groups > 1:
            raise s.error(f"groups={groups} at the end would be several classes per image; only groups=1 is supported")
        return layers.Divide(temperature) if last else layers.Softmax(groups, temperature)


def _reorg(s: Section, shape: Shape) -> tuple[nn.Module, Shape]:
    c, h, w = shape
    stride = s.whole("stride", 1, 1)
    if c % stride**2:
        raise s.error(f"stride={stride} takes a multiple of {stride**2} channels, not {c}")
    if s.whole("reverse", 0):
        return layers.ReverseReorg(stride), (c // stride**2, h * stride, w * stride)
    if h % stride or w % stride:
        raise s.error(f"stride={stride} does not divide its map of {h}×{w} cells; change width and height of [net]")
    return DarknetReorg(stride), (c * stride**2, h // stride, w // stride)


def _activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in layers.ACTIVATIONS:
        known = ", ".join(layers.ACTIVATIONS)
        raise section.error(f"activation={name} is not supported; known are {known}", "activation")
    return name


def require_head_width(network: DarknetNetwork, i: int, expected: Shape) -> None:
    """Check that the input of a head, layer i, has the number of channels and cells that its keys require."""
    found = network.shapes[i]
    if found[0] * found[1] * found[2] != expected[0] * expected[1] * expected[2] or (
        expected[1:] != (1, 1) and found != expected
    ):
        given, asked = (f"{c}×{h}×{w}" if h * w > 1 else str(c) for c, h, w in (found, expected))
        raise network.sections[i].error(
            f"its keys ask for {asked} numbers, but the layer before it gives {given}; change filters there"
        )
