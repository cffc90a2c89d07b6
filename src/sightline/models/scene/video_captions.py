"""Dense video captioning: Krishna, Hata, Ren, Fei-Fei, Niebles, "Dense-captioning events in videos", ICCV 2017:
features of the frames → proposals of events at several scales of time → captions with the context of other events.

Departures:

- The paper's features are those of a 3-D convolutional network that was trained on a million videos (C3D), fixed, and
  reduced by PCA. Here they are those of an image classification network on each frame, fixed by default, and small
  convolutions on the differences of neighbouring frames, which learn.
- A fixed number of frames is taken from every video, evenly over its duration, instead of 16 frames every 8 frames.
- The features keep their place in the frame, and attention chooses the places that an event is described from.
- Proposals are made by one recurrent network (`sightline.nn.heads.event_proposals`), and a second stage scores them
  and corrects their times once more, as that of Faster R-CNN does with boxes. Its score is the expected temporal IoU.
- In training, captions are learned from the labelled intervals and from shifted copies of them.
- Captions have event features of their own, beside those of scores and times, which share them otherwise: the times
  are learned first and would decide what is seen of an event, so that captions would be the same for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.model import Calls, Losses, Model
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, for_channels
from sightline.models.scene.clips import ClipBatch, ClipPreprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.frames import CellEncoder, FilmFeatures, FrameMaps
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.captioner import Captioner
from sightline.nn.heads.event_captions import EventContext, EventFeatures
from sightline.nn.heads.event_proposals import SHORTEST, EventProposals, EventSettings
from sightline.ops.intervals import decode_intervals, encode_intervals, interval_iou, interval_nms
from sightline.ops.losses import smooth_l1_loss
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, Events
from sightline.structures.vocabulary import Vocabulary
from sightline.words import counted, listed

EVENTS = EventSettings()
ANY_WORDS = ("event",)
"""The vocabulary of a model that is created without one."""
SAMPLES = 8
"""Proposals per video from which the second stage learns, besides the labelled intervals and their copies."""
SHIFT = 0.15
"""Standard deviation of the shifts of the ends of copies, as a fraction of the length of the event."""
POSITIVE = 0.5
"""Temporal IoU from which the second stage learns the times of a proposal."""


@dataclass(frozen=True)
class CaptionLimits:
    """Settings of the captions.

    Attributes:
        longest: maximum number of words.
        beams: captions that are continued at a time; 1 is greedy search.
    """

    longest: int = 20
    beams: int = 3


CAPTIONS = CaptionLimits()


class VideoCaptioner(Model):
    """Clips → events with a caption each.

    `model(clips, targets)` returns losses by name; `model(clips)` returns `Events` for each clip.

    Args:
        classes: ("event",).
        preprocess: preprocessing of clips into films.
        backbone: films → maps of cells.
        encoder: maps of cells → cells that know what moves in them.
        proposals: features of moments → proposals.
        features: cells and intervals → vectors for scores and times.
        caption_features: cells and intervals → vectors for captions.
        context: vectors of a video's events → vectors with context.
        captioner: these vectors → captions.
        vocabulary: its words.
        limits: settings of the captions.
    """

    task = "video_captioning"
    unexportable = "it writes captions word by word, and the words say where they end"
    __call__: Calls[Events]
    preprocess: ClipPreprocess
    other_weight = 0.1
    """Factor of the losses of scores and times, as in the paper."""
    recipe_defaults = {"augmentation": "none", "lr": 2e-3, "weight_decay": 0.02, "batch_size": 8}
    finetune_defaults = {"cache_features": 1, "validate_every": 5}

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: ClipPreprocess,
        backbone: FilmFeatures,
        encoder: CellEncoder,
        proposals: EventProposals,
        features: EventFeatures,
        caption_features: EventFeatures,
        context: EventContext,
        captioner: Captioner,
        vocabulary: Vocabulary,
        limits: CaptionLimits = CAPTIONS,
    ):
        super().__init__(classes, preprocess)
        self.backbone, self.encoder, self.proposals = backbone, encoder, proposals
        self.features, self.caption_features = features, caption_features
        self.context, self.captioner = context, captioner
        self.vocabulary, self.limits = vocabulary, limits
        self.refiner = nn.Linear(features.output.out_features, 3)  # score and two corrections of an event
        nn.init.normal_(self.refiner.weight, std=0.01)
        nn.init.zeros_(self.refiner.bias)

    def prepare(self, images: Sequence[Tensor], targets: Any) -> tuple[ClipBatch, Any]:
        """Like every model.

        Raises:
            InputError: no caption of the targets has a word of the model's vocabulary.
        """
        captions = [caption for target in targets or () for caption in target.captions]
        if captions and not any(map(self.vocabulary.known, captions)):
            raise InputError(
                f"none of {counted(len(captions), 'caption')} has a word that {self.title} knows ({captions[0]!r}, …; "
                f"it knows {listed(self.vocabulary.words)}); create it with words=Vocabulary.of(captions).words, or "
                "give train its name, which takes the words of the data"
            )
        batch, prepared = super().prepare(images, targets)
        assert isinstance(batch, ClipBatch)
        return batch, prepared

    def batch_losses(self, batch: ClipBatch, targets: Sequence[Events]) -> Losses:  # type: ignore[override]
        cells = self.cells(batch)
        times = [
            (target.times.to(cells) / target.duration).clamp(0, 1) if len(target) else cells.new_zeros(0, 2)
            for target in targets
        ]
        scores, deltas = self.proposals(self.moments(cells))
        losses = self.proposals.losses(scores, deltas, times)
        proposed = [own for own, _ in self.proposals.decode(scores.detach(), deltas.detach())]
        losses |= self._event_losses(cells, times, proposed, targets)
        return {name: value if name == "loss_caption" else self.other_weight * value for name, value in losses.items()}

    def _event_losses(
        self, cells: Tensor, times: list[Tensor], proposed: list[Tensor], targets: Sequence[Events]
    ) -> Losses:
        """The losses of the second stage: on labelled intervals, on shifted copies of them, and on proposals."""
        copies = [_shifted(own) for own in times]
        chosen = [own[torch.randperm(len(own), device=own.device)[:SAMPLES]].to(cells) for own in proposed]
        sets = [times, copies, chosen]
        every = torch.cat([own for part in sets for own in part])
        video = torch.cat([_ids(part) for part in sets])
        refined = self.refiner(self.features(cells, every, video))
        overlap, nearest = _nearest(every, video, times)
        positive = overlap >= POSITIVE
        offsets = encode_intervals(nearest[positive], every[positive])
        number = batch_count(positive.sum())
        score = F.binary_cross_entropy_with_logits(refined[:, 0], overlap, reduction="sum") / batch_count(len(overlap))
        shift = smooth_l1_loss(refined[positive, 1:], offsets, beta=0.1).sum() / number
        labelled = sum(map(len, times))
        own, of = every[: 2 * labelled], video[: 2 * labelled]
        copy_of = torch.cat([_ids(times), _ids(times) + len(times)])  # copies are the context of copies
        described = self.context(self.caption_features(cells, own, of), own, copy_of)
        captions = [caption for target in targets for caption in target.captions]
        words = self.vocabulary.encode(captions, self.limits.longest, cells.device)
        words = words.repeat(2, 1)
        return {
            "loss_event_score": score,
            "loss_event_times": shift,
            "loss_caption": self.captioner.loss(described, words) + 0 * described.sum(),
        }

    @torch.no_grad()
    def batch_results(self, batch: ClipBatch) -> list[Events]:  # type: ignore[override]
        cells, settings = self.cells(batch), self.proposals.settings
        proposed = [own.to(cells) for own, _ in self.proposals.decode(*self.proposals(self.moments(cells)))]
        every, video = torch.cat(proposed), _ids(proposed)
        refined = self.refiner(self.features(cells, every, video))
        scores = refined[:, 0].sigmoid()
        every = decode_intervals(refined[:, 1:], every).clamp(0, 1)
        kept = []
        for position in range(len(proposed)):
            own = (video == position) & (scores >= settings.min_score) & (every[:, 1] - every[:, 0] > SHORTEST)
            rows = own.nonzero()[:, 0]
            kept.append(rows[interval_nms(every[rows], scores[rows], settings.nms)[: settings.max_events]])
        rows = torch.cat(kept)
        captions = self.captions(cells, every[rows], video[rows])
        results = []
        for own, size, duration in zip(kept, batch.frame_sizes, batch.durations, strict=True):
            words = tuple(captions[: len(own)])
            captions = captions[len(own) :]
            results.append(Events(size, every[own].double() * duration, words, duration, scores[own], self.classes))
        return results

    def cells(self, batch: ClipBatch) -> Tensor:
        """The cells of a batch's films: [N, D, G, T · G]."""
        found: Tensor = self.encoder(self.backbone(batch.tensor))
        return found

    def moments(self, cells: Tensor) -> Tensor:
        """Cells of films [N, D, G, T · G] → features of moments [N, T, 2 · D]: mean and maximum over each frame."""
        grids = cells.unflatten(3, (self.preprocess.frames, -1))  # [N, D, G, T, G]
        return torch.cat([grids.mean((2, 4)), grids.amax((2, 4))], 1).transpose(1, 2)

    def captions(self, cells: Tensor, times: Tensor, video: Tensor) -> list[str]:
        """The captions of intervals; arguments as for `EventFeatures`."""
        if not len(times):
            return []
        described = self.context(self.caption_features(cells, times, video), times, video)
        return self.vocabulary.decode(self.captioner.beam(described, self.limits.longest, self.limits.beams).ids)

    def event_scores(self, batch: ClipBatch, times: Tensor) -> Tensor:
        """The scores, before the sigmoid, of one interval in each clip of a batch, with gradients.

        Args:
            batch: a batch of N clips that `prepare` returned.
            times: [N, 2] intervals as fractions of the duration.

        Returns:
            [N].
        """
        cells = self.cells(batch)
        video = torch.arange(len(times), device=cells.device)
        scores: Tensor = self.refiner(self.features(cells, times.to(cells), video))[:, 0]
        return scores

    def word_scores(self, batch: ClipBatch, times: Tensor, index: int, words: Tensor) -> Tensor:
        """The log probability of each word of the caption of one event, given the words before it, with gradients.

        Args:
            batch: a batch of N copies of a clip that `prepare` returned.
            times: [E, 2] intervals of all events of the clip, the context, as fractions of the duration.
            index: which of these events is described.
            words: [L] ids of its words.

        Returns:
            [N, L].
        """
        cells, count = self.cells(batch), len(times)
        video = torch.arange(len(batch), device=cells.device).repeat_interleave(count)
        own = times.to(cells).repeat(len(batch), 1)
        described = self.context(self.caption_features(cells, own, video), own, video)[index::count]
        return self.captioner.log_probabilities(described, words.to(cells.device).expand(len(described), -1))

    def map_layers(self) -> list[nn.Module]:
        """The cells, as films."""
        return [self.encoder]


def _ids(parts: Sequence[Tensor]) -> Tensor:
    """[sum of the lengths] int64: the index of the part that each row comes from."""
    counts = torch.tensor([len(part) for part in parts], device=parts[0].device)
    return torch.arange(len(parts), device=parts[0].device).repeat_interleave(counts)


def _shifted(times: Tensor) -> Tensor:
    """Copies of intervals [M, 2] with shifted ends, within [0, 1]."""
    length = times[:, 1:] - times[:, :1]
    shift = (torch.randn_like(times) * SHIFT).clamp(-0.3, 0.3)
    moved = (times + shift * length).clamp(0, 1)
    usable = (moved[:, 1:] - moved[:, :1]) > SHORTEST
    return torch.where(usable, moved, times)


def _nearest(every: Tensor, video: Tensor, times: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """For each of the intervals `every` [E, 2], its largest temporal IoU with an event of its video [E], and that event
    [E, 2]; 0 and itself without events."""
    overlap, nearest = every.new_zeros(len(every)), every.clone()
    for position, own in enumerate(times):
        rows = (video == position).nonzero()[:, 0]
        if len(own) and len(rows):
            best, which = interval_iou(every[rows], own).max(1)
            overlap[rows], nearest[rows] = best, own[which]
    return overlap, nearest


def video_captioner(
    classes: Iterable[str] = ("event",),
    *,
    backbone: PyramidName = "efficientnet_lite0",
    in_channels: int = 3,
    words: Sequence[str] = ANY_WORDS,
    frames: int = 16,
    image_size: int = 128,
    strides: Sequence[int] = (8, 16),
    grid: int = 8,
    pixels: int = 8,
    width: int = 64,
    blocks: int = 2,
    hidden: int = 128,
    vector: int = 256,
    embedding: int = 128,
    hidden_words: int = 256,
    events: EventSettings = EVENTS,
    captions: CaptionLimits = CAPTIONS,
    options: BackboneOptions = OPTIONS,
) -> VideoCaptioner:
    """Dense video captioning on any backbone.

    Args:
        classes: ("event",): events have no classes.
        backbone: catalog name of the classification network that sees each frame.
        in_channels: number of channels of the frames.
        words: the vocabulary; `train` takes the words of the training captions (`Vocabulary.of`).
        frames: number of frames that are taken from each video.
        image_size: height and width that frames are resized to, in pixels.
        strides: strides of the backbone's maps that are used.
        grid: number of cells per side of a frame.
        pixels: side, in pixels, of a cell in the small pictures that show motion; a power of 2.
        width: number of channels of the cells.
        blocks: number of residual blocks on the cells.
        hidden: width of the recurrent network of the proposals, and of the cells of an event.
        vector: length of the vector of an event.
        embedding: length of the vectors of words.
        hidden_words: width of the captions' LSTM.
        events: settings of the proposals.
        captions: settings of the captions.
        options: normalisation and trainable layers of the backbone.
    """
    if pixels < 2 or pixels & (pixels - 1):
        raise InputError(f"pixels is {pixels}, but must be a power of 2 such as 8")
    if grid < 1 or width < 1 or blocks < 0:
        raise InputError(f"grid is {grid}, width {width} and blocks {blocks}, but grid and width must be at least 1")
    vocabulary = Vocabulary(words)
    net = build_backbone(backbone, in_channels, options, num_classes=1, known=PyramidName)
    maps = FrameMaps(net.maps(strides, options.trainable_layers), frames, grid, pixels)
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    model = VideoCaptioner(
        Classes(classes),
        ClipPreprocess(mean, std, frames, image_size, antialias=True),
        FilmFeatures(maps),
        CellEncoder(maps.features, in_channels, frames, pixels, width, blocks),
        EventProposals(2 * (width + 1), frames, hidden, events),
        EventFeatures(width + 1, frames, hidden, vector),
        EventFeatures(width + 1, frames, hidden, vector),
        EventContext(vector),
        Captioner(3 * vector, len(vocabulary), embedding, hidden_words),
        vocabulary,
        captions,
    )
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Krishna et al. 2017, Dense-captioning events in videos"

ENTRIES = (
    Entry(
        name="video_captioner_lite0",
        builder=video_captioner,
        task="video_captioning",
        paper=_PAPER,
        summary="Dense video captioning on the features of EfficientNet-Lite0, for training on CPUs.",
        fixed={"backbone": "efficientnet_lite0"},
        start={"norm": "frozen"},
    ),
    Entry(
        name="video_captioner_mobilenet_v2",
        builder=video_captioner,
        task="video_captioning",
        paper=_PAPER,
        summary="Dense video captioning on the features of MobileNet v2.",
        fixed={"backbone": "mobilenet_v2"},
        start={"norm": "frozen"},
    ),
    Entry(
        name="video_captioner_resnet50",
        builder=video_captioner,
        task="video_captioning",
        paper=_PAPER,
        summary="Dense video captioning on the features of ResNet-50, with more and larger frames.",
        fixed={"backbone": "resnet50"},
        start={"norm": "frozen"},
        defaults={"frames": 64, "image_size": 224, "strides": (16, 32), "grid": 7, "width": 128, "vector": 512},
    ),
)
