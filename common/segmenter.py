"""The two contracts that every method speaks: a session for inference, losses for training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from common.video import FrameMasks, Prompt, Video


class Session(ABC):
    """Inference on one video, frame by frame.

    ``step`` takes the next RGB frame and any new prompts and returns the frames whose answer has just become final:
    usually this one, sometimes none, sometimes several. ``finish`` returns the rest. Answers come in frame order, each
    frame once. Memory is bounded however long the video is.
    """

    @abstractmethod
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame, uint8 RGB (H, W, 3), and prompts that hold on it (their ``frame`` is not looked at).

        Raises:
            InputError: a frame of another size than the first, a prompt kind the method does not know.
        """

    @abstractmethod
    def finish(self) -> list[FrameMasks]:
        """The answers still open; after it the session must be reset before another frame."""

    @abstractmethod
    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything: the session is as new."""


class VideoSegmenter(L.LightningModule):
    """The thin LightningModule that every method subclasses: give it ``session`` and ``losses``.

    It is completed in this file by training, validation, testing and prediction, which all come in by the session.
    """

    def session(self, length: int | None = None) -> Session:
        """Open a session. ``length`` is the number of frames where it is known (a stream has none)."""
        raise TypeError(f"{type(self).__name__} must define session()")

    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Unweighted loss terms of a training batch, each a scalar tensor."""
        raise TypeError(f"{type(self).__name__} cannot be trained: it defines no losses()")

    @torch.inference_mode()
    def track(self, video: Video) -> Iterator[FrameMasks]:
        """Answers for a whole video, frames in order: the loop over a session."""
        session, waiting = self.session(video.length), defaultdict(list)
        for prompt in video.prompts:
            waiting[prompt.frame].append(prompt)
        for index, frame in enumerate(video):
            yield from session.step(frame.to(self.device), waiting.pop(index, ()))
        yield from session.finish()
