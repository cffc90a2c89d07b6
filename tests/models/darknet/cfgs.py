"""Small darknet files for the tests, and the layer tables of published networks."""

from __future__ import annotations

from collections.abc import Sequence


def block(kind: str, **options: object) -> str:
    """A section. `from_` stands for the key "from"."""
    return "\n".join([f"[{kind}]", *(f"{k.rstrip('_')}={v}" for k, v in options.items())]) + "\n\n"


def net(side: int, channels: int = 3) -> str:
    return block("net", batch=1, width=side, height=side, channels=channels, learning_rate=0.001)


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky", **options: object) -> str:
    return block(
        "convolutional",
        batch_normalize=1,
        filters=filters,
        size=size,
        stride=stride,
        pad=1,
        activation=activation,
        **options,
    )


def last(filters: int, size: int = 1) -> str:
    return block("convolutional", filters=filters, size=size, stride=1, pad=1, activation="linear")


def pool(size: int = 2, stride: int = 2) -> str:
    return block("maxpool", size=size, stride=stride)


def route(*layers: int) -> str:
    return block("route", layers=",".join(map(str, layers)))


def yolo(mask: Sequence[int], classes: int, anchors: str, num: int) -> str:
    masks = ",".join(map(str, mask))
    return block(
        "yolo", mask=masks, anchors=anchors, classes=classes, num=num, jitter=0.3, ignore_thresh=0.7, truth_thresh=1
    )


V3_ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
V2_ANCHORS = "0.57273,0.677385, 1.87446,2.06253, 3.33843,5.47434, 7.88282,3.52778, 9.77052,9.16828"


def yolov3_tiny(classes: int = 80, side: int = 416) -> str:
    trunk = "".join(conv(c) + pool() for c in (16, 32, 64, 128, 256))  # 0 … 9
    coarse = conv(512) + pool(2, 1) + conv(1024) + conv(256, 1) + conv(512) + last(3 * (5 + classes))  # 10 … 15
    fine = route(-4) + conv(128, 1) + block("upsample", stride=2) + route(-1, 8) + conv(256) + last(3 * (5 + classes))
    heads = [yolo(mask, classes, TINY_ANCHORS, 6) for mask in ((3, 4, 5), (0, 1, 2))]
    return net(side) + trunk + coarse + heads[0] + fine + heads[1]


def yolov3(classes: int = 80, side: int = 416) -> str:
    add = block("shortcut", from_=-3, activation="linear")
    text = net(side) + conv(32)
    for filters, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        text += conv(filters, 3, 2) + (conv(filters // 2, 1) + conv(filters) + add) * count
    outputs = 3 * (5 + classes)
    for filters, mask, lateral in ((512, (6, 7, 8), 61), (256, (3, 4, 5), 36), (128, (0, 1, 2), None)):
        text += (conv(filters, 1) + conv(2 * filters)) * 3 + last(outputs) + yolo(mask, classes, V3_ANCHORS, 9)
        if lateral is not None:
            text += route(-4) + conv(filters // 2, 1) + block("upsample", stride=2) + route(-1, lateral)
    return text


def yolov2(classes: int = 80, side: int = 416) -> str:
    text = net(side)
    for filters, convs in ((32, 1), (64, 1), (128, 3), (256, 3), (512, 5), (1024, 5)):
        text += "".join(conv(filters) if i % 2 == 0 else conv(filters // 2, 1) for i in range(convs))
        text += pool() if filters < 1024 else ""
    text += conv(1024) * 2 + route(-9) + conv(64, 1) + block("reorg", stride=2) + route(-1, -4) + conv(1024)
    return text + last(5 * (5 + classes)) + region(classes, V2_ANCHORS, 5)


def region(classes: int, anchors: str, num: int) -> str:
    return block(
        "region",
        anchors=anchors,
        bias_match=1,
        classes=classes,
        coords=4,
        num=num,
        softmax=1,
        jitter=0.3,
        rescore=1,
        object_scale=5,
        noobject_scale=1,
        class_scale=1,
        coord_scale=1,
        absolute=1,
        thresh=0.6,
        random=1,
    )


# small networks of three classes

SMALL_V1 = (
    net(32)
    + conv(4, 3, 2)
    + pool()
    + conv(6, activation="relu")
    + pool()
    + block("local", filters=5, size=3, stride=1, pad=1, activation="leaky")
    + block("dropout", probability=0.5)
    + block("connected", output=16, activation="leaky")
    + block("connected", output=2 * 2 * (3 + 2 * 5), activation="linear")
    + block(
        "detection",
        classes=3,
        coords=4,
        rescore=1,
        side=2,
        num=2,
        softmax=0,
        sqrt=1,
        jitter=0.2,
        object_scale=1,
        noobject_scale=0.5,
        class_scale=1,
        coord_scale=5,
    )
)
SMALL_V2 = (
    net(64)
    + conv(8)
    + pool(8, 8)
    + conv(12)  # 2, 8×8
    + pool()
    + conv(16)  # 4, 4×4
    + route(2)
    + conv(8, 1)
    + block("reorg", stride=2)  # 7
    + route(-1, 4)
    + conv(16)
    + last(2 * 8)
    + region(3, "1,1.5, 2,2", 2)
)
SMALL_V3_ANCHORS = "6,8, 14,17, 30,26, 50,60"
SMALL_V3 = (
    net(64)
    + conv(8, 3, 4)
    + conv(4, 1)
    + conv(8, activation="mish")
    + block("shortcut", from_=-3, activation="leaky")  # 3, 16×16
    + pool()
    + conv(16, groups=2)  # 5, 8×8
    + pool(2, 1)
    + last(2 * 8)
    + yolo((2, 3), 3, SMALL_V3_ANCHORS, 4)  # 8
    + route(-3)
    + block("upsample", stride=2)
    + route(-1, 3)
    + block("route", layers=-1, groups=2, group_id=1)
    + conv(8, activation="logistic")
    + last(2 * 8)
    + yolo((0, 1), 3, SMALL_V3_ANCHORS, 4)
)
SMALL_CLASSIFIER = (
    net(32) + conv(8) + pool() + last(5) + block("avgpool") + block("softmax", groups=1) + block("cost", type="sse")
)
