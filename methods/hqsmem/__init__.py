"""HQ-SMem: smart memory, SAM-HQ refinement and DINO verification around a DeAOT tracker."""
