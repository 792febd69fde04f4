"""Synthetic videos: textured, deforming objects in front of a moving camera, with exact masks."""

from common.synthetic.clips import SyntheticClips
from common.synthetic.panoptic import SyntheticPanoptic
from common.synthetic.presets import PRESETS, QUERIES, Preset
from common.synthetic.queries import SyntheticQueries

__all__ = ["PRESETS", "QUERIES", "Preset", "SyntheticClips", "SyntheticPanoptic", "SyntheticQueries"]
