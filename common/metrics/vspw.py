"""Video semantic segmentation: mIoU and video consistency (mVC) of VSPW.

Source: Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021; where the paper and
its evaluation program differ, the program is followed unless ``official_compat`` is false.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.metrics.rows import RowMetric

OTHERS, VOID = 0, 255  # labels that are not scored; c in between is class c - 1
CLIPS = (8, 16)  # frames over which labels are to stay the same


class VSPWMetrics(RowMetric):
    """mIoU over classes, pooled over all pixels of all videos, and video consistency over clips of 8 and 16 frames.

    ``compute`` returns fractions: ``mIoU``, the mean over classes that have a pixel in the ground truth; ``mVC8`` and
    ``mVC16``, means over all clips of all videos; ``pixel_accuracy``; ``class_accuracy``, the mean recall of these
    classes; ``fwIoU``, the IoU weighted by the pixels of the class.

    Args:
        classes: how many there are, for ``update``.
        official_compat: for ``update``, see ``SemanticFrames``.
        kwargs: those of ``torchmetrics.Metric``.
    """

    def __init__(self, classes: int = 124, official_compat: bool = True, **kwargs: Any) -> None:
        super().__init__(4 + 2 * len(CLIPS), **kwargs)
        self.classes, self.official_compat = classes, official_compat

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one video, integers (T, H, W) each; see ``SemanticFrames``."""
        frames = SemanticFrames(self.classes, self.official_compat)
        for frame in zip(preds, target, strict=True):
            frames.add(*frame)
        self.extend(**frames.result())

    def extend(
        self, category: Tensor, common: Tensor, said: Tensor, true: Tensor, consistency: Tensor, clips: Tensor
    ) -> None:
        """Add what ``SemanticFrames`` has measured of one or more videos.

        Args:
            category: (N,), a class, or -1 of a column that holds the consistency of a video.
            common: (N,), pixels of the class that are also predicted to be of it.
            said: (N,), pixels that are predicted to be of the class, where the ground truth is not void.
            true: (N,), pixels of the class.
            consistency: (2, N), sum of the consistency of clips of 8 and of 16 frames.
            clips: (2, N), how many clips these are.
        """
        if not category.shape == common.shape == said.shape == true.shape == consistency.shape[1:] == clips.shape[1:]:
            shapes = ", ".join(str(tuple(v.shape)) for v in (category, common, said, true, consistency, clips))
            raise ValueError(f"the first four must be (N,), consistency and clips (2, N), not {shapes}")
        self.add(torch.cat([torch.stack([category, common, said, true]), consistency, clips]).T)

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        sums = [rows[rows[:, 0] == category, 1:4].sum(0) for category in rows[:, 0].unique()]
        common, said, true = torch.stack([*sums, rows.new_zeros(3)]).T
        present = true > 0
        iou, recall = (common / (said + true - common))[present], (common / true)[present]
        consistency, clips = rows[:, 4:].sum(0).view(2, -1)
        out = {"mIoU": iou.mean()}
        out |= {f"mVC{n}": value for n, value in zip(CLIPS, consistency / clips, strict=True)}
        out |= {"pixel_accuracy": common.sum() / true.sum(), "class_accuracy": recall.mean()}
        return out | {"fwIoU": (iou * true[present]).sum() / true.sum()}


class SemanticFrames:
    """Counts of one video while its frames stream in; the label maps of the last frame are all that is kept of them.

    The consistency of a clip is |A and P| / |A|, A the pixels whose true label and P those whose predicted label is the
    same in all its frames. A clip with empty A has none.

    Args:
        classes: how many there are.
        official_compat: others and void are labels like all others in A, P is not compared with the ground truth,
            and the last clip of a video is left out, so that one of n frames has none of n frames. If false, the
            paper's formula: A is without others and void, the predicted label in P is the true one, all clips count.
    """

    def __init__(self, classes: int = 124, official_compat: bool = True) -> None:
        self.classes, self.official_compat = classes, official_compat
        self.counts = torch.zeros(3, classes, dtype=torch.int64)
        self.last: tuple[Tensor, Tensor] | None = None
        self.steady: tuple[Tensor, Tensor] | None = None  # frames for which each pixel has kept its label
        self.clips: tuple[list[float], ...] = tuple([] for _ in CLIPS)

    def add(self, pred: Tensor, target: Tensor) -> None:
        """Add a frame.

        Args:
            pred: integer (H, W), classes from 0.
            target: integer (H, W) as in the files of VSPW: 0 others, c + 1 for class c, 255 void. (UniVS takes 0 for
                255, which makes a difference to ``official_compat`` only.)

        Raises:
            ValueError: maps of different sizes, or a label that there is not.
        """
        if pred.ndim != 2 or pred.shape != target.shape or (self.last and self.last[0].shape != pred.shape):
            raise ValueError(f"maps must have one size (H, W), not {tuple(pred.shape)} and {tuple(target.shape)}")
        pred, target = pred.long(), target.long()
        if (wrong := (pred < 0) | (pred >= self.classes)).any():
            raise ValueError(f"{int(pred[wrong][0])} is predicted, but classes are 0 to {self.classes - 1}")
        if (wrong := (target < 0) | (target > self.classes) & (target != VOID)).any():
            raise ValueError(f"{int(target[wrong][0])} is not a label: 0 to {self.classes} and {VOID} are")
        scored = (target != OTHERS) & (target != VOID)
        said, true = pred[scored], target[scored] - 1
        for row, labels in zip(self.counts, (true[said == true], said, true), strict=True):
            row += labels.bincount(minlength=self.classes).to(row.device)
        self._consistency(pred, target, scored)

    def _consistency(self, pred: Tensor, target: Tensor, scored: Tensor) -> None:
        if self.last is None or self.steady is None:
            self.steady = torch.ones_like(pred), torch.ones_like(target)
        else:
            self.steady = (
                torch.where(pred == self.last[0], self.steady[0] + 1, 1),
                torch.where(target == self.last[1], self.steady[1] + 1, 1),
            )
        self.last = pred, target
        for n, clips in zip(CLIPS, self.clips, strict=True):
            said, true = self.steady[0] >= n, self.steady[1] >= n
            if not self.official_compat:
                true = true & scored
                said = said & (pred == target - 1)
            clips.append(int((said & true).sum()) / max(int(true.sum()), 1) if true.any() else torch.nan)

    def result(self) -> dict[str, Tensor]:
        """The arguments of ``VSPWMetrics.extend``, float64: a column for each class, one for the consistency."""
        columns = torch.cat([torch.arange(self.classes)[None], self.counts]).double()
        columns = torch.cat([columns, torch.tensor([[-1.0], [0], [0], [0]], dtype=torch.float64)], 1)
        # The clip that ends in frame n - 1 is the first.
        kept = [clips[n - 1 : len(clips) - self.official_compat] for n, clips in zip(CLIPS, self.clips, strict=True)]
        values = [torch.tensor(clips, dtype=torch.float64) for clips in kept]
        sums = torch.zeros(2, len(CLIPS), self.classes + 1, dtype=torch.float64)
        sums[0, :, -1] = torch.stack([some.nansum() for some in values])
        sums[1, :, -1] = torch.stack([(~some.isnan()).sum() for some in values])
        names = ("category", "common", "said", "true")
        return {**dict(zip(names, columns, strict=True)), "consistency": sums[0], "clips": sums[1]}
