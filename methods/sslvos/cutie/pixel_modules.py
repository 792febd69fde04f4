"""What happens to pixels before the object transformer: keys, fusion, mask encoder, sensory memory.

Legend: B batch, N targets, C channels; a map shared by targets is (B, C, h, w), one a target is (B, N, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.channel_attention import ChannelAttentionBlock
from common.nn.resnet import ResNet
from methods.sslvos.settings import CoreSettings


def each(layer: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """A layer of batches on every target's map: (B, N, ...) to (B, N, ...)."""
    return layer(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])


def others(masks: Tensor) -> Tensor:
    """The sum of all other targets' masks (B, N, H, W), at most 1."""
    return (masks.sum(1, keepdim=True) - masks).clamp(0, 1)


def tokens(maps: Tensor) -> Tensor:
    """(..., C, h, w) to (..., h w, C)."""
    return maps.flatten(-2).transpose(-1, -2)


class KeyProjection(nn.Module):
    """Key k, shrinkage s = d² + 1 and selection e = sigmoid of one map."""

    def __init__(self, inputs: int, settings: CoreSettings) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, settings.pixel, 1)
        self.key = nn.Conv2d(settings.pixel, settings.key, 3, padding=1)
        self.shrinkage = nn.Conv2d(settings.pixel, 1, 3, padding=1)
        self.selection = nn.Conv2d(settings.pixel, settings.key, 3, padding=1)
        nn.init.orthogonal_(self.key.weight)
        nn.init.zeros_(self.key.bias)  # type: ignore[arg-type]

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, h, w) to float32 tokens (B, h w, key), (B, h w, 1), (B, h w, key)."""
        x = self.reduce(f16)
        key, shrinkage, selection = (tokens(layer(x)).float() for layer in (self.key, self.shrinkage, self.selection))
        return key, shrinkage**2 + 1, selection.sigmoid()


class Fusion(nn.Module):
    """A shared and a target's map, projected, added, and refined by two channel-attention blocks."""

    def __init__(self, shared: int, own: int, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(shared, outputs, 1)
        self.own = nn.Conv2d(own, outputs, 1)
        self.refine = nn.Sequential(ChannelAttentionBlock(outputs), ChannelAttentionBlock(outputs))

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """(B, shared, h, w) and (B, N, own, h, w) to (B, N, outputs, h, w)."""
        return each(self.refine, each(self.own, own) + self.shared(shared)[:, None])


class PixelFuser(nn.Module):
    """Readout of the pixel memory with the sensory memory, the last masks and the frame's own feature."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        self.sensory = nn.Conv2d(settings.sensory + 2, settings.value, 1)
        self.fusion = Fusion(settings.pixel, settings.value, settings.embed)

    def forward(self, pixels: Tensor, readout: Tensor, sensory: Tensor, last: Tensor) -> Tensor:
        """(B, pixel, h, w), (B, N, value, h, w), (B, N, sensory, h, w), masks (B, N, H, W) to (B, N, embed, h, w)."""
        last = F.interpolate(last, sensory.shape[-2:], mode="area")
        state = torch.cat([sensory, torch.stack([last, others(last)], 2)], 2)
        return self.fusion(pixels, readout + each(self.sensory, state))


class Recurrence(nn.Module):
    """h' = σ(f) h (1 - σ(u)) + σ(u) tanh(n), with f, u, n from a convolution over input and h; always in float32."""

    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + state, state * 3, 3, padding=1)
        nn.init.xavier_normal_(self.gates.weight)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """(B, N, inputs, h, w) and h (B, N, state, h, w) to h'."""
        with torch.autocast(x.device.type, enabled=False):
            state = state.float()
            forget, update, new = each(self.gates, torch.cat([x.float(), state], 2)).chunk(3, 2)
            update = update.sigmoid()
            return forget.sigmoid() * state * (1 - update) + update * new.tanh()


class SensoryUpdate(nn.Module):
    """Sensory memory from the decoder's maps at strides 16, 8 and 4, the last with the logit as one more channel."""

    def __init__(self, widths: Sequence[int], settings: CoreSettings) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Conv2d(width, settings.sensory, 1) for width in widths)
        self.recurrence = Recurrence(settings.sensory, settings.sensory)

    def forward(self, maps: Sequence[Tensor], sensory: Tensor) -> Tensor:
        """Maps (B, N, C_i, h_i, w_i) and the memory (B, N, sensory, h, w) to the new memory."""
        small = [maps[0], *(each(nn.AvgPool2d(2**i), x) for i, x in enumerate(maps[1:], 1))]
        first, *rest = (each(layer, x) for layer, x in zip(self.inputs, small, strict=True))
        return self.recurrence(sum(rest, first), sensory)


class MaskEncoder(nn.Module):
    """Frame and mask of each target to a memory value, by a trunk on five channels."""

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        self.trunk = ResNet(settings.mask_depths, settings.mask_widths, False, 5, settings.frozen_norm)
        self.fusion = Fusion(settings.pixel, self.trunk.widths[-1], settings.value)
        self.deep = Recurrence(settings.value, settings.sensory)

    def forward(self, image: Tensor, pixels: Tensor, masks: Tensor) -> Tensor:
        """Normalised (B, 3, H, W), (B, pixel, h, w), masks (B, N, H, W) to values (B, N, value, h, w)."""
        first = self.trunk.conv1
        # the convolution is linear: its part on the frame is the same for all targets
        frame = F.conv2d(image, first.weight[:, :3], None, first.stride, first.padding)
        planes = torch.stack([masks, others(masks)], 2).flatten(0, 1)
        own = F.conv2d(planes, first.weight[:, 3:], None, first.stride, first.padding)
        x = own.unflatten(0, masks.shape[:2]) + frame[:, None]
        value = self.trunk.stages(x.flatten(0, 1))[-1].unflatten(0, masks.shape[:2])
        return self.fusion(pixels, value)
