"""Checks of data sets on disk."""
