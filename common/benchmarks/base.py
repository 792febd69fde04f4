"""What a benchmark is: videos, a protocol, a metric and a submission format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor
from torchmetrics import Metric

from common.video import FrameMasks, Video


class Benchmark(ABC):
    """A split of a data set with its protocol. It is itself the map-style data set of its videos.

    Attributes:
        name: the suite's benchmark id, e.g. ``davis2016``.
        split: e.g. ``val``.
        protocol: one line: frames scored, averaging, anything that makes two numbers incomparable.
    """

    name: str
    split: str
    protocol: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Video: ...

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh metric; ``metric.extend(**measure(...))`` adds one video, ``compute()`` gives the table's numbers."""

    @abstractmethod
    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Score one video while its answers stream in (frames in order, each once).

        Returns:
            Small float64 tensors (per frame and target), the arguments of ``metric().extend``.

        Raises:
            InputError: an answer is missing or has another size than the annotation.
        """

    def write(self, video: Video, answer: FrameMasks, folder: Path) -> None:
        """Write one frame of the official submission below ``folder``. Default: palette PNG ``<video>/<frame>.png``."""
        from common.video.masks import write_label_map

        write_label_map(folder / video.id / f"{video.name(answer.frame)}.png", answer.label_map())

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Indices of the frames that count. Default: all but the first and the last (DAVIS semi-supervised)."""
        return range(1, len(video) - 1)
