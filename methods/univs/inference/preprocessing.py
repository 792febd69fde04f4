"""Frames and prompts at the size that the network sees."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.preprocessing import resize_frame, resize_mask
from common.video import Prompt
from methods.univs.inference.settings import InferenceSettings
from methods.univs.inference.window import Window
from methods.univs.network.prompts import VisualTokens
from methods.univs.network.visual_sampler import sample_box, sample_points


def inner_size(size: tuple[int, int], settings: InferenceSettings) -> tuple[int, int]:
    """Height and width of a frame with its short side at ``short_side``, or less to hold ``long_side``."""
    if settings.short_side is None:
        return size
    scale = min(settings.short_side / min(size), settings.long_side / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def inner_frame(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame uint8 (H, W, 3) as float (1, 3, h, w), 0 to 1."""
    return resize_frame(frame, size)


def inner_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask bool (H, W) as bool (h, w) by the nearest pixel; one that would vanish keeps all that it touches."""
    return resize_mask(mask, size)


def prompt_tokens(prompt: Prompt, frame: int, window: Window, points: int) -> VisualTokens:
    """Tokens (points, C) of a mask, box or points on a frame of the clip."""
    scene, place = window.scene, window.frames.index(frame)
    if prompt.mask is not None:
        return window.sample(frame, inner_mask(prompt.mask.to(scene.mask.device), scene.size), points)
    (height, width), (inner_height, inner_width) = window.size, scene.size
    scale = torch.tensor([inner_width / width, inner_height / height])
    if prompt.box is not None:
        box = (torch.tensor(prompt.box).view(2, 2) * scale).flatten().tolist()
        return sample_box(scene, 0, place, box, points, torch.Generator().manual_seed(frame))
    assert prompt.points is not None
    return sample_points(scene, 0, place, (prompt.points.cpu() * scale).to(scene.mask.device), points)


def check_place(prompt: Prompt, frame: int, size: tuple[int, int]) -> None:
    """See that a prompt lies on its frame of ``size`` and is of a kind that the sampler knows.

    Raises:
        InputError: a box or a point outside the frame, points off the target, a box together with points.
    """
    where = f"prompt of target {prompt.target} at frame {frame}"
    height, width = size
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise InputError(
                f"{where}: the box {prompt.box} lies outside the frame of {height}x{width} (height x width)"
            )
    if prompt.points is not None and prompt.labels is not None:
        if prompt.box is not None:
            raise InputError(f"{where}: UniVS takes a box or points; give one of them")
        if not (prompt.labels == 1).all():
            raise InputError(f"{where}: UniVS takes points on the target only; leave out those labelled 0")
        x, y = prompt.points.unbind(1)
        if bool(((x < 0) | (y < 0) | (x >= width) | (y >= height)).any()):
            raise InputError(f"{where}: a point lies outside the frame of {height}x{width} (height x width)")
