"""SAM 2 in four steps: encode a frame, read memory, decode candidates, encode a memory."""

from common.nn.sam2.config import SIZES, VERSIONS, sam2_config
from common.nn.sam2.model import SAM2
from common.nn.sam2.types import NO_OBJECT_LOGIT, Bank, Candidates, FrameFeatures

__all__ = ["NO_OBJECT_LOGIT", "SAM2", "SIZES", "VERSIONS", "Bank", "Candidates", "FrameFeatures", "sam2_config"]
