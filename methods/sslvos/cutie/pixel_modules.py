"""The modules before the object transformer: key projection, pixel fusion, mask encoder, sensory memory (Cutie).

Legend: B batch, N targets, C channels; a map shared by all targets is (B, C, h, w), one of each target (B, N, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.layers import ChannelAttentionBlock
from common.nn.resnet import ResNet
from methods.sslvos.settings import CoreSettings


def per_target(layer: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Apply a layer that takes a batch of maps to the map of every target.

    Args:
        layer: maps (M, ...) to (M, ...).
        maps: (B, N, ...).

    Returns:
        (B, N, ...).
    """
    out: Tensor = layer(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
    return out


def other_masks(masks: Tensor) -> Tensor:
    """Sum the masks (B, N, H, W) of all other targets for each target, at most 1: (B, N, H, W)."""
    return (masks.sum(1, keepdim=True) - masks).clamp(0, 1)


def flatten_maps(maps: Tensor) -> Tensor:
    """Flatten maps (..., C, h, w) to tokens (..., h w, C)."""
    return maps.flatten(-2).transpose(-1, -2)


class KeyProjection(nn.Module):
    """Project a map to key k, shrinkage s = d² + 1 and selection e in (0, 1) (XMem, section 3.3).

    Args:
        inputs: channels of the map.
        settings: widths of the core.
    """

    def __init__(self, inputs: int, settings: CoreSettings) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, settings.pixel, 1)
        self.key = nn.Conv2d(settings.pixel, settings.key, 3, padding=1)
        self.shrinkage = nn.Conv2d(settings.pixel, 1, 3, padding=1)
        self.selection = nn.Conv2d(settings.pixel, settings.key, 3, padding=1)
        nn.init.orthogonal_(self.key.weight)
        nn.init.zeros_(self.key.bias)  # type: ignore[arg-type]

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, inputs, h, w) to float32 tokens: k (B, h w, key), s (B, h w, 1), e (B, h w, key)."""
        x = self.reduce(f16)
        key, shrinkage, selection = (
            flatten_maps(layer(x)).float() for layer in (self.key, self.shrinkage, self.selection)
        )
        return key, shrinkage**2 + 1, selection.sigmoid()


class Fusion(nn.Module):
    """Add the projections of a shared map and of each target's map, then refine by two channel-attention blocks.

    Args:
        shared: channels of the shared map.
        own: channels of the target's map.
        outputs: channels of the result.
    """

    def __init__(self, shared: int, own: int, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(shared, outputs, 1)
        self.own = nn.Conv2d(own, outputs, 1)
        self.refine = nn.Sequential(ChannelAttentionBlock(outputs), ChannelAttentionBlock(outputs))

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """Fuse (B, shared, h, w) and (B, N, own, h, w) to (B, N, outputs, h, w)."""
        return per_target(self.refine, per_target(self.own, own) + self.shared(shared)[:, None])


class PixelFuser(nn.Module):
    """Fuse the readout of the pixel memory with the sensory memory, the last masks and the frame's feature.

    Args:
        settings: widths of the core.
    """

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        self.sensory = nn.Conv2d(settings.sensory + 2, settings.value, 1)
        self.fusion = Fusion(settings.pixel, settings.value, settings.embed)

    def forward(self, pixels: Tensor, readout: Tensor, sensory: Tensor, last_masks: Tensor) -> Tensor:
        """Fuse the maps of one frame.

        Args:
            pixels: (B, pixel, h, w).
            readout: (B, N, value, h, w).
            sensory: (B, N, sensory, h, w).
            last_masks: of the frame before, (B, N, H, W) in [0, 1].

        Returns:
            (B, N, embed, h, w).
        """
        last_masks = F.interpolate(last_masks, sensory.shape[-2:], mode="area")
        state = torch.cat([sensory, torch.stack([last_masks, other_masks(last_masks)], 2)], 2)
        out: Tensor = self.fusion(pixels, readout + per_target(self.sensory, state))
        return out


class Recurrence(nn.Module):
    """The gated update of the sensory memory: h' = σ(f) h (1 - σ(u)) + σ(u) tanh(n).

    f, u and n come from one convolution over input and h. Always in float32, since errors add up over the video.

    Args:
        inputs: channels of the input.
        state: channels of h.
    """

    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + state, state * 3, 3, padding=1)
        nn.init.xavier_normal_(self.gates.weight)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Update h (B, N, state, h, w) by the input (B, N, inputs, h, w): float32 h'."""
        with torch.autocast(x.device.type, enabled=False):
            state = state.float()
            forget, update, new = per_target(self.gates, torch.cat([x.float(), state], 2)).chunk(3, 2)
            update = update.sigmoid()
            return forget.sigmoid() * state * (1 - update) + update * new.tanh()


class SensoryUpdate(nn.Module):
    """Update the sensory memory from the decoder's maps at strides 16, 8 and 4.

    Args:
        widths: channels of the three maps; that at stride 4 includes the mask logit.
        settings: widths of the core.
    """

    def __init__(self, widths: Sequence[int], settings: CoreSettings) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Conv2d(width, settings.sensory, 1) for width in widths)
        self.recurrence = Recurrence(settings.sensory, settings.sensory)

    def forward(self, maps: Sequence[Tensor], sensory: Tensor) -> Tensor:
        """Update the memory (B, N, sensory, h, w) by maps (B, N, C_i, 2^i h, 2^i w), i = 0, 1, 2."""
        pooled = [maps[0], *(per_target(nn.AvgPool2d(2**i), x) for i, x in enumerate(maps[1:], 1))]
        first, *rest = (per_target(layer, x) for layer, x in zip(self.inputs, pooled, strict=True))
        out: Tensor = self.recurrence(sum(rest, first), sensory)
        return out


class MaskEncoder(nn.Module):
    """Encode a frame and the mask of each target to a memory value, by a ResNet with five input channels.

    The channels are RGB, the target's mask and the sum of all other targets' masks.

    Args:
        settings: widths of the core.
    """

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        self.trunk = ResNet(settings.mask_depths, settings.mask_widths, False, 5, settings.frozen_norm)
        self.fusion = Fusion(settings.pixel, self.trunk.widths[-1], settings.value)
        self.deep = Recurrence(settings.value, settings.sensory)

    def forward(self, image: Tensor, pixels: Tensor, masks: Tensor) -> Tensor:
        """Encode the masks of one frame.

        Args:
            image: (B, 3, H, W), normalised.
            pixels: (B, pixel, h, w).
            masks: (B, N, H, W) in [0, 1].

        Returns:
            Values (B, N, value, h, w).
        """
        conv = self.trunk.conv1
        # the first convolution is linear: its part on the frame is computed once for all targets
        from_image = F.conv2d(image, conv.weight[:, :3], None, conv.stride, conv.padding)
        planes = torch.stack([masks, other_masks(masks)], 2).flatten(0, 1)
        from_masks = F.conv2d(planes, conv.weight[:, 3:], None, conv.stride, conv.padding)
        x = from_masks.unflatten(0, masks.shape[:2]) + from_image[:, None]
        deepest = self.trunk.stages(x.flatten(0, 1))[-1].unflatten(0, masks.shape[:2])
        out: Tensor = self.fusion(pixels, deepest)
        return out
