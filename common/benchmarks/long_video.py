"""The Long Video Dataset: three videos of thousands of frames, about twenty annotated in each.

Source: Liang et al., "Video Object Segmentation with Adaptive Feature Bank and Uncertain-Region Refinement", NeurIPS
2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS
from common.benchmarks.own_folder import annotated, scored, video_folders
from common.files import digest
from common.video import Video, read_label_map


class LongVideo(FolderVOS):
    """Long Video Dataset: the mask of the first frame is given, the few annotated frames are scored.

    One target a video, which is everything that is marked. Papers do not say whether the first and the last annotated
    frame count. Copies in other sizes circulate, so the size is part of the protocol id.

    Args:
        root: folder that holds ``JPEGImages`` and ``Annotations``; default: a folder ``LongVideo`` below
            ``$VIDSEG_DATA``.
        drop_ends: the first and the last annotated frame are not scored.
        videos: only these, in this order; default: all.
    """

    name = "longvideo"
    folders = ("longvideo", "longvideos", "longvideodataset")
    source = "https://github.com/xmlyqing00/AFB-URR"
    splits = ("all",)
    sparse = True
    any_label = True
    layout = """
        JPEGImages/<video>/<frame>.jpg
        Annotations/<video>/<frame>.png       some of the frames, the first among them"""

    def __init__(
        self, root: str | Path | None = None, drop_ends: bool = True, videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, "all", videos)
        self.drop_ends = drop_ends
        self.protocol = f"J&F, {scored(True, drop_ends)}, flat mean over videos"

    def listed(self) -> list[str]:
        """Names of all folders of videos."""
        return video_folders(self.root)

    def scored_frames(self, video: Video) -> Sequence[int]:
        """All annotated frames, without the first and the last where ``drop_ends``."""
        return super().scored_frames(video) if self.drop_ends else annotated(video)

    def protocol_id(self, scored: dict[str, int]) -> str:
        """See ``Benchmark.protocol_id``; the videos' sizes are part of it."""
        return digest(super().protocol_id(scored), {id: self._size(id) for id in scored})

    def _size(self, id: str) -> list[int]:
        first = min(self.masks_folder(id).glob("*.png"))
        return list(read_label_map(first).shape)
