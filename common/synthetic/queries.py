"""Synthetic videos for visual queries: one target per video, given by an external image."""

from __future__ import annotations

from common.synthetic.clips import SyntheticClips
from common.synthetic.film import Film, Truth
from common.synthetic.query import draw_query
from common.video.types import Prompt
from common.video.video import Video

TARGET = 1
FPS = 6.0  # as in VQS-4K


class SyntheticQueries(SyntheticClips):
    """Videos with one queried target that leaves and returns, deterministic in (preset, seed, index).

    The only prompt is an external image with the target's mask. Other objects leave and return as well, and in
    ``query-distractor`` two or three of them differ from the target in one attribute only. They are not annotated.
    ``attributes`` hold ``preset``, ``category``, ``height``, ``width`` and ``length``.

    Args:
        preset: ``query`` or ``query-distractor``; a list alternates by index.
        length: number of videos.
        frames: frames per video; default: 48.
        size: (H, W) in pixels, at least 16 each.
        seed: seed of the generator.
        held_out: use random streams that no training seed can reach, for benchmarks.

    Raises:
        InputError: see ``SyntheticClips``.
    """

    def __init__(
        self,
        preset: str | list[str] = "query",
        length: int = 10_000,
        frames: int | None = None,
        size: tuple[int, int] = (128, 128),
        seed: int = 0,
        held_out: bool = False,
    ) -> None:
        super().__init__(preset, length, frames, size, seed, held_out=held_out)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        index = self._index(index)
        preset, frames, scene, appearances = self._scene(index)
        film = Film(scene, frames, self.size, (TARGET,))
        image, mask = draw_query(scene, TARGET, self.size, self._random(index, TARGET))
        return Video(
            id=self.name(index),
            frames=film,
            fps=FPS,
            prompts=(Prompt(TARGET, mask=mask, image=image),),
            targets=film.targets,
            truth=Truth(film),
            names=[f"{frame:06d}" for frame in range(frames)],
            attributes={
                "preset": preset.name,
                "category": appearances[0].category,
                "height": self.size[0],
                "width": self.size[1],
                "length": frames,
            },
        )
