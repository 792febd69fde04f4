"""The frames and the truth of one scene, drawn when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from common.synthetic.scene import Layer, Scene
from common.video.types import Prompt

APPEARS = 0.6  # of the whole outline, with what lies beyond the frame's edge or behind something else
REGION = 0.02  # of the frame: a region of the background, which has no outline


class Film:
    """Frames of one scene. Keeps the layers of the last frame only: a frame and its truth are asked for together.

    Attributes:
        prompts: mask of every target where it first appears; none where the targets are given.
        targets: ids of the targets that are visible at some time, or as given.
    """

    def __init__(
        self, scene: Scene, frames: int, size: tuple[int, int], targets: tuple[int, ...] | None = None
    ) -> None:
        self.scene, self.frames, self.size = scene, frames, size
        self._last: tuple[int, list[Layer]] = (-1, [])
        self.prompts: tuple[Prompt, ...] = ()
        if targets is not None:
            self.targets = targets
            return
        self.targets = scene.targets
        self.prompts = self._first_appearances()
        self.targets = tuple(prompt.target for prompt in self.prompts)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Tensor]:
        return (self[frame] for frame in range(self.frames))

    def __getitem__(self, frame: int) -> Tensor:
        frame = self._index(frame)
        return self.scene.paint(self._layers(frame), frame, self.size)

    def masks(self, frame: int) -> Tensor:
        """Masks bool (N, H, W) after occlusion; disjoint."""
        labels = self.scene.labels(self._layers(self._index(frame)), self._index(frame), self.size)
        return labels == torch.tensor(self.targets, dtype=torch.uint8)[:, None, None]

    def _first_appearances(self) -> tuple[Prompt, ...]:
        """A target appears where 60 % of its outline lies open for the first time, else where most of it does.

        A region of the background appears where it takes 2 % of the frame.
        """
        best: dict[int, tuple[int, Prompt]] = {}
        waiting = set(self.targets)
        for frame in range(self.frames):
            enough = {
                layer.actor.target: APPEARS * float(layer.cover.sum()) / layer.share for layer in self._layers(frame)
            }
            for target, mask in zip(self.targets, self.masks(frame), strict=True):
                area = int(mask.sum())
                if target in waiting and area > best.get(target, (0,))[0]:
                    best[target] = area, Prompt(target, frame, mask)
                    if area >= enough.get(target, REGION * mask.numel()):
                        waiting.remove(target)
            if not waiting:
                break
        return tuple(best[target][1] for target in self.targets if target in best)

    def _layers(self, frame: int) -> list[Layer]:
        if self._last[0] != frame:
            self._last = frame, self.scene.layers(frame, self.size)
        return self._last[1]

    def _index(self, frame: int) -> int:
        if not -self.frames <= frame < self.frames:
            raise IndexError(f"frame {frame} of {self.frames}")
        return frame % self.frames


class Truth:
    """Ground truth of a film."""

    def __init__(self, film: Film) -> None:
        self.film = film

    def __getitem__(self, frame: int) -> Tensor:
        return self.film.masks(frame)
