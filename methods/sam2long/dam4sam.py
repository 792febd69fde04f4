"""DAM4SAM (arXiv 2411.17576): recent appearances in one part of the memory, frames with distractors in the other.

The distractor-resolving memory (DRM) keeps frames on which another candidate mask differed much from the chosen one
while the chosen one was reliable. The recent appearance memory (RAM) keeps the previous frame and every fifth frame
before it, as far as the target was visible.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from common.errors import InputError
from common.nn.preprocessing import resize_logits
from common.nn.sam2 import Bank, Candidates
from common.nn.sam2.types import PROMPT_SLOT, TRACKED_MAPS
from methods.sam2long.motion import Box, box_iou, mask_boxes
from methods.sam2long.pathways import Branch, Memory, Node, Prediction, TargetMemory

AREAS, MEDIAN_AREAS = 300, 10  # areas remembered; newest areas above 0 among them whose median is taken


@dataclass(frozen=True)
class DAM4SAMSettings:
    """Hyper-parameters of DAM4SAM; the defaults are those of the paper and of the released code.

    Attributes:
        drm_frames: most frames of the DRM that are read, the first prompted frame among them; the RAM has the rest of
            SAM 2's seven places.
        ram_stride: distance Δ of the frames in the RAM, in frames.
        iou_threshold: predicted IoU above which a frame may join the DRM.
        area_range: ratios of the target's area to the median of its last areas between which a frame may join.
        interval: a frame may join if more than this many frames have passed since the last one.
        box_iou: a frame joins if the box IoU of the chosen mask and of an alternative one is at most this.

    Raises:
        InputError: numbers of frames below 1.
    """

    drm_frames: int = 4
    ram_stride: int = 5
    iou_threshold: float = 0.8
    area_range: tuple[float, float] = (0.8, 1.2)
    interval: int = 5
    box_iou: float = 0.7

    presence: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.drm_frames <= TRACKED_MAPS or self.ram_stride < 1:
            raise InputError(
                f"DAM4SAM: drm_frames is {self.drm_frames} and ram_stride {self.ram_stride}; "
                f"give 2 to {TRACKED_MAPS} and at least 1"
            )


class DistractorDetector:
    """Decides frame by frame which frames show a distractor and join the DRM.

    Args:
        settings: hyper-parameters.
    """

    def __init__(self, settings: DAM4SAMSettings) -> None:
        self.settings = settings
        self.areas: deque[int] = deque(maxlen=AREAS)
        self.last_joined: int | None = None

    def joins(self, frame: int, chosen: int, iou: float, masks: Tensor) -> bool:
        """Tell whether a frame joins the DRM.

        Args:
            frame: its index.
            chosen: index of the chosen mask.
            iou: its predicted IoU.
            masks: bool (K, H, W), the candidates at the size of the video.
        """
        area = int(masks[chosen].sum())
        self.areas.append(area)
        if area == 0 or len(self.areas) < 2 or iou <= self.settings.iou_threshold:
            return False
        ratio = area / median([other for other in self.areas if other][-MEDIAN_AREAS:])
        if not self.settings.area_range[0] <= ratio <= self.settings.area_range[1]:
            return False
        if self.last_joined is not None and frame - self.last_joined <= self.settings.interval:
            return False
        (box,) = mask_boxes(masks[chosen : chosen + 1])
        others = [masks[index] & ~masks[chosen] for index in range(len(masks)) if index != chosen]
        rests = [largest_component(other.cpu().numpy()) for other in others if other.any()]
        overlaps = [box_iou(box, _union(box, rest)) for rest in rests]
        if not overlaps or min(overlaps) > self.settings.box_iou:
            return False
        self.last_joined = frame
        return True


class DistractorAwareMemory(TargetMemory):
    """One pathway of largest predicted IoU, with the two memories of DAM4SAM.

    ``prompted`` is the DRM: prompted frames and frames that have joined. Of these the first is read, and the newest
    ones before the previous frame.

    Args:
        settings: hyper-parameters.
        max_pointers: min(number of frames, 16); 16 where the length is unknown.
    """

    def __init__(self, settings: DAM4SAMSettings, max_pointers: int = 16) -> None:
        super().__init__(1, max_pointers)
        self.settings = settings
        self.detector = DistractorDetector(settings)
        self._joins = False

    def bank(self, node: Node, frame: int) -> Bank:
        """Return the memories that the next frame reads.

        Pointers of frames on which the target was not visible are not read. SAM 2 divides their distances in time by
        the number of frames, at most 16, less one; the released tracker counts the frames seen so far, and so does
        this.
        """
        first = self.prompted[0]
        older = [m for m in self.prompted[1:] if m.frame < frame - 1]
        resolving = [first, *older[1 - self.settings.drm_frames :]]
        recent = self._recent(node, frame, 1 + TRACKED_MAPS - len(resolving))
        max_pointers = min(frame - first.frame + 1, self.max_pointers)
        read = {m.frame for m in resolving}
        seen = {m.frame: m for m in (*self.prompted, *node.recent) if m.selected and m.frame not in read}
        pointers = [seen[t] for t in sorted(seen, reverse=True) if frame - t < max_pointers]
        return Bank(
            maps=[m.map for m in resolving + recent[::-1] if m.map is not None],
            slots=[PROMPT_SLOT] * len(resolving) + list(range(len(recent) - 1, -1, -1)),
            pointers=[m.pointer for m in resolving + pointers],
            offsets=[float(frame - m.frame) for m in resolving + pointers],
            max_pointers=max_pointers,
        )

    def _recent(self, node: Node, frame: int, places: int) -> list[Memory]:
        """Return the RAM, newest first: the previous frame, or the newest visible one, and visible ones a stride apart.

        Frames of the DRM are not among them, but for the previous frame, which the DRM does not give yet.
        """
        start, stride = self.prompted[0].frame, self.settings.ram_stride
        joined = {m.frame for m in self.prompted if m.frame != frame - 1 or m is self.prompted[0]}
        stored = (*self.prompted, *node.recent)
        visible = {m.frame: m for m in stored if m.selected and m.map is not None and m.frame not in joined}
        if not visible:
            return []
        out = [visible[max(visible)]]
        regular = [t for t in sorted(visible, reverse=True) if (t - start) % stride == 0 and t < out[0].frame]
        return out + [visible[t] for t in regular[: places - 1]]

    def choose(self, predictions: Mapping[Node, Prediction], size: tuple[int, int]) -> list[Branch]:
        """Choose the candidate of largest predicted IoU, and decide whether the frame joins the DRM."""
        ((node, prediction),) = predictions.items()
        index = prediction.ious.index(max(prediction.ious))
        masks = resize_logits(prediction.logits[None], size)[0] > 0
        self._joins = self.detector.joins(node.frame + 1, index, prediction.ious[index], masks)
        return [Branch(node, index, {0: 0.0})]

    def child(
        self, frame: int, branch: Branch, predicted: Prediction, candidate: Candidates, memory_map: Tensor
    ) -> Node:
        """Make the node of the chosen candidate; memories that no later frame can read are freed."""
        logits, score = candidate.visible_logits, predicted.score
        memory = Memory(frame, candidate.pointers[:, 0], score, memory_map, selected=bool((logits > 0).any()))
        if self._joins:
            self.prompted.append(memory)
            del self.prompted[1 : -self.settings.drm_frames]
        start, joined = self.prompted[0].frame, {m.frame for m in self.prompted}
        recent = (*branch.parent.recent, memory)
        free = [m.frame for m in recent if m.selected and m.map is not None and m.frame not in joined]
        regular = [t for t in free if (t - start) % self.settings.ram_stride == 0]
        with_map = {frame, *free[-1:], *regular[-TRACKED_MAPS:]}
        kept = tuple(
            m if m.frame in with_map else replace(m, map=None)
            for m in recent
            if m.frame in with_map or frame + 1 - m.frame < self.max_pointers
        )
        return Node(frame, branch.parent, logits, score, memory, kept)


def largest_component(mask: npt.NDArray[np.bool_]) -> Box:
    """Return the box of the largest 8-connected component of a mask (H, W) that is not empty, the first of equals."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
    left, top, width, height = (float(largest[i]) for i in (0, 1, 2, 3))
    return left, top, left + width - 1, top + height - 1


def _union(one: Box, other: Box) -> Box:
    """Return the smallest box around two boxes."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
