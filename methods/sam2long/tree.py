"""The constrained memory tree of SAM2Long for one object (paper, section 3; steps 2 to 7 of the released code).

P pathways grow through the video. On every frame each proposes three candidate masks, P of all candidates survive.
Pathways that share their last node are the same pathway until they branch, so the network runs once per distinct node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common.nn.sam2 import Bank, Candidates
from methods.sam2long.picks import TreeSettings, pick_candidates, rank_weights

PROMPT_SCORE = 10.0  # the occlusion score that a prompted entry counts with in the modulation
TRACKED_MAPS = 6  # SAM 2's num_maskmem 7, less the prompted one
PROMPT_SLOT = 6  # row of the temporal table for prompted frames


@dataclass(eq=False)
class Memory:
    """What later frames can read of one tracked or prompted frame."""

    frame: int
    pointer: Tensor  # (1, C)
    score: float
    map: Tensor | None  # bfloat16 (1, 64, S/16, S/16); None once only the pointer can be read


@dataclass(eq=False)
class Node:
    """One distinct result on one frame.

    ``recent`` holds the readable memories of its lineage up to and with this frame, oldest first. Only leaves hold
    memory; an inner node waits with its logits alone, so what no pathway can read any more is freed.
    """

    frame: int
    parent: Node | None
    logits: Tensor  # float32 (1, 1, S/4, S/4), SAM 2's answer
    score: float
    memory: Memory | None  # None for a prompted frame, which every pathway reads anyway, and for an inner node
    recent: tuple[Memory, ...] = ()


@dataclass
class Pathway:
    """A leaf of the tree and its cumulative score S."""

    node: Node
    total: float = 0.0


@dataclass
class Branch:
    """A new distinct node to be: candidate ``candidate`` after ``parent``, and the pathways that will stand on it."""

    parent: Node
    candidate: int
    totals: dict[int, float] = field(default_factory=dict)  # pathway -> its new S


class MemoryTree:
    """The pathways of one object, from its first prompt on.

    Args:
        settings: the hyper-parameters.
        max_pointers: M = min(number of frames, 16); 16 where the length is unknown.
    """

    def __init__(self, settings: TreeSettings, max_pointers: int = 16) -> None:
        self.settings, self.max_pointers = settings, max_pointers
        self.prompted: list[Memory] = []
        self.pathways: list[Pathway] = []
        self.open: int = 0  # first frame that is not decided
        self.tracked = 0  # frames tracked since the first prompt

    @property
    def nodes(self) -> list[Node]:
        """The distinct leaves, in pathway order."""
        return list(dict.fromkeys(path.node for path in self.pathways))

    def prompt(self, frame: int, candidates: Candidates, memory: Tensor) -> None:
        """A prompted frame: every pathway goes through it, and reads it ever after."""
        score = float(candidates.score)
        self.prompted.append(Memory(frame, candidates.pointers[:, 0], score, memory))
        if not self.pathways:
            self.open = frame
            root = Node(frame, None, candidates.visible_logits, score, None)
            self.pathways = [Pathway(root) for _ in range(self.settings.pathways)]
            return
        after = {node: Node(frame, node, candidates.visible_logits, score, None, node.recent) for node in self.nodes}
        self._release()
        self.pathways = [Pathway(after[path.node], path.total) for path in self.pathways]

    def query(self, frame: int, candidates: Candidates, memory: Tensor) -> None:
        """An outside image given before ``frame`` is tracked: every pathway reads it ever after, as a prompted frame.

        It lies in time one frame before, so that its pointer is t + 1 frames away from frame t of a video that is
        tracked from frame 0. A second query joins the first.
        """
        score = float(candidates.score)
        self.prompted.append(Memory(frame - 1, candidates.pointers[:, 0], score, memory))
        if not self.pathways:
            self.open = frame  # the root is no frame of the video and is never answered
            root = Node(frame - 1, None, candidates.visible_logits, score, None)
            self.pathways = [Pathway(root) for _ in range(self.settings.pathways)]

    def bank(self, node: Node, frame: int) -> Bank:
        """What the lineage of ``node`` reads on ``frame``: prompted frames, tracked frames, pointers."""
        if self.settings.selection:
            maps, map_slots, pointers, offsets = self._selected(node)
        else:
            maps = [m for m in node.recent if frame - m.frame <= TRACKED_MAPS]
            map_slots = [frame - m.frame - 1 for m in maps]
            pointers = [m for m in reversed(node.recent) if frame - m.frame < self.max_pointers]
            offsets = [frame - m.frame for m in pointers]
        bank = Bank(
            maps=[m.map for m in self.prompted + maps if m.map is not None],
            slots=[PROMPT_SLOT] * len(self.prompted) + map_slots,
            pointers=[m.pointer for m in self.prompted + pointers],
            offsets=[float(frame - m.frame) for m in self.prompted] + [float(d) for d in offsets],
            max_pointers=self.max_pointers,
        )
        if self.settings.modulation and len(bank.maps) > 1:
            self._modulate(bank, maps, pointers)
        return bank

    def _selected(self, node: Node) -> tuple[list[Memory], list[int], list[Memory], list[int]]:
        """Object-aware selection: maps and pointers with temporal slots and offsets by rank, newest = first."""
        kept = list(node.recent)
        paper = self.settings.reading == "paper"
        if node.memory is not None and node.memory not in kept and not paper:
            kept.append(node.memory)  # the released code always reads the last frame
        maps = kept[-TRACKED_MAPS:]
        pointers = maps[::-1] if paper else kept[:0:-1]  # the oldest kept pointer is never read
        return maps, list(range(len(maps) - 1, -1, -1)), pointers, list(range(1, len(pointers) + 1))

    def _modulate(self, bank: Bank, maps: list[Memory], pointers: list[Memory]) -> None:
        """Key weights by rank, for maps and pointers apart; the paper weighs maps only."""
        assert self.settings.modulation is not None
        low, high = self.settings.modulation
        first = [PROMPT_SCORE] * len(self.prompted)
        device = bank.maps[0].device
        bank.map_weights = rank_weights(first + [m.score for m in maps], low, high)[None].to(device)
        weights = rank_weights(first + [m.score for m in pointers], low, high)
        if self.settings.reading == "paper":
            weights = torch.ones_like(weights)
        bank.pointer_weights = weights[None].to(device)

    def choose(self, measured: dict[Node, tuple[list[float], float]]) -> list[Branch]:
        """The survivors of a frame, from the predicted IoUs and the occlusion score at every distinct leaf."""
        self.tracked += 1
        if self.tracked == 1 and self.settings.reading == "code":  # the first tracked frame neither scores nor branches
            (node,) = self.nodes
            ious = measured[node][0]
            return [Branch(node, ious.index(max(ious)), dict.fromkeys(range(self.settings.pathways), 0.0))]
        leaves = [path.node for path in self.pathways]
        picks = pick_candidates(
            [path.total for path in self.pathways],
            [measured[node][0] for node in leaves],
            [measured[node][1] for node in leaves],
            self.settings,
        )
        branches: dict[tuple[Node, int], Branch] = {}
        for slot, pick in enumerate(picks):
            parent = leaves[pick.pathway]
            branch = branches.setdefault((parent, pick.candidate), Branch(parent, pick.candidate))
            branch.totals[slot] = pick.total
        return list(branches.values())

    def grow(
        self, frame: int, branches: Sequence[Branch], picked: Sequence[Candidates], maps: Sequence[Tensor]
    ) -> None:
        """Put the survivors in place, each with its K = 1 candidate and its memory map."""
        leaves: dict[int, Pathway] = {}
        for branch, candidate, memory_map in zip(branches, picked, maps, strict=True):
            # a copy: a view would keep the whole batch's maps alive for as long as any one of them
            node = self._child(frame, branch.parent, candidate, memory_map.clone())
            leaves.update({slot: Pathway(node, total) for slot, total in branch.totals.items()})
        self._release()
        self.pathways = [leaves[slot] for slot in sorted(leaves)]

    def _release(self) -> None:
        """Let the leaves' memory go before others take their place: it is read from leaves only."""
        for node in self.nodes:
            node.memory, node.recent = None, ()

    def _child(self, frame: int, parent: Node, candidate: Candidates, memory_map: Tensor) -> Node:
        iou, score = float(candidate.ious), float(candidate.score)
        memory = Memory(frame, candidate.pointers[:, 0], score, memory_map)
        recent = parent.recent
        if not self.settings.selection or (iou > self.settings.iou_threshold and score > 0):
            recent = (*recent, memory)[-(self.max_pointers - 1) :]
            aged = tuple(replace(m, map=None) if m.map is not None else m for m in recent[:-TRACKED_MAPS])
            recent = aged + recent[-TRACKED_MAPS:]
        return Node(frame, parent, candidate.visible_logits, score, memory, recent)

    def decided(self, max_lag: int | None = None) -> list[Node]:
        """Nodes that have just become final, in frame order: those on which all living pathways agree.

        Args:
            max_lag: frames further back are final at once, by the best pathway (0 = everything now).
        """
        levels = [self.nodes]  # the distinct nodes of the newest frame, the one before, ... the first open one
        while levels[-1][0].frame > self.open:
            levels.append(list(dict.fromkeys(node.parent for node in levels[-1] if node.parent)))
        newest = levels[0][0].frame
        final = next((level[0].frame for level in levels if len(level) == 1), self.open - 1)
        if max_lag is not None:
            final = max(final, newest - max_lag)
        first = self.open
        chain, node = [], self.pathways[0].node
        for _ in levels:
            chain.append(node)
            node = node.parent or node
        for node in levels[max(newest - final - 1, 0)] if final >= self.open else []:
            node.parent = None  # what lies before is answered: let it go
        self.open = max(self.open, final + 1)
        return [node for node in reversed(chain) if first <= node.frame <= final]
