"""SAM 2 with smart memory as a LightningModule: the policy on another tracker than the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from common.nn.sam2 import SAM2
from common.nn.sam2.weights import PUBLISHED, sam2_state
from common.nn.smart_memory import SmartMemory
from common.segmenter import VideoSegmenter
from common.settings import restore
from methods.hqsmem.sam2_session import SAM2SMemSession


class SAM2SMem(VideoSegmenter):
    """SAM 2 whose memory of tracked frames is chosen by smart memory (eq. 3 to 7); trained as SAM 2 is.

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` as published, or our ``nano``.
        version: ``"2"`` or ``"2.1"``.
        image_size: side of the square input, divisible by 32; default 1024 (nano 128).
        policy: settings of the smart memory.
        gap: frames between two memory updates.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a file or transformers folder of SAM 2.
    """

    published_weights = PUBLISHED
    nano_of = "sam2long"
    network: SAM2

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
        self.network, self.gap = SAM2(size, version, image_size), gap
        self.policy = restore(SmartMemory, policy) or SmartMemory()
        self.method_name, self.variant = f"SAM{version}+SMem", size
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        """Return the size, version and side of the input of SAM 2."""
        return {name: getattr(self.network, name) for name in ("size", "version", "image_size")}

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return a SAM 2 state dict, official or transformers', under the network's names."""
        return {f"net.{key}": value for key, value in sam2_state(state).items()}

    def session(self, length: int | None = None) -> SAM2SMemSession:
        """A session with this module's settings, whatever the length."""
        return SAM2SMemSession(self.network, self.policy, self.gap)
