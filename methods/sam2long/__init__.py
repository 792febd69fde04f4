"""SAM 2 and SAM2Long."""

from methods.sam2long.module import SAM2Long

__all__ = ["SAM2Long"]
