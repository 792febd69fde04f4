"""Visual query segmentation: stAP, tAP, Rec and Succ of VQS-4K as a torchmetric."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from common.metrics.rows import RowMetric

RECOVERED = 0.5  # IoU of a recovered frame
SUCCESS = 0.2  # overlap of a video that counts as a success
# Mean area of the object in pixels; the paper prints 3.6 and 4.0, read as powers of ten.
SUBSETS = {"small": (0.0, 10**3.6), "medium": (10**3.6, 10**4.0), "large": (10**4.0, float("inf"))}


class VQSMetrics(RowMetric):
    """The measures of VQS-4K over videos with one target each (Towards Visual Query Segmentation in the Wild, 3.4, S4).

    ``compute`` returns fractions: ``stAP`` and ``tAP`` (eq. 9), the plain means over videos of the overlap of the masks
    (eq. 10) and of the sets of frames that show the target (eq. 11); ``stAP50``, ``stAP75``, ``tAP50``, ``tAP75``
    (eq. 12, 13), the share of videos above 0.5 and 0.75; ``Rec``, the share of annotated frames with mask IoU above
    0.5; ``Succ``, the share of videos with overlap above 0.2. Every threshold itself is below. The same names with
    ``_small``, ``_medium`` and ``_large`` hold for the videos whose object has, over its annotated frames, a mean area
    below 10^3.6, below 10^4.0, and of at least 10^4.0 pixels; NaN where there is no such video.

    No evaluator was released with the paper. The defaults are the readings that fit its tables; the arguments hold the
    others that its text allows.

    Args:
        stiou: overlap of a video: ``volume``, the sum of intersections over the sum of unions of all frames, or
            ``frames``, the mean of the IoU of frames that either shows the target or is said to.
        rec_denominator: frames that Rec is a share of: ``gt``, those that show the target, or ``pred``, those said to.
        rec_average: ``micro`` pools the frames of all videos; ``macro`` is the mean of the share of each video.
        success: what has to exceed 0.2: ``stiou``, or ``gt_frames``, the mean IoU of frames that show the target.
        kwargs: those of ``torchmetrics.Metric``.
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
        for name, value, known in (
            ("stiou", stiou, ("volume", "frames")),
            ("rec_denominator", rec_denominator, ("gt", "pred")),
            ("rec_average", rec_average, ("micro", "macro")),
            ("success", success, ("stiou", "gt_frames")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        self.stiou, self.success = stiou, success
        self.rec_denominator, self.rec_average = rec_denominator, rec_average

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add one video: boolean masks (T, H, W) or (T, 1, H, W) of all its frames."""
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
        """Add N videos, or one as N = 1, whose frames are already measured: pixels, float64 (T, N) each.

        NaN in all three: the frame does not count. A video of which no frame counts is left out.

        Args:
            intersection: of predicted and annotated mask.
            union: of the same.
            area: of the annotated mask; 0 where the frame does not show the target.
        """
        if intersection.ndim != 2 or not intersection.shape == union.shape == area.shape or not len(area):
            shapes = ", ".join(str(tuple(pixels.shape)) for pixels in (intersection, union, area))
            raise ValueError(f"intersection, union and area must all be (T, N) with T > 0, not {shapes}")
        counted = ~area.isnan().all(0)
        pixels = torch.stack([intersection, union, area]).double()[:, :, counted].nan_to_num(nan=0.0)
        self.add(self._rows(*pixels))

    def _rows(self, intersection: Tensor, union: Tensor, area: Tensor) -> Tensor:
        """One row a video: stIoU, tIoU, overlap that decides success, three numbers of frames, mean area."""
        shown, said, either = area > 0, union - area + intersection > 0, union > 0
        iou = intersection / union.clamp(min=1)
        volume = _share(intersection.sum(0), union.sum(0))
        stiou = volume if self.stiou == "volume" else _share(iou.sum(0), either.sum(0))
        tiou = _share((shown & said).sum(0), either.sum(0))
        on_gt = _share((iou * shown).sum(0), shown.sum(0), nothing=(~either.any(0)).double())
        overlap = stiou if self.success == "stiou" else on_gt
        frames = [(iou > RECOVERED).sum(0), shown.sum(0), said.sum(0)]
        mean_area = area.sum(0) / shown.sum(0)  # NaN where the target never shows: in no subset
        return torch.stack([stiou, tiou, overlap, *(count.double() for count in frames), mean_area], 1)

    def compute(self) -> dict[str, Tensor]:
        """The table's numbers as float64 scalars; NaN before the first video."""
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
        recovered, shown, said = rows[:, 3:6].unbind(1)
        frames = shown if self.rec_denominator == "gt" else said
        if self.rec_average == "micro":
            return recovered.sum() / frames.sum()
        # A video that is said to show nothing recovers nothing; one without anything to recover has no share.
        asked = shown + frames > 0
        return (recovered / frames.clamp(min=1))[asked].mean()


def mask_areas(preds: Tensor, target: Tensor) -> dict[str, Tensor]:
    """One frame of what ``VQSMetrics.extend`` takes, float64 (N,) each, of flattened masks bool (N, H * W)."""
    # mask by mask: counting along a dimension takes ten times as long
    common, said, area = (
        torch.stack([mask.count_nonzero() for mask in masks]).double() for masks in (preds & target, preds, target)
    )
    return {"intersection": common, "union": said + area - common, "area": area}


def _share(part: Tensor, whole: Tensor, nothing: Tensor | float = 1.0) -> Tensor:
    """Part / whole in float64; ``nothing`` where the whole is 0: by default two empty things are the same."""
    return torch.where(whole > 0, part.double() / whole.clamp(min=1).double(), nothing)
