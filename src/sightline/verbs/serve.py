"""Serve models over HTTP: `server_app` and `serve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.optional import require
from sightline.verbs.load import load

if TYPE_CHECKING:
    import torch
    from fastapi import FastAPI

    from sightline.deploy.serve.served import Loaded, ServedModels
    from sightline.deploy.serve.settings import ServerSettings
    from sightline.models.model import Model

ModelsGiven = nn.Module | str | Path | Sequence[nn.Module | str | Path] | Mapping[str, nn.Module | str | Path]
"""A model, a saved or exported file or a run's folder; a list of these, which are named by their file or run; or these
by the name that each one gets."""
LOCAL = ("127.0.0.1", "localhost", "::1")


@checked_keywords
def server_app(
    models: ModelsGiven,
    *,
    api_key: str | None = None,
    max_batch: int = 8,
    max_wait_ms: float = 5.0,
    max_queue: int = 64,
    max_pixels: int = 50_000_000,
    max_body_mb: float = 32.0,
    timeout: float = 30.0,
    device: torch.device | str | None = None,
    runtime: Literal["onnxruntime", "openvino"] | None = None,
) -> FastAPI:
    """The application that serves models, for any ASGI server, or to be mounted in an application of your own.

    A model that is given in memory is put into eval mode, and must not be used elsewhere meanwhile.

    `serve` also ends connections that are slow to send or read; behind another server, that is its task.

    Args:
        models: a model, a saved or exported file, or a run's folder; a list of these; or a dictionary of these by the
            names that clients use.
        api_key: the key that clients must send in the header X-API-Key; None for no key.
        max_batch: maximum number of images per batch.
        max_wait_ms: how long a batch waits, in milliseconds, for images that are still being decoded.
        max_queue: maximum number of images per model that are decoded, wait, or are predicted; more get status 503.
        max_pixels: maximum number of pixels of an image, by its header.
        max_body_mb: maximum size of a request's body, in units of 2^20 bytes.
        timeout: seconds in which a request must arrive, and in which it is answered after that.
        device: where the models run; None for the best available, and for a model in memory the one it is on.
        runtime: what runs exported files; "onnxruntime" by default.

    Returns:
        A FastAPI application.

    Raises:
        InputError: a model cannot be loaded, two have one name, a limit is out of range, or a package is missing.
    """
    from sightline.deploy.serve.settings import ServerSettings

    settings = ServerSettings(api_key, max_batch, max_wait_ms, max_queue, max_pixels, max_body_mb, timeout)
    return _app(models, settings, device, runtime)[0]


@checked_keywords
def serve(
    models: ModelsGiven,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    max_batch: int = 8,
    max_wait_ms: float = 5.0,
    max_queue: int = 64,
    max_pixels: int = 50_000_000,
    max_body_mb: float = 32.0,
    timeout: float = 30.0,
    device: torch.device | str | None = None,
    runtime: Literal["onnxruntime", "openvino"] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP until Ctrl-C or SIGTERM; requests that have arrived by then are answered.

    SIGHUP loads the models again from their files, without losing requests.

    Args:
        models: as for `server_app`.
        host: the address to listen on; "0.0.0.0" for all addresses of this machine.
        port: the port; 0 for any free one.
        api_key, max_batch, max_wait_ms, max_queue, max_pixels, max_body_mb, timeout, device, runtime: as for
            `server_app`.
        say: called with a line of text when the server is ready, such as `print`.

    Raises:
        InputError: as for `server_app`, or the address cannot be used.
    """
    from sightline.deploy.serve.settings import ServerSettings

    settings = ServerSettings(api_key, max_batch, max_wait_ms, max_queue, max_pixels, max_body_mb, timeout)
    _require_packages()
    from sightline.deploy.serve.running import listening, run

    with listening(host, port) as listener:
        app, served = _app(models, settings, device, runtime)
        if say is not None:
            shown = f"[{host}]" if ":" in host else host
            say(f"serving {', '.join(served)} at http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends the server)")
            if host not in LOCAL and api_key is None:
                say("the server has no API key: everybody who reaches this address can use it")
        run(app, settings, listener, served.reload_all)


def _app(
    models: ModelsGiven, settings: ServerSettings, device: torch.device | str | None, runtime: Any
) -> tuple[FastAPI, ServedModels]:
    _require_packages()
    from sightline.deploy.serve.app import make_app
    from sightline.deploy.serve.metrics import server_metrics
    from sightline.deploy.serve.served import Served, ServedModels
    from sightline.report.server_page import server_page

    named = named_models(models)
    if runtime is not None and not any(_is_exported(source) for source in named.values()):
        raise InputError(
            f"runtime {runtime!r} runs exported files (.onnx), and there is none among the models; export a model "
            "first, or leave runtime out"
        )
    metrics = server_metrics(lambda: {name: len(model.queue) for name, model in served.items()})
    served = ServedModels(
        Served(name, *_opened(source, device, runtime), settings, metrics) for name, source in named.items()
    )
    return make_app(served, settings, metrics, server_page()), served


def _require_packages() -> None:
    for module, package in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("python_multipart", "python-multipart")):
        require(module, package, "serve", "serving models")


def _opened(
    source: nn.Module | str | Path, device: torch.device | str | None, runtime: Any
) -> tuple[Loaded, Callable[[], Loaded] | None]:
    """A loaded model, and a function that loads it again; None for a model in memory."""
    from sightline.models.model import as_model
    from sightline.runtime.devices import require_device
    from sightline.training.devices import training_device

    if isinstance(source, nn.Module):
        require_device(device)
        return loaded_model(as_model(source if device is None else source.to(device))), None
    path = Path(source)

    def reopen() -> Loaded:
        exported = _is_exported(path)
        place = "cpu" if exported and device is None else device or training_device(None)
        return loaded_model(load(path, place, runtime=runtime if exported else None))

    return reopen(), reopen


def _is_exported(source: nn.Module | str | Path) -> bool:
    return isinstance(source, str | Path) and Path(source).suffix == ".onnx"


def loaded_model(model: Model) -> Loaded:
    """A model with what its task writes, draws and explains.

    Raises:
        InputError: predictions of the model's task cannot be written.
    """
    from sightline.deploy.runtimes import ExportedModel
    from sightline.deploy.serve.served import Loaded
    from sightline.report.drawing import draw
    from sightline.tasks import task_of

    task = task_of(model)
    if task.writer is None:
        raise InputError(
            f"predictions of task {model.task!r} have no JSON form, so they cannot be served; give the task a writer "
            "(sightline.deploy.writers)"
        )
    model.eval()
    able = task.explained is not None and not isinstance(model, ExportedModel)  # which has no layers or gradients
    return Loaded(model, task.writer, draw, _heat_map if able else None, quick_methods(model) if able else ())


def quick_methods(model: Model) -> tuple[str, ...]:
    """The methods that explain a model at about the cost of a prediction; others would hold up all requests.

    CAM is tried on an image of noise, because it explains only networks that end in pooling and one linear layer.
    """
    from sightline.explain.cam import CAM
    from sightline.explain.method import LayerMethod, Perturbation
    from sightline.explain.methods import METHODS

    quick = [kind for kind in METHODS.values() if issubclass(kind, LayerMethod) and not issubclass(kind, Perturbation)]
    return tuple(kind.name for kind in quick if kind is not CAM or _explained_by_cam(model))


def _explained_by_cam(model: Model) -> bool:
    """Whether CAM explains a model's classes; False for models of anything but image classes."""
    import torch

    from sightline.explain.cam import CAM
    from sightline.explain.explanation import explain_image
    from sightline.explain.hooks import unchanged
    from sightline.verbs.explained import target_of

    with unchanged(model) as place:
        image = torch.rand(model.in_channels, 64, 64, generator=torch.Generator().manual_seed(0)).to(place)
        try:
            explain_image(model, image, CAM(), target_of(model, image, None), None)
        except InputError:
            return False
    return True


def _heat_map(model: Model, image: Any, method: str | None, target: str | None, layer: str | None) -> Any:
    """The picture of an explanation; see `sightline.deploy.serve.served.Explain`."""
    from sightline.explain.explanation import explain_image
    from sightline.explain.hooks import unchanged
    from sightline.report.drawing import draw
    from sightline.verbs.explain import chosen_methods
    from sightline.verbs.explained import target_of

    (chosen,) = chosen_methods(model, method, layer, None, None, 0, 16, False)
    with unchanged(model) as place:
        what = target_of(model, image.to(place), target)
        return draw(image, explain_image(model, image.to(place), chosen, what, layer))


def named_models(models: ModelsGiven) -> dict[str, nn.Module | str | Path]:
    """The models by their names: the given ones, those of their runs or files, or of their architecture.

    Raises:
        InputError: there is none, two have one name, or a name cannot be part of an address.
    """
    if isinstance(models, Mapping):
        named = dict(models)
    else:
        given = [models] if isinstance(models, nn.Module | str | Path) else list(models)
        named = {}
        for source in given:
            name = _name_of(source)
            if name in named:
                raise InputError(
                    f"two models are named {name!r}; give them names: {{'a': …, 'b': …}}, or a=FILE b=FILE"
                )
            named[name] = source
    if not named:
        raise InputError("there are no models to serve; give at least one")
    for name, source in named.items():
        if not isinstance(name, str) or not name or not name.isprintable() or {*name} & {*"/?#\\%"}:
            raise InputError(f"{name!r} cannot be the name of a served model; use letters, digits, - and _")
        if not isinstance(source, nn.Module | str | Path):
            raise InputError(f"the model {name} is a {type(source).__name__}; give a model, a file or a run's folder")
    return named


def _name_of(source: Any) -> str:
    if isinstance(source, nn.Module):
        return str(getattr(source, "name", "") or type(source).__name__)
    if not isinstance(source, str | Path):
        raise InputError(f"a model cannot be a {type(source).__name__}; give a model, a file or a run's folder")
    path = Path(source).resolve()
    return path.stem if path.is_file() or _is_exported(path) else path.name


def parse_models(texts: Sequence[str]) -> dict[str, str] | list[str]:
    """Parse the words of the command line: files and runs, each with or without a name before "=".

    Raises:
        InputError: there is none, or two have one name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists() or not name or "/" in name:
            name, path = _name_of(text), text
        if name in found:
            raise InputError(f"two models are named {name!r} ({found[name]} and {path}); write NAME={path}")
        found[name] = path
    return found
