"""Ego4D VQ2D: visual queries with 2D localisation.

Source: Grauman et al., Ego4D, CVPR 2022, episodic memory. Data: https://ego4d-data.org
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.layouts.per_video import AbsentFrames
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tasks.vos import select_answers
from common.benchmarks.vq2d.files import official_json, read_track, read_track_masks, track_json, valid_queries
from common.benchmarks.vq2d.tracks import TARGET, LastTrack, ResponseTrack
from common.errors import InputError
from common.files import read_json, write_text
from common.metrics.vq2d import VQ2DMetrics, track_overlap
from common.video import FrameMasks, Prompt, Video
from common.video.readers import ImageFolder
from common.video.video_file import VideoFile

FILES = {"train": "vq_train.json", "val": "vq_val.json", "test": "vq_test_unannotated.json"}


class VQ2D(Benchmark):
    """Ego4D VQ2D: given the box of an object on one frame, localise its last occurrence before the query.

    The annotation files are ``vq_train.json``, ``vq_val.json`` and ``vq_test_unannotated.json``, in ``root`` or in
    ``annotations``. Clips are cut at the frame rate of the annotations (5 fps), of any size, as
    ``clips/<clip_uid>.mp4`` or as a folder of frames ``clips/<clip_uid>``. Without ``clips``, submissions can still be
    scored. Clips without a uid were never released; their queries are skipped.

    Every valid query set is a video: the frames before its ``query_frame``, with the id
    ``<clip_uid>-<index of the annotation in its clip>-<query set>``. Masks are converted to their bounding boxes in
    pixels of the original video, and only the last run of consecutive frames with a box is scored. The score of this
    track is the mean score of its frames (of all frames if it is empty).

    A submission is the official JSON file; runs also write one file per query, ``<id>.json``.

    Args:
        root: folder of the data.
        split: ``train``, ``val`` or ``test``, whose annotations are hidden.
        videos: ids of the queries to use, in this order; default: all queries of the split.
    """

    name = "vq2d"
    task = "VQ2D"
    numbers = ("stAP25", "stAP", "tAP25", "tAP", "success", "recovery")
    folders = ("vq2d", "ego4dvq2d", "ego4d")
    splits = tuple(FILES)
    layout = """
        vq_train.json, vq_val.json, vq_test_unannotated.json    also below annotations/
        clips/<clip_uid>.mp4                                    at 5 frames a second, or a folder of frames"""
    source = "https://ego4d-data.org"
    protocol = (
        "boxes around masks, last run of frames before the query; tAP, stAP at IoU >= 0.25 and mean of 0.25, 0.50, "
        "0.75, 0.95; success: stIoU >= 0.05; recovery: IoU >= 0.5, pooled over annotated frames"
    )

    def __init__(self, root: str | Path | None = None, split: str = "val", videos: Sequence[str] | None = None) -> None:
        super().__init__(root, split, videos)

    def list_videos(self) -> list[str]:
        """Return the ids of all valid query sets, in the order of the annotation file."""
        return list(self.queries)

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """Content of the annotation file."""
        return read_json(self._file, "annotation file")

    @property
    def _file(self) -> Path:
        if self.split not in FILES:
            raise InputError(f"split {self.split}: {self.name} has {', '.join(FILES)}")
        nested = self.root / "annotations" / FILES[self.split]
        return nested if nested.is_file() else self.root / FILES[self.split]

    @cached_property
    def queries(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Clip and query set by id."""
        return valid_queries(self.annotations, self._file)

    def open(self, id: str) -> Video:
        """Open a query.

        Args:
            id: id of the query.

        Raises:
            InputError: the clip is missing, too short or of another frame rate, or the annotation is incomplete.
        """
        clip, query = self.queries[id]
        where = f"{self._file}, query {id}"
        try:
            return self._open(id, clip, query, where)
        except (KeyError, TypeError) as error:
            raise InputError(f"{where}: incomplete or of another form ({error!r})") from error

    def _open(self, id: str, clip: dict[str, Any], query: dict[str, Any], where: str) -> Video:
        crop, length, fps = query["visual_crop"], query["query_frame"], float(clip["clip_fps"])
        original: tuple[int, ...] = (crop["original_height"], crop["original_width"])
        if min(length, *original) < 1:
            raise InputError(f"{where}: query_frame and the original size must be at least 1")
        source, size = self._clip(clip["clip_uid"], fps), original
        frames: FirstFrames | AbsentFrames
        prompts: tuple[Prompt, ...] = ()
        if source is None:
            frames = AbsentFrames(self.root / "clips", [f"{frame:05d}" for frame in range(length)])
        else:
            frames = FirstFrames(source, length, fps, where)
            image = crop_frame(source, crop, where)
            size, prompts = image.shape[:2], (Prompt(TARGET, 0, box=crop_box(crop, image, where), image=image),)
        track = query.get("response_track")
        truth = None if track is None else ResponseTrack(track, original, size, where)
        return Video(
            id=id,
            frames=frames,
            fps=fps,
            prompts=prompts,
            targets=(TARGET,),
            truth=truth,
            names=frames.names,
            attributes={"object": query.get("object_title"), "clip": clip["clip_uid"], "original_size": original},
            annotated=None if truth is None else [frame for frame in truth.frames if frame < len(frames)],
        )

    def scored_frames(self, video: Video) -> Sequence[int]:
        """Return all frames: a box on any frame affects the score."""
        return range(len(video))

    def _clip(self, uid: str, fps: float) -> ImageFolder | VideoFile | None:
        folder = self.root / "clips"
        if not folder.is_dir():
            return None
        if (folder / uid).is_dir():
            return ImageFolder(folder / uid)
        clip = VideoFile(folder / f"{uid}.mp4")
        if abs(clip.fps - fps) > 0.01 * fps:
            raise InputError(
                f"{clip.path}: {clip.fps:g} frames a second, but annotated at {fps:g}; cut the clip at that"
            )
        return clip

    # Scoring.

    def metric(self) -> VQ2DMetrics:
        """Create the metric."""
        return VQ2DMetrics()

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Return overlaps and score of a track, float64 (1,) or (L, 1) on the CPU. See ``Benchmark.measure``."""
        if not isinstance(video.truth, ResponseTrack):
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        track = LastTrack(video)
        for answer in select_answers(video, self.scored_frames(video), answers):
            track.add(answer)
        boxes, score = track.result()
        tiou, stiou, frame_iou = track_overlap(boxes, video.truth.boxes)
        return {
            "score": tiou.new_tensor([score]),
            "tiou": tiou[None],
            "stiou": stiou[None],
            "frame_iou": frame_iou[:, None],
        }

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``<id>.json`` with the query's track. See ``Benchmark.write``."""
        track = LastTrack(video)
        for answer in answers:
            track.add(answer)
            yield answer
        write_text(folder / f"{video.id}.json", json.dumps(track_json(*track.result())))

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read all frames from ``<id>.json`` or the official file; boxes are filled masks. See ``Benchmark.read``."""
        return read_track_masks(video, folder, errors)

    def pack(self, folder: Path) -> Path | None:
        """Write ``<folder>.json`` in the official format; None for a subset of the split, which the server refuses.

        Args:
            folder: folder of the submission.

        Raises:
            InputError: a query has no file in the folder.
        """
        if self.video_subset is not None:
            return None
        answers = {id: track_json(*read_track(folder, id)) for id in self.queries}
        path = folder.with_name(f"{folder.name}.json")
        write_text(path, json.dumps(official_json(self.annotations, answers)))
        return path


class FirstFrames:
    """Frames of a clip before a query.

    Args:
        frames: frames of the clip.
        length: number of frames before the query.
        fps: frame rate. A clip may end up to one second early, as those cut by the official script do.
        where: location, for error messages.

    Raises:
        InputError: the clip is shorter than that.
    """

    def __init__(self, frames: ImageFolder | VideoFile, length: int, fps: float, where: str) -> None:
        self.frames, self.length = frames, min(length, len(frames))
        if length - self.length > fps:
            raise InputError(f"{where}: the clip {frames.path} has {len(frames)} frames, but {length} before the query")
        self.names = frames.names[: self.length] if isinstance(frames, ImageFolder) else []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.frames[range(self.length)[index]]

    def __iter__(self) -> Iterator[Tensor]:
        return islice(iter(self.frames), self.length)


def crop_frame(frames: ImageFolder | VideoFile, crop: dict[str, Any], where: str) -> Tensor:
    """Return the frame that contains the visual crop, uint8 RGB (H, W, 3).

    Args:
        frames: frames of the clip.
        crop: ``visual_crop`` of the annotation.
        where: location, for error messages.

    Raises:
        InputError: the clip has no such frame.
    """
    frame = crop["frame_number"]
    if not 0 <= frame < len(frames):
        raise InputError(f"{where}: the visual crop is on frame {frame}, but {frames.path} has {len(frames)} frames")
    return frames[frame]


def crop_box(crop: dict[str, Any], image: Tensor, where: str) -> tuple[float, float, float, float]:
    """Return the visual crop as (x0, y0, x1, y1) in pixels of its frame, clipped to the frame.

    Args:
        crop: ``visual_crop`` of the annotation, in pixels of the original video.
        image: the frame, (H, W, 3).
        where: location, for error messages.

    Raises:
        InputError: the clipped box is empty.
    """
    height, width = image.shape[:2]
    x, y = width / crop["original_width"], height / crop["original_height"]  # scale factors
    x0, y0, x1, y1 = crop["x"], crop["y"], crop["x"] + crop["width"], crop["y"] + crop["height"]
    box = max(x0 * x, 0.0), max(y0 * y, 0.0), min(x1 * x, float(width)), min(y1 * y, float(height))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"{where}: the visual crop ({x0}, {y0}, {x1}, {y1}) has no area in its frame")
    return box
