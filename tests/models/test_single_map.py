"""Fast R-CNN, Faster R-CNN on one map, R-FCN, Light-Head R-CNN: what each paper says of itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.light_head_rcnn import LargeSeparableConv, ThinRegions
from sightline.models.detection.proposers import StoredProposals, Windows, make_proposer
from sightline.nn.heads.box import BoxPredictor, BoxSettings, RegionHeads, TwoLayerHead
from sightline.nn.heads.position_sensitive import PositionSensitiveHeads, hardest
from sightline.nn.heads.regions import PooledRegions
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN, TwoScoreHead
from sightline.nn.layers.svd import compress_dense
from sightline.runtime.shapes import shapes_only
from sightline.structures import ImageBatch, Instances

NAMES = ["circle", "square", "star"]
VOC = [str(i) for i in range(20)]


def batch(height: int, width: int, images: int = 1) -> ImageBatch:
    return ImageBatch(torch.zeros(images, 3, height, width), [(height, width)] * images, [(height, width)] * images)


@pytest.mark.parametrize(
    ("name", "count"),
    [("faster_rcnn_vgg16", 137_078_239), ("fast_rcnn_vgg16", 134_690_729)],
)
def test_parameters_with_the_classes_of_voc(name: str, count: int) -> None:
    with shapes_only():
        assert sum(p.numel() for p in create_model(name, VOC).parameters()) == count


def test_faster_rcnn_vgg16_has_the_numbers_of_the_paper() -> None:
    model = create_model("faster_rcnn_vgg16", NAMES, hidden=16)
    shapes = model.rpn.anchor_bases[0]
    sides = shapes[:, 2:] - shapes[:, :2]
    assert len(sides) == 9
    assert sorted({round(float(a)) for a in (sides[:, 0] * sides[:, 1]).sqrt() / 128}) == [1, 2, 4]
    assert model.rpn.settings.after_nms == (2000, 300)
    with torch.inference_mode():
        maps = model.eval().backbone(torch.zeros(1, 3, 64, 96))
        assert [tuple(x.shape) for x in maps.values()] == [(1, 512, 4, 6)]
        scores, deltas = model.rpn.head(list(maps.values()))
    assert (scores[0].shape, deltas[0].shape) == ((1, 4 * 6 * 9), (1, 4 * 6 * 9, 4))
    assert model.roi_heads.box_predictor.bbox_pred.out_features == 4 * (len(NAMES) + 1)
    keys = model.backbone_keys
    assert keys["classifier.0.weight"] == "roi_heads.box_head.fc6.weight"
    assert keys["features.28.weight"] == "backbone.28.weight"
    assert keys["classifier.6.weight"] is None


def test_blocks_of_vgg_are_spared_as_in_the_paper() -> None:
    model = create_model("faster_rcnn_vgg16", NAMES, hidden=16, trainable_layers=3)
    learning = [n for n, p in model.backbone.named_parameters() if p.requires_grad and n.endswith("weight")]
    assert learning[0] == "10.weight"  # conv3_1
    assert len(learning) == 9
    with pytest.raises(InputError, match="this backbone has 5 parts"):
        create_model("faster_rcnn_vgg16", NAMES, hidden=16, trainable_layers=6)


def test_two_scores_are_a_softmax() -> None:
    torch.manual_seed(0)
    head = TwoScoreHead(4, 3, 8)
    x = torch.randn(2, 4, 5, 6)
    scores, _ = head([x])
    raw = head.cls_logits(head.conv(x))  # [2, 6, 5, 6]
    for a in range(3):
        pair = raw[:, 2 * a : 2 * a + 2].softmax(1)[:, 1]
        torch.testing.assert_close(scores[0].view(2, 5, 6, 3)[..., a].sigmoid(), pair)


def test_anchors_over_the_border_neither_train_nor_are_an_object_s_best() -> None:
    rpn = SingleMapRPN("map", 4, sizes=(10,), ratios=(1.0,), hidden=4)
    anchors = torch.tensor([[-5.0, 0, 5, 10], [0, 0, 10, 10], [12, 12, 22, 22], [12, 12, 30, 30], [8, 8, 18, 18]])
    target = Instances((25, 25), boxes=[[-0.0, 0, 5, 10], [13, 13, 25, 25]], labels=[0, 0])
    match = rpn.assign(anchors, [target])[0].tolist()
    assert match[0] == match[3] == -2
    assert match[1] == 0  # the best of those inside, though the first covers the object
    assert match[2] == 1
    assert match[4] == -1
    tiny = rpn.assign(anchors[:1], [Instances((5, 5), boxes=[[0, 0, 5, 5]], labels=[0])])[0]
    assert tiny.tolist() == [0]  # nothing is inside: all may train


def test_gradients_reach_the_image_through_roi_pooling() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 63, 47], [16, 8, 40, 40]], dtype=torch.float64)
    pool = PooledRegions("map", stride=8, size=2)
    assert torch.autograd.gradcheck(lambda m: pool({"map": m}, [boxes], batch(48, 64)), (x,))
    pool({"map": x}, [boxes], batch(48, 64)).sum().backward()
    naive = torch.zeros_like(x)
    for x1, y1, x2, y2 in (boxes / 8).round().long().tolist():
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i in range(2):
            for j in range(2):
                rows = range(min(y1 + i * height // 2, 6), min(y1 + -(-(i + 1) * height // 2), 6))
                columns = range(min(x1 + j * width // 2, 8), min(x1 + -(-(j + 1) * width // 2), 8))
                for c in range(2):
                    cells = [(float(x.detach()[0, c, r, k]), r, k) for r in rows for k in columns]
                    if cells:
                        _, r, k = max(cells)
                        naive[0, c, r, k] += 1
    torch.testing.assert_close(x.grad, naive)


def test_the_multi_task_loss_of_fast_rcnn() -> None:
    """Equation 1 to 3 by hand: log loss of the true class, smooth L1 that bends at 1, of the true class alone."""
    model = create_model("fast_rcnn_mobilenet_v2", NAMES)
    logits = torch.tensor([[0.0, 1, 2, 3], [1, 0, 0, 0]])
    deltas = torch.zeros(2, 4, 4)
    deltas[0, 2] = torch.tensor([0.5, 3.0, 0.0, -2.0])
    losses = model.roi_heads.losses(logits, deltas, torch.tensor([2, 0]), torch.zeros(2, 4))
    smooth = 0.5 * 0.5**2 + (3 - 0.5) + 0 + (2 - 0.5)
    assert float(losses["loss_box"]) == pytest.approx(smooth / 2)
    log_loss = -(logits[0].log_softmax(0)[2] + logits[1].log_softmax(0)[0]) / 2
    assert float(losses["loss_classification"]) == pytest.approx(float(log_loss))


def test_a_head_answers_the_same_in_chunks() -> None:
    torch.manual_seed(0)
    maps = {"map": torch.randn(2, 4, 8, 8)}
    regions = [torch.rand(7, 2).repeat(1, 2) * 40 + torch.tensor([0.0, 0, 20, 20]), torch.rand(0, 4)]
    regions[1] = regions[0][:5] + 3
    heads = RegionHeads(PooledRegions("map", 8, 2), TwoLayerHead(16, 8), BoxPredictor(8, 3))
    whole = heads.predict(maps, regions, batch(64, 64, 2))
    heads.settings = BoxSettings(chunk=3)
    for a, b in zip(whole, heads.predict(maps, regions, batch(64, 64, 2)), strict=True):
        torch.testing.assert_close(a, b)


def test_proposals_are_asked_for_in_the_image_s_own_pixels() -> None:
    model = create_model("fast_rcnn_mobilenet_v2", NAMES, min_size=64, max_size=128)
    seen = []

    def proposer(image: Tensor) -> Tensor:
        seen.append(image.shape)
        return torch.tensor([[10.0, 20, 30, 60], [-5, -5, 500, 500], [4, 4, 4, 9]])

    model.proposer = proposer
    images = [torch.zeros(3, 128, 160, dtype=torch.uint8)]
    prepared, _ = model.prepare(images, None)
    assert seen == [(3, 128, 160)]
    assert prepared.proposals[0].tolist() == [[5, 10, 15, 30], [0, 0, 80, 64]]  # half the size, clipped, none empty


def test_an_image_without_proposals_has_no_detections_and_still_learns_its_objects() -> None:
    model = create_model("fast_rcnn_mobilenet_v2", NAMES, min_size=64, max_size=128)
    model.proposer = lambda image: torch.zeros(0, 4)
    image = torch.rand(3, 64, 64)
    assert len(model.eval()([image])[0]) == 0
    one, none = Instances((64, 64), boxes=[[5, 5, 40, 40]], labels=[1]), Instances((64, 64))
    assert all(v.isfinite() for v in model([image], [one]).values())
    assert all(float(v.detach()) == 0 for v in model([image], [none]).values())
    model.proposer = lambda image: torch.tensor([[0.0, 0, float("nan"), 3]])
    with pytest.raises(InputError, match="not a number"):
        model([image])
    model.proposer = lambda image: torch.zeros(3, 5)
    with pytest.raises(InputError, match=r"shape \[3, 5\]"):
        model([image])


def test_windows_cover_every_place_at_every_scale() -> None:
    windows = Windows()(torch.zeros(3, 120, 160))
    assert 1000 < len(windows) < 4000
    assert (windows[:, 2:] > windows[:, :2]).all()
    assert (windows >= 0).all()
    assert (windows <= torch.tensor([160, 120, 160, 120])).all()
    for box in ([10.0, 10, 40, 40], [100, 50, 150, 110], [0, 0, 160, 120]):
        corner = torch.minimum(windows[:, 2:], torch.tensor(box[2:])) - torch.maximum(
            windows[:, :2], torch.tensor(box[:2])
        )
        shared = corner.clamp(min=0).prod(1)
        area = (windows[:, 2:] - windows[:, :2]).prod(1) + (box[2] - box[0]) * (box[3] - box[1])
        assert float((shared / (area - shared)).max()) > 0.5
    assert len(Windows()(torch.zeros(1, 1, 1))) >= 1
    with pytest.raises(InputError, match="must be above 0"):
        Windows(step=0)


def test_stored_proposals_are_found_by_content() -> None:
    image, boxes = torch.rand(3, 8, 9), torch.tensor([[1.0, 2, 3, 4]])
    store = StoredProposals()
    store.add(image, boxes)
    assert torch.equal(store(image.clone()), boxes)
    with pytest.raises(InputError, match="no proposals are stored for an image of 8 × 9"):
        store(image + 1)
    calls = []
    asking = StoredProposals(lambda x: calls.append(1) or boxes, limit=2)  # type: ignore[func-returns-value]
    for shift in (0, 0, 1, 2, 0):
        asking(image + shift)
    assert len(calls) == 4  # the first was dropped when the third came
    with pytest.raises(InputError, match="must be 'windows' or 'selective_search'"):
        make_proposer("edges")  # type: ignore[arg-type]


def test_the_dense_layers_of_a_detector_can_be_cut_by_svd() -> None:
    torch.manual_seed(0)
    model = create_model("fast_rcnn_mobilenet_v2", NAMES, min_size=64, max_size=128, hidden=32).eval()
    with torch.inference_mode():
        prepared, _ = model.prepare([torch.rand(3, 64, 64)], None)
        maps = model.backbone(prepared.tensor)
        before = model.roi_heads.predict(maps, prepared.proposals, prepared)
        compress_dense(model, {"roi_heads.box_head.fc6": 32, "roi_heads.box_head.fc7": 32})
        after = model.roi_heads.predict(maps, prepared.proposals, prepared)
    for a, b in zip(after, before, strict=True):  # of full rank
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("bins", [3, 7])
def test_the_vote_of_position_sensitive_maps_by_a_naive_loop(bins: int) -> None:
    torch.manual_seed(0)
    heads = PositionSensitiveHeads("map", 4, 2, bins=bins, stride=4, hidden=6)
    x = torch.randn(1, 4, 20, 20)
    boxes = [torch.tensor([[8.0, 12, 52, 64], [0, 0, 36, 20]])]
    with torch.inference_mode():
        scores, deltas = heads.predict({"map": x}, boxes, batch(80, 80))
        maps, box_maps = heads.box_predictor(heads.box_head(x))
    assert (scores.shape, deltas.shape) == ((2, 3), (2, 3, 4))
    assert torch.equal(deltas[:, 0], deltas[:, 2])  # one box for all classes

    def vote(source: Tensor, channel: int, box: list[float]) -> float:
        x1, y1, x2, y2 = box
        x1, y1, x2, y2 = round(x1 / 4), round(y1 / 4), round(x2 / 4), round(y2 / 4)
        values = []
        for i in range(bins):
            for j in range(bins):
                height, width = (y2 - y1) / bins, (x2 - x1) / bins
                top, bottom = math.floor(y1 + i * height), math.ceil(y1 + (i + 1) * height - 1e-6)
                left, right = math.floor(x1 + j * width), math.ceil(x1 + (j + 1) * width - 1e-6)
                cells = source[0, (channel * bins + i) * bins + j, top:bottom, left:right]
                values.append(float(cells.mean()))
        return sum(values) / len(values)

    for r, box in enumerate(boxes[0].tolist()):
        for c in range(3):
            assert float(scores[r, c]) == pytest.approx(vote(maps, c, box), abs=1e-4)
        for c in range(4):
            assert float(deltas[r, 0, c]) == pytest.approx(vote(box_maps, c, box), abs=1e-4)


def test_maps_of_r_fcn_have_the_channels_and_stride_of_the_paper() -> None:
    with shapes_only():
        model = create_model("r_fcn_resnet101", VOC, bins=7)
        maps = model.backbone(torch.zeros(1, 3, 64, 96))
        scores, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(maps["layer4"]))
    assert {k: tuple(v.shape[1:]) for k, v in maps.items()} == {"layer3": (1024, 4, 6), "layer4": (2048, 4, 6)}
    assert scores.shape == (1, 7 * 7 * 21, 4, 6)
    assert boxes.shape == (1, 7 * 7 * 4, 4, 6)


def test_the_hardest_regions_are_those_of_the_largest_summed_loss() -> None:
    torch.manual_seed(0)
    logits, deltas, wanted = torch.randn(30, 4), torch.randn(30, 4), torch.randn(30, 4)
    labels = torch.randint(0, 4, (30,))
    total = []
    for n in range(30):
        loss = -float(logits[n].log_softmax(0)[labels[n]])
        if labels[n] > 0:
            off = (deltas[n] - wanted[n]).abs()
            loss += float(torch.where(off < 1 / 9, 4.5 * off**2, off - 1 / 18).sum())
        total.append(loss)
    ids = hardest(logits, deltas, labels, wanted, 8)
    assert sorted(ids.tolist()) == sorted(sorted(range(30), key=lambda n: -total[n])[:8])


def test_hard_examples_train_the_number_asked_for() -> None:
    torch.manual_seed(0)
    model = create_model("r_fcn_mobilenet_v2", NAMES, min_size=96, max_size=128, hard_examples=16)
    seen: list[int] = []
    whole = model.roi_heads.losses

    def losses(logits: Tensor, *rest: Any) -> dict[str, Tensor]:
        seen.append(len(logits))
        return whole(logits, *rest)

    model.roi_heads.losses = losses
    target = Instances((96, 96), boxes=[[10, 10, 60, 60]], labels=[1])
    model([torch.rand(3, 96, 96)] * 2, [target] * 2)
    assert seen == [32]


def test_a_large_separable_convolution_is_two_branches() -> None:
    torch.manual_seed(0)
    conv = LargeSeparableConv(3, 4, 5, kernel=7)
    x = torch.randn(1, 3, 9, 11)
    torch.testing.assert_close(conv(x), (conv.columns_first(x) + conv.rows_first(x)).relu())
    with torch.no_grad():
        for p in conv.parameters():
            p.fill_(1.0) if p.ndim > 1 else p.zero_()
        spot = torch.zeros(1, 3, 15, 15)
        spot[0, 0, 7, 7] = 1
        seen = conv(spot)[0, 0]
    expected = torch.zeros(15, 15)
    expected[4:11, 4:11] = 2 * 4  # both branches, each through four middle channels
    torch.testing.assert_close(seen, expected)


def test_light_head_s_maps_are_thin_whatever_the_classes() -> None:
    model = create_model("light_head_rcnn_mobilenet_v2", NAMES)
    regions = model.roi_heads.region_features
    assert isinstance(regions, ThinRegions)
    assert regions.maps.rows_first[1].out_channels == 490
    maps = {"13": torch.randn(1, 96, 4, 6)}
    assert regions(maps, [torch.tensor([[0.0, 0, 50, 40]])], batch(64, 96)).shape == (1, 10, 7, 7)
    with shapes_only():
        large = create_model("light_head_rcnn_resnet101", NAMES)
    assert large.roi_heads.box_head[1].weight.shape == (2048, 490)
    assert large.roi_heads.box_predictor.bbox_pred.out_features == 4


@pytest.mark.parametrize("name", ["r_fcn_mobilenet_v2", "light_head_rcnn_mobilenet_v2", "fast_rcnn_mobilenet_v2"])
def test_they_learn_one_picture(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, NAMES, min_size=96, max_size=96).train()
    picture = torch.full((3, 96, 96), 60, dtype=torch.uint8)
    picture[1, 20:76, 16:70] = 250
    target = Instances((96, 96), classes=model.classes, boxes=[[16, 20, 70, 76]], labels=[1])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    totals = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = sum(model([picture], [target]).values())
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert sum(totals[-3:]) < 0.75 * sum(totals[:3]), totals


def test_few_proposals_of_settings_reach_the_rpn() -> None:
    few = ProposalSettings(after_nms=(20, 5))
    model = create_model("faster_rcnn_mobilenet_v2", NAMES, min_size=96, max_size=96, proposals=few).eval()
    with torch.inference_mode():
        prepared, _ = model.prepare([torch.rand(3, 96, 96)], None)
        proposals, _ = model.rpn(model.backbone(prepared.tensor), prepared)
    assert len(proposals[0]) <= 5


@pytest.mark.parametrize("name", ["r_fcn_resnet50", "r_fcn_resnet101"])
def test_r_fcn_has_the_numbers_of_the_paper_and_its_code(name: str) -> None:
    """Section 3: 300 regions at test, suppression at 0.3, 128 regions an image train; 6000 and 12,000 anchors, of 16
    pixels at least, are Faster R-CNN's, whose proposal network it takes."""
    with shapes_only():
        model = create_model(name, NAMES)
    s = model.rpn.settings
    assert (s.before_nms, s.after_nms) == ((12_000, 6000), (2000, 300))
    assert (s.min_size, s.nms_iou) == (16, 0.7)
    b = model.roi_heads.settings
    assert (b.samples, b.positive_fraction, b.positive_iou, b.nms_iou) == (128, 0.25, 0.5, 0.3)
    assert model.roi_heads.region_features.bins == 7


def test_stored_proposals_forget_those_added_first() -> None:
    asked: list[int] = []

    def propose(image: Tensor) -> Tensor:
        asked.append(int(image[0, 0, 0]))
        return torch.tensor([[0.0, 0, int(image[0, 0, 0]), 9]])

    stored = StoredProposals(propose, limit=2)
    images = [torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (1, 2, 3)]
    for k in (0, 1, 0, 2, 1, 0):
        assert stored(images[k]).tolist() == [[0, 0, k + 1, 9]]
        assert len(stored) <= 2
    assert asked == [1, 2, 3, 1]  # the third drops the first; asking again does not make it later
