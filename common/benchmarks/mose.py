"""MOSE v1 and v2: complex scenes.

Sources: Ding et al., "MOSE: A New Dataset for Video Object Segmentation in Complex Scenes", ICCV 2023; Ding et al.,
"MOSEv2: A More Challenging Dataset for Video Object Segmentation in Complex Scenes", arXiv 2508.05630.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from common.benchmarks.layouts.per_split import SplitVOS, find_description, first_shown
from common.benchmarks.layouts.per_video import MaskFolder, first_appearances
from common.errors import InputError
from common.metrics import MOSEv2Metrics
from common.metrics.mose import adaptive_boundary_accuracy, smoothed_similarity


class MOSE(SplitVOS):
    """MOSE v1: J&F over all frames but the first and the last.

    ``train`` is annotated; its objects are those of the first frame. In ``valid`` and ``test`` every label map that is
    there is given: each object where it first appears. Their scores come from the server, whose code is not published.

    Args:
        root: folder that holds ``train``, ``valid`` and ``test``.
        split: one of them.
        videos: only these, in this order; default: the whole split.
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
        train/, test/                           likewise; train with all annotations"""
    sparse = False

    def listed(self) -> list[str]:
        """Names of the videos' folders, sorted.

        Raises:
            InputError: there are none.
        """
        place = self.split_folder / "Annotations"
        names = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        if not names:
            raise InputError(f"{place}: there are no folders of videos; unpack the data set again")
        return names

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The objects, and the frame index at which the mask of each is given."""
        complete = len(truth.annotated) == len(truth.names)
        return first_appearances(truth, truth.annotated[:1] if complete else None)


class MOSEv2(MOSE):
    """MOSE v2: J and an F whose tolerance shrinks with the object, over all frames but the first and the last.

    Objects are those that the description names, or without one all in the label maps. Each is given where it first
    appears and counts in every scored frame, before that too. See ``MOSEv2Metrics`` for the numbers.

    Args:
        root: folder that holds ``train``, ``valid`` and ``test``.
        split: one of them.
        mosev2_compat: score digit by digit like the public scorer; see ``adaptive_boundary_accuracy``.
        videos: only these, in this order; default: the whole split.
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
        mosev2_compat: bool = True,
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.mosev2_compat = mosev2_compat
        footprint = "footprint of the public scorer" if mosev2_compat else "centred footprint"
        self.protocol = f"J' and Fdot, {footprint}, all frames but first and last, flat mean over all objects"

    def starts(self, id: str, truth: MaskFolder) -> dict[int, int]:
        """The objects, and the frame index at which the mask of each is given."""
        try:
            find_description(self.split_folder)
        except InputError:
            return first_appearances(truth)
        targets = self.objects(id)
        shown = first_shown(truth, dict.fromkeys(targets, truth.annotated))
        return {target: shown.get(target, truth.annotated[0]) for target in targets}

    def metric(self) -> MOSEv2Metrics:
        """A fresh metric."""
        return MOSEv2Metrics(self.mosev2_compat)

    def measure_frame(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Numbers of one frame, float64 (N,) each, of masks bool (N, H, W)."""
        f_dot, f = adaptive_boundary_accuracy(pred, target, self.mosev2_compat)
        present = target.flatten(1).any(1).double()
        return {"j": smoothed_similarity(pred, target), "f_dot": f_dot, "f": f, "present": present}
