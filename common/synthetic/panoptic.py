"""Generated videos in which every pixel has a category: objects before sky, ground and water."""

from __future__ import annotations

from common.synthetic.clips import SyntheticClips
from common.synthetic.film import Film, Truth
from common.synthetic.regions import STUFF, draw_regions
from common.synthetic.shapes import CATEGORIES
from common.synthetic.words import describe
from common.video.video import Video

VOCABULARY = (*CATEGORIES, *STUFF)


class SyntheticPanoptic(SyntheticClips):
    """Videos whose targets are all objects and all regions of the background, deterministic in (preset, seed, index).

    Objects come and go; none is left out of the annotation, nothing unknown passes in front. The ids of a video's
    regions follow those of its objects. Objects have an expression each. ``common.video.task_views`` turns such a video
    into one of any task.

    Args:
        preset: ``panoptic``; several take turns by index.
        length: number of videos.
        frames: frames of each video; the preset's 24 by default.
        size: (H, W) in pixels, at least 16 each.
        seed: chooses the stream of videos.
        objects: objects in each video; drawn from the preset's range by default.
        held_out: draw from streams of their own, which no training seed reaches (benchmarks).
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
        preset, frames, scene, looks = self._scene(index)
        scene.background, regions = draw_regions(self._random(index, 0))
        first = len(looks) + 1
        scene.regions = regions + first
        film = Film(scene, frames, self.size)
        things = [CATEGORIES.index(look.category) for look in looks]
        places = dict(enumerate([*things, *range(len(CATEGORIES), len(VOCABULARY))], start=1))
        return Video(
            id=self.name(index),
            frames=film,
            prompts=film.prompts,
            targets=film.targets,
            truth=Truth(film),
            attributes={"preset": preset.name},
            vocabulary=VOCABULARY,
            stuff=STUFF,
            categories={target: places[target] for target in film.targets},
            expressions={t: (describe(scene, looks, t, frames),) for t in film.targets if t < first},
        )
