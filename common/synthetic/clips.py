"""Synthetic videos with exact masks, generated on access and identical in every process."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from common.errors import InputError
from common.synthetic.draw import Appearance, draw_scene
from common.synthetic.film import Film, Truth
from common.synthetic.presets import Preset, find_preset
from common.synthetic.query import draw_query
from common.synthetic.scene import Scene
from common.synthetic.shapes import CATEGORIES
from common.synthetic.words import describe
from common.video.video import Video

MIN_SIZE = 16  # pixels per side


class SyntheticClips(Sequence[Video]):
    """Procedural videos of textured objects, deterministic in (preset, seed, index).

    A video consists of the parameters of its scene; frames and masks are rendered on access, in any order. Targets have
    a category (the vocabulary is ``shapes.CATEGORIES``) and an expression; ``attributes`` hold ``preset``.

    Args:
        preset: ``easy``, ``occlusion``, ``distractor``, ``reappear``, ``topology`` or ``long``; a list alternates by
            index.
        length: number of videos.
        frames: frames per video; default: that of the preset.
        size: (H, W) in pixels, at least 16 each.
        seed: seed of the generator.
        objects: number of targets per video, 1 to 10; default: drawn from the preset's range.
        held_out: use random streams that no training seed can reach, for benchmarks.

    Raises:
        InputError: the preset is unknown, or a size or number is out of range.
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
        self.presets = [find_preset(name) for name in ([preset] if isinstance(preset, str) else preset)]
        self.length, self.frames, self.size, self.seed = length, frames, (int(size[0]), int(size[1])), seed
        self.objects, self.held_out = objects, held_out
        if not self.presets:
            raise InputError("SyntheticClips: preset is an empty list; name at least one")
        if min(self.size) < MIN_SIZE:
            raise InputError(f"SyntheticClips: size {self.size} is too small; give at least {MIN_SIZE} x {MIN_SIZE}")
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
        preset, frames, scene, appearances = self._scene(index)
        film = Film(scene, frames, self.size)
        return Video(
            id=self.name(index),
            frames=film,
            prompts=film.prompts,
            targets=film.targets,
            truth=Truth(film),
            attributes={"preset": preset.name},
            vocabulary=CATEGORIES,
            categories={target: CATEGORIES.index(appearances[target - 1].category) for target in film.targets},
            expressions={target: (describe(scene, appearances, target, frames),) for target in film.targets},
        )

    def name(self, index: int) -> str:
        """Return the id of a video.

        Args:
            index: index of the video.
        """
        return f"{self.presets[index % len(self.presets)].name}-{self.seed}-{index:05d}"

    def query_image(self, index: int, target: int) -> tuple[Tensor, Tensor]:
        """Render an external image of a target, with a new background, pose and scale.

        Args:
            index: index of the video.
            target: id of the target.

        Returns:
            uint8 RGB (H, W, 3) and the target's mask, bool (H, W).

        Raises:
            InputError: the video has no such target.
        """
        index %= self.length
        _, _, scene, appearances = self._scene(index)
        if not 1 <= target <= len(appearances):
            raise InputError(f"video {index} has targets 1 to {len(appearances)}, not {target}")
        return draw_query(scene, target, self.size, self._random(index, target))

    def _index(self, index: int) -> int:
        if not -self.length <= index < self.length:
            raise IndexError(f"video {index} of {self.length}")
        return index % self.length

    def _scene(self, index: int) -> tuple[Preset, int, Scene, list[Appearance]]:
        preset = self.presets[index % len(self.presets)]
        frames = self.frames or preset.frames
        return preset, frames, *draw_scene(preset, frames, self.objects, self._random(index))

    def _random(self, index: int, *key: int) -> np.random.Generator:
        # The first number separates the streams of benchmarks from those of training for all seeds.
        name = zlib.crc32(self.presets[index % len(self.presets)].name.encode())
        return np.random.default_rng((int(self.held_out), name, self.seed, index, *key))
