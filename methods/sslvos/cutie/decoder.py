"""Pixels of the object transformer to mask logits at stride 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.sslvos.cutie.pixel_modules import SensoryUpdate, each
from methods.sslvos.settings import CoreSettings


class UpBlock(nn.Module):
    """Twice the size, the frame's own map added, a residual block of two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """(B, N, inputs, h, w) and (B, inputs, 2 h, 2 w) to (B, N, outputs, 2 h, 2 w)."""
        large = each(lambda y: F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False), x)
        return each(self._residual, large + shared[:, None])

    def _residual(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv2(F.relu(self.conv1(F.relu(x))))


class MaskDecoder(nn.Module):
    """Decoder with skips from the image encoder; its maps also update the sensory memory.

    Args:
        f8, f4: widths of the encoder's maps at strides 8 and 4.
    """

    def __init__(self, f8: int, f4: int, settings: CoreSettings) -> None:
        super().__init__()
        at8, at4 = settings.up
        self.skip8 = nn.Conv2d(f8, settings.embed, 1)
        self.skip4 = nn.Conv2d(f4, at8, 1)
        self.up8 = UpBlock(settings.embed, at8)
        self.up4 = UpBlock(at8, at4)
        self.predict = nn.Conv2d(at4, 1, 3, padding=1)
        self.sensory = SensoryUpdate([settings.embed, at8, at4 + 1], settings)

    def forward(self, pixels: Tensor, f8: Tensor, f4: Tensor, sensory: Tensor, update: bool) -> tuple[Tensor, Tensor]:
        """Pixels (B, N, embed, h, w), maps (B, ., 2 h, 2 w) and (B, ., 4 h, 4 w), memory (B, N, sensory, h, w).

        Returns:
            Logits float32 (B, N, 4 h, 4 w) of each target by itself, and the memory, updated if asked for.
        """
        p8 = self.up8(pixels, self.skip8(f8))
        p4 = self.up4(p8, self.skip4(f4))
        with torch.autocast(p4.device.type, enabled=False):
            logits = each(self.predict, p4.float().relu())
        if update:
            sensory = self.sensory([pixels, p8, torch.cat([p4, logits.to(p4.dtype)], 2)], sensory)
        return logits[:, :, 0], sensory
