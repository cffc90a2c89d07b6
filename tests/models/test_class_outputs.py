"""Weights of a model with other classes: the outputs of the classes that both have are kept, in every family."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.models.class_outputs import BACKGROUND, NO_CLASS, UNUSED, Output, copy_of_same_outputs, outputs_in_groups
from sightline.models.creation import create_model
from sightline.models.model import Model, as_model
from sightline.models.published import class_names, coco_classes
from sightline.models.saving import save
from sightline.models.weights import load_weights
from sightline.structures import ClassScores, Instances
from tests.models.test_contract import SMALL, image, target

OLD, TURNED, NEW = ["a a", "b", "c"], ["c", "b", "a a"], ["C", "x", "A_a"]
SOFTMAX = (
    *("faster_rcnn_mobilenet_v2_fpn", "mask_rcnn_mobilenet_v2_fpn", "keypoint_rcnn_mobilenet_v2_fpn"),
    *("fast_rcnn_mobilenet_v2", "r_fcn_mobilenet_v2", "light_head_rcnn_mobilenet_v2", "r_cnn_mobilenet_v2"),
    *("localiser_mobilenet_v2", "sliding_window_mobilenet_v2", "grid_sliding_mobilenet_v2", "overfeat_mobilenet_v2"),
    *("ssdlite320_mobilenet_v2", "ssd300_vgg16", "yolo_v2_mobilenet_v2", "yolo_9000_mobilenet_v2", "darknet"),
    *("sliding_segmentation", "full_resolution_net", "fcn8s_mobilenet_v2", "deconvnet", "segnet", "unet"),
    *("deeplabv3_mobilenet_v2", "lraspp_mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_lite0"),
)
SIGMOID = (
    *("sightline_n", "sightline_lite0", "retinanet_mobilenet_v2_fpn", "fcos_mobilenet_v2_fpn", "efficientdet_d0"),
    *("pp_yolo_mobilenet_v2", "yolo_v1_mobilenet_v2"),
)
"""Each class has a score of its own there: a new class changes nothing for the others."""
SPREAD = {"efficientdet_d0": 0.01}
"""Deviation of what is added to the head's weights, where 0.1 makes scores of exactly 1, whose order is arbitrary."""


def arguments(name: str) -> dict[str, Any]:
    return next(values for prefix, values in SMALL.items() if name.startswith(prefix))


def trained(name: str, folder: Path) -> tuple[Model, Path]:
    """A model for the old classes whose layers that depend on the classes say different things of each."""
    torch.manual_seed(0)
    model = create_model(name, OLD, **arguments(name))
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:  # with statistics of the image no two places have the same features, hence the same scores
        with torch.no_grad():
            model.train()([image(64, 80), image(64, 80, seed=1)], [target(model, (64, 80))] * 2)
    for key, value in model.state_dict().items():
        if re.search(model.class_layers, key) and value.is_floating_point() and not key.startswith(("svm", "box_")):
            value.copy_(value + SPREAD.get(name, 0.1) * torch.randn(value.shape))
    return model.eval(), save(model, folder / "model.safetensors")


def loaded(name: str, classes: list[str], file: Path | None) -> Model:
    torch.manual_seed(1)
    return create_model(name, classes, file, **arguments(name)).eval()


def said(model: Model) -> list[Tensor]:
    """What a model says of each class: scores of the image or its pixels; of a detector a row per detection."""
    torch.manual_seed(2)
    with torch.inference_mode():
        (result,) = model([image(64, 80)])
    if not isinstance(result, Instances):
        return [scores.reshape(-1) for scores in result.scores]
    table = torch.cat([result.boxes, result.scores[:, None]], 1)
    for name in ("masks", "keypoints"):
        if name in result:
            table = torch.cat([table, getattr(result, name).flatten(1).float()], 1)
    return [table[result.labels == i] for i in range(len(model.classes))]


@pytest.mark.parametrize("name", SOFTMAX + SIGMOID)
def test_classes_in_another_order_answer_the_same(name: str, tmp_path: Path) -> None:
    old, file = trained(name, tmp_path)
    turned = loaded(name, TURNED, file)
    report = turned.weights_report
    assert report is not None
    assert report.kept_classes == TURNED
    fitted_later = {"svm_weight", "svm_bias", "svm_fitted", "box_weight", "box_bias"}  # of R-CNN
    assert set(report.fresh) <= fitted_later | {"seen"}
    expected, found = said(old), said(turned)[::-1]
    assert sum(map(len, expected)) > 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not all(torch.equal(theirs, expected[0]) for theirs in expected[1:])


@pytest.mark.parametrize("name", [n for n in SIGMOID if n not in ("sightline_n", "efficientdet_d0")])  # these take long
def test_the_other_classes_of_a_detector_answer_as_before(name: str, tmp_path: Path) -> None:
    old, file = trained(name, tmp_path)
    new = loaded(name, NEW, file)
    for model in (old, new):  # no class takes the room of another
        limits = {f.name for f in fields(model.settings)} & {"candidates", "max_detections"}
        model.settings = replace(model.settings, **dict.fromkeys(limits, 100_000))
    of_a, _, of_c = said(old)
    c, _, a = said(new)
    assert len(of_a) + len(of_c) > 0
    for ours, theirs in ((a, of_a), (c, of_c)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [["a a", "x", "y"], ["x", "b", "a a", "y"]])
def test_a_classifier_of_which_some_classes_are_known_starts_no_worse_than_a_fresh_one(
    classes: list[str], tmp_path: Path
) -> None:
    """Trained logits are large: beside rows of small random numbers the known classes would win everywhere."""
    old, _ = trained("mobilenet_v3_small", tmp_path)
    with torch.no_grad():
        old.get_submodule(old.head_layer).weight.mul_(20)
        old.get_submodule(old.head_layer).bias.add_(5)
    file = save(old, tmp_path / "sure.safetensors")
    images = [image(64, 80, seed=seed) for seed in range(6)]

    def loss(model: Model) -> float:
        targets = [ClassScores((64, 80), i % len(classes), classes=model.classes) for i in range(6)]
        with torch.no_grad():
            return float(model(images, targets)["loss_classification"])

    new, fresh = (loaded("mobilenet_v3_small", classes, start) for start in (file, None))
    rows = {model: model.get_submodule(model.head_layer).weight for model in (old, new, fresh)}
    known = [(OLD.index(name), i) for i, name in enumerate(classes) if name in OLD]
    for theirs, ours in known:
        torch.testing.assert_close(rows[new][ours], rows[old][theirs])
    mean = torch.stack([rows[old][theirs] for theirs, _ in known]).mean(0)
    others = [i for i, name in enumerate(classes) if name not in OLD]
    torch.testing.assert_close(rows[new][others], rows[fresh][others] + mean)
    started, own = loss(new), list(new.get_submodule(new.head_layer).parameters())
    plain = [parameter.detach() for parameter in fresh.get_submodule(fresh.head_layer).parameters()]
    with torch.no_grad():
        for mine, initial in zip(own, plain, strict=True):  # as it was: the other rows are small random numbers
            mine[others] = initial[others]
        beside_small_ones = loss(new)
        for mine, initial in zip(own, plain, strict=True):
            mine.copy_(initial)
            mine[[i for _, i in known]] = 0
    if len(known) == 1:  # then all classes are equals, as in a fresh head on this backbone
        assert started == pytest.approx(loss(new), rel=1e-3)
    assert beside_small_ones > started + 0.3


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_lite0", "unet", "lraspp_mobilenet_v3_large"])
def test_two_classes_compare_as_before(name: str, tmp_path: Path) -> None:
    """The ratio of two probabilities is that of their logits, whatever the third class is.

    FCN is not among them: its transposed convolutions learn to mix the scores of classes.
    """
    old, file = trained(name, tmp_path)
    of_a, _, of_c = said(old)
    c, _, a = said(loaded(name, NEW, file))
    torch.testing.assert_close((a / c).log(), (of_a / of_c).log(), rtol=1e-3, atol=1e-4)


FIVE = (0, 1, 2, 3, 4)  # a box and its objectness
# layer, successive outputs per class, then for one group of outputs: what is kept, where it is now, what is new
WITH_BACKGROUND = ((0, 1, 3), (0, 3, 1), (2,))
WITHOUT = ((0, 2), (2, 0), (1,))
AFTER_BOXES = ((*FIVE, 5, 7), (*FIVE, 7, 5), (6,))
KEPT = [
    ("faster_rcnn_mobilenet_v2_fpn", "roi_heads.box_predictor.cls_score", 1, WITH_BACKGROUND),
    ("faster_rcnn_mobilenet_v2_fpn", "roi_heads.box_predictor.bbox_pred", 4, WITH_BACKGROUND),
    ("mask_rcnn_mobilenet_v2_fpn", "roi_heads.mask_predictor.mask_fcn_logits", 1, WITH_BACKGROUND),
    ("r_fcn_mobilenet_v2", "roi_heads.box_predictor.cls_maps", 9, WITH_BACKGROUND),
    ("ssdlite320_mobilenet_v2", "head.classification_head.module_list.2.1", 1, WITH_BACKGROUND),
    ("retinanet_mobilenet_v2_fpn", "head.classification_head.cls_logits", 1, WITH_BACKGROUND),
    ("overfeat_mobilenet_v2", "class_head.score", 1, WITH_BACKGROUND),
    ("sightline_n", "head.classes.1", 1, WITHOUT),
    ("efficientdet_d0", "head.classification.last.1", 1, WITHOUT),
    ("unet", "network.score", 1, WITHOUT),
    ("yolo_v2_mobilenet_v2", "head.last", 1, AFTER_BOXES),
    ("pp_yolo_mobilenet_v2", "head.predictors.0", 1, ((*range(6), 6, 8), (*range(6), 8, 6), (7,))),
    ("yolo_v1_mobilenet_v2", "head.last", 1, ((*range(10), 10, 12), (*range(10), 12, 10), (11,))),
]


@pytest.mark.parametrize(("name", "layer", "each", "places"), KEPT)
def test_which_outputs_are_kept(
    name: str, layer: str, each: int, places: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    """Of each layer's weights, as the papers lay out their outputs."""
    old, file = trained(name, tmp_path)
    new, start = loaded(name, NEW, file), loaded(name, NEW, None)
    taken, kept, fresh = (list(place) for place in places)
    length = len(kept) + len(fresh)
    for entry in ("weight", "bias"):
        theirs, ours, first = (
            model.get_parameter(f"{layer}.{entry}").detach().unflatten(0, (-1, length, each))
            for model in (old, new, start)
        )
        assert torch.equal(ours[:, kept], theirs[:, taken])
        assert torch.equal(ours[:, fresh], first[:, fresh])
        assert not torch.equal(ours[:, fresh[0]], theirs[:, taken[-1]])
    report = new.weights_report
    assert report is not None
    assert report.kept_classes == ["C", "A_a"]
    assert f"{layer}.weight" in report.partly
    assert not any(key.startswith(f"{layer}.") for key in report.fresh)
    assert f"kept of {report.partly[0].rsplit('.', 1)[0]}" in str(report)
    assert "the outputs of C, A_a; other classes start afresh" in str(report)
    assert "entries loaded; the others depend on the classes, and are loaded for the classes that both have" in str(
        report
    )


def test_layers_that_are_shared_by_all_classes_stay_whole(tmp_path: Path) -> None:
    """Deltas of R-FCN are no class's, so they are kept even where no class is."""
    old, file = trained("r_fcn_mobilenet_v2", tmp_path)
    new = loaded("r_fcn_mobilenet_v2", ["x", "y"], file)
    key = "roi_heads.box_predictor.bbox_maps.weight"
    assert torch.equal(new.get_parameter(key), old.get_parameter(key))
    report = new.weights_report
    assert report is not None
    assert (report.kept_classes, [k.split(".")[2] for k in report.partly]) == ([], ["bbox_maps", "bbox_maps"])
    assert "roi_heads.box_predictor.cls_maps.weight (of other classes)" in report.left_out
    assert "kept of roi_heads.box_predictor.bbox_maps: boxes, no class; other classes start afresh" in str(report)


def test_yolo_keeps_boxes_and_objectness_of_new_classes(tmp_path: Path) -> None:
    old, file = trained("yolo_v2_mobilenet_v2", tmp_path)
    new = loaded("yolo_v2_mobilenet_v2", ["x"], file)
    ours, theirs = (m.get_parameter("head.last.weight").detach().flatten(1) for m in (new, old))
    assert torch.equal(ours.unflatten(0, (5, 6))[:, :5], theirs.unflatten(0, (5, 8))[:, :5])


def test_upsampling_between_classes_is_kept_on_both_axes(tmp_path: Path) -> None:
    """FCN's transposed convolutions turn scores of classes into scores of classes."""
    old, file = trained("fcn8s_mobilenet_v2", tmp_path)
    new, start = loaded("fcn8s_mobilenet_v2", NEW, file), loaded("fcn8s_mobilenet_v2", NEW, None)
    ours, theirs, first = (m.get_parameter("network.ups.0.weight").detach() for m in (new, old, start))
    for to, of in ((0, 2), (2, 0)):
        for to_, of_ in ((0, 2), (2, 0)):
            assert torch.equal(ours[to, to_], theirs[of, of_])
    assert torch.equal(ours[1], first[1])
    assert torch.equal(ours[:, 1], first[:, 1])


def test_coco_s_heads_keep_the_classes_of_the_same_names(tmp_path: Path) -> None:
    """Of 91 outputs, those of COCO's numbers of the classes: 13 is "stop sign", whose class is the eleventh."""
    names, output_ids = coco_classes()
    name, layer = "ssdlite320_mobilenet_v3_large", "head.classification_head.module_list.0.1.weight"
    torch.manual_seed(0)
    state = create_model(name, names, output_ids=output_ids, reduced_tail=True).state_dict()
    torch.save(state, tmp_path / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth")
    model = create_model(
        name, ["Stop_Sign", "barcode", "person"], tmp_path / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
    )
    ours, theirs = model.state_dict()[layer].unflatten(0, (6, 4)), state[layer].unflatten(0, (6, 91))
    assert torch.equal(ours[:, [0, 1, 3]], theirs[:, [0, 13, 1]])
    assert model.output_ids is None
    assert model.weights_report is not None
    assert model.weights_report.kept_classes == ["Stop_Sign", "person"]


def test_imagenet_s_and_voc_s_names(tmp_path: Path) -> None:
    voc = class_names("voc")
    state = create_model("lraspp_mobilenet_v3_large", voc).state_dict()
    file = tmp_path / "lraspp_mobilenet_v3_large-d234d4ea.pth"
    torch.save({key.removeprefix("network."): value for key, value in state.items()}, file)
    model = create_model("lraspp_mobilenet_v3_large", ["background", "crane", "Sheep"], file)
    key = "network.classifier.low_classifier.weight"
    assert torch.equal(model.state_dict()[key][[0, 2]], state[key][[0, voc.index("sheep")]]) == ("sheep" in voc)
    assert model.weights_report is not None
    assert "Sheep" in model.weights_report.kept_classes


def test_equal_spelling_goes_before_similar() -> None:
    old = [[Output("Dog"), Output("dog"), Output("a_b")]]
    new = [[Output("dog"), Output("DOG"), Output("a b"), Output("Dog")]]
    found = copy_of_same_outputs(torch.arange(3.0), torch.full((4,), -1.0), old, new)
    assert found is not None
    assert found[0].tolist() == [1.0, 0.0, 2.0, 0.0]
    assert found[1] == ["dog", "DOG", "a b", "Dog"]


def test_background_alone_and_unused_outputs_are_not_kept() -> None:
    start, value = torch.zeros(2), torch.ones(2)
    background = [Output(BACKGROUND), Output("a")]
    assert copy_of_same_outputs(value, start, [background], [[Output(BACKGROUND), Output("b")]]) is None
    assert copy_of_same_outputs(value, start, [[Output(UNUSED)] * 2], [[Output(UNUSED)] * 2]) is None
    assert copy_of_same_outputs(value, start, [], []) is None
    assert copy_of_same_outputs(value, start, [background], [background[:1]]) is None  # not the tensor's length
    found = copy_of_same_outputs(value, start, [[Output("x"), Output(NO_CLASS)]], [[Output(NO_CLASS), Output("b")]])
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([1.0, 0.0], [])


def test_groups_by_hand() -> None:
    assert outputs_in_groups(["a", "b"], 6, own=1) == [
        *(Output(NO_CLASS, (0, 0)), Output("a", (0, 0)), Output("b", (0, 0))),
        *(Output(NO_CLASS, (1, 0)), Output("a", (1, 0)), Output("b", (1, 0))),
    ]
    assert outputs_in_groups(["a"], 2, each=2) == [Output("a", (0, 0)), Output("a", (0, 1))]
    assert outputs_in_groups(["a", "b"], 3) is None
    assert outputs_in_groups([], 3) is None


def test_a_module_that_says_nothing_of_its_outputs_is_left_out() -> None:
    plain = as_model(nn.Linear(2, 3))
    plain.class_layers = "^weight"
    report = load_weights(plain, nn.Linear(2, 3).state_dict(), "a.pth", same_classes=False, trained=plain)
    assert (report.left_out, report.fresh) == (["weight (of other classes)"], ["weight"])


def test_a_model_that_cannot_be_built_any_more_keeps_no_outputs(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = save(create_model("unet", OLD, width=4), tmp_path / "new.safetensors")
    with safe_open(file, "pt") as opened:
        header = opened.metadata() | {"model": "a model of one's own"}
    save_file(load_file(file), tmp_path / "gone.safetensors", header)
    report = create_model("unet", NEW, tmp_path / "gone.safetensors", width=4).weights_report
    assert report is not None
    assert (report.kept_classes, report.fresh) == ([], ["network.score.weight", "network.score.bias"])
