"""Generated videos: textured deforming objects before a moving camera, with exact masks and no files."""

from common.video.synthetic.clips import SyntheticClips
from common.video.synthetic.panoptic import SyntheticPanoptic
from common.video.synthetic.presets import PRESETS, QUERIES, Preset
from common.video.synthetic.queries import SyntheticQueries

__all__ = ["PRESETS", "QUERIES", "Preset", "SyntheticClips", "SyntheticPanoptic", "SyntheticQueries"]
