"""The settings of a training run in one small frozen dataclass, saved as YAML in the run's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from sightline.errors import InputError
from sightline.runtime import reading
from sightline.runtime.values import LARGEST_SEED, plain_number, require_whole, short
from sightline.training.metrics_log import atomic_write
from sightline.words import did_you_mean

DEFAULT_EPOCHS = 30
RUN = "run"
"""The entry of a run's recipe.yaml that is not a setting: the run's data, model, arguments and weights."""
_DEFAULTS_OF_OPTIMIZER = {
    "sgd": {"lr": 0.01, "weight_decay": 1e-4},
    "adamw": {"lr": 5e-4, "weight_decay": 0.05},
}
_TEN_YEARS = 5_256_000
"""In minutes."""
_LARGEST: dict[str, str | int] = {"batch_size": "batch_size", "workers": "workers", "seed": LARGEST_SEED}
"""The upper limit of each integer setting; all others have the limit of `epochs`."""
_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("cosine", "step", "constant"),
    "precision": ("no", "bf16", "fp16"),
}


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run. Settings left at None get their default, so a saved recipe is complete.

    Attributes:
        epochs: number of passes over the training set; 30 if neither `epochs` nor `minutes` is given. None with
            `minutes`: as many as fit into the time. With both, training ends at whichever comes first.
        minutes: time budget from the first step to the last validation; the schedule is adapted to it. Reading the data
            before, and the report after it, are not included.
        batch_size: images per step and process.
        accumulate: number of batches whose gradients are averaged for one optimizer step.
        optimizer: "sgd" or "adamw".
        lr: peak learning rate; by default 0.01 for SGD and 5e-4 for AdamW.
        momentum: momentum of SGD; not used by AdamW.
        weight_decay: by default 1e-4 for SGD (applied to all parameters, as in the papers of its time) and 0.05 for
            AdamW (applied to weights only, not to biases and parameters of normalisation layers).
        backbone_lr_factor: factor of the learning rate for the pretrained backbone.
        layer_decay: each part of the backbone learns at `layer_decay` times the rate of the part after it, and the last
            one at this fraction of the rate of the head (Howard & Ruder 2018, section 3.2, with 1 / 2.6; Bao et al.
            2022 with 0.65 … 0.75). None for one rate.
        freeze: how much of the backbone keeps its weights: "all", "none", or the number of its parts (such as the
            stages of a residual network), counted from the image. None for what the model was created with.
        freeze_norm: whether the backbone's batch normalisation keeps its statistics, scale and shift. None for what the
            model was created with. That of frozen parts is always kept.
        unfreeze_every: gradual unfreezing (Howard & Ruder 2018, section 3.3): first only the head learns, and after
            each of these numbers of epochs one more part of the backbone, from the last to the first that `freeze`
            allows. None for all parts from the first epoch on.
        cache_features: number of fixed views of each training image on which the frozen part of the network runs, once,
            before training; the rest learns from these features. The first view is the image itself, the others are
            augmented. With it, `freeze` is "all" by default. None computes the features in each step.
        warmup_steps: number of optimizer steps of the linear learning rate warm-up; at most a tenth of the run.
        schedule: learning rate schedule after the warm-up: "cosine" (to zero), "step" (multiplied by `gamma` at each
            milestone) or "constant".
        milestones: milestones of the "step" schedule as fractions of the run: epochs 16 and 22 of 26 are
            (0.615, 0.846).
        gamma: factor of the learning rate at each milestone of the "step" schedule.
        clip_norm: maximum norm of the gradient; a larger gradient is scaled down. None disables clipping.
        precision: "no" (float32), "bf16", or "fp16" (on a GPU).
        ema: decay of the exponential moving average of the weights, which is then validated and saved in place of the
            weights. None disables averaging.
        patience: stop after this many epochs without a better result; None never stops early.
        validate_every: number of epochs between validations (the last epoch is always validated).
        keep: the metric by which the best epoch is chosen: a column of the metrics such as "val/AP50" (of a loss, lower
            is better), or "auto": the first available validation metric, else the validation loss, else the training
            loss. "last" keeps the last epoch, for validation images that are too few to compare epochs by.
        augmentation: name of the augmentation recipe: "none" (images as they are), "light", "default", "strong", "ssd",
            "mosaic", "crops" or "resized_crops". Policies can be added to it, joined by "+": "turns" (for images
            without an up direction), "randaugment", "erasing", "mixup", "cutmix", as in
            "resized_crops+randaugment+cutmix".
        mirror: whether the augmentation may mirror images; False if left and right matter, as in text. It has no effect
            on "none", nor on an augmentation of your own.
        workers: number of processes that read images; None for 0 with data in memory, else min(2, cores − 1).
        seed: seed of the order of images, the augmentation, and the model's own randomness.

    Raises:
        InputError: a value is out of range; the message names the setting and says what to do.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    backbone_lr_factor: float = 1.0
    layer_decay: float | None = None
    freeze: int | str | None = None
    freeze_norm: bool | None = None
    unfreeze_every: int | None = None
    cache_features: int | None = None
    warmup_steps: int = 100
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.7, 0.9)
    gamma: float = 0.1
    clip_norm: float | None = 10.0
    precision: str = "no"
    ema: float | None = 0.999
    patience: int | None = None
    validate_every: int = 1
    keep: str = "auto"
    augmentation: str = "default"
    mirror: bool = True
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # convert numbers of NumPy and PyTorch to Python's
            value = getattr(self, field.name)
            number = None if isinstance(value, bool | int | float) else plain_number(value)
            if number is not None:
                self._set(field.name, number)
        if cast(object, self.precision) is False:  # YAML reads an unquoted no as False
            self._set("precision", "no")
        for name, choices in _CHOICES.items():
            _one_of(name, getattr(self, name), choices)
        if self.epochs is None and self.minutes is None:
            self._set("epochs", DEFAULT_EPOCHS)
        for name, default in _DEFAULTS_OF_OPTIMIZER[self.optimizer].items():
            if getattr(self, name) is None:
                self._set(name, default)
        if not isinstance(self.mirror, bool):
            raise InputError(f"mirror is {short(self.mirror)}, but it must be true or false")
        if not isinstance(self.freeze_norm, bool | None):
            raise InputError(f"freeze_norm is {short(self.freeze_norm)}, but it must be true or false")
        if isinstance(self.milestones, list):
            self._set("milestones", tuple(self.milestones))
        if not isinstance(self.milestones, tuple):
            raise InputError(f"milestones is {short(self.milestones)}, but it must be a list such as [0.7, 0.9]")

        self._whole("epochs", 1, optional=True, repair="give 1 or more, or leave it out and give minutes")
        self._number(
            "minutes",
            0,
            _TEN_YEARS,
            optional=True,
            open_low=True,
            repair="give the minutes training may take, such as 10",
        )
        self._whole("batch_size", 1, repair="give 1 or more images per step")
        self._whole("accumulate", 1, repair="give 1 to step after every batch")
        self._number("lr", 0, 1e6, open_low=True, repair="give a small positive number such as 0.001")
        self._number("momentum", 0, 1, open_high=True, repair="give 0.9 if in doubt")
        self._number("weight_decay", 0, repair="give 0 for none")
        self._number("backbone_lr_factor", 0, repair="give 1 to train the backbone as the rest, 0.1 to train it slower")
        self._number(
            "layer_decay", 0, 1, optional=True, open_low=True, repair="give 0.7 if in doubt, or none for one rate"
        )
        if isinstance(self.freeze, str) and self.freeze.strip().isdigit():  # as the command line gives it
            self._set("freeze", int(self.freeze))
        if self.cache_features is not None and self.freeze is None:
            self._set("freeze", "all")
        if self.freeze not in ("all", "none", None):
            self._whole("freeze", 0, repair="give the number of parts of the backbone, all or none")
        self._whole("unfreeze_every", 1, optional=True, repair="give 1 for one more part in each epoch")
        self._whole("cache_features", 1, optional=True, repair="give 1 for the images themselves")
        if self.cache_features is not None and self.unfreeze_every is not None:
            raise InputError(
                "unfreeze_every and cache_features are both given, but features can be cached only of parts that never "
                "learn; leave one of them out"
            )
        self._whole("warmup_steps", 0, repair="give 0 for no warm-up")
        self._number("gamma", 0, 1, open_low=True, repair="give 0.1 if in doubt")
        self._number("clip_norm", 0, optional=True, open_low=True, repair="give none not to clip")
        self._number("ema", 0, 1, optional=True, open_high=True, repair="give 0.999, or none for no averaging")
        self._whole("patience", 1, optional=True, repair="give none never to stop early")
        self._whole("validate_every", 1, repair="give 1 to validate after every epoch")
        self._whole("workers", 0, optional=True, repair="give 0 to read images in the training process itself")
        self._whole("seed", 0, repair="give 0 if in doubt")
        for name in ("keep", "augmentation"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise InputError(f"{name} is {getattr(self, name)!r}, but it must be a name; leave it out if in doubt")
        inside = all(_is_number(m) and 0 < m < 1 for m in self.milestones)
        if not inside or list(self.milestones) != sorted(self.milestones):
            raise InputError(
                f"milestones are {list(self.milestones)}, but they are parts of the run and must rise from 0 to 1; "
                "epochs 16 and 22 of 26, for example, are 0.615 and 0.846"
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _whole(self, name: str, low: int, optional: bool = False, repair: str = "") -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        self._set(name, require_whole(name, value, low, _LARGEST.get(name, "epochs"), repair))

    def _number(
        self,
        name: str,
        low: float,
        high: float = math.inf,
        *,
        optional: bool = False,
        open_low: bool = False,
        open_high: bool = False,
        repair: str = "",
    ) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if (
            not _is_number(value)
            or not low <= value <= high
            or (open_low and value == low)
            or (open_high and value == high)
        ):
            rule = f"above {low}" if open_low else f"at least {low}"
            if high < math.inf:
                rule += f" and below {high}" if open_high else f" and at most {high}"
            raise InputError(f"{name} is {short(value)}, but it must be a number {rule}; {repair}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the recipe") -> Recipe:
        """Create a recipe from a dict of settings; numbers given as text ("1e-3") are converted.

        Args:
            values: settings by name.
            source: where the settings come from, for messages.

        Raises:
            InputError: a name is unknown (the message suggests the closest one), or a value is out of range.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        clean: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                all_names = f"known are {', '.join(known)}"
                elsewhere = "arguments of the model belong to --arg, in Python to arguments="
                hint = did_you_mean(name, known, f"{all_names}; {elsewhere}")
                raise InputError(f"{source} holds the unknown entry {name!r}; {hint}")
            kind = str(known[name].type)
            if isinstance(value, str) and value.strip().lower() == "none" and "None" in kind and "str" not in kind:
                value = None  # "none" is a value of its own for the augmentation
            if isinstance(value, str) and "float" in kind:
                with contextlib.suppress(ValueError):  # other text is refused when the value is checked
                    value = float(value)  # YAML 1.1 reads 1e-3 as text; it requires 1.0e-3
            clean[name] = value
        return cls(**clean)

    @classmethod
    def given(cls, recipe: Any) -> Recipe | None:
        """Return a caller's recipe, which may also be the path of a YAML file; None stays None.

        Raises:
            InputError: it is something else, or as for `from_yaml`.
        """
        if isinstance(recipe, str | os.PathLike):
            return cls.from_yaml(recipe)
        if recipe is not None and not isinstance(recipe, Recipe):
            raise InputError(f"recipe is {recipe!r}, but it must be a Recipe or the path of a YAML file")
        return recipe

    @classmethod
    def stated(cls, recipe: Recipe | None, settings: Mapping[str, Any], source: str) -> Recipe:
        """A user's recipe with the user's settings, before anything is chosen for the model and the data.

        Args:
            recipe: the recipe; None for none.
            settings: settings by name, which override it.
            source: where the settings come from, for messages.

        Raises:
            InputError: as for `from_dict`.
        """
        return cls.from_dict(settings, source) if recipe is None else recipe.changed(**settings)

    def changed(self, **values: Any) -> Recipe:
        """Return a copy of this recipe with some settings changed.

        If the optimizer is changed, `lr` and `weight_decay` change to the defaults of the new optimizer, unless this
        recipe overrides the defaults of its current optimizer.

        Raises:
            InputError: a name is unknown, or a value is out of range.
        """
        now = self.to_dict()
        if values.get("optimizer", self.optimizer) != self.optimizer:
            usual = _DEFAULTS_OF_OPTIMIZER[self.optimizer]
            now |= {name: None for name, value in usual.items() if now[name] == value}
        return self.from_dict(now | values)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, in types that JSON and YAML can represent."""
        values = dataclasses.asdict(self)
        values["milestones"] = list(self.milestones)
        return values

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe from a YAML file; settings missing in the file have their defaults.

        Raises:
            InputError: there is no such file, it is not YAML, a name is unknown (the message suggests the closest one),
                or a value is out of range.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"there is no recipe {path}; give the path of a YAML file")
        values = reading.read_yaml(path)
        if not isinstance(values or {}, dict):
            raise InputError(f"{path} holds a {type(values).__name__}, not a recipe; write one 'name: value' per line")
        own = {name: value for name, value in (values or {}).items() if name != RUN}
        try:
            return cls.from_dict(own, str(path))
        except InputError as error:
            raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None

    def to_yaml(self, path: str | os.PathLike[str], run: Mapping[str, Any] | None = None) -> None:
        """Write all settings to a YAML file, followed by facts about the `run` in which they were used.

        `from_yaml` ignores the entry `run`, because a recipe may be used with other data and models.
        """
        values = self.to_dict() | ({RUN: dict(run)} if run else {})
        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def run_part(path: Path) -> Mapping[str, Any] | None:
    """The entry "run" of a run's recipe.yaml; None if there is none."""
    values = reading.read_yaml(path) if path.is_file() else None
    part = values.get(RUN) if isinstance(values, dict) else None
    return part if isinstance(part, dict) else None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 10**300 and math.isfinite(value)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(value, choices, f"give {choices[0]!r} if in doubt")
        raise InputError(f"{name} is {value!r}, but it must be one of {', '.join(choices)}; {hint}")
