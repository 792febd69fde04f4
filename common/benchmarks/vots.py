"""VOTS2023, VOTS2024 and VOTSt2024: tracking of multiple objects by masks, in the layout of the VOT toolkit.

Source: Kristan et al., "The First Visual Object Tracking Segmentation VOTS2023 Challenge Results", ICCVW 2023, and
vot-toolkit 0.9.0.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.layouts.per_video import AbsentFrames, read_list
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import zip_folder
from common.benchmarks.tasks.vos import select_answers, true_masks
from common.errors import InputError
from common.metrics import VOTSMetrics
from common.metrics.vots import NUMBERS, measure_regions
from common.video import FrameMasks, ImageFolder, Prompt, Video
from common.vot.regions import INITIALISED, NOT_REPORTED, UNKNOWN, Mask, Region, Special, raster
from common.vot.workspace import VOTSequence, read_results, read_sequence, region_at, write_results

EXPERIMENT = "baseline"
# (edition, split) -> names of the workspace folder; VOTS2024 reused the sequences of VOTS2023
FOLDERS = {
    ("vots2023", "test"): ("vots2023", "vots2024", "vots"),
    ("vots2024", "test"): ("vots2024", "vots2023", "vots"),
    ("votst2024", "test"): ("votst2024test", "votst2024", "votst"),
    ("votst2024", "val"): ("votst2024val", "votstval", "votst2024", "votst"),
}


class VOTS(Benchmark):
    """VOTS: the masks of the first frame are given; every object is reported or declared absent in every frame.

    The test splits contain only the ground truth of the first frame, so a run writes a submission for the server.
    Sequences with more ground truth are scored locally. VOTSt scores only the frames tagged ``evaluation``. Objects may
    overlap. Their ids are text; targets are numbered from 1 in the order of the ids, and ``attributes["objects"]`` of a
    video maps each target to its id.

    Args:
        root: workspace of the toolkit, with ``sequences/list.txt``; default: a folder with the name of the edition in
            ``$VIDSEG_DATA``.
        edition: ``vots2023``, ``vots2024`` or ``votst2024``.
        split: ``test``, or ``val`` of ``votst2024``.
        init_frame: treatment of the first frame, ``count`` or ``skip``, see ``VOTSMetrics``.
        tracker: name under which results are written.
        videos: names of the sequences to use, in this order; default: all sequences of the split.

    Raises:
        InputError: the edition, split or ``init_frame`` does not exist; on access, the data is missing or inconsistent.
    """

    task = "VOTS"
    numbers = NUMBERS
    source = "https://www.votchallenge.net"
    layout = """
        sequences/list.txt                              names, one a line
        sequences/<sequence>/sequence                   name=..., fps=..., channels.color=color/%08d.jpg
        sequences/<sequence>/color/00000001.jpg
        sequences/<sequence>/groundtruth_<object>.txt   a region a line; groundtruth.txt of a single object
        sequences/<sequence>/evaluation.tag             votst2024: which frames count"""

    def __init__(
        self,
        root: str | Path | None = None,
        edition: str = "vots2023",
        split: str = "test",
        init_frame: str = "count",
        tracker: str = "vidseg",
        videos: Sequence[str] | None = None,
    ) -> None:
        super().__init__(root, split, videos)
        if (edition, split) not in FOLDERS:
            pairs = ", ".join(" ".join(pair) for pair in FOLDERS)
            raise InputError(f"{edition} {split}: no such edition and split of VOTS; there are {pairs}")
        if init_frame not in ("count", "skip"):
            raise InputError(f"init_frame {init_frame}: the first frame is 'count' (as missed) or 'skip'")
        self.splits = tuple(name for key, name in FOLDERS if key == edition)
        self.name, self.folders, self.tracker = edition, FOLDERS[edition, split], tracker
        self.init_frame, self.tag = init_frame, "evaluation" if edition == "votst2024" else None
        frames = f"frames tagged {self.tag}" if self.tag else "all frames"
        first = "first counted as missed" if init_frame == "count" else "first left out"
        self.protocol = f"VOTS measures, {frames} with ground truth, {first}, mean over objects, then sequences"

    def list_videos(self) -> list[str]:
        """Return the names in ``sequences/list.txt``."""
        return read_list(self.root / "sequences" / "list.txt", "list of sequences")

    def open(self, id: str) -> Video:
        """Open a sequence. Its ground truth is read now and rasterised on access.

        Args:
            id: name of the sequence.

        Raises:
            InputError: a file is missing or invalid, or an object is absent from the first frame.
        """
        sequence = read_sequence(self.root / "sequences" / id)
        frames = _frames(sequence)
        size = _size(sequence, frames)
        truth = VOTSTruth(sequence, size)
        annotated = [frame for frame in range(len(frames)) if truth.annotated_objects(frame).any()]
        objects = dict(enumerate(sequence.objects, 1))
        attributes: dict[str, Any] = {"objects": objects, "size": size}
        hidden = annotated == [0] and len(frames) > 1
        if self.tag and not hidden:
            attributes["tagged"] = sequence.tagged(self.tag)
        return Video(
            id=id,
            frames=frames,
            fps=sequence.number("fps") or 24.0,
            prompts=_prompts(sequence, size),
            targets=tuple(objects),
            truth=None if hidden else truth,
            names=frames.names,
            attributes=attributes,
            annotated=None if hidden else annotated,
        )

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return the frames in which any object has ground truth; in VOTSt only the tagged ones."""
        frames = super().scored_frames(video)
        if "tagged" not in video.attributes:
            return frames
        tagged = set(video.attributes["tagged"])
        return [frame for frame in frames if frame in tagged]

    def metric(self) -> VOTSMetrics:
        """Create the metric: the measures of the challenge."""
        return VOTSMetrics(self.init_frame)

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return the arguments of ``VOTSMetrics.extend``, float64 (T, N) each on the CPU. See ``Benchmark.measure``."""
        frames, truth = self.scored_frames(video), video.truth
        if not isinstance(truth, VOTSTruth) or not frames:
            reason = "only the server has its ground truth" if truth is None else "none of its frames count"
            raise InputError(f"sequence {video.id} of {self.name} {self.split} cannot be scored: {reason}")
        rows = []
        for answer in select_answers(video, frames, answers):
            target = true_masks(video, answer)
            void = truth.void(answer.frame).to(target.device)
            overlap, *states = measure_regions(answer.select(video.targets), target, void)
            unknown = ~truth.annotated_objects(answer.frame).to(target.device)
            initialised = torch.full_like(overlap, answer.frame == 0)
            rows.append(torch.stack([overlap.masked_fill(unknown, torch.nan), *states, initialised]))
        names = ("overlap", "present", "reported", "initialised")
        return dict(zip(names, torch.stack(rows, 1).cpu(), strict=True))

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``results/<tracker>/baseline/<sequence>/<sequence>_<object>_001.txt`` and times after the last frame.

        The time of a frame is the time that the prediction takes to arrive. See ``Benchmark.write``.
        """
        tracks: dict[str, list[Region]] = {id: [] for id in video.attributes["objects"].values()}
        seconds, stream, start = [], iter(answers), time.perf_counter()
        while (answer := next(stream, None)) is not None:
            seconds.append(time.perf_counter() - start)
            for track, mask in zip(tracks.values(), answer.select(video.targets), strict=True):
                region = Mask.of(mask) if mask.any() else NOT_REPORTED
                track.append(INITIALISED if answer.frame == 0 else region)
            yield answer
            start = time.perf_counter()
        write_results(folder / "results" / self.tracker / EXPERIMENT, video.id, tracks, seconds)

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read all frames of a tracker's results; special codes are empty masks.

        Args:
            video: the sequence.
            folder: a workspace with the results of one tracker, its ``results``, ``results/<tracker>``,
                ``results/<tracker>/baseline``, or any folder with one folder of results per sequence.
            errors: collects faults of the results.

        Yields:
            A prediction for every frame.
        """
        results, objects = _find_results(video.id, folder, errors), video.attributes["objects"]
        tracks: list[Sequence[Region]] = []
        for id in objects.values():
            try:
                tracks.append(read_results(results, video.id, id, len(objects) == 1, len(video)) if results else [])
            except InputError as error:
                errors.add(str(error))
                tracks.append([])
        for frame in range(len(video)):
            masks = torch.stack([raster(region_at(track, frame), video.attributes["size"]) for track in tracks])
            yield FrameMasks(frame, video.targets, masks, masks.flatten(1).any(1).float())

    def pack(self, folder: Path) -> Path | None:
        """Write ``<folder>.zip`` with the results.

        The server also requires the toolkit's manifest: unpack this file into the workspace and run ``vot pack``.

        Args:
            folder: folder of the submission.
        """
        return zip_folder(folder)


class VOTSTruth:
    """Ground truth of a sequence: masks bool (N, H, W) of a frame, None if no object has ground truth.

    An absent object is an empty mask, and so is an object without ground truth if another one has it.

    Args:
        sequence: the sequence.
        size: (H, W) of its frames.
    """

    def __init__(self, sequence: VOTSequence, size: tuple[int, int]) -> None:
        self.sequence, self.size = sequence, size

    def __getitem__(self, frame: int) -> Tensor | None:
        if not self.annotated_objects(frame).any():
            return None
        regions = [region_at(track, frame) for track in self.sequence.objects.values()]
        return torch.stack([raster(region, self.size) for region in regions])

    def annotated_objects(self, frame: int) -> Tensor:
        """Return which objects have ground truth, bool (N,).

        Args:
            frame: frame index.
        """
        return torch.tensor([region_at(track, frame) != UNKNOWN for track in self.sequence.objects.values()])

    def void(self, frame: int) -> Tensor:
        """Return the pixels excluded from scoring, bool (H, W).

        Args:
            frame: frame index.
        """
        return raster(region_at(self.sequence.ignore, frame), self.size)


def _prompts(sequence: VOTSequence, size: tuple[int, int]) -> tuple[Prompt, ...]:
    prompts = []
    for target, (id, track) in enumerate(sequence.objects.items(), 1):
        region = region_at(track, 0)
        mask = raster(region, size)
        if isinstance(region, Special) or not mask.any():
            raise InputError(f"{sequence.folder}: object {id} is not in the first frame; its mask must be given there")
        prompts.append(Prompt(target, mask=mask))
    return tuple(prompts)


def _frames(sequence: VOTSequence) -> ImageFolder | AbsentFrames:
    """Return the frames; only their names if the folder is missing."""
    folder, length = (sequence.folder / sequence.pattern).parent, sequence.number("length")
    if not folder.is_dir():
        count = int(length or max(map(len, sequence.objects.values())))
        return AbsentFrames(folder, [Path(sequence.pattern % number).stem for number in range(1, count + 1)])
    frames = ImageFolder(folder, (Path(sequence.pattern).suffix.lower(),))
    if length is not None and int(length) != len(frames):
        raise InputError(f"{folder}: {len(frames)} frames, but the file sequence says {int(length)}; unpack them again")
    return frames


def _size(sequence: VOTSequence, frames: ImageFolder | AbsentFrames) -> tuple[int, int]:
    height, width = sequence.number("height"), sequence.number("width")
    if height and width:
        return int(height), int(width)
    if frames.size is None:
        raise InputError(f"{sequence.folder / 'sequence'}: no width and height, and no frames to take them from")
    return frames.size


def _find_results(id: str, folder: Path, errors: SubmissionErrors) -> Path | None:
    """Return the folder of a sequence's results in a submission, None if there is none."""
    trackers = (*folder.glob(f"*/{EXPERIMENT}"), *folder.glob(f"results/*/{EXPERIMENT}"))
    candidates = [parent / id for parent in (folder, folder / EXPERIMENT, folder / "results", *trackers)]
    results = [candidate for candidate in candidates if candidate.is_dir()]
    if len(results) > 1:
        raise InputError(f"{folder}: results of {len(results)} trackers for {id}; give the folder of one of them")
    if results:
        return results[0]
    errors.add(f"{folder}: no results of sequence {id}; there must be results/<tracker>/{EXPERIMENT}/{id}")
    return None
