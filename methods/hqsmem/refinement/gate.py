"""High-quality teacher forcing (eq. 8 to 10): SAM-HQ proposes, DINO says whether it is the same object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import InputError
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from methods.hqsmem.refinement.sam_hq import SAMHQ

SEED = 0  # of the points


@dataclass(frozen=True)
class RefineSettings:
    """How masks are refined; the paper prints the kind of prompt only.

    Attributes:
        threshold: τ_s of eq. 9, the similarity that a proposal must exceed; None takes SAM-HQ's first proposal
            unasked (the "without verification" row of Supp. Table 1).
        box: prompt with the box of the mask.
        positive: points on the mask, besides or instead (Supp. Table 2).
        negative: points off it.

    Raises:
        InputError: nothing to prompt with.
    """

    threshold: float | None = 0.85
    box: bool = True
    positive: int = 0
    negative: int = 0

    def __post_init__(self) -> None:
        if min(self.positive, self.negative) < 0 or not (self.box or self.positive or self.negative):
            raise InputError(
                f"refinement: box {self.box}, {self.positive} positive and {self.negative} negative points; "
                "prompt with a box or with one point at least"
            )


@dataclass
class Refined:
    """N masks after refinement.

    Attributes:
        masks: bool (N, H, W), of each object the accepted proposal or what it was; they may overlap.
        accepted: bool (N,).
        similarity: float (N,), of the most similar proposal, -1 where there is none; without a threshold 1.
    """

    masks: Tensor
    accepted: Tensor
    similarity: Tensor


class Refiner(nn.Module):
    """SAM-HQ and DINO on the masks of one frame; both encode it once.

    Args:
        sam: proposes.
        dino: compares; None where nothing is compared.
        settings: see there.
    """

    def __init__(self, sam: SAMHQ, dino: DINO | None, settings: RefineSettings) -> None:
        super().__init__()
        self.sam, self.dino, self.settings = sam, dino, settings

    def forward(self, frame: Tensor, masks: Tensor, tokens: Tensor | None = None) -> Refined:
        """Refine masks bool (N, H, W) of a frame uint8 (H, W, 3); an empty one stays empty.

        Args:
            tokens: ``DINO.encode`` of the frame, where it is known already.
        """
        out = masks.clone()
        accepted = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
        similarity = torch.full((len(masks),), -1.0, device=masks.device)
        rows = masks.flatten(1).any(1).nonzero()[:, 0].tolist()
        if not rows:
            return Refined(out, accepted, similarity)
        proposals, _ = self.sam.propose(self.sam.encode(frame), *self._prompts(masks[rows]))
        if self.dino is not None and self.settings.threshold is not None and tokens is None:
            tokens = self.dino.encode(frame)
        for row, three in zip(rows, proposals, strict=True):
            if self.settings.threshold is None:
                best, similarity[row], accepted[row] = 0, 1.0, three[0].any()
            else:
                assert self.dino is not None
                assert tokens is not None
                alike = self.dino.similarity(frame, tokens, masks[row], three)
                best = int(alike.argmax())
                similarity[row] = alike[best]
                accepted[row] = alike[best] > self.settings.threshold
            if accepted[row]:
                out[row] = three[best]
        return Refined(out, accepted, similarity)

    def _prompts(self, masks: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Boxes, points and labels of masks bool (N, H, W), none of them empty; the same points for the same masks."""
        s, generator = self.settings, torch.Generator().manual_seed(SEED)
        boxes = boxes_of(masks) if s.box else None
        if not s.positive + s.negative:
            return boxes, None, None
        drawn = [sample_points(mask, s.positive, s.negative, generator) for mask in masks]
        return boxes, torch.stack([points for points, _ in drawn]), torch.stack([labels for _, labels in drawn])


def label_map(masks: Tensor, prob: Tensor, targets: tuple[int, ...]) -> Tensor:
    """Masks bool (N, H, W), which may overlap, as one map int64 (H, W) of target ids, 0 the background.

    A contested pixel goes to the claimant of the highest probability (N, H, W) before refinement, the first on ties.
    """
    claims = torch.where(masks, prob, -1.0)
    ids = torch.tensor((0, *targets), device=masks.device)
    if not targets:
        return ids.new_zeros(masks.shape[1:])
    return ids[torch.where(masks.any(0), claims.argmax(0) + 1, 0)]
