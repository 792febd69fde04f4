"""Predictors with the names, arguments and results of the ``sam2`` package; see docs/predictors.md.

A script written for the package runs with its import lines changed::

    from methods.sam2long.predictor import build_sam2, build_sam2_video_predictor
    from methods.sam2long.predictor import ImagePredictor as SAM2ImagePredictor
    from methods.sam2long.predictor import AutomaticMaskGenerator as SAM2AutomaticMaskGenerator
"""

from methods.sam2long.predictors.build import build_sam2
from methods.sam2long.predictors.build_video import build_sam2_video_predictor
from methods.sam2long.predictors.generator import AutomaticMaskGenerator
from methods.sam2long.predictors.image import ImagePredictor
from methods.sam2long.predictors.video import VideoPredictor

__all__ = [
    "AutomaticMaskGenerator",
    "ImagePredictor",
    "VideoPredictor",
    "build_sam2",
    "build_sam2_video_predictor",
]
