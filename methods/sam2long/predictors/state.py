"""State of a video predictor: frames, and the inputs and answers of every object."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from common.nn.sam2.postprocess import closest_prompted
from common.nn.sam2.types import CLEARED, MAX_POINTERS, PROMPT_SLOT, TRACKED_MAPS
from common.video.readers import Source, open_video


@dataclass
class Answer:
    """The answer for one object on one frame.

    Attributes:
        logits: mask logits float32 (1, 1, S/4, S/4).
        pointer: object pointer (1, C).
        score: occlusion score (1,).
        map: memory map bfloat16 (1, 64, S/16, S/16); None until a prompted frame is memorised.
    """

    logits: Tensor
    pointer: Tensor
    score: Tensor
    map: Tensor | None = None

    def candidates(self) -> Candidates:
        """Return the answer in the form that the memory encoder takes."""
        return Candidates(self.logits, torch.ones_like(self.score)[:, None], self.score, self.pointer[:, None])

    def move(self, device: torch.device) -> None:
        """Move logits and map to a device; the pointer stays."""
        self.logits = self.logits.to(device)
        self.map = None if self.map is None else self.map.to(device)


@dataclass
class Target:
    """Inputs and answers of one object; every dict is by frame.

    Attributes:
        points: points (1, P, 2) in pixels of the network's input, with labels (1, P).
        masks: mask inputs float (1, 1, S, S).
        prompted: answers of prompted frames, which all frames read.
        tracked: answers of the other frames.
        new_prompted: answers to inputs since the last propagation, for ``prompted``.
        new_tracked: the same for ``tracked``: corrections of frames that had been tracked.
        backwards: for the frames that have been tracked, whether against the direction of time.
    """

    points: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)
    prompted: dict[int, Answer] = field(default_factory=dict)
    tracked: dict[int, Answer] = field(default_factory=dict)
    new_prompted: dict[int, Answer] = field(default_factory=dict)
    new_tracked: dict[int, Answer] = field(default_factory=dict)
    backwards: dict[int, bool] = field(default_factory=dict)

    def answer(self, frame: int) -> Answer | None:
        """Return the answer of a frame before the inputs since the last propagation."""
        return self.prompted.get(frame) or self.tracked.get(frame)

    def clear_tracked(self, frame: int) -> None:
        """Forget the tracked frames around a frame, which itself is kept."""
        for gap in range(1, CLEARED + 1):
            self.tracked.pop(frame - gap, None)
            self.tracked.pop(frame + gap, None)

    def bank(self, frame: int, backwards: bool, length: int | None, limit: int, device: torch.device) -> Bank:
        """Return the memories that a frame reads.

        Args:
            frame: index of the frame.
            backwards: tracking goes against the direction of time.
            length: number of frames of the video, None where it is unknown.
            limit: number of prompted frames to read, -1 = all.
            device: of the network.
        """
        sign = -1 if backwards else 1
        chosen = {t: self.prompted[t] for t in closest_prompted(frame, self.prompted, limit)}
        others = {t: answer for t, answer in self.prompted.items() if t not in chosen} | self.tracked
        bank = Bank(max_pointers=min(max(length or MAX_POINTERS, 2), MAX_POINTERS))
        read = [(PROMPT_SLOT, answer) for answer in chosen.values()]
        read += [(gap - 1, others[t]) for gap in range(TRACKED_MAPS, 0, -1) if (t := frame - sign * gap) in others]
        for slot, answer in read:
            assert answer.map is not None
            bank.maps.append(answer.map.to(device))
            bank.slots.append(slot)
        past = [(sign * (frame - t), answer) for t, answer in chosen.items() if sign * (frame - t) >= 0]
        near = ((gap, frame - sign * gap) for gap in range(1, bank.max_pointers))
        past += [(gap, others[t]) for gap, t in near if t in others]
        for offset, answer in past:
            bank.pointers.append(answer.pointer)
            bank.offsets.append(float(offset))
        return bank


class Stream:
    """Frames of unknown number that can be read once; the last ones are kept.

    Args:
        frames: uint8 RGB (H, W, 3).
        keep: number of frames to keep.
    """

    def __init__(self, frames: Iterator[Tensor], keep: int) -> None:
        self._frames, self._kept, self.read = frames, deque[Tensor](maxlen=keep), 0

    def __getitem__(self, index: int) -> Tensor:
        """Return a frame, reading on where it has not been read.

        Raises:
            InputError: the frame is no longer kept.
            IndexError: the stream ends before it.
        """
        while self.read <= index:
            try:
                self._kept.append(next(self._frames))
            except StopIteration:
                raise IndexError(index) from None
            self.read += 1
        place = index - (self.read - len(self._kept))
        if place < 0:
            raise InputError(f"frame {index} of the stream is no longer kept; raise keep_frames ({self._kept.maxlen})")
        return self._kept[place]


class VideoState:
    """A video with the inputs and answers of its objects.

    Args:
        source: see ``common.video.open_video``.
        model: the network.
        keep_frames: see ``VideoPredictor.init_state``.
        offload: keep all answers on the CPU, not only old ones.

    Attributes:
        targets: by id, in order of first input.
        length: number of frames, None for a stream.
        size: (H, W) of the video.
        dropped: frames whose answers are no longer kept.

    Raises:
        InputError: the source cannot be read, or ``keep_frames`` is too small.
    """

    def __init__(self, source: Source, model: SAM2, keep_frames: int | None = None, offload: bool = False) -> None:
        if keep_frames is not None and keep_frames < 1:
            raise InputError(f"keep_frames is {keep_frames}; give at least 1, or None for all")
        video = open_video(source)
        self.model, self.offload = model, offload
        self.length = video.length
        self.keep_frames = keep_frames or (None if self.length is not None else 2 * MAX_POINTERS)
        self.frames: Any = video if self.length is not None else Stream(iter(video), self.keep_frames or 0)
        self.targets: dict[Hashable, Target] = {}
        self.dropped: set[int] = set()
        self._encoded: tuple[int, FrameFeatures] | None = None
        first = self.frames[0]
        self.size: tuple[int, int] = (first.shape[0], first.shape[1])

    def __getitem__(self, name: str) -> Any:
        """Return an entry of the package's state by its name there."""
        entries = {
            "num_frames": self.length,
            "video_height": self.size[0],
            "video_width": self.size[1],
            "obj_ids": list(self.targets),
        }
        return entries[name]

    def features(self, frame: int) -> FrameFeatures:
        """Encode a frame; the features of the last one are kept.

        Args:
            frame: its index.

        Raises:
            InputError: the frame cannot be read.
        """
        if self._encoded is None or self._encoded[0] != frame:
            image = self.frames[frame].to(self.model.position.device)
            self._encoded = frame, self.model.encode(self.model.preprocess(image.permute(2, 0, 1)[None]))
        return self._encoded[1]

    def check_frame(self, frame: int) -> int:
        """Return a frame's index, checked.

        Args:
            frame: its index.

        Raises:
            InputError: there is no such frame, or that of a stream is no longer kept.
        """
        if frame != int(frame) or not self.has(int(frame)):
            raise InputError(
                f"frame {frame} is not in the video" + (f" of {self.length} frames" if self.length else "")
            )
        return int(frame)

    def has(self, frame: int) -> bool:
        """Return whether there is a frame; a stream is read up to it.

        Args:
            frame: its index.

        Raises:
            InputError: the frame of the stream is no longer kept.
        """
        if frame < 0 or self.length is not None:
            return 0 <= frame < (self.length or 0)
        try:
            self.frames[frame]
        except IndexError:
            return False
        return True

    def check_kept(self, frame: int, backwards: bool) -> None:
        """Check that everything is kept that a frame reads.

        Args:
            frame: its index.
            backwards: tracking goes against the direction of time.

        Raises:
            InputError: it is not.
        """
        sign = -1 if backwards else 1
        if any(frame - sign * gap in self.dropped for gap in range(MAX_POINTERS)):
            raise InputError(f"frame {frame}: what it reads is no longer kept; raise keep_frames ({self.keep_frames})")

    def release(self, frame: int, backwards: bool) -> None:
        """Move answers to the CPU that are out of the reach of the next frames, and drop those that are not kept.

        Args:
            frame: the frame that has been tracked.
            backwards: tracking goes against the direction of time.
        """
        sign = -1 if backwards else 1
        host = torch.device("cpu")
        self.dropped.discard(frame)
        for target in self.targets.values():
            for at in (frame,) if self.offload else (frame - sign * TRACKED_MAPS,):
                if (answer := target.tracked.get(at)) is not None:
                    answer.move(host)
            old = frame - sign * ((self.keep_frames or 0) + MAX_POINTERS - 1)  # what the oldest of them reads
            if self.keep_frames is not None and target.tracked.pop(old, None) is not None:
                self.dropped.add(old)
