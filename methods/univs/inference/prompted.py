"""Targets specified by masks, boxes, points or expressions (VOS, PVOS, RefVOS), tracked by their own prompt queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common.inference.session import check_tracked
from common.nn.preprocessing import resize_mask
from common.video import FrameMasks, Prompt
from common.video.masks import without_overlap
from methods.univs.inference.acceptance import (
    PlacedMask,
    accept_all,
    accept_first,
    accept_tracked,
    most_similar_queries,
    select_queries,
)
from methods.univs.inference.mask_ops import upsample_logits
from methods.univs.inference.memory_pool import MemoryPool
from methods.univs.inference.preprocessing import prompt_tokens
from methods.univs.inference.window import Window, first_clip, pool_prompts
from methods.univs.network.decoder import Outputs
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens
from methods.univs.settings import InferenceSettings


@dataclass(eq=False)
class PromptedTarget:
    """A target that is specified by a prompt.

    Attributes:
        prompt: the user's prompt.
        start: frame of the prompt.
        stop: frame from which on the target is no longer tracked; None = it is still tracked.
        text: (L, D), tokens of its expression; None for a visual prompt.
        pool: its memory; None before the first clip that contains ``start``.
        corrections: the user's masks bool (H, W) on frames that are pending, by frame.
    """

    prompt: Prompt
    start: int
    stop: int | None = None
    text: Tensor | None = None
    pool: MemoryPool | None = None
    corrections: dict[int, Tensor] = field(default_factory=dict)

    @property
    def prompt_frame(self) -> int | None:
        """The frame of the user's mask; None without one."""
        return None if self.prompt.mask is None else self.start

    @property
    def memory(self) -> MemoryPool:
        """The pool, after the first clip that contains ``start``."""
        assert self.pool is not None
        return self.pool

    def given_mask(self, frame: int) -> Tensor | None:
        """Return the user's mask bool (H, W) on a frame; None without one."""
        return self.corrections.get(frame, self.prompt.mask if frame == self.prompt_frame else None)

    def _give_tokens(self, window: Window, points: int) -> None:
        """Store the tokens of the corrected masks of a clip."""
        for frame, mask in sorted(self.corrections.items()):
            if frame in window.frames:
                resized = resize_mask(mask.to(window.scene.mask_features.device), window.scene.size)
                self.memory.give_tokens(frame, window.sample(frame, resized, points), window.frames)

    def prompt_mask(self, window: Window) -> PlacedMask | None:
        """Return the user's mask at the size of the network's frame, and its place in the clip; None without one."""
        if self.prompt.mask is None:
            return None
        mask = resize_mask(self.prompt.mask.to(window.scene.mask_features.device), window.scene.size)
        return window.frames.index(self.start), mask

    def extend(self, window: Window, points: int) -> None:
        """Add memory slots for a clip; in the target's first clip all of them get the tokens of its prompt.

        Args:
            window: the clip.
            points: number of tokens of a frame.
        """
        if self.pool is not None:
            self.pool.extend(window.frames[-1])
        elif self.prompt.text is not None:
            self.pool = MemoryPool(window.frames)
        else:
            self.pool = MemoryPool(window.frames, prompt_tokens(self.prompt, self.start, window, points))
        self._give_tokens(window, points)

    def update(self, window: Window, masks: Tensor | None, embeddings: Tensor) -> None:
        """Add the predictions of a clip to the memory.

        Masks before ``start`` are ignored, and so are those on frames with a mask of the user's.

        Args:
            window: the clip.
            masks: logits (T, h, w); None = discarded.
            embeddings: (T, C).
        """
        logits = {} if masks is None else dict(zip(window.frames, masks, strict=True))
        logits = {f: mask for f, mask in logits.items() if f >= self.start and self.given_mask(f) is None}
        self.memory.update(logits, dict(zip(window.frames, embeddings, strict=True)))


class PromptedTargets:
    """Task of prompted targets, see ``Task``. Masks of visual prompts are disjoint, those of expressions may overlap.

    Args:
        network: in eval mode.
        settings: lengths and thresholds.
        overlap: masks of visual prompts may overlap too.
    """

    stride = 1

    def __init__(self, network: UniVSNetwork, settings: InferenceSettings, overlap: bool = False) -> None:
        self.network, self.settings, self.overlap = network, settings, overlap
        self.targets: list[PromptedTarget] = []

    @property
    def idle(self) -> bool:
        """True if there are no targets, neither tracked nor on pending frames."""
        return not self.targets

    def add(self, prompt: Prompt, frame: int, text: Tensor | None = None) -> None:
        """Start tracking a target.

        Args:
            prompt: its prompt.
            frame: frame of the prompt.
            text: (L, D), tokens of its expression, if the prompt is one.
        """
        self.targets.append(PromptedTarget(prompt, frame, text=text))

    def tracked(self) -> list[int]:
        """Return the ids of all targets that are still tracked, ascending."""
        return sorted(target.prompt.target for target in self.targets if target.stop is None)

    def correct(self, prompt: Prompt, window: Window) -> None:
        """Replace a tracked target's mask on the last frame of a clip, and what its memory holds of the frame.

        The frame's tokens become those of the mask, and its embedding that of the clip decoded with them alone. A
        target of an expression is followed by the mask from then on.

        Args:
            prompt: with a mask.
            window: the clip, whether it has been processed or not.
        """
        assert prompt.mask is not None
        (target,) = (t for t in self.targets if t.prompt.target == prompt.target and t.stop is None)
        frame = window.frames[-1]
        target.corrections[frame] = prompt.mask
        target.text = None
        if frame == target.start:
            target.prompt = prompt
        if target.pool is None:
            return  # the first clip will read the mask
        if frame == target.start:
            target.pool.first_tokens = None
        target.extend(window, self.settings.points)
        alone = MemoryPool(window.frames, target.pool.tokens[frame])
        prompts = pool_prompts(self.network, [alone], window.frames, self.settings.memory)
        (output,) = self.network.decode(window.scene, prompts, all_layers=False, average_with_learnable=False)[-1:]
        target.pool.correct(frame, first_clip(output.prompt).embeddings[0, -1])

    def copy(self) -> PromptedTargets:
        """Return a task that goes on independently of this one."""
        task = PromptedTargets(self.network, self.settings, self.overlap)
        task.targets = [
            replace(t, pool=None if t.pool is None else t.pool.copy(), corrections=dict(t.corrections))
            for t in self.targets
        ]
        return task

    def drop(self, target_id: int, frame: int) -> None:
        """Stop tracking a target.

        Args:
            target_id: id of the target.
            frame: first frame without it.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target_id, self.tracked())
        for target in self.targets:
            if target.prompt.target == target_id and target.stop is None:
                target.stop = frame

    def observe(self, window: Window) -> None:
        """Process the next clip."""
        tracked = [target for target in self.targets if target.stop is None]
        new = [target for target in tracked if target.pool is None]
        for target in tracked:
            target.extend(window, self.settings.points)
        # one pass of the decoder for each kind of prompt, as a pass has prompts of one kind
        visual = [target for target in tracked if target.text is None]
        if visual:
            pools = [target.memory for target in visual]
            prompts = pool_prompts(self.network, pools, window.frames, self.settings.memory)
            self._track(visual, new, prompts, window)
        texts = [target.text for target in tracked if target.text is not None]
        if texts:
            prompts = self.network.expression_prompts(window.scene, torch.stack(texts)[None])
            self._track([target for target in tracked if target.text is not None], new, prompts, window)
        for target in tracked:
            # the prompt of an expression is its text in every clip
            if target.text is None:
                window.resample(target.memory, self.settings.points, target.prompt_frame)
            target.memory.trim(self.settings.memory, window.frames[0])
            target.corrections = {f: mask for f, mask in target.corrections.items() if f >= window.frames[0]}

    def predict(self, frame: int, window: Window) -> FrameMasks:
        """Return the masks of a frame; a user's mask is returned as it is.

        Unless ``overlap``, where visual prompts overlap the largest logit wins, where given masks do the smaller mask.

        Args:
            frame: index of the frame in the video.
            window: the last clip.
        """
        present = [t for t in self.targets if t.start <= frame and (t.stop is None or frame < t.stop)]
        present.sort(key=lambda target: target.prompt.target)
        planes = torch.zeros(len(present), *window.size, device=window.scene.mask_features.device)
        scores = planes.new_zeros(len(present))
        given = {
            row: mask.to(planes.device) for row, t in enumerate(present) if (mask := t.given_mask(frame)) is not None
        }
        if given and not self.overlap:
            given = dict(zip(given, without_overlap(torch.stack(list(given.values()))), strict=True))
        for row, target in enumerate(present):
            logits = target.memory.mask_logits(frame)
            if row in given:
                # infinite, so that it wins against every prediction
                planes[row].masked_fill_(given[row], torch.inf)
                scores[row] = 1.0
            elif logits is not None:
                planes[row] = upsample_logits(logits[None], window.scene.size, window.size)[0]
                scores[row] = logits.sigmoid().amax()
        visual = [row for row, target in enumerate(present) if target.text is None]
        if len(visual) > 1 and not self.overlap:
            winner = planes[visual].argmax(0)
            for place, row in enumerate(visual):
                planes[row].masked_fill_(winner != place, 0.0)
        # a dropped target is kept until its last frame has been predicted
        self.targets = [target for target in self.targets if target.stop is None or target.stop > frame + 1]
        return FrameMasks(frame, tuple(target.prompt.target for target in present), planes > 0, scores)

    def _track(
        self, targets: list[PromptedTarget], new: list[PromptedTarget], prompts: PromptTokens, window: Window
    ) -> None:
        """Decode a clip for targets of one kind, and add the accepted predictions to their memory."""
        visual = prompts.kind == "visual"
        output = self.network.decode(window.scene, prompts, all_layers=False, average_with_learnable=not visual)[-1]
        rows = [row for row, target in enumerate(targets) if target in new]
        if rows:
            self._update_new([targets[row] for row in rows], rows, output, visual, window)
        rows = [row for row, target in enumerate(targets) if target not in new]
        if rows:
            self._update_tracked([targets[row] for row in rows], rows, output, visual, window)

    def _update_new(
        self, targets: list[PromptedTarget], rows: Sequence[int], output: Outputs, visual: bool, window: Window
    ) -> None:
        """Add the first predictions of targets, whose prompt queries are ``rows``.

        Embeddings are stored even if the masks are rejected: every target needs some to be compared with.
        """
        predictions = select_queries(first_clip(output.prompt), rows)
        if visual:
            prompt_masks = [target.prompt_mask(window) for target in targets]
            results = accept_first(predictions, prompt_masks, window.scene.size, self.settings)
        else:
            results = accept_all(predictions)
        for target, masks, embeddings, accepted in zip(targets, *results, strict=True):
            target.update(window, masks if accepted else None, embeddings)

    def _update_tracked(
        self, targets: list[PromptedTarget], rows: Sequence[int], output: Outputs, visual: bool, window: Window
    ) -> None:
        """Add the predictions of targets that are in memory, whose prompt queries are ``rows``."""
        settings = self.settings
        past = [target.memory.embeddings(settings.memory) for target in targets]
        if settings.tracking == "similarity":
            predictions = most_similar_queries(first_clip(output.learnable), past)
            min_similarity = settings.min_query_similarity
        else:
            predictions = select_queries(first_clip(output.prompt), rows)
            min_similarity = settings.min_similarity
        results = accept_tracked(predictions, past, min_similarity, settings.min_area_share if visual else None)
        for target, masks, embeddings, accepted in zip(targets, *results, strict=True):
            if accepted:
                target.update(window, masks, embeddings)
