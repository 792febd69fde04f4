"""PUMaVOS: partial and unusual masks.

Source: Bekuzarov et al., "XMem++: Production-level Video Segmentation From Few Annotated Frames", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.benchmarks.layouts.per_video import FolderVOS
from common.benchmarks.own_folder import video_folders


class PUMaVOS(FolderVOS):
    """PUMaVOS: 24 clips with masks of parts of things, scored like DAVIS 2017. There is no list: every folder counts.

    Args:
        root: folder that holds ``JPEGImages`` and ``Annotations``; default: ``PUMaVOS`` below ``$VIDSEG_DATA``.
        videos: only these clips, in this order; default: all.
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

    def listed(self) -> list[str]:
        """Names of all folders of videos."""
        return video_folders(self.root)
