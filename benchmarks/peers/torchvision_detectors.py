"""torchvision's SSDlite and Faster R-CNN, trained as its references do for a small set; see suite.py and common.py.

SSDlite320 on MobileNet v3 begins with random numbers (there is no file for its backbone), with the rate (scaled to the
batch), weight decay and augmentation of the reference. Faster R-CNN on MobileNet v2 with a pyramid is built as the
reference builds it on MobileNet v3 (the 320-pixel variant), from ImageNet weights, with the rate of the fine-tuning
tutorial scaled to the batch. With --levels fine its pyramid begins at stride 8 instead of 32, which small objects need,
and the heads learn from 128 instead of 512 proposals per image, which makes a step several times cheaper.
The rate falls by a cosine to the end of the time; the last weights are used, after training on all images.
"""

from __future__ import annotations

import json
import random
from typing import Any

import torch
from common import Budget, parser, read_coco, workers_of, write_facts
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FasterRCNN, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

SETTINGS: dict[str, dict[str, float]] = {
    # The references' rates: 0.15 for 8 × 24 images with SSDlite; the tutorial's 0.005 for 2 with Faster R-CNN.
    "ssdlite320_mobilenet_v3_large": {"batch": 16, "lr": 0.15 * 16 / 192, "weight_decay": 4e-5},
    "faster_rcnn_mobilenet_v2_fpn": {"batch": 4, "lr": 0.005 * 4 / 2, "weight_decay": 5e-4},
}


class Images(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images with boxes and labels 1 … K, augmented."""

    def __init__(self, images: list[Any], by_image: dict[int, list[Any]], place: dict[int, int], augmentation: Any):
        self.images, self.by_image, self.place, self.augmentation = images, by_image, place, augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, rows = read(self.images[i]["path"]), self.by_image[self.images[i]["id"]]
        boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[-2:]),  # type: ignore[call-arg]
            "labels": torch.tensor([self.place[row["category_id"]] for row in rows], dtype=torch.int64),
        }
        image, target = self.augmentation(image, target)
        return image, target


def read(path: Any) -> Tensor:
    """An image [3, H, W] in [0, 1], turned as its EXIF entry says."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return tv_tensors.Image(v2.functional.to_dtype(v2.functional.pil_to_tensor(image), torch.float32, scale=True))


def augmentation_of(model: str) -> Any:
    """The references' augmentation: random crops by IoU for SSDlite, and a flip for both."""
    crops = [v2.RandomIoUCrop()] if model.startswith("ssdlite") else []
    return v2.Compose([*crops, v2.RandomHorizontalFlip(0.5), v2.SanitizeBoundingBoxes(min_size=1)])


def model_of(args: Any, classes: int) -> nn.Module:
    """The detector for so many classes and the background."""
    if args.model.startswith("ssdlite"):
        return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    backbone = mobilenet_v2(norm_layer=FrozenBatchNorm2d if args.weights else nn.BatchNorm2d)
    if args.weights:
        state = torch.load(args.weights, map_location="cpu", weights_only=True)
        backbone.load_state_dict({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    # Stages of MobileNet v2 here: strides 2, 4, 8, 16, 32, 32; the reference takes the last two, and pools once more.
    levels = [2, 3, 5] if args.levels == "fine" else None
    features = _mobilenet_extractor(backbone, True, 3 if args.weights else 6, returned_layers=levels)
    sizes = ((16, 32), (48, 64), (96, 128), (192, 256)) if levels else ((32, 64, 128, 256, 512),) * 3
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return FasterRCNN(
        features,
        classes + 1,
        rpn_anchor_generator=anchors,
        min_size=320,
        max_size=640,
        box_score_thresh=0.001,
        box_batch_size_per_image=128 if levels else 512,
    )


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--levels", choices=["reference", "fine"], default="reference")
    args = options.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    images, by_image, categories = read_coco(args.learn, "train")
    place = {category["id"]: i for i, category in enumerate(categories, 1)}
    numbers = SETTINGS[args.model]
    batch = min(int(numbers["batch"]), max(1, len(images) // 2))
    rate = numbers["lr"] * batch / numbers["batch"]
    model = model_of(args, len(categories)).train()
    loader = DataLoader(
        Images(images, by_image, place, augmentation_of(args.model)),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers_of(args.clock),
        collate_fn=lambda rows: tuple(zip(*rows, strict=True)),
    )
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, rate, momentum=0.9, weight_decay=numbers["weight_decay"])
    budget, step = Budget(args.seconds, args.clock), 0
    while budget.share < 1:
        for pictures, targets in loader:
            budget.set_rate(optimizer, rate, step)
            loss = sum(model(list(pictures), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_(learnt, 10.0)
            optimizer.step()
            step += 1
            if budget.share >= 1:
                break
    ids = {i: category["id"] for i, category in enumerate(categories, 1)}
    (args.out / "predictions.json").write_text(json.dumps(predictions(model.eval(), args.test, ids)))
    settings = {"model": args.model, "batch": batch, "lr": rate, "weight_decay": numbers["weight_decay"]}
    write_facts(args.out, ["torchvision", "torch"], step * batch / len(images), settings | {"levels": args.levels})


@torch.inference_mode()
def predictions(model: nn.Module, test: Any, ids: dict[int, int]) -> list[dict[str, Any]]:
    """COCO result rows of the test images."""
    rows = []
    for image in read_coco(test, "test")[0]:
        found = model([read(image["path"])])[0]
        columns = (found[name].tolist() for name in ("boxes", "scores", "labels"))
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append({"image_id": image["id"], "category_id": ids[label], "bbox": box, "score": score})
    return rows


if __name__ == "__main__":
    main()
