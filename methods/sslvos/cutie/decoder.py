"""The mask decoder: pixels of the object transformer to mask logits at stride 4 (Cutie)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.sslvos.cutie.pixel_modules import SensoryUpdate, per_target
from methods.sslvos.settings import CoreSettings


class UpBlock(nn.Module):
    """Upsample by two, add the image encoder's map of that size, and apply a residual block of two convolutions.

    Args:
        inputs: channels of the input and of the added map.
        outputs: channels of the result.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """Upsample (B, N, inputs, h, w), add ``shared`` (B, inputs, 2 h, 2 w): (B, N, outputs, 2 h, 2 w)."""
        large = per_target(lambda y: F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False), x)
        return per_target(self._residual, large + shared[:, None])

    def _residual(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.conv2(F.relu(self.conv1(F.relu(x))))
        return out


class MaskDecoder(nn.Module):
    """Decode masks with skip connections from the image encoder; the decoder's maps also update the sensory memory.

    Args:
        f8: channels of the image encoder's map at stride 8.
        f4: channels of the image encoder's map at stride 4.
        settings: widths of the core.
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
        """Decode the masks of one frame.

        Args:
            pixels: from the object transformer, (B, N, embed, h, w).
            f8: the image encoder's map (B, ., 2 h, 2 w).
            f4: the image encoder's map (B, ., 4 h, 4 w).
            sensory: sensory memory (B, N, sensory, h, w).
            update: whether to update the sensory memory.

        Returns:
            Logits float32 (B, N, 4 h, 4 w) of each target by itself, and the sensory memory.
        """
        p8 = self.up8(pixels, self.skip8(f8))
        p4 = self.up4(p8, self.skip4(f4))
        with torch.autocast(p4.device.type, enabled=False):
            logits = per_target(self.predict, p4.float().relu())
        if update:
            sensory = self.sensory([pixels, p8, torch.cat([p4, logits.to(p4.dtype)], 2)], sensory)
        return logits[:, :, 0], sensory
