"""VIPOSeg: panoptic video object segmentation.

Source: Xu et al., "Video Object Segmentation in Panoptic Wild Scenes", IJCAI 2023.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from common.benchmarks.layouts.per_split import SplitVOS
from common.benchmarks.layouts.per_video import MaskFolder, first_appearances
from common.benchmarks.tasks.pvos import PVOSBenchmark
from common.errors import InputError
from common.files import read_json
from common.metrics.viposeg import subset_of
from common.video import Video


class VIPOSeg(SplitVOS, PVOSBenchmark):
    """VIPOSeg: the masks of things and stuff are given where they first appear.

    Args:
        root: folder with ``train`` and ``valid``.
        split: ``valid`` or ``train``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "viposeg"
    folders = ("viposeg",)
    source = "https://github.com/yoxu515/VIPOSeg-Benchmark"
    splits: tuple[str, ...] = ("valid", "train")
    sparse = True
    fps = 5.0
    protocol = (
        "G: mean of thing and stuff, seen and unseen, each the mean of mask and boundary IoU over all frames and "
        "objects given in an earlier frame"
    )
    layout = """
        valid/JPEGImages/<video>/<frame>.jpg
        valid/Annotations/<video>/<frame>.png         where objects first appear
        valid/Annotations_gt/<video>/<frame>.png      all frames; where it is missing, annotations are hidden
        valid/obj_class.json                          class of each object, that of VIPSeg from 0
        train/                                        the same, all annotations in Annotations"""

    def masks_folder(self, id: str) -> Path:
        """Return the folder of a video's label maps: the complete ones if available.

        Args:
            id: name of the video.
        """
        complete = self.split_folder / "Annotations_gt" / id
        return complete if complete.is_dir() else super().masks_folder(id)

    def list_videos(self) -> list[str]:
        """Return the videos in ``obj_class.json``."""
        return list(self.classes)

    @cached_property
    def classes(self) -> dict[str, dict[int, int]]:
        """Class of each object of each video.

        Raises:
            InputError: the file is missing or has another format.
        """
        path = self.split_folder / "obj_class.json"
        videos = read_json(path, "list of classes")
        try:
            return {video: {int(id): int(kind) for id, kind in objects.items()} for video, objects in videos.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f'{path}: must be {{"<video>": {{"<object>": <class>}}}} ({error})') from error

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """Return the frame in which each object first appears, by ascending id."""
        prompts = MaskFolder(self.split_folder / "Annotations" / id, truth.names, truth.frame_size, sparse=True)
        starts = first_appearances(prompts)
        for target in starts.keys() - self.classes[id].keys():
            raise InputError(
                f"{prompts.path(starts[target])}: object {target} is not in obj_class.json; unpack it again"
            )
        return starts

    def subsets(self, video: Video) -> list[int]:
        """Return the subset of each target by class and video, see ``subset_of``."""
        return [subset_of(self.classes[video.id][target], video.id) for target in video.targets]
