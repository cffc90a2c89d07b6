"""The catalog's dense detectors: all boxes in one pass."""

from __future__ import annotations

from sightline.models.darknet.detector import darknet
from sightline.models.detection import (
    efficientdet,
    fcos,
    pp_yolo,
    retinanet,
    sightline_detector,
    ssd,
    ssd_mobilenet,
    ssdlite,
    yolo_9000,
    yolo_v1,
    yolo_v2,
)
from sightline.models.entry import Entry

_FOCAL = "Lin et al. 2017, Focal loss for dense object detection"
_PP_YOLO = "Long et al. 2020, PP-YOLO: an effective and efficient implementation of object detector"
_FCOS = "Tian et al. 2019, FCOS: fully convolutional one-stage object detection"
_YOLO_9000 = "Redmon and Farhadi 2017, YOLO9000: better, faster, stronger"

DENSE_ENTRIES = (
    Entry(
        "sightline_n",
        sightline_detector.sightline_n,
        "detection",
        "Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry(
        "sightline_s",
        sightline_detector.sightline_s,
        "detection",
        "Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry(
        "sightline_m",
        sightline_detector.sightline_m,
        "detection",
        "Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry("ssd300_vgg16", ssd.ssd300_vgg16, "detection", "Liu et al. 2016, SSD", (), "vgg16"),
    Entry("ssd512_vgg16", ssd.ssd512_vgg16, "detection", "Liu et al. 2016, SSD", (), "vgg16"),
    Entry(
        "ssd_mobilenet_v1",
        ssd_mobilenet.ssd_mobilenet_v1,
        "detection",
        "Howard et al. 2017, MobileNets; Huang et al. 2017, Speed/accuracy trade-offs",
        (),
        "mobilenet_v1",
    ),
    Entry(
        "ssdlite320_mobilenet_v3_large",
        ssdlite.ssdlite320_mobilenet_v3_large,
        "detection",
        "Howard et al. 2019, Searching for MobileNetV3",
        (),
        "mobilenet_v3_large",
        {"reduced_tail": False},
    ),
    Entry(
        "ssdlite320_mobilenet_v2",
        ssdlite.ssdlite320_mobilenet_v2,
        "detection",
        "Sandler et al. 2018, MobileNetV2",
        (),
        "mobilenet_v2",
    ),
    Entry(
        "retinanet_resnet50_fpn",
        retinanet.retinanet_resnet50_fpn,
        "detection",
        _FOCAL,
        (),
        "resnet50",
        {"norm": "frozen", "trainable_layers": 3},
    ),
    Entry(
        "retinanet_resnet50_fpn_v2",
        retinanet.retinanet_resnet50_fpn_v2,
        "detection",
        f"{_FOCAL}; Zhang et al. 2020, Bridging the gap between anchor-based and anchor-free detection",
        (),
        "resnet50",
        {"trainable_layers": 3},
    ),
    Entry("retinanet_resnet18_fpn", retinanet.retinanet_resnet18_fpn, "detection", _FOCAL, (), "resnet18"),
    Entry("retinanet_mobilenet_v2_fpn", retinanet.retinanet_mobilenet_v2_fpn, "detection", _FOCAL, (), "mobilenet_v2"),
    Entry(
        "fcos_resnet50_fpn",
        fcos.fcos_resnet50_fpn,
        "detection",
        _FCOS,
        (),
        "resnet50",
        {"norm": "frozen", "trainable_layers": 3},
    ),
    Entry("fcos_mobilenet_v2_fpn", fcos.fcos_mobilenet_v2_fpn, "detection", _FCOS, (), "mobilenet_v2"),
    Entry("pp_yolo_resnet50_vd", pp_yolo.pp_yolo_resnet50_vd, "detection", _PP_YOLO),
    Entry("pp_yolo_resnet18_vd", pp_yolo.pp_yolo_resnet18_vd, "detection", _PP_YOLO),
    Entry("pp_yolo_mobilenet_v2", pp_yolo.pp_yolo_mobilenet_v2, "detection", _PP_YOLO, (), "mobilenet_v2"),
    Entry("yolo_v1", yolo_v1.yolo_v1, "detection", "Redmon et al. 2016, You only look once"),
    Entry(
        "yolo_v1_mobilenet_v2",
        yolo_v1.yolo_v1_mobilenet_v2,
        "detection",
        "Redmon et al. 2016, You only look once",
        (),
        "mobilenet_v2",
    ),
    Entry("yolo_v2_darknet19", yolo_v2.yolo_v2_darknet19, "detection", _YOLO_9000, (), "darknet19"),
    Entry("yolo_v2_mobilenet_v2", yolo_v2.yolo_v2_mobilenet_v2, "detection", _YOLO_9000, (), "mobilenet_v2"),
    Entry("yolo_9000_darknet19", yolo_9000.yolo_9000_darknet19, "detection", _YOLO_9000, (), "darknet19"),
    Entry("yolo_9000_mobilenet_v2", yolo_9000.yolo_9000_mobilenet_v2, "detection", _YOLO_9000, (), "mobilenet_v2"),
    Entry(
        "darknet",
        darknet,
        "detection",
        "Redmon and Farhadi 2018, YOLOv3; the files of darknet, their program",
    ),
    *(
        Entry(
            f"efficientdet_d{i}",
            getattr(efficientdet, f"efficientdet_d{i}"),
            "detection",
            "Tan, Pang, Le 2020, EfficientDet",
            (),
            f"efficientnet_b{min(i, 6)}",
        )
        for i in range(8)
    ),
)
