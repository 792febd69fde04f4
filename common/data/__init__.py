"""Clips for training: generated and real, sampled and augmented."""

from common.data.augmentation import Augmentation
from common.data.clip import Clip
from common.data.clips import ClipDataset, VideoSet, collate

__all__ = ["Augmentation", "Clip", "ClipDataset", "VideoSet", "collate"]
