"""SAM 2 with smart memory as a LightningModule: the policy on another tracker than the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from common.nn.sam2 import SAM2
from common.nn.sam2.architecture import READ_FROM_WEIGHTS, choose_architecture
from common.nn.sam2.published import PUBLISHED, find_sam2
from common.nn.sam2.weights import sam2_state
from common.nn.smart_memory import SmartMemory
from common.segmenter import VideoSegmenter
from common.settings import restore
from methods.hqsmem.sam2_session import SAM2SMemSession


class SAM2SMem(VideoSegmenter):
    """SAM 2 whose memory of tracked frames is chosen by smart memory (eq. 3 to 7); trained as SAM 2 is.

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` as published, or our ``nano``; default: that of ``weights``,
            nano without any.
        version: ``"2"`` or ``"2.1"``; default: that of ``weights``, 2.1 without any.
        image_size: side of the square input, divisible by 32; default: that of ``weights`` of this suite, else 1024
            (nano 128).
        policy: settings of the smart memory.
        gap: frames between two memory updates.
        kwargs: see ``VideoSegmenter``; ``weights`` may be a file or transformers folder of SAM 2.
    """

    published_weights = PUBLISHED
    read_from_weights = READ_FROM_WEIGHTS
    nano_of = "sam2long"
    network: SAM2

    def __init__(
        self,
        size: Literal["tiny", "small", "base_plus", "large", "nano"] | None = None,
        version: Literal["2", "2.1"] | None = None,
        image_size: int | None = None,
        policy: SmartMemory | None = None,
        gap: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        architecture = choose_architecture(self.read_weights(), self.weights_file, size, version, image_size)
        self.hparams.update(architecture._asdict())
        self.network, self.gap = SAM2(*architecture), gap
        self.policy = restore(SmartMemory, policy) or SmartMemory()
        self.method_name, self.variant = f"SAM{architecture.version}+SMem", architecture.size
        self.load_weights()

    def architecture(self) -> dict[str, Any]:
        """Return the size, version and side of the input of SAM 2."""
        return {name: getattr(self.network, name) for name in ("size", "version", "image_size")}

    def find_published(self, name: str) -> Path:
        """Return the file of a published SAM 2, see ``find_sam2``."""
        return find_sam2(name)

    def from_published(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Return a SAM 2 state dict, official or transformers', under the network's names."""
        return {f"net.{key}": value for key, value in sam2_state(state).items()}

    def session(self, length: int | None = None) -> SAM2SMemSession:
        """A session with this module's settings, whatever the length."""
        return SAM2SMemSession(self.network, self.policy, self.gap)
