"""Which candidates of a stage become memory: TFG and DFG, eq. (4), as rules on numbers and masks of one clip.

Legend: T frames, K candidates of each. Where the paper is silent on a rule, the README lists what was decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Picks:
    """Candidates of a clip, best first.

    Shape:
        frames: int64 (n,), their frames.
        candidates: int64 (n,), their places among the frame's K.
    """

    frames: Tensor
    candidates: Tensor

    def __len__(self) -> int:
        return len(self.frames)


@torch.no_grad()
def pick_targets(ious: Tensor, score: Tensor, threshold: float, count: int) -> Picks:
    """TFG: the best candidate of each frame if its predicted IoU exceeds a threshold, and of those the best few.

    Of equal candidates of a frame the first counts, of equal frames the earlier comes first. A frame that the target
    is said to be absent from does not count.

    Args:
        ious: (T, K), predicted.
        score: (T,), occlusion score; > 0 = visible.
        threshold: τ_t.
        count: at most this many, k_t; there may be fewer, or none.
    """
    ious = ious.float()
    best = ious.argmax(1)
    value = ious.gather(1, best[:, None])[:, 0]
    frames = _ranked(value, (value > threshold) & (score > 0), count)
    return Picks(frames, best[frames])


@torch.no_grad()
def pick_distractors(
    ious: Tensor, score: Tensor, masks: Tensor, divergence: float, threshold: float, count: int
) -> Picks:
    """DFG: candidates unlike the best one of their frame and yet sure of themselves, by the product of the two.

    How unlike is 1 - mask IoU with the best. An empty mask shows no distractor, and a frame that the target is said to
    be absent from has no best mask to differ from: neither counts. Ties go to the earlier frame, then to the earlier
    candidate.

    Args:
        ious: (T, K), predicted.
        score: (T,), occlusion score; > 0 = visible.
        masks: bool (T, K, H, W).
        divergence: τ_d, exceeded by 1 - IoU with the best.
        threshold: τ_u, exceeded by the predicted IoU.
        count: at most this many over the clip, k_d; none is a normal case.
    """
    ious = ious.float()
    best = ious.argmax(1, keepdim=True)
    unlike = 1 - iou_with(masks, best[:, 0])
    enough = (unlike > divergence) & (ious > threshold) & (score > 0)[:, None] & masks.flatten(2).any(2)
    enough = enough.scatter(1, best, False)
    places = _ranked((unlike * ious).flatten(), enough.flatten(), count)
    return Picks(places // ious.shape[1], places % ious.shape[1])


def iou_with(masks: Tensor, index: Tensor) -> Tensor:
    """IoU (T, K) of masks bool (T, K, H, W) with that at ``index`` int64 (T,) of their frame; 1 if both are empty."""
    chosen = masks[torch.arange(len(masks), device=masks.device), index][:, None]
    overlap, union = (masks & chosen).flatten(2).sum(2), (masks | chosen).flatten(2).sum(2)
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


def best_of(ious: Tensor, picks: Picks) -> Picks:
    """The best candidates of the same frames."""
    return Picks(picks.frames, ious.float().argmax(1)[picks.frames])


def _ranked(value: Tensor, enough: Tensor, count: int) -> Tensor:
    """Places (n,) of the largest values (m,) among those that are enough, largest first, earlier first on ties."""
    places = enough.nonzero()[:, 0]
    order = value[places].sort(descending=True, stable=True).indices
    return places[order[:count]]
