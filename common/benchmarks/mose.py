"""MOSE v1 and v2: video object segmentation in complex scenes.

Sources: Ding et al., "MOSE: A New Dataset for Video Object Segmentation in Complex Scenes", ICCV 2023; Ding et al.,
"MOSEv2: A More Challenging Dataset for Video Object Segmentation in Complex Scenes", arXiv 2508.05630.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from common.benchmarks.layouts.per_split import SplitVOS, find_meta_file, first_visible_frames
from common.benchmarks.layouts.per_video import MaskFolder, first_appearances
from common.errors import InputError
from common.metrics import MOSEv2Metrics
from common.metrics.mose import adaptive_boundary_accuracy, smoothed_similarity


class MOSE(SplitVOS):
    """MOSE v1: J&F over all frames but the first and the last.

    ``train`` is fully annotated; its objects are those of the first frame. In ``valid`` and ``test`` only the prompts
    are released, one per object where it first appears; they are scored by the server, whose code is not public.

    Args:
        root: folder with ``train``, ``valid`` and ``test``.
        split: ``valid``, ``train`` or ``test``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "mose"
    folders: tuple[str, ...] = ("mose", "mosev1", "mose1")
    source = "https://henghuiding.github.io/MOSE"
    protocol = (
        "J&F, all frames but first and last, flat mean over objects of the first frame; local, not the server's number"
    )
    layout = """
        valid/JPEGImages/<video>/00000.jpg
        valid/Annotations/<video>/00000.png     of the first frame
        train/, test/                           the same; train with all annotations"""
    sparse = False

    def list_videos(self) -> list[str]:
        """Return the sorted names of the video folders.

        Raises:
            InputError: there are none.
        """
        folder = self.split_folder / "Annotations"
        names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        if not names:
            raise InputError(f"{folder}: there are no folders of videos; unpack the data set again")
        return names

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The objects, and the frame index at which the mask of each is given."""
        complete = len(truth.annotated) == len(truth.names)
        return first_appearances(truth, truth.annotated[:1] if complete else None)


class MOSEv2(MOSE):
    """MOSE v2: J and an F whose tolerance shrinks with the object, over all frames but the first and the last.

    Objects are those listed in the meta file, or without one all ids in the label maps. Each is given where it first
    appears and is scored on every scored frame, including earlier ones. See ``MOSEv2Metrics`` for the numbers.

    Args:
        root: folder with ``train``, ``valid`` and ``test``.
        split: ``valid``, ``train`` or ``test``.
        official_compat: reproduce the public scorer exactly; see ``adaptive_boundary_accuracy``.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name = "mosev2"
    numbers = ("J&Fdot", "J", "Fdot", "J&Fdot_d", "J&Fdot_r", "F", "J&F")
    folders = ("mosev2", "mose2")
    source = "https://mose.video"
    layout = f"""{MOSE.layout}
        valid/meta.json                         or meta_valid.json, valid_meta.json: which objects each video has"""

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "valid",
        official_compat: bool = True,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.official_compat = official_compat
        footprint = "footprint of the public scorer" if official_compat else "centred footprint"
        self.protocol = f"J' and Fdot, {footprint}, all frames but first and last, flat mean over all objects"

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The objects, and the frame index at which the mask of each is given."""
        try:
            find_meta_file(self.split_folder)
        except InputError:
            return first_appearances(truth)
        targets = self.objects(id)
        starts = first_visible_frames(truth, dict.fromkeys(targets, truth.annotated))
        return {target: starts.get(target, truth.annotated[0]) for target in targets}

    def metric(self) -> MOSEv2Metrics:
        """Create the metric."""
        return MOSEv2Metrics(self.official_compat)

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Measure one frame: float64 (N,) each from masks bool (N, H, W). See ``VOSBenchmark.measure_frame``."""
        f_dot, f = adaptive_boundary_accuracy(pred, target, self.official_compat)
        present = target.flatten(1).any(1).double()
        return {"j": smoothed_similarity(pred, target), "f_dot": f_dot, "f": f, "present": present}
