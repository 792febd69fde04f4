"""Synthetic videos in which every pixel has a category: objects in front of sky, ground and water."""

from __future__ import annotations

from common.synthetic.clips import SyntheticClips
from common.synthetic.film import Film, Truth
from common.synthetic.regions import STUFF, draw_regions
from common.synthetic.shapes import CATEGORIES
from common.synthetic.words import describe
from common.video.video import Video

VOCABULARY = (*CATEGORIES, *STUFF)


class SyntheticPanoptic(SyntheticClips):
    """Videos with panoptic annotations of objects and background regions, deterministic in (preset, seed, index).

    Objects leave and return; all are annotated, and nothing else occludes them. The ids of regions follow those of
    objects. Each object has an expression. ``common.video.task_views`` converts such a video to any task.

    Args:
        preset: ``panoptic``; a list alternates by index.
        length: number of videos.
        frames: frames per video; default: 24.
        size: (H, W) in pixels, at least 16 each.
        seed: seed of the generator.
        objects: number of objects per video; default: drawn from the preset's range.
        held_out: use random streams that no training seed can reach, for benchmarks.
    """

    def __init__(
        self,
        preset: str | list[str] = "panoptic",
        length: int = 10_000,
        frames: int | None = None,
        size: tuple[int, int] = (128, 128),
        seed: int = 0,
        objects: int | None = None,
        held_out: bool = False,
    ) -> None:
        super().__init__(preset, length, frames, size, seed, objects, held_out)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        index = self._index(index)
        preset, frames, scene, appearances = self._scene(index)
        scene.background, regions = draw_regions(self._random(index, 0))
        first = len(appearances) + 1
        scene.regions = regions + first
        film = Film(scene, frames, self.size)
        things = [CATEGORIES.index(appearance.category) for appearance in appearances]
        categories = dict(enumerate([*things, *range(len(CATEGORIES), len(VOCABULARY))], start=1))
        return Video(
            id=self.name(index),
            frames=film,
            prompts=film.prompts,
            targets=film.targets,
            truth=Truth(film),
            attributes={"preset": preset.name},
            vocabulary=VOCABULARY,
            stuff=STUFF,
            categories={target: categories[target] for target in film.targets},
            expressions={t: (describe(scene, appearances, t, frames),) for t in film.targets if t < first},
        )
