"""Serve models over HTTP: FastAPI and uvicorn, with dynamic batching, limits, and a page to try the models on."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
