"""Inference on one video: sessions, the loop over a session, resumable tracking, and output files."""
