"""HQ-SMem: smart memory, SAM-HQ refinement and DINO verification around a DeAOT tracker."""

from methods.hqsmem.module import HQSMem
from methods.hqsmem.sam2_module import SAM2SMem

__all__ = ["HQSMem", "SAM2SMem"]
