"""SAM 2 with smart memory as a LightningModule: the policy on another tracker than the paper's."""

from __future__ import annotations

from typing import Any, Literal

from common.nn.sam2 import SAM2
from common.nn.sam2.weights import load_sam2
from common.nn.smart_memory import SmartMemory
from common.segmenter import VideoSegmenter
from methods.hqsmem.sam2_session import SAM2SMemSession


class SAM2SMem(VideoSegmenter):
    """SAM 2 whose memory of tracked frames is chosen by smart memory (eq. 3 to 7); trained as SAM 2 is.

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` as published, or our ``nano``.
        version: ``"2"`` or ``"2.1"``.
        image_size: side of the square input, divisible by 32; default 1024 (nano 128).
        policy: settings of the smart memory.
        gap: frames between two memory updates.
        kwargs: see ``VideoSegmenter``; ``weights`` may be ``nano``.
    """

    def __init__(
        self,
        size: Literal["tiny", "small", "base_plus", "large", "nano"] = "nano",
        version: Literal["2", "2.1"] = "2.1",
        image_size: int | None = None,
        policy: SmartMemory | None = None,
        gap: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.core, self.gap = SAM2(size, version, image_size), gap
        self.policy = SmartMemory(**policy) if isinstance(policy, dict) else policy or SmartMemory()
        self.method_name, self.variant = f"SAM{version}+SMem", size
        if self.weights not in (None, "random"):
            self.weights_file = load_sam2(self.core, self.weights)
            self.weights_note = "ours" if self.weights == "nano" else self.weights_file.name

    def session(self, length: int | None = None) -> SAM2SMemSession:
        """A session with this module's settings, whatever the length."""
        return SAM2SMemSession(self.core, self.policy, self.gap)
