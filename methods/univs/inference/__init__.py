"""Inference of UniVS: one module for each task, and the memory, rules and mask operations that they share."""
