"""Still images as training videos for pretraining: every frame is the image under a random affine transform."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clips import VideoSet
from common.video import Video

GREY = 128.0  # value of pixels outside the image


class MovedStills(Sequence[Video]):
    """Annotated images as videos with random camera motion, deterministic in (seed, index).

    Source: the pretraining of AOT and DeAOT (released code); the defaults are its ranges.

    Args:
        stills: videos whose first frame is used, e.g. ``COCOInstances``.
        frames: frames per video.
        degrees: maximum rotation in either direction.
        shear: maximum shear in either direction, degrees.
        translate: maximum shift in either direction, as a fraction of the side.
        scale: minimum and maximum scale.
        seed: seed of the motion.
    """

    def __init__(
        self,
        stills: VideoSet,
        frames: int = 5,
        degrees: float = 20.0,
        shear: float = 10.0,
        translate: float = 0.1,
        scale: tuple[float, float] = (0.9, 1.1),
        seed: int = 0,
    ) -> None:
        self.stills, self.frames, self.seed = stills, frames, seed
        self.degrees, self.shear, self.translate, self.scale = degrees, shear, translate, scale

    def __len__(self) -> int:
        return len(self.stills)

    def __getitem__(self, index: int) -> Video:  # type: ignore[override]
        still = self.stills[index]
        rng = np.random.default_rng((self.seed, index))
        moves = [self._move(rng) for _ in range(self.frames)]
        return replace(still, frames=_Frames(still, moves), truth=_Truth(still, moves), annotated=None)

    def _move(self, rng: np.random.Generator) -> Tensor:
        """Draw an affine map (2, 3) from frame to image coordinates, both in -1..1."""
        angle, shear = np.radians(rng.uniform(-1, 1, 2) * (self.degrees, self.shear))
        size = rng.uniform(*self.scale)
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = rotation @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]]) / size
        shift = 2 * rng.uniform(-1, 1, 2) * self.translate
        return torch.from_numpy(np.concatenate([linear, shift[:, None]], 1)).float()


@dataclass(frozen=True)
class _Frames:
    still: Video
    moves: list[Tensor]

    def __len__(self) -> int:
        return len(self.moves)

    def __getitem__(self, frame: int) -> Tensor:
        image = self.still[0].permute(2, 0, 1).float() - GREY
        moved = F.grid_sample(image[None], _grid(self.moves[frame], image.shape), align_corners=False)[0] + GREY
        return moved.add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[frame] for frame in range(len(self)))


@dataclass(frozen=True)
class _Truth:
    still: Video
    moves: list[Tensor]

    def __getitem__(self, frame: int) -> Tensor | None:
        masks = None if self.still.truth is None else self.still.truth[0]
        if masks is None:
            return None
        grid = _grid(self.moves[frame], masks.shape)
        return F.grid_sample(masks[None].float(), grid, mode="nearest", align_corners=False)[0] > 0.5


def _grid(move: Tensor, shape: torch.Size) -> Tensor:
    """Return the sampling grid (1, H, W, 2), with angles preserved in pixels for any aspect ratio."""
    ratio = shape[-1] / shape[-2]
    affine = move.clone()
    affine[0, 1] /= ratio
    affine[1, 0] *= ratio
    return F.affine_grid(affine[None], [1, 1, *shape[-2:]], align_corners=False)
