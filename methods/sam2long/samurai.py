"""SAMURAI (arXiv 2411.11922): masks are chosen, and memories selected, by predicted IoU and by motion.

The box of the target is predicted by a Kalman filter. Once the track has been stable for some frames, the mask is taken
whose predicted IoU and whose overlap with the predicted box have the largest weighted sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from common.errors import InputError
from common.nn.preprocessing import resize_logits
from common.nn.sam2 import Bank, Candidates
from common.nn.sam2.types import PROMPT_SLOT, TRACKED_MAPS
from methods.sam2long.motion import Box, BoxFilter, box_iou, mask_boxes
from methods.sam2long.pathways import Branch, Memory, Node, Prediction, TargetMemory


@dataclass(frozen=True)
class SamuraiSettings:
    """Hyper-parameters of SAMURAI; the defaults are those of the paper and of the released code for Hiera-L.

    Attributes:
        motion_weight: α_kf, weight of the overlap with the predicted box against the predicted IoU, in [0, 1]. The
            released configurations of Hiera-T, -S and -B+ have 0.25.
        stable_frames: number of frames with a predicted IoU above ``stable_iou`` after which motion takes part in the
            choice (τ_kf of the text).
        stable_iou: predicted IoU below which the track is no longer stable and the filter starts again.
        memory_iou: τ_mask, predicted IoU above which the map of a frame is read later.
        memory_score: τ_obj, the same for the occlusion score.
        memory_motion: τ_kf, the same for the overlap with the predicted box, where there is one.
        presence: occlusion score above which the target has a mask and an object pointer; 0 in SAM 2.

    Raises:
        InputError: a weight outside [0, 1].
    """

    motion_weight: float = 0.15
    stable_frames: int = 15
    stable_iou: float = 0.3
    memory_iou: float = 0.5
    memory_score: float = 0.0
    memory_motion: float = 0.0
    presence: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.motion_weight <= 1:
            raise InputError(f"SAMURAI: motion_weight is {self.motion_weight}; give 0 to 1")


class MotionModel:
    """Choice of the mask by predicted IoU and motion (the paper's equations 4 to 8), on plain numbers.

    Args:
        settings: hyper-parameters.
    """

    def __init__(self, settings: SamuraiSettings) -> None:
        self.settings = settings
        self.filter: BoxFilter | None = None
        self.stable = 0

    def choose(self, ious: list[float], boxes: list[Box]) -> tuple[int, float | None]:
        """Choose a candidate and update the filter by its box.

        Args:
            ious: predicted IoU of each candidate.
            boxes: box of each candidate, in pixels of one image.

        Returns:
            Index of the candidate, and the overlap of its box with the predicted one; None while the track is not
            stable, when the largest predicted IoU decides alone.
        """
        settings = self.settings
        if self.filter is None or self.stable == 0:
            index = ious.index(max(ious))
            self.filter, self.stable = BoxFilter(boxes[index]), 1
            return index, None
        self.filter.predict()
        if self.stable < settings.stable_frames:
            index = ious.index(max(ious))
            if ious[index] > settings.stable_iou:
                self.filter.update(boxes[index])
                self.stable += 1
            else:
                self.stable = 0
            return index, None
        overlaps = [box_iou(self.filter.box, box) if any(box) else 0.0 for box in boxes]
        weight = settings.motion_weight
        sums = [weight * overlap + (1 - weight) * iou for overlap, iou in zip(overlaps, ious, strict=True)]
        index = sums.index(max(sums))
        if ious[index] < settings.stable_iou:
            self.stable = 0
        else:
            self.filter.update(boxes[index])
        return index, overlaps[index]


class SamuraiMemory(TargetMemory):
    """One pathway that is chosen by ``MotionModel``.

    It reads the maps of the six newest frames that were selected, numbered by rank, the previous frame in any case, and
    SAM 2's pointers of the last 15 frames. The first tracked frame is read as the previous one only, as in the released
    code.

    Args:
        settings: hyper-parameters.
        max_pointers: min(number of frames, 16); 16 where the length is unknown.
    """

    def __init__(self, settings: SamuraiSettings, max_pointers: int = 16) -> None:
        super().__init__(1, max_pointers)
        self.settings = settings
        self.motion = MotionModel(settings)
        self._overlap: float | None = None

    def bank(self, node: Node, frame: int) -> Bank:
        """Return the memories that the next frame reads."""
        maps = [m for m in node.recent if m.map is not None and (m.selected or m is node.memory)][-TRACKED_MAPS:]
        prompted, past, _ = self.readable(frame)
        pointers = [m for m in reversed(node.recent) if frame - m.frame < self.max_pointers]
        return Bank(
            maps=[m.map for m in prompted + maps if m.map is not None],
            slots=[PROMPT_SLOT] * len(prompted) + list(range(len(maps) - 1, -1, -1)),
            pointers=[m.pointer for m in past + pointers],
            offsets=[float(frame - m.frame) for m in past + pointers],
            max_pointers=self.max_pointers,
        )

    def choose(self, predictions: Mapping[Node, Prediction], size: tuple[int, int]) -> list[Branch]:
        """Choose by predicted IoU and motion; boxes are measured at the size of the network's input."""
        ((node, prediction),) = predictions.items()
        side = 4 * prediction.logits.shape[-1]
        boxes = mask_boxes(resize_logits(prediction.logits[None], (side, side))[0] > 0)
        index, self._overlap = self.motion.choose(prediction.ious, boxes)
        return [Branch(node, index, {0: 0.0})]

    def child(
        self, frame: int, branch: Branch, predicted: Prediction, candidate: Candidates, memory_map: Tensor
    ) -> Node:
        """Make the node of the chosen candidate."""
        settings, iou, score = self.settings, predicted.ious[branch.candidate], predicted.score
        memory = Memory(
            frame,
            candidate.pointers[:, 0],
            score,
            memory_map,
            selected=frame - self.prompted[0].frame > 1
            and iou > settings.memory_iou
            and score > settings.memory_score
            and (self._overlap is None or self._overlap > settings.memory_motion),
        )
        recent = (*branch.parent.recent, memory)
        with_map = {m.frame for m in [m for m in recent if m.selected and m.map is not None][-TRACKED_MAPS:]} | {frame}
        kept = tuple(
            m if m.frame in with_map else replace(m, map=None)
            for m in recent
            if m.frame in with_map or frame + 1 - m.frame < self.max_pointers
        )
        return Node(frame, branch.parent, candidate.visible_logits, score, memory, kept)
