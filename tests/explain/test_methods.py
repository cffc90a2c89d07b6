"""Each method against its formula, a naive loop, or torchcam."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.explain.cam import CAM
from sightline.explain.d_rise import DetectionSimilarity
from sightline.explain.grad_cam import GradCAM
from sightline.explain.grad_cam_pp import GradCAMPlusPlus
from sightline.explain.integrated_gradients import IntegratedGradients
from sightline.explain.layer_cam import LayerCAM
from sightline.explain.lime import LIME
from sightline.explain.method import LayerMethod
from sightline.explain.methods import METHODS, method_named
from sightline.explain.occlusion import Occlusion
from sightline.explain.perturbation import BASELINES
from sightline.explain.rise import RISE
from sightline.explain.score_cam import ScoreCAM
from sightline.explain.superpixels import superpixels
from sightline.models.detection.candidates import Candidates


class Averaged(nn.Module):
    """Convolutions, global average pooling, one linear layer."""

    def __init__(self, hidden: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, 3), nn.ReLU())
        wide = [nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, 4)] if hidden else [nn.Linear(5, 4)]
        self.head = nn.Sequential(*wide)
        for parameter in self.parameters():
            parameter.data *= 4  # values and gradients of about 1

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


def nearly_linear() -> nn.Module:
    """Two linear layers whose activation between them is smooth, with values so small that it is nearly linear."""
    network = Averaged(hidden=8)
    network.head[1] = nn.Hardswish()
    for parameter in network.features.parameters():
        parameter.data /= 1e4
    network.head[0].bias.data.zero_()
    return network


def of_class(network: nn.Module, k: int = 1) -> Callable[[Tensor], Tensor]:
    return lambda images: network(images)[:, k]


@pytest.fixture
def image() -> Tensor:
    return torch.rand((1, 3, 15, 21), generator=torch.Generator().manual_seed(3))


def test_grad_cam_equals_the_formula_worked_by_hand() -> None:
    """One 1×1 convolution with known weights and a score that weights the pixels differently."""
    layer = nn.Conv2d(1, 2, 1, bias=False)
    layer.weight.data = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)
    places = torch.tensor([[1.0, 0.0], [0.0, 3.0]])

    def score(images: Tensor) -> Tensor:  # Σ_ij places (A_0² + A_1)
        first, second = layer(images).unbind(1)
        return (places * (first**2 + second)).sum((1, 2))

    image = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])[None, None]
    # A_0 = x, A_1 = −2x; gradients 2·places·x = [[2, 0], [0, 3]] and places; α = (2 + 3) / 4 and (1 + 3) / 4
    expected = (5 / 4 * image + 1 * -2 * image)[0, 0].relu()
    assert torch.allclose(GradCAM().explain(score, image, layer), expected)
    assert expected[1, 0] > 0
    gradients = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), places
    layer_cam = (gradients[0] * image[0, 0] + gradients[1] * -2 * image[0, 0]).relu()
    assert torch.allclose(LayerCAM().explain(score, image, layer), layer_cam)


def test_cam_equals_the_weights_of_the_linear_layer_and_grad_cam_up_to_a_constant(image: Tensor) -> None:
    network = Averaged()
    maps = network.features(image)
    found = CAM().explain(of_class(network), image, network.features)
    own = (network.head[0].weight[1][None, :, None, None] * maps).sum(1, keepdim=True)
    by_hand = F.interpolate(own, (15, 21), mode="bilinear")[0, 0].detach()
    assert torch.allclose(found, by_hand, atol=1e-5)
    small = CAM().explain(of_class(network), image[..., :15], network.features[3])
    grad_cam = GradCAM().explain(of_class(network), image, network.features)
    relu = F.interpolate(own.relu(), (15, 21), mode="bilinear")[0, 0].detach()
    assert torch.allclose(grad_cam * maps[0, 0].numel(), relu, atol=1e-5)
    assert float(relu.max()) > 0
    assert small.shape == (15, 15)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (Averaged(hidden=8), "features"),
        (nearly_linear(), "features"),
        (Averaged(), "features.1"),
        (Averaged(), "features.2"),
    ],
    ids=["two linear layers", "nearly linear", "before a convolution", "before an activation"],
)
def test_cam_refuses_other_networks_and_names_methods_that_can(network: nn.Module, layer: str, image: Tensor) -> None:
    with pytest.raises(InputError, match="use grad_cam, grad_cam_pp, layer_cam or score_cam"):
        CAM().explain(of_class(network), image, network.get_submodule(layer))


@pytest.mark.parametrize(
    ("method", "oracle", "hidden"),
    [
        (CAM(), "CAM", 0),
        (GradCAM(), "GradCAM", 7),
        (GradCAMPlusPlus(), "SmoothGradCAMpp", 7),  # GradCAMpp of version 0.5 discards its division by 2 g² + Σ A g³
        (LayerCAM(), "LayerCAM", 7),
        (ScoreCAM(batch_size=3), "ScoreCAM", 7),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("k", [0, 3])
def test_the_cam_family_equals_torchcam(method: LayerMethod, oracle: str, hidden: int, k: int, image: Tensor) -> None:
    import torchcam.methods

    network = Averaged(hidden).eval()
    extra = {"CAM": {"fc_layer": "head.0"}, "SmoothGradCAMpp": {"num_samples": 1, "std": 1e-12}}.get(oracle, {})
    with getattr(torchcam.methods, oracle)(network, "features", **extra) as extractor:
        scores = network(image.clone().requires_grad_())
        (theirs,) = extractor(class_idx=k, scores=scores, normalized=False)
    expected = F.interpolate(theirs[:, None], (15, 21), mode="bilinear")[0, 0].detach()
    assert torch.allclose(method.explain(of_class(network, k), image, network.features), expected, rtol=1e-3, atol=1e-6)
    assert float(expected.abs().max()) > 0.01


class Levels(nn.Module):
    """Two maps of different sizes, of which a score uses the second only."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"fine": images * 2, "coarse": F.avg_pool2d(images, 3)}


def test_several_maps_of_a_layer_are_explained_together(image: Tensor) -> None:
    layer = Levels()
    heat = GradCAM().explain(lambda images: layer(images)["coarse"][:, 0].sum((1, 2)), image, layer)
    expected = F.interpolate(F.avg_pool2d(image, 3)[:, :1], (15, 21), mode="bilinear")[0, 0]
    assert torch.allclose(heat, expected)
    both = GradCAM().explain(lambda x: sum(m.mean((1, 2, 3)) for m in layer(x).values()), image, layer)
    assert not torch.allclose(both, heat)


def test_maps_of_a_crop_lie_in_its_frame(image: Tensor) -> None:
    """A layer that sees a crop of the image, enlarged twice: its heat lies in the crop, and is 0 elsewhere."""
    layer = nn.Identity()

    def score(images: Tensor) -> Tensor:
        crop = F.interpolate(images[..., 3:11, 4:16], scale_factor=2, mode="bilinear")
        return layer(crop)[:, 0].square().sum((1, 2))

    heat = GradCAM().explain(score, image, layer, frame=(4.0, 3.0, 16.0, 11.0))
    outside = torch.ones(15, 21, dtype=torch.bool)
    outside[3:11, 4:16] = False
    assert float(heat[outside].abs().sum()) == 0
    assert float(torch.corrcoef(torch.stack([heat[~outside], image[0, 0, 3:11, 4:16].flatten()]))[0, 1]) > 0.9
    followed = GradCAM().explain(score, image, layer)  # the crop is an operation that is followed
    torch.testing.assert_close(followed[3:11, 4:16], heat[3:11, 4:16])
    masked = ScoreCAM().explain(score, image, layer, frame=(4.0, 3.0, 16.0, 11.0))
    assert float(masked[outside].abs().sum()) == 0 < float(masked[~outside].min())


def test_in_place_operations_after_the_layer_do_not_change_its_maps(image: Tensor) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 4, 3)
    heats = []
    for inplace in (False, True):
        network = nn.Sequential(layer, nn.ReLU(inplace=inplace), nn.Flatten(1))
        heats.append(GradCAM().explain(lambda images, net=network: net(images)[:, :99].sum(1), image, layer))
    assert torch.equal(*heats)
    assert float(layer(image).detach().min()) < 0


def test_tokens_of_a_transformer_become_a_map(image: Tensor) -> None:
    """A class token and 5×7 tokens in the order of rows and columns, of which the score is one."""

    class Tokens(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            tokens = F.avg_pool2d(images, 3).flatten(2).transpose(1, 2)
            return torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)

    layer = Tokens()
    heat = LayerCAM().explain(lambda images: layer(images)[:, 1 + 2 * 7 + 3].sum(1), image, layer)
    assert divmod(int(heat.argmax()), 21) == (7, 10)  # the middle of row 2, column 3


def test_a_score_that_does_not_depend_on_the_layer_is_refused(image: Tensor) -> None:
    network, other = Averaged(), nn.Conv2d(3, 3, 1)
    with pytest.raises(InputError, match="returned no feature map"):
        GradCAM().explain(of_class(network), image, other)
    with pytest.raises(InputError, match="does not depend on the layer Conv2d"):
        GradCAM().explain(lambda images: (network(images)[:, 0], other(images))[0], image, other)
    with pytest.raises(InputError, match="does not depend on the layer Conv2d"):
        GradCAM().explain(lambda images: other(images).detach().sum(), image, other)


def test_the_backward_pass_of_grad_cam_ends_at_the_layer(image: Tensor) -> None:
    """One forward pass, whose graph starts at the layer: less than a full forward and backward pass."""
    network, calls = Averaged(), []

    def score(images: Tensor) -> Tensor:
        calls.append(len(images))
        return network(images)[:, 0]

    graphs = []
    network.features[0].register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    GradCAM().explain(score, image, network.features)
    assert (calls, graphs) == ([1], [False])


def naive_masks(method: RISE, size: tuple[int, int]) -> list[Tensor]:
    """Masks of `method`, enlarged pixel by pixel (bilinear, half-pixel centres, edges repeated)."""
    grids, shifts = method.grids(size, torch.Generator().manual_seed(method.seed))
    steps = [-(-s // method.cells) for s in size]
    masks = []
    for grid, shift in zip(grids[:, 0], shifts, strict=True):
        mask = torch.zeros(size)
        for y in range(size[0]):
            for x in range(size[1]):
                v, u = (
                    (place + moved + 0.5) / step - 0.5 for place, moved, step in zip((y, x), shift, steps, strict=True)
                )
                v, u = max(v, 0), max(u, 0)
                for row, a in ((int(v), 1 - v % 1), (int(v) + 1, v % 1)):
                    for column, b in ((int(u), 1 - u % 1), (int(u) + 1, u % 1)):
                        mask[y, x] += a * b * grid[min(row, method.cells), min(column, method.cells)]
        masks.append(mask)
    return masks


def test_rise_equals_a_naive_loop(image: Tensor) -> None:
    method = RISE(samples=6, cells=4, keep=0.4, seed=5, batch_size=4, baseline="mean")
    network = Averaged(7)
    masks = naive_masks(method, (15, 21))
    base = image.mean((2, 3), keepdim=True)
    scores = torch.stack([network(image * mask + base * (1 - mask))[0, 1] for mask in masks]).detach()
    heat = sum((s - scores.mean()) * mask for s, mask in zip(scores, masks, strict=True)) / (0.4 * 6)
    assert torch.allclose(method.explain(of_class(network), image), heat, atol=1e-6)
    assert not torch.allclose(RISE(samples=6, cells=4, keep=0.4, seed=6).explain(of_class(network), image), heat)


def test_rise_finds_the_pixels_that_the_score_depends_on() -> None:
    image = torch.ones(1, 1, 24, 32)
    heat = RISE(samples=400).explain(lambda images: images[:, 0, 14:18, 20:24].mean((1, 2)), image)
    y, x = divmod(int(heat.argmax()), 32)
    assert abs(y - 15.5) <= 3
    assert abs(x - 21.5) <= 3


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 5), (3, 4)])
def test_occlusion_equals_a_naive_loop(window: int, stride: int, image: Tensor) -> None:
    network = Averaged(7)
    whole, total, covered = network(image)[0, 1], torch.zeros(15, 21), torch.zeros(15, 21)
    rows, columns = ({*range(0, s - window, stride), s - window} for s in (15, 21))
    for y in rows:
        for x in columns:
            changed = image.clone()
            changed[..., y : y + window, x : x + window] = 0
            total[y : y + window, x : x + window] += (whole - network(changed)[0, 1]).item()
            covered[y : y + window, x : x + window] += 1
    found = Occlusion(window=window, stride=stride, batch_size=7).explain(of_class(network), image)
    assert torch.allclose(found, total / covered.clamp(min=1), atol=1e-6)


def test_lime_recovers_a_linear_function_of_superpixels(image: Tensor) -> None:
    image = F.interpolate(image, size=(48, 48), mode="nearest")
    parts = superpixels(image, 12)
    count = int(parts.max()) + 1
    assert count > 5
    truth = torch.arange(count) - 3.0
    places = [(parts == i).nonzero()[0].tolist() for i in range(count)]

    def score(images: Tensor) -> Tensor:  # which superpixels are visible, read from one pixel of each
        visible = [(images[:, 0, y, x] == image[0, 0, y, x]).float() for y, x in places]
        return torch.stack(visible, 1) @ truth + 7

    exact = LIME(samples=150, segments=12, ridge=1e-6).explain(score, image)
    assert torch.allclose(exact, truth[parts], atol=1e-3)
    usual = LIME(samples=150, segments=12).explain(score, image)
    assert torch.allclose(usual, truth[parts], atol=0.1 * float(truth.abs().max()))
    assert float((usual - truth[parts]).abs().max()) > 0.01  # the ridge shrinks


def test_integrated_gradients_are_complete(image: Tensor) -> None:
    network = Averaged(7)
    for baseline in BASELINES:
        method = IntegratedGradients(samples=60, baseline=baseline)
        found = method.explain(of_class(network), image)
        difference = (network(image) - network(method.removed(image)))[0, 1].item()
        assert float(found.sum()) == pytest.approx(difference, rel=0.02)


def test_the_similarity_of_detections_is_iou_times_cosine_times_score() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]])
    scores = torch.tensor([[0.6, 0.0], [0.3, 0.4], [0.9, 0.1]])
    candidates = Candidates(boxes[:, None], scores.logit(), scores, boxes, torch.zeros(3, dtype=torch.int64))
    target = DetectionSimilarity(torch.tensor([0.0, 0, 10, 10]), torch.tensor([0.5, 0.0]))
    assert float(target.similarity(candidates)) == pytest.approx(0.6)
    fewer = Candidates(*(getattr(candidates, name)[1:] for name in ("boxes", "logits", "scores", "origins", "levels")))
    assert float(target.similarity(fewer)) == pytest.approx(0.5 * 0.6 * 0.4)
    none = Candidates(*(getattr(candidates, name)[3:] for name in ("boxes", "logits", "scores", "origins", "levels")))
    assert float(target.similarity(none)) == 0


def test_the_blur_keeps_the_mean_and_removes_detail(image: Tensor) -> None:
    flat = torch.full((1, 2, 20, 30), 0.7)
    assert torch.allclose(BASELINES["blur"](flat), flat)
    spot = torch.zeros(1, 1, 41, 41)
    spot[..., 20, 20] = 1
    blurred = BASELINES["blur"](spot)
    sigma = 0.05 * 41
    assert float(blurred[0, 0, 20, 20]) == pytest.approx(1 / (2 * torch.pi * sigma**2), rel=0.02)
    assert float(blurred[0, 0, 20, 22] / blurred[0, 0, 20, 20]) == pytest.approx(
        float(torch.exp(torch.tensor(-2 / sigma**2))), rel=1e-3
    )


def test_methods_are_found_by_name() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    for name in METHODS:
        assert method_named(name) == METHODS[name]()
    for written in ("Grad-CAM++", "GradCAMpp", "GradCAMPlusPlus", "gradcam++"):
        assert method_named(written) == GradCAMPlusPlus()
    assert type(method_named("gradcam")) is METHODS["grad_cam"]
    assert type(method_named("D-RISE")) is METHODS["d_rise"]
    assert method_named("RISE", samples=7) == RISE(samples=7)
    with pytest.raises(InputError, match="there is no method 'grad_kam'; did you mean 'grad_cam'"):
        method_named("grad_kam")
    with pytest.raises(InputError, match="occlusion has no argument 'samples'; it takes"):
        method_named("occlusion", samples=3)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        (
            "rise",
            {"baseline": "blurr"},
            "baseline is 'blurr', but must be one of zero, mean, blur; did you mean 'blur'",
        ),
        ("rise", {"keep": 1.5}, "keep is 1.5, but it must be a probability from 0.01 to 0.99"),
        ("lime", {"samples": 0}, "samples is 0"),
        ("occlusion", {"stride": 0}, "stride is 0"),
        ("score_cam", {"batch_size": 0}, "batch_size is 0"),
        ("d_rise", {"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        method_named(name, **settings)
