"""Ego4D VQ2D: visual queries, answered by a response track of boxes."""

from common.benchmarks.vq2d.benchmark import VQ2D

__all__ = ["VQ2D"]
