"""Activations, filters, receptive fields, and the patches that activate a channel most."""

from __future__ import annotations

import pytest
import torch

import sightline as sl
from sightline.explain.activations import Activations, activations
from sightline.explain.features import layer_map
from sightline.explain.filters import first_filters
from sightline.explain.patches import strongest_patches
from sightline.explain.peaks import peaks
from sightline.explain.receptive_field import receptive_field
from tests.explain.small import SmallClassifier, labelled


@pytest.fixture(scope="module")
def model() -> SmallClassifier:
    return SmallClassifier()


def test_activations_are_those_of_the_layer_without_padding(model: SmallClassifier) -> None:
    image = torch.randint(0, 256, (3, 21, 30), dtype=torch.uint8)
    model.train()
    found = activations(model, image, "second")
    batch, _ = model.prepare([image], None)
    assert batch.tensor.shape[-2:] == (24, 40)
    expected = model.second(model.first(batch.tensor))[0]
    assert found.maps.shape == (6, 12, 17)  # the image is 24 × 34 pixels of the batch
    torch.testing.assert_close(found.maps, expected[:, :12, :17].detach())
    assert model.training
    assert not model.second._forward_hooks
    peaks = expected.detach()[:, :12, :17].amax((1, 2))
    assert found.strongest(2) == peaks.argsort(descending=True)[:2].tolist()


def test_channels_with_the_same_maximum_are_sorted_by_their_mean() -> None:
    maps = torch.zeros(4, 2, 2)
    maps[1, 0, 0] = maps[2] = maps[3, 0] = 6
    assert Activations("layer", maps, (2, 2), (0, 0, 2, 2)).strongest(4) == [2, 3, 1, 0]


def test_a_peak_of_several_cells_is_near_their_centre() -> None:
    maps = torch.zeros(2, 8, 9)
    maps[0, 2:7, 3:6] = 6
    maps[1, 0, 0] = -1
    maps[1, 7, 8] = 1
    value, y, x = peaks(maps)
    assert (value.tolist(), y.tolist(), x.tolist()) == ([6, 1], [4, 7], [4, 8])
    ring = torch.zeros(1, 5, 5)
    ring[0, 1:4, 1:4], ring[0, 2, 2] = 1, 0  # its centre is not on the ring
    _, y, x = peaks(ring)
    assert ring[0, int(y), int(x)] == 1


def test_patches_with_the_same_activation_are_sorted_by_the_mean_of_the_map(model: SmallClassifier) -> None:
    images = [torch.full((3, 24, 24), 30, dtype=torch.uint8) for _ in range(3)]
    images[1][:, 4:20, 4:20], images[2][:, 8:16, 8:16] = 255, 255
    data = sl.Dataset.from_labels(images, [0, 1, 0], ["red", "blue"])
    clipped = SmallClassifier()
    clipped.second = torch.nn.Sequential(model.second, Clip())
    found = strongest_patches(clipped, data, "second", top=3, progress=False)
    for patches in found.patches.values():
        assert [patch.image for patch in patches if patch.value == 100] == [1, 2]
        y, x = patches[0].peak
        assert abs(y - 12) < 3
        assert abs(x - 12) < 3


class Clip(torch.nn.Module):
    """A clamp that is no activation of PyTorch."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.clamp(-100, 100)


@pytest.mark.parametrize("inplace", [False, True])
def test_saturated_patches_are_ranked_by_what_was_clamped(model: SmallClassifier, inplace: bool) -> None:
    data = labelled()
    clamped = SmallClassifier()
    clamped.second = torch.nn.Sequential(model.second, torch.nn.Hardtanh(-1.0, 1.0, inplace=inplace))
    for name in ("first", "dense"):
        setattr(clamped, name, getattr(model, name))
    found = strongest_patches(clamped, data, "second", channels=[4, 1], share=1, progress=False).patches
    whole = strongest_patches(model, data, "second", channels=[4, 1], share=1, progress=False).patches
    for channel, patches in found.items():
        assert {patch.value for patch in patches} == {1.0}
        assert [(own.image, own.peak) for own in patches] == [(own.image, own.peak) for own in whole[channel]]
    assert not clamped.second[1]._forward_pre_hooks


def test_what_follows_the_layer_does_not_run(model: SmallClassifier) -> None:
    ran = []
    handle = model.dense.register_forward_hook(lambda *_: ran.append(1))
    activations(model, torch.zeros(3, 24, 24), "first")
    handle.remove()
    assert not ran


def test_maps_of_a_pyramid_are_chosen_by_number() -> None:
    detector = sl.create_model("sightline_n", ["a"], image_size=64)
    sides = [activations(detector, torch.zeros(3, 64, 64), "neck", which=i).maps.shape[-1] for i in range(3)]
    assert sides == [8, 4, 2]
    with pytest.raises(sl.InputError, match="returns 3 maps, so the map must be 0 to 2"):
        activations(detector, torch.zeros(3, 64, 64), "neck", which=3)


def test_layers_without_maps_are_refused(model: SmallClassifier) -> None:
    with pytest.raises(sl.InputError, match="preprocess"):
        activations(model, torch.zeros(3, 24, 24), "preproces")
    with pytest.raises(sl.InputError, match=r"returns no map \[N, C, h, w\]"):
        activations(model, torch.zeros(3, 24, 24), "preprocess")


def test_first_filters_are_those_that_see_the_pixels(model: SmallClassifier) -> None:
    found = first_filters(model)
    assert (found.layer, found.of_pixels) == ("first", True)
    assert torch.equal(found.weights, model.first.weight.detach())
    assert first_filters(model, "second").layer == "second"
    with pytest.raises(sl.InputError, match=r"'dense' holds no convolution"):
        first_filters(model, "dense")


def test_receptive_field_of_all_gradients_is_the_one_of_the_formula(model: SmallClassifier) -> None:
    """3 + 2 · (3 − 1) = 7 pixels; cell i sees pixels 2i − 3 to 2i + 3, and its centre is at 2i + 1."""
    batch, _ = model.prepare([torch.zeros(3, 24, 32)], None)
    field = receptive_field(model, model.second, batch, share=1)
    assert (field.left, field.top, field.right, field.bottom) == (-4, -4, 3, 3)
    assert field.stride == (2, 2)
    assert field.boxes(torch.tensor([5]), torch.tensor([2])).tolist() == [[1, 7, 8, 14]]
    narrow = receptive_field(model, model.second, batch, share=0.5)
    assert 0 < narrow.right - narrow.left < 7
    assert all(parameter.grad is None for parameter in model.parameters())


def test_patches_are_the_strongest_of_each_image(model: SmallClassifier) -> None:
    data = labelled()
    found = strongest_patches(model, data, "second", channels=[4, 1], top=3, share=1, batch_size=5, progress=False)
    assert list(found.patches) == [4, 1]
    for channel, patches in found.patches.items():
        best = []
        for i in range(len(data)):  # one by one
            batch, _ = model.prepare([data.image(i)], None)
            with torch.no_grad():
                values = layer_map(model, batch, model.second)[0, channel]
            best.append((float(values.max()), i, divmod(int(values.argmax()), values.shape[1])))
        best.sort(reverse=True)
        assert [patch.image for patch in patches] == [i for _, i, _ in best[:3]]
        for patch, (value, i, (y, x)) in zip(patches, best, strict=False):
            assert patch.value == pytest.approx(value, rel=1e-5)
            assert patch.name == data.name(i)
            assert patch.peak == (2 * y + 1, 2 * x + 1)
            assert patch.box == (2 * x - 3, 2 * y - 3, 2 * x + 4, 2 * y + 4)


def test_channels_that_do_not_exist_are_refused(model: SmallClassifier) -> None:
    with pytest.raises(sl.InputError, match="there is no channel 6: the layer has 6 channels, 0 to 5"):
        strongest_patches(model, labelled(2), "second", channels=[6], progress=False)


def test_maps_of_a_classifier_cover_its_centre_crop() -> None:
    model = sl.create_model("resnet18", ["a"], image_size=64)
    found = activations(model, torch.zeros(3, 80, 120), "network.layer2")
    x1, y1, x2, y2 = found.covered
    assert found.maps.shape[1:] == (8, 8)
    # the first of 8 cells, 8 pixels wide, has its centre on the first of 64 pixels: 3.5 before the middle of a cell
    pixel = (x2 - x1) / 64
    assert pixel == pytest.approx(70 / 64, abs=0.02)  # 224 of 256 parts of 80 pixels
    assert (x1 + x2) / 2 == pytest.approx(60 - 3.5 * pixel, abs=1)  # resizing and cropping round
    assert (y1 + y2) / 2 == pytest.approx(40 - 3.5 * pixel, abs=1)
