"""The pixel memory of targets that joined together: first frame, working frames, long-term prototypes.

One buffer of fixed size holds [long-term, growing to the left | first frame | working frames, growing to the right], so
that what is read is always one slice, nothing is copied to read it, and no budget can be overrun.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.nn.affinity import gather_read, similarity, top_k
from methods.sslvos.cutie.core import FrameFeatures
from methods.sslvos.settings import LongTermSettings, MemorySettings

_NEW = 1e-7  # reads that a token has lived through at first; not 0, since usage is divided by it


class TokenBank:
    """Keys shared by targets that joined on one frame, and a value for each target.

    Args:
        settings: budget and top-k.
        features: of the first frame; its tokens are kept for good.
        value: (B, P, n, C) of the first frame.
    """

    def __init__(self, settings: MemorySettings, features: FrameFeatures, value: Tensor) -> None:
        self.settings, self.frame = settings, value.shape[1]
        self.first = settings.long_term.tokens if settings.long_term else 0
        self.work = self.first + self.frame
        self.capacity = self.first + settings.frames * self.frame
        self.start = self.end = self.first
        self.slot = 0  # of the working frame that a full memory gives up next
        size = (len(value), self.capacity)
        like = {"key": features.key, "shrinkage": features.shrinkage, "value": value}
        if settings.long_term:
            like["selection"] = features.selection
        self.rows = {name: tensor.new_empty(*size, *tensor.shape[2:]) for name, tensor in like.items()}
        if settings.long_term:
            self.rows |= {name: features.key.new_zeros(size) for name in ("used", "lived")}
        self._write(self.first, features, value)
        self.end = self.work

    def __len__(self) -> int:
        """Tokens held."""
        return self.end - self.start

    @property
    def long_tokens(self) -> int:
        """Long-term tokens held."""
        return self.first - self.start

    def add(self, features: FrameFeatures, value: Tensor) -> None:
        """Remember a later frame, value (B, P, n, C); the oldest goes, or is consolidated, when there are too many."""
        if self.settings.frames == 1:
            return
        if self.settings.long_term is None and self.end == self.capacity:
            self._write(self.work + self.slot * self.frame, features, value)
            self.slot = (self.slot + 1) % (self.settings.frames - 1)
            return
        self._write(self.end, features, value)
        self.end += self.frame
        if self.settings.long_term and self.end == self.capacity:
            self._consolidate(self.settings.long_term)

    def read(self, features: FrameFeatures) -> Tensor:
        """Readout (B, P, n, C) for a frame; long-term memory notes which tokens were used."""
        held = slice(self.start, self.end)
        key, shrinkage = self.rows["key"][:, held], self.rows["shrinkage"][:, held]
        weights, index = top_k(key, shrinkage, features.key, features.selection, self.settings.top_k)
        if self.settings.long_term:
            self.rows["used"][:, held].scatter_add_(1, index.flatten(1), weights.flatten(1))
            self.rows["lived"][:, held] += 1
        return gather_read(weights, index + self.start, self.rows["value"])

    def keep(self, targets: list[int]) -> None:
        """Hold on to these of the n targets only."""
        self.rows["value"] = self.rows["value"][:, :, targets].contiguous()

    def _write(self, at: int, features: FrameFeatures, value: Tensor) -> None:
        new = {"key": features.key, "shrinkage": features.shrinkage, "selection": features.selection, "value": value}
        for name, rows in self.rows.items():
            rows[:, at : at + self.frame] = new.get(name, 0.0 if name == "used" else _NEW)

    def _usage(self, span: slice) -> Tensor:
        return self.rows["used"][:, span] / self.rows["lived"][:, span]

    def _consolidate(self, limits: LongTermSettings) -> None:
        """Make prototypes of all working frames but the newest: the most used tokens, averaged over their like."""
        stop = self.end - (limits.keep - 1) * self.frame
        old = slice(self.work, stop)
        count = min(limits.prototypes, stop - self.work)
        self._make_room(limits)
        best = self._usage(old).topk(count).indices
        made = {name: _pick(self.rows[name][:, old], best) for name in ("key", "selection")}
        share = similarity(
            self.rows["key"][:, old], self.rows["shrinkage"][:, old], made["key"], made["selection"]
        ).softmax(-1)
        for name in ("shrinkage", "value"):
            rows = self.rows[name][:, old]
            made[name] = (share @ rows.flatten(2).to(share.dtype)).unflatten(2, rows.shape[2:])
        left = self.end - stop
        for name, rows in self.rows.items():
            rows[:, self.work : self.work + left] = rows[:, stop : self.end].clone()
            rows[:, self.start - count : self.start] = made.get(name, 0.0 if name == "used" else _NEW)
        self.start, self.end = self.start - count, self.work + left

    def _make_room(self, limits: LongTermSettings) -> None:
        """Forget the long-term tokens least used when the next prototypes might not fit."""
        if self.long_tokens < limits.tokens - limits.prototypes:
            return
        count = limits.tokens - limits.prototypes - limits.spare
        best = self._usage(slice(self.start, self.first)).topk(count).indices
        for rows in self.rows.values():
            rows[:, self.first - count : self.first] = _pick(rows[:, self.start : self.first], best)
        self.start = self.first - count


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, k, ...) of rows (B, N, ...) at indices (B, k)."""
    return torch.stack([row[places] for row, places in zip(rows, index, strict=True)])
