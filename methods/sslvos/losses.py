"""Cross-entropy and dice on points, most of them where the network is unsure (PointRend, arXiv 1912.08193).

Legend: M maps (frames of clips), N targets, R points of a map; channel 0 of N + 1 is the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError


@dataclass(frozen=True)
class PointSettings:
    """Points of a map that the losses look at.

    Attributes:
        count: at 480 x 480; other sizes get the same share of their pixels.
        oversample: candidates for each point.
        uncertain: share of the points that are the most uncertain candidates; the others are anywhere.
    """

    count: int = 12544
    oversample: float = 3.0
    uncertain: float = 0.75

    def __post_init__(self) -> None:
        if self.count < 1 or self.oversample < 1 or not 0 <= self.uncertain <= 1:
            raise InputError(
                f"points: count {self.count} and oversample {self.oversample} are at least 1, "
                f"uncertain {self.uncertain} is a share"
            )

    def of(self, height: int, width: int) -> int:
        """Points of a map that belongs to an image of this size."""
        return max(1, round(self.count * height * width / 480**2))


def at_points(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear values of maps (M, C, H, W) at places (M, R, 2), x and y from 0 to 1: (M, C, R).

    Beyond the outermost pixel centres a map goes on as it is; zeros there would look unsure, and take labels away.
    """
    grid = 2 * places[:, None] - 1
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]


def gap(logits: Tensor) -> Tensor:
    """Certainty of logits (M, C, R): how far the largest lies above the second, (M, R)."""
    top = logits.topk(2, 1).values
    return top[:, 0] - top[:, 1]


@torch.no_grad()
def choose_points(logits: Tensor, count: int, settings: PointSettings) -> Tensor:
    """Places (M, count, 2) for logits (M, C, H, W): the least certain of many candidates, and some anywhere."""
    sure = round(count * settings.uncertain)
    candidates = torch.rand(len(logits), max(count, round(count * settings.oversample)), 2, device=logits.device)
    order = gap(at_points(logits, candidates)).topk(sure, largest=False).indices
    picked = candidates.gather(1, order[..., None].expand(-1, -1, 2))
    return torch.cat([picked, torch.rand(len(logits), count - sure, 2, device=logits.device)], 1)


def label_maps(masks: Tensor) -> Tensor:
    """Masks bool (M, N, H, W) as float (M, N + 1, H, W), background first; where they overlap the first one counts."""
    first = masks & (masks.cumsum(1, dtype=torch.uint8) == 1)
    return torch.cat([~masks.any(1, keepdim=True), first], 1).float()


def point_losses(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice of each map, (M,) each.

    Dice is 1 - (2 Σ p g + 1) / (Σ p + Σ g + 1), mean over the targets; the background has none.

    Args:
        logits: (M, N + 1, R).
        labels: (M, N + 1, R), shares that add up to 1.
        valid: bool (M, N); the other targets take part in nothing.
    """
    real = F.pad(valid, (1, 0), value=True)[..., None]
    logits = logits.float().masked_fill(~real, -1e4)
    entropy = F.cross_entropy(logits, labels * real, reduction="none").mean(1)
    prob, truth = logits.softmax(1)[:, 1:], labels[:, 1:]
    dice = 1 - (2 * (prob * truth).sum(-1) + 1) / (prob.sum(-1) + truth.sum(-1) + 1)
    return entropy, (dice * valid).sum(1) / valid.sum(1).clamp(min=1)


def mask_losses(logits: Tensor, labels: Tensor, valid: Tensor, settings: PointSettings) -> tuple[Tensor, Tensor]:
    """Both losses of maps at their own points, summed over frames, mean over clips.

    Args:
        logits: (B, T, N + 1, h, w), soft-aggregated; any size.
        labels: (B T, N + 1, H, W), those of ``label_maps``.
        valid: bool (B, N).
    """
    clips, frames = logits.shape[:2]
    flat = logits.flatten(0, 1).float()
    places = choose_points(flat, settings.of(*labels.shape[-2:]), settings)
    real = valid[:, None].expand(-1, frames, -1).flatten(0, 1)
    entropy, dice = point_losses(at_points(flat, places), at_points(labels, places), real)
    return entropy.sum() / clips, dice.sum() / clips
