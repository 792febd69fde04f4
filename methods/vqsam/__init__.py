"""VQ-SAM: every occurrence of a queried object."""

from methods.vqsam.module import VQSAM

__all__ = ["VQSAM"]
