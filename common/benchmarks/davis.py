"""DAVIS 2016 and 2017, semi-supervised.

Sources: Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675. Data: https://davischallenge.org
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from common.benchmarks.layouts.per_video import FolderVOS, read_list
from common.errors import InputError
from common.video import FrameMasks, Video


class DAVIS(FolderVOS):
    """DAVIS: the masks of the first frame are given; all frames but the first and the last are scored.

    In 2016 all labels are merged into one target. In 2017 the targets are the ids from 1 to the highest of the first
    frame. Ids that appear later are ignored, and an unused id in between counts as a target that is always absent.
    Annotated splits can also be used for training.

    Args:
        root: folder with ``JPEGImages``, ``Annotations`` and ``ImageSets``; default: a folder ``DAVIS2016``,
            ``DAVIS2017`` or ``DAVIS`` in ``$VIDSEG_DATA``.
        year: 2016 or 2017; selects the protocol and the split file. The 2017 package contains the split files of 2016.
        split: name of a file in ``ImageSets``, e.g. ``train`` or ``val``.
        resolution: name of the folder of frames and annotations, e.g. ``480p``.
        videos: names of the sequences to use, in this order; default: all sequences of the split.
        frame_resolution: name of another folder to read frames from, e.g. ``Full-Resolution``. Prompt masks are then
            enlarged to the frames, and predictions are resized to the annotations before scoring or writing.

    Raises:
        InputError: the year does not exist; on access, the data is missing or inconsistent.
    """

    source = "https://davischallenge.org"

    def __init__(
        self,
        root: str | Path | None = None,
        year: int = 2017,
        split: str = "val",
        resolution: str = "480p",
        videos: Sequence[str] | None = None,
        frame_resolution: str | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.year, self.resolution = int(year), resolution
        self.frame_resolution = frame_resolution or resolution
        self.one_size = self.frame_resolution == resolution
        if self.year not in (2016, 2017):
            raise InputError(f"year {year}: DAVIS is scored by the protocol of 2016 or 2017")
        self.layout = f"""
            JPEGImages/{self.frame_resolution}/<sequence>/00000.jpg
            Annotations/{resolution}/<sequence>/00000.png
            ImageSets/{year}/<split>.txt          names, one a line; of 2016 also ImageSets/480p with pairs of paths"""
        self.splits = ("train", "val", *(() if self.year == 2016 else ("test-dev", "test-challenge")))
        self.name, self.single_object = f"davis{year}", self.year == 2016
        self.folders = ("davis2016", "davis", "davis2017") if self.year == 2016 else ("davis2017", "davis")
        at = resolution if self.one_size else f"{resolution}, tracked on frames of {self.frame_resolution}"
        self.protocol = f"J&F at {at}, all frames but first and last, flat mean over objects of the first frame"

    def frames_folder(self, id: str) -> Path:
        """Return the folder of a sequence's frames.

        Args:
            id: name of the sequence.
        """
        return self.root / "JPEGImages" / self.frame_resolution / id

    def masks_folder(self, id: str) -> Path:
        """Return the folder of a sequence's label maps.

        Args:
            id: name of the sequence.
        """
        return self.root / "Annotations" / self.resolution / id

    def list_videos(self) -> list[str]:
        """Return the names in the split file: one a line, or pairs of paths in the original 2016 package."""
        path = self.root / "ImageSets" / str(self.year) / f"{self.split}.txt"
        pairs = self.root / "ImageSets" / self.resolution / f"{self.split}.txt"
        if self.year == 2016 and not path.is_file() and pairs.is_file():
            # /JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png
            return list(dict.fromkeys(Path(line.split()[0]).parent.name for line in read_list(pairs)))
        return read_list(path)

    def open(self, id: str) -> Video:
        """Open a sequence. See ``FolderVOS.open``."""
        video = super().open(id)
        size = getattr(video.frames, "size", None)
        if not self.one_size and size is not None:
            video.attributes["answer_size"] = tuple(video.prompts[0].mask.shape)  # type: ignore[union-attr]
            video.prompts = tuple(
                replace(
                    prompt, mask=F.interpolate(prompt.mask[None, None].float(), size, mode="nearest-exact")[0, 0] > 0
                )
                for prompt in video.prompts
                if prompt.mask is not None
            )
        return video

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return J and F, float64 (T, N) each, at the size of the annotations. See ``Benchmark.measure``."""
        return super().measure(video, resize_answers(video, answers))

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write palette PNGs ``<sequence>/<frame>.png`` at the size of the annotations. See ``Benchmark.write``."""
        return super().write(video, resize_answers(video, answers), folder)


def resize_answers(video: Video, answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Resize masks to the size of the annotations: a pixel is set if the mask covers more than half of it.

    Args:
        video: the video, with ``answer_size``, (H, W), among its attributes if the sizes differ.
        answers: predictions at the size of the frames.
    """
    size = video.attributes.get("answer_size")
    for answer in answers:
        if size is None or tuple(answer.masks.shape[1:]) == size:
            yield answer
        else:
            coverage = F.interpolate(answer.masks[None].float(), size, mode="bilinear", antialias=True)[0]
            yield replace(answer, masks=coverage > 0.5)
