"""Ego4D VQ2D: localisation of visual queries by tracks of boxes."""

from common.benchmarks.vq2d.benchmark import VQ2D

__all__ = ["VQ2D"]
