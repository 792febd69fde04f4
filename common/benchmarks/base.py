"""Base class of benchmarks: videos, a protocol, a metric and a submission format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from torch import Tensor

from common.benchmarks.roots import find_root
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.files import digest
from common.metrics.rows import RowMetric
from common.video import FrameMasks, Video


class Benchmark(ABC):
    """A split of a data set with its evaluation protocol; also a map-style data set of its videos.

    Construction is lazy: metadata is available without the data, which is located on first access.

    Attributes:
        name: identifier of the benchmark, e.g. ``davis2016``.
        split: part of the data set, e.g. ``val``.
        protocol: one line that names everything on which a number depends: scored frames, averaging, variants.
        task: ``VOS``, ``VQS``, ``VQ2D``, ``VOTS``, ``VIS``, ``VSS``, ``VPS``, ``RefVOS`` or ``PVOS``.
        numbers: keys of ``metric().compute()`` that tables report, the main one first.
        folders: accepted names of the data folder in ``$VIDSEG_DATA``, preferred first, in lower-case letters and
            digits.
        source: where to obtain the data.
        splits: available splits.
        layout: expected files in ``root``, as an indented tree.

    Args:
        root: folder of the data; default: the first of ``folders`` found in ``$VIDSEG_DATA`` (case and punctuation are
            ignored).
        split: part of the data set.
        videos: names of the videos to use, in this order; default: all videos of the split.
    """

    name: str
    protocol: str
    task: str = "VOS"
    numbers: tuple[str, ...]
    folders: tuple[str, ...] = ()
    source: str = ""
    splits: tuple[str, ...] = ("val",)
    layout: str = ""

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        self.user_root, self.split, self.video_subset = root, split, videos

    @cached_property
    def root(self) -> Path:
        """Folder of the data.

        Raises:
            InputError: the folder does not exist; the message says where to obtain the data and where to put it.
        """
        return find_root(self.user_root, self.folders, self.source)

    @cached_property
    def ids(self) -> list[str]:
        """Names of the videos in use.

        Raises:
            InputError: the data or the split is missing, or a requested video is not part of the split.
        """
        available = self.list_videos()
        for video in self.video_subset or ():
            if video not in available:
                raise InputError(f"{video}: not in {self.name} {self.split}, which has {', '.join(available)}")
        return available if self.video_subset is None else list(self.video_subset)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Video:
        return self.open(self.ids[index])

    @abstractmethod
    def list_videos(self) -> list[str]:
        """Return the names of all videos of the split, in the order of the split file."""

    @abstractmethod
    def open(self, id: str) -> Video:
        """Open a video. Frames and annotations are read on access.

        Args:
            id: name of the video.
        """

    # Scoring.

    @abstractmethod
    def metric(self) -> RowMetric:
        """Create a metric: ``extend(**measure(...))`` adds a video, ``compute()`` returns the reported numbers."""

    @abstractmethod
    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Score one video from a stream of predictions.

        Args:
            video: the video.
            answers: predictions in frame order, covering at least the scored frames.

        Returns:
            Small float64 tensors, the arguments of ``metric().extend``. The last dimension holds the targets (or the
            items of ``column_names``): (N,), or (T, N) with one value per scored frame; NaN where a frame does not
            count for a target.

        Raises:
            InputError: a prediction is missing or differs in size from the annotation.
        """

    def item_scores(self, measured: dict[str, Tensor]) -> dict[str, float]:
        """Return the reported numbers of a single video or target.

        Args:
            measured: result of ``measure``, or one of its columns.
        """
        metric = self.metric()
        # The item exists on this process only, so nothing may be gathered from the others.
        metric.distributed_available_fn = lambda: False
        metric.extend(**measured)
        return {key: float(value) for key, value in metric.compute().items()}

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return the names of the per-object columns of ``measured``; by default the targets.

        Args:
            video: the video.
            measured: result of ``measure``.
        """
        object_names = video.attributes.get("objects", {})
        names = [str(object_names.get(target, target)) for target in video.targets]
        count = next(iter(measured.values())).shape[-1]
        return names if len(names) == count else [str(n + 1) for n in range(count)]

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the indices of the scored frames, ascending; by default all annotated frames.

        Args:
            video: the video.
        """
        return range(len(video)) if video.annotated is None else video.annotated

    def protocol_id(self, scored: dict[str, int]) -> str:
        """Return a hash of everything that makes two numbers incomparable.

        Args:
            scored: number of scored frames by video.
        """
        return digest(self.name, self.split, self.protocol, scored)

    # Submissions.

    @abstractmethod
    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write one video of a submission in the official format while passing its predictions through.

        Args:
            video: the video.
            answers: predictions in frame order.
            folder: folder of the submission.

        Yields:
            The predictions, unchanged.
        """

    @abstractmethod
    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the predictions of one video from a submission.

        Args:
            video: the video.
            folder: folder of the submission.
            errors: collects faults of the submission. Where it does not raise, the faulty item counts as empty.

        Yields:
            Predictions in frame order, for at least the scored frames.
        """

    def pack(self, folder: Path) -> Path | None:
        """Pack a complete submission into the file that the evaluation server accepts; None if there is no server.

        Args:
            folder: folder of the submission.
        """
        return None
