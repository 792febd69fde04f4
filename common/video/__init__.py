"""What a video is, and how it is read and written."""

from common.video.types import FrameMasks, Prompt
from common.video.video import Annotations, Frames, Video

__all__ = ["Annotations", "FrameMasks", "Frames", "Prompt", "Video"]
