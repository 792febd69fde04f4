"""User data in the layout of DAVIS, without split files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

from common.benchmarks.layouts.per_video import FolderVOS, MaskFolder, first_appearances
from common.errors import InputError
from common.video import Video
from common.video.masks import VOID, read_label_map

RULES = {
    "davis": "objects of the first annotation",
    "first_sight": "objects of any annotation, each given where it appears first and counted from its first sight on",
}


class Folder(FolderVOS):
    """User data: images in ``JPEGImages/<video>`` and PNG label maps of the same stem in ``Annotations/<video>``.

    Every folder is a video. If only the first frame is annotated, a run writes a submission but no numbers.

    Args:
        root: folder with ``JPEGImages`` and ``Annotations``.
        rule: which objects are scored. ``davis``: those of the first annotation, whose masks are given.
            ``first_sight``: all objects. The mask of a late object is given where it first appears, and the object is
            scored from the first scored frame in which annotation or prediction contain it (as in vos-benchmark).
        single_object: merge all labels into one object, e.g. for masks drawn in 0 and 255.
        sparse: allow frames without annotation. Otherwise they are an error.
        skip_first_and_last: do not score the first and the last annotated frame.
        gaps: allow gaps in the numbering of the frames.
        videos: names of the videos to use, in this order; default: all.

    Raises:
        InputError: the rule does not exist; on access, the data is missing or inconsistent.
    """

    name = "folder"
    source = "you: it is for your own videos"
    splits = ("all",)
    layout = """
        JPEGImages/<video>/<frame>.jpg        or .png, .bmp, .webp, .tif
        Annotations/<video>/<frame>.png       palette or grey, the value of a pixel is the id of its object"""

    def __init__(
        self,
        root: str | Path | None = None,
        rule: str = "davis",
        single_object: bool = False,
        sparse: bool = False,
        skip_first_and_last: bool = True,
        gaps: bool = False,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, "all", videos)
        self.gaps = gaps
        if rule not in RULES:
            raise InputError(f"rule {rule}: which objects count is one of {', '.join(RULES)}")
        self.first_sight, self.single_object = rule == "first_sight", single_object
        self.sparse, self.skip_first_and_last = sparse, skip_first_and_last
        objects = "one object, all that is marked" if single_object else RULES[rule]
        self.protocol = f"J&F, {scored_frames_text(sparse, skip_first_and_last)}, flat mean over objects; {objects}"

    @cached_property
    def root(self) -> Path:
        """Folder of the data; there is no default.

        Raises:
            InputError: no folder was given, or it does not exist.
        """
        if self.user_root is None or not Path(self.user_root).is_dir():
            problem = "no root given" if self.user_root is None else f"{self.user_root}: no such folder"
            raise InputError(f"{problem}; give root, the folder that holds your JPEGImages and Annotations")
        return Path(self.user_root)

    def list_videos(self) -> list[str]:
        """Return the names of all video folders."""
        return list_video_folders(self.root)

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the frame index of each target's prompt, by ascending target id. See ``rule``."""
        starts = first_appearances(truth, None if self.first_sight else truth.annotated[:1])
        path = truth.path(truth.annotated[0])
        if not starts and (read_label_map(path) == VOID).any():
            raise InputError(
                f"{path}: everything marked has label 255, which is void; set single_object to make it an object"
            )
        return starts

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the annotated frames, without the first and the last if ``skip_first_and_last``."""
        return super().scored_frames(video) if self.skip_first_and_last else annotated_frames(video)


def scored_frames_text(sparse: bool, skip_first_and_last: bool) -> str:
    """Describe the scored frames for a protocol line.

    Args:
        sparse: only some frames are annotated.
        skip_first_and_last: the first and the last annotated frame are not scored.
    """
    frames = "annotated frames" if sparse else "all frames"
    return f"{frames} but first and last" if skip_first_and_last else f"{frames}, first and last included"


def annotated_frames(video: Video) -> Sequence[int]:
    """Return the indices of the annotated frames, ascending.

    Args:
        video: the video.
    """
    return range(len(video)) if video.annotated is None else video.annotated


def list_video_folders(root: Path) -> list[str]:
    """Return the sorted names of the videos that have frames or annotations; hidden folders are skipped.

    Args:
        root: folder with ``JPEGImages`` and ``Annotations``.

    Raises:
        InputError: there are none.
    """
    paths = [path for kind in ("JPEGImages", "Annotations") for path in (root / kind).glob("*")]
    names = sorted({normalize("NFC", path.name) for path in paths if path.is_dir() and path.name[0] != "."})
    if not names:
        raise InputError(f"{root}: no folders of videos in its JPEGImages and Annotations; check root")
    return names
