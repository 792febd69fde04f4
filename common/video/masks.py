"""Conversions of masks: label maps, RLE and boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.files import atomic_path

logger = logging.getLogger(__name__)

RLE = dict[str, Any]
VOID = 255
MAX_PIXELS = 1 << 28  # of a mask, 16384 x 16384


def palette() -> Tensor:
    """Return the colour palette of PASCAL VOC and DAVIS label maps, uint8 (256, 3).

    Bits 3k, 3k + 1 and 3k + 2 of a label are bit 7 - k of red, green and blue.
    """
    labels = torch.arange(256)[:, None]
    colours = torch.zeros(256, 3, dtype=torch.long)
    for k in range(8):
        colours |= ((labels >> (3 * k + torch.arange(3))) & 1) << (7 - k)
    return colours.to(torch.uint8)


def read_label_map(path: str | Path) -> Tensor:
    """Read a label map from a palette, 8-bit grey or 1-bit image, whose pixel values are the labels.

    A grey mask drawn in 0 and 255 is therefore read as background and void. Grey values between them, at smooth edges
    or from lossy compression, are no labels: such a mask is read with a threshold of 128, and a warning is logged.

    Args:
        path: the file.

    Returns:
        uint8 (H, W).

    Raises:
        InputError: the file is missing or corrupt, an RGB or 16-bit image, or a lossy image of labels.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                kind = "an RGB image, not a palette image" if image.mode.startswith("RGB") else f"of mode {image.mode}"
                raise InputError(f"{path}: the label map is {kind}; save it as an 8-bit palette or grey PNG")
            labels = np.array(image, dtype=np.uint8)
            grey, lossy = image.mode == "L", image.format == "JPEG"
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such label map; is a frame's annotation missing?") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: corrupt or unreadable label map; replace the file") from error
    if grey and (lossy or _has_smooth_edges(labels)):
        between = np.count_nonzero((labels > 32) & (labels < 223))
        if lossy and (between * 10 > labels.size or labels.max() < 223):
            raise InputError(f"{path}: JPEG changes the labels of its objects; save the label map as PNG")
        logger.warning("%s: grey values between 0 and 255 are no labels; read as one mask, threshold 128", path)
        labels = np.where(labels >= 128, np.uint8(VOID), np.uint8(0))
    return torch.from_numpy(labels)


def _has_smooth_edges(labels: np.ndarray) -> bool:
    """Return whether grey values are a mask drawn in 0 and 255 with anti-aliased edges, not labels."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return bool(counts[33:223].any() and counts[1:VOID].sum() <= counts[VOID])


def write_label_map(path: str | Path, label_map: Tensor) -> None:
    """Write a label map as a palette PNG, atomically.

    Args:
        path: the file.
        label_map: uint8 (H, W).
    """
    image = Image.fromarray(label_map.cpu().numpy())
    image.putpalette(palette().numpy().tobytes())
    with atomic_path(path) as part:
        image.save(part, "PNG", compress_level=3)  # three times faster than the default level


def check_annotation(labels: Tensor, frame_size: Sequence[int], where: str | Path) -> None:
    """Check that a label map has the size of its frame and contains an object.

    Args:
        labels: uint8 (H, W).
        frame_size: (H, W) of the frame.
        where: file, for error messages.

    Raises:
        InputError: it does not.
    """
    if tuple(labels.shape) != tuple(frame_size):
        mask, frame = ("x".join(map(str, size)) for size in (labels.shape, frame_size))
        raise InputError(f"{where}: the mask is {mask} (height x width) but its frame is {frame}; resize the mask")
    if not ((labels > 0) & (labels < VOID)).any():
        raise InputError(f"{where}: there is no object in this annotation; at least one pixel must have a label 1-254")


def masks_from_labels(label_map: Tensor, targets: Sequence[int]) -> Tensor:
    """Convert a label map to masks; void (255) belongs to none.

    Args:
        label_map: integer (H, W).
        targets: ids of N targets.

    Returns:
        bool (N, H, W).
    """
    ids = torch.as_tensor(targets, dtype=label_map.dtype, device=label_map.device)
    masks = torch.empty(len(ids), *label_map.shape, dtype=torch.uint8, device=label_map.device)
    # On a CPU, writing the comparison to bytes is ten times faster than writing it to booleans.
    return torch.eq(label_map, ids[:, None, None], out=masks).view(torch.bool)


def labels_from_masks(masks: Tensor, targets: Sequence[int]) -> Tensor:
    """Convert masks to a label map; where masks overlap, the last target wins.

    Args:
        masks: bool (N, H, W).
        targets: ids of the N targets, at most 255.

    Returns:
        uint8 (H, W), 0 for background.
    """
    labels = torch.zeros(masks.shape[1:], dtype=torch.uint8, device=masks.device)
    for mask, target in zip(masks, targets, strict=True):
        labels[mask] = target
    return labels


def without_overlap(masks: Tensor, ranks: Tensor | None = None) -> Tensor:
    """Assign each pixel of overlapping masks to one of them: that of lowest rank, the first of equals.

    Args:
        masks: bool (N, H, W).
        ranks: (N,); default: the areas, so that no nested mask is lost.

    Returns:
        bool (N, H, W), disjoint.
    """
    if len(masks) < 2:
        return masks
    order = (masks.flatten(1).sum(1) if ranks is None else ranks.to(masks.device)).argsort(stable=True)
    owner = order[masks[order].byte().argmax(0)]
    return masks & (owner == torch.arange(len(masks), device=masks.device)[:, None, None])


def unique_ids(label_map: Tensor) -> list[int]:
    """Return the ids in an integer label map, ascending, without 0.

    Args:
        label_map: integer tensor of any shape.
    """
    ids: list[int] = torch.unique(label_map).tolist()
    return [id for id in ids if id]


def boxes_from_masks(masks: Tensor, inclusive: bool = False) -> Tensor:
    """Compute the bounding boxes of masks.

    Args:
        masks: bool (N, H, W).
        inclusive: x1 and y1 are the last column and row of the mask, instead of one beyond them.

    Returns:
        float32 (N, 4), (x0, y0, x1, y1), half-open unless ``inclusive``: width = x1 - x0. Zeros for an empty mask.
    """
    ends = []
    for along in (masks.any(1), masks.any(2)):  # (N, W), then (N, H)
        first = along.to(torch.uint8).argmax(1)
        last = along.shape[1] - along.flip(1).to(torch.uint8).argmax(1) - int(inclusive)
        ends.append((first, last))
    (x0, x1), (y0, y1) = ends
    return torch.stack([x0, y0, x1, y1], 1).float() * masks.flatten(1).any(1)[:, None]


def rle_encode(masks: Tensor) -> list[RLE]:
    """Encode masks as compressed COCO RLE.

    Args:
        masks: bool (N, H, W).

    Returns:
        ``{"size": [H, W], "counts": str}`` per mask, JSON-serialisable.
    """
    from pycocotools import mask as coco

    pixels = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in coco.encode(pixels)]


def rle_decode(rles: Sequence[RLE]) -> Tensor:
    """Decode compressed COCO RLE.

    Args:
        rles: N RLE of one size.

    Returns:
        bool (N, H, W); (0, 0, 0) for an empty list.

    Raises:
        InputError: the sizes differ, or counts do not fill the size.
    """
    from pycocotools import mask as coco

    if not rles:
        return torch.zeros(0, 0, 0, dtype=torch.bool)
    for row, rle in enumerate(rles):
        size = rle.get("size") if isinstance(rle, dict) else None
        if not isinstance(size, list | tuple) or [type(side) for side in size] != [int, int] or min(size) < 0:
            raise InputError(f"RLE {row}: it must be an object with size [height, width] and counts")
        if size[0] * size[1] > MAX_PIXELS:
            raise InputError(f"RLE {row}: its size {list(size)} has more than {MAX_PIXELS} pixels; it is damaged")
        if list(size) != list(rles[0]["size"]):
            raise InputError(f"RLE {row}: its size {rle['size']} is not {rles[0]['size']} like the first's")
        # pycocotools leaves memory unset where counts are too short.
        if _count_pixels(rle.get("counts")) != rle["size"][0] * rle["size"][1]:
            raise InputError(f"RLE {row}: its counts do not fill {rle['size']}; it is damaged or not compressed RLE")
    return torch.from_numpy(coco.decode(list(rles)).transpose(2, 0, 1).astype(bool))


def _count_pixels(counts: object) -> int | None:
    """Return the sum of the runs, None if they cannot be decoded.

    A run is a signed number in groups of 5 bits, lowest first, each stored as a character from "0"; bit 5 of a
    character marks that another group follows. From the fourth run on, the difference to the run two before is stored.
    """
    if not isinstance(counts, str | bytes):
        return None
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode(errors="replace") if isinstance(counts, str) else counts:
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
