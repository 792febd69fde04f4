"""What the decoder sees of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Frames after the image encoder, each by itself; F frames, which may be cached and put together anew.

    Attributes:
        mask: (F, C, H / 4, W / 4), what mask embeddings are multiplied with; H and W are padded to multiples of 32.
        maps: (F, C, h, w) at strides 32, 16 and 8.
        size: height and width of the frames before padding at the bottom and on the right.
    """

    mask: Tensor
    maps: tuple[Tensor, Tensor, Tensor]
    size: tuple[int, int]

    def __getitem__(self, frames: slice | Tensor) -> Features:
        """Some frames; a tensor has their numbers, int64."""
        a, b, c = self.maps
        return Features(self.mask[frames], (a[frames], b[frames], c[frames]), self.size)

    @staticmethod
    def cat(parts: Sequence[Features]) -> Features:
        """Frames of several, in order."""
        a, b, c = (torch.cat(maps) for maps in zip(*(part.maps for part in parts), strict=True))
        return Features(torch.cat([part.mask for part in parts]), (a, b, c), parts[0].size)


@dataclass(frozen=True)
class Scene:
    """Features of clips with level embeddings and position codes: what prompts are sampled from and queries read.

    Attributes:
        mask: (B, T, C, H / 4, W / 4).
        sources: (B, T, h w, C) at strides 32, 16 and 8.
        codes: 3D position codes of the same shapes.
        time_code: (B, T, C), their temporal part.
        sizes: (h, w) of each.
        frame_index: int64 (B, T), the frames' indices in their videos.
        size: height and width of the frames before padding.
    """

    mask: Tensor
    sources: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    time_code: Tensor
    sizes: tuple[tuple[int, int], ...]
    frame_index: Tensor
    size: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the padded frames, which masks of stride 4 cover."""
        return self.mask.shape[-2] * 4, self.mask.shape[-1] * 4
