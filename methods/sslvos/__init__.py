"""SSLVOS: spatial-semantic features and discriminative queries for video object segmentation."""

from methods.sslvos.module import SSLVOS

__all__ = ["SSLVOS"]
