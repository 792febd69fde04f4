"""A training step: a clip is tracked from the masks of its first frame, with gradients through all frames.

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
    """How a training clip is processed; the defaults are the paper's.

    Attributes:
        references: number of past frames that the pixel memory reads; of more, a random subset is drawn for each frame.
        deep_update: probability that a memorised frame updates the sensory memory a second time, from its value.
        points: points of the losses.

    Raises:
        InputError: a number out of its range.
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
    """Logits of a clip's frames 1 to T - 1 after soft aggregation.

    Attributes:
        masks: (B, T - 1, N + 1, H, W), the predictions.
        sensory: (B, T - 1, N + 1, h, w), from the sensory memory before the frame was decoded.
        queries: for each level of the object transformer (B, T - 1, N + 1, h, w).
    """

    masks: Tensor
    sensory: Tensor
    queries: list[Tensor]


def clip_losses(core: SSLVOSNetwork, clip: Clip, settings: TrainingSettings) -> dict[str, Tensor]:
    """Compute the losses of a batch of clips, summed over frames, mean over clips.

    Args:
        core: the network, in training mode.
        clip: frames and masks of at least two frames.
        settings: how the clips are processed.

    Returns:
        ``ce`` and ``dice`` of the predictions; ``sensory`` and ``queries``: cross-entropy plus dice of the auxiliary
        heads, the latter summed over levels.

    Raises:
        InputError: clips of a single frame.
    """
    if clip.frames.shape[1] < 2:
        raise InputError("SSLVOS trains on clips of at least two frames; set data.frames")
    image = pad_to_multiple(clip.frames.float() / 255, core.encoder.multiple)
    masks = pad_to_multiple(clip.masks.float(), core.encoder.multiple)
    out = run_clip(core, image, masks[:, 0], clip.valid, settings)
    labels = label_maps(masks[:, 1:].flatten(0, 1).bool())

    def losses(logits: Tensor) -> Tensor:
        """Return cross-entropy and dice (2,)."""
        return torch.stack(mask_losses(logits, labels, clip.valid, settings.points))

    entropy, dice = losses(out.masks)
    sensory, queries = losses(out.sensory).sum(), torch.stack([losses(level).sum() for level in out.queries]).sum()
    return {"ce": entropy, "dice": dice, "sensory": sensory, "queries": queries}


def run_clip(
    core: SSLVOSNetwork, image: Tensor, first_masks: Tensor, valid: Tensor, settings: TrainingSettings
) -> Logits:
    """Memorise frame 0 with its true masks and track them through the clip.

    Args:
        core: the network.
        image: (B, T, 3, H, W) in [0, 1].
        first_masks: float (B, N, H, W) in {0, 1}.
        valid: bool (B, N), False for padded targets.
        settings: how the clips are processed.
    """
    length, valid = image.shape[1], valid.float()
    frames = split_frames(core.encode(image.flatten(0, 1)), length)
    memory = core.memorise(frames[0], core.initial_sensory(frames[0], first_masks.shape[1]), first_masks)
    values, object_memory, sensory, last_masks = [memory.value], memory.summary, memory.sensory, first_masks
    mask_logits, sensory_logits, query_logits = [], [], []
    for time, frame in enumerate(frames[1:], 1):
        key, shrinkage, value = reference_tokens(frames[:time], values, settings.references)
        readout = core.read_memory(frame, key, shrinkage, value)
        sensory_logits.append(core.aggregate(core.sensory_logits(frame, sensory), valid))
        pixels, levels = core.attend(frame, readout, sensory, last_masks, object_memory, valid)
        query_logits.append([core.aggregate(level, valid) for level in levels])
        logits, sensory = core.decode(frame, pixels, sensory, valid=valid)
        mask_logits.append(logits)
        last_masks = logits.softmax(1)[:, 1:]
        if time < length - 1:  # the memory of the last frame would be read by no frame
            memory = core.memorise(frame, sensory, last_masks, bool(torch.rand(()) < settings.deep_update))
            values.append(memory.value)
            sensory, object_memory = memory.sensory, object_memory + memory.summary
    queries = [torch.stack(level, 1) for level in zip(*query_logits, strict=True)]
    return Logits(torch.stack(mask_logits, 1), torch.stack(sensory_logits, 1), queries)


def split_frames(features: FrameFeatures, length: int) -> list[FrameFeatures]:
    """Split the features of B clips of T frames, B T in all, into T features of B each."""
    parts = [getattr(features, item.name).unflatten(0, (-1, length)).unbind(1) for item in fields(features)]
    return [FrameFeatures(*part) for part in zip(*parts, strict=True)]


def reference_tokens(frames: list[FrameFeatures], values: list[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Collect the memory tokens that a frame reads: those of all past frames, or of ``count`` random ones.

    The subset is drawn for each clip separately and may leave out the first frame.

    Args:
        frames: features of the past frames.
        values: their values, (B, P, N, value) each.
        count: R, largest number of frames.

    Returns:
        Keys (B, M, key), shrinkages (B, M, 1) and values (B, M, N, value), M = P x the number of frames.
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
