"""What every model declares, and the one way it is called: with targets it gives losses, without them results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, overload

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.load_report import LoadReport
from sightline.models.preprocess import Preprocess
from sightline.structures import Classes, ImageBatch, Size

Losses = dict[str, Tensor]
"""Scalars by name; their sum is what a training minimises."""
State = dict[str, Tensor]
"""Tensors by key, as `nn.Module.state_dict` gives them."""

_Label = TypeVar("_Label")


class Calls(Protocol[_Label]):
    """How a model whose targets and results are of a type is called, for type checkers."""

    @overload
    def __call__(self, images: Sequence[Tensor], targets: Sequence[_Label]) -> Losses: ...
    @overload
    def __call__(self, images: Sequence[Tensor], targets: None = None) -> list[_Label]: ...


class Model(nn.Module):
    """A network with its classes and its preprocessing: `model(images, targets)` gives losses, `model(images)` results.

    Images are tensors [C, H, W], each of its own size, uint8 or float in [0, 1]. Which of the two it gives depends on
    `targets` alone, never on training or evaluation mode. Results are in pixels of the images that went in.

    A subclass says what happens to a batch: `batch_losses` and `batch_results`, and where its targets change with the
    preprocessing, `prepare`.

    Args:
        classes: names of the K classes.
        preprocess: images → batch.

    Attributes:
        task: name of its task in `sightline.tasks`.
        name: in the catalog; empty for a model that was not made by `create_model`.
        arguments: of its builder, as given to `create_model`.
        class_layers: pattern (`re.search`) of the keys of state entries whose shape depends on the classes.
        backbone_layers: pattern of the keys of parameters that belong to the pretrained backbone, whose learning rate a
            recipe multiplies by `backbone_lr_factor`.
        target_fields: fields of the targets that it learns from besides boxes and labels, such as "masks".
        takes_labels: whether it also learns from images that have a label alone (`sightline.data.joint`).
        recipe_defaults: settings of a training recipe that suit it better than the recipe's own defaults.
        finetune_defaults: the same, for a model that starts from pretrained weights.
        backbone_keys: key of the backbone's classifier → key of the model, None for what the model leaves out.
        from_classifier: gives the state of that classifier the shapes of the model's entries; None where they agree.
        metadata: what was saved with the weights: the images they were trained on, the score threshold, metrics.
        weights_given: the `weights` it was created with, None for random numbers.
        weights_report: what became of the entries of those weights.
        norms_folded: whether its norms were folded into its convolutions (`sightline.nn.layers.fuse`).
    """

    task: str = ""
    name: str = ""
    arguments: dict[str, Any]
    class_layers: str = ""
    backbone_layers: str = r"^backbone\.(?!fpn\.|extra\.)"  # pyramids and extra maps on top of it are new
    target_fields: tuple[str, ...] = ()
    takes_labels: bool = False
    recipe_defaults: dict[str, Any] = {}
    finetune_defaults: dict[str, Any] = {}
    backbone_keys: dict[str, str | None]
    from_classifier: Callable[[State], State] | None = None
    metadata: dict[str, Any]
    weights_given: str | None = None
    weights_report: LoadReport | None = None
    norms_folded: bool = False
    __call__: Calls[Any]

    def __init__(self, classes: Iterable[str], preprocess: Preprocess):
        super().__init__()
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        self.preprocess = preprocess
        self.arguments, self.backbone_keys, self.metadata = {}, {}, {}

    def forward(self, images: Sequence[Tensor], targets: Sequence[Any] | None = None) -> Losses | list[Any]:
        """Images [C, Hi, Wi] → one result per image; with targets, the named losses instead."""
        if targets is not None:
            if len(targets) != len(images):
                raise InputError(f"there are {len(images)} images but {len(targets)} targets; give one target an image")
            return self.batch_losses(*self.prepare(images, targets))
        results: dict[int, Any] = {}
        for group in self.groups(images):
            batch, _ = self.prepare([images[i] for i in group], None)
            results.update(zip(group, self.batch_results(batch), strict=True))
        return [results[i] for i in range(len(images))]

    def prepare(self, images: Sequence[Tensor], targets: Any) -> tuple[ImageBatch, Any]:
        """Images → batch; the targets as `batch_losses` takes them, by default as they are; None stays None."""
        for target in targets or ():
            self.require_classes(target)
        return self.preprocess(images)[0], targets

    def batch_losses(self, batch: ImageBatch, targets: Any) -> Losses:
        """A batch and its targets, both of `prepare` → scalars by name."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its losses are; define batch_losses")

    def batch_results(self, batch: ImageBatch) -> Sequence[Any]:
        """A batch of `prepare` → one result per image, in pixels of the image that came in."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its results are; define batch_results")

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Positions of the images that are predicted in one batch, so that each has the result it would have alone."""
        return self.preprocess.groups(images)

    def require_classes(self, target: Any) -> None:
        """Refuse a target of other classes than the model's.

        Raises:
            ClassMismatch: naming the difference.
        """
        if target.classes is not None and target.classes != self.classes:
            self.classes.require_same(target.classes, "the model", target.source or "the targets")

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.preprocess.channels

    @property
    def seen_size(self) -> Size | None:
        """(height, width) at which it sees a square image; None where that is not known."""
        return self.preprocess.seen_size

    def resized(self, image_size: Size) -> Size:
        """(height, width) at which it sees an image of `image_size`."""
        return self.preprocess.resized(image_size)

    @property
    def architecture(self) -> type[nn.Module] | None:
        """The class whose file follows the paper; None where that is the file of the builder."""
        return None

    @property
    def title(self) -> str:
        """Its name in the catalog, or the name of its class."""
        return self.name or type(self).__name__

    def anchor_shapes(self, image_size: Size) -> Tensor | None:
        """(width, height) of its anchors, [A, 2], in pixels of an image of `image_size`; None if it has no anchors."""
        return None

    def before_training(self, folder: Path, *, same_images: bool) -> None:
        """Called once before a training; by default nothing happens.

        Args:
            folder: of the run, for what is worth keeping during the training.
            same_images: whether no augmentation changes the images, so that each is the same in every epoch.
        """

    def after_training(self, data: Any, folder: Path, progress: bool) -> bool:
        """What is learnt after the gradient steps, such as the SVMs of R-CNN; by default nothing.

        Args:
            data: the training images with their targets.
            folder: of the run, for what is needed meanwhile.
            progress: log how far it is.

        Returns:
            Whether the model changed.
        """
        return False


def as_model(module: nn.Module) -> Model:
    """A module as a `Model`. One that is none gets the defaults of the attributes that it lacks, in place.

    Raises:
        InputError: it is no module.
    """
    if isinstance(module, Model):
        return module
    if not isinstance(module, nn.Module):
        raise InputError(f"the model is a {type(module).__name__}; give one of create_model or load")
    defaults = {name: getattr(Model, name) for name in Model.__annotations__ if hasattr(Model, name)}
    defaults |= {"arguments": {}, "backbone_keys": {}, "metadata": {}, "classes": Classes([])}
    defaults |= {"in_channels": 3, "seen_size": None, "resized": _same}
    own = getattr(module, "preprocess", None)
    if isinstance(own, Preprocess):
        defaults |= {"in_channels": own.channels, "seen_size": own.seen_size, "resized": own.resized}
    defaults |= {"title": type(module).__name__, "anchor_shapes": _no_anchors}
    defaults |= {"before_training": _nothing, "after_training": _nothing}
    for name, value in defaults.items():
        if not hasattr(module, name):
            setattr(module, name, value)
    model = cast(Model, module)
    if not isinstance(model.classes, Classes):
        model.classes = Classes(model.classes)
    return model


def _no_anchors(image_size: Size) -> None:
    return None


def _same(image_size: Size) -> Size:
    return image_size


def _nothing(*_: Any, **__: Any) -> bool:
    return False
