"""Ref-DAVIS-2017: referring video object segmentation with four sets of expressions.

Source: Khoreva et al., "Video Object Segmentation with Language Referring Expressions", ACCV 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.layouts.per_video import AbsentFrames, MaskFolder, read_list
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import annotation_size, label_masks
from common.benchmarks.tasks.referring import RefBenchmark
from common.benchmarks.tasks.vos import answered, true_masks
from common.errors import InputError
from common.metrics.referring import ReferringMetrics, assign, pairwise_j_and_f
from common.metrics.rows import RowMetric
from common.video import VOID, FrameMasks, ImageFolder, Prompt, Video, read_label_map, write_label_map
from common.video.task_views import Joined

SETS = ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
LINE = re.compile(r'(\S+)\s+(\d+)\s+"?(.*?)"?\s*$')


class RefDAVIS(RefBenchmark):
    """DAVIS 2017 by expressions: those of two people who saw the first frame, then the whole video.

    Target 4 o + s + 1 is what set s says of object o + 1. A set is scored as one answer with all objects: where its
    masks overlap a pixel goes to the highest score, of equals to the first object. All frames count; what is predicted
    is assigned to the true objects, as the unsupervised mode of davis2017-evaluation does. The number is the mean of
    the four sets. A submission is ``anno_<set>/<sequence>/<frame>.png``, palette, set 0 to 3.

    Args:
        root: folder that holds ``DAVIS`` and ``davis_text_annotations``.
        split: ``val`` or ``train``.
        resolution: name of the folder of frames and annotations, e.g. ``480p``.
        videos: only these sequences, in this order; default: the whole split.
    """

    name = "refdavis"
    numbers = ("J&F", "J", "F", "J&F_fixed")
    folders = ("refdavis", "refdavis2017", "refdavis17")
    source = "https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning (and davischallenge.org)"
    splits = ("val", "train")

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "val",
        resolution: str = "480p",
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        self.resolution = resolution
        self.layout = f"""
            DAVIS/JPEGImages/{resolution}/<sequence>/00000.jpg
            DAVIS/Annotations_unsupervised/{resolution}/<sequence>/00000.png
            DAVIS/ImageSets/2017/val.txt, train.txt
            davis_text_annotations/Davis17_annot1.txt, Davis17_annot1_full_video.txt, and of annot2"""
        self.protocol = (
            f"J&F at {resolution}, four sets of expressions, in each all frames, objects assigned as in davis2017's "
            "unsupervised mode, void left out; mean over objects, then sets"
        )

    def listed(self) -> list[str]:
        """Names of the split file."""
        return read_list(self.root / "DAVIS" / "ImageSets" / "2017" / f"{self.split}.txt")

    def masks_folder(self, id: str) -> Path:
        """Where a sequence's label maps lie."""
        return self.root / "DAVIS" / "Annotations_unsupervised" / self.resolution / id

    @cached_property
    def said(self) -> list[dict[tuple[str, int], str]]:
        """Of each set, the expression of each sequence and object."""
        return [read_expressions(self.root / "davis_text_annotations" / f"{name}.txt") for name in SETS]

    def open(self, id: str) -> Video:
        """One video.

        Raises:
            InputError: its frames, annotations or expressions are missing, or do not fit each other.
        """
        folder, stems = self.root / "DAVIS" / "JPEGImages" / self.resolution / id, self.masks_folder(id).glob("*.png")
        here = folder.parent.is_dir()
        frames = ImageFolder(folder) if here else AbsentFrames(folder, sorted(path.stem for path in stems))
        maps = MaskFolder(self.masks_folder(id), frames.names, frames.size)
        maps.targets = tuple(range(1, int(maps.labels(maps.annotated[0]).max()) + 1))
        texts: dict[int, str] = {}
        for object in maps.targets:
            for place, said in enumerate(self.said):
                if (id, object) not in said:
                    file = self.root / "davis_text_annotations" / f"{SETS[place]}.txt"
                    raise InputError(f"{file}: nothing is said of object {object} of {id}; unpack the file again")
                texts[len(SETS) * (object - 1) + place + 1] = said[id, object]
        objects = {target: (target - 1) // len(SETS) + 1 for target in texts}
        return Video(
            id=id,
            frames=frames,
            prompts=tuple(Prompt(target, text=text) for target, text in texts.items()),
            targets=tuple(texts),
            truth=Joined(maps, [[object - 1] for object in objects.values()]),
            names=frames.names,
            attributes={"objects": objects},
            expressions={target: (text,) for target, text in texts.items()},
        )

    def metric(self) -> RowMetric:
        """A fresh J&F with assignment."""
        return ReferringMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """The arguments of ``ReferringMetrics.extend``, set by set. See ``Benchmark.measure``."""
        rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in SETS]
        for answer in answered(video, self.scored_frames(video), answers):
            true = true_masks(video, answer)[:: len(SETS)]
            void = self._void(video, answer.frame).to(true.device)
            for place, row in enumerate(rows):
                said = exclusive(answer, video.targets[place :: len(SETS)])
                row.append(pairwise_j_and_f(said, true, void))
        sets = []
        for place, row in enumerate(rows):
            j, f = (torch.stack(values).cpu() for values in zip(*row, strict=True))
            sets.append(assign(j, f, place))
        return {key: torch.cat([one[key] for one in sets], -1) for key in sets[0]}

    def _void(self, video: Video, frame: int) -> Tensor:
        """Pixels that count for no object, bool (H, W)."""
        return read_label_map(self.masks_folder(video.id) / f"{video.name(frame)}.png") == VOID

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """The objects, set by set."""
        objects = range(1, len(video.targets) // len(SETS) + 1)
        return [f"set {place}, object {object}" for place in range(len(SETS)) for object in objects]

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``anno_<set>/<sequence>/<frame>.png`` for every set and frame."""
        for answer in answers:
            for place in range(len(SETS)):
                masks = exclusive(answer, video.targets[place :: len(SETS)])
                ids = torch.arange(1, len(masks) + 1, dtype=torch.uint8, device=masks.device)[:, None, None]
                path = folder / f"anno_{place}" / video.id / f"{video.name(answer.frame)}.png"
                write_label_map(path, (masks * ids).sum(0, dtype=torch.uint8))
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """All frames of the four sets."""
        frames = self.scored_frames(video)
        size, objects = annotation_size(video, frames), len(video.targets) // len(SETS)
        alone = Video(video.id, video.frames, targets=tuple(range(1, objects + 1)), names=video.names)
        places = [folder / f"anno_{place}" / video.id for place in range(len(SETS))]
        sets = [label_masks(alone, frames, place, size, faults) for place in places]
        nothing = torch.zeros(objects, *size, dtype=torch.bool)
        for frame, found in zip(frames, zip(*sets, strict=True), strict=True):
            masks = torch.stack([nothing if one is None else one for one in found], 1).flatten(0, 1)
            yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def exclusive(answer: FrameMasks, targets: Sequence[int]) -> Tensor:
    """Masks bool (N, H, W) of some targets, each pixel with the highest score alone; of equals the first."""
    masks = answer.select(tuple(targets))
    score = {target: float(answer.scores[row]) for row, target in enumerate(answer.targets)}
    free = torch.ones_like(masks[0])
    for row in sorted(range(len(targets)), key=lambda row: -score.get(targets[row], 0.0)):
        masks[row] &= free
        free &= ~masks[row]
    return masks


def read_expressions(path: Path) -> dict[tuple[str, int], str]:
    """Expression of each (sequence, object) of a text file, whose lines are ``<sequence> <object> "<expression>"``.

    Raises:
        InputError: no such file, or a line of another form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of expressions; it comes with Ref-DAVIS")
    said = {}
    for number, line in enumerate(path.read_bytes().decode("latin-1").splitlines(), start=1):
        if not line.strip():
            continue
        match = LINE.match(line)
        if match is None or not match[3].strip():
            raise InputError(f'{path}: line {number} is not <sequence> <object> "<expression>"; unpack the file again')
        said[MISSPELT.get(match[1], match[1]), int(match[2])] = match[3].strip()
    return said
