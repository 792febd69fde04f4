"""Generated videos: textured deforming objects before a moving camera, with exact masks and no files."""

from common.video.synthetic.clips import SyntheticClips
from common.video.synthetic.presets import PRESETS, Preset

__all__ = ["PRESETS", "Preset", "SyntheticClips"]
