"""Scenes of synthetic videos, and their rendering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.synthetic.actors import Actor, Camera, Occluder, Pose, Wall
from common.synthetic.motion import Wave

BACKDROP = 1.5  # half side of the background texture, in units of the shorter frame side; reflected beyond it


class Layer(NamedTuple):
    """One actor in one frame, restricted to its bounding box.

    Attributes:
        actor: the actor.
        rows: rows of the frame.
        columns: columns of the frame.
        cover: coverage of each pixel, float32 (h, w) in 0..1.
        u: horizontal coordinate on the undivided object, (h, w).
        v: vertical coordinate on the undivided object, (h, w).
        share: fraction of the bounding box that lies inside the frame.
    """

    actor: Actor | Occluder | Wall
    rows: slice
    columns: slice
    cover: Tensor
    u: Tensor
    v: Tensor
    share: float


@dataclass
class Scene:
    """Parameters of a video, from which frames are rendered in any order and at any size.

    Attributes:
        background: texture, float32 (3, S, S) in 0..255.
        actors: from back to front.
        camera: camera motion.
        light: brightness factor over time.
        regions: target id of each background texel, uint8 (S, S); None if the background is not annotated.
    """

    background: Tensor
    actors: Sequence[Actor | Occluder | Wall]
    camera: Camera
    light: Wave
    regions: Tensor | None = None

    def layers(self, t: int, size: tuple[int, int]) -> list[Layer]:
        """Return the actors that intersect the frame, back to front.

        Args:
            t: frame index.
            size: (H, W) in pixels.
        """
        shorter = min(size)
        half = (size[1] / (2 * shorter), size[0] / (2 * shorter))
        poses = ((actor, self.camera.project(actor.pose(t, half), t)) for actor in self.actors)
        return [layer for actor, pose in poses if (layer := _layer(actor, pose, t, size)) is not None]

    @property
    def targets(self) -> tuple[int, ...]:
        """Ids of all targets, ascending."""
        stuff: list[int] = [] if self.regions is None else torch.unique(self.regions).tolist()
        return tuple(sorted({*(actor.target for actor in self.actors), *stuff} - {0}))

    def labels(self, layers: list[Layer], t: int, size: tuple[int, int]) -> Tensor:
        """Render the label map, uint8 (H, W): the frontmost target at each pixel, 0 for none.

        Args:
            layers: result of ``layers``.
            t: frame index.
            size: (H, W) in pixels.
        """
        if self.regions is None:
            labels = torch.zeros(size, dtype=torch.uint8)
        else:
            labels = _sample_texture(self.regions[None].float(), self._grid(t, size), "nearest")[0].to(torch.uint8)
        for layer in layers:
            labels[layer.rows, layer.columns].masked_fill_(layer.cover >= 0.5, layer.actor.target)
        return labels

    def paint(self, layers: list[Layer], t: int, size: tuple[int, int]) -> Tensor:
        """Render the frame, uint8 RGB (H, W, 3).

        Args:
            layers: result of ``layers``.
            t: frame index.
            size: (H, W) in pixels.
        """
        canvas = _sample_texture(self.background, self._grid(t, size))
        for layer in layers:
            grid = torch.stack((layer.u, layer.v), -1) / layer.actor.outline.reach
            canvas[:, layer.rows, layer.columns].lerp_(_sample_texture(layer.actor.texture, grid[None]), layer.cover)
        return canvas.mul_(self.light(t)).add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()

    def _grid(self, t: int, size: tuple[int, int]) -> Tensor:
        """Return the position of each pixel in the background texture, (1, H, W, 2) in -1..1."""
        zoom, roll = math.exp(self.camera.zoom(t)) * BACKDROP, self.camera.roll(t)
        across, down = size[1] / (2 * min(size)), size[0] / (2 * min(size))
        cos, sin = math.cos(roll) / zoom, math.sin(roll) / zoom
        x, y = self.camera.x(t) / BACKDROP, self.camera.y(t) / BACKDROP
        theta = torch.tensor([[[cos * across, sin * down, x], [-sin * across, cos * down, y]]])
        return F.affine_grid(theta, [1, 3, *size], align_corners=False)


def _sample_texture(texture: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample a texture (C, S, S) at positions (1, h, w, 2) in -1..1, with reflection beyond: float32 (C, h, w)."""
    return F.grid_sample(texture[None], grid, mode=mode, padding_mode="reflection", align_corners=False)[0]


def _layer(actor: Actor | Occluder | Wall, pose: Pose, t: int, size: tuple[int, int]) -> Layer | None:
    """Rasterise an actor inside its bounding box; None if it lies outside the frame."""
    height, width = size
    radius = pose.radius * min(size)
    outline, change = actor.outline, actor.change
    reach = radius * (outline.reach + (change.reach if change else 0.0)) + 1
    x, y = pose.x * min(size) + width / 2, pose.y * min(size) + height / 2
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    if left >= right or top >= bottom:
        return None
    cos, sin = math.cos(pose.angle) / radius, math.sin(pose.angle) / radius
    dx = torch.arange(left, right, dtype=torch.float32)[None] + (0.5 - x)
    dy = torch.arange(top, bottom, dtype=torch.float32)[:, None] + (0.5 - y)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    depth, u, v = change.inside(outline, u, v, t) if change else (outline.inside(u, v, t), u, v)
    cover = (depth * radius + 0.5).clamp_(0, 1)  # antialiasing over one pixel
    share = (right - left) * (bottom - top) / (2 * reach) ** 2
    return Layer(actor, slice(top, bottom), slice(left, right), cover, u, v, share)
