"""Cross-entropy and dice on points, most of them where the network is uncertain (PointRend, arXiv 1912.08193).

Legend: M maps (frames of clips), N targets, R points of a map; channel 0 of N + 1 is the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from common.nn.losses import sample_uncertain_points


@dataclass(frozen=True)
class PointSettings:
    """Points at which the losses are computed.

    Attributes:
        count: number of points of a 480 x 480 image; other sizes get as many in proportion to their area.
        oversample: number of candidates for each point.
        uncertain: share of the points that are the most uncertain candidates; the others are uniformly random.

    Raises:
        InputError: a number out of its range.
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

    def count_at(self, height: int, width: int) -> int:
        """Return the number of points for an image of this size."""
        return max(1, round(self.count * height * width / 480**2))


def sample_points(maps: Tensor, places: Tensor) -> Tensor:
    """Sample maps bilinearly.

    Beyond the outermost pixel centres the border value is repeated; with zero padding, logits there would look
    uncertain and labels would vanish.

    Args:
        maps: (M, C, H, W).
        places: (M, R, 2), x and y from 0 to 1.

    Returns:
        (M, C, R).
    """
    grid = 2 * places[:, None] - 1
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0]


def certainty(logits: Tensor) -> Tensor:
    """Return the margin (M, R) of the largest over the second largest of logits (M, C, R)."""
    top = logits.topk(2, 1).values
    return top[:, 0] - top[:, 1]


def choose_points(logits: Tensor, count: int, settings: PointSettings) -> Tensor:
    """Choose the least certain of many random candidates, and some points uniformly.

    Args:
        logits: (M, C, H, W).
        count: R, number of points of each map.
        settings: number of candidates and share of uncertain points.

    Returns:
        Places (M, R, 2), x and y from 0 to 1.
    """
    return sample_uncertain_points(
        lambda places: certainty(sample_points(logits, places)),
        len(logits),
        count,
        settings.oversample,
        settings.uncertain,
        logits.device,
    )


def label_maps(masks: Tensor) -> Tensor:
    """Convert masks bool (M, N, H, W) to one-hot labels float (M, N + 1, H, W), background first.

    Where masks overlap, the pixel belongs to the first.
    """
    first = masks & (masks.cumsum(1, dtype=torch.uint8) == 1)
    return torch.cat([~masks.any(1, keepdim=True), first], 1).float()


def point_losses(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and dice of each map at its points.

    Dice is 1 - (2 Σ p g + 1) / (Σ p + Σ g + 1), mean over the targets without the background.

    Args:
        logits: (M, N + 1, R).
        labels: (M, N + 1, R), probabilities that add up to 1 over dim 1.
        valid: bool (M, N); padded targets are left out of the softmax and of both losses.

    Returns:
        Cross-entropy (M,) and dice (M,).
    """
    real = F.pad(valid, (1, 0), value=True)[..., None]
    logits = logits.float().masked_fill(~real, -1e4)
    entropy = F.cross_entropy(logits, labels * real, reduction="none").mean(1)
    prob, truth = logits.softmax(1)[:, 1:], labels[:, 1:]
    dice = 1 - (2 * (prob * truth).sum(-1) + 1) / (prob.sum(-1) + truth.sum(-1) + 1)
    return entropy, (dice * valid).sum(1) / valid.sum(1).clamp(min=1)


def mask_losses(logits: Tensor, labels: Tensor, valid: Tensor, settings: PointSettings) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and dice at points chosen for each map, summed over frames, mean over clips.

    Args:
        logits: after soft aggregation, (B, T, N + 1, h, w), of any size.
        labels: from ``label_maps``, (B T, N + 1, H, W).
        valid: bool (B, N), False for padded targets.
        settings: number and choice of the points.
    """
    clips, frames = logits.shape[:2]
    flat = logits.flatten(0, 1).float()
    places = choose_points(flat, settings.count_at(*labels.shape[-2:]), settings)
    real = valid[:, None].expand(-1, frames, -1).flatten(0, 1)
    entropy, dice = point_losses(sample_points(flat, places), sample_points(labels, places), real)
    return entropy.sum() / clips, dice.sum() / clips
