"""VQ-SAM on a stream: clip by clip, each from the query alone, so that memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.sam2 import FrameFeatures
from common.nn.sam2.session import SAM2Session
from common.video import FrameMasks, Prompt
from methods.vqsam.model import Query, VQSAMNetwork
from methods.vqsam.prompts import prompt_mask


@dataclass
class Answer:
    """One target on one frame: logits float32 (S/4, S/4) and the occlusion score."""

    logits: Tensor
    score: float

    @property
    def sureness(self) -> float:
        """How far from undecided."""
        return abs(self.score)


@dataclass
class Target:
    """A target in search.

    Attributes:
        query: what it looks like.
        clip: frames of the clip that is being filled.
        open: answers of the last clip to those of its frames that are in this clip too.
    """

    query: Query
    clip: list[int] = field(default_factory=list)
    open: dict[int, Answer] = field(default_factory=dict)


class VQSAMSession(SAM2Session):
    """Frame in, masks out, a clip at a time.

    The clips of a target begin with the frame that brought its query, or after it where that frame is the query. The
    last clip of a video, or of a target that is dropped, may be shorter. An answer comes at most ``clip_length`` - 1
    frames late. Held are the features of fewer than ``clip_length`` frames, and for each target S/4 logits of as many.

    Args:
        model: in eval mode.
        clip_length: frames looked at together.
        overlap: frames that two clips share; of their two answers the surer one counts, by the size of the occlusion
            score, the earlier on ties.
    """

    def __init__(self, model: VQSAMNetwork, clip_length: int = 7, overlap: int = 0) -> None:
        self.model, self.clip_length, self.overlap = model, clip_length, overlap
        super().__init__(model.core)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.targets: dict[int, Target] = {}
        self._features: dict[int, FrameFeatures] = {}

    @torch.inference_mode()
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``. A mask or a box may lie on an outside image.

        Raises:
            InputError: see ``Session.check``; the session is then as if the frame had not been given.
        """
        self.size = self.check(frame, prompts)
        self.frame += 1
        if self.targets or prompts:
            self._features[self.frame] = self._encode(frame)
        given = {prompt.target: prompt for prompt in prompts}
        for target, prompt in given.items():
            self._prompt(target, prompt, frame.device)
        for target, state in self.targets.items():
            if target not in given or given[target].image is not None:
                state.clip.append(self.frame)
                if len(state.clip) == self.clip_length:
                    self._search(target, state, self.overlap)
        self._due[self.frame] = tuple(sorted(self.targets))
        return self._answers()

    @torch.inference_mode()
    def finish(self) -> list[FrameMasks]:
        """The frames of the clips that are not full."""
        for target, state in self.targets.items():
            self._search(target, state, 0)
        return self._answers()

    @torch.inference_mode()
    def drop(self, target: int) -> None:
        """Stop searching a target from the next frame on; its open frames are decided as they are.

        Raises:
            InputError: the target is not followed.
        """
        if target not in self.targets:
            raise InputError(f"target {target} is not followed; followed are {sorted(self.targets)}")
        self._search(target, self.targets.pop(target), 0)

    def _prompt(self, target: int, prompt: Prompt, device: torch.device) -> None:
        """Begin a target anew. A frame that is itself the query is answered by it, as SAM 2 answers prompted frames."""
        if target in self.targets:
            self._search(target, self.targets.pop(target), 0)
        assert self.size is not None
        if prompt.image is not None:
            features, size = self._encode(prompt.image.to(device)), (prompt.image.shape[0], prompt.image.shape[1])
        else:
            features, size = self._features[self.frame], self.size
        mask = prompt_mask(self.core, features, prompt, size)
        self.targets[target] = Target(self.model.look(features, mask))
        if prompt.image is None:
            answer = self.core.take_mask(features, mask)
            self._decided[self.frame][target] = Answer(answer.visible_logits[0, 0], float(answer.score))

    def _search(self, target: int, state: Target, keep: int) -> None:
        """Look through the clip; its last ``keep`` frames stay open and begin the next one."""
        if len(state.clip) > len(state.open):
            frames = [self._features[frame] for frame in state.clip]
            fine = (torch.cat([f.fine[level] for f in frames]) for level in range(2))
            clip = FrameFeatures(torch.cat([f.embedding for f in frames]), (next(fine), next(fine)))
            rows = torch.arange(len(frames), device=clip.embedding.device)[None]
            best = self.model(clip, rows, state.query)[-1].best()
            for frame, logits, score in zip(state.clip, best.visible_logits[:, 0], best.score.tolist(), strict=True):
                new = Answer(logits.clone(), score)
                old = state.open.get(frame, new)
                state.open[frame] = new if new.sureness > old.sureness else old
        last = state.clip[len(state.clip) - keep :]
        for frame in state.clip[: len(state.clip) - keep]:
            self._decided[frame][target] = state.open.pop(frame)
        state.clip = last

    def _answers(self) -> list[FrameMasks]:
        """The frames, in order, whose targets are all decided; features that no clip needs go."""
        needed = {frame for state in self.targets.values() for frame in state.clip}
        self._features = {frame: kept for frame, kept in self._features.items() if frame in needed}
        return self._released()
