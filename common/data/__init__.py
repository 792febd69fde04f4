"""Training data: sampling, augmentation and batching of clips."""

from common.data.augmentation import Augmentation
from common.data.clip import Clip
from common.data.clips import ClipDataset, VideoSet, collate
from common.data.labelled import LabelledClips, collate_labelled
from common.data.queries import QueryClips
from common.data.scale_jitter import ScaleJitter

__all__ = [
    "Augmentation",
    "Clip",
    "ClipDataset",
    "LabelledClips",
    "QueryClips",
    "ScaleJitter",
    "VideoDataModule",
    "VideoSet",
    "collate",
    "collate_labelled",
]


def __getattr__(name: str) -> object:
    """Import the data module on first access: Lightning takes seconds to import, and clips do not need it."""
    if name == "VideoDataModule":
        from common.data.datamodule import VideoDataModule

        return VideoDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
