"""Inference session of UniVS: a clip of T frames slides over the video, and its oldest frame is predicted."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.errors import InputError
from common.inference.session import Frame, Session, module_device
from common.nn.preprocessing import resize_frame
from common.nn.timing import part
from common.nn.transfer import to_device
from common.video import FrameMasks, Prompt
from methods.univs.inference.detected import DetectedTargets
from methods.univs.inference.preprocessing import check_prompt, network_size
from methods.univs.inference.prompted import PromptedTargets
from methods.univs.inference.semantic import SemanticClasses
from methods.univs.inference.window import Task, Window
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.scene import Features
from methods.univs.settings import InferenceSettings


class UniVSSession(Session):
    """Takes frames and returns masks, T - 1 frames late.

    The first prompt decides the task. Targets of masks, boxes, points and texts may be added at any frame and dropped;
    a second prompt of a target starts it again. With a vocabulary, targets are detected from its frame on.

    Args:
        network: in eval mode.
        settings: lengths and thresholds; None = the defaults.
    """

    kinds = ("mask", "box", "points", "text", "vocabulary")
    correction_kinds = ("mask",)
    settable = ("overlap",)

    def __init__(self, network: UniVSNetwork, settings: InferenceSettings | None = None) -> None:
        self.network, self.settings = network, settings or InferenceSettings()
        self.reset()

    def reset(self) -> None:
        """Clear all state."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._task: Task | None = None
        self._features: list[Features] = []  # of the pending frames, which have no final prediction yet
        self._window: Window | None = None  # the last clip that the task observed
        self._observed = -1  # last frame of that clip

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return module_device(self.network)

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Args:
            frame: uint8 RGB (H, W, 3).
            prompts: prompts on this frame.

        Raises:
            InputError: see ``Session.check`` and ``check_prompt``; a vocabulary together with other prompts, or a
                second one; a text that is too long or has no words. The session then takes another frame in its place.
        """
        frame, size = self.check(frame, prompts)
        self._check_task(prompts, size)
        # all that can fail comes before the session changes
        texts = {p.target: self.network.text.expressions([p.text])[0] for p in prompts if p.text is not None}
        task = self._task_for(prompts)
        tracked = task.tracked() if isinstance(task, PromptedTargets) else ()
        for prompt in prompts:
            if prompt.target in tracked:
                self.drop(prompt.target)
        self.size, self._task = size, task
        self.frame += 1
        if isinstance(task, PromptedTargets):
            for prompt in sorted(prompts, key=lambda prompt: prompt.target):
                task.add(prompt, self.frame, texts.get(prompt.target))
        if task is None or task.idle:
            return [FrameMasks(self.frame, (), frame.new_zeros(0, *size, dtype=torch.bool), torch.zeros(0))]
        self._features.append(self.network.encode(resize_frame(frame, network_size(size, self.settings))))
        if len(self._features) < self.settings.clip:
            return []
        self._observe()
        return self._release(task.stride)

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Replace masks of the last frame, in its answer and in memory; see ``Session.correct``.

        The answers of the other targets are those of the clips so far; a clip that is not full yet is decoded for them
        as short as it is, and changes nothing. Pending frames before the last one are in later clips, which read the
        correction too.

        Raises:
            InputError: see ``Session.check_correction``, or the targets are found by a vocabulary; the session is
                unchanged.
        """
        task = self._task
        if task is not None and not isinstance(task, PromptedTargets):
            raise InputError(f"frame {self.frame}: targets that are found by a vocabulary take no corrections")
        self.check_correction(prompts, () if task is None else task.tracked())
        assert task is not None
        observed = self._observed == self.frame
        window = self._window if observed and self._window is not None else self._clip()
        for prompt in prompts:
            task.correct(prompt, window)
        preview = task.copy()
        if not observed:
            preview.observe(window)
        return preview.predict(self.frame, window)

    @torch.inference_mode()
    def finish(self) -> list[FrameMasks]:
        """Return the predictions of all pending frames."""
        self._observe()
        return self._release(len(self._features))

    @torch.inference_mode()
    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on; its masks on pending frames become final.

        Raises:
            InputError: the target is not tracked, or was detected by category and cannot be dropped.
        """
        if not isinstance(self._task, PromptedTargets):
            raise InputError(f"target {target} is not tracked; the video has no target prompts")
        if target in self._task.tracked():
            self._observe()  # decode its pending frames now, as later clips leave the target out
        self._task.drop(target, self.frame + 1)

    def _check_task(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> None:
        """Check that prompts lie on the frame, and that a vocabulary is the only prompt of the video."""
        for prompt in prompts:
            check_prompt(prompt, self.frame + 1, size)
        vocabularies = sum(prompt.vocabulary is not None for prompt in prompts)
        tracking = isinstance(self._task, PromptedTargets) and not self._task.idle
        targets = vocabularies < len(prompts) or tracking
        detecting = isinstance(self._task, DetectedTargets | SemanticClasses)
        if (vocabularies and (targets or vocabularies > 1)) or (prompts and detecting):
            raise InputError(
                f"prompt at frame {self.frame + 1}: a vocabulary stands alone in a video; use a session for each task"
            )

    def _task_for(self, prompts: Sequence[Prompt]) -> Task | None:
        """The current task, or the one that the first prompts ask for."""
        if not prompts:
            return self._task
        vocabulary, stuff = prompts[0].vocabulary, prompts[0].stuff
        if vocabulary is None:
            return self._task or PromptedTargets(self.network, self.settings, self.overlap)
        if len(stuff) == len(vocabulary):
            return SemanticClasses(self.network, self.settings, vocabulary)
        return DetectedTargets(self.network, self.settings, vocabulary, stuff)

    @part("decode masks")
    def _observe(self) -> None:
        """Let the task process the pending frames as a clip, unless it has already seen the last of them."""
        if not self._features or self._observed == self.frame or self._task is None:
            return
        self._window, self._observed = self._clip(), self.frame
        self._task.observe(self._window)

    def _clip(self) -> Window:
        """Return the clip of the pending frames."""
        assert self.size is not None
        frames = range(self.frame + 1 - len(self._features), self.frame + 1)
        features = Features.cat(self._features)
        frame_index = to_device(torch.tensor([list(frames)]), features.mask_features.device)
        return Window(self.network.scene(features, frame_index), frames, self.size)

    @part("decode masks")
    def _release(self, count: int) -> list[FrameMasks]:
        """Return the predictions of the oldest pending frames.

        The mask logits of a frame grow with every clip that contains it. The next clip starts ``stride`` frames later,
        so that many frames have now been in all of their clips and are final.

        Args:
            count: frames to release; more are released if no target is left, as no further clip would follow.
        """
        predictions = []
        while self._features and (count > 0 or (self._task is not None and self._task.idle)):
            assert self._task is not None
            assert self._window is not None
            # predict() removes dropped targets, which can make the task idle
            predictions.append(self._task.predict(self.frame + 1 - len(self._features), self._window))
            del self._features[0]
            count -= 1
        return predictions
