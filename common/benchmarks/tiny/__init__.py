"""Benchmarks of generated videos, for every task. No download; minutes on a CPU."""

from common.benchmarks.tiny.queries import TinyVQS
from common.benchmarks.tiny.tasks import TinyPVOS, TinyRef, TinyVIS, TinyVPS, TinyVSS
from common.benchmarks.tiny.videos import Tiny, TinyVOTS

__all__ = ["Tiny", "TinyPVOS", "TinyRef", "TinyVIS", "TinyVOTS", "TinyVPS", "TinyVQS", "TinyVSS"]
