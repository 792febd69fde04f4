"""Descriptors of masks: means of DINO's patch tokens, whose cosine is the similarity of eq. 8 and 9."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, ViTConfig, ViTModel

from common.nn.preprocessing import IMAGENET_MEAN, IMAGENET_STD

CONTEXT = 1.5  # ratio of the side of a small object's crop to that of its box
CROP_SIDE = 224  # side that the crop is resized to, in pixels


class DINO(nn.Module):
    """DINO's patch tokens of a frame, and descriptors of masks computed from them.

    Args:
        network: a transformers ViT, see ``methods.hqsmem.refinement.weights.load_dino``.
        side: short side of the network's input, in pixels; both sides are rounded to whole patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: PreTrainedModel, side: int = 480) -> None:
        super().__init__()
        self.network, self.side, self.patch = network, side, int(network.config.patch_size)
        self.special_tokens = 1 + int(getattr(network.config, "num_register_tokens", 0))  # CLS and registers
        # DINOv2's classes always interpolate position embeddings and have no such argument.
        self.options = {"interpolate_pos_encoding": True} if isinstance(network, ViTModel) else {}
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def encode(self, frame: Tensor) -> Tensor:
        """Encode a frame.

        Args:
            frame: uint8 (H, W, 3).

        Returns:
            Patch tokens float32 (C, h, w) after the last norm.
        """
        height, width = frame.shape[:2]
        scale = self.side / min(height, width) / self.patch
        size = tuple(max(1, round(side * scale)) * self.patch for side in (height, width))
        pixels = F.interpolate(self._normalise(frame), size, mode="bilinear", align_corners=False, antialias=True)
        return self._tokens(pixels)[0]

    def describe(self, tokens: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Average the tokens over each mask; a patch has as weight the fraction of it that the mask covers.

        Args:
            tokens: (C, h, w).
            masks: bool (N, H, W).

        Returns:
            Descriptors (N, C) of unit length, zero for an empty mask; and the area of each mask (N,), in patches.
        """
        size = (tokens.shape[1], tokens.shape[2])
        weights = F.adaptive_avg_pool2d(masks.to(tokens.dtype)[:, None], size).flatten(1)
        return F.normalize(weights @ tokens.flatten(1).T, dim=1), weights.sum(1)

    def similarity(self, frame: Tensor, tokens: Tensor, mask: Tensor, proposals: Tensor) -> Tensor:
        """Return the cosine of a mask's descriptor with those of K proposals (eq. 8).

        Where either covers less than a patch, both are described in a square crop around them instead; such crops are
        encoded in one batch.

        Args:
            frame: uint8 (H, W, 3).
            tokens: ``encode`` of the frame.
            mask: bool (H, W).
            proposals: bool (K, H, W).

        Returns:
            float (K,), -1 where the mask or the proposal is empty.
        """
        descriptors, area = self.describe(tokens, torch.cat([mask[None], proposals]))
        cosine = descriptors[1:] @ descriptors[0]
        present = proposals.flatten(1).any(1) & mask.any()
        small = (present & (area[1:].minimum(area[0]) < 1)).nonzero()[:, 0]
        if len(small):
            pairs = torch.stack([mask.expand(len(small), -1, -1), proposals[small]], 1)
            crops = [_crop(frame, pair) for pair in pairs]
            side = (round(CROP_SIDE / self.patch) * self.patch,) * 2
            resized = [
                F.interpolate(self._normalise(image), side, mode="bilinear", align_corners=False, antialias=True)
                for image, _ in crops
            ]
            crop_tokens = self._tokens(torch.cat(resized))
            for row, tokens_of_crop, (_, pair) in zip(small.tolist(), crop_tokens, crops, strict=True):
                mask_descriptor, proposal_descriptor = self.describe(tokens_of_crop, pair)[0]
                cosine[row] = mask_descriptor @ proposal_descriptor
        return cosine.where(present, -1.0)

    def _normalise(self, image: Tensor) -> Tensor:
        """Map uint8 (H, W, 3) to float (1, 3, H, W)."""
        return (image.permute(2, 0, 1)[None].float() / 255 - self.mean) / self.std

    def _tokens(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, h p, w p) as tokens (B, C, h, w), p the side of a patch."""
        size = (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch)
        tokens: Tensor = self.network(pixels, **self.options).last_hidden_state[:, self.special_tokens :]
        return torch.unflatten(tokens.float().transpose(1, 2), 2, size)


def _crop(frame: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Crop a frame uint8 (H, W, 3) and two masks bool (2, H, W) to a square around the union of the masks.

    Its side is ``CONTEXT`` times the longer side of the union. Outside the frame, the crop is black and in no mask.
    """
    rows, columns = (pair.any(0).any(axis).nonzero()[:, 0] for axis in (1, 0))
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    side = max(2, round(CONTEXT * max(bottom - top, right - left)))
    y, x = (top + bottom - side) // 2, (left + right - side) // 2
    height, width = frame.shape[:2]
    padding = (-min(x, 0), max(x + side - width, 0), -min(y, 0), max(y + side - height, 0))
    inside = slice(max(y, 0), y + side), slice(max(x, 0), x + side)
    image = F.pad(frame[inside].permute(2, 0, 1), padding).permute(1, 2, 0)
    return image, F.pad(pair[:, inside[0], inside[1]], padding)


def nano_dino() -> ViTModel:
    """Build a ViT of 0.5 M parameters with patches of 8 x 8 pixels, untrained."""
    config = ViTConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=96,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    return ViTModel(config, add_pooling_layer=False)
