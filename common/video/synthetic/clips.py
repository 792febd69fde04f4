"""Generated videos: no files, exact masks, the same in every process."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.video.synthetic.draw import draw_scene
from common.video.synthetic.presets import preset_named
from common.video.synthetic.query import draw_query
from common.video.synthetic.scene import Layer, Scene
from common.video.synthetic.words import describe
from common.video.types import Prompt
from common.video.video import Video

SMALLEST = 16  # pixels a side
APPEARS = 0.6  # of the whole outline, with what lies beyond the frame's edge or behind something else


class SyntheticClips(Sequence[Video]):
    """Procedural videos of textured objects, deterministic in (preset, seed, index).

    A video is its scene's parameters; frames and masks are drawn when asked for, in any order. ``attributes`` of a
    video hold ``categories`` ({target: name}), ``expressions`` ({target: text}) and ``preset``.

    Args:
        preset: ``easy``, ``occlusion``, ``distractor``, ``reappear`` or ``long``; several take turns by index.
        length: number of videos.
        frames: frames of each video; the preset's own number by default.
        size: (H, W) in pixels, at least 16 each.
        seed: chooses the stream of videos.
        objects: targets in each video; drawn from the preset's range by default.
        held_out: draw from streams of their own, which no training seed reaches (benchmarks).

    Raises:
        InputError: an unknown preset, a frame below 16 pixels, no frames, no objects.
    """

    def __init__(
        self,
        preset: str | list[str] = "easy",
        length: int = 10_000,
        frames: int | None = None,
        size: tuple[int, int] = (128, 128),
        seed: int = 0,
        objects: int | None = None,
        held_out: bool = False,
    ) -> None:
        self.presets = [preset_named(name) for name in ([preset] if isinstance(preset, str) else preset)]
        self.length, self.frames, self.size, self.seed = length, frames, (int(size[0]), int(size[1])), seed
        self.objects, self.held_out = objects, held_out
        if not self.presets:
            raise InputError("SyntheticClips: preset is an empty list; name at least one")
        if min(self.size) < SMALLEST:
            raise InputError(f"SyntheticClips: size {self.size} is too small; give at least {SMALLEST} x {SMALLEST}")
        if frames is not None and frames < 1:
            raise InputError(f"SyntheticClips: frames is {frames}; give at least 1")
        if objects is not None and not 1 <= objects <= 10:
            raise InputError(f"SyntheticClips: objects is {objects}; give 1 to 10")
        if length < 0 or seed < 0:
            raise InputError(f"SyntheticClips: length {length} and seed {seed} must not be negative")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        if not -self.length <= index < self.length:
            raise IndexError(f"video {index} of {self.length}")
        index %= self.length
        preset = self.presets[index % len(self.presets)]
        frames = self.frames or preset.frames
        scene, looks = draw_scene(preset, frames, self.objects, self._random(index))
        film = _Film(scene, frames, self.size)
        categories = {target: look.category for target, look in enumerate(looks, start=1) if target in film.targets}
        return Video(
            id=f"{preset.name}-{self.seed}-{index:05d}",
            frames=film,
            prompts=film.prompts,
            targets=film.targets,
            truth=_Truth(film),
            attributes={
                "preset": preset.name,
                "categories": categories,
                "expressions": {target: describe(scene, looks, target, frames) for target in film.targets},
            },
        )

    def query_image(self, index: int, target: int) -> tuple[Tensor, Tensor]:
        """A picture of a target outside its video: new background, pose and scale.

        Returns:
            uint8 RGB (H, W, 3) and its mask, bool (H, W).
        """
        index %= self.length
        preset = self.presets[index % len(self.presets)]
        scene, looks = draw_scene(preset, self.frames or preset.frames, self.objects, self._random(index))
        if not 1 <= target <= len(looks):
            raise InputError(f"video {index} has targets 1 to {len(looks)}, not {target}")
        return draw_query(scene, target, self.size, self._random(index, target))

    def _random(self, index: int, *more: int) -> np.random.Generator:
        name = zlib.crc32(self.presets[index % len(self.presets)].name.encode())
        return np.random.default_rng((int(self.held_out), name, self.seed, index, *more))


class _Film:
    """Frames of one scene. Keeps the layers of the last frame only: a frame and its truth are asked for together.

    Attributes:
        prompts: mask of every target where it first appears.
        targets: ids of the targets that are visible at some time.
    """

    def __init__(self, scene: Scene, frames: int, size: tuple[int, int]) -> None:
        self.scene, self.frames, self.size = scene, frames, size
        self._last: tuple[int, list[Layer]] = (-1, [])
        self.targets = tuple(sorted(actor.target for actor in scene.actors if actor.target))
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
        labels = self.scene.labels(self._layers(self._index(frame)), self.size)
        return labels == torch.tensor(self.targets, dtype=torch.uint8)[:, None, None]

    def _first_appearances(self) -> tuple[Prompt, ...]:
        """A target appears where 60 % of its outline lies open for the first time, else where most of it does."""
        best: dict[int, tuple[int, Prompt]] = {}
        waiting = set(self.targets)
        for frame in range(self.frames):
            whole = {layer.actor.target: float(layer.cover.sum()) / layer.share for layer in self._layers(frame)}
            for target, mask in zip(self.targets, self.masks(frame), strict=True):
                area = int(mask.sum())
                if target in waiting and area > best.get(target, (0,))[0]:
                    best[target] = area, Prompt(target, frame, mask)
                    if area >= APPEARS * whole[target]:
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


class _Truth:
    """Ground truth of a film."""

    def __init__(self, film: _Film) -> None:
        self.film = film

    def __getitem__(self, frame: int) -> Tensor:
        return self.film.masks(frame)
