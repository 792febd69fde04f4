"""Visual query segmentation: segment every occurrence of the object shown in an external image."""

from common.benchmarks.vqs.benchmark import VQS4K, VQSBenchmark

__all__ = ["VQS4K", "VQSBenchmark"]
