"""The table of `sightline.summary`: its rows, totals and text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sightline.words import counted

READABLE_ROWS = 40
"""The largest number of rows in a table for which no depth is given."""
_NOTE = (
    "Not trainable: frozen parameters and the moving averages of normalisation layers. FLOPs count matrix products,\n"
    "convolutions and attention of one image, two per multiply-add."
)


@dataclass
class Layer:
    """A row of the table.

    Attributes:
        name: dotted name, as in `named_modules`; "" for the model itself.
        kind: name of the class.
        shapes: shapes of the output tensors of its first call; empty for a module that was not called or returns none.
        calls: how often it was called.
        trainable: number of trainable parameters.
        fixed: number of parameters that are not trainable, and of moving averages.
        averages: number of moving averages: saved floating-point buffers, which are no parameters in PyTorch.
        flops: floating-point operations of all calls.
    """

    name: str
    kind: str
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    calls: int = 0
    trainable: int = 0
    fixed: int = 0
    averages: int = 0
    flops: int = 0


@dataclass(frozen=True)
class Summary:
    """What `sightline.summary` returns; `print` shows it as a table.

    Attributes:
        title: name of the model.
        image: shape of the image, [C, H, W].
        layers: one row per layer, in the order of `named_modules`. Each parameter and each operation is counted in
            exactly one row.
        shown: the rows of the table: `layers`, or if no depth was given, those of the largest depth that has at most
            `READABLE_ROWS` rows.
    """

    title: str
    image: tuple[int, ...]
    layers: list[Layer]
    shown: list[Layer] = field(repr=False)

    @property
    def trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def fixed(self) -> int:
        """Number of parameters that are not trainable, counting moving averages."""
        return sum(layer.fixed for layer in self.layers)

    @property
    def averages(self) -> int:
        """Number of moving averages and other saved floating-point buffers."""
        return sum(layer.averages for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Number of parameters, trainable or not, as PyTorch and papers count them: without moving averages."""
        return self.total - self.averages

    @property
    def total(self) -> int:
        """Number of parameters and moving averages, which is what a saved file holds."""
        return self.trainable + self.fixed

    @property
    def flops(self) -> int:
        """Floating-point operations for one image: matrix products and convolutions, two per multiply-add."""
        return sum(layer.flops for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Half the FLOPs. Papers often call this number FLOPs."""
        return self.flops // 2

    def to_dict(self) -> dict[str, Any]:
        """The totals and all layers, as JSON values."""
        names = ("title", "parameters", "averages", "total", "trainable", "fixed", "flops", "multiply_adds")
        rows = [asdict(layer) | {"shapes": [list(shape) for shape in layer.shapes]} for layer in self.layers]
        return {name: getattr(self, name) for name in names} | {"image": list(self.image), "layers": rows}

    def table(self, width: int = 120) -> str:
        """The table as text of at most `width` columns; long names and shapes are shortened."""
        heads = ("layer", "type", "output", "trainable", "not trainable", "FLOPs")
        rows = [
            (
                layer.name or "(the model)",
                layer.kind,
                _shapes(layer),
                *(f"{count:,}" if count else "" for count in (layer.trainable, layer.fixed)),
                _scaled(layer.flops) if layer.flops else "",
            )
            for layer in self.shown
        ]
        total = ("total", "", "", f"{self.trainable:,}", f"{self.fixed:,}", _scaled(self.flops))
        cells = [heads, *rows, total]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        spare = width - sum(widths) - 2 * (len(heads) - 1)
        for column, least in ((0, 24), (2, 18), (1, 12)):
            less = min(max(-spare, 0), max(widths[column] - least, 0))
            widths[column] -= less
            spare += less
        lines = ["  ".join(_fitted(text, widths[i], i) for i, text in enumerate(row)).rstrip() for row in cells]
        rule = "─" * min(width, sum(widths) + 2 * (len(heads) - 1))
        image = " × ".join(str(side) for side in self.image)
        parameters = f"{self.parameters:,} parameters"
        if self.averages:
            parameters += f"; with {self.averages:,} moving averages {self.total:,}"
        totals = (
            f"{parameters}: {self.trainable:,} trainable, {self.fixed:,} not\n"
            f"{_scaled(self.flops)} FLOPs ({_scaled(self.multiply_adds)} multiply-adds)"
        )
        head = f"{self.title}, image {image}"
        return "\n".join([head, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], rule, totals, _NOTE])

    def __str__(self) -> str:
        return self.table()


def _shapes(layer: Layer) -> str:
    if not layer.shapes:
        return ""
    further = len(layer.shapes) - 1
    text = str(list(layer.shapes[0])) + (f" and {further} more" if further else "")
    return text + (f", {counted(layer.calls, 'call')}" if layer.calls > 1 else "")


def _scaled(count: float) -> str:
    """1.82 G for 1,820,000,000."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return f"{count:g}"


def _fitted(text: str, width: int, column: int) -> str:
    if len(text) > width:  # the end of a name tells more than its beginning
        text = "…" + text[-(width - 1) :] if column == 0 else text[: width - 1] + "…"
    return text.ljust(width) if column < 3 else text.rjust(width)
