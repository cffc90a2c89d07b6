"""SSD300, SSD512 and SSD on MobileNet v1: worked counts, the reference's numbers, a classifier's dense layers.

The assignment, the losses and the decoding are held to loops in tests/nn/test_heads.py.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection import ssd, ssdlite
from sightline.models.published import PUBLISHED, coco_classes
from sightline.models.saving import load, save
from sightline.nn.backbones.vgg_atrous import atrous_dense_layers
from sightline.nn.layers.fully_convolutional import subsampled_convolution
from sightline.runtime.shapes import shapes_only
from sightline.structures import ImageBatch, Instances
from tests.models import parity
from tests.models.test_detection_parity import check_detections, check_losses, check_values, images_of, targets_of

NAMES = ["circle", "square", "star"]
NINETY = [f"class {i}" for i in range(1, 91)]
FILE = "ssd300_vgg16_coco-b556d3b4.pth"
PIXELS = {"mean": (0.48235, 0.45882, 0.40784), "std": (1 / 255,) * 3}
# side of the image; sides of the maps, boxes a cell, boxes in all
MAPS = {
    "ssd300_vgg16": (300, (38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4), 8732),
    "ssd512_vgg16": (512, (64, 32, 16, 8, 4, 2, 1), (4, 6, 6, 6, 6, 4, 4), 24_564),
    "ssd_mobilenet_v1": (300, (19, 10, 5, 3, 2, 1), (3, 6, 6, 6, 6, 6), 1917),
}


def on_meta(name: str, **arguments: object) -> ssd.SSD:
    with shapes_only():
        return create_model(name, NINETY, **arguments).eval()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Counts


@pytest.mark.parametrize("name", MAPS)
def test_so_many_boxes_on_each_map(name: str) -> None:
    side, sides, kinds, total = MAPS[name]
    model = on_meta(name)
    maps, logits, deltas = model.network(torch.empty(2, 3, side, side, device="meta"))
    assert [tuple(x.shape[-2:]) for x in maps] == [(s, s) for s in sides]
    assert [x.shape[1] for x in maps] == model.backbone.channels
    assert [len(shape) for shape in model.shapes] == list(kinds)
    assert sum(s * s * k for s, k in zip(sides, kinds, strict=True)) == total
    assert logits.shape == (2, total, 91)
    assert deltas.shape == (2, total, 4)


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + outputs


def test_parameters_of_ssd300_are_the_published_ones() -> None:
    assert parameters(on_meta("ssd300_vgg16")) == 35_641_826


def test_parameters_of_ssd512_by_hand() -> None:
    vgg = 138_357_544 - (25_088 * 4096 + 4096) - (4096 * 4096 + 4096) - (4096 * 1000 + 1000)
    dense = conv(512, 1024, 3) + conv(1024, 1024, 1)
    pairs = conv(1024, 256, 1) + conv(256, 512, 3) + conv(512, 128, 1) + conv(128, 256, 3)
    pairs += 2 * (conv(256, 128, 1) + conv(128, 256, 3)) + conv(256, 128, 1) + conv(128, 256, 4)
    channels, kinds = (512, 1024, 512, 256, 256, 256, 256), MAPS["ssd512_vgg16"][2]
    heads = sum(conv(c, k * 91, 3) + conv(c, k * 4, 3) for c, k in zip(channels, kinds, strict=True))
    assert parameters(on_meta("ssd512_vgg16")) == vgg + dense + pairs + 512 + heads


def test_parameters_of_ssd_on_mobilenet_by_hand() -> None:
    backbone = 4_231_976 - 1025 * 1000
    pairs = 0
    before = 1024
    for out in (512, 256, 256, 128):
        pairs += before * out // 2 + out // 2 * out * 9 + 2 * (out // 2 + out)  # with their norms
        before = out
    kinds = MAPS["ssd_mobilenet_v1"][2]
    heads = sum(conv(c, k * 95, 1) for c, k in zip((512, 1024, 512, 256, 256, 128), kinds, strict=True))
    count = parameters(on_meta("ssd_mobilenet_v1"))
    assert count == backbone + pairs + heads
    assert round(count / 1e6, 1) == 6.8  # Howard et al. 2017, table 13


@pytest.mark.parametrize(("name", "billions"), [("ssd300_vgg16", 34.9), ("ssd_mobilenet_v1", 1.2)])
def test_multiplications_are_those_of_the_paper_s_table(name: str, billions: float) -> None:
    """Howard et al. 2017, table 13; torchvision says 34.858 for its SSD300."""
    model, side = on_meta(name), MAPS[name][0]
    counts = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda m, a, out: counts.append(out.numel() * m.weight[0].numel()))
    model.network(torch.empty(1, 3, side, side, device="meta"))
    assert round(sum(counts) / 1e9, 1) == billions


# Default boxes


def boxes_of(name: str) -> Tensor:
    """Centres and sides of the default boxes, in pixels."""
    side, sides = MAPS[name][:2]
    batch = ImageBatch(torch.empty(1, 3, side, side), [(side, side)], [(side, side)])
    found = create_model(name, NAMES).anchors([torch.empty(1, 1, s, s) for s in sides], batch)
    return torch.cat([(found[:, :2] + found[:, 2:]) / 2, found[:, 2:] - found[:, :2]], 1)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models start from zeros: drawing takes most of the time."""
    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, **k: self.zero_())


@pytest.mark.usefixtures("undrawn")
def test_default_boxes_by_hand() -> None:
    r = 2**0.5
    wanted = {
        # first box: its centre is half a step inside; the second square: √(s₁ s₂); ratio 2
        "ssd300_vgg16": [[4, 4, 21, 21], [4, 4, 300 * (0.07 * 0.15) ** 0.5], [4, 4, 21 * r, 21 / r]],
        "ssd512_vgg16": [[4, 4, 20.48, 20.48], [4, 4, 512 * (0.04 * 0.1) ** 0.5], [4, 4, 20.48 * r, 20.48 / r]],
        "ssd_mobilenet_v1": [[150 / 19, 150 / 19, 30, 30], [150 / 19, 150 / 19, 60 * r, 60 / r]],
    }
    for name, rows in wanted.items():
        found = boxes_of(name)
        for row, values in zip(found.tolist(), rows, strict=False):
            assert row[: len(values)] == pytest.approx(values, abs=1e-3)
        middle = MAPS[name][0] / 2
        assert found[-1, :2].tolist() == pytest.approx([middle, middle])
    large = boxes_of("ssd300_vgg16")[-4:, 2:]
    assert large.tolist()[0] == pytest.approx([261, 261])
    assert large.max() <= 300


# The reference


@pytest.mark.parametrize("gradients", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ssd300_equals_the_reference(gradients: bool, shared: Path) -> None:
    name = "ssd300_vgg16"
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = ssd.ssd300_vgg16(NINETY, **PIXELS)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    batch, targets = model.prepare(images, targets_of(recipe, images))
    assert targets is not None
    with torch.set_grad_enabled(gradients):
        maps, logits, deltas = model.network(batch.tensor)
        anchors = model.anchors(maps, batch)
        losses = model.losses(logits, deltas, anchors, model.assign(anchors, targets), targets)
    if gradients:
        return check_losses(model, losses, ref)
    check_values(losses, ref)
    for level, x in enumerate(maps):
        parity.close(recipe.spatial(x), ref[f"feature/{level}/spatial"], 1e-3)
    assert len(anchors) == int(ref["anchors/0/count"])
    parity.close(anchors[:: max(1, len(anchors) // 50)], ref["anchors/0/subsample"], 1e-4)
    parity.close(recipe.subsample(logits, 2000), ref["head/cls_logits/subsample"], 1e-3)
    parity.close(recipe.subsample(deltas, 2000), ref["head/bbox_regression/subsample"], 1e-3)
    results = model.finish(model.decode(logits, deltas, anchors, batch.sizes), batch)
    check_detections(results, ref, "", meta["score_thresh"])


def test_the_numbers_of_the_reference(shared: Path) -> None:
    known = parity.outputs(shared, "ssd300_vgg16")[1]["defaults_read_from_model"]
    model = on_meta("ssd300_vgg16", **PIXELS)
    settings, stage = model.settings, known["one_stage"]
    assert (settings.min_score, settings.nms_iou, settings.max_detections, settings.candidates, settings.negatives) == (
        *(stage[k] for k in ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates")),
        stage["neg_to_pos_ratio"],
    )
    assert list(model.steps or ()) == known["anchor_generator"]["steps"]
    assert list(settings.weights) == known["box_coder"]["weights"]


# Published weights


def flat(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """A number of its own for each entry."""
    return {key: torch.tensor(1000.0 + i).expand(shape) for i, (key, shape) in enumerate(shapes.items())}


@pytest.mark.usefixtures("undrawn")
def test_the_published_weights_bring_their_numbers(tmp_path: Path) -> None:
    layout = {key: value.shape for key, value in on_meta("ssd300_vgg16").state_dict().items()}
    torch.save(flat(layout), tmp_path / FILE)
    model = create_model("ssd300_vgg16", weights=tmp_path / FILE)
    names, output_ids = coco_classes()
    assert (list(model.classes), model.output_ids) == (names, output_ids)
    assert (model.weights_report.loaded, model.weights_report.left_out, model.weights_report.fresh) == (71, [], [])
    assert all(torch.equal(value, flat(layout)[key]) for key, value in model.state_dict().items())
    assert model.preprocess.mean.flatten().tolist() == pytest.approx(PIXELS["mean"])
    assert model.preprocess.std.flatten().tolist() == pytest.approx(PIXELS["std"])
    fixed = [key for key, p in model.named_parameters() if not p.requires_grad]
    assert fixed == [f"backbone.features.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    again = load(save(model, tmp_path / "model.safetensors"))
    assert torch.equal(again.preprocess.std, model.preprocess.std)
    other = create_model("ssd300_vgg16", NAMES, weights=tmp_path / FILE, trainable_layers=5)  # fine-tuning
    assert other.preprocess.std.flatten().tolist() == pytest.approx(PIXELS["std"])
    assert all("classification_head" in key for key in other.weights_report.fresh)
    assert len(other.weights_report.fresh) == 12
    assert all(p.requires_grad for p in other.parameters())


def test_the_published_row_is_the_manifest_s(shared: Path) -> None:
    (entry,) = parity.manifest(shared, "ssd300_vgg16")["weights"]
    (row,) = [p for p in PUBLISHED if p.network == "ssd300_vgg16"]
    assert (row.url, row.file) == (entry["url"], FILE)
    assert row.metric.endswith(f"AP {entry['meta']['_metrics']['COCO-val2017']['box_map']}")
    assert entry["built_as"]["requires_grad_false"] == 4


# The classifier's dense layers


def test_a_dense_layer_subsampled_by_a_loop() -> None:
    weight = torch.randn(8, 6 * 49, generator=torch.Generator().manual_seed(0))
    found = subsampled_convolution(weight, 7, (4, 3, 3, 3))
    for o in range(4):
        for c in range(3):
            for i in range(3):
                for j in range(3):
                    assert found[o, c, i, j] == weight[2 * o, 2 * c * 49 + 3 * i * 7 + 3 * j]
    assert torch.equal(subsampled_convolution(weight, 7, (8, 6, 7, 7)).flatten(1), weight)
    assert torch.equal(subsampled_convolution(weight[:, :6], 1, (2, 2, 1, 1))[:, :, 0, 0], weight[::4, :6:3])


def test_a_dense_layer_that_looks_only_at_the_taps_kept_stays_the_same() -> None:
    torch.manual_seed(0)
    taps = torch.zeros(7, 7)
    taps[::3, ::3] = 1
    weight = torch.randn(5, 4, 7, 7) * taps
    image = torch.randn(2, 4, 7, 7)
    wanted = image.flatten(1) @ weight.flatten(1).T
    found = nn.functional.conv2d(image, subsampled_convolution(weight.flatten(1), 7, (5, 4, 3, 3)), dilation=3)
    torch.testing.assert_close(found[:, :, 0, 0], wanted)


@pytest.mark.parametrize("shape", [(3, 6, 3, 3), (8, 4, 3, 3), (8, 6, 6, 6), (8, 6, 1, 1), (16, 6, 7, 7)])
def test_a_dense_layer_that_does_not_subsample(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a dense layer \[8, 294\] on 7×7 cells cannot be subsampled"):
        subsampled_convolution(torch.zeros(8, 294), 7, shape)


def classifier_state() -> dict[str, Tensor]:
    """A VGG-16's, whose first dense layer says where its numbers stand."""
    with shapes_only():
        layout = create_model("vgg16", [str(i) for i in range(1000)]).network.state_dict()
    state = flat({key: value.shape for key, value in layout.items()})
    state["classifier.0.weight"] = torch.arange(25_088.0).expand(4096, -1)  # its column
    state["classifier.0.bias"] = torch.arange(4096.0)
    state["classifier.3.weight"] = torch.arange(4096.0)[:, None].expand(-1, 4096)  # its row
    return state


@pytest.mark.usefixtures("undrawn")
def test_a_classifier_s_dense_layers_become_atrous_convolutions(tmp_path: Path) -> None:
    torch.save(classifier_state(), tmp_path / "vgg16.pth")
    model = create_model("ssd300_vgg16", NAMES, weights=tmp_path / "vgg16.pth", image_size=64, maps=2)
    first, second = model.backbone.extra[0][7][1], model.backbone.extra[0][7][3]
    tap = torch.arange(3) * 3
    wanted = (torch.arange(512) * 49)[:, None, None] + tap[:, None] * 7 + tap
    assert torch.equal(first.weight, wanted.float().expand(1024, -1, -1, -1))
    assert torch.equal(first.bias, torch.arange(0, 4096.0, 4))
    assert torch.equal(second.weight, torch.arange(0, 4096.0, 4)[:, None, None, None].expand(-1, 1024, 1, 1))
    assert (first.dilation, first.padding) == ((6, 6), (6, 6))
    report = model.weights_report
    assert report.loaded == 30
    assert report.left_out == [f"classifier.6.{kind} (only the classifier uses it)" for kind in ("weight", "bias")]
    assert not any(key.startswith(("backbone.features", "backbone.extra")) for key in report.fresh)


@pytest.mark.usefixtures("undrawn")
def test_a_file_of_convolutions_alone_loads(tmp_path: Path) -> None:
    state = classifier_state()
    for key, value in state.items():
        if key.startswith("classifier"):
            state[key] = torch.tensor(torch.nan).expand(value.shape)
    torch.save(state, tmp_path / "features.pth")
    model = create_model("ssd300_vgg16", NAMES, weights=tmp_path / "features.pth", image_size=64, maps=2)
    assert model.weights_report.loaded == 26
    assert "backbone.extra.0.7.1.weight" in model.weights_report.fresh
    assert all(p.isfinite().all() for p in model.parameters())


def test_dense_layers_of_another_width_are_left_to_the_loader() -> None:
    state = {"classifier.0.weight": torch.zeros(32, 25_088), "classifier.0.bias": torch.zeros(32)}
    assert {k: v.shape for k, v in atrous_dense_layers(state).items()} == {k: v.shape for k, v in state.items()}


# Sizes


@pytest.mark.parametrize(("name", "maps", "least"), [("ssd300_vgg16", 6, 268), ("ssd512_vgg16", 7, 268)])
def test_an_image_too_small_for_the_last_map_is_refused(name: str, maps: int, least: int) -> None:
    words = rf"image_size is {least - 1}, but {maps} maps of {name} need at least {least}: give that, or fewer maps$"
    with pytest.raises(InputError, match=words):
        create_model(name, NAMES, image_size=least - 1)
    model = on_meta(name, image_size=least)
    assert model.backbone(torch.empty(1, 3, least, least, device="meta"))[-1].shape[-2:] == (1, 1)
    with pytest.raises(RuntimeError):  # what the words spare
        model.backbone(torch.empty(1, 3, least - 1, least - 1, device="meta"))
    for size in (0, -3):
        with pytest.raises(InputError, match=f"image_size is {size}, but 2 maps of {name} need at least 12: give that"):
            create_model(name, NAMES, image_size=size, maps=2)


def test_the_sides_are_the_maps() -> None:
    for name, maps in (("ssd300_vgg16", 6), ("ssd512_vgg16", 7), ("ssd300_vgg16", 3)):
        backbone = on_meta(name, maps=maps).backbone
        for size in (268, 271, 300, 333, 512, 607):
            found = backbone(torch.empty(1, 3, size, size, device="meta"))
            assert backbone.sides(size) == [x.shape[-1] for x in found] == [x.shape[-2] for x in found]


@pytest.mark.parametrize(("maps", "least"), [(2, 12), (3, 12), (4, 12), (5, 140)])
def test_fewer_maps_take_smaller_images(maps: int, least: int) -> None:
    with pytest.raises(InputError, match=rf"but {maps} maps of ssd300_vgg16 need at least {least}"):
        create_model("ssd300_vgg16", NAMES, image_size=least - 1, maps=maps)
    model = on_meta("ssd300_vgg16", image_size=least, maps=maps)
    found, logits, _ = model.network(torch.empty(1, 3, least, least, device="meta"))
    assert len(found) == len(model.shapes) == maps
    assert logits.shape[1] == sum(x[0, 0].numel() * len(s) for x, s in zip(found, model.shapes, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"maps": 1}, "maps is 1, but ssd300_vgg16 has 6: give 2 to 6"),
        ({"maps": 7}, "maps is 7, but ssd300_vgg16 has 6: give 2 to 6"),
        ({"trainable_layers": 6}, "trainable_layers is 6, but this backbone has 5 parts"),
        ({"trainable_layers": -1}, "trainable_layers is -1"),
    ],
)
def test_values_that_it_cannot_have(arguments: dict[str, int], words: str) -> None:
    with shapes_only(), pytest.raises(InputError, match=words):
        create_model("ssd300_vgg16", NAMES, **arguments)


@pytest.mark.parametrize(("trainable", "convolutions"), [(5, 0), (4, 2), (3, 4), (2, 7), (1, 10), (0, 13)])
def test_the_first_blocks_stay_fixed(trainable: int, convolutions: int) -> None:
    model = on_meta("ssd300_vgg16", trainable_layers=trainable)
    assert sum(not p.requires_grad for p in model.parameters()) == 2 * convolutions
    assert model.backbone.extra[0][7][1].weight.requires_grad


# The family


def test_the_features_of_each_cell_of_the_first_map_have_the_learnt_length() -> None:
    torch.manual_seed(0)
    model = create_model("ssd300_vgg16", NAMES, image_size=32, maps=2)
    with torch.no_grad():
        fine = model.backbone(torch.randn(1, 3, 32, 32))[0]
        plain = model.backbone.features(torch.randn(1, 3, 32, 32))
        lengths = fine.square().sum(1).sqrt()
        torch.testing.assert_close(lengths, torch.full_like(lengths, 20))
        assert plain.shape == (1, 512, 4, 4)


def test_what_suits_it_and_where_it_stands() -> None:
    assert ssdlite.SSD is ssd.SSD
    assert ssdlite.SSDSettings is ssd.SSDSettings
    for name in MAPS:
        assert on_meta(name).recipe_defaults["augmentation"] == "ssd"
    assert "augmentation" not in on_meta("ssdlite320_mobilenet_v2").recipe_defaults


def test_thresholds_are_saved(tmp_path: Path) -> None:
    settings = ssd.SSDSettings(positive_iou=0.4, weights=(5.0, 5.0, 2.0, 2.0))
    model = create_model("ssd_mobilenet_v1", NAMES, width=0.25, settings=settings)
    again = load(save(model, tmp_path / "model.safetensors"))
    assert (again.settings, again.arguments["width"]) == (settings, 0.25)


def test_ssd_on_mobilenet_overfits_two_images() -> None:
    torch.manual_seed(0)
    model = create_model("ssd_mobilenet_v1", NAMES, image_size=96, width=0.5).train()
    images = [torch.full((3, 96, 96), 60, dtype=torch.uint8) for _ in range(2)]
    boxes, targets = [[16.0, 16.0, 64.0, 64.0], [40.0, 24.0, 88.0, 72.0]], []
    for picture, box, label in zip(images, boxes, (0, 2), strict=True):
        x1, y1, x2, y2 = map(int, box)
        picture[label, y1:y2, x1:x2] = 250
        targets.append(Instances((96, 96), classes=model.classes, boxes=[box], labels=[label]))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        results = model(images)  # normalised as in training: two images are no statistics
    for result, box, label in zip(results, boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        assert result.boxes[0].tolist() == pytest.approx(box, abs=10)


def head_alone(**numbers: object) -> ssd.SSD:
    """What follows the network, for four default boxes of 20 × 20 pixels in a row."""
    with shapes_only():
        model = create_model("ssd300_vgg16", NAMES, settings=ssd.SSDSettings(**numbers))
    return model


ROW = torch.tensor([[20.0 * i, 0, 20.0 * i + 20, 20] for i in range(16)])


def test_losses_are_divided_by_the_matched_boxes() -> None:
    """Section 2.2: N is the number of matched default boxes. Flat logits of K + 1 = 4 outputs cost log 4 each; two
    boxes match, and three negatives for each of them count: (2 + 6) · log 4 / 2, whatever the batch's size."""
    model = head_alone()
    targets = [Instances((20, 320), boxes=ROW[[3, 8]], labels=[1, 3]), Instances((20, 320))]
    matches = model.assign(ROW, targets)
    assert matches[0].tolist().count(-1) == 14
    deltas = torch.zeros(2, 16, 4)
    deltas[0, 3] = torch.tensor([0.5, 0.0, 3.0, 0.0])  # smooth L1: 0.125 and 2.5; the negatives' do not count
    deltas[0, 5] = 9.0
    losses = model.losses(torch.zeros(2, 16, 4), deltas, ROW, matches, targets)
    assert float(losses["loss_classification"]) == pytest.approx(4 * math.log(4))
    assert float(losses["loss_box"]) == pytest.approx((0.125 + 2.5) / 2)


def test_scores_are_the_softmax_s_probabilities() -> None:
    probabilities = torch.full((1, 16, 4), 0.0)
    probabilities[..., 0], probabilities[..., 1:] = 0.97, 0.01
    probabilities[0, 2] = torch.tensor([0.1, 0.6, 0.3, 1e-9])
    probabilities[0, 7] = torch.tensor([0.5, 1e-9, 0.1, 0.4])
    found = head_alone(min_score=0.05).decode(probabilities.log(), torch.zeros(1, 16, 4), ROW, [(20, 320)])[0]
    assert sorted(found["scores"].tolist()) == pytest.approx([0.1, 0.3, 0.4, 0.6])
    assert found["boxes"][found["scores"].argmax()].tolist() == ROW[2].tolist()
    assert found["labels"][found["scores"].argsort(descending=True)].tolist() == [1, 3, 2, 2]
