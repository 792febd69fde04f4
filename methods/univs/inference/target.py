"""A target given by a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from common.video import Prompt
from methods.univs.inference.memory_pool import Pool
from methods.univs.inference.preprocessing import inner_mask, prompt_tokens
from methods.univs.inference.window import Window


@dataclass(eq=False)
class Target:
    """A target that is followed.

    Attributes:
        prompt: what it is given by.
        start: frame of the prompt.
        stop: frame from which on it is no longer followed; None = it is.
        text: (L, D) tokens of its expression, None for a visual prompt.
        pool: its memory; None before the first clip that shows it.
    """

    prompt: Prompt
    start: int
    stop: int | None = None
    text: Tensor | None = None
    pool: Pool | None = None

    @property
    def given(self) -> int | None:
        """The frame that a mask was given for."""
        return None if self.prompt.mask is None else self.start

    @property
    def memory(self) -> Pool:
        """The pool, once a clip has shown the target."""
        assert self.pool is not None
        return self.pool

    def given_mask(self, window: Window) -> tuple[int, Tensor] | None:
        """Place in the clip and mask, bool at the size of the network's frame; None where no mask was given."""
        if self.prompt.mask is None:
            return None
        mask = inner_mask(self.prompt.mask.to(window.scene.mask.device), window.scene.size)
        return window.frames.index(self.start), mask

    def reach(self, window: Window, points: int) -> None:
        """Open the slots of a clip; in the first one that shows the target all get the tokens of its prompt."""
        if self.pool is not None:
            self.pool.reach(window.frames[-1])
        elif self.text is not None:
            self.pool = Pool(window.frames)
        else:
            self.pool = Pool(window.frames, prompt_tokens(self.prompt, self.start, window, points))

    def add(self, window: Window, masks: Tensor | None, embeddings: Tensor) -> None:
        """Masks (T, h, w) count from the start on, embeddings (T, C) on all frames of the clip."""
        shown = {} if masks is None else dict(zip(window.frames, masks, strict=True))
        shown = {frame: mask for frame, mask in shown.items() if frame >= self.start and frame != self.given}
        self.memory.add(shown, dict(zip(window.frames, embeddings, strict=True)))
