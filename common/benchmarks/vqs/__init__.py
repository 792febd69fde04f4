"""Visual query segmentation: every occurrence of an object that an outside image shows."""

from common.benchmarks.vqs.benchmark import VQS4K, VQSBenchmark

__all__ = ["VQS4K", "VQSBenchmark"]
