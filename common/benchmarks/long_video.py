"""Long Video Dataset: three videos of thousands of frames, about twenty of which are annotated.

Source: Liang et al., "Video Object Segmentation with Adaptive Feature Bank and Uncertain-Region Refinement", NeurIPS
2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS
from common.benchmarks.own_folder import annotated_frames, list_video_folders, scored_frames_text
from common.files import digest
from common.video import Video, read_label_map


class LongVideo(FolderVOS):
    """Long Video Dataset: the mask of the first frame is given, the annotated frames are scored.

    All labels of a video are merged into one target. Papers do not state whether the first and the last annotated frame
    are scored. Copies of the data set differ in resolution, so the size is part of the protocol id.

    Args:
        root: folder with ``JPEGImages`` and ``Annotations``; default: a folder ``LongVideo`` in ``$VIDSEG_DATA``.
        skip_first_and_last: do not score the first and the last annotated frame.
        videos: names of the videos to use, in this order; default: all.
    """

    name = "longvideo"
    folders = ("longvideo", "longvideos", "longvideodataset")
    source = "https://github.com/xmlyqing00/AFB-URR"
    splits = ("all",)
    sparse = True
    single_object = True
    layout = """
        JPEGImages/<video>/<frame>.jpg
        Annotations/<video>/<frame>.png       some of the frames, the first among them"""

    def __init__(
        self, root: str | Path | None = None, skip_first_and_last: bool = True, videos: Sequence[str] | None = None
    ) -> None:
        super().__init__(root, "all", videos)
        self.skip_first_and_last = skip_first_and_last
        self.protocol = f"J&F, {scored_frames_text(True, skip_first_and_last)}, flat mean over videos"

    def list_videos(self) -> list[str]:
        """Return the names of all video folders."""
        return list_video_folders(self.root)

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the annotated frames, without the first and the last if ``skip_first_and_last``."""
        return super().scored_frames(video) if self.skip_first_and_last else annotated_frames(video)

    def protocol_id(self, scored: dict[str, int]) -> str:
        """Return ``Benchmark.protocol_id`` extended by the sizes of the videos."""
        return digest(super().protocol_id(scored), {id: self._size(id) for id in scored})

    def _size(self, id: str) -> list[int]:
        first = min(self.masks_folder(id).glob("*.png"))
        return list(read_label_map(first).shape)
