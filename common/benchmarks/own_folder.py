"""A user's own data in the layout of DAVIS: two folders, no list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS, MaskFolder, first_appearances
from common.errors import InputError
from common.video import Video
from common.video.masks import VOID, read_label_map

RULES = {
    "davis": "objects of the first annotation",
    "first_sight": "objects of any annotation, each given where it appears first and counted from its first sight on",
}


class Folder(FolderVOS):
    """Own data: frames of any suffix in ``JPEGImages/<video>``, PNGs of the same stem in ``Annotations/<video>``.

    Every folder is a video. Where only the first frame is annotated a run writes a submission and no number.

    Args:
        root: folder that holds ``JPEGImages`` and ``Annotations``.
        rule: which objects count: ``davis``, those of the first annotation, whose masks are given; or ``first_sight``,
            all that ever appear. There the mask of a late object is given where it appears first, and it counts from
            the first scored frame that shows it in annotation or answer (as in vos-benchmark).
        any_label: one object, which is everything that is marked: for masks drawn in 0 and 255, for instance.
        sparse: only some frames are annotated; otherwise a frame without annotation is an error.
        drop_ends: the first and the last annotated frame are not scored.
        videos: only these, in this order; default: all.

    Raises:
        InputError: a rule that does not exist; later, data that is missing or does not fit.
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
        any_label: bool = False,
        sparse: bool = False,
        drop_ends: bool = True,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, "all", videos)
        if rule not in RULES:
            raise InputError(f"rule {rule}: which objects count is one of {', '.join(RULES)}")
        self.first_sight, self.any_label = rule == "first_sight", any_label
        self.sparse, self.drop_ends = sparse, drop_ends
        objects = "one object, all that is marked" if any_label else RULES[rule]
        self.protocol = f"J&F, {scored(sparse, drop_ends)}, flat mean over objects; {objects}"

    @cached_property
    def root(self) -> Path:
        """Folder of the data; it has no place of its own.

        Raises:
            InputError: none was given, or it is not there.
        """
        if self.given_root is None or not Path(self.given_root).is_dir():
            problem = "no root given" if self.given_root is None else f"{self.given_root}: no such folder"
            raise InputError(f"{problem}; give root, the folder that holds your JPEGImages and Annotations")
        return Path(self.given_root)

    def listed(self) -> list[str]:
        """Names of all folders of videos."""
        return video_folders(self.root)

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The targets and the frame index at which each is given. See ``rule``."""
        starts = first_appearances(truth) if self.first_sight else super().starts(id, truth)
        path = truth.path(truth.annotated[0])
        if not starts and (read_label_map(path) == VOID).any():
            raise InputError(
                f"{path}: everything marked has label 255, which is void; set any_label to make it an object"
            )
        return starts

    def scored_frames(self, video: Video) -> Sequence[int]:
        """All annotated frames, without the first and the last where ``drop_ends``."""
        return super().scored_frames(video) if self.drop_ends else annotated(video)


def scored(sparse: bool, drop_ends: bool) -> str:
    """Which frames count, for a protocol."""
    frames = "annotated frames" if sparse else "all frames"
    return f"{frames} but first and last" if drop_ends else f"{frames}, first and last included"


def annotated(video: Video) -> Sequence[int]:
    """Indices of the annotated frames."""
    return range(len(video)) if video.annotated is None else video.annotated


def video_folders(root: Path) -> list[str]:
    """Names of the videos that have frames or annotations, sorted; hidden folders are passed over.

    Raises:
        InputError: there are none.
    """
    inside = [path for kind in ("JPEGImages", "Annotations") for path in (root / kind).glob("*")]
    names = sorted({path.name for path in inside if path.is_dir() and path.name[0] != "."})
    if not names:
        raise InputError(f"{root}: no folders of videos in its JPEGImages and Annotations; check root")
    return names
