"""SSLVOS: spatial-semantic features and discriminative queries for video object segmentation."""
