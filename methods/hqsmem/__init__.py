"""HQ-SMem: smart memory, SAM-HQ refinement and DINO verification around a DeAOT tracker."""

from methods.hqsmem.module import HqSmem
from methods.hqsmem.sam2_module import Sam2SMem

__all__ = ["HqSmem", "Sam2SMem"]
