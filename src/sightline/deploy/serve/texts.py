"""The descriptions in the server's OpenAPI document."""

from __future__ import annotations

from typing import Any

from sightline.deploy.serve.bodies import FIELD
from sightline.deploy.serve.settings import ServerSettings

TITLE = "Sightline"
SUMMARY = "What is in an image, where, and why the model thinks so."
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "application/octet-stream")


def description(settings: ServerSettings) -> str:
    """The limits of the server, in words."""
    return (
        "Send an image as the body of a request, or as a file in a form. The server never fetches an address. "
        f"An image has at most {settings.max_pixels} pixels and a body at most {settings.max_body_mb:g} MB; a request "
        f"must arrive within {settings.timeout:g} seconds, and is answered within {settings.timeout:g} seconds after "
        f"that. At most {settings.max_queue} images per model wait; further ones get status 503, and can be sent again "
        "later. Coordinates are pixels of the upright image, from its upper left corner. Every refusal is JSON with "
        "one sentence."
    )


def body() -> dict[str, Any]:
    """The body of a request: an image, alone or in a form."""
    image = {"type": "string", "format": "binary", "minLength": 1, "description": "The bytes of an image file."}
    form = {"type": "object", "properties": {FIELD: image}, "required": [FIELD], "additionalProperties": False}
    content: dict[str, Any] = {kind: {"schema": image} for kind in IMAGE_TYPES}
    return {
        "requestBody": {
            "required": True,
            "description": "An image file, as it is or as the only file of a form. Its format is recognised by its "
            "first bytes, not by the content type.",
            "content": content | {"multipart/form-data": {"schema": form}},
        }
    }


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses to requests that are refused."""
    schema = {
        "type": "object",
        "properties": {"error": {"type": "string", "description": "What is wrong, and what to do."}},
        "required": ["error"],
    }
    content = {"application/json": {"schema": schema}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


_REFUSALS = {
    400: "The body is missing, or is a form that cannot be read.",
    401: "The API key is missing or wrong.",
    404: "There is no model of this name.",
    408: "The body did not arrive in time.",
    409: "The model cannot be loaded again; the one in use stays.",
    413: "The body is too large, or the image has too many pixels.",
    415: "The body is not an image of a known format.",
    422: "A parameter is wrong, the image is damaged, or it is not one that the model takes.",
    503: "The queue is full, the answer took too long, or the server is shutting down; send the request again later.",
}

NOT_EXPLAINED = {
    **refusals(404)[404],
    "description": "There is no model of this name, it cannot be explained, or it has no such target, method or layer.",
}

PREDICTION: dict[str, Any] = {
    "description": "What the model found. `prediction` has the form of the model's task, that of predictions.json "
    "written by `sightline predict`: for objects and class maps the form of COCO annotations, for image classes the "
    "best classes with their scores.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "model": {"type": "string", "description": "The name of the model."},
                    "task": {"type": "string", "description": "The task of the model, such as detection."},
                    "threshold": {"type": "number", "description": "The minimum score of objects."},
                    "prediction": {"type": "object", "description": "The prediction in the form of the task."},
                    "files": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "description": "Other files of the prediction by their paths, as base64; only with files=true.",
                    },
                },
                "required": ["model", "task", "threshold", "prediction"],
            }
        }
    },
}

PICTURE: dict[str, Any] = {
    "description": "A picture.",
    "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
}

MODELS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "The name in addresses."},
        "task": {"type": "string"},
        "model": {"type": "string", "description": "The architecture, and what runs an exported model."},
        "classes": {"type": "array", "items": {"type": "string"}},
        "threshold": {"type": "number", "description": "The minimum score of objects if a request has none."},
        "channels": {"type": "integer", "description": "Channels of the images that the model takes."},
        "methods": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Methods of /explain; empty if the model cannot be explained.",
        },
        "loaded": {"type": "string", "description": "When the model was loaded, in UTC."},
        "reloads": {"type": "integer", "description": "How often it was loaded again."},
        "queue": {"type": "integer", "description": "Images that are decoded, wait, or are predicted."},
    },
    "required": ["name", "task", "model", "classes", "threshold", "channels", "methods", "loaded", "reloads", "queue"],
}
