"""High-quality teacher forcing (eq. 8 to 10): SAM-HQ proposes masks, DINO verifies that they are of the same object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.nn.timing import part
from common.nn.transfer import to_device
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from methods.hqsmem.refinement.sam_hq import SAMHQ

POINT_SEED = 0  # of the sampled points


@dataclass(frozen=True)
class RefineSettings:
    """Prompts of SAM-HQ and threshold of the gate; of these the paper prints only the kinds of prompts.

    Attributes:
        threshold: τ_s of eq. 9, the similarity that a proposal must exceed; None accepts SAM-HQ's first proposal
            without verification (a row of Supp. Table 1).
        box: whether to prompt with the box of the mask.
        positive_points: number of points on the mask, with or without the box (Supp. Table 2).
        negative_points: number of points off the mask.

    Raises:
        InputError: a negative number of points, or neither box nor points.
    """

    threshold: float | None = 0.85
    box: bool = True
    positive_points: int = 0
    negative_points: int = 0

    def __post_init__(self) -> None:
        positive, negative = self.positive_points, self.negative_points
        if min(positive, negative) < 0 or not (self.box or positive or negative):
            raise InputError(
                f"refinement: box {self.box}, {positive} positive and {negative} negative points; "
                "prompt with a box or with one point at least"
            )


@dataclass
class RefinedMasks:
    """N masks after refinement.

    Attributes:
        masks: bool (N, H, W), for each object the accepted proposal, else the input mask; they may overlap.
        accepted: bool (N,), whether a proposal replaced the mask.
        similarity: float (N,), that of the most similar proposal, -1 where the mask or every proposal is empty; 1 for
            all other masks without a threshold.
    """

    masks: Tensor
    accepted: Tensor
    similarity: Tensor


class Refiner(nn.Module):
    """Refines the masks of a frame; SAM-HQ and DINO encode the frame once for all of them.

    Args:
        sam: proposes three masks for each mask.
        dino: measures the similarity of mask and proposal; None without a threshold.
        settings: prompts and threshold.
    """

    def __init__(self, sam: SAMHQ, dino: DINO | None, settings: RefineSettings) -> None:
        super().__init__()
        self.sam, self.dino, self.settings = sam, dino, settings

    @part("refine")
    def forward(self, frame: Tensor, masks: Tensor, tokens: Tensor | None = None) -> RefinedMasks:
        """Refine masks; an empty mask stays empty.

        Args:
            frame: uint8 (H, W, 3).
            masks: bool (N, H, W).
            tokens: ``DINO.encode`` of the frame, where the caller has it; else it is encoded here.
        """
        refined_masks = masks.clone()
        accepted = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
        similarity = torch.full((len(masks),), -1.0, device=masks.device)
        rows = masks.flatten(1).any(1).nonzero()[:, 0].tolist()
        if not rows:
            return RefinedMasks(refined_masks, accepted, similarity)
        proposals_of_masks, _ = self.sam.propose(self.sam.encode(frame), *self._prompts(masks[rows]))
        if self.dino is not None and self.settings.threshold is not None and tokens is None:
            tokens = self.dino.encode(frame)
        for row, proposals in zip(rows, proposals_of_masks, strict=True):
            if self.settings.threshold is None:
                best, similarity[row], accepted[row] = 0, 1.0, proposals[0].any()
            else:
                assert self.dino is not None
                assert tokens is not None
                cosine = self.dino.similarity(frame, tokens, masks[row], proposals)
                best = int(cosine.argmax())  # eq. 8
                similarity[row] = cosine[best]
                accepted[row] = cosine[best] > self.settings.threshold  # eq. 9
            if accepted[row]:
                refined_masks[row] = proposals[best]
        return RefinedMasks(refined_masks, accepted, similarity)

    def _prompts(self, masks: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return boxes, points and labels of non-empty masks bool (N, H, W), each None where it is not used."""
        positive, negative = self.settings.positive_points, self.settings.negative_points
        boxes = boxes_of(masks) if self.settings.box else None
        if not positive + negative:
            return boxes, None, None
        # A fixed seed: the same masks get the same points, on every frame and in every run.
        generator = torch.Generator().manual_seed(POINT_SEED)
        points, labels = zip(*(sample_points(mask, positive, negative, generator) for mask in masks), strict=True)
        return boxes, torch.stack(points), torch.stack(labels)


def label_map(masks: Tensor, prob: Tensor, targets: tuple[int, ...]) -> Tensor:
    """Merge masks that may overlap into one label map.

    A pixel in several masks goes to the target with the highest probability, the first one on ties.

    Args:
        masks: bool (N, H, W).
        prob: float (N, H, W), probabilities before refinement.
        targets: id of each mask.

    Returns:
        int64 (H, W), target ids, 0 the background.
    """
    scores = torch.where(masks, prob, -1.0)
    ids = to_device((0, *targets), masks.device)
    if not targets:
        return ids.new_zeros(masks.shape[1:])
    return ids[torch.where(masks.any(0), scores.argmax(0) + 1, 0)]
