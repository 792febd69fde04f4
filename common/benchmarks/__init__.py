"""Benchmarks: one file per family."""

from common.benchmarks.base import Benchmark

__all__ = ["Benchmark"]
