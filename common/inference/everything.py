"""Tracking of everything: the masks that a method finds on the first and on every K-th frame become targets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.inference.session import Frame, Method, Session
from common.video import VOID, FrameMasks, Prompt

FREE = 0.5
"""Share of a mask that no target may cover for the mask to become a target."""
LAST_TARGET = VOID - 1

logger = logging.getLogger(__name__)


class Proposer(Method, Protocol):
    """A method that finds masks without a prompt."""

    def propose_masks(self, frame: Tensor) -> Tensor:
        """Find the masks of a frame uint8 (H, W, 3): bool (N, H, W), the best first."""


class Everything:
    """A method whose sessions track everything, besides what they are asked to track.

    Args:
        method: finds the masks and tracks them.
        every: K; masks are looked for on the frames 0, K, 2K ...; 0 = on the first frame only.
    """

    def __init__(self, method: Proposer, every: int = 0) -> None:
        self.method, self.every = method, every

    @property
    def device(self) -> torch.device:
        """Device of the method."""
        return self.method.device

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks of the method."""
        return self.method.networks()

    def session(self, length: int | None = None) -> EverythingSession:
        """Open a session.

        Args:
            length: number of frames, where it is known.
        """
        return EverythingSession(self.method.session(length), self.method, self.every)


class EverythingSession(Session):
    """A session in which the masks that a method finds become targets.

    A mask becomes a target if at least half of it is covered neither by the masks of the last answer nor by those
    accepted before it on the same frame. Ids go on from the largest one in use; there are at most 254 targets.

    Args:
        inner: tracks the targets; it takes masks.
        method: finds the masks.
        every: see ``Everything``.

    The first mask beyond them is reported by a warning.
    """

    def __init__(self, inner: Session, method: Proposer, every: int = 0) -> None:
        self.inner, self.method, self.every = inner, method, every
        self.kinds, self.outside_kinds = inner.kinds, inner.outside_kinds
        self.correction_kinds, self.ahead_kinds = inner.correction_kinds, inner.ahead_kinds
        self.settable, self.overlap = inner.settable, inner.overlap
        self._begin()

    def ask(self, *names: str) -> None:
        """Ask the inner session; see ``Session.ask``."""
        self.inner.ask(*names)
        super().ask(*names)

    def _begin(self) -> None:
        self.frame, self.size = -1, None
        self._last, self._full = 0, False
        self._followed: Tensor | None = None  # union of the masks of the last answer, bool (H, W)

    @property
    def device(self) -> torch.device:
        """Device of the session that tracks."""
        return self.inner.device

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: see ``Session.check``; or nothing is found on the first frame, the only one looked at.
        """
        frame, _ = self.inner.check(frame, prompts)
        index = self.frame + 1
        self._last = max([self._last, *(prompt.target for prompt in prompts)])
        found = []
        if index == 0 or (self.every and index % self.every == 0):
            found = self._new_targets(frame, prompts, index)
        answers = self.inner.step(frame, [*prompts, *found])
        self._last += len(found)
        self.frame, self.size = index, self.inner.size
        self._remember(answers)
        return answers

    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Correct the answer for the last frame taken; see ``Session.correct``."""
        answer = self.inner.correct(prompts)
        self._remember([answer])
        return answer

    def prompt_ahead(self, index: int, frame: Frame, prompts: Sequence[Prompt]) -> None:
        """Give the prompts of a later frame in advance; see ``Session.prompt_ahead``. Their ids are not given anew."""
        self.inner.prompt_ahead(index, frame, prompts)
        self.size = self.inner.size
        self._last = max([self._last, *(prompt.target for prompt in prompts)])

    def finish(self) -> list[FrameMasks]:
        """Return the remaining answers."""
        return self.inner.finish()

    def drop(self, target: int) -> None:
        """Stop tracking a target; what it covers may become another one."""
        self.inner.drop(target)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.inner.reset()
        self._begin()

    def _remember(self, answers: Sequence[FrameMasks]) -> None:
        if answers:
            self._followed = answers[-1].masks.any(0)

    def _new_targets(self, frame: Tensor, prompts: Sequence[Prompt], index: int) -> list[Prompt]:
        """Return the found masks that are no targets yet as prompts."""
        masks = self.method.propose_masks(frame)
        taken = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
        for mask in [self._followed, *(prompt.mask for prompt in prompts if prompt.image is None)]:
            if mask is not None:
                taken |= mask.to(taken.device)
        found: list[Prompt] = []
        for mask in masks:
            area = int(mask.sum())
            if not area or int((mask & ~taken).sum()) < FREE * area:
                continue
            target = self._last + len(found) + 1
            if target > LAST_TARGET:
                if not self._full:
                    logger.warning("frame %d: more is found, but %d targets are tracked at most", index, LAST_TARGET)
                self._full = True
                break
            taken |= mask
            found.append(Prompt(target, index, mask=mask))
        if not (found or self._last or self.every):
            raise InputError(f"frame {index}: nothing is found; give a target, or look again on later frames with K")
        return found
