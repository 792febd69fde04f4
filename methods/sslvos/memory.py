"""The pixel memory of targets that joined together: first frame, working frames, long-term prototypes (XMem, Cutie).

One buffer of fixed size is laid out as

    [ free | long-term prototypes | first frame | working frames | free ]
           start            first_offset   working_offset       end

Long-term memory grows to the left and working memory to the right, so that all tokens held are one slice, reading
copies nothing, and the budget cannot be exceeded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.nn.affinity import gather_read, similarity, top_k
from methods.sslvos.cutie.core import FrameFeatures
from methods.sslvos.settings import LongTermSettings, MemorySettings

_INITIAL_LIFE = 1e-7  # life count of a new token; not 0, since usage is divided by it


class TokenBank:
    """Memory tokens: keys shared by all targets that joined on one frame, and a value for each target.

    Args:
        settings: budget and top-k.
        features: of the first frame, whose tokens are never removed.
        value: values of the first frame, (B, P, N, C) for P tokens and N targets.

    Attributes:
        buffers: tensors (B, capacity, ...) by name: ``key``, ``shrinkage`` and ``value``, and with long-term memory
            ``selection``, ``use_count`` (sum of the weights with which a token was read) and ``life_count`` (number of
            reads since it was stored).
        capacity: tokens that the buffers hold.
        tokens_per_frame: P.
        start: offset of the first token held.
        first_offset: offset of the first frame, where long-term memory ends.
        working_offset: offset of the working frames.
        end: offset behind the last token held.
    """

    def __init__(self, settings: MemorySettings, features: FrameFeatures, value: Tensor) -> None:
        self.settings, self.tokens_per_frame = settings, value.shape[1]
        self.first_offset = settings.long_term.tokens if settings.long_term else 0
        self.working_offset = self.first_offset + self.tokens_per_frame
        self.capacity = self.first_offset + settings.frames * self.tokens_per_frame
        self.start = self.first_offset
        self._next_slot = 0  # index of the working frame that a full memory replaces next
        size = (len(value), self.capacity)
        stored = {"key": features.key, "shrinkage": features.shrinkage, "value": value}
        if settings.long_term:
            stored["selection"] = features.selection
        self.buffers = {name: tensor.new_empty(*size, *tensor.shape[2:]) for name, tensor in stored.items()}
        if settings.long_term:
            self.buffers |= {name: features.key.new_zeros(size) for name in ("use_count", "life_count")}
        self._write(self.first_offset, features, value)
        self.end = self.working_offset

    def __len__(self) -> int:
        """Return the number of tokens held."""
        return self.end - self.start

    @property
    def long_term_tokens(self) -> int:
        """The number of long-term tokens held."""
        return self.first_offset - self.start

    def add(self, features: FrameFeatures, value: Tensor) -> None:
        """Memorise a later frame; a full memory replaces its oldest working frame, or consolidates.

        Args:
            features: of the frame.
            value: (B, P, N, C).
        """
        if self.settings.frames == 1:
            return
        if self.settings.long_term is None and self.end == self.capacity:
            self._write(self.working_offset + self._next_slot * self.tokens_per_frame, features, value)
            self._next_slot = (self._next_slot + 1) % (self.settings.frames - 1)
            return
        self._write(self.end, features, value)
        self.end += self.tokens_per_frame
        if self.settings.long_term and self.end == self.capacity:
            self._consolidate(self.settings.long_term)

    def read(self, features: FrameFeatures) -> Tensor:
        """Read the memory for a frame by top-k; with long-term memory, count which tokens were used.

        Args:
            features: of the query frame.

        Returns:
            Readout (B, P, N, C).
        """
        held = slice(self.start, self.end)
        key, shrinkage = self.buffers["key"][:, held], self.buffers["shrinkage"][:, held]
        weights, index = top_k(key, shrinkage, features.key, features.selection, self.settings.top_k)
        if self.settings.long_term:
            self.buffers["use_count"][:, held].scatter_add_(1, index.flatten(1), weights.flatten(1))
            self.buffers["life_count"][:, held] += 1
        # the whole buffer rather than the slice held: gather_read needs it contiguous
        return gather_read(weights, index + self.start, self.buffers["value"])

    def keep_targets(self, rows: list[int]) -> None:
        """Remove all targets but those at the given rows of N."""
        self.buffers["value"] = self.buffers["value"][:, :, rows].contiguous()

    def _write(self, offset: int, features: FrameFeatures, value: Tensor) -> None:
        """Write the tokens of a frame at an offset."""
        tokens = {"key": features.key, "shrinkage": features.shrinkage, "selection": features.selection, "value": value}
        for name, buffer in self.buffers.items():
            buffer[:, offset : offset + self.tokens_per_frame] = tokens.get(name, _initial_count(name))

    def _usage(self, span: slice) -> Tensor:
        """Usage (B, n) of the tokens of a span: the mean weight with which they were read."""
        return self.buffers["use_count"][:, span] / self.buffers["life_count"][:, span]

    def _consolidate(self, limits: LongTermSettings) -> None:
        """Turn all working frames but the newest ``keep`` - 1 into prototypes (XMem, section 3.4).

        The most used tokens become the keys of the prototypes. Their values and shrinkages are averages over all
        tokens consolidated, weighted by similarity ("memory potentiation").
        """
        stop = self.end - (limits.keep - 1) * self.tokens_per_frame
        old = slice(self.working_offset, stop)
        count = min(limits.prototypes, stop - self.working_offset)
        self._make_room(limits)
        most_used = self._usage(old).topk(count).indices
        prototypes = {name: _select(self.buffers[name][:, old], most_used) for name in ("key", "selection")}
        affinity = similarity(
            self.buffers["key"][:, old], self.buffers["shrinkage"][:, old], prototypes["key"], prototypes["selection"]
        ).softmax(-1)
        for name in ("shrinkage", "value"):
            tokens = self.buffers[name][:, old]
            prototypes[name] = (affinity @ tokens.flatten(2).to(affinity.dtype)).unflatten(2, tokens.shape[2:])
        remaining = self.end - stop
        for name, buffer in self.buffers.items():
            # source and destination may overlap: clone before the frames move up to the start of working memory
            buffer[:, self.working_offset : self.working_offset + remaining] = buffer[:, stop : self.end].clone()
            buffer[:, self.start - count : self.start] = prototypes.get(name, _initial_count(name))
        self.start, self.end = self.start - count, self.working_offset + remaining

    def _make_room(self, limits: LongTermSettings) -> None:
        """Remove the least used long-term tokens where the next prototypes might not fit."""
        if self.long_term_tokens < limits.tokens - limits.prototypes:
            return
        count = limits.tokens - limits.prototypes - limits.spare
        most_used = self._usage(slice(self.start, self.first_offset)).topk(count).indices
        for buffer in self.buffers.values():
            # right-aligned, so that long-term memory still ends where the first frame begins
            buffer[:, self.first_offset - count : self.first_offset] = _select(
                buffer[:, self.start : self.first_offset], most_used
            )
        self.start = self.first_offset - count


def _initial_count(name: str) -> float:
    """Return the value of a new token's ``use_count`` or ``life_count``."""
    return 0.0 if name == "use_count" else _INITIAL_LIFE


def _select(tokens: Tensor, index: Tensor) -> Tensor:
    """Select tokens (B, k, ...) of (B, n, ...) at indices (B, k)."""
    return torch.stack([row[places] for row, places in zip(tokens, index, strict=True)])
