"""HQ-SMem: smart memory, SAM-HQ refinement and DINO verification around a DeAOT tracker."""

from methods.hqsmem.module import HqSmem

__all__ = ["HqSmem"]
