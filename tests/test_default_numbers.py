"""Default numbers of public functions and layers: the papers' and the reference programs' own, copied from there."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import pytest

# "module.name": the numbers, as its source has them
PUBLISHED: dict[str, dict[str, Any]] = {
    # losses and assignment
    "ops.losses.sigmoid_focal_loss": {"alpha": 0.25, "gamma": 2.0},  # RetinaNet, section 5.1
    "ops.losses.softmax_focal_loss": {"gamma": 2.0},
    "ops.losses.varifocal_loss": {"alpha": 0.75, "gamma": 2.0},  # VarifocalNet, section 3.4
    "ops.losses.quality_focal_loss": {"beta": 2.0},  # generalised focal loss, section 4
    "ops.losses.smooth_l1_loss": {"beta": 1.0},  # Fast R-CNN, equation 3
    "ops.losses.huber_loss": {"delta": 1.0},
    "ops.pixel_losses.pixel_focal": {"gamma": 2.0},
    "ops.boundary_weights.boundary_weights": {"w0": 10.0, "sigma": 5.0},  # U-Net, section 3
    "ops.task_alignment.match_task_aligned": {"top": 13, "alpha": 1.0, "beta": 6.0},  # TOOD, section 4.1
    "ops.mining.hard_negatives": {"ratio": 3.0},  # SSD, section 2.2
    # boxes, suppression, regions
    "ops.boxes.encode_boxes": {"weights": (1.0, 1.0, 1.0, 1.0)},
    "ops.boxes.decode_boxes": {"weights": (1.0, 1.0, 1.0, 1.0), "max_log_ratio": math.log(1000 / 16)},  # Detectron
    "ops.suppression.soft_nms": {"sigma": 0.5, "score_threshold": 0.001, "iou_threshold": 0.3},  # Soft-NMS's code
    "ops.matrix_nms.matrix_nms": {"sigma": 0.5, "score_threshold": 0.0},  # SOLOv2, table 7
    "ops.merging.merge_boxes": {"threshold": 0.8},
    "ops.regions.multiscale_roi_align": {
        "sampling_ratio": 2,
        "canonical_size": 224,
        "canonical_level": 4,
    },  # FPN, eq. 1
    "ops.regions.roi_align": {"spatial_scale": 1.0, "sampling_ratio": -1},
    "ops.position_sensitive.ps_roi_align": {"spatial_scale": 1.0, "sampling_ratio": -1},
    "ops.anchors.default_box_shapes": {"min_ratio": 0.15, "max_ratio": 0.9},
    "ops.masks.paste_masks": {"threshold": 0.5},  # Mask R-CNN, section 3.1
    "ops.proposals.selective_search.SelectiveSearch": {"min_side": 0, "max_size": 500, "seed": 0, "near_iou": 0.8},
    "ops.proposals.regions.segment": {"sigma": 0.8},  # selective search's code
    "ops.warping.warp_regions": {"context": 0.0},
    "ops.anchor_clusters.cluster_shapes": {"seed": 0, "starts": 3, "iterations": 100},
    # layers, necks, heads
    "nn.layers.norm.batch_norm": {"eps": 1e-5, "momentum": 0.1},
    "nn.layers.norm.FrozenBatchNorm2d": {"eps": 1e-5},
    "nn.layers.drop_block.DropBlock": {"prob": 0.1, "size": 3},  # PP-YOLO's settings
    "nn.layers.spatial_pyramid.SpatialPyramidPooling": {"sides": (5, 9, 13)},  # YOLO v3 SPP's .cfg
    "nn.layers.conv.make_divisible": {"divisor": 8},  # MobileNet v2's code
    "nn.layers.conv.ConvNormAct": {"kernel": 3, "stride": 1, "groups": 1, "dilation": 1},
    "nn.necks.fpn.FeaturePyramid": {"out_channels": 256},  # FPN, section 3
    "nn.necks.bifpn.BiFPN": {"levels": 5},
    "nn.necks.pan.PathAggregation": {"blocks": 1},
    "nn.necks.yolo_v3.YOLOv3Neck": {"width": 512, "pairs": 2},
    "nn.heads.box.ConvHead": {"convs": (256, 256, 256, 256), "hidden": 1024},  # Group Normalization, section 4.2
    "nn.heads.box.TwoLayerHead": {"hidden": 1024},  # FPN, section 4.2
    "nn.heads.mask.MaskHead": {"convs": (256, 256, 256, 256)},  # Mask R-CNN, figure 4
    "nn.heads.keypoint.KeypointHead": {"convs": (512,) * 8},  # Mask R-CNN, section 5
    "nn.heads.regions.DenseHead": {"dropout": 0.5},  # VGG
    "nn.heads.regions.PooledRegions": {"size": 7},
    "nn.heads.retinanet.RetinaNetHead": {"depth": 4},  # RetinaNet, section 4
    "nn.heads.fcos.FCOSHead": {"depth": 4},
    "nn.heads.efficientdet.EfficientDetHead": {"levels": 5, "prior": 0.01},
    "nn.heads.decoupled.DecoupledHead": {"levels": 3, "bins": 16, "depth": 2, "prior": 0.01},
    "nn.heads.rpn.RPNHead": {"depth": 1},
    "nn.heads.rpn.RegionProposalNetwork": {"ratios": (0.5, 1.0, 2.0), "depth": 1},
    "nn.heads.rpn_single.SingleMapRPN": {"sizes": (128, 256, 512), "ratios": (0.5, 1.0, 2.0), "hidden": 512},
    "nn.heads.yolo_v1.YOLOv1Head": {"hidden": 4096, "width": 1024, "dropout": 0.5},
    "nn.heads.yolo_v2.YOLOv2Head": {"width": 1024, "passed": 64},  # darknet's yolov2-voc.cfg
    "nn.heads.yolo_v3.YOLOv3Head": {"prior": 0.01},
    # models
    "models.preprocess.Preprocess": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "min_size": 800,
        "max_size": 1333,
        "divisor": 32,
    },
    "models.detection.proposers.Windows": {
        "scales": (0.15, 0.25, 0.4, 0.6, 0.85),
        "ratios": (0.5, 1.0, 2.0),
        "step": 0.33,
    },
    "models.detection.proposers.StoredProposals": {"limit": 10_000},
    "models.detection.sliding_window.shifted": {"amount": 0.2},
    "models.detection.r_cnn_stages.StageSettings": {  # R-CNN's code, rcnn_train.m and rcnn_train_bbox_regressor.m
        "svm_c": 1e-3,
        "positive_weight": 2.0,
        "norm": 20.0,
        "negative_iou": 0.3,
        "first_negatives": 2000,
        "rounds": 3,
        "max_negatives": 20_000,
        "ridge": 1000.0,
        "pair_iou": 0.6,
        "seed": 0,
    },
    "models.segmentation.segmenter.Segmenter": {"aux_loss_weight": 0.5},  # the auxiliary loss of PSPNet halves it, too
    # metrics
    "evaluation.evaluate": {"batch_size": 8},
    "evaluation.predict_batches": {"batch_size": 8},
    "evaluation.errors.diagnose": {"iou": 0.5, "background_iou": 0.1},  # TIDE, section 2.2
    "evaluation.errors.operating_point": {"iou": 0.5},
    "evaluation.voc.evaluate_voc": {"year": 2010, "iou": 0.5},
    "evaluation.voc.voc_average_precision": {"iou": 0.5},
    "evaluation.segmentation.boundary_scores": {"band": 0.0075},
    "evaluation.proposals.ProposalResult.curve": {"steps": 51},
    # augmentations
    "data.transforms.crops.IoUCrop": {
        "min_iou": (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),  # as torchvision's RandomIoUCrop
        "scale": (0.3, 1.0),
        "aspect": (0.5, 2.0),
        "tries": 40,
        "p": 1.0,
    },
    "data.transforms.crops.ZoomOut": {"ratio": (1.0, 4.0), "p": 0.5},  # as torchvision's RandomZoomOut
    "data.transforms.crops.SafeCrop": {"scale": (0.4, 1.0), "aspect": (0.75, 1.33), "p": 0.5},
    "data.transforms.crops.Rescale": {"scale": (0.67, 1.5), "aspect": (1.0, 1.0), "p": 1.0},
    "data.transforms.crops.ScaleJitter": {"scale": (0.5, 2.0), "aspect": (1.0, 1.0), "tries": 10, "p": 1.0},
    "data.transforms.crops.RandomCrop": {"size": 320},
    "data.transforms.mosaic.Mosaic": {
        "scale": (0.5, 1.5),
        "aspect": (0.9, 1.11),
        "flip": 0.5,
        "vertical_flip": 0.0,
        "middle": (0.25, 0.75),
        "p": 1.0,
        "min_visible": 0.3,
        "fill": 0.45,
    },
    "data.transforms.mixing.MixUp": {"p": 0.1, "beta": 8.0, "class_beta": 0.2},
    "data.transforms.mixing.CutMix": {"p": 1.0, "beta": 1.0},
    "data.transforms.randaugment.RandAugment": {"n": 2, "magnitude": 5.0},
    "data.transforms.erasing.RandomErasing": {
        "p": 0.5,
        "area": (0.02, 0.4),
        "aspect": (0.3, 1 / 0.3),
        "tries": 20,
        "min_visible": 0.3,
    },
    "data.transforms.colour.Brightness": {"amount": 0.2, "p": 1.0},
    "data.transforms.colour.Contrast": {"amount": 0.2, "p": 1.0},
    "data.transforms.colour.Saturation": {"amount": 0.3, "p": 1.0},
    "data.transforms.colour.Hue": {"amount": 0.03, "p": 1.0},
    "data.transforms.colour.Colour": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.3, "hue": 0.02, "p": 0.8},
    "data.transforms.colour.HSV": {"hue": 0.015, "saturation": 0.5, "value": 0.4, "p": 1.0},
    "data.transforms.colour.ChannelNoise": {"amount": 0.1, "p": 1.0},
    "data.transforms.colour.PixelNoise": {"amount": 0.03, "p": 0.5},
    "data.transforms.compose.Compose": {"min_visible": 0.3, "fill": 0.45, "closing": 0.0},
    "data.transforms.compose.Sometimes": {"p": 0.5},
    "data.transforms.geometry.HorizontalFlip": {"p": 0.5},
    "data.transforms.geometry.VerticalFlip": {"p": 0.5},
    "data.transforms.geometry.QuarterTurn": {"p": 0.75},  # each of the four turns as often
    "data.transforms.geometry.Rotate": {"degrees": 10.0, "p": 1.0},
    "data.transforms.geometry.Shear": {"degrees": 5.0, "p": 1.0},
    "data.transforms.geometry.Translate": {"fraction": 0.1, "p": 1.0},
    "data.transforms.recipes.detection": {"flip": 0.5, "vertical_flip": 0.0, "extra": ()},
    "data.transforms.recipes.crops": {
        "size": 320,
        "flip": 0.5,
        "vertical_flip": 0.0,
        "scale": (0.67, 1.5),
        "extra": (),
    },
    "data.transforms.recipes.mosaic": {
        "flip": 0.5,
        "vertical_flip": 0.0,
        "scale": (0.5, 1.5),
        "mixup": 0.0,
        "closing": 0.15,
        "extra": (),
    },
    "data.transforms.recipes.ssd": {"flip": 0.5, "extra": ()},
    # training
    "training.recipe.Recipe": {
        "batch_size": 8,
        "accumulate": 1,
        "momentum": 0.9,
        "backbone_lr_factor": 1.0,
        "warmup_steps": 100,
        "milestones": (0.7, 0.9),
        "gamma": 0.1,
        "clip_norm": 10.0,
        "ema": 0.999,
        "validate_every": 1,
        "seed": 0,
    },
    "training.checkpoint.TrainState": {  # a run that has not begun
        "epoch": 0,
        "batch": 0,
        "step": 0,
        "images": 0,
        "elapsed": 0.0,
        "epoch_began": 0.0,
        "improved": 0,
        "lr": 0.0,
    },
}
YOLO_V3 = [10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326]  # yolov3.cfg
YOLO_V3_TINY = [10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319]  # yolov3-tiny.cfg
# yolov2-voc.cfg
YOLO_V2_VOC = [1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071]
YOLO_V2 = [0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, 7.88282, 3.52778, 9.77052, 9.16828]  # yolov2.cfg
YOLO_9000 = [0.77871, 1.14074, 3.00525, 4.31277, 9.22725, 9.61974]  # yolo9000.cfg
FLAT: dict[str, list[float]] = {
    "models.detection.pp_yolo._ANCHORS": YOLO_V3,
    "models.detection.pp_yolo._TWO_LEVELS": YOLO_V3_TINY,
    "models.detection.yolo_v2.VOC_ANCHORS": YOLO_V2_VOC,
    "models.detection.yolo_v2.COCO_ANCHORS": YOLO_V2,
    "models.detection.yolo_9000.YOLO_9000_ANCHORS": YOLO_9000,
    "models.detection.faster_rcnn.OCTAVES": [32, 64, 128, 256, 512],  # FPN, section 4.1
}
VALUES = {
    "models.detection.parts.STRIDES": (8, 16, 32, 64, 128),  # P3 to P7
    "models.detection.yolo_v2.STRIDE": 32,
    "models.detection.pp_yolo._DROP": (0.1, 3),
    "models.preprocess.IMAGENET_MEAN": (0.485, 0.456, 0.406),
    "models.preprocess.IMAGENET_STD": (0.229, 0.224, 0.225),
    "models.segmentation.sliding_segmentation.WINDOW": 33,
    "data.formats.label_studio_brush._OPAQUE": 128,
    "data.formats.masks_voc._BORDER": (224, 224, 192),  # VOC's colour of what does not count
    "data.formats.semantic._VOC_BORDER": (224, 224, 192),
    "data.formats.semantic._WIDE": 65535,
    "training.budget.FROM_SCRATCH": 30,
    "training.budget.FROM_WEIGHTS": 5,
    "nn.layers.convolution.LARGEST_KERNEL": 7,
    "ops.boxes.MAX_LOG_RATIO": math.log(1000 / 16),
    "ops.proposals.regions.COLOUR_BINS": 25,  # selective search, section 3.2
    "ops.proposals.regions.TEXTURE_BINS": 10,
    "nn.necks.bifpn.EPS": 1e-4,  # EfficientDet, section 3.3
    "nn.heads.retinanet._PRIOR": 0.01,
    "evaluation.proposals.COUNTS": (50, 100, 300, 1000, 2000),
    "evaluation.shapes.PERSON_POINTS": 17,
    "data.transforms.targets.PERSON_SWAP": (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    "training.recipe.DEFAULT_EPOCHS": 30,
}


def found(path: str) -> Any:
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module("sightline." + ".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            value = getattr(value, name)
        return value
    raise LookupError(path)


@pytest.mark.parametrize("area", sorted({path.split(".")[0] for path in PUBLISHED}))
def test_default_numbers(area: str) -> None:
    """All numbers that a signature has, so that one added later is thought of here as well."""
    for path, wanted in PUBLISHED.items():
        if path.startswith(area + "."):
            signature = inspect.signature(found(path))
            values = {name: parameter.default for name, parameter in signature.parameters.items()}
            ignored = ("background", "ignore", "min_score")
            numbers = {
                name: value
                for name, value in values.items()
                if isinstance(value, int | float | tuple) and not isinstance(value, bool) and name not in ignored
            }
            assert numbers == wanted, path


def flat(value: Any) -> list[float]:
    return [number for part in value for number in flat(part)] if isinstance(value, list | tuple) else [value]


def test_constants() -> None:
    for path, numbers in FLAT.items():
        assert flat(found(path)) == numbers, path
    for path, wanted in VALUES.items():
        assert found(path) == wanted, path
