"""Metrics of video segmentation as ``torchmetrics.Metric``, usable on their own."""

from common.metrics.functional import boundary_accuracy, disk_runs, j_and_f, region_similarity
from common.metrics.groups import GroupedJAndF
from common.metrics.hota import HOTAMetrics
from common.metrics.jandf import JAndF
from common.metrics.mose import MOSEv2Metrics
from common.metrics.referring import ReferringMetrics
from common.metrics.stq import STQMetrics
from common.metrics.viposeg import VIPOSegMetrics
from common.metrics.vis_ap import VISMetrics
from common.metrics.vost import VOSTMetrics
from common.metrics.vots import VOTSMetrics
from common.metrics.vpq import VPQMetrics
from common.metrics.vq2d import VQ2DMetrics
from common.metrics.vqs import VQSMetrics
from common.metrics.vspw import VSPWMetrics

__all__ = [
    "GroupedJAndF",
    "HOTAMetrics",
    "JAndF",
    "MOSEv2Metrics",
    "ReferringMetrics",
    "STQMetrics",
    "VIPOSegMetrics",
    "VISMetrics",
    "VOSTMetrics",
    "VOTSMetrics",
    "VPQMetrics",
    "VQ2DMetrics",
    "VQSMetrics",
    "VSPWMetrics",
    "boundary_accuracy",
    "disk_runs",
    "j_and_f",
    "region_similarity",
]
