"""The base class of all models. A model returns losses if it is called with targets, and results otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, overload

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.class_outputs import Output, one_axis
from sightline.models.load_report import LoadReport
from sightline.models.preprocess import Preprocess
from sightline.structures import Classes, ImageBatch, Size
from sightline.structures.tabular import html_of

Losses = dict[str, Tensor]
"""Scalar losses by name. Training minimises their sum."""
State = dict[str, Tensor]
"""A state dict, as `nn.Module.state_dict` returns it."""

_Label = TypeVar("_Label")


class Calls(Protocol[_Label]):
    """Signatures of `model(images)` and `model(images, targets)`, for type checkers."""

    @overload
    def __call__(self, images: Sequence[Tensor], targets: Sequence[_Label]) -> Losses: ...
    @overload
    def __call__(self, images: Sequence[Tensor], targets: None = None) -> list[_Label]: ...


class Model(nn.Module):
    """Base class of all models: a network with its classes and its preprocessing.

    `model(images, targets)` returns losses by name; `model(images)` returns one result per image. Which of the two
    depends only on `targets`, not on training or evaluation mode. Images are tensors [C, H, W], uint8 or float in
    [0, 1], and may differ in size. Results are in pixels of these images.

    Subclasses implement `batch_losses` and `batch_results`. They override `prepare` if preprocessing changes their
    targets.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch.

    Attributes:
        task: name of the task in `sightline.tasks`.
        name: name in the catalog; empty for a model that was not created by `create_model`.
        arguments: arguments of the builder, as given to `create_model`.
        class_layers: regular expression (`re.search`) for the state dict keys whose shape depends on the classes.
        backbone_layers: regular expression for the keys of the pretrained backbone's parameters, whose learning rate a
            recipe multiplies by `backbone_lr_factor`.
        competing_classes: whether the classes share one probability, without a background, as those of a classifier.
        target_fields: fields of the targets that the model learns from besides boxes and labels, such as "masks".
        takes_cameras: whether the model uses the cameras of images, so that images are read as a `View` if they are
            known.
        takes_labels: whether the model also learns from images that only have a class label (`sightline.data.joint`).
        recipe_defaults: training settings that replace the defaults of `Recipe` for this model.
        finetune_defaults: training settings for this model if it starts from pretrained weights.
        backbone_keys: state dict key of the backbone's classifier → key of the model; None for entries that the model
            does not use.
        from_classifier: function that reshapes the classifier's state dict to fit the model; None if none is needed.
        metadata: information saved with the weights: training images, score threshold, metrics.
        weights_given: the `weights` that the model was created with; None for random weights.
        weights_report: report on loading these weights, or None.
        norms_folded: whether normalisation layers were folded into convolutions (`sightline.nn.layers.fuse`).
        unsaveable: sentence that says why `save` cannot write the model; empty if it can.
        unexportable: clause that says why its results have no exported form, if they have none.
    """

    task: str = ""
    name: str = ""
    arguments: dict[str, Any]
    class_layers: str = ""
    backbone_layers: str = r"^backbone\.(?!fpn\.|extra\.)"  # pyramids and extra maps on top of it are new
    competing_classes: bool = False
    target_fields: tuple[str, ...] = ()
    takes_cameras: bool = False
    takes_labels: bool = False
    recipe_defaults: dict[str, Any] = {}
    finetune_defaults: dict[str, Any] = {}
    backbone_keys: dict[str, str | None]
    from_classifier: Callable[[State], State] | None = None
    metadata: dict[str, Any]
    weights_given: str | None = None
    weights_report: LoadReport | None = None
    norms_folded: bool = False
    unsaveable: str = ""
    unexportable: str = "there is no exported form of its results"
    __call__: Calls[Any]

    def __init__(self, classes: Iterable[str], preprocess: Preprocess):
        super().__init__()
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        self.preprocess = preprocess
        self.arguments, self.backbone_keys, self.metadata = {}, {}, {}

    def forward(self, images: Sequence[Tensor], targets: Sequence[Any] | None = None) -> Losses | list[Any]:
        """Images [C, Hi, Wi] → one result per image, or losses by name if targets are given."""
        if targets is not None:
            if len(targets) != len(images):
                raise InputError(
                    f"there are {len(images)} images but {len(targets)} targets; give one target per image"
                )
            return self.batch_losses(*self.prepare(images, targets))
        results: dict[int, Any] = {}
        for group in self.groups(images):
            batch, _ = self.prepare([images[i] for i in group], None)
            results.update(zip(group, self.batch_results(batch), strict=True))
        return [results[i] for i in range(len(images))]

    def prepare(self, images: Sequence[Tensor], targets: Any) -> tuple[ImageBatch, Any]:
        """Preprocess images into a batch, and targets into what `batch_losses` takes; by default they do not change."""
        for target in targets or ():
            self.require_classes(target)
        return self.preprocess(images)[0], targets

    def batch_losses(self, batch: ImageBatch, targets: Any) -> Losses:
        """The losses of a batch and its targets, both as `prepare` returns them: scalars by name."""
        raise NotImplementedError(f"{type(self).__name__} does not define its losses; implement batch_losses")

    def batch_results(self, batch: ImageBatch) -> Sequence[Any]:
        """One result per image of a batch that `prepare` returned, in pixels of the original image."""
        raise NotImplementedError(f"{type(self).__name__} does not define its results; implement batch_results")

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Group images into batches such that each image has the same result as on its own: lists of positions."""
        return self.preprocess.groups(images)

    def require_classes(self, target: Any) -> None:
        """Check that a target has the model's classes.

        Raises:
            ClassMismatch: the classes differ. The message says how.
        """
        if target.classes is not None and target.classes != self.classes:
            self.classes.require_same(target.classes, "the model", target.source or "the targets")

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """The classes of the outputs of a layer that depends on the classes.

        With it, weights of a model with other classes keep the outputs of the classes that both have.

        Args:
            key: key of the state dict that `class_layers` matches.
            shape: shape of its tensor.

        Returns:
            For each leading axis that depends on the classes (nearly always one), what its indices stand for. An empty
            list if that is unknown, which leaves the layer out. By default one output per class, any number of times.
        """
        return one_axis(list(self.classes), shape)

    @property
    def in_channels(self) -> int:
        """Number of channels of the input images."""
        return self.preprocess.channels

    @property
    def seen_size(self) -> Size | None:
        """(height, width) of a square image after preprocessing; None if unknown."""
        return self.preprocess.seen_size

    def resized(self, image_size: Size) -> Size:
        """(height, width) of an image of size `image_size` after preprocessing."""
        return self.preprocess.resized(image_size)

    @property
    def architecture(self) -> type[nn.Module] | None:
        """The class that implements the paper; None if that is in the builder's file."""
        return None

    @property
    def title(self) -> str:
        """The name in the catalog, or the name of the class."""
        return self.name or type(self).__name__

    def _repr_html_(self) -> str:
        """The model in a few lines for notebooks: task, classes, and parameters of each part; `print` lists it all."""
        return html_of(self)

    def anchor_shapes(self, image_size: Size) -> Tensor | None:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`; None without anchors."""
        return None

    def map_layers(self) -> list[nn.Module]:
        """The layers whose outputs are the feature maps that predictions are made from: default layers of explanations.

        One layer, or one per level from fine to coarse, in the order of `Candidates.levels` for a detector. An empty
        list if they are unknown.
        """
        return []

    def before_training(self, folder: Path, *, same_images: bool) -> None:
        """Hook called once before training. It does nothing by default.

        Args:
            folder: folder of the run, for example for a cache.
            same_images: whether every image is the same in every epoch, because no augmentation changes it.
        """

    def after_training(self, data: Any, folder: Path, progress: bool) -> bool:
        """Hook called after the last gradient step, for example to fit the SVMs of R-CNN. It does nothing by default.

        Args:
            data: the training images with their targets.
            folder: folder of the run, for temporary files.
            progress: whether to log progress.

        Returns:
            Whether the model changed.
        """
        return False


def as_model(module: nn.Module) -> Model:
    """Return a module as a `Model`. A plain module gets the default of each attribute that it lacks, in place.

    Raises:
        InputError: the argument is not a module.
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
    defaults |= {"title": type(module).__name__, "architecture": None, "anchor_shapes": _no_anchors}
    defaults |= {"before_training": _nothing, "after_training": _nothing, "class_outputs": _no_outputs}
    for name, value in defaults.items():
        if not hasattr(module, name):
            setattr(module, name, value)
    model = cast(Model, module)
    if not isinstance(model.classes, Classes):
        model.classes = Classes(model.classes)
    return model


def _no_anchors(image_size: Size) -> None:
    return None


def _no_outputs(key: str, shape: Sequence[int]) -> list[list[Output]]:
    return []


def _same(image_size: Size) -> Size:
    return image_size


def _nothing(*_: Any, **__: Any) -> bool:
    return False
