"""Visual query segmentation: stAP, tAP, Rec and Succ of VQS-4K."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from common.metrics.rows import RowMetric

RECOVERED = 0.5  # IoU of a recovered frame
SUCCESS = 0.2  # overlap of a successful video
# Mean area of the object in pixels; the paper prints 3.6 and 4.0, interpreted as powers of ten.
SUBSETS = {"small": (0.0, 10**3.6), "medium": (10**3.6, 10**4.0), "large": (10**4.0, float("inf"))}


class VQSMetrics(RowMetric):
    """Measures of VQS-4K over videos with one target each (Towards Visual Query Segmentation in the Wild, 3.4, S4).

    ``compute`` returns fractions: ``stAP`` and ``tAP`` (eq. 9), the means over videos of the overlap of masks (eq. 10)
    and of the sets of frames that contain the target (eq. 11); ``stAP50``, ``stAP75``, ``tAP50``, ``tAP75``
    (eq. 12, 13), the fraction of videos above 0.5 and 0.75; ``Rec``, the fraction of annotated frames with a mask IoU
    above 0.5; ``Succ``, the fraction of videos with an overlap above 0.2. All thresholds are exclusive. The same names
    with suffixes ``_small``, ``_medium`` and ``_large`` are over videos whose object has a mean area over its annotated
    frames below 10^3.6, from 10^3.6 to below 10^4.0, and of at least 10^4.0 pixels; NaN if there are none.

    No evaluator was released with the paper. The defaults are the definitions that fit its tables; the arguments select
    the others that its text allows.

    Args:
        stiou: overlap of a video: ``volume``, the sum of intersections over the sum of unions of all frames, or
            ``frames``, the mean IoU of the frames in which annotation or prediction contain the target.
        rec_denominator: frames of which Rec is a fraction: ``gt``, those that contain the target, or ``pred``, those
            predicted to.
        rec_average: ``micro`` pools the frames of all videos; ``macro`` averages over videos.
        success: measure that has to exceed 0.2: ``stiou``, or ``gt_frames``, the mean IoU of frames that contain the
            target.
        kwargs: arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: an argument has an unknown value.
    """

    def __init__(
        self,
        stiou: Literal["volume", "frames"] = "volume",
        rec_denominator: Literal["gt", "pred"] = "gt",
        rec_average: Literal["micro", "macro"] = "micro",
        success: Literal["stiou", "gt_frames"] = "stiou",
        **kwargs: Any,
    ) -> None:
        super().__init__(7, **kwargs)
        for name, value, choices in (
            ("stiou", stiou, ("volume", "frames")),
            ("rec_denominator", rec_denominator, ("gt", "pred")),
            ("rec_average", rec_average, ("micro", "macro")),
            ("success", success, ("stiou", "gt_frames")),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        self.stiou, self.success = stiou, success
        self.rec_denominator, self.rec_average = rec_denominator, rec_average

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one video.

        Args:
            preds: predicted masks of all frames, bool (T, H, W) or (T, 1, H, W).
            target: annotated masks, same shape.

        Raises:
            ValueError: the masks are not boolean or have another shape.
        """
        if preds.dtype != torch.bool or target.dtype != torch.bool or preds.shape != target.shape:
            raise ValueError(
                f"masks must be boolean and of one shape, not {preds.dtype} {tuple(preds.shape)} and "
                f"{target.dtype} {tuple(target.shape)}"
            )
        if preds.ndim not in (3, 4) or not len(preds) or (preds.ndim == 4 and preds.shape[1] != 1):
            raise ValueError(f"masks must be (T, H, W) or (T, 1, H, W) of one video, T > 0, not {tuple(preds.shape)}")
        rows = [mask_areas(*masks) for masks in zip(preds.flatten(1)[:, None], target.flatten(1)[:, None], strict=True)]
        self.extend(**{key: torch.stack([row[key] for row in rows]) for key in rows[0]})

    def extend(self, intersection: Tensor, union: Tensor, area: Tensor) -> None:
        """Add N videos from pixel counts per frame. A video without any scored frame is skipped.

        Args:
            intersection: float64 (T, N), pixels of the intersection of predicted and annotated mask; NaN where the
                frame does not count.
            union: float64 (T, N), pixels of their union; NaN where the frame does not count.
            area: float64 (T, N), pixels of the annotated mask; 0 where the target is absent, NaN where the frame does
                not count.

        Raises:
            ValueError: the shapes do not match, or T is 0.
        """
        if intersection.ndim != 2 or not intersection.shape == union.shape == area.shape or not len(area):
            shapes = ", ".join(str(tuple(pixels.shape)) for pixels in (intersection, union, area))
            raise ValueError(f"intersection, union and area must all be (T, N) with T > 0, not {shapes}")
        counted = ~area.isnan().all(0)
        pixels = torch.stack([intersection, union, area]).double()[:, :, counted].nan_to_num(nan=0.0)
        self.add(self._rows(*pixels))

    def _rows(self, intersection: Tensor, union: Tensor, area: Tensor) -> Tensor:
        """Return one row per video: stIoU, tIoU, overlap for success, three counts of frames, mean area."""
        # |prediction| = |union| - |target| + |intersection|
        visible, predicted, either = area > 0, union - area + intersection > 0, union > 0
        iou = intersection / union.clamp(min=1)
        volume = _ratio(intersection.sum(0), union.sum(0))
        stiou = volume if self.stiou == "volume" else _ratio(iou.sum(0), either.sum(0))
        tiou = _ratio((visible & predicted).sum(0), either.sum(0))
        on_gt = _ratio((iou * visible).sum(0), visible.sum(0), default=(~either.any(0)).double())
        overlap = stiou if self.success == "stiou" else on_gt
        frames = [(iou > RECOVERED).sum(0), visible.sum(0), predicted.sum(0)]
        mean_area = area.sum(0) / visible.sum(0)  # NaN if the target never appears, hence in no subset
        return torch.stack([stiou, tiou, overlap, *(count.double() for count in frames), mean_area], 1)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers as float64 scalars; NaN before the first video."""
        rows = self.sorted_rows()
        out = self._numbers(rows)
        for subset, (low, high) in SUBSETS.items():
            inside = (rows[:, 6] >= low) & (rows[:, 6] < high)
            out |= {f"{name}_{subset}": value for name, value in self._numbers(rows[inside]).items()}
        return out

    def _numbers(self, rows: Tensor) -> dict[str, Tensor]:
        stiou, tiou, overlap = rows[:, :3].unbind(1)
        out = {}
        for name, values in (("stAP", stiou), ("tAP", tiou)):
            out[name] = values.mean()
            out |= {f"{name}{percent}": (values > percent / 100).double().mean() for percent in (50, 75)}
        return {**out, "Rec": self._recovery(rows), "Succ": (overlap > SUCCESS).double().mean()}

    def _recovery(self, rows: Tensor) -> Tensor:
        recovered, visible, predicted = rows[:, 3:6].unbind(1)
        frames = visible if self.rec_denominator == "gt" else predicted
        if self.rec_average == "micro":
            return recovered.sum() / frames.sum()
        # A video without predicted frames recovers nothing; one without target and prediction is excluded.
        scored = visible + frames > 0
        return (recovered / frames.clamp(min=1))[scored].mean()


def mask_areas(preds: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Count the pixels of one frame, the arguments of ``VQSMetrics.extend``.

    Args:
        preds: flattened predicted masks, bool (N, H * W).
        target: flattened annotated masks, bool (N, H * W).

    Returns:
        float64 (N,) each.
    """
    # Mask by mask, since counting along a dimension is ten times slower.
    common, predicted, area = (
        torch.stack([mask.count_nonzero() for mask in masks]).double() for masks in (preds & target, preds, target)
    )
    return {"intersection": common, "union": predicted + area - common, "area": area}


def _ratio(part: Tensor, total: Tensor, default: Tensor | float = 1.0) -> Tensor:
    """Return part / total in float64, ``default`` where the total is 0: two empty sets are equal."""
    return torch.where(total > 0, part.double() / total.clamp(min=1).double(), default)
