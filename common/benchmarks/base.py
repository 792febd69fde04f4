"""What a benchmark is: videos, a protocol, a metric and a submission format."""

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
    """A split of a data set with its protocol. It is itself the map-style data set of its videos.

    Making one reads nothing: what it is can be told without its data, which is looked for when it is used.

    Attributes:
        name: the suite's benchmark id, e.g. ``davis2016``.
        split: e.g. ``val``.
        protocol: one line: frames scored, averaging, anything that makes two numbers incomparable.
        task: ``VOS``, ``VQS``, ``VQ2D``, ``VOTS``, ``VIS``, ``VSS``, ``VPS``, ``RefVOS`` or ``PVOS``.
        numbers: those of ``metric().compute()`` that a table shows, the main one first.
        folders: accepted names of the data's folder below ``$VIDSEG_DATA``, best first, in lower case and digits alone.
        source: where to get the data.
        splits: those that the data set has.
        layout: the files below ``root``, as an indented tree.

    Args:
        root: folder of the data; default: the first of ``folders`` below ``$VIDSEG_DATA`` (case and punctuation do not
            matter).
        split: part of the data set.
        videos: only these, in this order; default: the whole split.
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
        self.given_root, self.split, self.chosen = root, split, videos

    @cached_property
    def root(self) -> Path:
        """Folder of the data.

        Raises:
            InputError: it is not there; says where to get it and where to put it.
        """
        return find_root(self.given_root, self.folders, self.source)

    @cached_property
    def ids(self) -> list[str]:
        """The videos' names.

        Raises:
            InputError: no data, no such split, or a video was asked for that is not in it.
        """
        listed = self.listed()
        for video in self.chosen or ():
            if video not in listed:
                raise InputError(f"{video}: not in {self.name} {self.split}, which has {', '.join(listed)}")
        return listed if self.chosen is None else list(self.chosen)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Video:
        return self.open(self.ids[index])

    @abstractmethod
    def listed(self) -> list[str]:
        """Names of all videos of the split, in the order of its list."""

    @abstractmethod
    def open(self, id: str) -> Video:
        """One video. Its frames and annotations are read when they are asked for."""

    # Scoring.

    @abstractmethod
    def metric(self) -> RowMetric:
        """A fresh metric; ``metric.extend(**measure(...))`` adds one video, ``compute()`` gives the table's numbers."""

    @abstractmethod
    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Score one video while its answers stream in: in frame order, at least every scored frame.

        Returns:
            Small float64 tensors, the arguments of ``metric().extend``. The last dimension is the target, or what
            ``columns`` says: (N,) or, for one number each scored frame, (T, N); NaN where a frame does not count for a
            target.

        Raises:
            InputError: an answer is missing or has another size than the annotation.
        """

    def alone(self, measured: dict[str, Tensor]) -> dict[str, float]:
        """The table's numbers of one video, or of one target, by itself."""
        metric = self.metric()
        metric.distributed_available_fn = lambda: False
        metric.extend(**measured)
        return {key: float(value) for key, value in metric.compute().items()}

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Names of the columns of what was measured that mean something by themselves: the targets, by default."""
        known = video.attributes.get("objects", {})
        names = [str(known.get(target, target)) for target in video.targets]
        count = next(iter(measured.values())).shape[-1]
        return names if len(names) == count else [str(n + 1) for n in range(count)]

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Indices of the frames that count, ascending. Default: all that are annotated."""
        return range(len(video)) if video.annotated is None else video.annotated

    def protocol_id(self, scored: dict[str, int]) -> str:
        """Changes with all that makes two numbers incomparable.

        Args:
            scored: number of scored frames of each video.
        """
        return digest(self.name, self.split, self.protocol, scored)

    # Submissions.

    @abstractmethod
    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write one video of the official submission below ``folder`` while its answers pass through."""

    @abstractmethod
    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The answers that some tool wrote for one video, in frame order, at least every scored frame.

        Anything wrong goes to ``faults``; where that does not raise, it counts as empty.
        """

    def pack(self, folder: Path) -> Path | None:
        """Make the file that the server takes out of a whole submission; None where nobody takes any."""
        return None
