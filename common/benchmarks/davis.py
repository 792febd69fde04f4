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
    """DAVIS: the masks of the first frame are given, all frames but the first and the last are scored.

    In 2016 everything that is marked is one target. In 2017 the targets are the ids 1 to the highest of the first
    frame; ids that come later do not count, and an id missing in between counts as a target that is never there.
    Annotated splits serve for training as well.

    Args:
        root: folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``; default: a folder ``DAVIS2016``,
            ``DAVIS2017`` or ``DAVIS`` below ``$VIDSEG_DATA``.
        year: 2016 or 2017, protocol and split list. The 2017 package holds the list of 2016 too.
        split: name of a file in ``ImageSets``, e.g. ``train`` or ``val``.
        resolution: name of the folder of frames and annotations, e.g. ``480p``.
        videos: only these sequences, in this order; default: the whole split.
        frames: name of another folder that the frames are read from, e.g. ``Full-Resolution``. Given masks are then
            enlarged to the frames, and answers reduced to the annotations' size before they are scored or written.

    Raises:
        InputError: a year that does not exist; later, data that is missing or does not fit.
    """

    source = "https://davischallenge.org"

    def __init__(
        self,
        root: str | Path | None = None,
        year: int = 2017,
        split: str = "val",
        resolution: str = "480p",
        videos: Sequence[str] | None = None,
        frames: str | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.year, self.resolution, self.shown_at = int(year), resolution, frames or resolution
        self.one_size = self.shown_at == resolution
        if self.year not in (2016, 2017):
            raise InputError(f"year {year}: DAVIS is scored by the protocol of 2016 or 2017")
        self.layout = f"""
            JPEGImages/{self.shown_at}/<sequence>/00000.jpg
            Annotations/{resolution}/<sequence>/00000.png
            ImageSets/{year}/<split>.txt          names, one a line; of 2016 also ImageSets/480p with pairs of paths"""
        self.splits = ("train", "val", *(() if self.year == 2016 else ("test-dev", "test-challenge")))
        self.name, self.any_label = f"davis{year}", self.year == 2016
        self.folders = ("davis2016", "davis", "davis2017") if self.year == 2016 else ("davis2017", "davis")
        at = resolution if self.one_size else f"{resolution}, tracked on frames of {self.shown_at}"
        self.protocol = f"J&F at {at}, all frames but first and last, flat mean over objects of the first frame"

    def frames_folder(self, id: str) -> Path:
        """Where a sequence's frames lie."""
        return self.root / "JPEGImages" / self.shown_at / id

    def masks_folder(self, id: str) -> Path:
        """Where its label maps lie."""
        return self.root / "Annotations" / self.resolution / id

    def listed(self) -> list[str]:
        """Names of the split file: one a line, or the pairs of paths of the original 2016 package."""
        path = self.root / "ImageSets" / str(self.year) / f"{self.split}.txt"
        pairs = self.root / "ImageSets" / self.resolution / f"{self.split}.txt"
        if self.year == 2016 and not path.is_file() and pairs.is_file():
            # /JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png
            return list(dict.fromkeys(Path(line.split()[0]).parent.name for line in read_list(pairs)))
        return read_list(path)

    def open(self, id: str) -> Video:
        """One sequence. See ``FolderVOS.open``."""
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
        """J and F at the annotations' size. See ``Benchmark.measure``."""
        return super().measure(video, reduced(video, answers))

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Palette PNG ``<sequence>/<frame>.png`` for every frame, of the annotations' size."""
        return super().write(video, reduced(video, answers), folder)


def reduced(video: Video, answers: Iterable[FrameMasks]) -> Iterator[FrameMasks]:
    """Answers of the size of the annotations: a pixel is a target's where most of what it covers is."""
    size = video.attributes.get("answer_size")
    for answer in answers:
        if size is None or tuple(answer.masks.shape[1:]) == size:
            yield answer
        else:
            shares = F.interpolate(answer.masks[None].float(), size, mode="bilinear", antialias=True)[0]
            yield replace(answer, masks=shares > 0.5)
