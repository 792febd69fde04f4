"""Predictors with the interface of the ``sam2`` package."""

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
