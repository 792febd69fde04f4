"""The verbs of ``cli.py``."""
