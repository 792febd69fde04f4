"""Input and output of every method: prompts and frame masks."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.video.masks import VOID, without_overlap


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt for one target on one frame.

    It has exactly one of these kinds: a mask; a box and / or points; a text; a vocabulary. With ``image`` the mask or
    the box refers to that image instead of a frame of the video (visual queries). Numpy arrays and lists are converted
    to tensors, and a mask of bytes or of listed integers, 0 and 1 or 0 and 255, to a boolean one.

    Attributes:
        target: id of the target, 1..254.
        frame: index of the frame to which the prompt refers.
        mask: bool (H, W) at video resolution, or at the resolution of ``image``.
        box: (x0, y0, x1, y1) in pixels of the video, or of ``image``.
        points: float (K, 2), x and y in pixels.
        labels: int64 (K,), 1 for positive and 0 for negative points.
        text: an expression that describes the target.
        vocabulary: distinct category names; the method detects its targets and assigns their ids, and ``target`` is 1
            by convention.
        stuff: names of the stuff classes in the vocabulary. None of them: instance segmentation (VIS); all of them:
            semantic segmentation (VSS); some of them: panoptic segmentation (VPS).
        image: uint8 RGB (h, w, 3), the query image.

    Raises:
        InputError: there is no kind or more than one, the id is out of range, the mask is empty, sizes do not match, a
            coordinate is not finite, a label is not 0 or 1, the box leaves its image, or a stuff class is not in the
            vocabulary.
    """

    target: int
    frame: int = 0
    mask: Tensor | None = None
    box: tuple[float, float, float, float] | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    text: str | None = None
    vocabulary: tuple[str, ...] | None = None
    stuff: tuple[str, ...] = ()
    image: Tensor | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the given kinds: mask, box, points, text, vocabulary."""
        return tuple(
            kind for kind in ("mask", "box", "points", "text", "vocabulary") if getattr(self, kind) is not None
        )

    def __post_init__(self) -> None:
        where = f"prompt of target {self.target} at frame {self.frame}"
        self._convert(where)
        if not 1 <= self.target <= 254:
            raise InputError(f"{where}: target ids are 1 to 254")
        if self.frame < 0:
            raise InputError(f"{where}: frames are counted from 0")
        kinds = [
            self.mask is not None,
            self.box is not None or self.points is not None,
            self.text is not None,
            self.vocabulary is not None,
        ]
        if sum(kinds) != 1:
            raise InputError(f"{where}: give exactly one of mask, box / points, text, vocabulary")
        if self.mask is not None:
            if self.mask.dtype != torch.bool or self.mask.ndim != 2:
                actual = f"{self.mask.dtype} {tuple(self.mask.shape)}"
                raise InputError(f"{where}: the mask must be boolean (H, W), not {actual}")
            if not self.mask.any():
                raise InputError(f"{where}: the mask is empty; a target needs at least one pixel")
        if self.points is not None and (self.points.ndim != 2 or self.points.shape[1] != 2 or not len(self.points)):
            raise InputError(f"{where}: points must be (K, 2) with K > 0, not {tuple(self.points.shape)}")
        if self.points is not None and (self.labels is None or len(self.labels) != len(self.points)):
            raise InputError(f"{where}: every point needs a label (1 on the target, 0 off it)")
        numbers = [*(self.box or ()), *(self.points.flatten().tolist() if self.points is not None else ())]
        if not all(math.isfinite(number) for number in numbers):
            raise InputError(f"{where}: a coordinate is not finite")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise InputError(f"{where}: the box {self.box} must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
        if self.text is not None and not self.text.strip():
            raise InputError(f"{where}: the text is empty; say what to look for")
        if self.vocabulary is not None and not self.vocabulary:
            raise InputError(f"{where}: the vocabulary is empty; it needs at least one category")
        vocabulary = self.vocabulary or ()
        for name in vocabulary:
            if not name.strip() or vocabulary.count(name) > 1:
                raise InputError(f"{where}: the category {name!r} is {'empty' if not name.strip() else 'named twice'}")
        for name in self.stuff:
            if name not in vocabulary:
                raise InputError(f"{where}: {name!r} is stuff but not in the vocabulary; name it in both")
        image = self.image
        if image is not None and (image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3):
            raise InputError(f"{where}: the query image is {image.dtype} {tuple(image.shape)}; give uint8 (h, w, 3)")
        if self.image is not None and self.box is not None:
            height, width = self.image.shape[:2]
            if self.box[0] < 0 or self.box[1] < 0 or self.box[2] > width or self.box[3] > height:
                raise InputError(f"{where}: the box {self.box} leaves its image of {height}x{width} (height x width)")
        if self.image is not None and self.mask is not None and self.image.shape[:2] != self.mask.shape:
            raise InputError(
                f"{where}: the query mask is {tuple(self.mask.shape)} but its image is {tuple(self.image.shape[:2])}"
            )

    def _convert(self, where: str) -> None:
        """Convert numpy arrays, lists and masks of bytes."""
        set_field = functools.partial(object.__setattr__, self)
        try:
            if self.mask is not None and not isinstance(self.mask, Tensor):
                array = isinstance(self.mask, np.ndarray)
                set_field("mask", torch.from_numpy(np.ascontiguousarray(self.mask)) if array else _listed(self.mask))
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: the mask is not an array of numbers ({error})") from None
        if isinstance(self.mask, Tensor) and self.mask.dtype == torch.uint8:
            values = set(torch.unique(self.mask).tolist())
            if not (values <= {0, 1} or values <= {0, 255}):
                raise InputError(f"{where}: a mask of bytes must be 0 and 1, or 0 and 255, not {sorted(values)[:5]}")
            set_field("mask", self.mask > 0)
        if isinstance(self.image, np.ndarray):
            set_field("image", torch.from_numpy(np.ascontiguousarray(self.image)))
        try:
            if self.points is not None:
                set_field("points", torch.as_tensor(self.points, dtype=torch.float32))
            if self.labels is not None:
                labels = torch.as_tensor(self.labels)
                if not ((labels == 0) | (labels == 1)).all():
                    raise InputError(f"{where}: labels are 1 on the target and 0 off it, not {labels.tolist()}")
                set_field("labels", labels.long())
            if self.box is not None:
                x0, y0, x1, y1 = (float(side) for side in self.box)
                set_field("box", (x0, y0, x1, y1))
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: points, labels or box are not numbers ({error})") from None


def _listed(rows: object) -> Tensor:
    """Return a mask given as lists, as bytes where it has whole numbers.

    Raises:
        ValueError: a number does not fit into a byte, or the rows differ in length.
    """
    mask = torch.as_tensor(rows)
    if mask.dtype != torch.int64:
        return mask
    if ((mask < 0) | (mask > 255)).any():
        raise ValueError("bytes are 0 to 255")
    return mask.byte()


@dataclass(frozen=True, eq=False)
class MaskCandidates:
    """What the network offers for an ambiguous prompt.

    Attributes:
        masks: bool (K, H, W) at video resolution; each as if it were alone on the frame.
        ious: predicted IoU float32 (K,) in (0, 1). The answer is the candidate of the largest.
    """

    masks: Tensor
    ious: Tensor


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """Prediction for one frame.

    Attributes:
        frame: frame index.
        targets: N target ids, ascending, each at least 1; in semantic segmentation (VSS) the category plus 1.
        masks: bool (N, H, W) at video resolution; disjoint if the prompt has stuff classes.
        scores: float32 (N,), confidence that the target is present, higher is more confident.
        categories: N indices in the vocabulary, from 0, if the prompt has one.
        class_scores: float32 (N, C), confidence for each of the vocabulary's C names. Instance segmentation (VIS)
            averages them over a target's frames and counts every pair of target and name as a detection.
        logits: float32 (N, H, W), mask logits at video resolution before any rule of overlap, where the session was
            asked for them (``keep_logits``); a target's mask alone is where they are above 0.
        candidates: by target, the candidate masks of an ambiguous prompt (one point) on this frame, where the session
            was asked for them (``keep_candidates``).

    Raises:
        ValueError: masks, categories or class scores do not match the targets.
    """

    frame: int
    targets: tuple[int, ...]
    masks: Tensor
    scores: Tensor
    categories: tuple[int, ...] | None = None
    class_scores: Tensor | None = None
    logits: Tensor | None = None
    candidates: Mapping[int, MaskCandidates] | None = None

    def __post_init__(self) -> None:
        if self.masks.dtype != torch.bool or self.masks.ndim != 3 or len(self.masks) != len(self.targets):
            raise ValueError(
                f"frame {self.frame}: masks must be boolean (N, H, W) with N = {len(self.targets)}, "
                f"not {self.masks.dtype} {tuple(self.masks.shape)}"
            )
        rows = {"categories": self.categories, "class scores": self.class_scores, "logits": self.logits}
        for name, values in rows.items():
            if values is not None and len(values) != len(self.targets):
                raise ValueError(f"frame {self.frame}: {len(values)} {name} for {len(self.targets)} targets")

    @classmethod
    def from_logits(
        cls,
        frame: int,
        targets: tuple[int, ...],
        logits: Tensor,
        scores: Tensor,
        overlap: bool = False,
        given: Collection[int] = (),
    ) -> FrameMasks:
        """Threshold logits at 0.

        Args:
            frame: frame index.
            targets: N target ids.
            logits: float (N, H, W).
            scores: float32 (N,).
            overlap: allow overlapping masks. Otherwise a pixel goes to the target with the largest logit, the first of
                equals, as in the non-overlap rule of the ``sam2`` predictor, but for ``given``.
            given: targets whose mask on this frame is the user's. Their pixels are theirs whatever the other logits;
                where two given masks overlap, a pixel belongs to the smaller one, so that a nested one is not lost.
        """
        masks = logits > 0
        if not overlap and len(targets) > 1:
            rows = torch.tensor([target in given for target in targets], device=logits.device)
            owned = torch.where(masks & rows[:, None, None], torch.inf, logits)
            order = masks.flatten(1).sum(1).argsort(stable=True) if rows.any() else torch.arange(len(targets))
            first = order.to(logits.device)[owned[order].argmax(0, keepdim=True)]
            masks &= first == torch.arange(len(targets), device=logits.device)[:, None, None]
        return cls(frame, targets, masks, scores)

    def with_masks(self, masks: Mapping[int, Tensor], overlap: bool = False) -> FrameMasks:
        """Replace the masks of targets by those that the user gives, with a score of 1.

        Args:
            masks: target -> bool (H, W), on any device; the targets are among those of the frame.
            overlap: leave the other targets as they are; otherwise they lose the pixels of the given masks, and where
                two given masks overlap, a pixel belongs to the smaller one.
        """
        rows = torch.tensor([self.targets.index(target) for target in masks], device=self.masks.device)
        given = torch.stack(list(masks.values())).to(self.masks.device)
        kept = self.masks if overlap else self.masks & ~given.any(0)
        new = kept.index_copy(0, rows, given if overlap else without_overlap(given))
        return replace(self, masks=new, scores=self.scores.index_fill(0, rows.to(self.scores.device), 1.0))

    def select(self, targets: tuple[int, ...]) -> Tensor:
        """Return the masks of given targets, bool (len(targets), H, W); a target without prediction is empty.

        Args:
            targets: target ids.
        """
        out = self.masks.new_zeros((len(targets), *self.masks.shape[1:]))
        for row, target in enumerate(targets):
            if target in self.targets:
                out[row] = self.masks[self.targets.index(target)]
        return out

    def label_map(self) -> Tensor:
        """Return a label map, uint8 (H, W), 0 for background; where masks overlap, the last id wins.

        Raises:
            ValueError: an id is above 254.
        """
        if max(self.targets, default=0) >= VOID:
            raise ValueError(f"frame {self.frame}: target {max(self.targets)} does not fit into a label map")
        out = torch.zeros(self.masks.shape[1:], dtype=torch.uint8, device=self.masks.device)
        for target, mask in zip(self.targets, self.masks, strict=True):
            out[mask] = target
        return out
