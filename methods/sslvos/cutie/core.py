"""The Cutie-style core: everything downstream of the image encoder's three maps, plain torch.

Legend: B batch, N targets, C channels, h = H / 16, w = W / 16, P = h w tokens of a frame, Q object queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.affinity import softmax_read
from common.nn.aggregate import soft_aggregate
from common.nn.preprocessing import normalise
from methods.sslvos.cutie.decoder import MaskDecoder
from methods.sslvos.cutie.object_transformer import ObjectSummary, ObjectTransformer
from methods.sslvos.cutie.pixel_modules import KeyProjection, MaskEncoder, PixelFuser, each, tokens
from methods.sslvos.encoders.base import FeatureEncoder
from methods.sslvos.settings import CoreSettings


@dataclass(frozen=True)
class FrameFeatures:
    """What a frame is to all its targets.

    Attributes:
        image: (B, 3, H, W), normalised.
        f8, f4: the encoder's maps.
        pixels: (B, pixel, h, w).
        key, shrinkage, selection: float32 (B, P, key), (B, P, 1), (B, P, key).
    """

    image: Tensor
    f8: Tensor
    f4: Tensor
    pixels: Tensor
    key: Tensor
    shrinkage: Tensor
    selection: Tensor


@dataclass(frozen=True)
class FrameMemory:
    """What a frame and its masks leave behind, a target each.

    Attributes:
        value: (B, P, N, value), tokens first, as the memory reads them.
        sensory: float32 (B, N, sensory, h, w), after the deep update if there was one.
        summary: float32 (B, N, Q, embed + 1), sums and areas.
    """

    value: Tensor
    sensory: Tensor
    summary: Tensor


class SSLVOSNetwork(nn.Module):
    """Reads, decodes and memorises frames; keeps no state between calls.

    A training step calls ``encode`` on every frame, ``memorise`` on frame 0 with its true masks, and on every later
    frame ``read_all`` (or another readout), ``attend``, ``decode``, ``memorise``.

    Args:
        encoder: gives the maps at strides 16, 8 and 4.
        settings: widths and counts.
    """

    def __init__(self, encoder: FeatureEncoder, settings: CoreSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or CoreSettings()
        self.encoder = encoder
        f16, f8, f4 = encoder.widths
        self.pixel_proj = nn.Conv2d(f16, settings.pixel, 1)
        self.key_proj = KeyProjection(f16, settings)
        self.mask_encoder = MaskEncoder(settings)
        self.fuser = PixelFuser(settings)
        self.transformer = ObjectTransformer(settings)
        self.summary = ObjectSummary(settings)
        self.decoder = MaskDecoder(f8, f4, settings)
        self.sensory_head = nn.Conv2d(settings.sensory, settings.pixel + 1, 1)
        # 5 to 20 % of the time on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, image: Tensor) -> FrameFeatures:
        """Features of frames, float RGB (B, 3, H, W) in 0 to 1, sides multiples of ``encoder.multiple``."""
        image = normalise(image)
        f16, f8, f4 = self.encoder(image)
        return FrameFeatures(image, f8, f4, self.pixel_proj(f16), *self.key_proj(f16))

    def no_sensory(self, features: FrameFeatures, targets: int) -> Tensor:
        """The sensory memory of targets that have not been seen: zeros (B, N, sensory, h, w)."""
        pixels = features.pixels
        shape = (len(pixels), targets, self.settings.sensory, *pixels.shape[-2:])
        return torch.zeros(shape, device=pixels.device)

    def memorise(self, features: FrameFeatures, sensory: Tensor, masks: Tensor, deep: bool = True) -> FrameMemory:
        """The memory of a frame with masks float (B, N, H, W) in 0 to 1; ``deep`` updates the sensory memory too."""
        value = self.mask_encoder(features.image, features.pixels, masks)
        summary = self.summary(masks, value)
        if deep:
            sensory = self.mask_encoder.deep(value, sensory)
        return FrameMemory(tokens(value).transpose(1, 2).contiguous(), sensory, summary)

    def read_all(self, features: FrameFeatures, key: Tensor, shrinkage: Tensor, value: Tensor) -> Tensor:
        """Readout (B, P, N, value) over all memory tokens (B, M, ...), for training; see ``FrameMemory.value``."""
        return softmax_read(key, shrinkage, features.key, features.selection, value)

    def attend(
        self,
        features: FrameFeatures,
        readout: Tensor,
        sensory: Tensor,
        last: Tensor,
        objects: Tensor,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse the pixel memory's readout and put it through the object transformer.

        Args:
            readout: (B, P, N, value).
            sensory: (B, N, sensory, h, w).
            last: masks of the frame before, (B, N, H, W), 0 to 1.
            objects: object memory (B, N, Q, embed + 1): summaries summed over all memory frames.
            valid: (B, N), 0 for padded targets in a training batch.

        Returns:
            Pixels (B, N, embed, h, w) and the transformer's mask logits (B, N, h, w) by level.
        """
        maps = readout.permute(0, 2, 3, 1).unflatten(-1, features.pixels.shape[-2:])
        return self.transformer(self.fuser(features.pixels, maps, sensory, last), objects, valid)

    def decode(
        self,
        features: FrameFeatures,
        pixels: Tensor,
        sensory: Tensor,
        update: bool = True,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks from the transformer's pixels.

        Returns:
            Logits (B, N + 1, H, W), background first, whose softmax shares out the pixels; and the sensory memory.
        """
        logits, sensory = self.decoder(pixels, features.f8, features.f4, sensory, update)
        shares = self.shares(logits, valid)
        return F.interpolate(shares, scale_factor=4.0, mode="bilinear", align_corners=False), sensory

    def sensory_logits(self, features: FrameFeatures, sensory: Tensor) -> Tensor:
        """Mask logits (B, N, h, w) seen in the sensory memory alone, for an auxiliary loss."""
        out = each(self.sensory_head, sensory)
        return (features.pixels[:, None] * out[:, :, :-1]).sum(2) + out[:, :, -1]

    @staticmethod
    def shares(logits: Tensor, valid: Tensor | None = None) -> Tensor:
        """Soft aggregation of logits (B, N, ...): float32 (B, N + 1, ...), background first."""
        prob = logits.float().sigmoid()
        return soft_aggregate(prob if valid is None else prob * valid.view(*valid.shape, *[1] * (prob.ndim - 2)))
