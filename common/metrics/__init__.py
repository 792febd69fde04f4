"""torchmetrics of video segmentation; each stands alone."""

from common.metrics.functional import boundary_accuracy, disk_runs, region_similarity
from common.metrics.jandf import JAndF

__all__ = ["JAndF", "boundary_accuracy", "disk_runs", "region_similarity"]
