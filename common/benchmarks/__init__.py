"""Benchmarks: one file for each data set, and the code that several of them share in folders."""

from common.benchmarks.base import Benchmark

__all__ = ["Benchmark"]
