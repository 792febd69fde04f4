"""Losses on mask logits, weighted and averaged as in SAM 2.

Legend: B objects, K candidates; ``target`` bool (B, H, W) is broadcast over candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sigmoid focal loss (Lin et al., 2017) of each element.

    Args:
        logits: any shape.
        target: bool, broadcast to that shape.
        alpha: weight of positives; negatives have 1 - alpha.
        gamma: exponent that reduces the loss of easy elements.
    """
    truth = target.expand_as(logits).to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    prob = logits.sigmoid()
    missed = torch.where(target, 1 - prob, prob)
    weight = torch.where(target, alpha, 1 - alpha)
    return weight * missed**gamma * cross_entropy


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Compute the sigmoid focal loss (Lin et al., ICCV 2017), mean over pixels.

    Args:
        logits: (B, K, H, W).
        target: bool (B, H, W).
        alpha: weight of the foreground; 1 - alpha is that of the background.
        gamma: focusing exponent.

    Returns:
        (B, K).
    """
    return sigmoid_focal_loss(logits, target[:, None], alpha, gamma).mean((-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the dice loss 1 - (2 Σ p g + 1) / (Σ p + Σ g + 1) of sigmoids.

    Args:
        logits: (B, K, H, W).
        target: bool (B, H, W).

    Returns:
        (B, K).
    """
    prob, truth = logits.sigmoid(), target[:, None].to(logits.dtype)
    overlap = (prob * truth).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (prob.sum((-2, -1)) + truth.sum((-2, -1)) + 1)


@torch.no_grad()
def sample_uncertain_points(
    certainty: Callable[[Tensor], Tensor],
    maps: int,
    count: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
    device: torch.device,
) -> Tensor:
    """Sample points (maps, count, 2) on maps, x and y in 0 to 1: the least certain candidates, and uniform ones.

    PointRend (Kirillov et al., CVPR 2020), section 3.1.

    Args:
        certainty: maps points (maps, n, 2) to certainties (maps, n).
        maps: number of maps.
        count: points of a map.
        oversample_ratio: candidates drawn for each point, at least 1.
        importance_sample_ratio: share of the points that are the least certain candidates.
        device: of the points.
    """
    uncertain = round(importance_sample_ratio * count)
    candidates = torch.rand(maps, round(oversample_ratio * count), 2, device=device)
    order = certainty(candidates).topk(uncertain, largest=False).indices[..., None].expand(-1, -1, 2)
    uniform = torch.rand(maps, count - uncertain, 2, device=device)
    return torch.cat([candidates.gather(1, order), uniform], 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the IoU of masks thresholded at logit 0; 0 where both are empty.

    Args:
        logits: (B, K, H, W).
        target: bool (B, H, W).

    Returns:
        (B, K).
    """
    mask, truth = logits > 0, target[:, None]
    overlap = (mask & truth).sum((-2, -1))
    return overlap / (mask | truth).sum((-2, -1)).clamp(min=1)


def sam2_losses(
    logits: Tensor, ious: Tensor, score: Tensor, target: Tensor, iou_l1: bool = True, non_best_weight: float = 0.0
) -> dict[str, Tensor]:
    """Compute SAM 2's four terms for one prediction step, summed over objects (divide by their number).

    Mask and dice supervise only the candidate of lowest 20 focal + dice, the IoU term is averaged over all candidates.
    These three are zero for objects absent from the frame; the occlusion term always counts.

    Args:
        logits: mask logits (B, K, H, W).
        ious: predicted IoUs (B, K).
        score: occlusion score (B,); its target is whether the object has any pixel.
        target: bool (B, H, W).
        iou_l1: L1 error of the predicted IoU (the published recipe), else the squared error.
        non_best_weight: weight of the candidates that are not the best in mask and dice; 0 in SAM 2.

    Returns:
        ``mask``, ``dice``, ``iou``, ``occlusion``: scalars. The recipe weights them 20 : 1 : 1 : 1.
    """
    logits, ious, score = logits.float(), ious.float(), score.float()
    present = target.flatten(1).any(1)
    focal, dice = focal_loss(logits, target), dice_loss(logits, target)
    chosen = (20 * focal + dice).argmin(1, keepdim=True)

    def supervised(loss: Tensor) -> Tensor:
        """Reduce losses (B, K) to those of the chosen candidates, (B,)."""
        best = loss.gather(1, chosen)[:, 0]
        if not non_best_weight:
            return best
        return (best + non_best_weight * (loss.sum(1) - best)) / (1 + non_best_weight * (loss.shape[1] - 1))

    error = ious - mask_iou(logits, target)
    error = (error.abs() if iou_l1 else error**2).mean(1)
    return {
        "mask": (supervised(focal) * present).sum(),
        "dice": (supervised(dice) * present).sum(),
        "iou": (error * present).sum(),
        "occlusion": F.binary_cross_entropy_with_logits(score, present.to(score.dtype), reduction="sum"),
    }
