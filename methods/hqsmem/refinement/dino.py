"""What a region looks like to DINO: the mean of the tokens of its patches (section 5 of the method, eq. 8 and 9)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, ViTConfig, ViTModel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTEXT = 1.5  # side of a small object's crop, over that of its box
CROP = 224  # pixels that the crop is resized to


class DINO(nn.Module):
    """DINO's patch tokens of a frame, and descriptors of masks from them.

    Args:
        net: a transformers ViT, see ``methods.hqsmem.refinement.weights.load_dino``.
        side: short side of the frame as the network sees it, in pixels; both are rounded to whole patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: PreTrainedModel, side: int = 480) -> None:
        super().__init__()
        self.net, self.side, self.patch = net, side, int(net.config.patch_size)
        self.skip = 1 + int(getattr(net.config, "num_register_tokens", 0))  # CLS and registers
        self.options: dict[str, Any] = {"interpolate_pos_encoding": True} if isinstance(net, ViTModel) else {}
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def encode(self, frame: Tensor) -> Tensor:
        """Tokens (C, h, w) of a frame uint8 (H, W, 3), after the last norm."""
        height, width = frame.shape[:2]
        scale = self.side / min(height, width) / self.patch
        size = tuple(max(1, round(side * scale)) * self.patch for side in (height, width))
        pixels = F.interpolate(self._normalise(frame), size, mode="bilinear", align_corners=False, antialias=True)
        return self._tokens(pixels)[0]

    def describe(self, tokens: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean token of masks, each patch weighed by the share of it that the mask covers.

        Args:
            tokens: (C, h, w).
            masks: bool (N, H, W).

        Returns:
            Descriptors (N, C) of unit length, zero for an empty mask; and the area of each mask (N,), in patches.
        """
        weights = F.adaptive_avg_pool2d(masks.to(tokens.dtype)[:, None], (tokens.shape[1], tokens.shape[2]))[
            :, 0
        ].flatten(1)
        return F.normalize(weights @ tokens.flatten(1).T, dim=1), weights.sum(1)

    def similarity(self, frame: Tensor, tokens: Tensor, mask: Tensor, others: Tensor) -> Tensor:
        """Cosine (K,) of a mask bool (H, W) with other masks bool (K, H, W) of the frame; -1 where either is empty.

        Where one covers less than a patch, both are looked at in a square crop around them instead; such crops are
        encoded together.
        """
        described, area = self.describe(tokens, torch.cat([mask[None], others]))
        out = described[1:] @ described[0]
        there = others.flatten(1).any(1) & mask.any()
        small = (there & (area[1:].minimum(area[0]) < 1)).nonzero()[:, 0]
        if len(small):
            pairs = torch.stack([mask.expand(len(small), -1, -1), others[small]], 1)
            cut = [_crop(frame, pair) for pair in pairs]
            side = (round(CROP / self.patch) * self.patch,) * 2
            resized = [
                F.interpolate(self._normalise(image), side, mode="bilinear", align_corners=False, antialias=True)
                for image, _ in cut
            ]
            for row, seen, (_, pair) in zip(small.tolist(), self._tokens(torch.cat(resized)), cut, strict=True):
                one, two = self.describe(seen, pair)[0]
                out[row] = one @ two
        return out.where(there, -1.0)

    def _normalise(self, image: Tensor) -> Tensor:
        """uint8 (H, W, 3) to float (1, 3, H, W)."""
        return (image.permute(2, 0, 1)[None].float() / 255 - self.mean) / self.std

    def _tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, h p, w p) to (B, C, h, w)."""
        height, width = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        tokens = self.net(pixels, **self.options).last_hidden_state[:, self.skip :]
        return tokens.float().transpose(1, 2).unflatten(2, (height, width))


def _crop(frame: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """A square around the union of two masks bool (2, H, W), ``CONTEXT`` times its longer side: frame and masks in it.

    What lies outside the frame is black and belongs to no mask.
    """
    rows, columns = (pair.any(0).any(axis).nonzero()[:, 0] for axis in (1, 0))
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    side = max(2, round(CONTEXT * max(bottom - top, right - left)))
    y, x = (top + bottom - side) // 2, (left + right - side) // 2
    height, width = frame.shape[:2]
    around = (-min(x, 0), max(x + side - width, 0), -min(y, 0), max(y + side - height, 0))
    inside = slice(max(y, 0), y + side), slice(max(x, 0), x + side)
    image = F.pad(frame[inside].permute(2, 0, 1), around).permute(1, 2, 0)
    return image, F.pad(pair[:, inside[0], inside[1]], around)


def nano_dino() -> ViTModel:
    """A ViT of 0.5 M parameters with patches of 8 x 8 pixels, to be trained as DINO."""
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
