"""Score the VQS videos of ``masks.py`` by a reference implementation in numpy.

VQS-4K was published without an evaluator. The values follow equations 9 to 13 of the paper, in the readings that the
documentation of ``common.metrics.VQSMetrics`` lists, and share no code with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.masks import VQS_SHAPE, Case


def score(videos: dict[str, Case]) -> dict[str, Any]:
    """Return what ``vqs_expected.json`` holds."""
    each = {name: one_video(case.gt > 0, case.pred > 0) for name, case in videos.items()}
    return {
        "cases": {name: {"description": case.description, "sha256": case.sha256} for name, case in videos.items()},
        "array_shape": list(VQS_SHAPE),
        "videos": list(videos),
        "expected": {**over_all(list(each.values())), "per_video": each},
    }


def one_video(gt: np.ndarray, pred: np.ndarray) -> dict[str, Any]:
    """Return overlaps and counts of one video, masks (T, H, W)."""
    frames = [t for t in range(len(gt)) if gt[t].any() or pred[t].any()]
    iou = {t: float((gt[t] & pred[t]).sum() / (gt[t] | pred[t]).sum()) for t in frames}
    shown, reported = ({t for t in frames if masks[t].any()} for masks in (gt, pred))
    return {
        "stIoU": float((gt & pred).sum() / (gt | pred).sum()),
        "tIoU": len(shown & reported) / len(shown | reported),
        "n_gt": len(shown),
        "n_pred": len(reported),
        "n_rec": sum(value > 0.5 for value in iou.values()),
        "mean_frame_iou_over_union": sum(iou.values()) / len(iou),
        "mean_frame_iou_over_gt": sum(iou[t] for t in shown) / len(shown),
    }


def over_all(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the numbers of the set in percent."""

    def percent(values: list[float]) -> float:
        return 100 * sum(values) / len(values)

    def above(key: str, threshold: float) -> float:
        return percent([row[key] > threshold for row in rows])

    recovered = sum(row["n_rec"] for row in rows)
    recommended = {
        "stAP": percent([row["stIoU"] for row in rows]),
        "stAP50": above("stIoU", 0.5),
        "stAP75": above("stIoU", 0.75),
        "tAP": percent([row["tIoU"] for row in rows]),
        "tAP50": above("tIoU", 0.5),
        "tAP75": above("tIoU", 0.75),
        "Rec": 100 * recovered / sum(row["n_gt"] for row in rows),
        "Succ": above("stIoU", 0.2),
    }
    others = {
        "stAP_mean_frame_iou_over_union_frames": percent([row["mean_frame_iou_over_union"] for row in rows]),
        "Rec_macro_per_video": percent([row["n_rec"] / row["n_gt"] for row in rows]),
        "Rec_over_predicted_frames": 100 * recovered / sum(row["n_pred"] for row in rows),
        "Succ_mean_gt_frame_iou_gt_0.2": above("mean_frame_iou_over_gt", 0.2),
    }
    return {"recommended": recommended, "alternative_readings": others}
