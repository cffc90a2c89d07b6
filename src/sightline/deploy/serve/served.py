"""Models that are served: each with its queue, and loaded again without losing requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from sightline.deploy.serve.batching import BatchQueue
from sightline.deploy.serve.metrics import Metrics
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.serve.settings import ServerSettings
from sightline.deploy.thresholds import score_threshold
from sightline.deploy.writers.base import Writer
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.words import did_you_mean

log = logging.getLogger("sightline")

Explain = Callable[[Model, Tensor, str | None, str | None, str | None], Image.Image]
"""(model, image, method, target, layer) → the picture of a heat map; None stands for the defaults of the model."""
Draw = Callable[[Tensor, Any], Image.Image]
"""(image, result) → a picture."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory, and everything that answers need; an answer uses one of these from its image to its JSON.

    Attributes:
        model: the model, in eval mode, on its device.
        writer: writes the JSON of the model's task.
        draw: draws a result on its image.
        explain: explains an image; None if the model cannot be explained.
        methods: the names of the methods that `explain` takes.
        threshold: the minimum score of objects if a request has none.
        since: when it was loaded, in seconds since 1970.
    """

    model: Model
    writer: Writer
    draw: Draw
    explain: Explain | None = None
    methods: tuple[str, ...] = ()
    threshold: float = field(init=False)
    since: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", score_threshold(self.model))

    def facts(self) -> dict[str, Any]:
        """What a client may want to know of the model, for JSON."""
        model = self.model
        return {
            "task": model.task,
            "model": model.title,
            "classes": list(model.classes),
            "threshold": self.threshold,
            "channels": model.in_channels,
            "methods": list(self.methods),
            "loaded": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since)),
        }


class Served:
    """A model by its name, with its queue.

    Args:
        name: the name in addresses.
        loaded: the model.
        reopen: loads the model again; None for a model that was given in memory.
        settings: the limits.
        metrics: where batches are counted.
    """

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        reopen: Callable[[], Loaded] | None,
        settings: ServerSettings,
        metrics: Metrics,
    ):
        self.name, self.loaded, self.reopen = name, loaded, reopen
        self.reloads = 0
        self.metrics = metrics
        self.queue = BatchQueue(settings, self._observe)
        self._reloading = threading.Lock()

    def _observe(self, count: int, seconds: float) -> None:
        self.metrics.add("sightline_images_total", count, model=self.name)
        self.metrics.observe("sightline_batch_size", count, model=self.name)
        self.metrics.observe("sightline_batch_seconds", seconds, model=self.name)

    def facts(self) -> dict[str, Any]:
        """What a client may want to know of the model, for JSON."""
        return {"name": self.name, **self.loaded.facts(), "reloads": self.reloads, "queue": len(self.queue)}

    def reload(self) -> None:
        """Load the model again from its file. Requests that have been admitted are answered by the model that is
        replaced; both are in memory until then.

        Raises:
            Refusal: 409, the model was given in memory, is being reloaded, or its file cannot be loaded, in which case
                the model in use stays.
        """
        if self.reopen is None:
            raise Refusal(409, f"the model {self.name} was not loaded from a file, so it cannot be loaded again")
        if not self._reloading.acquire(blocking=False):
            raise Refusal(409, f"the model {self.name} is being loaded again already; wait until it is")
        try:
            self.loaded = self.reopen()
        except Exception as error:  # also too little memory for both models: what is served must stay
            self.metrics.add("sightline_reloads_total", model=self.name, outcome="failed")
            kind = "" if isinstance(error, InputError | OSError) else f"{type(error).__name__}: "
            raise Refusal(
                409,
                f"the model {self.name} stays as it is, because loading it again failed: {kind}"
                f"{' '.join(str(error).split())[:500]}",
            ) from None
        finally:
            self._reloading.release()
        self.reloads += 1
        self.metrics.add("sightline_reloads_total", model=self.name, outcome="done")


class ServedModels(Mapping[str, Served]):
    """The models of a server by name; the first one answers requests that name none."""

    def __init__(self, models: Iterable[Served]):
        self._models = {model.name: model for model in models}

    def __getitem__(self, name: str) -> Served:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def named(self, name: str | None) -> Served:
        """The model of a request.

        Raises:
            Refusal: 404, there is none of this name.
        """
        if name is None:
            return next(iter(self._models.values()))
        if name not in self._models:
            hint = did_you_mean(name[:100], self._models, "")
            raise Refusal(
                404, f"there is no model {name[:100]!r}; {hint} there are {', '.join(self)}".replace("  ", " ")
            )
        return self._models[name]

    def reload_all(self) -> None:
        """Load all models again that can be; failures are logged, and the models in use stay."""
        for model in self.values():
            if model.reopen is None:
                continue
            try:
                model.reload()
                log.warning("%s: loaded again", model.name)
            except Refusal as refusal:
                log.warning("%s", refusal)

    def close(self) -> None:
        """Finish the requests in the queues, and end their threads."""
        for model in self.values():
            model.queue.close()
