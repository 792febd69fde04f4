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
from common.benchmarks.tasks.vos import select_answers, true_masks
from common.errors import InputError
from common.metrics.referring import ReferringMetrics, assign, pairwise_j_and_f
from common.metrics.rows import RowMetric
from common.video import VOID, FrameMasks, ImageFolder, Prompt, Video, read_label_map, write_label_map
from common.video.task_views import UnionMasks

SETS = ("Davis17_annot1", "Davis17_annot1_full_video", "Davis17_annot2", "Davis17_annot2_full_video")
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
LINE = re.compile(r'(\S+)\s+(\d+)\s+"?(.*?)"?\s*$')


class RefDAVIS(RefBenchmark):
    """Referring DAVIS 2017: four sets of expressions, of two annotators who saw the first frame or the whole video.

    Target 4 o + s + 1 is the expression of set s for object o + 1. Each set is scored as one prediction of all objects:
    where its masks overlap, a pixel goes to the mask with the highest score, and among equals to the first object. All
    frames are scored. Predicted objects are assigned to annotated ones as in the unsupervised mode of
    davis2017-evaluation. The reported number is the mean over the four sets. A submission consists of palette PNGs
    ``anno_<set>/<sequence>/<frame>.png`` for sets 0 to 3.

    Args:
        root: folder with ``DAVIS`` and ``davis_text_annotations``.
        split: ``val`` or ``train``.
        resolution: name of the folder of frames and annotations, e.g. ``480p``.
        videos: names of the sequences to use, in this order; default: all sequences of the split.
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

    def list_videos(self) -> list[str]:
        """Return the names in the split file."""
        return read_list(self.root / "DAVIS" / "ImageSets" / "2017" / f"{self.split}.txt")

    def masks_folder(self, id: str) -> Path:
        """Return the folder of a sequence's label maps.

        Args:
            id: name of the sequence.
        """
        return self.root / "DAVIS" / "Annotations_unsupervised" / self.resolution / id

    @cached_property
    def expressions(self) -> list[dict[tuple[str, int], str]]:
        """For each set, the expression of each (sequence, object)."""
        return [read_expressions(self.root / "davis_text_annotations" / f"{name}.txt") for name in SETS]

    def open(self, id: str) -> Video:
        """Open a sequence.

        Args:
            id: name of the sequence.

        Raises:
            InputError: frames, annotations or expressions are missing or inconsistent.
        """
        folder, stems = self.root / "DAVIS" / "JPEGImages" / self.resolution / id, self.masks_folder(id).glob("*.png")
        available = folder.parent.is_dir()
        frames = ImageFolder(folder) if available else AbsentFrames(folder, sorted(path.stem for path in stems))
        maps = MaskFolder(self.masks_folder(id), frames.names, frames.size)
        maps.targets = tuple(range(1, int(maps.labels(maps.annotated[0]).max()) + 1))
        texts: dict[int, str] = {}
        for object in maps.targets:
            for set_index, expressions in enumerate(self.expressions):
                if (id, object) not in expressions:
                    file = self.root / "davis_text_annotations" / f"{SETS[set_index]}.txt"
                    raise InputError(f"{file}: nothing is said of object {object} of {id}; unpack the file again")
                texts[len(SETS) * (object - 1) + set_index + 1] = expressions[id, object]
        objects = {target: (target - 1) // len(SETS) + 1 for target in texts}
        return Video(
            id=id,
            frames=frames,
            prompts=tuple(Prompt(target, text=text) for target, text in texts.items()),
            targets=tuple(texts),
            truth=UnionMasks(maps, [[object - 1] for object in objects.values()]),
            names=frames.names,
            attributes={"objects": objects},
            expressions={target: (text,) for target, text in texts.items()},
        )

    def metric(self) -> RowMetric:
        """Create the metric: J&F with assignment."""
        return ReferringMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return the arguments of ``ReferringMetrics.extend``, set by set. See ``Benchmark.measure``."""
        rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in SETS]
        for answer in select_answers(video, self.scored_frames(video), answers):
            true = true_masks(video, answer)[:: len(SETS)]
            void = self._void(video, answer.frame).to(true.device)
            for set_index, row in enumerate(rows):
                masks = exclusive_masks(answer, video.targets[set_index :: len(SETS)])
                row.append(pairwise_j_and_f(masks, true, void))
        sets = []
        for set_index, row in enumerate(rows):
            j, f = (torch.stack(values).cpu() for values in zip(*row, strict=True))
            sets.append(assign(j, f, set_index))
        return {key: torch.cat([measured[key] for measured in sets], -1) for key in sets[0]}

    def _void(self, video: Video, frame: int) -> Tensor:
        """Return the void pixels of a frame, bool (H, W)."""
        return read_label_map(self.masks_folder(video.id) / f"{video.name(frame)}.png") == VOID

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return the names of the objects, set by set."""
        objects = range(1, len(video.targets) // len(SETS) + 1)
        return [f"set {set_index}, object {object}" for set_index in range(len(SETS)) for object in objects]

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``anno_<set>/<sequence>/<frame>.png`` for every set and frame. See ``Benchmark.write``."""
        for answer in answers:
            for set_index in range(len(SETS)):
                masks = exclusive_masks(answer, video.targets[set_index :: len(SETS)])
                ids = torch.arange(1, len(masks) + 1, dtype=torch.uint8, device=masks.device)[:, None, None]
                path = folder / f"anno_{set_index}" / video.id / f"{video.name(answer.frame)}.png"
                write_label_map(path, (masks * ids).sum(0, dtype=torch.uint8))
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read all frames of the four sets. See ``Benchmark.read``."""
        frames = self.scored_frames(video)
        size, objects = annotation_size(video, frames), len(video.targets) // len(SETS)
        # One set of the submission has the objects themselves as targets.
        single_set = Video(video.id, video.frames, targets=tuple(range(1, objects + 1)), names=video.names)
        folders = [folder / f"anno_{set_index}" / video.id for set_index in range(len(SETS))]
        sets = [label_masks(single_set, frames, place, size, errors) for place in folders]
        empty = torch.zeros(objects, *size, dtype=torch.bool)
        for frame, set_masks in zip(frames, zip(*sets, strict=True), strict=True):
            masks = torch.stack([empty if one is None else one for one in set_masks], 1).flatten(0, 1)
            yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def exclusive_masks(answer: FrameMasks, targets: Sequence[int]) -> Tensor:
    """Return disjoint masks bool (N, H, W): each pixel goes to the target with the highest score, the first of equals.

    Args:
        answer: prediction with possibly overlapping masks.
        targets: N target ids.
    """
    masks = answer.select(tuple(targets))
    score = {target: float(answer.scores[row]) for row, target in enumerate(answer.targets)}
    free = torch.ones_like(masks[0])
    for row in sorted(range(len(targets)), key=lambda row: -score.get(targets[row], 0.0)):
        masks[row] &= free
        free &= ~masks[row]
    return masks


def read_expressions(path: Path) -> dict[tuple[str, int], str]:
    """Read the expression of each (sequence, object).

    Args:
        path: text file with lines ``<sequence> <object> "<expression>"``.

    Raises:
        InputError: the file is missing, or a line has another format.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of expressions; it comes with Ref-DAVIS")
    expressions = {}
    for number, line in enumerate(path.read_bytes().decode("latin-1").splitlines(), start=1):
        if not line.strip():
            continue
        match = LINE.match(line)
        if match is None or not match[3].strip():
            raise InputError(f'{path}: line {number} is not <sequence> <object> "<expression>"; unpack the file again')
        expressions[MISSPELT.get(match[1], match[1]), int(match[2])] = match[3].strip()
    return expressions
