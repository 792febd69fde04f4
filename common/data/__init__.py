"""Clips for training: generated and real, sampled and augmented."""
