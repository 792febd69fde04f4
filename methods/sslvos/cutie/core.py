"""The whole network in steps: encode a frame, memorise it, read the memory, decode masks (Cutie).

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
from common.nn.timing import part
from methods.sslvos.cutie.decoder import MaskDecoder
from methods.sslvos.cutie.object_transformer import ObjectSummary, ObjectTransformer
from methods.sslvos.cutie.pixel_modules import KeyProjection, MaskEncoder, PixelFuser, flatten_maps, per_target
from methods.sslvos.encoders.base import FeatureEncoder
from methods.sslvos.settings import CoreSettings


@dataclass(frozen=True)
class FrameFeatures:
    """Features of a frame, shared by all targets.

    Attributes:
        image: (B, 3, H, W), normalised.
        f8: the encoder's map at stride 8.
        f4: the encoder's map at stride 4.
        pixels: (B, pixel, h, w), at stride 16.
        key: float32 (B, P, key), of the frame's tokens as memory and as query.
        shrinkage: float32 (B, P, 1), at least 1; scales the similarity of a memory token.
        selection: float32 (B, P, key), 0 to 1; weights the channels of a query token.
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
    """Memory of a frame with its masks, for each target.

    Attributes:
        value: (B, P, N, value); tokens come before targets, the layout in which the memory is read.
        sensory: float32 (B, N, sensory, h, w), after the deep update if there was one.
        summary: float32 (B, N, Q, embed + 1), see ``ObjectSummary``.
    """

    value: Tensor
    sensory: Tensor
    summary: Tensor


class SSLVOSNetwork(nn.Module):
    """The network of Cutie and SSLVOS; it keeps no state between calls.

    A training step calls ``encode`` on every frame, ``memorise`` on frame 0 with its true masks, and on every later
    frame ``read_memory``, ``attend``, ``decode``, ``memorise``. A tracker does the same with a ``TokenBank``, which
    reads top-k, in place of ``read_memory``.

    Args:
        encoder: image encoder, maps at strides 16, 8 and 4.
        settings: widths and counts; default Cutie-base's.
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
        # channels-last convolutions save 5 to 20 % of the time on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @part("encode")
    def encode(self, image: Tensor) -> FrameFeatures:
        """Encode frames.

        Args:
            image: float RGB (B, 3, H, W) in [0, 1]; H and W are multiples of ``encoder.multiple``.
        """
        image = normalise(image)
        f16, f8, f4 = self.encoder(image)
        return FrameFeatures(image, f8, f4, self.pixel_proj(f16), *self.key_proj(f16))

    def initial_sensory(self, features: FrameFeatures, targets: int) -> Tensor:
        """Return the sensory memory of new targets: zeros float32 (B, N, sensory, h, w).

        Args:
            features: of the frame on which they appear, for the size.
            targets: N.
        """
        pixels = features.pixels
        shape = (len(pixels), targets, self.settings.sensory, *pixels.shape[-2:])
        return torch.zeros(shape, device=pixels.device)

    def memorise(self, features: FrameFeatures, sensory: Tensor, masks: Tensor, deep: bool = True) -> FrameMemory:
        """Encode a frame and its masks as memory.

        Args:
            features: of the frame.
            sensory: sensory memory (B, N, sensory, h, w).
            masks: float (B, N, H, W) in [0, 1].
            deep: update the sensory memory from the value (Cutie's deep update).
        """
        value = self.mask_encoder(features.image, features.pixels, masks)
        summary = self.summary(masks, value)
        if deep:
            sensory = self.mask_encoder.deep(value, sensory)
        return FrameMemory(flatten_maps(value).transpose(1, 2).contiguous(), sensory, summary)

    def read_memory(self, features: FrameFeatures, key: Tensor, shrinkage: Tensor, value: Tensor) -> Tensor:
        """Read all memory tokens by a softmax, for training.

        Args:
            features: of the query frame.
            key: (B, M, key), of M memory tokens.
            shrinkage: (B, M, 1).
            value: (B, M, N, value).

        Returns:
            Readout (B, P, N, value).
        """
        return softmax_read(key, shrinkage, features.key, features.selection, value)

    def attend(
        self,
        features: FrameFeatures,
        readout: Tensor,
        sensory: Tensor,
        last_masks: Tensor,
        object_memory: Tensor,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse the readout of the pixel memory and pass it through the object transformer.

        Args:
            features: of the frame.
            readout: of the pixel memory, (B, P, N, value).
            sensory: sensory memory (B, N, sensory, h, w).
            last_masks: of the frame before, (B, N, H, W) in [0, 1].
            object_memory: summaries added up over all memory frames, (B, N, Q, embed + 1).
            valid: (B, N), 0 for the padded targets of a training batch; None = all are real.

        Returns:
            Pixels (B, N, embed, h, w), and the transformer's mask logits, a list of (B, N, h, w) by level.
        """
        maps = readout.permute(0, 2, 3, 1).unflatten(-1, features.pixels.shape[-2:])
        fused = self.fuser(features.pixels, maps, sensory, last_masks)
        out: tuple[Tensor, list[Tensor]] = self.transformer(fused, object_memory, valid)
        return out

    @part("decode masks")
    def decode(
        self,
        features: FrameFeatures,
        pixels: Tensor,
        sensory: Tensor,
        update: bool = True,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode masks from the pixels of the object transformer.

        Args:
            features: of the frame.
            pixels: (B, N, embed, h, w).
            sensory: sensory memory (B, N, sensory, h, w).
            update: whether to update the sensory memory.
            valid: (B, N), 0 for the padded targets of a training batch; None = all are real.

        Returns:
            Logits (B, N + 1, H, W), background first, whose softmax over dim 1 gives probabilities; and the sensory
            memory.
        """
        logits, sensory = self.decoder(pixels, features.f8, features.f4, sensory, update)
        joint = self.aggregate(logits, valid)
        return F.interpolate(joint, scale_factor=4.0, mode="bilinear", align_corners=False), sensory

    def sensory_logits(self, features: FrameFeatures, sensory: Tensor) -> Tensor:
        """Predict mask logits (B, N, h, w) from the sensory memory alone, for an auxiliary loss.

        The head gives each target a linear classifier of the frame's pixels: weights and a bias at each place.

        Args:
            features: of the frame.
            sensory: sensory memory (B, N, sensory, h, w).
        """
        out = per_target(self.sensory_head, sensory)
        return (features.pixels[:, None] * out[:, :, :-1]).sum(2) + out[:, :, -1]

    @staticmethod
    def aggregate(logits: Tensor, valid: Tensor | None = None) -> Tensor:
        """Combine logits of single targets by soft aggregation.

        Args:
            logits: (B, N, ...).
            valid: (B, N), 0 for the padded targets of a training batch; None = all are real.

        Returns:
            Logits float32 (B, N + 1, ...), background first.
        """
        prob = logits.float().sigmoid()
        return soft_aggregate(prob if valid is None else prob * valid.view(*valid.shape, *[1] * (prob.ndim - 2)))
