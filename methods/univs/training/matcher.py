"""One learnable query for each target: the Hungarian assignment of an output, over all frames of a clip at once.

Legend: Q queries, N targets, T frames, R points, K names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import sample_point

CLASS, MASK, DICE = 3.0, 5.0, 5.0
_SHARPNESS = 5.0


@torch.no_grad()
def match(logits: Tensor, classes: Tensor | None, masks: Tensor, labels: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Queries and targets that belong together, int64 (min(Q, N),) each.

    Cost: 3 class + 5 BCE + 5 dice on random points, the same for all queries and frames.

    Args:
        logits: (Q, T, h, w).
        classes: logits (Q, K) for a vocabulary, or None.
        masks: bool (N, T, H, W).
        labels: int64 (N,), places in the vocabulary.
        points: R.
    """
    places = torch.rand(1, points, 2, device=logits.device)
    cost = mask_cost(_at(logits, places), _at(masks.float(), places))
    if classes is not None:
        cost = cost + CLASS * class_cost(classes.float(), labels)
    rows, columns = linear_sum_assignment(cost.nan_to_num(1e6).cpu().numpy())
    return torch.as_tensor(rows, device=logits.device), torch.as_tensor(columns, device=logits.device)


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """- softmax(5 sigmoid(logits)) at the labels: (Q, K) and (N,) to (Q, N)."""
    return -(_SHARPNESS * logits.sigmoid()).softmax(-1)[:, labels]


def mask_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """5 BCE + 5 dice, (Q, N): logits (Q, P) and truth (N, P) at the points of all frames."""
    count = logits.shape[1]
    entropy = (F.softplus(-logits) @ truth.T + F.softplus(logits) @ (1 - truth).T) / count
    prob = logits.sigmoid()
    overlap = 2 * prob @ truth.T + 1
    return MASK * entropy + DICE * (1 - overlap / (prob.sum(1)[:, None] + truth.sum(1) + 1))


def _at(maps: Tensor, places: Tensor) -> Tensor:
    """Maps (X, T, h, w) at places (1, R, 2) of every frame, (X, T R)."""
    return sample_point(maps.float(), places.expand(len(maps), -1, -1), align_corners=False).flatten(1)
