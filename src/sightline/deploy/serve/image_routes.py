"""The addresses that take an image: /predict, /draw and /explain."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.params import Depends as Dependency
from fastapi.responses import Response

from sightline.deploy.serve import texts
from sightline.deploy.serve.answering import Server
from sightline.deploy.serve.answers import kept, png, prediction_json
from sightline.deploy.serve.batching import Job
from sightline.deploy.serve.refusal import Refusal
from sightline.deploy.serve.served import Loaded, Served
from sightline.errors import InputError

_UPLOADS = (400, 401, 404, 408, 413, 415, 422, 503)
_Model = Annotated[str | None, Query(max_length=200, description="The name of a model; by default the first one.")]
_Threshold = Annotated[
    float | None,
    Query(ge=0, le=1, description="The minimum score of objects; by default that of the model."),
]


def image_routes(server: Server, key: Sequence[Dependency]) -> APIRouter:
    """The addresses that take an image.

    Args:
        server: the models and the limits.
        key: what checks the API key; empty without one.
    """
    router = APIRouter(tags=["images"], dependencies=[*key, Depends(_known_parameters)])
    _add_prediction(router, server)
    _add_drawing(router, server)
    _add_explanation(router, server)
    return router


def _add_prediction(router: APIRouter, server: Server) -> None:
    @router.post(
        "/predict",
        summary="Predict an image",
        **_words(texts.PREDICTION),
    )
    async def predict(
        request: Request,
        model: _Model = None,
        threshold: _Threshold = None,
        files: Annotated[
            bool, Query(description="Also return the task's other files, such as class maps and meshes, as base64.")
        ] = False,
    ) -> Response:
        """What is in an image, and where. Images of several requests are predicted together."""

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            lowest = _loaded(job).threshold if threshold is None else threshold
            size = (int(job.image.shape[-2]), int(job.image.shape[-1]))
            result = kept(result, lowest, name)
            return prediction_json(_loaded(job), served.name, result, lowest, size, name, files)

        return Response(await server.answer(request, model, finish), media_type="application/json")


def _add_drawing(router: APIRouter, server: Server) -> None:
    @router.post(
        "/draw",
        summary="Draw the prediction on the image",
        **_words(texts.PICTURE),
    )
    async def draw(request: Request, model: _Model = None, threshold: _Threshold = None) -> Response:
        """The image with what the model found drawn on it, as a PNG."""

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            lowest = _loaded(job).threshold if threshold is None else threshold
            return png(_loaded(job).draw(job.image, kept(result, lowest, name)))

        return Response(await server.answer(request, model, finish), media_type="image/png")


def _add_explanation(router: APIRouter, server: Server) -> None:
    @router.post(
        "/explain",
        summary="Explain a prediction",
        **_words(texts.PICTURE, not_found=texts.NOT_EXPLAINED),
    )
    async def explain(
        request: Request,
        model: _Model = None,
        target: Annotated[
            str | None,
            Query(
                max_length=200,
                description='What is explained: a class such as "dog", "box:0" for the object of the highest score, '
                '"mask:0", "class:road"; by default the best class or object.',
            ),
        ] = None,
        method: Annotated[
            str | None,
            Query(max_length=40, description="One of the methods that /models lists; by default that of the task."),
        ] = None,
        layer: Annotated[
            str | None, Query(max_length=200, description="The path of a layer; by default the last feature map.")
        ] = None,
    ) -> Response:
        """Why the model thinks so: a heat map over the image, as a PNG."""

        def call(loaded: Loaded) -> Callable[[Any], Any]:
            function = loaded.explain
            if function is None:
                raise Refusal(404, f"{loaded.model.title} cannot be explained; serve the model that it was made from")
            if method is not None and method not in loaded.methods:
                raise Refusal(404, f"method is {method!r}, but must be one of {', '.join(loaded.methods)}")

            def explained(image: Any) -> Any:
                try:
                    return function(loaded.model, image, method, target, layer)
                except InputError as error:  # the image has been read, so the model lacks the target or the layer
                    raise Refusal(404, str(error)) from None

            return explained

        def finish(served: Served, job: Job, name: str, result: Any) -> bytes:
            server.metrics.add("sightline_images_total", model=served.name)
            return png(result)

        return Response(await server.answer(request, model, finish, call), media_type="image/png")


def _words(answer: Any, not_found: Any = None) -> dict[str, Any]:
    """What OpenAPI says of an address that takes an image: its body, its answer and its refusals."""
    responses = {200: answer, **texts.refusals(*_UPLOADS)} | ({} if not_found is None else {404: not_found})
    return {"response_class": Response, "responses": responses, "openapi_extra": texts.body()}


def _loaded(job: Job) -> Loaded:
    assert isinstance(job.loaded, Loaded)
    return job.loaded


def _known_parameters(request: Request) -> None:
    """Refuse parameters that an address does not have, or that are given twice: they would be ignored."""
    known = [str(field.alias) for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise Refusal(422, f"there is no parameter {name[:50]!r}{meant}")
        values = request.query_params.getlist(name)
        if len(values) > 1:
            raise Refusal(422, f"the parameter {name} is given {len(values)} times; give it once")
