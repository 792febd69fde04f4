"""Image features that the decoder reads: of single frames, and of clips with position codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of M frames, each encoded by itself, so that they can be cached and regrouped.

    Attributes:
        mask_features: (M, C, H / 4, W / 4), whose product with mask embeddings are the masks; H and W are padded to
            multiples of 32.
        maps: (M, C, h, w) at strides 32, 16 and 8.
        size: height and width of the frames before padding at the bottom and on the right.
    """

    mask_features: Tensor
    maps: tuple[Tensor, Tensor, Tensor]
    size: tuple[int, int]

    def __getitem__(self, frames: slice | Tensor) -> Features:
        coarse, middle, fine = self.maps
        return Features(self.mask_features[frames], (coarse[frames], middle[frames], fine[frames]), self.size)

    @staticmethod
    def cat(parts: Sequence[Features]) -> Features:
        """Concatenate features along the frames."""
        coarse, middle, fine = (torch.cat(maps) for maps in zip(*(part.maps for part in parts), strict=True))
        mask_features = torch.cat([part.mask_features for part in parts])
        return Features(mask_features, (coarse, middle, fine), parts[0].size)


@dataclass(frozen=True)
class Scene:
    """Features of clips with level embeddings and position codes: prompts are sampled from them, queries read them.

    Attributes:
        mask_features: (B, T, C, H / 4, W / 4).
        sources: (B, T, h w, C) at strides 32, 16 and 8.
        codes: 3D position codes of the same shapes.
        time_code: (B, T, C), the temporal part of the codes.
        sizes: (h, w) of each scale.
        frame_index: int64 (B, T), indices of the frames in their videos.
        size: height and width of the frames before padding.
    """

    mask_features: Tensor
    sources: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    time_code: Tensor
    sizes: tuple[tuple[int, int], ...]
    frame_index: Tensor
    size: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the padded frames, which masks of stride 4 cover."""
        return self.mask_features.shape[-2] * 4, self.mask_features.shape[-1] * 4
