"""UniVS: unified video segmentation with prompts as queries."""

from methods.univs.module import UniVS

__all__ = ["UniVS"]
