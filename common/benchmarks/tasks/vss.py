"""What the benchmarks of video semantic segmentation share: mIoU, video consistency, and maps of classes."""

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
from common.benchmarks.tasks.vos import answered, true_masks
from common.errors import InputError
from common.files import whole_file
from common.metrics.vspw import VOID, SemanticFrames, VSPWMetrics
from common.video import FrameMasks, Video


class VSSBenchmark(Benchmark):
    """A benchmark scored by mIoU and mVC of VSPW: a vocabulary is given, of which each pixel has one name.

    The true target of a class is the class plus 1. A pixel without a class in an answer is wrong wherever the
    annotation is not void. A submission is ``<video>/<frame>.png``, 8-bit grey, the class of each pixel from 0, 255
    for none.
    """

    task = "VSS"
    numbers = ("mIoU", "mVC8", "mVC16", "fwIoU")

    def metric(self) -> VSPWMetrics:
        """Fresh metrics."""
        return VSPWMetrics()

    def true_labels(self, video: Video, answer: FrameMasks) -> Tensor:
        """Annotation of the answered frame as an integer (H, W): the class plus 1, 255 for void."""
        masks = true_masks(video, answer)
        labels = torch.full(masks.shape[1:], VOID, dtype=torch.int64, device=masks.device)
        for target, mask in zip(video.targets, masks, strict=True):
            labels[mask] = target
        return labels

    def measure(self, video: Video, answers: Iterable[FrameMasks]) -> dict[str, Tensor]:
        """Pixels of each class; the arguments of ``VSPWMetrics.extend``. See ``Benchmark.measure``."""
        if video.truth is None:
            raise InputError(f"video {video.id} of {self.name} {self.split} cannot be scored: it has no annotations")
        classes = len(video.vocabulary)
        frames = SemanticFrames(classes + 1)  # the last is of pixels that were given none
        for answer in answered(video, self.scored_frames(video), answers):
            frames.add(class_map(answer, classes), self.true_labels(video, answer))
        return frames.result()

    def columns(self, video: Video, measured: dict[str, Tensor]) -> list[str]:
        """The classes."""
        return list(video.vocabulary)

    # Submissions.

    def write(self, video: Video, answers: Iterable[FrameMasks], folder: Path) -> Iterator[FrameMasks]:
        """``<video>/<frame>.png`` for every frame."""
        for answer in answers:
            labels = class_map(answer, VOID).cpu().numpy().astype(np.uint8)
            with whole_file(folder / video.id / f"{video.name(answer.frame)}.png") as part:
                Image.fromarray(labels).save(part, "PNG", compress_level=3)
            yield answer

    def read(self, video: Video, folder: Path, faults: SubmissionErrors) -> Iterator[FrameMasks]:
        """The scored frames; a label that is no class is a fault and counts as none."""
        size = tuple(true_size(video))
        for frame in self.scored_frames(video):
            path = folder / video.id / f"{video.name(frame)}.png"
            labels = read_png(path, size, faults)  # type: ignore[arg-type]
            labels = torch.full(size, VOID, dtype=torch.uint8) if labels is None else labels
            found = [label for label in labels.unique().tolist() if label != VOID]
            known = [label for label in found if label < len(video.vocabulary)]
            if len(known) < len(found):
                last = len(video.vocabulary) - 1
                faults.report(f"{path}: label {found[-1]} is no class; write 0 to {last}, 255 for none")
            masks = torch.stack([labels == label for label in known]) if known else labels[None][:0] > 0
            yield FrameMasks(frame, tuple(k + 1 for k in known), masks, torch.ones(len(known)), tuple(known))

    def pack(self, folder: Path) -> Path | None:
        """``<folder>.zip`` with the videos' folders at its top."""
        return zip_folder(folder)


def class_map(answer: FrameMasks, none: int) -> Tensor:
    """The class of each pixel, int64 (H, W), ``none`` where no mask is.

    Raises:
        InputError: targets without category.
    """
    labels = torch.full(answer.masks.shape[1:], none, dtype=torch.int64, device=answer.masks.device)
    for category, mask in zip(categories_of(answer), answer.masks, strict=True):
        labels[mask] = category
    return labels


def categories_of(answer: FrameMasks) -> tuple[int, ...]:
    """Category of each target of an answer: the one that is given, or the best by class scores.

    Raises:
        InputError: there are neither.
    """
    if answer.categories is not None:
        return answer.categories
    if answer.class_scores is None:
        raise InputError(f"frame {answer.frame}: targets have no category, which a vocabulary asks for")
    return tuple(answer.class_scores.argmax(1).tolist())


def true_size(video: Video) -> tuple[int, int]:
    """(H, W) of a video's annotations, or of its frames where it has none."""
    first = 0 if video.annotated is None else video.annotated[0]
    masks = None if video.truth is None else video.truth[first]
    height, width = video[first].shape[:2] if masks is None else masks.shape[1:]
    return height, width
