"""Streaming inference of SSLVOS: every frame is answered at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Frame, Session, check_tracked, module_device
from common.nn.transfer import to_device
from common.video import FrameMasks, Prompt
from common.video.masks import without_overlap
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.settings import MemorySettings
from methods.sslvos.tracker import Tracker


@dataclass(frozen=True)
class SessionSettings:
    """How a video is processed; the defaults are the paper's (480).

    Attributes:
        memory: budget and interval of the memory.
        sides: short sides in pixels, one tracker for each, whose probabilities are averaged. Frames with a longer short
            side are resized, others are left as they are; None = the frame's size.
        flip: average over each frame and its mirror image.

    Raises:
        InputError: no short side, or one under 1.
    """

    memory: MemorySettings = field(default_factory=MemorySettings)
    sides: tuple[int | None, ...] = (480,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.sides or any(side is not None and side < 1 for side in self.sides):
            raise InputError(f"sides is {self.sides}; give at least one short side, in pixels")


class SSLVOSSession(Session):
    """A session that takes masks as prompts; targets may join at any frame and be dropped.

    A later mask of a tracked target replaces its prediction on that frame and is memorised.

    Args:
        core: the network, in eval mode.
        settings: how the video is processed.
    """

    correction_kinds = ("mask",)

    def __init__(self, core: SSLVOSNetwork, settings: SessionSettings | None = None) -> None:
        settings = settings or SessionSettings()
        self.trackers = [Tracker(core, settings.memory, side, settings.flip) for side in settings.sides]
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._answer: FrameMasks | None = None  # of the last frame, without corrections
        self._corrections: dict[int, Tensor] = {}  # of the last frame, target -> mask
        for tracker in self.trackers:
            tracker.reset()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return module_device(self.trackers[0].core)

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: a frame of another size, or a prompt that is no mask on the frame, or the second of its target;
                the session is then as if the frame had not been given.
        """
        frame, size = self.check(frame, prompts)
        self.size = size
        self.frame += 1
        self._corrections = {}
        prompt_masks = {p.target: p.mask for p in sorted(prompts, key=lambda p: p.target) if p.mask is not None}
        if not prompt_masks and not self.trackers[0].targets:
            self._answer = FrameMasks(self.frame, (), frame.new_zeros(0, *size, dtype=torch.bool), torch.zeros(0))
            return [self._answer]
        probs = [tracker.step(frame, prompt_masks) for tracker in self.trackers]
        prob = probs[0] if len(probs) == 1 else torch.stack(probs).mean(0)
        self._answer = self._to_masks(prob, {target: mask.to(frame.device) for target, mask in prompt_masks.items()})
        return [self._answer]

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Replace masks of the last frame; see ``Session.correct``. The frame is memorised with them.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        self.check_correction(prompts, self.trackers[0].targets)
        assert self._answer is not None
        self._corrections |= {prompt.target: prompt.mask for prompt in prompts if prompt.mask is not None}
        for tracker in self.trackers:
            tracker.correct(self._corrections)
        return self._answer.with_masks(self._corrections)

    def finish(self) -> list[FrameMasks]:
        """Return nothing: every frame has been answered."""
        return []

    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on.

        Raises:
            InputError: the target is not tracked.
        """
        targets = self.trackers[0].targets
        check_tracked(target, targets)
        for tracker in self.trackers:
            tracker.drop(target)

    def _to_masks(self, prob: Tensor, prompt_masks: dict[int, Tensor]) -> FrameMasks:
        """Assign each pixel to the target of largest probability; prompt masks are returned unchanged.

        The score of a target is its largest probability on the frame.

        Args:
            prob: (N + 1, H, W), background first, targets in the order in which they joined.
            prompt_masks: target -> mask bool (H, W) on this frame.
        """
        targets = self.trackers[0].targets
        if prompt_masks:
            rows = to_device([targets.index(target) + 1 for target in prompt_masks], prob.device)
            masks = without_overlap(torch.stack(list(prompt_masks.values())))
            prob = torch.where(masks.any(0), 0.0, prob).index_copy(0, rows, masks.to(prob.dtype))
        row = to_device([targets.index(target) + 1 for target in sorted(targets)], prob.device)
        masks = prob.argmax(0) == row[:, None, None]
        return FrameMasks(self.frame, tuple(sorted(targets)), masks, prob[row].amax((1, 2)).float())
