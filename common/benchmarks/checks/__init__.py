"""Checks of a data set on disk, file by file."""
