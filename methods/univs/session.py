"""UniVS on a stream: a clip of T frames slides over the video, and its oldest frame is answered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Session
from common.video import FrameMasks, Prompt
from methods.univs.inference.detected import Entities
from methods.univs.inference.preprocessing import check_place, inner_frame, inner_size
from methods.univs.inference.prompted import Specified
from methods.univs.inference.semantic import Semantic
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.window import Task, Window
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.scene import Features


class UniVSSession(Session):
    """Frame in, masks out, T - 1 frames late.

    Targets are given by masks, boxes, points or texts, may join at any frame and be dropped; a further prompt of a
    target begins it anew. Or a vocabulary is given, and targets are found from its frame on.

    Args:
        model: in eval mode.
        settings: how the video is run.
    """

    kinds = ("mask", "box", "points", "text", "vocabulary")

    def __init__(self, model: UniVSNetwork, settings: InferenceSettings | None = None) -> None:
        self.model, self.settings = model, settings or InferenceSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._task: Task | None = None
        self._features: list[Features] = []  # of the frames that are open
        self._window: Window | None = None  # the last clip
        self._looked = -1  # its last frame

    @torch.inference_mode()
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: see ``Session.check`` and ``check_place``; a vocabulary beside other prompts, or a second one;
                a text that is too long or has no words. The session is then as if the frame had not been given.
        """
        size = self.check(frame, prompts)
        self._check_task(prompts, size)
        texts = {p.target: self.model.text.expressions([p.text])[0] for p in prompts if p.text is not None}
        task = self._opened(prompts)
        followed = task.followed() if isinstance(task, Specified) else ()
        for prompt in prompts:
            if prompt.target in followed:
                self.drop(prompt.target)
        self.size, self._task = size, task
        self.frame += 1
        if isinstance(task, Specified):
            for prompt in sorted(prompts, key=lambda prompt: prompt.target):
                task.join(prompt, self.frame, texts.get(prompt.target))
        if task is None or task.idle:
            return [FrameMasks(self.frame, (), frame.new_zeros(0, *size, dtype=torch.bool), torch.zeros(0))]
        self._features.append(self.model.encode(inner_frame(frame, inner_size(size, self.settings))))
        if len(self._features) < self.settings.clip:
            return []
        self._look()
        return self._release(task.stride)

    @torch.inference_mode()
    def finish(self) -> list[FrameMasks]:
        """The frames still open."""
        self._look()
        return self._release(len(self._features))

    @torch.inference_mode()
    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on; its open frames are decided as they are.

        Raises:
            InputError: the target is not followed; what a vocabulary's targets are is not for the user to say.
        """
        if not isinstance(self._task, Specified):
            raise InputError(f"target {target} is not followed; no target was given")
        if target in self._task.followed():
            self._look()
        self._task.drop(target, self.frame + 1)

    def _check_task(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> None:
        for prompt in prompts:
            check_place(prompt, self.frame + 1, size)
        asked = [prompt for prompt in prompts if prompt.vocabulary is not None]
        given = len(prompts) - len(asked) or (isinstance(self._task, Specified) and not self._task.idle)
        if (asked and (given or len(asked) > 1)) or (prompts and isinstance(self._task, Entities | Semantic)):
            raise InputError(
                f"prompt at frame {self.frame + 1}: a vocabulary stands alone in a video; use a session for each task"
            )

    def _opened(self, prompts: Sequence[Prompt]) -> Task | None:
        """The task, opened by the first prompt."""
        if not prompts:
            return self._task
        words, stuff = prompts[0].vocabulary, prompts[0].stuff
        if words is None:
            return self._task or Specified(self.model, self.settings)
        if len(stuff) == len(words):
            return Semantic(self.model, self.settings, words)
        return Entities(self.model, self.settings, words, stuff)

    def _look(self) -> None:
        """Let the task see the open frames as a clip, unless it has seen the last of them."""
        if not self._features or self._looked == self.frame or self._task is None or self.size is None:
            return
        frames = range(self.frame + 1 - len(self._features), self.frame + 1)
        features = Features.cat(self._features)
        scene = self.model.scene(features, torch.tensor([list(frames)], device=features.mask.device))
        self._window, self._looked = Window(scene, frames, self.size), self.frame
        self._task.look(self._window)

    def _release(self, count: int) -> list[FrameMasks]:
        """Answers to the oldest open frames; all of them once nothing is followed."""
        out = []
        while self._features and (count > 0 or (self._task is not None and self._task.idle)):
            assert self._task is not None
            assert self._window is not None
            out.append(self._task.answer(self.frame + 1 - len(self._features), self._window))
            del self._features[0]
            count -= 1
        return out
