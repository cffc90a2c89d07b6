"""Report on loading a checkpoint into a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from sightline.words import listed


@dataclass
class LoadReport:
    """Report on loading a checkpoint into a model.

    Attributes:
        source: the checkpoint's file.
        loaded: number of entries of the model's state dict that were loaded.
        total: number of entries of the model's state dict.
        left_out: entries of the checkpoint that were not used, each with the reason.
        fresh: entries of the model that keep their random initialisation.
        partly: entries of layers that depend on the classes, of which only some outputs were loaded.
        kept_classes: classes of the model whose outputs were loaded, although the checkpoint has other classes. Those
            of no class, such as the background's, were loaded with them.
        adapted: entries that were adapted to a different number of image channels, or grid of position embeddings.
        note: an assumption that was made about the file, or "".
    """

    source: str
    loaded: int = 0
    total: int = 0
    left_out: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    kept_classes: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def summary(self) -> str:
        """What was loaded, in one line, for a load in which nothing is unexpected."""
        if not self.fresh:
            return f"{self.source}: {self.loaded} of the model's {self.total} entries loaded"
        return (
            f"{self.source}: all layers that these weights belong to are loaded ({self.loaded} entries); the model's "
            f"other layers ({len(self.fresh)} entries) are new and start from random numbers, as they should"
        )

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.loaded} of the model's {self.total} entries loaded"]
        of_classes = all("of other classes" in entry for entry in self.left_out)
        if self.partly and of_classes:
            lines[0] += "; the others depend on the classes, and are loaded for the classes that both have"
        elif self.left_out and of_classes:
            lines[0] += "; the layers of its classes do not fit the model's classes, for which they are trained anew"
        for title, names in (
            ("left out", self.left_out),
            ("starting afresh", _layers(self.fresh)),
            ("adapted to the image channels or the grid of positions", self.adapted),
        ):
            if names:
                lines.append(f"  {title}: {listed(names)}")
        if self.partly:
            kept = f"the outputs of {listed(self.kept_classes)}" if self.kept_classes else "boxes, no class"
            lines.append(f"  kept of {listed(_layers(self.partly))}: {kept}; other classes start afresh")
        if self.note:
            lines.append(f"  note: {self.note}")
        return "\n".join(lines)


def _layers(keys: list[str]) -> list[str]:
    return list(dict.fromkeys(key.rsplit(".", 1)[0] for key in keys))
