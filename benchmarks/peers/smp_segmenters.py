"""U-Net and DeepLab v3+ of segmentation-models-pytorch on MobileNet v2; see suite.py and common.py.

Its encoder begins with the ImageNet weights. As in its examples: Adam with a cosine to the end, Dice loss (here with
cross-entropy beside it, which does better in the first minutes), random scale, crop and flips. The last weights are
used, after training on all images. The rate of the examples is 2e-4; 1e-3 suits budgets of minutes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from common import Budget, parser, workers_of, write_facts
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

MEAN, STD, IGNORED, BATCH = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 255, 8
NETWORKS = {"unet": smp.Unet, "deeplabv3plus": smp.DeepLabV3Plus}


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images [3, S, S], normalised, with class ids [S, S]: scaled, cropped and flipped at random."""

    def __init__(self, pairs: list[tuple[Path, Path]], size: int):
        self.pairs = pairs
        nothing = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
        self.augmentation = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(0, scale=(0.67, 1.5), interpolation=v2.InterpolationMode.BILINEAR, fill=nothing),
                v2.RandomCrop(size, pad_if_needed=True, fill=nothing),
                v2.ColorJitter(0.2, 0.2, 0.2),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image, mask = self.pairs[i]
        picture, ids = self.augmentation(read(image), tv_tensors.Mask(torch.from_numpy(np.array(Image.open(mask)))))
        return picture, ids.long()


def read(path: Path) -> Tensor:
    """An image [3, H, W] uint8, turned as its EXIF entry says."""
    return tv_tensors.Image(v2.functional.pil_to_tensor(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))


def pairs_of(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """The images of a split with their maps of class ids."""
    images = sorted((folder / "images" / split).iterdir())
    return [(image, (folder / "masks" / split / image.name).with_suffix(".png")) for image in images]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--lr", type=float, default=1e-3)
    args = options.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    classes = len(json.loads((args.learn / "classes.json").read_text())["names"])
    pairs = pairs_of(args.learn, "train")
    sides = sorted(min(Image.open(image).size) for image, _ in pairs)
    size = min(320, -(-sides[len(sides) // 2] // 32) * 32)
    model = NETWORKS[args.model]("mobilenet_v2", encoder_weights=None, classes=classes)
    if args.weights:
        model.encoder.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    loader = DataLoader(Images(pairs, size), BATCH, shuffle=True, drop_last=True, num_workers=workers_of(args.clock))
    optimizer = torch.optim.Adam(model.parameters(), args.lr)
    dice = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORED)
    budget, step = Budget(args.seconds, args.clock), 0
    model.train()
    while budget.share < 1:
        for pictures, ids in loader:
            budget.set_rate(optimizer, args.lr, step)
            logits = model(pictures)
            loss = dice(logits, ids) + functional.cross_entropy(logits, ids, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if budget.share >= 1:
                break
    predict(model.eval(), args.test, args.out / "predictions")
    settings = {"model": args.model, "batch": BATCH, "lr": args.lr, "crop": size}
    write_facts(args.out, ["segmentation_models_pytorch", "torch"], step * BATCH / len(pairs), settings)


@torch.inference_mode()
def predict(model: Any, test: Path, out: Path) -> None:
    """Write class ids of the test images at their own size; they are padded to multiples of 32 for the network."""
    out.mkdir()
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    for image, _ in pairs_of(test, "test"):
        picture = normalise(read(image))
        height, width = picture.shape[-2:]
        padded = functional.pad(picture[None], (0, -width % 32, 0, -height % 32), mode="replicate")
        ids = model(padded)[0, :, :height, :width].argmax(0)
        Image.fromarray(ids.to(torch.uint8).numpy()).save((out / image.name).with_suffix(".png"))


if __name__ == "__main__":
    main()
