"""Inference of UniVS, one file a task."""
