"""VQ-SAM's network: SAM 2, looked through K times, each time with a memory that the last time has improved.

Legend: Q queries, T frames of a clip, S image size, C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from methods.vqsam.memory import Combine, Fusion, MemoryGenerator, Pooling
from methods.vqsam.selection import Picks, best_of, pick_distractors, pick_targets
from methods.vqsam.stt import SpatialTemporalTransformer

PROMPTED = 6  # row of SAM 2's temporal table for prompted frames; the paper names none, all three kinds get this one
POINTER_DISTANCE = 1.0  # the query counts as the frame before each frame


@dataclass(frozen=True)
class Settings:
    """What a table of the paper varies, or its text leaves open.

    Attributes:
        stages: K (Table 7).
        targets: k_t, most frames that TFG picks (Table 9); 0 = no TFG (Table 5).
        distractors: k_d, most candidates that DFG picks (Table 10); 0 = no DFG (Table 5).
        target_iou: τ_t.
        divergence: τ_d.
        distractor_iou: τ_u.
        fusion: AMG, SLMG or EMG (Table 8), see ``MemoryGenerator``.
        combine: ⊕ of eq. (8).
        pooling: GP of eq. (6).
        distractor_feature: memory of the ``distractor``'s mask or, as in DAM4SAM, of the ``target``'s in its frame.
        query_pointer: the object pointer of the query is read beside its map.
        stt_layers: 0 = no STT (Table 6).
        stt_heads: of the STT.
        stt_hidden: feed-forward width of the STT; default 4 C.
    """

    stages: int = 2
    targets: int = 2
    distractors: int = 1
    target_iou: float = 0.5
    divergence: float = 0.5
    distractor_iou: float = 0.7
    fusion: Fusion = "adaptive"
    combine: Combine = "concat"
    pooling: Pooling = "frames"
    distractor_feature: Literal["distractor", "target"] = "distractor"
    query_pointer: bool = True
    stt_layers: int = 2
    stt_heads: int = 8
    stt_hidden: int | None = None


@dataclass
class Query:
    """What is known of Q targets: M_0 (Q, 64, S/16, S/16) and their object pointers (Q, C)."""

    memory: Tensor
    pointer: Tensor


class VQSAMNetwork(nn.Module):
    """SAM 2 with an STT and a memory generator; until these are trained it is SAM 2.

    Args:
        core: SAM 2, shared by query and frames.
        settings: see there.
    """

    def __init__(self, core: SAM2, settings: Settings) -> None:
        super().__init__()
        self.core, self.settings = core, settings
        s, width = settings, core.position.shape[-1]
        self.stt = SpatialTemporalTransformer(width, s.stt_layers, s.stt_heads, s.stt_hidden)
        self.generate = MemoryGenerator(s.fusion, s.combine, s.pooling, core.memory_position.shape[-1])

    def look(self, features: FrameFeatures, masks: Tensor) -> Query:
        """M_0 = Φ_mem(E(I_q), m_q) of Q encoded query images with masks float (Q, 1, S, S) in {0, 1}."""
        answer = self.core.take_mask(features, masks)
        return Query(self.core.encode_memory(features, answer), answer.pointers[:, 0])

    def forward(self, features: FrameFeatures, rows: Tensor, query: Query) -> list[Candidates]:
        """All stages.

        Args:
            features: encoded frames, of one clip or of several.
            rows: int64 (Q, T): the frames of each query's clip among ``features``.
            query: the Q targets.

        Returns:
            For each stage the candidates of Q T frames, query by query.
        """
        memories = [[memory] for memory in query.memory.split(1)]
        frames = features.select(rows.flatten())
        stages = []
        for stage in range(self.settings.stages):
            read = self._read(frames, self._banks(memories, query), rows.shape[1])
            mixed = self.stt(read, self.core.position, self.core.checkpoint_activations)
            stages.append(self.core.decode(mixed.flatten(0, 1), frames))
            if stage + 1 < self.settings.stages:
                memories = self._next(frames, stages[-1], query)
        return stages

    def _banks(self, memories: list[list[Tensor]], query: Query) -> list[Bank]:
        pointers = [[p] if self.settings.query_pointer else [] for p in query.pointer.split(1)]
        return [
            Bank(maps, [PROMPTED] * len(maps), pointer, [POINTER_DISTANCE] * len(pointer))
            for maps, pointer in zip(memories, pointers, strict=True)
        ]

    def _read(self, frames: FrameFeatures, banks: list[Bank], length: int) -> Tensor:
        """Eq. (1): (Q, T, C, h, w). Queries whose banks are laid out alike are read in one call."""
        alike: dict[tuple, list[int]] = {}
        for index, bank in enumerate(banks):
            alike.setdefault(bank.layout, []).append(index)
        rows = torch.arange(len(frames.embedding), device=frames.embedding.device).unflatten(0, (-1, length))
        parts, order = [], []
        for members in alike.values():
            bank = Bank.merge([banks[i] for i in members])
            bank.maps = [m.repeat_interleave(length, 0) for m in bank.maps]
            bank.pointers = [p.repeat_interleave(length, 0) for p in bank.pointers]
            seen = frames if len(alike) == 1 else frames.select(rows[members].flatten())
            parts.append(self.core.read(seen, bank).unflatten(0, (-1, length)))
            order += members
        return torch.cat(parts)[torch.tensor(order, device=rows.device).argsort()]

    def _next(self, frames: FrameFeatures, answer: Candidates, query: Query) -> list[list[Tensor]]:
        """Eq. (4) and (5): the maps that each query reads in the next stage."""
        queries = len(query.memory)
        length = len(answer.score) // queries
        picks = [self._picks(answer, q * length, length) for q in range(queries)]
        flat = [(q * length + kind.frames, kind.candidates) for q, kinds in enumerate(picks) for kind in kinds]
        rows, candidates = (torch.cat(parts) for parts in zip(*flat, strict=True))
        if not len(rows):
            return [[memory] for memory in query.memory.split(1)]
        maps = self.core.encode_memory(frames.select(rows), answer.rows(rows).pick(candidates))
        parts = maps.split([len(kind) for kinds in picks for kind in kinds])
        return [self.generate(query.memory[q : q + 1], parts[2 * q], parts[2 * q + 1]) for q in range(queries)]

    def _picks(self, answer: Candidates, start: int, length: int) -> tuple[Picks, Picks]:
        """TFG and DFG of one query."""
        s, clip = self.settings, slice(start, start + length)
        ious, score, masks = answer.ious[clip], answer.score[clip], answer.logits[clip] > 0
        targets = pick_targets(ious, score, s.target_iou, s.targets)
        distractors = pick_distractors(ious, score, masks, s.divergence, s.distractor_iou, s.distractors)
        return targets, distractors if s.distractor_feature == "distractor" else best_of(ious, distractors)
