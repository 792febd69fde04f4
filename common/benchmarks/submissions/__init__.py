"""Readers and writers of submission formats."""
