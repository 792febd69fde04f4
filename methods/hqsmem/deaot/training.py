"""Sequence training of the base tracker: a reference frame, then frames predicted one from another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from methods.hqsmem.deaot.losses import bootstrapped_cross_entropy, hard_fraction, soft_jaccard
from methods.hqsmem.deaot.network import DeAOT, Features
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.preprocessing import MEAN, STD

OWN = 0.5  # of the training, from which on a clip is propagated by what the network itself predicts


def clip_losses(net: DeAOT, clip: Clip, progress: float, gap: int | None) -> dict[str, Tensor]:
    """The terms of a batch of clips.

    In the first half of the training the annotated masks are written to memory, then the network's own arg-max; from
    there on no gradient reaches the ID embedding, and ``schedule`` holds the ID bank still. Targets get random
    identities. Source: the released code.

    Args:
        net: in training mode.
        clip: frames of a size that the encoder takes, at least two of them.
        progress: part of the training that is done, in [0, 1].
        gap: frames between two writes to the long-term memory; None = it holds the reference frame alone.

    Returns:
        ``ce`` and ``jaccard``, mean over the predicted frames; ``reference_ce`` and ``reference_jaccard``, the first
        frame decoded from its own mask, with a weight that falls from 1 to 0.

    Raises:
        InputError: one frame, a size that does not fit, more targets than identities.
    """
    _check(net, clip)
    batch, length = clip.frames.shape[:2]
    labels = label_maps(clip)
    counts = clip.valid.sum(1).tolist()
    order, own = net.random_order(batch), progress >= OWN
    frames = _encode(net, clip.frames)

    def identity(label: Tensor) -> Tensor:
        planes = F.one_hot(label, net.settings.objects + 1).permute(0, 3, 1, 2).float()
        embedding = net.identify(planes, order)
        return embedding.detach() if own else embedding

    def decode(time: int) -> Tensor:
        logits = net.decode(frames[time], outputs, counts, order)
        return F.interpolate(logits, labels.shape[2:], mode="bilinear", align_corners=net.aligned)

    given = identity(labels[:, 0])
    outputs = net.propagate(frames[0], identity=given)
    reference = _terms(decode(0), labels[:, 0], progress)
    short = net.write(outputs, given)
    long, written, predicted = [short], 0, []
    for time in range(1, length):
        outputs = net.propagate(frames[time], joined(long), short, order=ranks(long))
        logits = decode(time)
        predicted.append(_terms(logits, labels[:, time], progress))
        if time + 1 < length:
            short = net.write(outputs, identity(logits.argmax(1) if own else labels[:, time]))
            if gap is not None and time - written >= gap:
                long.append(short)
                written = time
    ce, jaccard = torch.stack([torch.stack(terms) for terms in predicted]).mean(0)
    weight = 1 - progress
    return {
        "ce": ce,
        "jaccard": jaccard,
        "reference_ce": weight * reference[0],
        "reference_jaccard": weight * reference[1],
    }


def label_maps(clip: Clip) -> Tensor:
    """int64 (B, T, H, W): 0 the background, 1 to N the targets; where two overlap, the later one."""
    ids = torch.arange(1, clip.masks.shape[2] + 1, device=clip.masks.device) * clip.valid
    return (clip.masks * ids[:, None, :, None, None]).amax(2)


def joined(memory: Sequence[Sequence[LayerMemory]]) -> list[LayerMemory]:
    """Several frames' memories as one, layer by layer."""
    layers = zip(*memory, strict=True)
    return [LayerMemory(*(torch.cat(parts, 1) for parts in zip(*layer, strict=True))) for layer in layers]


def ranks(memory: Sequence[Sequence[LayerMemory]]) -> Tensor:
    """int64 (m,): the rank in time of the frame that each token is from."""
    key = memory[0][0].key
    return torch.arange(len(memory), device=key.device).repeat_interleave(key.shape[1])


def _encode(net: DeAOT, frames: Tensor) -> list[Features]:
    """uint8 (B, T, 3, H, W), all at once, to T encoded frames."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (MEAN, STD))
    encoded = net.encode((frames.flatten(0, 1).float() / 255 - mean) / std)
    f4, f8, f16, tokens = (x.unflatten(0, frames.shape[:2]) for x in encoded[:4])
    times = range(frames.shape[1])
    return [Features(f4[:, t], f8[:, t], f16[:, t], tokens[:, t], encoded.size) for t in times]


def _terms(logits: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
    cross_entropy = bootstrapped_cross_entropy(logits, labels, hard_fraction(progress))
    return cross_entropy, soft_jaccard(logits, labels)


def _check(net: DeAOT, clip: Clip) -> None:
    length, sides = clip.frames.shape[1], list(clip.frames.shape[-2:])
    fitting = [net.side(side) for side in sides]
    if length < 2:
        raise InputError("training clips have one frame; set data.frames to 2 or more (published: 5)")
    if sides != fitting:
        raise InputError(f"training clips are {sides}, which the encoder does not take; set data.size to {fitting}")
    if clip.masks.shape[2] > net.settings.objects:
        most = net.settings.objects
        raise InputError(f"a training clip has {clip.masks.shape[2]} targets; set data.max_objects to {most} or less")
