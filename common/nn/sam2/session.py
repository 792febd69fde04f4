"""What sessions on SAM 2 share: its prompts, and frames that wait until all their targets are decided."""

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
    """One target on one frame: logits float32 (..., S/4, S/4) of one mask, and the occlusion score."""

    @property
    def logits(self) -> Tensor: ...

    @property
    def score(self) -> float: ...


class SAM2Session(Session):
    """Inference on SAM 2, with answers that may come later than their frames.

    Args:
        core: SAM 2, in eval mode.
    """

    kinds = ("mask", "box", "points")
    outside_kinds: tuple[str, ...] = ("mask", "box")

    def __init__(self, core: SAM2) -> None:
        self.core = core
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._due: dict[int, tuple[int, ...]] = {}  # frames not yet answered -> their targets
        self._decided: dict[int, dict[int, Answer]] = defaultdict(dict)

    def _encode(self, image: Tensor) -> FrameFeatures:
        return self.core.encode(self.core.preprocess(image.permute(2, 0, 1)[None]))

    def _taken(self, features: FrameFeatures, prompt: Prompt) -> Candidates:
        """The answer on a prompted frame or query image: a mask as it is; points and boxes decoded without memory."""
        side, device = self.core.image_size, features.embedding.device
        assert self.size is not None
        height, width = self.size if prompt.image is None else prompt.image.shape[:2]
        if prompt.mask is not None:
            return self.core.take_mask(features, resize_mask_prompts(prompt.mask.to(device)[None], side).float())
        points, labels = (x.to(device) for x in prompt_points(prompt, (height, width), side))
        embedding = self.core.without_memory(features)
        return self.core.decode(embedding, features, points, labels, multimask=points.shape[1] == 1).best()

    def _released(self) -> list[FrameMasks]:
        """The frames, in order, whose targets are all decided."""
        out = []
        while self._due:
            frame, targets = next(iter(self._due.items()))
            if len(self._decided[frame]) < len(targets):
                break
            del self._due[frame]
            answers = self._decided.pop(frame)
            out.append(self._masks(frame, targets, [answers[target] for target in targets]))
        return out

    def _masks(self, frame: int, targets: tuple[int, ...], answers: list[Answer]) -> FrameMasks:
        assert self.size is not None
        if not targets:
            return FrameMasks(frame, (), torch.zeros(0, *self.size, dtype=torch.bool), torch.zeros(0))
        stacked = torch.stack([answer.logits.view(1, *answer.logits.shape[-2:]) for answer in answers])
        logits = resize_logits(stacked, self.size)[:, 0]
        return FrameMasks.from_logits(frame, targets, logits, torch.tensor([answer.score for answer in answers]))
