"""Base of the sessions on SAM 2: predictions from prompts, and frames that wait until all their targets are final."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

import torch
from torch import Tensor

from common.inference.session import Session
from common.nn.preprocessing import resize_logits
from common.nn.sam2.model import SAM2
from common.nn.sam2.prompts import prompt_points, resize_mask_prompts
from common.nn.sam2.types import Candidates, FrameFeatures
from common.video import FrameMasks, Prompt


class Answer(Protocol):
    """The prediction of one target on one frame."""

    @property
    def logits(self) -> Tensor:
        """Mask logits float32 (..., S/4, S/4) with one mask in the leading dimensions, on any device."""

    @property
    def score(self) -> float:
        """Occlusion score, > 0 = the target is visible."""


class SAM2Session(Session):
    """A session on SAM 2 whose masks may be returned later than their frames are given.

    A subclass puts the targets of each frame into ``_pending`` and their final predictions into ``_final``, in any
    order; ``_pop_final`` returns the frames in order as soon as all their targets are final.

    Args:
        sam2: the network, in eval mode.
    """

    kinds = ("mask", "box", "points")
    outside_kinds: tuple[str, ...] = ("mask", "box")

    def __init__(self, sam2: SAM2) -> None:
        self.sam2 = sam2
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._pending: dict[int, tuple[int, ...]] = {}  # frames not yet returned -> their targets
        self._final: dict[int, dict[int, Answer]] = defaultdict(dict)  # frame -> target -> prediction

    def _encode(self, image: Tensor) -> FrameFeatures:
        """Encode an image uint8 (H, W, 3)."""
        return self.sam2.encode(self.sam2.preprocess(image.permute(2, 0, 1)[None]))

    def _prompt_prediction(self, features: FrameFeatures, prompt: Prompt) -> Candidates:
        """Predict the target's mask on the frame or query image that carries its prompt.

        A mask prompt is the prediction; points and boxes are decoded without memory. One point is ambiguous: of its
        three candidates the one of largest predicted IoU is taken, as in SAM 2.

        Args:
            features: of the prompted image.
            prompt: its pixels are those of that image.

        Returns:
            B = 1, K = 1.
        """
        side, device = self.sam2.image_size, features.embedding.device
        assert self.size is not None
        height, width = self.size if prompt.image is None else prompt.image.shape[:2]
        if prompt.mask is not None:
            return self.sam2.take_mask(features, resize_mask_prompts(prompt.mask.to(device)[None], side).float())
        points, labels = (x.to(device) for x in prompt_points(prompt, (height, width), side))
        embedding = self.sam2.without_memory(features)
        return self.sam2.decode(embedding, features, points, labels, multimask=points.shape[1] == 1).best()

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
        return out

    def _masks(self, frame: int, targets: tuple[int, ...], answers: list[Answer]) -> FrameMasks:
        """Resize the logits of a frame's targets to the size of the video and threshold them."""
        assert self.size is not None
        if not targets:
            return FrameMasks(frame, (), torch.zeros(0, *self.size, dtype=torch.bool), torch.zeros(0))
        device = self.sam2.position.device
        stacked = torch.stack([answer.logits.to(device).view(1, *answer.logits.shape[-2:]) for answer in answers])
        logits = resize_logits(stacked, self.size)[:, 0]
        return FrameMasks.from_logits(frame, targets, logits, torch.tensor([answer.score for answer in answers]))
