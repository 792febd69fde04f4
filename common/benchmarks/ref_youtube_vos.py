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
from common.benchmarks.tasks.referring import RefBenchmark
from common.errors import InputError
from common.files import read_json
from common.video import ImageFolder, Prompt, Video
from common.video.task_views import UnionMasks


class RefYouTubeVOS(RefBenchmark):
    """Ref-YouTube-VOS: each expression is scored on all listed frames. The annotations of ``valid`` are hidden.

    Args:
        root: folder with ``meta_expressions`` and the splits.
        split: ``valid``, without the videos of ``test``; ``train``, whose numbers are local; or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "refyoutubevos"
    folders = ("refyoutubevos", "refytvos", "rvos")
    source = "https://codalab.lisn.upsaclay.fr/competitions/3282"
    splits = ("valid", "train", "test")
    protocol = "J&F, all listed frames, flat mean over expressions; local, not the server's number"
    layout = """
        meta_expressions/valid/meta_expressions.json      videos, frames, expressions; the same for train and test
        valid/JPEGImages/<video>/<frame>.jpg              the videos of test too
        train/JPEGImages, train/Annotations               with palette PNGs"""

    def __init__(
        self, root: str | Path | None = None, split: str = "valid", videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, split, videos)

    def list_videos(self) -> list[str]:
        """Return the videos of the JSON file; for ``valid``, those that are not in ``test``."""
        # The file of ``valid`` lists the videos of both splits.
        test = self._read_entries("test") if self.split == "valid" and self._path("test").is_file() else {}
        return [video for video in self.entries if video not in test]

    @cached_property
    def entries(self) -> dict[str, Any]:
        """Entry of each video in the JSON file of the split."""
        return self._read_entries(self.split)

    def _path(self, split: str) -> Path:
        return self.root / "meta_expressions" / split / "meta_expressions.json"

    def _read_entries(self, split: str) -> dict[str, Any]:
        videos = read_json(self._path(split), "list of expressions").get("videos")
        if not isinstance(videos, dict) or not videos:
            raise InputError(f"{self._path(split)}: 'videos' names no video; unpack it again")
        return videos

    def open(self, id: str) -> Video:
        """Open a video.

        Args:
            id: name of the video.

        Raises:
            InputError: frames, annotations or expressions are missing or inconsistent.
        """
        where = f"{self._path(self.split)}, video {id}"
        try:
            listed_names = [str(name) for name in self.entries[id]["frames"]]
            expressions = [
                (int(number), entry["exp"], entry.get("obj_id"))
                for number, entry in self.entries[id]["expressions"].items()
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: no frames, or expressions without number or text ({error})") from error
        split_folder = self.root / ("train" if self.split == "train" else "valid")
        folder, masks = split_folder / "JPEGImages" / id, split_folder / "Annotations" / id
        available = folder.parent.is_dir()
        frames = ImageFolder(folder, gaps=True) if available else AbsentFrames(folder, sorted(listed_names))
        for name in sorted(set(listed_names) - set(frames.names)):
            raise InputError(f"{where}: frame {name} is listed but not in {folder}; unpack the frames again")
        objects = {target: int(obj) for target, (_, _, obj) in enumerate(expressions, start=1) if obj is not None}
        truth = None
        if len(objects) == len(expressions) and masks.is_dir():
            maps = MaskFolder(masks, frames.names, frames.size, sparse=True)
            maps.targets = tuple(sorted(set(objects.values())))
            truth = UnionMasks(maps, [[maps.targets.index(obj)] for obj in objects.values()])
        annotated = [frame for frame, name in enumerate(frames.names) if name in listed_names]
        return Video(
            id=id,
            frames=frames,
            fps=6.0,
            prompts=tuple(Prompt(target, text=text) for target, (_, text, _) in enumerate(expressions, start=1)),
            targets=tuple(range(1, len(expressions) + 1)),
            truth=truth,
            names=frames.names,
            attributes={
                "objects": objects,
                "expressions": {target: number for target, (number, _, _) in enumerate(expressions, start=1)},
            },
            annotated=None if len(annotated) == len(frames) else annotated,
            expressions={target: (text,) for target, (_, text, _) in enumerate(expressions, start=1)} if truth else {},
        )
