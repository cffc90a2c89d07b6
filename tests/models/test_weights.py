"""Weights: published ones load unchanged, a classifier's into detectors; what does not fit is said, or refused."""

from __future__ import annotations

import csv
import http.client
import logging
import re
import shutil
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.data.images import read_image
from sightline.errors import InputError
from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.published import PUBLISHED, class_names, coco_classes
from sightline.models.saving import load, save
from sightline.models.weights import load_weights
from sightline.nn.layers import FrozenBatchNorm2d
from sightline.runtime.shapes import shapes_only
from tests.models import parity

State = dict[str, Tensor]
NAMES = ["circle", "square", "star"]
NINETY = [f"class {i}" for i in range(1, 91)]
SSDLITE = "ssdlite320_mobilenet_v3_large"
PYRAMID = "faster_rcnn_mobilenet_v2_fpn"
# COCO detectors: the published file, the parameter tensors that stay fixed, whether the norms are frozen, their eps
COCO = {
    "fasterrcnn_resnet50_fpn": ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 11, True, 0.0),
    "fasterrcnn_resnet50_fpn_v2": ("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 33, False, 1e-5),
    "fasterrcnn_mobilenet_v3_large_fpn": ("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", 30, True, 1e-5),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", 30, True, 1e-5),
    "ssdlite320_mobilenet_v3_large": ("ssdlite320_mobilenet_v3_large_coco-a79551df.pth", 0, False, 1e-3),
    "retinanet_resnet50_fpn": ("retinanet_resnet50_fpn_coco-eeacb38b.pth", 11, True, 0.0),
    "retinanet_resnet50_fpn_v2": ("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", 33, False, 1e-5),
    "fcos_resnet50_fpn": ("fcos_resnet50_fpn_coco-99b0c9b7.pth", 11, True, 1e-5),
    "maskrcnn_resnet50_fpn": ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 11, True, 0.0),
    "maskrcnn_resnet50_fpn_v2": ("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 33, False, 1e-5),
    "keypointrcnn_resnet50_fpn": ("keypointrcnn_resnet50_fpn_coco-fc266e95.pth", 11, True, 0.0),
}
PYRAMIDS_AND_SSDLITE = [
    "faster_rcnn_resnet50_fpn",
    "faster_rcnn_resnet50_fpn_v2",
    "faster_rcnn_resnet18_fpn",
    "faster_rcnn_mobilenet_v3_large_fpn",
    "faster_rcnn_mobilenet_v3_large_320_fpn",
    "faster_rcnn_mobilenet_v2_fpn",
    "retinanet_mobilenet_v2_fpn",
    "ssdlite320_mobilenet_v3_large",
    "ssdlite320_mobilenet_v2",
]
UNUSED = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
"""Outputs of a COCO head that belong to no class: ids that the data set's lists skip."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloaded checkpoints; a download fails the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def never(*a: Any) -> None:
        raise AssertionError(f"downloaded {a}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", never)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def state_of(model: nn.Module, seed: int = 1) -> State:
    """Other values for every entry; the statistics are such that an eps is felt."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in model.state_dict().items():
        drawn = torch.rand(value.shape, generator=generator)
        if key.endswith("running_var"):
            drawn = drawn * 0.1 + 0.01
        elif value.ndim > 1:
            drawn = (drawn - 0.5) / (value.numel() / len(value)) ** 0.5
        state[key] = drawn.to(value.dtype)
    return state


def network_state(name: str) -> State:
    """The state of a bare classification network, as such checkpoints are published."""
    state = state_of(create_model(name, class_names("imagenet")))
    return {key.removeprefix("network."): value for key, value in state.items()}


def flat_state(shapes: Mapping[str, Sequence[int]]) -> State:
    """A value of its own for every entry; the file is small, for one number stands for a whole tensor."""
    values = {key: 1000.0 + position for position, key in enumerate(shapes)}
    counts = {key: torch.int64 if key.endswith("num_batches_tracked") else torch.float32 for key in shapes}
    return {key: torch.tensor(values[key], dtype=counts[key]).expand(tuple(shape)) for key, shape in shapes.items()}


def write(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def holds(model: nn.Module, state: State) -> None:
    """Every entry of the model is the checkpoint's."""
    own = model.state_dict()
    assert {k for k in own if not k.endswith("tracked")} == {k for k in state if not k.endswith("tracked")}
    assert all(torch.equal(own[key], state[key]) for key in own)


@pytest.fixture(scope="module")
def ssdlite_state() -> State:
    """A COCO checkpoint of the smallest published detector."""
    return state_of(create_model(SSDLITE, NINETY))


@pytest.fixture(scope="module")
def pyramid_state() -> State:
    return state_of(create_model(PYRAMID, NINETY))


# Published checkpoints


@pytest.mark.parametrize("name", COCO)
@pytest.mark.usefixtures("undrawn")
def test_a_published_detector_loads_unchanged(name: str, shared: Path, hub: Path) -> None:
    file, fixed, frozen, eps = COCO[name]
    entry = parity.manifest(shared, name)
    (published,) = [w for w in entry["weights"] if w["url"].rsplit("/", 1)[1] == file]
    assert published["built_as"]["requires_grad_false"] == fixed
    assert published["built_as"]["batch_norms"] == [f"{'Frozen' if frozen else ''}BatchNorm2d eps={eps:g}"]
    state = flat_state({key: shape for key, shape, *_ in entry["state_dict"]})
    write(state, hub / file)
    model = create_model(name, weights="coco")
    holds(model, state)
    report = model.weights_report
    assert (report.loaded, report.left_out, report.fresh, report.adapted) == (len(model.state_dict()), [], [], [])
    assert sum(p.numel() for p in model.parameters()) == published["meta"]["num_params"]
    assert sum(not p.requires_grad for p in model.parameters()) == fixed
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
    assert {type(m) for m in norms} == {FrozenBatchNorm2d if frozen else nn.BatchNorm2d}
    assert {m.eps for m in norms} == {eps}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn", {"min_size": 320, "max_size": 448}),
        ("ssdlite320_mobilenet_v3_large", {}),
    ],
)
def test_its_detections_are_the_reference_s_of_coco_classes(
    name: str, arguments: dict[str, Any], shared: Path, hub: Path
) -> None:
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    write(recipe.fill_manifest(parity.manifest(shared, name)), hub / COCO[name][0])
    model = create_model(name, weights="coco", **arguments).eval()
    names = parity.manifest(shared, "_categories")["coco91"]
    assert [names.index(n) for n in model.classes] == [i for i in range(1, 91) if i not in UNUSED]
    with torch.inference_mode():
        results = model([eval(text, {"recipe": recipe}) for text in meta["images"]])
    for i, result in enumerate(results):
        result = result[result.scores > meta["score_thresh"]]
        used = [row for row, output in enumerate(ref[f"det{i}/labels"].tolist()) if output not in UNUSED]
        assert used
        assert result.names() == [names[output] for output in ref[f"det{i}/labels"][used].tolist()]
        parity.close(result.boxes, ref[f"det{i}/boxes"][used], 0.05)
        parity.close(result.scores, ref[f"det{i}/scores"][used], 1e-3)


def test_eighty_classes_come_back_and_the_unused_outputs_never(hub: Path, ssdlite_state: State) -> None:
    names, output_ids = coco_classes()
    assert output_ids == [i for i in range(1, 91) if i not in UNUSED]
    assert (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush")
    for output, found in ((12, set()), (13, {11}), (90, {79}), (83, set()), (1, {0})):
        state = dict(ssdlite_state)
        for key, value in state.items():
            if re.search(r"classification_head\.module_list\.\d\.1\.bias$", key):
                state[key] = torch.zeros_like(value).reshape(-1, 91).index_fill(1, torch.tensor(output), 30.0).flatten()
            elif re.search(r"classification_head\.module_list\.\d\.1\.weight$", key):
                state[key] = value * 1e-3
        write(state, hub / COCO[SSDLITE][0])
        model = create_model(SSDLITE, weights="coco").eval()
        assert list(model.classes) == names
        with torch.inference_mode():
            (result,) = model([torch.rand(3, 40, 50)])
        assert set(result.labels.tolist()) == found


def test_labels_of_targets_become_the_outputs_of_their_classes(hub: Path, ssdlite_state: State) -> None:
    from sightline.structures import Instances

    write(ssdlite_state, hub / COCO[SSDLITE][0])
    model = create_model(SSDLITE, weights="coco")
    boxes = [[1.0, 1.0, 9.0, 9.0]] * 3
    target = Instances((20, 20), classes=model.classes, boxes=boxes, labels=[0, 11, 79])
    _, (moved,) = model.prepare([torch.rand(3, 20, 20)], [target])
    assert moved.labels.tolist() == [1, 13, 90]


@pytest.mark.usefixtures("undrawn")
def test_without_epsilon_it_stays_after_saving(hub: Path, tmp_path: Path) -> None:
    name, file = "fasterrcnn_resnet50_fpn", COCO["fasterrcnn_resnet50_fpn"][0]
    with shapes_only():
        layout = create_model(name, NINETY, norm="frozen").state_dict()
    write(flat_state({key: value.shape for key, value in layout.items()}), hub / file)
    model = create_model(name, weights="coco")

    def settings(model: nn.Module) -> list[Any]:
        eps = [m.eps for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
        return [eps, [n for n, p in model.named_parameters() if p.requires_grad], model.output_ids, list(model.classes)]

    assert settings(model)[0] == [0.0] * 53
    again = load(save(model, tmp_path / "model.safetensors"))
    assert settings(again) == settings(model)
    other = create_model(name, NAMES, weights="coco")  # fine-tuning starts from the same function
    assert settings(other)[:2] == settings(model)[:2]
    assert other.output_ids is None


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_a_published_classifier_loads_unchanged(name: str, shared: Path, hub: Path) -> None:
    entry = parity.manifest(shared, name)
    state = parity.recipe(shared).fill_manifest(entry)
    file = entry["weights"][0]["url"].rsplit("/", 1)[1]
    write(state, hub / file)
    model = create_model(name, weights="imagenet").eval()
    holds(model.network, state)
    names = parity.manifest(shared, "_categories")["imagenet1k"]
    # a class name occurs once here; the published list calls two birds and machines "crane", two garments "maillot"
    assert [a for a, b in zip(model.classes, names, strict=True) if not a.startswith(b)] == []
    ref, meta = parity.outputs(shared, name)
    with torch.inference_mode():
        logits = model.network(parity.recipe(shared).batch([1, 2], 224, 224))
    parity.close(logits, ref["logits"], meta["tolerance"])


def test_published_files_and_their_figures_are_the_manifests(shared: Path) -> None:
    for published in PUBLISHED:
        name = published.network.replace("faster_rcnn", "fasterrcnn")
        if not (shared / "parity" / "manifests" / f"{name}.json").is_file():
            continue
        known = {w["url"]: w["meta"] for w in parity.manifest(shared, name)["weights"]}
        (data,) = known[published.url]["_metrics"].items()
        figure = next(iter(data[1].values()))
        words = (f"top-1 {figure:.3f}", f"AP {figure:.1f}", f"mean IoU {figure:.1f}")
        assert any(word in published.metric for word in words), published.file
        assert published.hash_prefix == published.url[-12:-4]


def test_a_real_checkpoint_names_what_is_on_real_photographs(shared: Path) -> None:
    file = shared / "weights" / "mobilenet_v2_imagenet.pth"
    model = create_model("mobilenet_v2", weights=file).eval()
    assert list(model.classes) == class_names("imagenet")
    folder = shared / "data" / "imagenet50"
    with (folder / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    right = 0
    with torch.inference_mode():
        for row in rows:
            (result,) = model([read_image(folder / row["file"])])
            right += int(result.scores.argmax()) == int(row["index"])
    assert len(rows) == 50
    assert right >= 38


# Old key names and wrappers


def old_names(state: State) -> State:
    """As checkpoints were written before the pyramid's and the proposal head's layers were made of blocks."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", key)
        renamed[key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    return renamed


@pytest.mark.parametrize(
    "change",
    [
        old_names,
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"model": s, "optimizer": {"state": {}}, "epoch": 12},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in old_names(s).items()}, "best": 0.5},
        lambda s: {"model_state_dict": s},
        lambda s: s | {"backbone.body.0.1.num_batches_tracked": torch.tensor(3)},
    ],
    ids=["old names", "data parallel", "model", "both", "model_state_dict", "counted batches"],
)
def test_older_and_wrapped_checkpoints_are_understood(
    change: Callable[[State], Any], tmp_path: Path, pyramid_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    changed = change(pyramid_state)
    assert changed != pyramid_state
    model = create_model(PYRAMID, NINETY, norm="frozen")
    file = write(changed, tmp_path / "old.pth")
    loaded = create_model(PYRAMID, NINETY, weights=file)
    assert loaded.weights_report.left_out == []
    assert loaded.weights_report.fresh == []
    assert loaded.weights_report.loaded == len(model.state_dict())
    own = loaded.state_dict()
    assert all(torch.equal(own[key], pyramid_state[key]) for key in own)


def test_safetensors_files_are_read(tmp_path: Path, ssdlite_state: State) -> None:
    save_file(ssdlite_state, tmp_path / "model.safetensors", {"format": "pt"})
    holds(create_model(SSDLITE, weights=tmp_path / "model.safetensors"), ssdlite_state)


# Heads


def test_a_head_of_other_classes_is_left_out_by_name(
    hub: Path, ssdlite_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    write(ssdlite_state, hub / COCO[SSDLITE][0])
    model = create_model(SSDLITE, NINETY, weights="coco")  # the shapes are the same
    report = model.weights_report
    head = {k for k in ssdlite_state if re.search(r"classification_head\.module_list\.\d\.1\.", k)}
    assert len(head) == 12
    assert set(report.left_out) == {f"{key} (of other classes)" for key in head}
    assert set(report.fresh) == head
    own = model.state_dict()
    for key, value in ssdlite_state.items():
        assert torch.equal(own[key], value) == (key not in head), key
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("sightline", logging.WARNING)
    assert "left out: head.classification_head.module_list.0.1.weight (of other classes)" in record.getMessage()
    assert "entries loaded; the layers of its classes do not fit the model's classes" in record.getMessage()
    assert str(report) == record.getMessage()


def test_a_head_of_other_size_is_left_out_too(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "faster_rcnn_mobilenet_v3_large_320_fpn"
    file = COCO["fasterrcnn_mobilenet_v3_large_320_fpn"][0]
    state = state_of(create_model(name, NINETY))
    write(state, hub / file)
    model = create_model(name, NAMES, weights="coco")
    fresh = {f"roi_heads.box_predictor.{x}.{y}" for x in ("cls_score", "bbox_pred") for y in ("weight", "bias")}
    assert set(model.weights_report.fresh) == fresh
    assert set(model.weights_report.left_out) == {f"{key} (of other classes)" for key in fresh}
    assert "starting afresh: roi_heads.box_predictor.cls_score, roi_heads.box_predictor.bbox_pred" in caplog.text
    assert model.roi_heads.box_predictor.cls_score.out_features == 4


def test_a_file_that_names_its_classes_is_held_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = create_model("mobilenet_v3_small", NAMES)
    trained.load_state_dict(state_of(trained))
    file = save(trained, tmp_path / "shapes.safetensors")
    same = create_model("mobilenet_v3_small", NAMES, weights=file)
    holds(same, trained.state_dict())
    assert not caplog.records
    other = create_model("mobilenet_v3_small", ["a", "b", "c"], weights=file)
    head = ["network.classifier.3.weight", "network.classifier.3.bias"]
    assert set(other.weights_report.left_out) == {f"{key} (of other classes)" for key in head}
    assert other.weights_report.fresh == head
    assert len(caplog.records) == 1
    turned = create_model("mobilenet_v3_small", NAMES[::-1], weights=file)
    assert (turned.weights_report.fresh, set(turned.weights_report.partly)) == ([], set(head))
    own, theirs = turned.state_dict(), trained.state_dict()
    assert all(torch.equal(own[key], theirs[key].flip(0)) for key in head)


def test_a_head_whose_classes_are_assumed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {k.removeprefix("network."): v for k, v in state_of(create_model("mobilenet_v3_small", NAMES)).items()}
    model = create_model("mobilenet_v3_small", NAMES, weights=write(state, tmp_path / "mine.pth"))
    holds(model.network, state)
    assert "the file does not name its classes; they are assumed to be the given ones" in caplog.text
    assert model.weights_report.note in str(model.weights_report)


# Classes that come with the weights


@pytest.mark.parametrize("kind", [str, Path])
def test_a_local_classifier_of_1000_outputs_is_imagenet_s(
    kind: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = network_state("mobilenet_v3_small")
    model = create_model("mobilenet_v3_small", weights=kind(write(state, tmp_path / "any.pth")))
    assert list(model.classes) == class_names("imagenet")
    assert len(set(model.classes)) == 1000
    holds(model.network, state)
    assert "from their number they are assumed to be Classes(1000: tench" in caplog.text
    caplog.clear()
    create_model("mobilenet_v3_small", weights=kind(write(state, tmp_path / "mobilenet_v3_small-047dcff4.pth")))
    assert not caplog.records


@pytest.mark.parametrize("file", ["any.pth", COCO[SSDLITE][0]])
@pytest.mark.parametrize("given", [False, True], ids=["no classes", "COCO's classes"])
def test_a_local_detector_of_91_outputs_is_coco_s(file: str, given: bool, tmp_path: Path, ssdlite_state: State) -> None:
    names, output_ids = coco_classes()
    model = create_model(SSDLITE, names if given else None, weights=write(ssdlite_state, tmp_path / file))
    assert list(model.classes) == names
    assert model.output_ids == output_ids
    holds(model, ssdlite_state)


def test_a_local_pyramid_detector_of_91_outputs_is_coco_s(tmp_path: Path, pyramid_state: State) -> None:
    model = create_model(PYRAMID, weights=write(old_names(pyramid_state), tmp_path / "any.pth"))
    assert (list(model.classes), model.output_ids) == coco_classes()
    assert model.weights_report.fresh == []


def test_a_saved_model_brings_its_classes_and_arguments(tmp_path: Path) -> None:
    trained = create_model(PYRAMID, NAMES, min_size=96, max_size=128, channels=32, hidden=64, norm="frozen")
    trained.load_state_dict(state_of(trained))
    file = save(trained, tmp_path / "model.safetensors")
    again = create_model(PYRAMID, weights=file, min_size=64)
    holds(again, trained.state_dict())
    assert list(again.classes) == NAMES
    assert again.arguments == trained.arguments | {"min_size": 64}
    other = create_model(PYRAMID, ["a"], weights=file)
    assert other.arguments == trained.arguments
    assert len(other.weights_report.fresh) == 4


def test_a_saved_coco_model_keeps_its_outputs_only_for_coco_s_classes(tmp_path: Path) -> None:
    names, output_ids = coco_classes()
    file = save(create_model(SSDLITE, names, output_ids=output_ids), tmp_path / "model.safetensors")
    assert create_model(SSDLITE, weights=file).output_ids == output_ids
    assert create_model(SSDLITE, names, weights=file).weights_report.fresh == []
    assert create_model(SSDLITE, NINETY, weights=file).output_ids is None


@pytest.mark.parametrize(("name", "state"), [("mobilenet_v2", "mobilenet_v2"), (PYRAMID, "mobilenet_v2")])
def test_other_files_do_not_name_classes(name: str, state: str, tmp_path: Path) -> None:
    classifier = state_of(create_model(state, NAMES))
    file = write({k.removeprefix("network."): v for k, v in classifier.items()}, tmp_path / "three.pth")
    with pytest.raises(
        InputError, match=rf"{name} needs its classes: give classes=.*three\.pth does not name its own$"
    ):
        create_model(name, weights=file)


def test_classes_are_missed_before_anything_is_downloaded(hub: Path) -> None:
    with pytest.raises(InputError, match="faster_rcnn_resnet18_fpn needs its classes"):
        create_model("faster_rcnn_resnet18_fpn", weights="imagenet")  # the fixture's download would fail the test


# A classifier's weights as a backbone


def place(detector: str, key: str) -> str | None:
    """Where torchvision's layout of a detector has an entry of its classifier."""
    if not detector.startswith("ssdlite"):
        if key.startswith(("fc.", "classifier.")):
            return None
        if "mobilenet_v2" in detector and key.startswith("features.18."):
            return None  # its last 1×1 convolution is for classification alone
        return f"backbone.body.{key.removeprefix('features.')}"
    cut = 13 if "v3" in detector else 14
    match = re.fullmatch(r"features\.(\d+)\.(.*)", key)
    if match is None:
        return None
    number, rest = int(match[1]), match[2]
    if number < cut:
        return f"backbone.features.0.{number}.{rest}"
    if number > cut:
        return f"backbone.features.1.{number - cut}.{rest}"
    inner = rest.removeprefix("block.").removeprefix("conv.")
    if inner.startswith("0."):
        return f"backbone.features.0.{cut}.{inner.removeprefix('0.')}"
    return f"backbone.features.1.0.{inner}"


def maps_of_classifier(network: nn.Module, layers: list[str], x: Tensor) -> list[Tensor]:
    """What some layers give when the whole network runs."""
    found: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(layer).register_forward_hook(lambda m, a, out, n=layer: found.update({n: out.clone()}))
        for layer in layers
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return [found[layer] for layer in layers]


@cache
def classifier(name: str) -> nn.Module:
    model = create_model(name, class_names("imagenet")).eval()
    model.load_state_dict(state_of(model))
    return model.network


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models start from zeros: drawing their start takes most of the time for the large ones."""
    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, **k: self.zero_())


ON_A_CLASSIFIER = [
    e.name for e in ENTRIES if not e.takes_backbones and e.classifier() in {p.network for p in PUBLISHED}
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ON_A_CLASSIFIER)
def test_a_classifier_s_tensors_become_a_detector_s(name: str, hub: Path) -> None:
    """All of the classifier's up to some layer, and in its order."""
    entry = next(e for e in ENTRIES if e.name == name)
    with shapes_only():
        layout = create_model(str(entry.classifier()), class_names("imagenet")).network.state_dict()
    state = flat_state({k: v.shape for k, v in layout.items() if not k.endswith("num_batches_tracked")})
    published = next(p for p in PUBLISHED if p.network == entry.classifier())
    file = write(state, hub / published.file)
    model = create_model(name, NAMES, weights=file if published.package else "imagenet")
    of_value = {float(value.flatten()[0]): key for key, value in state.items()}
    assert len(of_value) == len(state)
    taken = []
    for key, value in model.state_dict().items():
        source = of_value.get(float(value.flatten()[0])) if value.numel() else None
        if source is not None and bool((value == value.flatten()[0]).all()):
            taken.append(source)
            assert key.rsplit(".", 1)[1] == source.rsplit(".", 1)[1]
            subsampled = name.startswith(("ssd", "fcn", "deconvnet")) and source.startswith(
                "classifier."
            )  # dense layers
            assert value.shape == state[source].shape or subsampled
    assert taken == list(state)[: len(taken)]
    assert len(taken) > 0.5 * len(state)
    assert model.weights_report.loaded == len(taken)


@pytest.mark.parametrize("name", PYRAMIDS_AND_SSDLITE)
def test_a_backbone_computes_what_the_classifier_does(name: str, hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = next(e for e in ENTRIES if e.name == name)
    network = classifier(str(entry.classifier()))
    file = next(p.file for p in PUBLISHED if p.network == entry.classifier())
    state = network.state_dict()
    write(state, hub / file)
    model = create_model(name, NAMES, weights="imagenet").eval()
    own = model.state_dict()
    expected = {place(name, key): value for key, value in state.items()}
    expected.pop(None)
    learning = any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.modules())
    for key, value in expected.items():
        if learning or not str(key).endswith("num_batches_tracked"):
            assert torch.equal(own[str(key)], value), key
    inside = {k for k in own if k.startswith(("backbone.body.", "backbone.features."))}
    assert inside <= expected.keys()
    assert model.weights_report.loaded == len(inside)
    assert not caplog.records  # the classifier's own last layers are not missed
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        if name.startswith("ssdlite"):
            cut = 13 if "v3" in name else 14
            block = "block" if "v3" in name else "conv"
            layers = [f"features.{cut}.{block}.0", f"features.{len(network.features) - 1}"]
            maps = model.backbone(x)[:2]
        else:
            body = model.backbone.body
            layers = [f"features.{n}" if "mobilenet" in name else n for n in body.taken]
            maps = list(body(x).values())
        for got, wanted in zip(maps, maps_of_classifier(network, layers, x), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_saved_classifier_serves_as_a_backbone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = create_model("mobilenet_v2", NAMES)
    trained.load_state_dict(state_of(trained))
    file = save(trained, tmp_path / "classifier.safetensors")
    model = create_model("ssdlite320_mobilenet_v2", ["a", "b"], weights=file)
    own = model.state_dict()
    for key, value in trained.network.state_dict().items():
        at = place(model.name, key)
        assert at is None or torch.equal(own[at], value)
    assert not caplog.records


def test_a_backbone_of_half_its_last_stage_takes_what_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(classifier("mobilenet_v3_large").state_dict(), tmp_path / "v3.pth")
    model = create_model(SSDLITE, NAMES, weights=file, reduced_tail=True)
    assert any(re.match(r"features\.16\.0\.weight \(shape \[960, 160", line) for line in model.weights_report.left_out)
    assert "backbone.features.1.3.0.weight" in model.weights_report.fresh
    assert "left out: " in caplog.text


def test_starting_arguments_suit_the_weights_unless_given(tmp_path: Path) -> None:
    file = write(network_state("resnet18"), tmp_path / "resnet18.pth")
    model = create_model("faster_rcnn_resnet18_fpn", NAMES, weights=file)
    assert isinstance(model.backbone.body.bn1, FrozenBatchNorm2d)
    assert [n for n, p in model.backbone.body.named_children() if any(q.requires_grad for q in p.parameters())] == [
        "layer2",
        "layer3",
        "layer4",
    ]
    model = create_model("faster_rcnn_resnet18_fpn", NAMES, weights=file, norm="batch", trainable_layers=5)
    assert isinstance(model.backbone.body.bn1, nn.BatchNorm2d)
    assert all(p.requires_grad for p in model.parameters())


# Other channels


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(("name", "first"), [("resnet18", "network.conv1"), (PYRAMID, "backbone.body.0.0")])
def test_the_first_convolution_sees_a_grey_image_as_before(
    name: str, first: str, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = "resnet18" if name == "resnet18" else "mobilenet_v2"
    state = network_state(source)
    model = create_model(name, NAMES, weights=write(state, tmp_path / "rgb.pth"), in_channels=channels)
    key = "conv1.weight" if source == "resnet18" else "features.0.0.weight"
    layer = model.get_submodule(first)
    assert layer.weight.shape[1] == channels
    grey = torch.rand(2, 1, 16, 20)
    before = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), state[key], None, layer.stride, layer.padding)
    torch.testing.assert_close(layer(grey.expand(-1, channels, -1, -1)), before)
    assert [k.removeprefix("network.") for k in model.weights_report.adapted] == [key]
    assert "adapted to the image channels" in caplog.text
    pixels = torch.randint(0, 256, (channels, 64, 64), dtype=torch.uint8)
    assert len(model.eval()([pixels])) == 1


# What is refused


@pytest.mark.parametrize(
    ("weights", "model"),
    [
        ("resnet34", "resnet18"),
        ("resnet18", "resnet34"),
        ("resnet50", "resnet18"),
        ("resnet101", "resnet50"),
        ("resnet50", "resnet101"),
        ("resnet34", "faster_rcnn_resnet18_fpn"),
        ("resnet101", "faster_rcnn_resnet50_fpn"),
        ("mobilenet_v3_large", "mobilenet_v3_small"),
        ("mobilenet_v3_small", SSDLITE),
        ("mobilenet_v2", SSDLITE),
        ("mobilenet_v3_large", PYRAMID),
        ("mobilenet_v2", "resnet18"),
        (SSDLITE, PYRAMID),
        (PYRAMID, "mobilenet_v2"),
        ("faster_rcnn_resnet50_fpn", "faster_rcnn_resnet18_fpn"),
        ("faster_rcnn_resnet18_fpn", "faster_rcnn_resnet50_fpn"),
    ],
)
def test_weights_of_another_model_are_refused(weights: str, model: str) -> None:
    with shapes_only():
        other, own = create_model(weights, NAMES), create_model(model, NAMES)
    for prefix in ("network.", ""):
        state = {key.removeprefix(prefix): value for key, value in other.state_dict().items()}
        with pytest.raises(
            InputError, match=rf"^a\.pth: these are weights of another model than {model}: \d+ of .* choose the model"
        ) as caught:
            load_weights(own, state, "a.pth")
        assert "\n" not in str(caught.value)


def test_nothing_is_changed_by_refused_weights(tmp_path: Path) -> None:
    model = create_model("resnet18", NAMES)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError):
        load_weights(model, network_state("resnet34"), "a.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Mine:
    """Unpickling it would run a command."""

    def __init__(self, at: Path):
        self.at = at

    def __reduce__(self) -> Any:
        return (Path.touch, (self.at,))


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            create_model("resnet18", NAMES, weights=path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "none.pth", r"there is no such file; give a path, or a published name such as 'imagenet'")
    refused(tmp_path, "this folder holds no trained model")
    text = tmp_path / "text.pth"
    text.write_text("resnet18\n")
    refused(text, "not a readable PyTorch checkpoint of plain tensors")
    ran = tmp_path / "ran"
    refused(write({"model": Mine(ran)}, tmp_path / "object.pth"), "not a readable PyTorch checkpoint of plain tensors")
    assert not ran.exists()
    refused(write({"epoch": 3}, tmp_path / "empty.pth"), "the file holds no tensors by name")
    refused(write([torch.zeros(3)], tmp_path / "list.pth"), "the file holds no tensors by name")
    whole = write({"a": torch.rand(10000)}, tmp_path / "whole.pth").read_bytes()
    (tmp_path / "part.pth").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "part.pth", "not a readable PyTorch checkpoint of plain tensors")
    (tmp_path / "part.safetensors").write_bytes(whole[:100])
    refused(tmp_path / "part.safetensors", "not a readable safetensors file")
    refused(write({"a": torch.zeros(3)}, tmp_path / "other.pth"), "these are weights of another model than resnet18")


# Downloads


def test_published_weights_are_downloaded_once_and_checked(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(hub)
    source = write(network_state("mobilenet_v3_small"), tmp_path / "there.pth")
    calls = []

    def download(url: str, at: str, hash_prefix: str) -> None:
        calls.append((url, Path(at), hash_prefix))
        shutil.copy(source, at)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        create_model("mobilenet_v3_small", weights="imagenet")
    file = "mobilenet_v3_small-047dcff4.pth"
    assert calls == [(f"https://download.pytorch.org/models/{file}", hub / file, "047dcff4")]


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        RuntimeError('invalid hash value (expected "047dcff4", got "12")\nand more'),
        http.client.IncompleteRead(b""),
        PermissionError("no"),
    ],
)
def test_a_failed_download_is_one_sentence(error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*a: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(
        InputError,
        match=r"https://download\.pytorch\.org/models/mobilenet_v3_small-047dcff4\.pth could not be downloaded to .* "
        r"give its path as weights$",
    ) as caught:
        create_model("mobilenet_v3_small", weights="imagenet")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_files_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    source = write(network_state("mobilenet_v3_small"), tmp_path / "there.pth")
    calls = []

    def download(repository: str, file: str) -> str:
        calls.append((repository, file))
        return str(source)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = create_model("mobilenet_v3_small", weights="hf://someone/nets/small/v3.pth")
    assert calls == [("someone/nets", "small/v3.pth")]
    assert len(model.classes) == 1000
    for wrong in ("hf://", "hf://someone/nets", "hf://someone"):
        with pytest.raises(InputError, match="must have the form hf://owner/repository/file"):
            create_model("mobilenet_v3_small", NAMES, weights=wrong)

    def fail(*a: str) -> str:
        raise OSError("404 Client Error\nRepository Not Found")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"hf://someone/nets/v3\.pth could not be downloaded \(404 Client Error\)"):
        create_model("mobilenet_v3_small", NAMES, weights="hf://someone/nets/v3.pth")
