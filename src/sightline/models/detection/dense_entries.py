"""The catalog's dense detectors: all boxes in one pass."""

from __future__ import annotations

from sightline.models.detection import pp_yolo, sightline_detector, ssd, ssd_mobilenet, ssdlite, yolo_v1
from sightline.models.entry import Entry

_PP_YOLO = "Long et al. 2020, PP-YOLO: an effective and efficient implementation of object detector"

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
)
