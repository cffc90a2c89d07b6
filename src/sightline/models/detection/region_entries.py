"""The catalog's region-based detectors: proposals → features of each → heads; and what came before them."""

from __future__ import annotations

from sightline.models.detection import (
    fast_rcnn,
    faster_rcnn,
    faster_rcnn_single,
    grid_sliding,
    keypoint_rcnn,
    light_head_rcnn,
    localiser,
    mask_rcnn,
    overfeat,
    proposal_network,
    r_cnn,
    r_fcn,
    sliding_window,
)
from sightline.models.entry import Entry

_FASTER = "Ren et al. 2015, Faster R-CNN; Lin et al. 2017, Feature pyramid networks"
_MASK = "He et al. 2017, Mask R-CNN"
_R_FCN = "Dai et al. 2016, R-FCN"
_LIGHT = "Li et al. 2017, Light-head R-CNN"
_FROZEN = {"norm": "frozen", "trainable_layers": 3}

REGION_ENTRIES = (
    *(
        Entry(
            f"r_cnn_{backbone}",
            builder,
            "detection",
            "Girshick et al. 2014, Rich feature hierarchies for accurate object detection and semantic segmentation",
            (),
            backbone,
        )
        for backbone, builder in (("mobilenet_v2", r_cnn.r_cnn_mobilenet_v2), ("resnet18", r_cnn.r_cnn_resnet18))
    ),
    Entry(
        "faster_rcnn_resnet50_fpn",
        faster_rcnn.faster_rcnn_resnet50_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_resnet50_fpn_v2",
        faster_rcnn.faster_rcnn_resnet50_fpn_v2,
        "detection",
        "Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        ("fasterrcnn_resnet50_fpn_v2",),
        "resnet50",
        {"trainable_layers": 3},
    ),
    Entry(
        "mask_rcnn_resnet50_fpn",
        mask_rcnn.mask_rcnn_resnet50_fpn,
        "detection",
        _MASK,
        ("maskrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
    ),
    Entry(
        "mask_rcnn_resnet50_fpn_v2",
        mask_rcnn.mask_rcnn_resnet50_fpn_v2,
        "detection",
        "He et al. 2017, Mask R-CNN; Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        ("maskrcnn_resnet50_fpn_v2",),
        "resnet50",
        {"trainable_layers": 3},
    ),
    Entry(
        "mask_rcnn_mobilenet_v2_fpn",
        mask_rcnn.mask_rcnn_mobilenet_v2_fpn,
        "detection",
        _MASK,
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "keypoint_rcnn_resnet50_fpn",
        keypoint_rcnn.keypoint_rcnn_resnet50_fpn,
        "detection",
        "He et al. 2017, Mask R-CNN, section 5",
        ("keypointrcnn_resnet50_fpn",),
        "resnet50",
        _FROZEN,
    ),
    Entry(
        "keypoint_rcnn_mobilenet_v2_fpn",
        keypoint_rcnn.keypoint_rcnn_mobilenet_v2_fpn,
        "detection",
        "He et al. 2017, Mask R-CNN, section 5",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "faster_rcnn_resnet18_fpn",
        faster_rcnn.faster_rcnn_resnet18_fpn,
        "detection",
        _FASTER,
        (),
        "resnet18",
        _FROZEN,
    ),
    Entry(
        "faster_rcnn_mobilenet_v3_large_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v3_large_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_mobilenet_v3_large_fpn",),
        "mobilenet_v3_large",
        _FROZEN | {"norm_eps": 1e-3},  # what the classifier was trained with
    ),
    Entry(
        "faster_rcnn_mobilenet_v3_large_320_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v3_large_320_fpn,
        "detection",
        _FASTER,
        ("fasterrcnn_mobilenet_v3_large_320_fpn",),
        "mobilenet_v3_large",
        _FROZEN | {"norm_eps": 1e-3},  # what the classifier was trained with
    ),
    Entry(
        "faster_rcnn_mobilenet_v2_fpn",
        faster_rcnn.faster_rcnn_mobilenet_v2_fpn,
        "detection",
        _FASTER,
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "faster_rcnn_vgg16",
        faster_rcnn_single.faster_rcnn_vgg16,
        "detection",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "faster_rcnn_mobilenet_v2",
        faster_rcnn_single.faster_rcnn_mobilenet_v2,
        "detection",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "region_proposal_network_vgg16",
        proposal_network.region_proposal_network_vgg16,
        "proposal",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "region_proposal_network_mobilenet_v2",
        proposal_network.region_proposal_network_mobilenet_v2,
        "proposal",
        "Ren et al. 2015, Faster R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        "fast_rcnn_vgg16",
        fast_rcnn.fast_rcnn_vgg16,
        "detection",
        "Girshick 2015, Fast R-CNN",
        (),
        "vgg16",
        {"trainable_layers": 3},
    ),
    Entry(
        "fast_rcnn_mobilenet_v2",
        fast_rcnn.fast_rcnn_mobilenet_v2,
        "detection",
        "Girshick 2015, Fast R-CNN",
        (),
        "mobilenet_v2",
        {"norm": "frozen", "trainable_layers": 5},
    ),
    *(
        Entry(name, builder, "detection", paper, (), backbone, {"norm": "frozen", "trainable_layers": parts})
        for name, builder, paper, backbone, parts in (
            ("r_fcn_resnet50", r_fcn.r_fcn_resnet50, _R_FCN, "resnet50", 3),
            ("r_fcn_resnet101", r_fcn.r_fcn_resnet101, _R_FCN, "resnet101", 3),
            ("r_fcn_mobilenet_v2", r_fcn.r_fcn_mobilenet_v2, _R_FCN, "mobilenet_v2", 5),
            ("light_head_rcnn_resnet101", light_head_rcnn.light_head_rcnn_resnet101, _LIGHT, "resnet101", 3),
            ("light_head_rcnn_mobilenet_v2", light_head_rcnn.light_head_rcnn_mobilenet_v2, _LIGHT, "mobilenet_v2", 5),
        )
    ),
    *(
        Entry(f"localiser_{backbone}", builder, "detection", "Krizhevsky et al. 2012; Redmon et al. 2016", (), backbone)
        for backbone, builder in (
            ("mobilenet_v2", localiser.localiser_mobilenet_v2),
            ("resnet18", localiser.localiser_resnet18),
        )
    ),
    *(
        Entry(f"{name}_{backbone}", getattr(module, f"{name}_{backbone}"), "detection", paper, (), backbone)
        for name, module, paper in (
            ("sliding_window", sliding_window, "Rowley, Baluja, Kanade 1998, Neural network-based face detection"),
            ("grid_sliding", grid_sliding, "Rowley, Baluja, Kanade 1998; Redmon et al. 2016, You only look once"),
        )
        for backbone in ("mobilenet_v2", "resnet18")
    ),
    *(
        Entry(f"overfeat_{variant}", builder, "detection", "Sermanet et al. 2014, OverFeat", (), backbone)
        for variant, builder, backbone in (
            ("fast", overfeat.overfeat_fast, None),
            ("accurate", overfeat.overfeat_accurate, None),
            ("mobilenet_v2", overfeat.overfeat_mobilenet_v2, "mobilenet_v2"),
        )
    ),
)
