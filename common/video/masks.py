"""Label maps, RLE and boxes: the forms that masks take outside the models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.files import atomic_path

RLE = dict[str, Any]
VOID = 255


def palette() -> Tensor:
    """The colours of PASCAL VOC and DAVIS label maps, uint8 (256, 3).

    Bit k of red, green and blue (from the top) are bits 3k, 3k + 1 and 3k + 2 of the label.
    """
    labels = torch.arange(256)[:, None]
    colours = torch.zeros(256, 3, dtype=torch.long)
    for k in range(8):
        colours |= ((labels >> (3 * k + torch.arange(3))) & 1) << (7 - k)
    return colours.to(torch.uint8)


def read_label_map(path: str | Path) -> Tensor:
    """Read a label map; palette, grey (8 bit) and 1-bit images hold the labels as they are.

    A grey mask drawn in 0 and 255 therefore reads as background and void.

    Returns:
        uint8 (H, W).

    Raises:
        InputError: the file is missing or corrupt, or an RGB or 16-bit image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                kind = "an RGB image, not a palette image" if image.mode.startswith("RGB") else f"of mode {image.mode}"
                raise InputError(f"{path}: the label map is {kind}; save it as an 8-bit palette or grey PNG")
            return torch.from_numpy(np.array(image, dtype=np.uint8))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such label map; is a frame's annotation missing?") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: corrupt or unreadable label map; replace the file") from error


def write_label_map(path: str | Path, label_map: Tensor) -> None:
    """Write a label map, uint8 (H, W), as a palette PNG. It is there whole or not at all."""
    image = Image.fromarray(label_map.cpu().numpy())
    image.putpalette(palette().numpy().tobytes())
    with atomic_path(path) as part:
        image.save(part, "PNG", compress_level=3)  # a third of the default level's time


def check_annotation(labels: Tensor, frame_size: Sequence[int], where: str | Path) -> None:
    """Check a label map (H, W) against its frame's size (H, W).

    Raises:
        InputError: another size, or no object in it; ``where`` is the file it names.
    """
    if tuple(labels.shape) != tuple(frame_size):
        mask, frame = ("x".join(map(str, size)) for size in (labels.shape, frame_size))
        raise InputError(f"{where}: the mask is {mask} (height x width) but its frame is {frame}; resize the mask")
    if not ((labels > 0) & (labels < VOID)).any():
        raise InputError(f"{where}: there is no object in this annotation; at least one pixel must have a label 1-254")


def masks_from_labels(label_map: Tensor, targets: Sequence[int]) -> Tensor:
    """Masks bool (N, H, W) of the targets in a label map (H, W); void (255) belongs to none."""
    ids = torch.as_tensor(targets, dtype=label_map.dtype, device=label_map.device)
    masks = torch.empty(len(ids), *label_map.shape, dtype=torch.uint8, device=label_map.device)
    # On a CPU a comparison of bytes into bytes takes a tenth of the time of one into booleans.
    return torch.eq(label_map, ids[:, None, None], out=masks).view(torch.bool)


def labels_from_masks(masks: Tensor, targets: Sequence[int]) -> Tensor:
    """Label map uint8 (H, W) of masks bool (N, H, W); where they overlap the last target wins."""
    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8, device=masks.device)
    for mask, target in zip(masks, targets, strict=True):
        labels[mask] = target
    return labels


def unique_ids(label_map: Tensor) -> list[int]:
    """Return the ids in an integer label map, ascending, without 0.

    Args:
        label_map: integer tensor of any shape.
    """
    ids: list[int] = torch.unique(label_map).tolist()
    return [id for id in ids if id]


def boxes_from_masks(masks: Tensor) -> Tensor:
    """Boxes float32 (N, 4), (x0, y0, x1, y1), around masks bool (N, H, W).

    x1 and y1 are one past the last pixel, so width = x1 - x0. An empty mask gives zeros.
    """
    ends = []
    for along in (masks.any(1), masks.any(2)):  # (N, W), then (N, H)
        first = along.to(torch.uint8).argmax(1)
        last = along.shape[1] - along.flip(1).to(torch.uint8).argmax(1)
        ends.append((first, last))
    (x0, x1), (y0, y1) = ends
    return torch.stack([x0, y0, x1, y1], 1).float() * masks.flatten(1).any(1)[:, None]


def rle_encode(masks: Tensor) -> list[RLE]:
    """COCO's compressed RLE of masks bool (N, H, W): ``{"size": [H, W], "counts": str}`` each, ready for JSON."""
    from pycocotools import mask as coco

    pixels = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in coco.encode(pixels)]


def rle_decode(rles: Sequence[RLE]) -> Tensor:
    """Masks bool (N, H, W) from COCO's compressed RLE; (0, 0, 0) from an empty list.

    Raises:
        InputError: sizes that differ, or counts that do not fill the size.
    """
    from pycocotools import mask as coco

    if not rles:
        return torch.zeros(0, 0, 0, dtype=torch.bool)
    for row, rle in enumerate(rles):
        if list(rle["size"]) != list(rles[0]["size"]):
            raise InputError(f"RLE {row}: its size {rle['size']} is not {rles[0]['size']} like the first's")
        # pycocotools leaves memory unset where counts are too short.
        if _pixels(rle["counts"]) != rle["size"][0] * rle["size"][1]:
            raise InputError(f"RLE {row}: its counts do not fill {rle['size']}; it is damaged or not compressed RLE")
    return torch.from_numpy(coco.decode(list(rles)).transpose(2, 0, 1).astype(bool))


def _pixels(counts: object) -> int | None:
    """Sum of the runs, None if they cannot be read.

    A run is a signed number in groups of 5 bits, lowest first, each a character from "0" on; bit 6 says that another
    group follows. From the fourth run on, what is stored is the difference to the run two before.
    """
    if not isinstance(counts, str | bytes):
        return None
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode() if isinstance(counts, str) else counts:
        group = byte - 48
        if not 0 <= group < 64:
            return None
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs) if shift == 0 and min(runs, default=0) >= 0 else None
