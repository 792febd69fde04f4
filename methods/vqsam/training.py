"""VQ-SAM's training loss: SAM 2's four terms at every frame of every stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from common.nn.losses import sam2_losses
from common.nn.preprocessing import resize_logits
from common.nn.sam2 import Candidates
from methods.vqsam.model import Query, VQSAMNetwork
from methods.vqsam.prompts import fit_masks


def clip_losses(
    network: VQSAMNetwork, clip: Clip, stage_weights: Sequence[float], **options: float
) -> dict[str, Tensor]:
    """Compute Σ_k λ_k L_k for each term of SAM 2's loss, summed over frames, mean over the queries of the batch.

    Gradients run back through all stages; only the choice of candidates has none.

    Args:
        network: VQ-SAM's network.
        clip: a batch of clips with query images.
        stage_weights: λ_k, one for each stage.
        options: of ``sam2_losses``.

    Raises:
        InputError: the clip has no queries, or a target's query mask is empty.
    """
    sam2 = network.sam2
    length = clip.frames.shape[1]
    clip_of, slot = clip.valid.nonzero(as_tuple=True)
    query = encode_queries(network, clip, clip_of, slot)
    features = sam2.encode(sam2.preprocess(clip.frames.flatten(0, 1)))
    rows = clip_of[:, None] * length + torch.arange(length, device=clip_of.device)
    side = (sam2.image_size, sam2.image_size)
    truth = F.interpolate(clip.masks[clip_of, :, slot].float(), side, mode="nearest").bool().flatten(0, 1)
    stages = network(features, rows, query)
    terms = [_terms(answer, truth, **options) for answer in stages]
    total: dict[str, Tensor] = {}
    for weight, stage in zip(stage_weights, terms, strict=True):
        for name, value in stage.items():
            total[name] = total.get(name, 0.0) + weight * value / max(len(clip_of), 1)
    return total


def encode_queries(network: VQSAMNetwork, clip: Clip, clip_of: Tensor, slot: Tensor) -> Query:
    """Encode the query images of the valid targets.

    Args:
        network: VQ-SAM's network.
        clip: a batch of clips with query images.
        clip_of: int64 (Q,), the clip of each valid target.
        slot: int64 (Q,), its row among the clip's targets.

    Raises:
        InputError: the clip has no queries, or a target's query mask is empty.
    """
    if clip.query is None or clip.query_masks is None:
        raise InputError("VQ-SAM trains on clips with a query image for each target; set data.queries: true")
    masks = clip.query_masks[clip_of, slot]
    empty = (~masks.flatten(1).any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise InputError(f"clip {int(clip_of[empty[0]])} of the batch: the query mask of a target is empty")
    images = network.sam2.preprocess(clip.query[clip_of, slot])
    return network.encode_query(network.sam2.encode(images), fit_masks(masks, network.sam2.image_size))


def _terms(answer: Candidates, truth: Tensor, **options: float) -> dict[str, Tensor]:
    """Compute SAM 2's terms of one stage on masks (Q T, S, S) at input size, as in SAM 2's recipe."""
    logits = resize_logits(answer.logits.float(), (truth.shape[-2], truth.shape[-1]))
    return sam2_losses(logits, answer.ious, answer.score, truth, **options)  # type: ignore[arg-type]
