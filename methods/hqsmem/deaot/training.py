"""Training of the base tracker on clips: a reference frame, then frames that are each predicted from earlier ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from common.nn.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from methods.hqsmem.deaot.losses import bootstrapped_cross_entropy, hard_fraction, soft_jaccard
from methods.hqsmem.deaot.network import DeAOT, Features
from methods.hqsmem.deaot.propagation import LayerMemory, concatenate_memories

SELF_PROPAGATION_START = 0.5  # share of the training after which predicted masks are written to memory


def clip_losses(network: DeAOT, clip: Clip, progress: float, gap: int | None) -> dict[str, Tensor]:
    """Return the loss terms of a batch of clips.

    In the first half of the training the annotated masks are written to memory (teacher forcing), in the second half
    the network's own arg-max. In the second half no gradient reaches the ID embedding, and the learning rate of the ID
    bank is 0. Targets get random identities. Source: the released code.

    Args:
        network: in training mode.
        clip: at least two frames, of a size that the encoder accepts.
        progress: share of the training that is done, in [0, 1].
        gap: frames between two writes to the long-term memory; None = it holds the reference frame only.

    Returns:
        ``ce`` and ``jaccard``, mean over the predicted frames; ``reference_ce`` and ``reference_jaccard``, the first
        frame decoded from its own mask, with a weight that falls from 1 to 0.

    Raises:
        InputError: a single frame, a size that the encoder does not accept, or more targets than identities.
    """
    _check(network, clip)
    batch, length = clip.frames.shape[:2]
    labels = label_maps(clip)
    counts = clip.valid.sum(1).tolist()  # rows of ``masks`` beyond a sample's targets are padding
    permutation, use_predictions = network.random_permutation(batch), progress >= SELF_PROPAGATION_START
    frames = _encode(network, clip.frames)

    def identity(label: Tensor) -> Tensor:
        masks = F.one_hot(label, network.settings.max_objects + 1).permute(0, 3, 1, 2).float()
        embedding = network.id_embedding(masks, permutation)
        return embedding.detach() if use_predictions else embedding

    def decode(time: int) -> Tensor:
        logits = network.decode(frames[time], outputs, counts, permutation)
        return F.interpolate(logits, labels.shape[2:], mode="bilinear", align_corners=network.aligned)

    # The reference frame reads itself. Decoding it is an auxiliary task: the mask must survive the ID embedding.
    reference_identity = identity(labels[:, 0])
    outputs = network.propagate(frames[0], identity=reference_identity)
    reference = _terms(decode(0), labels[:, 0], progress)
    short = network.write(outputs, reference_identity)
    long, last_write, frame_terms = [short], 0, []
    for time in range(1, length):
        outputs = network.propagate(frames[time], concatenate_memories(long), short, frame_ranks=frame_ranks(long))
        logits = decode(time)
        frame_terms.append(_terms(logits, labels[:, time], progress))
        if time + 1 < length:  # no frame reads the memory of the last one
            short = network.write(outputs, identity(logits.argmax(1) if use_predictions else labels[:, time]))
            if gap is not None and time - last_write >= gap:
                long.append(short)
                last_write = time
    ce, jaccard = torch.stack([torch.stack(terms) for terms in frame_terms]).mean(0)
    weight = 1 - progress
    return {
        "ce": ce,
        "jaccard": jaccard,
        "reference_ce": weight * reference[0],
        "reference_jaccard": weight * reference[1],
    }


def label_maps(clip: Clip) -> Tensor:
    """Return label maps int64 (B, T, H, W), 0 for the background and 1 to N for targets; the last of two overlaps."""
    ids = torch.arange(1, clip.masks.shape[2] + 1, device=clip.masks.device) * clip.valid
    return (clip.masks * ids[:, None, :, None, None]).amax(2)


def frame_ranks(memories: Sequence[Sequence[LayerMemory]]) -> Tensor:
    """Return the rank in time of each token's frame, int64 (m,), for the memories of frames in the order of time."""
    key = memories[0][0].key
    return torch.arange(len(memories), device=key.device).repeat_interleave(key.shape[1])


def _encode(network: DeAOT, frames: Tensor) -> list[Features]:
    """Encode T frames uint8 (B, T, 3, H, W) in one batch."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    encoded = network.encode((frames.flatten(0, 1).float() / 255 - mean) / std)
    f4, f8, f16, tokens = (torch.unflatten(x, 0, frames.shape[:2]) for x in encoded[:4])
    times = range(frames.shape[1])
    return [Features(f4[:, t], f8[:, t], f16[:, t], tokens[:, t], encoded.size) for t in times]


def _terms(logits: Tensor, labels: Tensor, progress: float) -> tuple[Tensor, Tensor]:
    cross_entropy = bootstrapped_cross_entropy(logits, labels, hard_fraction(progress))
    return cross_entropy, soft_jaccard(logits, labels)


def _check(network: DeAOT, clip: Clip) -> None:
    length, sides = clip.frames.shape[1], list(clip.frames.shape[-2:])
    accepted = [network.nearest_side(side) for side in sides]
    if length < 2:
        raise InputError("training clips have one frame; set data.frames to 2 or more (published: 5)")
    if sides != accepted:
        raise InputError(f"training clips are {sides}, which the encoder does not take; set data.size to {accepted}")
    if clip.masks.shape[2] > network.settings.max_objects:
        most = network.settings.max_objects
        raise InputError(f"a training clip has {clip.masks.shape[2]} targets; set data.max_objects to {most} or less")
