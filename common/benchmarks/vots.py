"""VOTS2023, VOTS2024 and VOTSt2024: many objects, given in the first frame, in the layout of the VOT toolkit.

Source: Kristan et al., "The First Visual Object Tracking Segmentation VOTS2023 Challenge Results", ICCVW 2023, and
vot-toolkit 0.9.0.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.layouts.per_video import AbsentFrames, read_list
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import zip_folder
from common.benchmarks.tasks.vos import answered, true_masks
from common.errors import InputError
from common.metrics import VOTSMetrics
from common.metrics.vots import NUMBERS, measure_regions
from common.video import FrameMasks, ImageFolder, Prompt, Video
from common.vot.regions import INITIALISED, NOT_REPORTED, UNKNOWN, Mask, Region, Special, raster
from common.vot.workspace import VOTSequence, read_results, read_sequence, region_at, write_results

EXPERIMENT = "baseline"
# (edition, split) -> folder names of its workspace; VOTS2024 took the sequences of VOTS2023
FOLDERS = {
    ("vots2023", "test"): ("vots2023", "vots2024", "vots"),
    ("vots2024", "test"): ("vots2024", "vots2023", "vots"),
    ("votst2024", "test"): ("votst2024test", "votst2024", "votst"),
    ("votst2024", "val"): ("votst2024val", "votstval", "votst2024", "votst"),
}


class VOTS(Benchmark):
    """VOTS: the masks of the first frame are given, and every object is reported in every frame or said to be absent.

    The test splits show nothing but the first frame, so a run only writes the submission; the server scores. Where a
    sequence has more ground truth it is scored here. VOTSt counts only the frames tagged ``evaluation``. Objects may
    overlap. Their ids are any text: targets are numbered from 1 in the order of the ids, and ``attributes["objects"]``
    of a video maps a target to its id.

    Args:
        root: the toolkit's workspace, which holds ``sequences/list.txt``; default: a folder with the name of the
            edition below ``$VIDSEG_DATA``.
        edition: ``vots2023``, ``vots2024`` or ``votst2024``.
        split: ``test``, or ``val`` of ``votst2024``.
        init_frame: what becomes of the first frame: see ``VOTSMetrics``.
        tracker: name under which results are written.
        videos: only these sequences, in this order; default: the whole split.

    Raises:
        InputError: an edition, split or rule that does not exist; later, data that is missing or does not fit.
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
            known = ", ".join(" ".join(pair) for pair in FOLDERS)
            raise InputError(f"{edition} {split}: no such edition and split of VOTS; there are {known}")
        if init_frame not in ("count", "skip"):
            raise InputError(f"init_frame {init_frame}: the first frame is 'count' (as missed) or 'skip'")
        self.splits = tuple(known for of, known in FOLDERS if of == edition)
        self.name, self.folders, self.tracker = edition, FOLDERS[edition, split], tracker
        self.init_frame, self.tag = init_frame, "evaluation" if edition == "votst2024" else None
        frames = f"frames tagged {self.tag}" if self.tag else "all frames"
        first = "first counted as missed" if init_frame == "count" else "first left out"
        self.protocol = f"VOTS measures, {frames} with ground truth, {first}, mean over objects, then sequences"

    def listed(self) -> list[str]:
        """Names of ``sequences/list.txt``."""
        return read_list(self.root / "sequences" / "list.txt", "list of sequences")

    def open(self, id: str) -> Video:
        """One sequence. Its ground truth is read now and drawn when it is asked for.

        Raises:
            InputError: a file is missing or wrong, or an object is not shown in the first frame.
        """
        sequence = read_sequence(self.root / "sequences" / id)
        frames = _frames(sequence)
        size = _size(sequence, frames)
        truth = VOTSTruth(sequence, size)
        annotated = [frame for frame in range(len(frames)) if truth.known(frame).any()]
        objects = dict(enumerate(sequence.objects, 1))
        attributes: dict = {"objects": objects, "size": size}
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
        """Frames in which the ground truth of some object is known; in VOTSt those that are tagged as well."""
        frames = super().scored_frames(video)
        if "tagged" not in video.attributes:
            return frames
        tagged = set(video.attributes["tagged"])
        return [frame for frame in frames if frame in tagged]

    def metric(self) -> VOTSMetrics:
        """The measures of the challenge."""
        return VOTSMetrics(self.init_frame)

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Overlap, presence and report of one sequence, float64 (T, N) each, on the CPU. See ``VOTSMetrics.extend``."""
        frames, truth = self.scored_frames(video), video.truth
        if not isinstance(truth, VOTSTruth) or not frames:
            reason = "only the server has its ground truth" if truth is None else "none of its frames count"
            raise InputError(f"sequence {video.id} of {self.name} {self.split} cannot be scored: {reason}")
        rows = []
        for answer in answered(video, frames, answers):
            target = true_masks(video, answer)
            void = truth.ignored(answer.frame).to(target.device)
            overlap, *states = measure_regions(answer.select(video.targets), target, void)
            unknown = ~truth.known(answer.frame).to(target.device)
            given = torch.full_like(overlap, answer.frame == 0)
            rows.append(torch.stack([overlap.masked_fill(unknown, torch.nan), *states, given]))
        names = ("overlap", "present", "reported", "given")
        return dict(zip(names, torch.stack(rows, 1).cpu(), strict=True))

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``results/<tracker>/baseline/<sequence>/<sequence>_<object>_001.txt`` and times, when the last frame is in.

        The time of a frame runs from asking for its answer to having it.
        """
        tracks: dict[str, list[Region]] = {id: [] for id in video.attributes["objects"].values()}
        seconds, waiting, start = [], iter(answers), time.perf_counter()
        while (answer := next(waiting, None)) is not None:
            seconds.append(time.perf_counter() - start)
            for track, mask in zip(tracks.values(), answer.select(video.targets), strict=True):
                shown = Mask.of(mask) if mask.any() else NOT_REPORTED
                track.append(INITIALISED if answer.frame == 0 else shown)
            yield answer
            start = time.perf_counter()
        write_results(folder / "results" / self.tracker / EXPERIMENT, video.id, tracks, seconds)

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """All frames of a tracker's results; a code reports nothing.

        Args:
            video: the sequence.
            folder: a workspace with the results of one tracker, its ``results``, ``results/<tracker>``,
                ``results/<tracker>/baseline``, or any folder that holds those of each sequence.
            faults: what is wrong goes there.
        """
        place, objects = _results_of(video.id, folder, faults), video.attributes["objects"]
        tracks: list[Sequence[Region]] = []
        for id in objects.values():
            try:
                tracks.append(read_results(place, video.id, id, len(objects) == 1, len(video)) if place else [])
            except InputError as error:
                faults.report(str(error))
                tracks.append([])
        for frame in range(len(video)):
            masks = torch.stack([raster(region_at(track, frame), video.attributes["size"]) for track in tracks])
            yield FrameMasks(frame, video.targets, masks, masks.flatten(1).any(1).float())

    def pack(self, folder: Path) -> Path | None:
        """``<folder>.zip`` of the results.

        The server wants the toolkit's manifest beside them: unpack this into the workspace, and ``vot pack`` adds it.
        """
        return zip_folder(folder)


class VOTSTruth:
    """Ground truth of a sequence: bool (N, H, W) for a frame, None where no object is known.

    An object that is absent, and one that is unknown while another is known, is an empty mask.
    """

    def __init__(self, sequence: VOTSequence, size: tuple[int, int]) -> None:
        self.sequence, self.size = sequence, size

    def __getitem__(self, frame: int) -> Tensor | None:
        if not self.known(frame).any():
            return None
        regions = [region_at(track, frame) for track in self.sequence.objects.values()]
        return torch.stack([raster(region, self.size) for region in regions])

    def known(self, frame: int) -> Tensor:
        """Which objects have ground truth in a frame, bool (N,)."""
        return torch.tensor([region_at(track, frame) != UNKNOWN for track in self.sequence.objects.values()])

    def ignored(self, frame: int) -> Tensor:
        """Pixels that do not count, bool (H, W)."""
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
    """The frames; where a sequence has no folder of them, their names alone."""
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


def _results_of(id: str, folder: Path, faults: SubmissionErrors) -> Path | None:
    """The folder of a sequence's results in a submission."""
    trackers = (*folder.glob(f"*/{EXPERIMENT}"), *folder.glob(f"results/*/{EXPERIMENT}"))
    places = [place / id for place in (folder, folder / EXPERIMENT, folder / "results", *trackers)]
    found = [place for place in places if place.is_dir()]
    if len(found) > 1:
        raise InputError(f"{folder}: results of {len(found)} trackers for {id}; give the folder of one of them")
    if found:
        return found[0]
    faults.report(f"{folder}: no results of sequence {id}; there must be results/<tracker>/{EXPERIMENT}/{id}")
    return None
