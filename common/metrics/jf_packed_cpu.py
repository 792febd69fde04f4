"""J and F of one pair of masks on a CPU, counted 64 pixels at a time.

A row of a mask is packed into words of 64 bits, column x in bit x, behind at least one word of zeros. All rows of both
masks together are one string of bits in which every neighbour is a shift away: a boundary map is a few bitwise
operations on shifted strings, a dilation a few more. Only the box around both masks is looked at.
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
BITS = 64  # of a word
TOGETHER = 1 << 14  # words after which boundaries are matched: few calls, and yet they stay in a processor's cache
POINT: Runs = ((0, 0, 0),)


class Box(NamedTuple):
    """The box around two masks.

    Attributes:
        words: uint64 (2, rows + gap, S), both masks, each with ``gap`` rows of zeros under it.
        rows: rows of the image that are in the box.
        outside: how many of the S words lie left of the image.
        bottom: the last of the rows is the last of the image.
        right: word and bit of the last column of the image, None if it is not in the box.
    """

    words: Words
    rows: int
    outside: int
    bottom: bool
    right: tuple[int, int] | None


def count(pred: Tensor, target: Tensor, void: Tensor | None = None, runs: Runs | None = None) -> Tensor:
    """The same as ``batched.count``, of masks on a CPU."""
    batch = pred.shape[:-2]
    masks = [some.numpy() for some in (pred, target)]
    ignored = None if void is None else np.broadcast_to(void.numpy(), pred.shape)
    areas: list[list[int]] = []
    matched: list[NDArray[np.int64]] = []
    waiting: list[Words] = []
    for at in np.ndindex(*batch):
        box = _pack(masks[0][at], masks[1][at], None if ignored is None else ignored[at], runs or POINT)
        areas.append(_areas(box))
        if runs is not None:
            waiting.append(_boundaries(box))
            if len(areas) == math.prod(batch) or sum(edges.size for edges in waiting) > TOGETHER:
                matched.append(_matches(waiting, runs))
                waiting = []
    both = [np.array(areas, dtype=np.int64).reshape(-1, 2).T]
    if runs is not None:
        both.append(np.concatenate([np.zeros((4, 0), dtype=np.int64), *matched], axis=1))
    counts = np.concatenate(both)
    return torch.from_numpy(counts).view(len(counts), *batch)


def _areas(box: Box) -> list[int]:
    pred, target = box.words
    return [_ones(pred & target), _ones(pred | target)]


def _matches(maps: list[Words], runs: Runs) -> NDArray[np.int64]:
    """Of K pairs, (4, K): boundary pixels that have one of the other map's in a run, of both maps; all of both maps.

    The pairs lie one below the other: operations on a small box cost little more than their call.
    """
    starts = np.cumsum([0, *(len(edges[0]) for edges in maps)])
    edges = np.zeros((2, starts[-1], max(edges.shape[-1] for edges in maps)), dtype=np.uint64)
    for start, pair in zip(starts[:-1], maps, strict=True):
        edges[:, start : start + pair.shape[1], : pair.shape[2]] = pair
    near = _dilated(edges.reshape(-1), edges.shape[-1], runs).reshape(edges.shape)
    ones = np.bitwise_count(np.concatenate([edges & near[::-1], edges])).sum(-1, dtype=np.int64)
    return np.add.reduceat(ones, starts[:-1], axis=1)


def _ones(words: Words) -> int:
    return int(np.bitwise_count(words).sum())


def _pack(pred: Mask, target: Mask, void: Mask | None, runs: Runs) -> Box:
    """The box around two masks (H, W) without their void pixels, with room for matching in these runs."""
    height, width = pred.shape
    across = max(max(-lo, hi) for _, lo, hi in runs)
    margin = across // BITS + 1  # the last pixel of a margin may be a boundary pixel, the others before it are zeros
    words = np.zeros((2, height, margin + -(-width // BITS)), dtype=np.uint64)
    image = words.view(np.uint8)[:, :, 8 * margin : 8 * margin + -(-width // 8)]
    image[0], image[1] = _packed(pred), _packed(target)
    if void is not None:
        image &= ~_packed(void)
    return _cropped(words, margin, width, gap=max(1, *(abs(dy) for dy, _, _ in runs)))


def _packed(mask: Mask) -> NDArray[np.uint8]:
    return np.packbits(mask, axis=-1, bitorder="little")


def _cropped(words: Words, margin: int, width: int, gap: int) -> Box:
    """The box around both masks, and one pixel more at the top and left, where their boundaries start."""
    height, size = words.shape[1:]
    either = words[0] | words[1]
    marked = either.reshape(-1) != 0
    if marked.any():
        first, last = int(marked.argmax()), marked.size - 1 - int(marked[::-1].argmax())
        columns = np.bitwise_or.reduce(either, axis=0).nonzero()[0]
        top, bottom = max(first // size - 1, 0), last // size + 1
        left, right = int(columns[0]) - margin, int(columns[-1]) + 1
    else:
        top, bottom, left, right = 0, 1, 0, margin + 1
    inside = np.zeros((2, bottom - top + gap, right - left), dtype=np.uint64)
    inside[:, : bottom - top] = words[:, top:bottom, left:right]
    end = (width - 1) // BITS + margin - left
    return Box(
        inside,
        rows=bottom - top,
        outside=max(margin - left, 0),
        bottom=bottom == height,
        right=(end, (width - 1) % BITS) if end == right - left - 1 else None,
    )


def _boundaries(box: Box) -> Words:
    """Boundary maps, as ``batched._boundaries`` defines them, in the layout of the box's words."""
    words, size = box.words.reshape(-1), box.words.shape[-1]
    right = _shifted(words, 1)
    some, every = words | right, words & right
    along_row = some ^ every
    some[:-size] |= some[size:]  # numpy reads all of an operand before it overwrites it
    every[:-size] &= every[size:]
    edges = (some ^ every).reshape(box.words.shape)
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


def _dilated(bits: Words, size: int, runs: Runs) -> Words:
    """Strings of bits with a one wherever a run holds a one; ``size``: words of a row.

    The or of n neighbours comes from the or of fewer by one shift, so all lengths cost little more than the longest.
    Runs with the same ends share their horizontal shift: their rows are joined first.
    """
    out, length = np.zeros_like(bits), 1
    for wanted, lo, dys in _by_ends(tuple(runs)):
        while length < wanted:
            step = min(length, wanted - length)
            longer = _shifted(bits, step)
            longer |= bits
            bits, length = longer, length + step
        joined = np.zeros_like(bits)
        for dy in dys:
            _add(joined, bits, dy * size)
        out |= _shifted(joined, lo)
    return out


@cache
def _by_ends(runs: tuple[tuple[int, int, int], ...]) -> list[tuple[int, int, list[int]]]:
    """Length, lo and rows of the runs that have the same ends, shortest first."""
    rows: dict[tuple[int, int], list[int]] = {}
    for dy, lo, hi in runs:
        rows.setdefault((hi - lo + 1, lo), []).append(dy)
    return [(length, lo, dys) for (length, lo), dys in sorted(rows.items())]


def _shifted(bits: Words, offset: int) -> Words:
    """Bit p is bit p + offset of ``bits``; beyond its ends there are zeros."""
    words, shift = divmod(abs(offset), BITS)
    if words:
        near = np.zeros_like(bits)
        _add(near, bits, words if offset > 0 else -words)
        bits = near
    if not shift:
        return bits
    by, rest = np.uint64(shift), np.uint64(BITS - shift)
    if offset > 0:
        out = bits >> by
        out[:-1] |= bits[1:] << rest
    else:
        out = bits << by
        out[1:] |= bits[:-1] >> rest
    return out


def _add(out: Words, words: Words, offset: int) -> None:
    """To word p of ``out``, or word p + offset of ``words``."""
    if offset >= 0:
        out[: max(len(out) - offset, 0)] |= words[offset:]
    else:
        out[-offset:] |= words[: max(len(words) + offset, 0)]
