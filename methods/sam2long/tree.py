"""The constrained memory tree of SAM2Long for one object (paper, section 3; steps 2 to 7 of the released code).

P pathways grow through the video. On every frame each proposes three candidate masks, P of all candidates survive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from common.nn.sam2 import Bank, Candidates
from common.nn.sam2.types import PROMPT_SLOT, TRACKED_MAPS
from common.nn.transfer import to_device
from methods.sam2long.pathways import Branch, Memory, Node, Prediction, TargetMemory
from methods.sam2long.picks import TreeSettings, pick_candidates, rank_weights

PROMPT_SCORE = 10.0  # occlusion score of prompted frames in the modulation


class MemoryTree(TargetMemory):
    """The pathways of one object, from its first prompt on.

    Args:
        settings: hyper-parameters.
        max_pointers: min(number of frames, 16); 16 where the length is unknown.

    Attributes:
        tracked_frames: number of frames tracked since the first prompt.
    """

    def __init__(self, settings: TreeSettings, max_pointers: int = 16) -> None:
        super().__init__(settings.pathways, max_pointers)
        self.settings = settings
        self.tracked_frames = 0

    def bank(self, node: Node, frame: int) -> Bank:
        """Return the memories that the lineage of a leaf reads on the next frame."""
        prompted, past, others = self.readable(frame)
        if self.settings.selection:
            maps, map_slots, pointers, offsets = self._selected(node)
        else:
            before = sorted((m for m in (*node.recent, *others) if m.frame < frame), key=lambda m: m.frame)
            maps = [m for m in before if frame - m.frame <= TRACKED_MAPS and m.map is not None]
            map_slots = [frame - m.frame - 1 for m in maps]
            pointers = [m for m in reversed(before) if frame - m.frame < self.max_pointers]
            offsets = [frame - m.frame for m in pointers]
        bank = Bank(
            maps=[m.map for m in prompted + maps if m.map is not None],
            slots=[PROMPT_SLOT] * len(prompted) + map_slots,
            pointers=[m.pointer for m in past + pointers],
            offsets=[float(frame - m.frame) for m in past] + [float(d) for d in offsets],
            max_pointers=self.max_pointers,
        )
        if self.settings.modulation and len(bank.maps) > 1:
            self._modulate(bank, prompted + maps, past + pointers)
        return bank

    def _selected(self, node: Node) -> tuple[list[Memory], list[int], list[Memory], list[int]]:
        """Select the memories of a leaf by object-aware selection (equation 5).

        Only frames of high predicted IoU on which the object is visible are in ``node.recent``. They may be far apart,
        so they are numbered by rank and not by their distance in time: the newest has slot 0 and offset 1.

        Returns:
            Memories whose maps are read, oldest first, with their slots; memories whose pointers are read, newest
            first, with their offsets.
        """
        memories = list(node.recent)
        paper = self.settings.equation_variant == "paper"
        if node.memory is not None and node.memory not in memories and not paper:
            memories.append(node.memory)  # the released code reads the last frame even if it was not selected
        maps = memories[-TRACKED_MAPS:]
        # the paper reads as many pointers as maps; the released code all but the oldest
        pointers = maps[::-1] if paper else memories[:0:-1]
        return maps, list(range(len(maps) - 1, -1, -1)), pointers, list(range(1, len(pointers) + 1))

    def _modulate(self, bank: Bank, maps: list[Memory], pointers: list[Memory]) -> None:
        """Set key weights by rank of the occlusion score, maps and pointers ranked separately (equation 6).

        The paper weights maps only, the released code pointers too.
        """
        assert self.settings.modulation is not None
        low, high = self.settings.modulation
        device = bank.maps[0].device
        bank.map_weights = to_device(rank_weights(self._scores(maps), low, high)[None], device)
        weights = rank_weights(self._scores(pointers), low, high)
        if self.settings.equation_variant == "paper":
            weights = torch.ones_like(weights)
        bank.pointer_weights = to_device(weights[None], device)

    def _scores(self, memories: list[Memory]) -> list[float]:
        """Return the occlusion scores that the modulation ranks."""
        return [PROMPT_SCORE if m in self.prompted else m.score for m in memories]

    def choose(self, predictions: Mapping[Node, Prediction], size: tuple[int, int]) -> list[Branch]:
        """Choose the P candidates that continue the pathways on a frame (equations 2 to 4)."""
        self.tracked_frames += 1
        if self.tracked_frames == 1 and self.settings.equation_variant == "code":
            # in the released code the first tracked frame neither adds to S nor branches
            (node,) = self.nodes
            ious = predictions[node].ious
            return [Branch(node, ious.index(max(ious)), dict.fromkeys(range(self.settings.pathways), 0.0))]
        leaves = [path.node for path in self.pathways]
        picks = pick_candidates(
            [path.total for path in self.pathways],
            [predictions[node].ious for node in leaves],
            [predictions[node].score for node in leaves],
            self.settings,
        )
        branches: dict[tuple[Node, int], Branch] = {}
        for slot, pick in enumerate(picks):
            parent = leaves[pick.pathway]
            branch = branches.setdefault((parent, pick.candidate), Branch(parent, pick.candidate))
            branch.totals[slot] = pick.total
        return list(branches.values())

    def child(
        self, frame: int, branch: Branch, predicted: Prediction, candidate: Candidates, memory_map: Tensor
    ) -> Node:
        """Make the node of a candidate, whose memory joins ``recent`` if object-aware selection accepts it."""
        iou, score = predicted.ious[branch.candidate], predicted.score
        memory = Memory(frame, candidate.pointers[:, 0], score, memory_map)
        recent = branch.parent.recent
        if not self.settings.selection or (iou > self.settings.iou_threshold and score > 0):
            recent = (*recent, memory)[-(self.max_pointers - 1) :]
            aged = tuple(replace(m, map=None) if m.map is not None else m for m in recent[:-TRACKED_MAPS])
            recent = aged + recent[-TRACKED_MAPS:]
        return Node(frame, branch.parent, candidate.visible_logits, score, memory, recent)
