"""Metrics of the field as torchmetrics, equal to the official scorers."""
