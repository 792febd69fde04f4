"""Scoring of a method, scoring of a submission, and profiling of time and memory."""
