"""Generated videos: no files, exact masks, the same in every process."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from common.errors import InputError
from common.synthetic.draw import Look, draw_scene
from common.synthetic.film import Film, Truth
from common.synthetic.presets import Preset, preset_named
from common.synthetic.query import draw_query
from common.synthetic.scene import Scene
from common.synthetic.shapes import CATEGORIES
from common.synthetic.words import describe
from common.video.video import Video

SMALLEST = 16  # pixels a side


class SyntheticClips(Sequence[Video]):
    """Procedural videos of textured objects, deterministic in (preset, seed, index).

    A video is its scene's parameters; frames and masks are drawn when asked for, in any order. Targets have a category
    (the vocabulary is ``shapes.CATEGORIES``) and an expression; ``attributes`` hold ``preset``.

    Args:
        preset: ``easy``, ``occlusion``, ``distractor``, ``reappear``, ``topology`` or ``long``; several take turns by
            index.
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
        index = self._index(index)
        preset, frames, scene, looks = self._scene(index)
        film = Film(scene, frames, self.size)
        return Video(
            id=self.name(index),
            frames=film,
            prompts=film.prompts,
            targets=film.targets,
            truth=Truth(film),
            attributes={"preset": preset.name},
            vocabulary=CATEGORIES,
            categories={target: CATEGORIES.index(looks[target - 1].category) for target in film.targets},
            expressions={target: (describe(scene, looks, target, frames),) for target in film.targets},
        )

    def name(self, index: int) -> str:
        """Id of a video."""
        return f"{self.presets[index % len(self.presets)].name}-{self.seed}-{index:05d}"

    def query_image(self, index: int, target: int) -> tuple[Tensor, Tensor]:
        """A picture of a target outside its video: new background, pose and scale.

        Returns:
            uint8 RGB (H, W, 3) and its mask, bool (H, W).
        """
        index %= self.length
        _, _, scene, looks = self._scene(index)
        if not 1 <= target <= len(looks):
            raise InputError(f"video {index} has targets 1 to {len(looks)}, not {target}")
        return draw_query(scene, target, self.size, self._random(index, target))

    def _index(self, index: int) -> int:
        if not -self.length <= index < self.length:
            raise IndexError(f"video {index} of {self.length}")
        return index % self.length

    def _scene(self, index: int) -> tuple[Preset, int, Scene, list[Look]]:
        preset = self.presets[index % len(self.presets)]
        frames = self.frames or preset.frames
        return preset, frames, *draw_scene(preset, frames, self.objects, self._random(index))

    def _random(self, index: int, *more: int) -> np.random.Generator:
        name = zlib.crc32(self.presets[index % len(self.presets)].name.encode())
        return np.random.default_rng((int(self.held_out), name, self.seed, index, *more))
