"""Selection of the candidates of a stage that become memory: TFG and DFG, eq. (4), on one clip.

Legend: T frames, K candidates of each. Where the paper does not state a rule, the README lists the one used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Picks:
    """Selected candidates of a clip, best first.

    Attributes:
        frames: int64 (n,), the frame of each.
        candidates: int64 (n,), its index among the frame's K candidates.
    """

    frames: Tensor
    candidates: Tensor

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.frames)


@torch.no_grad()
def pick_targets(ious: Tensor, score: Tensor, threshold: float, count: int) -> Picks:
    """Select targets (TFG): the frames of largest predicted IoU, with the best candidate of each.

    The IoU must exceed a threshold and the target must be visible. Ties go to the first candidate of a frame and to the
    earlier frame.

    Args:
        ious: predicted IoUs (T, K).
        score: occlusion score (T,), > 0 = visible.
        threshold: τ_t.
        count: k_t, largest number of frames; there may be fewer, or none.
    """
    ious = ious.float()
    best = ious.argmax(1)
    quality = ious.gather(1, best[:, None])[:, 0]
    frames = _top(quality, (quality > threshold) & (score > 0), count)
    return Picks(frames, best[frames])


@torch.no_grad()
def pick_distractors(
    ious: Tensor, score: Tensor, masks: Tensor, divergence: float, threshold: float, count: int
) -> Picks:
    """Select distractors (DFG): candidates of high predicted IoU whose masks differ from the best one of their frame.

    They are ranked by (1 - mask IoU with the best) x predicted IoU. An empty mask shows no distractor, and a frame on
    which the target is absent has no best mask to differ from: neither is selected. Ties go to the earlier frame, then
    to the earlier candidate.

    Args:
        ious: predicted IoUs (T, K).
        score: occlusion score (T,), > 0 = visible.
        masks: bool (T, K, H, W).
        divergence: τ_d, threshold on 1 - mask IoU with the best.
        threshold: τ_u, threshold on the predicted IoU.
        count: k_d, largest number over the clip; there may be fewer, and often there are none.
    """
    ious = ious.float()
    best = ious.argmax(1, keepdim=True)
    difference = 1 - iou_with(masks, best[:, 0])
    eligible = (difference > divergence) & (ious > threshold) & (score > 0)[:, None] & masks.flatten(2).any(2)
    eligible = eligible.scatter(1, best, False)
    index = _top((difference * ious).flatten(), eligible.flatten(), count)
    return Picks(index // ious.shape[1], index % ious.shape[1])


def iou_with(masks: Tensor, index: Tensor) -> Tensor:
    """Compute the IoU of each candidate's mask with one candidate's of the same frame.

    Args:
        masks: bool (T, K, H, W).
        index: int64 (T,), the candidate to compare with.

    Returns:
        (T, K); 1 where both masks are empty.
    """
    chosen = masks[torch.arange(len(masks), device=masks.device), index][:, None]
    overlap, union = (masks & chosen).flatten(2).sum(2), (masks | chosen).flatten(2).sum(2)
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


def best_of(ious: Tensor, picks: Picks) -> Picks:
    """Replace selected candidates by the best ones of their frames.

    Args:
        ious: predicted IoUs (T, K).
        picks: the selected candidates.
    """
    return Picks(picks.frames, ious.float().argmax(1)[picks.frames])


def _top(value: Tensor, eligible: Tensor, count: int) -> Tensor:
    """Return the indices int64 (n,) of the largest eligible values (m,), largest first, earlier first on ties."""
    index = eligible.nonzero()[:, 0]
    order = value[index].sort(descending=True, stable=True).indices
    return index[order[:count]]
