"""Smart memory on SAM 2: the policy decides which tracked frames are stored, in place of the last six."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inference.session import Frame, check_tracked
from common.nn.memory_policy import MemoryPolicy
from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from common.nn.sam2.session import ReadFrame, SAM2Session
from common.video import FrameMasks, Prompt

PROMPTED_SLOT, OLDEST_SLOT = 6, 5  # rows of SAM 2's temporal table: of prompted frames, of the oldest tracked one
CAPACITY = 7  # prompted and tracked frames of a target


@dataclass(eq=False)
class MemoryFrame:
    """A frame in a target's memory.

    Attributes:
        frame: its index.
        memory: memory map (1, 64, h, w).
        pointer: object pointer (1, C).
        descriptor: mean of the frame's embedding (C,), of unit length.
        prompted: whether the target has a prompt on it.
    """

    frame: int
    memory: Tensor
    pointer: Tensor
    descriptor: Tensor
    prompted: bool


@dataclass
class TargetPrediction:
    """A target's mask on a frame.

    Attributes:
        logits: (1, S/4, S/4), S the side of SAM 2's input.
        score: occlusion score.
    """

    logits: Tensor
    score: float


@dataclass
class TargetMemory:
    """The memory of one target.

    Attributes:
        stored: oldest first.
        last: the target's last frame, which SAM 2 reads whether it is stored or not.
    """

    stored: list[MemoryFrame] = field(default_factory=list)
    last: MemoryFrame | None = None


class SAM2SMemSession(SAM2Session):
    """SAM 2 with one hypothesis. It reads prompted frames, the frames that the policy stores, and the last frame.

    Args:
        network: SAM 2, in eval mode.
        policy: decides every ``gap`` frames; relevance (eq. 3) is measured on the mean of the frame's embedding.
        gap: frames between two memory updates.
    """

    outside_kinds = ()
    correction_kinds = ("mask", "box", "points")

    def __init__(self, network: SAM2, policy: MemoryPolicy, gap: int = 5) -> None:
        self.policy, self.gap = policy, gap
        super().__init__(network)

    def reset(self) -> None:
        """Return to the state of a new session."""
        super().reset()
        self.targets: dict[int, TargetMemory] = {}
        self._last: ReadFrame | None = None
        self._answers: dict[int, TargetPrediction] = {}  # of the last frame

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Args:
            frame: uint8 (H, W, 3).
            prompts: at most one for each target.

        Raises:
            InputError: see ``Session.check``; the state of the session is unchanged then.
        """
        frame, self.size = self.check(frame, prompts)
        self.frame += 1
        prompt_of = {prompt.target: prompt for prompt in prompts}
        self._last, self._answers = None, {}
        if self.targets or prompt_of:
            self._last = ReadFrame(features := self._encode(frame))
            rest = [target for target in self.targets if target not in prompt_of]
            if rest:
                banks = [self._bank(self.targets[target]) for target in rest]
                embedding = self.sam2.read_many(features, banks)
                predictions = self.sam2.decode(embedding, features).best()
                for row, target in enumerate(rest):
                    self._last.embeddings[target] = embedding[row : row + 1].clone()
                    prediction = predictions.rows(torch.tensor([row], device=frame.device))
                    self._update(features, target, prediction, False)
            for target, prompt in prompt_of.items():
                decoded = self._decode_prompt(features, prompt)
                self._note(prompt, decoded)
                if prompt.mask is None:
                    self._last.points[target] = self._points(prompt)
                self._update(features, target, self._clean(decoded.best()), True)
        self._pending[self.frame] = tuple(sorted(self.targets))
        return self._pop_final()

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Correct the answer for the last frame; see ``Session.correct`` and ``SAM2Session._decode_correction``.

        The corrected frame stays a tracked one where it was: the policy may remove it. One that was not stored is
        offered to the memory.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        last = self._last
        self.check_correction(prompts, [target for target in self._answers if target in self.targets])
        assert last is not None
        for prompt in prompts:
            memory = self.targets[prompt.target]
            assert memory.last is not None
            decoded = self._decode_correction(last, prompt, self._answers[prompt.target].logits[None])
            self._note(prompt, decoded)
            answer = self._clean(decoded.best())
            self._answers[prompt.target] = TargetPrediction(answer.visible_logits[0], answer.score.item())
            memory.last.memory = self.sam2.encode_memory(last.features, answer).bfloat16()
            memory.last.pointer = answer.pointers[:, 0]
            if memory.last not in memory.stored:
                self._offer(memory, memory.last)
        targets = tuple(sorted(self._answers))
        return self._masks(self.frame, targets, [self._answers[target] for target in targets])

    def finish(self) -> list[FrameMasks]:
        """Return nothing: every frame has been answered."""
        return []

    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self.targets)
        del self.targets[target]

    def _bank(self, target: TargetMemory) -> Bank:
        """Arrange a target's memory as SAM 2's window: prompted frames, then tracked ones, the newest in slot 0."""
        assert target.last is not None
        stored = target.stored if target.last in target.stored else [*target.stored, target.last]
        prompted, tracked = ([s for s in stored if s.prompted is kind] for kind in (True, False))
        # SAM 2's pointers are ordered newest first, its memory maps oldest first.
        ranks = range(len(tracked) - 1, -1, -1)
        return Bank(
            maps=[s.memory for s in prompted + tracked],
            slots=[PROMPTED_SLOT] * len(prompted) + [min(rank, OLDEST_SLOT) for rank in ranks],
            pointers=[s.pointer for s in prompted + tracked[::-1]],
            offsets=[float(self.frame - s.frame) for s in prompted] + [float(rank + 1) for rank in ranks[::-1]],
        )

    def _update(self, features: FrameFeatures, target: int, prediction: Candidates, prompted: bool) -> None:
        """Answer a target on the frame, and offer the frame to its memory."""
        self._answers[target] = TargetPrediction(prediction.visible_logits[0], prediction.score.item())
        self._final[self.frame][target] = self._answers[target]
        memory = self.targets.setdefault(target, TargetMemory())
        memory_map = self.sam2.encode_memory(features, prediction).bfloat16()
        descriptor = F.normalize(features.embedding[0].float().flatten(0, -2).mean(0), dim=0)
        entry = MemoryFrame(self.frame, memory_map, prediction.pointers[:, 0], descriptor, prompted)
        memory.last = entry
        # Counted from the newest stored frame, so that a frame which was not stored is followed by another offer.
        due = not memory.stored or self.frame - memory.stored[-1].frame >= self.gap
        if prompted or due:
            self._offer(memory, entry)

    def _offer(self, memory: TargetMemory, entry: MemoryFrame) -> None:
        """Store the entry if the policy wants it, after the removal that it asks for; prompted frames always are."""
        remove, store = None, True
        if memory.stored:
            remove, store = self.policy.choose(
                torch.tensor([float(entry.frame - old.frame) for old in memory.stored]),
                torch.stack([old.descriptor for old in memory.stored]).cpu() @ entry.descriptor.cpu(),
                torch.tensor([old.prompted for old in memory.stored]),
                CAPACITY,
            )
        if remove is not None:
            del memory.stored[remove]
        if store or entry.prompted:
            memory.stored.append(entry)
