"""Video semantic segmentation: mIoU and video consistency (mVC) of VSPW.

Source: Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021. Where the paper and
its evaluation program differ, the program is followed unless ``official_compat`` is false.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.rows import RowMetric, unique_values

OTHERS, VOID = 0, 255  # labels that are not scored; label c in between is class c - 1
CLIPS = (8, 16)  # clip lengths in frames


class VSPWMetrics(RowMetric):
    """mIoU over classes, pooled over all pixels of all videos, and video consistency over clips of 8 and 16 frames.

    ``compute`` returns fractions: ``mIoU``, the mean over classes that occur in the ground truth; ``mVC8`` and
    ``mVC16``, means over all clips of all videos; ``pixel_accuracy``; ``class_accuracy``, the mean recall over classes;
    ``fwIoU``, the IoU weighted by the pixels of each class.

    Args:
        classes: number of classes, used by ``update``.
        official_compat: used by ``update``, see ``SemanticFrames``.
        kwargs: arguments of ``torchmetrics.Metric``.
    """

    def __init__(self, classes: int = 124, official_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(4 + 2 * len(CLIPS), **kwargs)
        self.classes, self.official_compat = classes, official_compat

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one video.

        Args:
            preds: predicted class maps, integer (T, H, W), see ``SemanticFrames``.
            target: annotated label maps, integer (T, H, W).
        """
        frames = SemanticFrames(self.classes, self.official_compat)
        for frame in zip(preds, target, strict=True):
            frames.add(*frame)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, common: Tensor, predicted: Tensor, true: Tensor, consistency: Tensor, clips: Tensor
    ) -> None:
        """Add results of ``SemanticFrames`` for one or more videos.

        Args:
            category: (N,), class index, or -1 for the column with the consistency of a video.
            common: (N,), correctly predicted pixels of the class.
            predicted: (N,), pixels predicted as the class where the ground truth is not void.
            true: (N,), pixels of the class.
            consistency: (2, N), sum of the consistency over clips of 8 and of 16 frames.
            clips: (2, N), number of these clips.

        Raises:
            ValueError: the shapes do not match.
        """
        if (
            not category.shape
            == common.shape
            == predicted.shape
            == true.shape
            == consistency.shape[1:]
            == clips.shape[1:]
        ):
            shapes = ", ".join(str(tuple(v.shape)) for v in (category, common, predicted, true, consistency, clips))
            raise ValueError(f"the first four must be (N,), consistency and clips (2, N), not {shapes}")
        self.add(torch.cat([torch.stack([category, common, predicted, true]), consistency, clips]).T)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        sums = [rows[rows[:, 0] == category, 1:4].sum(0) for category in unique_values(rows[:, 0])]
        common, predicted, true = torch.stack([*sums, rows.new_zeros(3)]).T
        present = true > 0
        iou, recall = (common / (predicted + true - common))[present], (common / true)[present]
        consistency, clips = rows[:, 4:].sum(0).view(2, -1)
        out = {"mIoU": iou.mean()}
        out |= {f"mVC{n}": value for n, value in zip(CLIPS, consistency / clips, strict=True)}
        out |= {"pixel_accuracy": common.sum() / true.sum(), "class_accuracy": recall.mean()}
        return out | {"fwIoU": (iou * true[present]).sum() / true.sum()}


class SemanticFrames:
    """Pixel counts of one video, accumulated frame by frame; of the frames only the last maps are stored.

    The consistency of a clip is |A and P| / |A|, where A are the pixels whose true label is constant over the clip and
    P those whose predicted label is. It is undefined for a clip with empty A.

    Args:
        classes: number of classes.
        official_compat: reproduce the official program: others and void are ordinary labels in A, P is not compared
            with the ground truth, and the last clip of a video is dropped, so a video of n frames has no clip of n
            frames. Otherwise the formula of the paper is used: A excludes others and void, the predicted labels in P
            must be correct, and all clips count.
    """

    def __init__(self, classes: int = 124, official_compat: bool = True) -> None:
        self.classes, self.official_compat = classes, official_compat
        self.counts = torch.zeros(3, classes, dtype=torch.int64)
        self.last: tuple[Tensor, Tensor] | None = None
        self.run_lengths: tuple[Tensor, Tensor] | None = None  # number of frames since each pixel changed its label
        self.clips: tuple[list[float], ...] = tuple([] for _ in CLIPS)

    def add(self, pred: Tensor, target: Tensor) -> None:
        """Add a frame.

        Args:
            pred: predicted class map, integer (H, W).
            target: annotated label map, integer (H, W), as in the files of VSPW: 0 others, c + 1 for class c, 255 void.
                (UniVS replaces 0 by 255, which matters with ``official_compat`` only.)

        Raises:
            ValueError: the maps differ in size, or contain an invalid label.
        """
        if pred.ndim != 2 or pred.shape != target.shape or (self.last and self.last[0].shape != pred.shape):
            raise ValueError(f"maps must have one size (H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
        pred, target = pred.long(), target.long()
        if (wrong := (pred < 0) | (pred >= self.classes)).any():
            raise ValueError(f"{int(pred[wrong][0])} is predicted, but classes are 0 to {self.classes - 1}")
        if (wrong := (target < 0) | (target > self.classes) & (target != VOID)).any():
            raise ValueError(f"{int(target[wrong][0])} is not a label: 0 to {self.classes} and {VOID} are")
        scored = (target != OTHERS) & (target != VOID)
        predicted, true = pred[scored], target[scored] - 1
        for row, labels in zip(self.counts, (true[predicted == true], predicted, true), strict=True):
            row += labels.bincount(minlength=self.classes).to(row.device)
        self._consistency(pred, target, scored)

    def _consistency(self, pred: Tensor, target: Tensor, scored: Tensor) -> None:
        if self.last is None or self.run_lengths is None:
            self.run_lengths = torch.ones_like(pred), torch.ones_like(target)
        else:
            self.run_lengths = (
                torch.where(pred == self.last[0], self.run_lengths[0] + 1, 1),
                torch.where(target == self.last[1], self.run_lengths[1] + 1, 1),
            )
        self.last = pred, target
        for n, clips in zip(CLIPS, self.clips, strict=True):
            predicted, true = self.run_lengths[0] >= n, self.run_lengths[1] >= n
            if not self.official_compat:
                true = true & scored
                predicted = predicted & (pred == target - 1)
            clips.append(int((predicted & true).sum()) / max(int(true.sum()), 1) if true.any() else torch.nan)

    def result(self) -> dict[str, Tensor]:
        """Return the arguments of ``VSPWMetrics.extend``, float64, one column per class and one for the consistency."""
        columns = torch.cat([torch.arange(self.classes)[None], self.counts]).double()
        columns = torch.cat([columns, torch.tensor([[-1.0], [0], [0], [0]], dtype=torch.float64)], 1)
        # The first clip of n frames ends in frame n - 1.
        scored = [clips[n - 1 : len(clips) - self.official_compat] for n, clips in zip(CLIPS, self.clips, strict=True)]
        values = [torch.tensor(clips, dtype=torch.float64) for clips in scored]
        sums = torch.zeros(2, len(CLIPS), self.classes + 1, dtype=torch.float64)
        sums[0, :, -1] = torch.stack([consistency.nansum() for consistency in values])
        sums[1, :, -1] = torch.stack([(~consistency.isnan()).sum() for consistency in values])
        names = ("category", "common", "predicted", "true")
        return {**dict(zip(names, columns, strict=True)), "consistency": sums[0], "clips": sums[1]}
