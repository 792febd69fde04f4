"""Pixel counts of J and F on a CPU, 64 pixels at a time.

A row of a mask is packed into 64-bit words, column x in bit x, after at least one word of zeros. The rows of both masks
form one bit string in which each neighbour of a pixel is a fixed shift away, so boundary maps and dilations are bitwise
operations on shifted strings. Only the bounding box of both masks is processed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics.jf_batched_gpu import Runs

Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]
BITS = 64  # per word
BATCH_WORDS = 1 << 14  # boundaries are matched in batches of this size: few calls, and the data fits the cache
POINT: Runs = ((0, 0, 0),)


class Box(NamedTuple):
    """Bounding box of two masks.

    Attributes:
        words: uint64 (2, rows + gap, S), both masks, each followed by ``gap`` rows of zeros.
        rows: number of image rows in the box.
        outside: number of the S words that lie left of the image.
        bottom: the last row is the last row of the image.
        right: word and bit of the last column of the image, None if it is outside the box.
    """

    words: Words
    rows: int
    outside: int
    bottom: bool
    right: tuple[int, int] | None


def count(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """Count pixels like ``jf_batched_gpu.count``, for masks on a CPU.

    Args:
        pred: predicted masks, bool (..., H, W).
        target: annotated masks, bool (..., H, W).
        void: bool, pixels excluded from both, broadcastable to the masks.
        runs: matching footprint, see ``functional.boundary_accuracy``.

    Returns:
        int64 (2, ...), or (6, ...) with ``runs``.
    """
    batch = pred.shape[:-2]
    masks = [pred.numpy(), target.numpy()]
    ignored = None if void is None else np.broadcast_to(void.numpy(), pred.shape)
    areas: list[list[int]] = []
    matched: list[NDArray[np.int64]] = []
    pending: list[Words] = []
    for at in np.ndindex(*batch):
        box = _pack(masks[0][at], masks[1][at], None if ignored is None else ignored[at], runs or POINT)
        areas.append(_areas(box))
        if runs is not None:
            pending.append(_boundaries(box))
            if len(areas) == math.prod(batch) or sum(edges.size for edges in pending) > BATCH_WORDS:
                matched.append(_matches(pending, runs))
                pending = []
    tables = [np.array(areas, dtype=np.int64).reshape(-1, 2).T]
    if runs is not None:
        # The empty table gives the shape for a batch without masks.
        tables.append(np.concatenate([np.zeros((4, 0), dtype=np.int64), *matched], axis=1))
    counts = np.concatenate(tables)
    return torch.from_numpy(counts).view(len(counts), *batch)


def _areas(box: Box) -> list[int]:
    pred, target = box.words
    return [_ones(pred & target), _ones(pred | target)]


def _matches(maps: list[Words], runs: Runs) -> NDArray[np.int64]:
    """Count matched boundary pixels of both maps and all boundary pixels of both maps, int64 (4, K) for K pairs.

    The pairs are stacked vertically, since an operation on a small box costs little more than its call.
    """
    starts = np.cumsum([0, *(len(edges[0]) for edges in maps)])
    edges = np.zeros((2, starts[-1], max(edges.shape[-1] for edges in maps)), dtype=np.uint64)
    for start, pair in zip(starts[:-1], maps, strict=True):
        edges[:, start : start + pair.shape[1], : pair.shape[2]] = pair
    # Each box ends in ``gap`` empty rows, so a dilation does not reach the box below it.
    near = _dilate(edges.reshape(-1), edges.shape[-1], runs).reshape(edges.shape)
    ones = np.bitwise_count(np.concatenate([edges & near[::-1], edges])).sum(-1, dtype=np.int64)
    counts: NDArray[np.int64] = np.add.reduceat(ones, starts[:-1], axis=1)
    return counts


def _ones(words: Words) -> int:
    return int(np.bitwise_count(words).sum())


def _pack(pred: Mask, target: Mask, void: Mask | None, runs: Runs) -> Box:
    """Pack two masks (H, W) without void pixels into their bounding box, with margins for the footprint."""
    height, width = pred.shape
    across = max(max(-lo, hi) for _, lo, hi in runs)
    margin = across // BITS + 1  # words; at least one, since a boundary may lie one pixel left of a mask
    words = np.zeros((2, height, margin + -(-width // BITS)), dtype=np.uint64)
    image = words.view(np.uint8)[:, :, 8 * margin : 8 * margin + -(-width // 8)]
    image[0], image[1] = _pack_bits(pred), _pack_bits(target)
    if void is not None:
        image &= ~_pack_bits(void)
    return _crop(words, margin, width, gap=max(1, *(abs(dy) for dy, _, _ in runs)))


def _pack_bits(mask: Mask) -> NDArray[np.uint8]:
    return np.packbits(mask, axis=-1, bitorder="little")


def _crop(words: Words, margin: int, width: int, gap: int) -> Box:
    """Crop to the bounding box of both masks plus one pixel at the top and left, where boundaries start."""
    height, size = words.shape[1:]
    union = words[0] | words[1]
    nonzero = union.reshape(-1) != 0
    if nonzero.any():
        first, last = int(nonzero.argmax()), nonzero.size - 1 - int(nonzero[::-1].argmax())
        columns = np.bitwise_or.reduce(union, axis=0).nonzero()[0]
        top, bottom = max(first // size - 1, 0), last // size + 1
        left, right = int(columns[0]) - margin, int(columns[-1]) + 1
    else:
        top, bottom, left, right = 0, 1, 0, margin + 1
    cropped = np.zeros((2, bottom - top + gap, right - left), dtype=np.uint64)
    cropped[:, : bottom - top] = words[:, top:bottom, left:right]
    end = (width - 1) // BITS + margin - left
    return Box(
        cropped,
        rows=bottom - top,
        outside=max(margin - left, 0),
        bottom=bottom == height,
        right=(end, (width - 1) % BITS) if end == right - left - 1 else None,
    )


def _boundaries(box: Box) -> Words:
    """Return boundary maps as defined by ``jf_batched_gpu._boundaries``, in the layout of the box's words.

    The 2x2 block of a pixel and its right, lower and lower-right neighbours contains an edge if its pixels are neither
    all set nor all clear, i.e. if the OR and the AND over the block differ.
    """
    words, size = box.words.reshape(-1), box.words.shape[-1]
    right = _shift(words, 1)
    any_set, all_set = words | right, words & right
    along_row = any_set ^ all_set
    any_set[:-size] |= any_set[size:]  # safe in place: numpy buffers overlapping operands
    all_set[:-size] &= all_set[size:]
    edges = (any_set ^ all_set).reshape(box.words.shape)
    # On the last row and column of the image, compare along the border only.
    if box.bottom:
        edges[:, box.rows - 1] = along_row.reshape(box.words.shape)[:, box.rows - 1]
    if box.right:
        word, bit = box.right[0], np.uint64(1 << box.right[1])
        column = box.words[:, : box.rows + 1, word]
        edges[:, : box.rows, word] &= ~bit
        edges[:, : box.rows, word] |= (column[:, :-1] ^ column[:, 1:]) & bit
        if box.bottom:
            edges[:, box.rows - 1, word] &= ~bit
    edges[:, box.rows :] = 0
    edges[:, :, : box.outside] = 0
    return edges


def _dilate(bits: Words, size: int, runs: Runs) -> Words:
    """Dilate a bit string with a footprint of runs; ``size`` is the number of words in a row.

    The OR over n neighbours follows from the OR over fewer by one shift, so all run lengths together cost little more
    than the longest one. Runs with the same ends share their horizontal shift: their rows are combined first.
    """
    out, length = np.zeros_like(bits), 1
    for run_length, lo, dys in _by_ends(tuple(runs)):
        while length < run_length:
            step = min(length, run_length - length)
            longer = _shift(bits, step)
            longer |= bits
            bits, length = longer, length + step
        combined = np.zeros_like(bits)
        for dy in dys:
            _or_shifted(combined, bits, dy * size)
        out |= _shift(combined, lo)
    return out


@cache
def _by_ends(runs: tuple[tuple[int, int, int], ...]) -> list[tuple[int, int, list[int]]]:
    """Group runs with the same ends: length, lo and rows dy of each group, shortest first."""
    rows: dict[tuple[int, int], list[int]] = {}
    for dy, lo, hi in runs:
        rows.setdefault((hi - lo + 1, lo), []).append(dy)
    return [(length, lo, dys) for (length, lo), dys in sorted(rows.items())]


def _shift(bits: Words, offset: int) -> Words:
    """Return the bit string whose bit p is bit p + offset of ``bits``, padded with zeros."""
    words, shift = divmod(abs(offset), BITS)
    if words:
        moved = np.zeros_like(bits)
        _or_shifted(moved, bits, words if offset > 0 else -words)
        bits = moved
    if not shift:
        return bits
    distance, carry = np.uint64(shift), np.uint64(BITS - shift)
    if offset > 0:
        out: Words = bits >> distance
        out[:-1] |= bits[1:] << carry
    else:
        out = bits << distance
        out[1:] |= bits[:-1] >> carry
    return out


def _or_shifted(out: Words, words: Words, offset: int) -> None:
    """Combine word p + offset of ``words`` into word p of ``out`` by OR, in place."""
    if offset >= 0:
        out[: max(len(out) - offset, 0)] |= words[offset:]
    else:
        out[-offset:] |= words[: max(len(words) + offset, 0)]
