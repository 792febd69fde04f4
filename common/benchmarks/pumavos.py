"""PUMaVOS: partial and unusual masks.

Source: Bekuzarov et al., "XMem++: Production-level Video Segmentation From Few Annotated Frames", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS
from common.benchmarks.own_folder import list_video_folders


class PUMaVOS(FolderVOS):
    """PUMaVOS: 24 clips with masks of parts of objects, scored like DAVIS 2017. Every folder is a video.

    Args:
        root: folder with ``JPEGImages`` and ``Annotations``; default: ``PUMaVOS`` in ``$VIDSEG_DATA``.
        videos: names of the clips to use, in this order; default: all.
    """

    name = "pumavos"
    folders = ("pumavos",)
    source = "https://github.com/max810/XMem2"
    splits = ("all",)
    protocol = "J&F, all frames but first and last, flat mean over objects of the first frame"
    layout = """
        JPEGImages/<clip>/<frame>.jpg
        Annotations/<clip>/<frame>.png"""

    def __init__(self, root: str | Path | None = None, videos: Sequence[str] | None = None) -> None:
        super().__init__(root, "all", videos)

    def list_videos(self) -> list[str]:
        """Return the names of all video folders."""
        return list_video_folders(self.root)
