"""Base of the sessions on SAM 2: predictions from prompts, and frames that wait until all their targets are final."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from common.inference.session import Session
from common.nn.preprocessing import resize_logits
from common.nn.sam2.model import SAM2
from common.nn.sam2.postprocess import PLAIN, PostProcessing
from common.nn.sam2.prompts import prompt_points, resize_mask_prompts
from common.nn.sam2.types import LOGIT_LIMIT, Candidates, FrameFeatures
from common.video import FrameMasks, MaskCandidates, Prompt


class Answer(Protocol):
    """The prediction of one target on one frame."""

    @property
    def logits(self) -> Tensor:
        """Mask logits float32 (..., S/4, S/4) with one mask in the leading dimensions, on any device."""

    @property
    def score(self) -> float:
        """Occlusion score, > 0 = the target is visible."""


@dataclass
class ReadFrame:
    """What corrections of the last frame need.

    Attributes:
        features: of the frame.
        embeddings: by tracked target, the features conditioned on the memory that the frame was read with,
            (1, C, h, w).
        points: by target, the points that it has been given on the frame, (1, P, 2), with labels (1, P).
    """

    features: FrameFeatures
    embeddings: dict[int, Tensor] = field(default_factory=dict)
    points: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class SAM2Session(Session):
    """A session on SAM 2 whose masks may be returned later than their frames are given.

    A subclass puts the targets of each frame into ``_pending`` and their final predictions into ``_final``, in any
    order; ``_pop_final`` returns the frames in order as soon as all their targets are final.

    Args:
        sam2: the network, in eval mode.
        options: post-processing of the masks.
    """

    kinds = ("mask", "box", "points")
    outside_kinds: tuple[str, ...] = ("mask", "box")
    settable: tuple[str, ...] = ("overlap", "keep_logits", "keep_candidates")

    def __init__(self, sam2: SAM2, options: PostProcessing = PLAIN) -> None:
        self.sam2, self.options = sam2, options
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._pending: dict[int, tuple[int, ...]] = {}  # frames not yet returned -> their targets
        self._final: dict[int, dict[int, Answer]] = defaultdict(dict)  # frame -> target -> prediction
        # of the frames that are pending, and of the last one
        self._given: dict[int, set[int]] = defaultdict(set)  # frame -> targets whose mask the user gave
        self._candidates: dict[int, dict[int, Candidates]] = defaultdict(dict)  # frame -> target -> of one point

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.sam2.position.device

    def _encode(self, image: Tensor) -> FrameFeatures:
        """Encode an image uint8 (H, W, 3)."""
        return self.sam2.encode(self.sam2.preprocess(image.permute(2, 0, 1)[None]))

    def _clean(self, answer: Candidates) -> Candidates:
        """Fill holes and remove sprinkles of an answer, as the options say."""
        return replace(answer, logits=self.options.clean(answer.logits.float()))

    def _note(self, prompt: Prompt, decoded: Candidates) -> None:
        """Note what ``_masks`` has to know about a prompt on the last frame.

        Args:
            prompt: on a frame of the video.
            decoded: B = 1, K = 3 where the prompt was ambiguous.
        """
        at, target = self.frame, prompt.target
        self._candidates[at].pop(target, None)
        self._given[at].discard(target)
        if prompt.mask is not None:
            self._given[at].add(target)
        elif self.keep_candidates and decoded.logits.shape[1] > 1:
            self._candidates[at][target] = decoded

    def _decode_prompt(self, features: FrameFeatures, prompt: Prompt) -> Candidates:
        """Predict the target's mask on the frame or query image that carries its prompt.

        A mask prompt is the prediction; points and boxes are decoded without memory. One point is ambiguous and has
        three candidates, of which SAM 2 takes the one of largest predicted IoU.

        Args:
            features: of the prompted image.
            prompt: its pixels are those of that image.

        Returns:
            B = 1, K = 3 for one point, else K = 1.
        """
        side, device = self.sam2.image_size, features.embedding.device
        if prompt.mask is not None:
            return self.sam2.take_mask(features, resize_mask_prompts(prompt.mask.to(device)[None], side).float())
        return self._decode_points(self.sam2.without_memory(features), features, *self._points(prompt))

    def _points(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Return the points (1, P, 2) and labels (1, P) of a box and / or points, see ``prompt_points``."""
        assert self.size is not None
        height, width = self.size if prompt.image is None else prompt.image.shape[:2]
        points, labels = prompt_points(prompt, (height, width), self.sam2.image_size)
        device = self.sam2.position.device
        return points.to(device), labels.to(device)

    def _decode_points(
        self,
        embedding: Tensor,
        features: FrameFeatures,
        points: Tensor,
        labels: Tensor,
        logits: Tensor | None = None,
    ) -> Candidates:
        """Decode points: three candidates of a single one, else one candidate.

        Args:
            embedding: (1, C, h, w), with or without memory.
            features: of the frame.
            points: (1, P, 2).
            labels: (1, P).
            logits: float32 (1, 1, S/4, S/4) of the answer that they correct; clamped to ``LOGIT_LIMIT``.
        """
        return self.sam2.decode(
            embedding,
            features,
            points,
            labels,
            mask=None if logits is None else logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT),
            multimask=points.shape[1] == 1,
            dynamic_multimask=self.options.dynamic_multimask,
        )

    def _decode_correction(self, last: ReadFrame, prompt: Prompt, logits: Tensor | None) -> Candidates:
        """Decode a correction as the ``sam2`` package does.

        Points are added to the earlier points of the target on this frame and decoded with the memory that the frame
        was read with, none on a frame where the target was prompted; a box takes the place of earlier points. The
        earlier logits are fed back. A mask is the answer.

        Args:
            last: the frame; the points of the target are added to it.
            prompt: on the frame.
            logits: float32 (1, 1, S/4, S/4) of the answer that it corrects; not read for a mask.

        Returns:
            B = 1, K = 3 for one point, else K = 1.
        """
        target = prompt.target
        if prompt.mask is not None:
            last.points.pop(target, None)
            return self._decode_prompt(last.features, prompt)
        points, labels = self._points(prompt)
        if prompt.box is None and target in last.points:
            before = last.points[target]
            points, labels = torch.cat([before[0], points], 1), torch.cat([before[1], labels], 1)
        embedding = last.embeddings.get(target)
        if embedding is None:
            embedding = self.sam2.without_memory(last.features)
        last.points[target] = points, labels
        return self._decode_points(embedding, last.features, points, labels, logits)

    def _pop_final(self) -> list[FrameMasks]:
        """Remove and return the oldest pending frames, in order, up to the first with a target that is not final."""
        out = []
        while self._pending:
            frame, targets = next(iter(self._pending.items()))
            if len(self._final[frame]) < len(targets):
                break
            del self._pending[frame]
            answers = self._final.pop(frame)
            out.append(self._masks(frame, targets, [answers[target] for target in targets]))
            if frame < self.frame:
                self._given.pop(frame, None)
                self._candidates.pop(frame, None)
        for notes in (self._given, self._candidates):  # of the frames before, which were kept for a correction
            for frame in [at for at in notes if at < self.frame and at not in self._pending]:
                del notes[frame]
        return out

    def _masks(self, frame: int, targets: tuple[int, ...], answers: list[Answer]) -> FrameMasks:
        """Resize the logits of a frame's targets to the size of the video and threshold them."""
        assert self.size is not None
        if not targets:
            return FrameMasks(frame, (), torch.zeros(0, *self.size, dtype=torch.bool), torch.zeros(0))
        device = self.sam2.position.device
        stacked = torch.stack([answer.logits.to(device).view(1, *answer.logits.shape[-2:]) for answer in answers])
        logits = resize_logits(stacked, self.size)[:, 0]
        scores = torch.tensor([answer.score for answer in answers])
        given = self._given.get(frame, set())
        masks = FrameMasks.from_logits(frame, targets, logits, scores, self.overlap, given)
        if not (self.keep_logits or self.keep_candidates):
            return masks
        candidates = None
        if self.keep_candidates:
            candidates = {
                target: MaskCandidates(resize_logits(offered.visible_logits, self.size)[0] > 0, offered.ious[0].float())
                for target, offered in self._candidates.get(frame, {}).items()
                if target in targets
            }
        return replace(masks, logits=logits if self.keep_logits else None, candidates=candidates)
