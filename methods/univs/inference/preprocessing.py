"""Frames and prompts at the size that the network runs at."""

from __future__ import annotations

import torch

from common.errors import InputError
from common.nn.preprocessing import resize_mask
from common.video import Prompt
from methods.univs.inference.window import Window
from methods.univs.network.prompts import VisualTokens
from methods.univs.network.visual_sampler import sample_box, sample_points
from methods.univs.settings import InferenceSettings


def network_size(size: tuple[int, int], settings: InferenceSettings) -> tuple[int, int]:
    """Return height and width of resized frames: short side ``short_side``, or less to keep within ``long_side``.

    Args:
        size: height and width of the video.
        settings: the two lengths.
    """
    if settings.short_side is None:
        return size
    scale = min(settings.short_side / min(size), settings.long_side / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def prompt_tokens(prompt: Prompt, frame: int, window: Window, points: int) -> VisualTokens:
    """Sample tokens (points, C) of a visual prompt.

    Args:
        prompt: a mask, box or points, at the size of the video.
        frame: index in the video of the frame that the prompt lies on; a frame of the clip.
        window: the clip.
        points: number of tokens.
    """
    scene, place = window.scene, window.frames.index(frame)
    device = scene.mask_features.device
    if prompt.mask is not None:
        return window.sample(frame, resize_mask(prompt.mask.to(device), scene.size), points)
    (height, width), (network_height, network_width) = window.size, scene.size
    scale = torch.tensor([network_width / width, network_height / height])
    if prompt.box is not None:
        box = (torch.tensor(prompt.box).view(2, 2) * scale).flatten().tolist()
        return sample_box(scene, 0, place, box, points, torch.Generator().manual_seed(frame))
    assert prompt.points is not None
    return sample_points(scene, 0, place, (prompt.points.cpu() * scale).to(device), points)


def check_prompt(prompt: Prompt, frame: int, size: tuple[int, int]) -> None:
    """Check that a prompt lies on its frame, and that the visual sampler supports it.

    Args:
        prompt: the prompt.
        frame: index of its frame, for the error message.
        size: height and width of the video.

    Raises:
        InputError: a box or a point outside the frame, points labelled 0, a box together with points.
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
