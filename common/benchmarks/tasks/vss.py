"""Base class of benchmarks of video semantic segmentation: mIoU, video consistency, and class maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import read_png, zip_folder
from common.benchmarks.tasks.vos import select_answers, true_masks, true_size
from common.errors import InputError
from common.files import atomic_path
from common.metrics.vspw import VOID, SemanticFrames, VSPWMetrics
from common.video import FrameMasks, Video


class VSSBenchmark(Benchmark):
    """A benchmark scored by the mIoU and mVC of VSPW: each pixel has one name of a given vocabulary.

    The target id of a class is the class index plus 1. A pixel without a predicted class counts as wrong unless the
    annotation is void. A submission has an 8-bit grey PNG ``<video>/<frame>.png`` per frame, with the class index of
    each pixel, 255 for none.
    """

    task = "VSS"
    numbers = ("mIoU", "mVC8", "mVC16", "fwIoU")

    def metric(self) -> VSPWMetrics:
        """Create the metric: mIoU and mVC."""
        return VSPWMetrics()

    def true_labels(self, video: Video, answer: FrameMasks) -> Tensor:
        """Return the annotation of a predicted frame, int64 (H, W): class index plus 1, 255 for void.

        Args:
            video: the video.
            answer: prediction of the frame.
        """
        masks = true_masks(video, answer)
        labels = torch.full(masks.shape[1:], VOID, dtype=torch.int64, device=masks.device)
        for target, mask in zip(video.targets, masks, strict=True):
            labels[mask] = target
        return labels

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Count the pixels of each class: the arguments of ``VSPWMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        classes = len(video.vocabulary)
        frames = SemanticFrames(classes + 1)  # the extra class holds pixels without prediction
        for answer in select_answers(video, self.scored_frames(video), answers):
            frames.add(class_map(answer, classes), self.true_labels(video, answer))
        return frames.result()

    def column_names(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """Return the names of the classes."""
        return list(video.vocabulary)

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """Write ``<video>/<frame>.png`` for every frame. See ``Benchmark.write``."""
        for answer in answers:
            labels = class_map(answer, VOID).cpu().numpy().astype(np.uint8)
            with atomic_path(folder / video.id / f"{video.name(answer.frame)}.png") as part:
                Image.fromarray(labels).save(part, "PNG", compress_level=3)
            yield answer

    def read(self, video: Video, folder: Path, errors: SubmissionErrors) -> Iterator[FrameMasks]:
        """Read the scored frames; an invalid label is an error and counts as no class. See ``Benchmark.read``."""
        size = true_size(video)
        for frame in self.scored_frames(video):
            path = folder / video.id / f"{video.name(frame)}.png"
            labels = read_png(path, size, errors)
            labels = torch.full(size, VOID, dtype=torch.uint8) if labels is None else labels
            present = (labels.flatten().bincount(minlength=VOID + 1) > 0).nonzero().flatten().tolist()
            classes = [label for label in present if label < len(video.vocabulary)]
            invalid = [label for label in present if len(video.vocabulary) <= label < VOID]
            if invalid:
                last = len(video.vocabulary) - 1
                errors.add(f"{path}: label {invalid[-1]} is no class; write 0 to {last}, 255 for none")
            masks = torch.stack([labels == label for label in classes]) if classes else labels[None][:0] > 0
            yield FrameMasks(frame, tuple(k + 1 for k in classes), masks, torch.ones(len(classes)), tuple(classes))

    def pack(self, folder: Path) -> Path | None:
        """Write ``<folder>.zip`` with one folder per video. See ``Benchmark.pack``."""
        return zip_folder(folder)


def class_map(answer: FrameMasks, none: int) -> Tensor:
    """Return the class index of each pixel, int64 (H, W).

    Args:
        answer: prediction with categories or class scores.
        none: value of pixels outside all masks.

    Raises:
        InputError: the prediction has neither categories nor class scores.
    """
    labels = torch.full(answer.masks.shape[1:], none, dtype=torch.int64, device=answer.masks.device)
    for category, mask in zip(answer_categories(answer), answer.masks, strict=True):
        labels[mask] = category
    return labels


def answer_categories(answer: FrameMasks) -> tuple[int, ...]:
    """Return the category of each target: the predicted one, or the one with the highest class score.

    Args:
        answer: prediction with categories or class scores.

    Raises:
        InputError: the prediction has neither.
    """
    if answer.categories is not None:
        return answer.categories
    if answer.class_scores is None:
        raise InputError(f"frame {answer.frame}: targets have no category, which a vocabulary asks for")
    return tuple(answer.class_scores.argmax(1).tolist())
