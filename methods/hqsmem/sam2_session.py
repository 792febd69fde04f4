"""Smart memory on SAM 2: the policy chooses which tracked frames are remembered, in place of "the last six"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import MemoryPolicy
from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from common.nn.sam2.session import SAM2Session
from common.video import FrameMasks, Prompt

PROMPTED, OLDEST = 6, 5  # rows of SAM 2's temporal table: of prompted frames, of the oldest tracked one
CAPACITY = 7  # prompted and tracked frames


@dataclass(eq=False)
class Stored:
    """A frame that one target remembers: memory map (1, 64, h, w), pointer (1, C) and the mean embedding (C,)."""

    frame: int
    memory: Tensor
    pointer: Tensor
    descriptor: Tensor
    prompted: bool


@dataclass
class Answered:
    """A target's answer: logits (1, S/4, S/4) and occlusion score."""

    logits: Tensor
    score: float


@dataclass
class Target:
    """What is remembered of a target, oldest first, and its last frame, which SAM 2 always reads."""

    stored: list[Stored] = field(default_factory=list)
    last: Stored | None = None


class SAM2SMemSession(SAM2Session):
    """SAM 2 with one hypothesis, reading prompted frames, the frames that the policy keeps, and the last frame.

    Args:
        core: SAM 2, in eval mode.
        policy: asked every ``gap`` frames; it measures relevance on the mean of the frame's embedding (eq. 3).
        gap: frames between two memory updates.
    """

    outside_kinds = ()

    def __init__(self, core: SAM2, policy: MemoryPolicy, gap: int = 5) -> None:
        self.policy, self.gap = policy, gap
        super().__init__(core)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.targets: dict[int, Target] = {}

    @torch.inference_mode()
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: see ``Session.check``; the session is then as if the frame had not been given.
        """
        self.size = self.check(frame, prompts)
        self.frame += 1
        given = {prompt.target: prompt for prompt in prompts}
        if self.targets or given:
            features = self._encode(frame)
            known = [target for target in self.targets if target not in given]
            if known:
                banks = [self._bank(self.targets[target]) for target in known]
                answer = self.sam2.decode(self.sam2.read_many(features, banks), features).best()
                for row, target in enumerate(known):
                    one = answer.rows(torch.tensor([row], device=frame.device))
                    self._keep(features, target, one, False)
            for target, prompt in given.items():
                self._keep(features, target, self._prompt_prediction(features, prompt), True)
        self._pending[self.frame] = tuple(sorted(self.targets))
        return self._pop_final()

    def finish(self) -> list[FrameMasks]:
        """Nothing is ever left open."""
        return []

    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on.

        Raises:
            InputError: the target is not followed.
        """
        if target not in self.targets:
            raise InputError(f"target {target} is not followed; followed are {sorted(self.targets)}")
        del self.targets[target]

    def _bank(self, own: Target) -> Bank:
        """Prompted frames, then tracked ones by rank, newest = first, as in SAM 2's window."""
        assert own.last is not None
        stored = own.stored if own.last in own.stored else [*own.stored, own.last]
        prompted, tracked = ([s for s in stored if s.prompted is kind] for kind in (True, False))
        ranks = range(len(tracked) - 1, -1, -1)
        return Bank(
            maps=[s.memory for s in prompted + tracked],
            slots=[PROMPTED] * len(prompted) + [min(rank, OLDEST) for rank in ranks],
            pointers=[s.pointer for s in prompted + tracked[::-1]],
            offsets=[float(self.frame - s.frame) for s in prompted] + [float(rank + 1) for rank in ranks[::-1]],
        )

    def _keep(self, features: FrameFeatures, target: int, answer: Candidates, prompted: bool) -> None:
        """Answer, and offer the frame to the target's memory."""
        self._final[self.frame][target] = Answered(answer.visible_logits[0], answer.score.item())
        own = self.targets.setdefault(target, Target())
        memory = self.sam2.encode_memory(features, answer).bfloat16()
        described = F.normalize(features.embedding[0].float().flatten(0, -2).mean(0), dim=0)
        own.last = entry = Stored(self.frame, memory, answer.pointers[:, 0], described, prompted)
        due = not own.stored or self.frame - own.stored[-1].frame >= self.gap
        if not (prompted or due):
            return
        own.stored = [old for old in own.stored if old.frame != self.frame]
        remove, store = None, True
        if own.stored:
            remove, store = self.policy.choose(
                torch.tensor([float(self.frame - old.frame) for old in own.stored]),
                torch.stack([old.descriptor for old in own.stored]).cpu() @ described.cpu(),
                torch.tensor([old.prompted for old in own.stored]),
                CAPACITY,
            )
        if remove is not None:
            del own.stored[remove]
        if store or prompted:
            own.stored.append(entry)
