"""Serve a session as a tracker of the VOT toolkit over the TraX protocol."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Session
from common.video import Prompt, read_image


def serve(open_session: Callable[[], Session], name: str, device: torch.device, trax: ModuleType) -> None:
    """Serve tracking requests: each frame is answered by one mask per object, in the order of initialisation.

    Args:
        open_session: opens a session that accepts masks and answers each frame immediately.
        name: name of the tracker.
        device: device of the method.
        trax: the module ``trax``.

    Raises:
        InputError: a frame cannot be read, an object is not given as a mask, or the method answers with delay.
    """
    session, targets = open_session(), 0
    formats = [trax.Region.MASK], [trax.Image.PATH]
    with trax.Server(*formats, ["color"], tracker_name=name, multiobject=True) as server:
        while (request := server.wait()).type in ("initialize", "frame"):
            if request.type == "initialize":
                session, targets = open_session(), 0
            path = next(iter(request.image.values())).path()
            frame = read_image(path)
            regions = [region for region, _ in request.objects or ()]
            prompts = [
                Prompt(target, mask=_mask(region, (frame.shape[0], frame.shape[1]), trax, path))
                for target, region in enumerate(regions, start=targets + 1)
            ]
            targets += len(regions)
            answers = session.step(frame.to(device), prompts)
            if len(answers) != 1:
                raise InputError(f"{name} answers later than frames come; the toolkit waits for each")
            masks = answers[0].select(tuple(range(1, targets + 1))).cpu().numpy().astype(np.uint8)
            server.status([(trax.Mask.create(np.ascontiguousarray(mask)), {}) for mask in masks])


def _mask(region: Any, size: tuple[int, int], trax: ModuleType, path: str) -> Tensor:
    """Convert an object's region to a mask bool (H, W); the toolkit omits empty rows and columns at its end."""
    if region.type != trax.Region.MASK:
        raise InputError(f"{path}: an object is given as a {region.type}; use a stack of the toolkit that gives masks")
    part = torch.from_numpy(region.array(True)).bool()[: size[0], : size[1]]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[: part.shape[0], : part.shape[1]] = part
    return mask
