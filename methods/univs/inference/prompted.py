"""Targets given by prompts (VOS, RefVOS, PVOS), clip by clip: each is followed by its own prompt query."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InputError
from common.video import FrameMasks, Prompt
from methods.univs.inference.acceptance import accept_all, accept_first, accept_known, pick, recognise
from methods.univs.inference.mask_ops import to_frame
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.target import Target
from methods.univs.inference.window import Window, float32, pool_prompts
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens


class Specified:
    """See ``Task``. Visual prompts share out the pixels, expressions do not."""

    stride = 1

    def __init__(self, model: UniVSNetwork, settings: InferenceSettings) -> None:
        self.model, self.settings = model, settings
        self.targets: list[Target] = []

    @property
    def idle(self) -> bool:
        """Nothing is followed."""
        return not self.targets

    def join(self, prompt: Prompt, frame: int, text: Tensor | None = None) -> None:
        """Follow a target from a frame on."""
        self.targets.append(Target(prompt, frame, text=text))

    def followed(self) -> list[int]:
        """Ids of the targets that are followed."""
        return sorted(target.prompt.target for target in self.targets if target.stop is None)

    def drop(self, id: int, frame: int) -> None:
        """Stop following a target from ``frame`` on.

        Raises:
            InputError: it is not followed.
        """
        if id not in self.followed():
            raise InputError(f"target {id} is not followed; followed are {self.followed()}")
        for target in self.targets:
            if target.prompt.target == id and target.stop is None:
                target.stop = frame

    def look(self, window: Window) -> None:
        """Take the next clip."""
        followed = [target for target in self.targets if target.stop is None]
        fresh = [target for target in followed if target.pool is None]
        for target in followed:
            target.reach(window, self.settings.points)
        visual = [target for target in followed if target.text is None]
        if visual:
            prompts = pool_prompts(self.model, [t.memory for t in visual], window.frames, self.settings.memory)
            self._follow(visual, fresh, prompts, window)
        said = [(target, target.text) for target in followed if target.text is not None]
        if said:
            text = torch.stack([text for _, text in said])[None]
            prompts = self.model.expression_prompts(window.scene, text)
            self._follow([target for target, _ in said], fresh, prompts, window)
        for target in followed:
            if target.text is None:
                window.renew(target.memory, self.settings.points, target.given)
            target.memory.trim(self.settings.memory, window.frames[0])

    def answer(self, frame: int, window: Window) -> FrameMasks:
        """Given masks as they are; where those of other visual prompts overlap the largest logit wins."""
        shown = [t for t in self.targets if t.start <= frame and (t.stop is None or frame < t.stop)]
        shown.sort(key=lambda target: target.prompt.target)
        planes = torch.zeros(len(shown), *window.size, device=window.scene.mask.device)
        scores = planes.new_zeros(len(shown))
        for row, target in enumerate(shown):
            logits = target.memory.masks(frame)
            if frame == target.given:
                assert target.prompt.mask is not None
                planes[row].masked_fill_(target.prompt.mask.to(planes.device), torch.inf)
                scores[row] = 1.0
            elif logits is not None:
                planes[row] = to_frame(logits[None], window.scene.size, window.size)[0]
                scores[row] = logits.sigmoid().amax()
        rows = [row for row, target in enumerate(shown) if target.text is None]
        if len(rows) > 1:
            winner = planes[rows].argmax(0)
            for place, row in enumerate(rows):
                planes[row].masked_fill_(winner != place, 0.0)
        self.targets = [target for target in self.targets if target.stop is None or target.stop > frame + 1]
        return FrameMasks(frame, tuple(target.prompt.target for target in shown), planes > 0, scores)

    def _follow(self, targets: list[Target], fresh: list[Target], prompts: PromptTokens, window: Window) -> None:
        """Put what a clip shows of targets of one kind into their pools."""
        settings, competing = self.settings, prompts.kind == "visual"
        out = self.model.decode(window.scene, prompts, every=False, paired=not competing)[-1]
        found = float32(out.prompt)
        rows = [row for row, target in enumerate(targets) if target in fresh]
        if rows:
            some = pick(found, rows)
            given = [targets[row].given_mask(window) for row in rows]
            kept = accept_first(some, given, window.scene.size, settings) if competing else accept_all(some)
            for target, masks, embeddings, good in zip((targets[row] for row in rows), *kept, strict=True):
                target.add(window, masks if good else None, embeddings)
        rows = [row for row, target in enumerate(targets) if target not in fresh]
        if rows:
            past, least = [targets[row].memory.embeddings(settings.memory) for row in rows], settings.similarity
            some = pick(found, rows)
            if settings.tracking == "similarity":
                some, least = recognise(float32(out.learnable), past), settings.recognise
            kept = accept_known(some, past, least, settings.kept if competing else None)
            for target, masks, embeddings, good in zip((targets[row] for row in rows), *kept, strict=True):
                if good:
                    target.add(window, masks, embeddings)
