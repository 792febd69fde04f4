"""Frames and ground truth of a scene, rendered on access."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from common.synthetic.scene import Layer, Scene
from common.video.types import Prompt

APPEARS = 0.6  # visible fraction of a target's complete outline at which it counts as having appeared
REGION = 0.02  # the same for a background region, which has no outline, as a fraction of the frame


class Film:
    """Frames of one scene. The layers of the last frame are cached, since a frame and its masks are used together.

    Args:
        scene: the scene.
        frames: number of frames.
        size: (H, W) in pixels.
        targets: ids of the annotated targets; default: all that are visible in some frame.

    Attributes:
        prompts: mask of each target where it first appears; empty if ``targets`` is given.
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
        """Render the visible masks of a frame, bool (N, H, W), disjoint.

        Args:
            frame: frame index.
        """
        labels = self.scene.labels(self._layers(self._index(frame)), self._index(frame), self.size)
        return labels == torch.tensor(self.targets, dtype=torch.uint8)[:, None, None]

    def _first_appearances(self) -> tuple[Prompt, ...]:
        """Return a prompt for each target: where 60 % of it is first visible, or else where most of it is.

        A background region appears where it covers 2 % of the frame.
        """
        best: dict[int, tuple[int, Prompt]] = {}
        missing = set(self.targets)
        for frame in range(self.frames):
            required = {
                layer.actor.target: APPEARS * float(layer.cover.sum()) / layer.share for layer in self._layers(frame)
            }
            for target, mask in zip(self.targets, self.masks(frame), strict=True):
                area = int(mask.sum())
                if target in missing and area > best.get(target, (0,))[0]:
                    best[target] = area, Prompt(target, frame, mask)
                    if area >= required.get(target, REGION * mask.numel()):
                        missing.remove(target)
            if not missing:
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
    """Ground truth of a film.

    Args:
        film: the film.
    """

    def __init__(self, film: Film) -> None:
        self.film = film

    def __getitem__(self, frame: int) -> Tensor:
        return self.film.masks(frame)
