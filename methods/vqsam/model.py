"""VQ-SAM's network: SAM 2 in K stages on one clip, each with a memory refined by the stage before (section 3).

Legend: Q queries, T frames of a clip, K stages, S image size, C width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.nn.sam2 import SAM2, Bank, Candidates, FrameFeatures
from common.nn.transfer import to_device
from methods.vqsam.memory import Combine, Fusion, MemoryGenerator, Pooling
from methods.vqsam.selection import Picks, best_of, pick_distractors, pick_targets
from methods.vqsam.stt import SpatialTemporalTransformer

PROMPTED = 6  # row of SAM 2's temporal table for prompted frames; used for all three kinds of memory, see the README
POINTER_DISTANCE = 1.0  # distance in frames of the query's pointer: the query counts as the frame before each frame


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters that the paper's tables vary or its text leaves open.

    Attributes:
        stages: K (Table 7).
        targets: k_t, largest number of frames that target feature generation (TFG) selects (Table 9); 0 = no TFG
            (Table 5).
        distractors: k_d, largest number of candidates that distractor feature generation (DFG) selects (Table 10);
            0 = no DFG (Table 5).
        target_iou: τ_t, threshold of TFG on the predicted IoU.
        divergence: τ_d, threshold of DFG on 1 - IoU with the best mask.
        distractor_iou: τ_u, threshold of DFG on the predicted IoU.
        fusion: AMG, SLMG or EMG (Table 8), see ``MemoryGenerator``.
        combine: ⊕ of eq. (8).
        pooling: GP of eq. (6).
        distractor_feature: encode the ``distractor``'s mask or, as in DAM4SAM, the ``target``'s in the same frame.
        query_pointer: memory attention reads the object pointer of the query too.
        stt_layers: layers of the spatial-temporal transformer (STT); 0 = no STT (Table 6).
        stt_heads: attention heads of the STT.
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
    """The encoded queries of Q targets.

    Attributes:
        memory: M_0, (Q, 64, S/16, S/16).
        pointer: object pointers (Q, C).
    """

    memory: Tensor
    pointer: Tensor


class VQSAMNetwork(nn.Module):
    """SAM 2 with a spatial-temporal transformer and a memory generator, which initially change nothing.

    Args:
        sam2: SAM 2, shared by query and frames.
        settings: hyper-parameters.
    """

    def __init__(self, sam2: SAM2, settings: Settings) -> None:
        super().__init__()
        self.sam2, self.settings = sam2, settings
        s, width = settings, sam2.position.shape[-1]
        self.stt = SpatialTemporalTransformer(width, s.stt_layers, s.stt_heads, s.stt_hidden)
        self.generate = MemoryGenerator(s.fusion, s.combine, s.pooling, sam2.memory_position.shape[-1])

    def encode_query(self, features: FrameFeatures, masks: Tensor) -> Query:
        """Encode the queries, M_0 = Φ_mem(E(I_q), m_q).

        Args:
            features: of Q query images.
            masks: of the targets on them, float (Q, 1, S, S) in {0, 1}.
        """
        answer = self.sam2.take_mask(features, masks)
        return Query(self.sam2.encode_memory(features, answer), answer.pointers[:, 0])

    def forward(self, features: FrameFeatures, rows: Tensor, query: Query) -> list[Candidates]:
        """Run all stages.

        Args:
            features: of the frames of one or several clips.
            rows: int64 (Q, T), the frames of each query's clip among ``features``.
            query: the Q targets.

        Returns:
            The candidates of each stage: Q T frames, query by query.
        """
        memories = [[memory] for memory in query.memory.split(1)]
        frames = features.select(rows.flatten())
        stages = []
        for stage in range(self.settings.stages):
            read = self._read(frames, self._banks(memories, query), rows.shape[1])
            mixed = self.stt(read, self.sam2.position, self.sam2.checkpoint_activations)
            stages.append(self.sam2.decode(mixed.flatten(0, 1), frames))
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
        """Read each query's bank for all frames of its clip, eq. (1).

        Queries with banks of the same layout are read in one call. Stages after the first may differ in the number of
        maps, where one query found a distractor and another none.

        Returns:
            (Q, T, C, h, w).
        """
        groups = Bank.group(banks)
        rows = torch.arange(len(frames.embedding), device=frames.embedding.device).unflatten(0, (-1, length))
        parts, order = [], []
        for members in groups:
            bank = Bank.merge([banks[i] for i in members])
            bank.maps = [m.repeat_interleave(length, 0) for m in bank.maps]
            bank.pointers = [p.repeat_interleave(length, 0) for p in bank.pointers]
            rows_read = frames if len(groups) == 1 else frames.select(rows[members].flatten())
            parts.append(self.sam2.read(rows_read, bank).unflatten(0, (-1, length)))
            order += members
        return torch.cat(parts)[to_device(order, rows.device).argsort()]

    def _next(self, frames: FrameFeatures, answer: Candidates, query: Query) -> list[list[Tensor]]:
        """Build the maps that each query reads in the next stage, eq. (4) to (8)."""
        queries = len(query.memory)
        length = len(answer.score) // queries
        picks = [self._picks(answer, q * length, length) for q in range(queries)]
        flat = [(q * length + kind.frames, kind.candidates) for q, kinds in enumerate(picks) for kind in kinds]
        rows, candidates = (torch.cat(parts) for parts in zip(*flat, strict=True))
        if not len(rows):
            return [[memory] for memory in query.memory.split(1)]
        maps = self.sam2.encode_memory(frames.select(rows), answer.rows(rows).pick(candidates))
        parts = maps.split([len(kind) for kinds in picks for kind in kinds])
        return [self.generate(query.memory[q : q + 1], parts[2 * q], parts[2 * q + 1]) for q in range(queries)]

    def _picks(self, answer: Candidates, start: int, length: int) -> tuple[Picks, Picks]:
        """Select the targets (TFG) and distractors (DFG) of one query."""
        s, clip = self.settings, slice(start, start + length)
        ious, score, masks = answer.ious[clip], answer.score[clip], answer.logits[clip] > 0
        targets = pick_targets(ious, score, s.target_iou, s.targets)
        distractors = pick_distractors(ious, score, masks, s.divergence, s.distractor_iou, s.distractors)
        return targets, distractors if s.distractor_feature == "distractor" else best_of(ious, distractors)
