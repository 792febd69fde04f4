"""The feature pyramid that turns propagated tokens into logits at stride 4."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        return self.norm(self.conv(x)).relu_()


class Decoder(nn.Module):
    """Three steps from stride 16 to 4, each with a shortcut from the encoder.

    Args:
        width: of the decoder; of its last two steps half.
        shortcuts: channels of the encoder's maps at strides 4, 8 and 16.
        channels: of the logits.
        aligned: see ``Encoder``.
    """

    def __init__(self, width: int, shortcuts: tuple[int, ...], channels: int, aligned: bool) -> None:
        super().__init__()
        self.aligned, half = aligned, width // 2
        self.enter = ConvNorm(2 * width, width, 1)
        self.at16, self.at8, self.at4 = ConvNorm(width, width, 3), ConvNorm(width, half, 3), ConvNorm(half, half, 3)
        self.skip4, self.skip8, self.skip16 = (
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip(shortcuts, (half, width, width), strict=True)
        )
        self.predict = nn.Conv2d(half, channels, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> Tensor:
        """(B, 2 width, h, w) and the encoder's maps to logits (B, channels, 4 h, 4 w)."""
        x = self.at16(self.skip16(f16) + self.enter(x))
        x = self.at8(self.skip8(f8) + self._resize(x, f8))
        x = self.at4(self.skip4(f4) + self._resize(x, f4))
        return self.predict(x)

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=self.aligned)
