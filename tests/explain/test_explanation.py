"""Explanations of one image: pixels of the original image, the model as it was, pictures, the verb and the command."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.errors import InputError
from sightline.explain.explanation import Explanation, explain_image, in_original_pixels, seen_part
from sightline.explain.hooks import captured, unchanged
from sightline.explain.methods import METHODS, method_named
from sightline.explain.target import Target
from sightline.models.model import Model
from sightline.report.canvas import wrapped
from sightline.report.draw_explanation import SEEN
from sightline.report.drawing import draw_explanations
from sightline.report.fonts import font_for
from sightline.structures import ImageBatch

FEW: dict[str, dict[str, Any]] = {
    **{name: {"samples": 4} for name in ("rise", "lime", "integrated_gradients", "score_cam")},
    "occlusion": {"window": 16, "stride": 16},
}


@dataclass(frozen=True)
class Brightness(Target):
    """The mean of the left half of the network's input, as a target of any model."""

    def score(self, model: Any, batch: ImageBatch) -> Tensor:
        return batch.tensor[..., : batch.tensor.shape[-1] // 2].mean((1, 2, 3))

    def describe(self, model: Any) -> str:
        return "brightness on the left"


@dataclass(frozen=True)
class Logit(Target):
    """The logit of a class of a classifier."""

    class_id: int = 0

    def score(self, model: Any, batch: ImageBatch) -> Tensor:
        return model.network(batch.tensor)[:, self.class_id]

    def describe(self, model: Any) -> str:
        return str(model.classes[self.class_id])


@pytest.fixture(scope="session")
def classifier() -> Model:
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", classes=["cat", "dog"], image_size=32)
    for name, buffer in model.named_buffers():  # otherwise activations fade from layer to layer
        if name.endswith("running_var"):
            buffer.fill_(0.05)
    model.network.classifier[1].weight.data[0].abs_()  # so that Grad-CAM of the first class is not 0 everywhere
    return model


@pytest.fixture
def image() -> Tensor:
    return torch.rand((3, 40, 60), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(40, 60), (100, 30), (32, 32)])
def test_heat_lies_on_the_pixels_that_the_network_saw(size: tuple[int, int], classifier: Model) -> None:
    """The network's input, taken as heat, is the image again where the centre crop lies; elsewhere heat is 0."""
    x = torch.linspace(0.2, 1, size[1]).expand(3, size[0], -1)
    batch, _ = classifier.prepare([x], None)
    heat = (batch.tensor[0] * classifier.preprocess.std + classifier.preprocess.mean)[0]
    found = in_original_pixels(heat, batch)
    assert found.shape == size
    crop = min(size) * 0.875  # the crop is a square of 7/8 of the shorter side
    inside = torch.zeros(size, dtype=torch.bool)
    top, left = (round((s - crop) / 2) for s in size)
    inside[top + 2 : size[0] - top - 2, left + 2 : size[1] - left - 2] = True
    assert float((found - x[0])[inside].abs().max()) < 0.02
    outside = torch.ones(size, dtype=torch.bool)
    outside[max(0, top - 2) : size[0] - max(0, top - 2), max(0, left - 2) : size[1] - max(0, left - 2)] = False
    assert float(found[outside].abs().sum()) == 0
    assert bool(outside.any()) == (top > 2 or left > 2)


def state_of(model: nn.Module) -> list[Any]:
    """All that an explanation could leave behind in a model."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    modes = [module.training for module in model.modules()]
    parameters = [(p.requires_grad, p.grad is None) for p in model.parameters()]
    return [hooks, modes, parameters, [tensor.clone() for tensor in model.state_dict().values()]]


def equal(a: list[Any], b: list[Any]) -> bool:
    return a[:-1] == b[:-1] and all(torch.equal(x, y) for x, y in zip(a[-1], b[-1], strict=True))


@pytest.fixture
def half_frozen(classifier: Model) -> Iterator[Model]:
    """A model in training mode of which a part is frozen."""
    classifier.train()
    classifier.network.features[0].eval()
    first = next(classifier.parameters())
    first.requires_grad_(False)
    yield classifier
    first.requires_grad_(True)
    classifier.train()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "d_rise"])
def test_the_model_comes_back_as_it_was(name: str, half_frozen: Model, image: Tensor) -> None:
    before, generator = state_of(half_frozen), torch.get_rng_state()
    found = explain_image(half_frozen, image, method_named(name, **FEW.get(name, {})), Logit())
    assert equal(before, state_of(half_frozen))
    assert torch.equal(generator, torch.get_rng_state())
    assert (found.heat.shape, found.heat.dtype, found.heat.requires_grad) == ((40, 60), torch.float32, False)
    assert bool(found.heat.isfinite().all())
    assert float(found.heat.abs().max()) > 0
    assert (found.model, found.method, found.target) == ("mobilenet_v2", name, "cat")
    assert (found.layer is not None) == METHODS[name].needs_layer
    again = explain_image(half_frozen, image, method_named(name, **FEW.get(name, {})), Logit())
    assert torch.equal(found.heat, again.heat)


def test_the_model_comes_back_after_an_error(half_frozen: Model, image: Tensor) -> None:
    before = state_of(half_frozen)

    @dataclass(frozen=True)
    class Broken(Logit):
        def score(self, model: Any, batch: ImageBatch) -> Tensor:
            if torch.is_grad_enabled():
                raise ZeroDivisionError
            return super().score(model, batch)

    with pytest.raises(ZeroDivisionError):
        explain_image(half_frozen, image, "grad_cam", Broken())
    assert equal(before, state_of(half_frozen))
    layer = nn.Conv2d(1, 1, 1)
    with pytest.raises(ZeroDivisionError), unchanged(layer), captured(layer):
        raise ZeroDivisionError
    assert state_of(layer)[:2] == [[0], [True]]


def test_inference_mode_does_not_prevent_gradients(classifier: Model, image: Tensor) -> None:
    for name in ("grad_cam", "integrated_gradients"):
        method = method_named(name, **FEW.get(name, {}))
        expected = explain_image(classifier, image, method, Logit())
        with torch.inference_mode():
            found = explain_image(classifier, image.clone(), method, Logit())
            assert torch.is_inference_mode_enabled()
        assert torch.equal(found.heat, expected.heat)


def test_threads_explain_the_same_model_one_after_the_other(half_frozen: Model, image: Tensor) -> None:
    before = state_of(half_frozen)
    expected = explain_image(half_frozen, image, "grad_cam", Logit()).heat
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(explain_image, half_frozen, image, "grad_cam", Logit()) for _ in range(9)]
    assert all(torch.equal(run.result().heat, expected) for run in runs)
    assert equal(before, state_of(half_frozen))


def test_maps_of_other_threads_are_not_collected() -> None:
    layer = nn.Conv2d(1, 1, 1)
    with captured(layer) as maps, ThreadPoolExecutor(1) as pool:
        pool.submit(layer, torch.ones(1, 1, 2, 2)).result()
        assert maps == []
        layer(torch.ones(1, 1, 2, 2))
        assert len(maps) == 1


@pytest.mark.parametrize("name", ["grad_cam", "lime"])
def test_a_score_that_is_no_number_is_not_explained(name: str, image: Tensor) -> None:
    model = sl.create_model("mobilenet_v2", classes=["cat", "dog"], image_size=32)
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(InputError, match="the score of cat is nan, so it cannot be explained"):
        explain_image(model, image, method_named(name, **FEW.get(name, {})), Logit())


def test_a_gradient_that_was_there_stays(classifier: Model, image: Tensor) -> None:
    first = next(classifier.parameters())
    first.grad = torch.ones_like(first)
    try:
        explain_image(classifier, image, "grad_cam", Logit())
        assert torch.equal(first.grad, torch.ones_like(first))
        assert sum(p.grad is not None for p in classifier.parameters()) == 1
    finally:
        first.grad = None


def test_the_peak_lies_where_the_score_comes_from(classifier: Model, image: Tensor) -> None:
    found = explain_image(classifier, image, method_named("occlusion", baseline="zero"), Brightness())
    heat = found.heat.abs()
    assert float(heat[:, :22].mean()) > 3 * float(heat[:, 38:].mean())  # the crop is columns 12 to 48
    assert found.peak == divmod(int(found.heat.argmax()), 60)
    assert found.signed


def test_d_rise_explains_boxes_only(classifier: Model, image: Tensor) -> None:
    with pytest.raises(InputError, match="d_rise explains a detected box, such as box:0, not cat; use rise"):
        explain_image(classifier, image, "d_rise", Logit())


def explanation(heat: Tensor, **more: Any) -> Explanation:
    return Explanation(heat, "net", "grad_cam", "dog", 1.5, **more)


def test_pictures_show_the_heat_the_object_and_a_colour_bar() -> None:
    heat = torch.zeros(60, 90)
    heat[10:20, 60:80] = 1
    grey = torch.full((3, 60, 90), 0.5)
    plain = sl.draw(grey, explanation(heat), names=False)
    assert plain.size == (90, 60)
    pixels = np.asarray(plain).astype(int)
    assert pixels[12, 75].sum() > pixels[40, 20].sum() + 100  # bright where the heat is
    with_box = np.asarray(sl.draw(grey, explanation(heat, box=(4.0, 30.0, 24.0, 50.0)), names=False)).astype(int)
    assert with_box[30:50, 4].min() == 255
    assert np.array_equal(with_box[:25], pixels[:25])
    mask = torch.zeros(60, 90, dtype=torch.bool)
    mask[40:50, 4:24] = True
    with_mask = np.asarray(sl.draw(grey, explanation(heat, mask=mask), names=False)).astype(int)
    assert with_mask[40, 4:24].min() == 255
    assert np.array_equal(with_mask[45, 10], pixels[45, 10])
    bar = sl.draw(grey, explanation(heat))
    assert bar.width == 90
    assert bar.height > 60
    assert len(np.unique(np.asarray(bar)[60:].reshape(-1, 3), axis=0)) > 30


@pytest.mark.parametrize("name", ["a pedestrian with a red umbrella", "Bundesausbildungsfoerderungsgesetz"])
def test_long_captions_under_small_pictures_are_wrapped(name: str) -> None:
    grey = torch.full((3, 48, 64), 0.5)
    heat = torch.zeros(48, 64)
    heat[10:20, 20:40] = 1
    short, long = (sl.draw(grey, replace(explanation(heat), target=target)) for target in ("a", name))
    assert short.width == long.width == 64
    assert long.height > short.height
    captions = np.asarray(long.convert("L"))[48:]
    assert (captions[:, -2:] == captions[0, -1]).all()  # nothing reaches the right border, where it would be cut
    assert (captions[-20:] == np.asarray(short.convert("L"))[-20:]).all()  # the colour bar stays below them


def test_text_is_broken_between_words_and_in_long_ones() -> None:
    font = font_for("", 10)
    for text in ("one two three four", "incomprehensibilities of", "a", "x " * 40):
        for width in (1, 30, 60, 1000):
            lines = wrapped(text, font, width)
            assert "".join(lines).replace(" ", "") == text.replace(" ", "")  # nothing is lost
            assert all(font.getlength(line) <= width or len(line) == 1 for line in lines)
    assert wrapped("one two", font, 1000) == ["one two"]
    assert wrapped("", font, 10) == [""]


def test_a_thin_frame_marks_what_the_model_sees(classifier: Model, image: Tensor) -> None:
    found = explain_image(classifier, image, "grad_cam", Logit())
    assert found.seen == pytest.approx((13.09, 2.16, 48, 36.76), abs=0.01)  # 32 of 37 × 55 pixels
    assert found.to_dict()["seen"] == [13.09, 2.16, 48, 36.76]
    pixels = np.asarray(sl.draw(image, replace(found, heat=torch.zeros(found.image_size)), names=False))
    framed = (pixels == SEEN).all(2)
    frame = np.zeros_like(framed)
    frame[2:37, 13:48] = True
    frame[3:36, 14:47] = False
    assert np.array_equal(framed, frame)
    for size in ((32, 32), (20, 32)):  # with and without padding, and resized
        assert seen_part(ImageBatch(torch.zeros(1, 3, 32, 32), [size], [(60, 60)])) is None


def test_signed_heat_has_two_colours_and_no_heat_has_none() -> None:
    heat = torch.zeros(60, 90)
    heat[10:20, 60:80], heat[30:40, 60:80] = 1, -1
    grey = torch.full((3, 60, 90), 0.5)
    pixels = np.asarray(sl.draw(grey, explanation(heat, signed=True), names=False)).astype(int)
    assert pixels[15, 75, 0] > pixels[15, 75, 2] + 50  # red for
    assert pixels[35, 75, 2] > pixels[35, 75, 0] + 50  # blue against
    assert pixels[50, 20].tolist() == [128, 128, 128]
    nothing = np.asarray(sl.draw(grey, explanation(torch.zeros(60, 90), signed=True)))
    assert nothing[:60].min() == nothing[:60].max() == 128


def test_several_methods_stand_side_by_side() -> None:
    grey, heat = torch.full((3, 60, 90), 0.5), torch.rand(60, 90)
    parts = [explanation(heat), explanation(heat)]
    picture = draw_explanations(grey, parts)
    assert picture.width >= 3 * 90
    assert draw_explanations(grey, parts, columns=1).height > 2 * picture.height


def test_titles_have_one_height_with_and_without_a_colour_bar() -> None:
    grey, nothing = torch.full((3, 480, 480), 0.5), torch.zeros(480, 480)
    pixels = np.asarray(draw_explanations(grey, [explanation(nothing, signed=True)]))
    first, second = (int((pixels[:, column] == 128).all(1).argmax()) for column in (240, 720))
    assert first == second > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 40), (33, 1), (2, 37), (40, 3)])
@pytest.mark.parametrize("shrink", [0.3, 0.5, 0.875, 1.0])
def test_what_is_seen_of_a_few_pixels_is_outlined(size: tuple[int, int], shrink: float) -> None:
    height, width = size
    side = min(size) * shrink
    x, y = (width - side) / 2, (height - side) / 2
    found = Explanation(torch.rand(size), "net", "cam", "cat", 0.5, seen=(x, y, x + side, y + side))
    picture = sl.draw(torch.zeros(3, *size, dtype=torch.uint8), found)
    assert min(picture.size) > 0
