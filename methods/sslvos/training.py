"""A training step: a clip is tracked through its first frame's masks, with gradients through all frames.

Legend: B clips, T frames, N targets, P memory tokens of a frame, R reference frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from common.nn.preprocessing import pad_to_multiple
from methods.sslvos.cutie.core import FrameFeatures, SSLVOSNetwork
from methods.sslvos.losses import PointSettings, label_maps, mask_losses


@dataclass(frozen=True)
class TrainingSettings:
    """How a clip is run; the defaults are the paper's.

    Attributes:
        references: frames that the pixel memory reads, drawn anew for every frame once there are more.
        deep_update: probability that a memorised frame updates the sensory memory a second time, from its value.
        points: where the losses look.
    """

    references: int = 3
    deep_update: float = 0.2
    points: PointSettings = field(default_factory=PointSettings)

    def __post_init__(self) -> None:
        if self.references < 1 or not 0 <= self.deep_update <= 1:
            raise InputError(
                f"training: references {self.references} is at least 1, deep_update {self.deep_update} a probability"
            )


@dataclass(frozen=True)
class Logits:
    """What a clip's frames 1 to T - 1 gave, soft-aggregated.

    Attributes:
        masks: (B, T - 1, N + 1, H, W).
        sensory: (B, T - 1, N + 1, h, w), seen in the sensory memory as it was before the frame was decoded.
        queries: of each level of the object transformer, as ``sensory``.
    """

    masks: Tensor
    sensory: Tensor
    queries: list[Tensor]


def clip_losses(core: SSLVOSNetwork, clip: Clip, settings: TrainingSettings) -> dict[str, Tensor]:
    """``ce`` and ``dice`` of the answers, and both together of the auxiliary heads, ``sensory`` and ``queries``.

    All are summed over frames and mean over clips; ``queries`` is summed over levels.

    Raises:
        InputError: clips of a single frame.
    """
    if clip.frames.shape[1] < 2:
        raise InputError("SSLVOS trains on clips of at least two frames; set data.frames")
    image = pad_to_multiple(clip.frames.float() / 255, core.encoder.multiple)
    masks = pad_to_multiple(clip.masks.float(), core.encoder.multiple)
    out = run_clip(core, image, masks[:, 0], clip.valid, settings)
    labels = label_maps(masks[:, 1:].flatten(0, 1).bool())

    def both(logits: Tensor) -> tuple[Tensor, Tensor]:
        return mask_losses(logits, labels, clip.valid, settings.points)

    entropy, dice = both(out.masks)
    sensory, queries = (torch.stack([sum(both(x), x.new_zeros(())) for x in xs]) for xs in ([out.sensory], out.queries))
    return {"ce": entropy, "dice": dice, "sensory": sensory.sum(), "queries": queries.sum()}


def run_clip(core: SSLVOSNetwork, image: Tensor, first: Tensor, valid: Tensor, settings: TrainingSettings) -> Logits:
    """Memorise frame 0 with its true masks and follow them.

    Args:
        image: (B, T, 3, H, W), 0 to 1.
        first: float (B, N, H, W).
        valid: bool (B, N).
    """
    length, real = image.shape[1], valid.float()
    frames = split(core.encode(image.flatten(0, 1)), length)
    memory = core.memorise(frames[0], core.no_sensory(frames[0], first.shape[1]), first)
    values, objects, sensory, last = [memory.value], memory.summary, memory.sensory, first
    answers, seen, levels = [], [], []
    for time, frame in enumerate(frames[1:], 1):
        key, shrinkage, value = references(frames[:time], values, settings.references)
        readout = core.read_all(frame, key, shrinkage, value)
        seen.append(core.shares(core.sensory_logits(frame, sensory), real))
        pixels, heads = core.attend(frame, readout, sensory, last, objects, real)
        levels.append([core.shares(head, real) for head in heads])
        logits, sensory = core.decode(frame, pixels, sensory, valid=real)
        answers.append(logits)
        last = logits.softmax(1)[:, 1:]
        if time < length - 1:
            memory = core.memorise(frame, sensory, last, bool(torch.rand(()) < settings.deep_update))
            values.append(memory.value)
            sensory, objects = memory.sensory, objects + memory.summary
    queries = [torch.stack(level, 1) for level in zip(*levels, strict=True)]
    return Logits(torch.stack(answers, 1), torch.stack(seen, 1), queries)


def split(features: FrameFeatures, length: int) -> list[FrameFeatures]:
    """Features of B T frames as T of B each."""
    parts = [getattr(features, item.name).unflatten(0, (-1, length)).unbind(1) for item in fields(features)]
    return [FrameFeatures(*part) for part in zip(*parts, strict=True)]


def references(frames: list[FrameFeatures], values: list[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys (B, M, key), shrinkages (B, M, 1) and values (B, M, N, value) of what a frame reads.

    All frames so far, or ``count`` random ones, drawn for each clip by itself, that may leave out the first.
    """
    past = len(frames)
    parts = [[frame.key for frame in frames], [frame.shrinkage for frame in frames], values]
    stacked = [torch.stack(part, 1) for part in parts]
    if past > count:
        rows = torch.arange(len(values[0]), device=values[0].device)[:, None]
        drawn = torch.rand(len(rows), past, device=rows.device).argsort(1)[:, :count]
        stacked = [part[rows, drawn] for part in stacked]
    key, shrinkage, value = (part.flatten(1, 2) for part in stacked)
    return key, shrinkage, value
