"""Ref-YouTube-VOS: referring video object segmentation.

Source: Seo et al., "URVOS: Unified Referring Video Object Segmentation Network with a Large-Scale Benchmark", ECCV
2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmarks.layouts.per_video import AbsentFrames, MaskFolder
from common.benchmarks.plain import read_json
from common.benchmarks.tasks.referring import RefBenchmark
from common.errors import InputError
from common.video import ImageFolder, Prompt, Video
from common.video.task_views import Joined


class RefYouTubeVOS(RefBenchmark):
    """Each expression is scored by itself on all listed frames. The annotations of ``valid`` are on the server alone.

    Args:
        root: folder that holds ``meta_expressions`` and the splits.
        split: ``valid``, without the videos of ``test``; ``train``, whose numbers are local; or ``test``.
        videos: only these, in this order; default: the whole split.
    """

    name = "refyoutubevos"
    folders = ("refyoutubevos", "refytvos", "rvos")
    source = "https://codalab.lisn.upsaclay.fr/competitions/3282"
    splits = ("valid", "train", "test")
    protocol = "J&F, all listed frames, flat mean over expressions; local, not the server's number"
    layout = """
        meta_expressions/valid/meta_expressions.json      videos, frames, expressions; likewise train and test
        valid/JPEGImages/<video>/<frame>.jpg              the videos of test too
        train/JPEGImages, train/Annotations               with palette PNGs"""

    def __init__(
        self, root: str | Path | None = None, split: str = "valid", videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, split, videos)

    def listed(self) -> list[str]:
        """The videos of the JSON; of ``valid`` those that ``test`` does not have."""
        other = self._said("test") if self.split == "valid" and self._path("test").is_file() else {}
        return [video for video in self.said if video not in other]

    @cached_property
    def said(self) -> dict[str, Any]:
        """What the JSON of the split says of each video."""
        return self._said(self.split)

    def _path(self, split: str) -> Path:
        return self.root / "meta_expressions" / split / "meta_expressions.json"

    def _said(self, split: str) -> dict[str, Any]:
        videos = read_json(self._path(split), "list of expressions").get("videos")
        if not isinstance(videos, dict) or not videos:
            raise InputError(f"{self._path(split)}: 'videos' names no video; unpack it again")
        return videos

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames, annotations or expressions are missing, or do not fit each other.
        """
        where = f"{self._path(self.split)}, video {id}"
        try:
            listed = [str(name) for name in self.said[id]["frames"]]
            said = [
                (int(number), one["exp"], one.get("obj_id")) for number, one in self.said[id]["expressions"].items()
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: no frames, or expressions without number or text ({error})") from error
        place = self.root / ("train" if self.split == "train" else "valid")
        folder, masks = place / "JPEGImages" / id, place / "Annotations" / id
        frames = ImageFolder(folder, gaps=True) if folder.parent.is_dir() else AbsentFrames(folder, sorted(listed))
        for name in sorted(set(listed) - set(frames.names)):
            raise InputError(f"{where}: frame {name} is listed but not in {folder}; unpack the frames again")
        objects = {target: int(obj) for target, (_, _, obj) in enumerate(said, start=1) if obj is not None}
        truth = None
        if len(objects) == len(said) and masks.is_dir():
            maps = MaskFolder(masks, frames.names, frames.size, sparse=True)
            maps.targets = tuple(sorted(set(objects.values())))
            truth = Joined(maps, [[maps.targets.index(obj)] for obj in objects.values()])
        annotated = [frame for frame, name in enumerate(frames.names) if name in listed]
        return Video(
            id=id,
            frames=frames,
            fps=6.0,
            prompts=tuple(Prompt(target, text=text) for target, (_, text, _) in enumerate(said, start=1)),
            targets=tuple(range(1, len(said) + 1)),
            truth=truth,
            names=frames.names,
            attributes={
                "objects": objects,
                "expressions": {target: number for target, (number, _, _) in enumerate(said, start=1)},
            },
            annotated=None if len(annotated) == len(frames) else annotated,
            expressions={target: (text,) for target, (_, text, _) in enumerate(said, start=1)} if truth else {},
        )
