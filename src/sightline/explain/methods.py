"""The explanation methods by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from sightline.errors import InputError
from sightline.explain.cam import CAM
from sightline.explain.d_rise import DRISE
from sightline.explain.grad_cam import GradCAM
from sightline.explain.grad_cam_pp import GradCAMPlusPlus
from sightline.explain.integrated_gradients import IntegratedGradients
from sightline.explain.layer_cam import LayerCAM
from sightline.explain.lime import LIME
from sightline.explain.method import Method
from sightline.explain.occlusion import Occlusion
from sightline.explain.rise import RISE
from sightline.explain.score_cam import ScoreCAM
from sightline.keywords import require_known
from sightline.words import did_you_mean

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        *(CAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM),
        *(Occlusion, RISE, DRISE, LIME, IntegratedGradients),
    )
}
"""Method classes by name."""


def method_named(name: str, **settings: Any) -> Method:
    """Return a method by its name: "grad_cam", or as papers and other libraries write it: "Grad-CAM++", "GradCAM".

    Args:
        name: a key of `METHODS`.
        settings: arguments of the method.

    Raises:
        InputError: there is no such method, or it has no such setting.
    """
    found = {_letters(known): method for known, method in METHODS.items()}.get(_letters(str(name)))
    if found is None:
        hint = did_you_mean(name, METHODS, "")
        known = f"{hint} There are" if hint else "there are"
        raise InputError(f"there is no method {name!r}; {known} {', '.join(METHODS)}")
    require_known(found.name, settings, settings_of(found))
    return found(**settings)


def _letters(name: str) -> str:
    """The letters of a name in lower case, with "plusplus" and "++" as "pp"."""
    written = name.lower().replace("plusplus", "pp").replace("++", "pp")
    return "".join(letter for letter in written if letter.isalpha())


def settings_of(method: Method | type[Method]) -> list[str]:
    """The names of a method's settings."""
    return [field.name for field in dataclasses.fields(method)]  # type: ignore[arg-type]
