"""Formats of submissions: readers, writers and archives."""
