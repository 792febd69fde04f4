"""The constrained memory tree of SAM2Long for one object (paper, section 3; steps 2 to 7 of the released code).

P pathways grow through the video. On every frame each proposes three candidate masks, P of all candidates survive.
Pathways that share their last node are the same pathway until they branch, so the network runs once for each distinct
node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common.nn.sam2 import Bank, Candidates
from methods.sam2long.picks import TreeSettings, pick_candidates, rank_weights

PROMPT_SCORE = 10.0  # occlusion score of prompted frames in the modulation
TRACKED_MAPS = 6  # SAM 2's num_maskmem 7, less the prompted frame
PROMPT_SLOT = 6  # row of the temporal table for prompted frames


@dataclass(eq=False)
class Memory:
    """Memory of one tracked or prompted frame.

    Attributes:
        frame: index of the frame.
        pointer: object pointer (1, C).
        score: occlusion score.
        map: bfloat16 (1, 64, S/16, S/16); None once the frame is too old for any but its pointer to be read.
    """

    frame: int
    pointer: Tensor
    score: float
    map: Tensor | None


@dataclass(eq=False)
class Node:
    """A distinct prediction on one frame.

    Memory is read from the leaves only, so an inner node keeps its logits alone and frees the rest.

    Attributes:
        frame: index of the frame.
        parent: node of the frame before, None for the root and once the parent is final.
        logits: SAM 2's mask logits float32 (1, 1, S/4, S/4).
        score: occlusion score.
        memory: of this frame; None for a prompted frame, which every pathway reads anyway, and for an inner node.
        recent: readable memories of the node's lineage, this frame included, oldest first; empty for an inner node.
    """

    frame: int
    parent: Node | None
    logits: Tensor
    score: float
    memory: Memory | None
    recent: tuple[Memory, ...] = ()


@dataclass
class Pathway:
    """A pathway.

    Attributes:
        node: its leaf in the tree.
        total: its cumulative score S.
    """

    node: Node
    total: float = 0.0


@dataclass
class Branch:
    """A distinct node that is about to be added.

    Attributes:
        parent: the leaf that it continues.
        candidate: index of the candidate mask of that leaf.
        totals: new S of each pathway that ends in the node, by the pathway's index.
    """

    parent: Node
    candidate: int
    totals: dict[int, float] = field(default_factory=dict)


class MemoryTree:
    """The pathways of one object, from its first prompt on.

    Args:
        settings: hyper-parameters.
        max_pointers: min(number of frames, 16); 16 where the length is unknown.

    Attributes:
        prompted: memories of prompted frames and query images, which all pathways read.
        pathways: the P pathways.
        first_pending: first frame that is not final.
        tracked_frames: number of frames tracked since the first prompt.
    """

    def __init__(self, settings: TreeSettings, max_pointers: int = 16) -> None:
        self.settings, self.max_pointers = settings, max_pointers
        self.prompted: list[Memory] = []
        self.pathways: list[Pathway] = []
        self.first_pending = 0
        self.tracked_frames = 0

    @property
    def nodes(self) -> list[Node]:
        """The distinct leaves, in pathway order."""
        return list(dict.fromkeys(path.node for path in self.pathways))

    def prompt(self, frame: int, candidates: Candidates, memory: Tensor) -> None:
        """Add a prompted frame, which continues every pathway and is read by all later frames.

        Args:
            frame: index of the frame.
            candidates: the prediction from the prompt, B = 1, K = 1.
            memory: memory map bfloat16 (1, 64, S/16, S/16).
        """
        score = float(candidates.score)
        self.prompted.append(Memory(frame, candidates.pointers[:, 0], score, memory))
        if not self.pathways:
            self.first_pending = frame
            root = Node(frame, None, candidates.visible_logits, score, None)
            self.pathways = [Pathway(root) for _ in range(self.settings.pathways)]
            return
        children = {node: Node(frame, node, candidates.visible_logits, score, None, node.recent) for node in self.nodes}
        self._free_leaves()
        self.pathways = [Pathway(children[path.node], path.total) for path in self.pathways]

    def query(self, frame: int, candidates: Candidates, memory: Tensor) -> None:
        """Add a query image, which all frames from ``frame`` on read as a prompted frame.

        In time it lies one frame before, so that its pointer is t + 1 frames away from frame t of a video that is
        tracked from frame 0. Further queries are read together with the first.

        Args:
            frame: index of the first frame that reads the query, not yet tracked.
            candidates: the prediction from the prompt, B = 1, K = 1.
            memory: memory map bfloat16 (1, 64, S/16, S/16).
        """
        score = float(candidates.score)
        self.prompted.append(Memory(frame - 1, candidates.pointers[:, 0], score, memory))
        if not self.pathways:
            self.first_pending = frame  # the root is no frame of the video and is never returned
            root = Node(frame - 1, None, candidates.visible_logits, score, None)
            self.pathways = [Pathway(root) for _ in range(self.settings.pathways)]

    def bank(self, node: Node, frame: int) -> Bank:
        """Return the memories that the lineage of a leaf reads on the next frame.

        Args:
            node: a leaf.
            frame: index of the next frame.
        """
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
        prompted = [PROMPT_SCORE] * len(self.prompted)
        device = bank.maps[0].device
        bank.map_weights = rank_weights(prompted + [m.score for m in maps], low, high)[None].to(device)
        weights = rank_weights(prompted + [m.score for m in pointers], low, high)
        if self.settings.equation_variant == "paper":
            weights = torch.ones_like(weights)
        bank.pointer_weights = weights[None].to(device)

    def choose(self, predictions: dict[Node, tuple[list[float], float]]) -> list[Branch]:
        """Choose the P candidates that continue the pathways on a frame (equations 2 to 4).

        Args:
            predictions: predicted IoUs of the candidates and occlusion score at every distinct leaf.

        Returns:
            The distinct nodes to add.
        """
        self.tracked_frames += 1
        if self.tracked_frames == 1 and self.settings.equation_variant == "code":
            # in the released code the first tracked frame neither adds to S nor branches
            (node,) = self.nodes
            ious = predictions[node][0]
            return [Branch(node, ious.index(max(ious)), dict.fromkeys(range(self.settings.pathways), 0.0))]
        leaves = [path.node for path in self.pathways]
        picks = pick_candidates(
            [path.total for path in self.pathways],
            [predictions[node][0] for node in leaves],
            [predictions[node][1] for node in leaves],
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
        """Add the chosen nodes and move the pathways to them.

        Args:
            frame: index of the frame.
            branches: from ``choose``.
            picked: the candidate of each branch, B = 1, K = 1.
            maps: memory map of each branch, bfloat16 (1, 64, S/16, S/16).
        """
        leaves: dict[int, Pathway] = {}
        for branch, candidate, memory_map in zip(branches, picked, maps, strict=True):
            # a copy: a view would keep the whole batch's maps alive for as long as any one of them
            node = self._child(frame, branch.parent, candidate, memory_map.clone())
            leaves.update({slot: Pathway(node, total) for slot, total in branch.totals.items()})
        self._free_leaves()
        self.pathways = [leaves[slot] for slot in sorted(leaves)]

    def _free_leaves(self) -> None:
        """Free the memory of the leaves before their children, to which it has been passed on, become the leaves."""
        for node in self.nodes:
            node.memory, node.recent = None, ()

    def _child(self, frame: int, parent: Node, candidate: Candidates, memory_map: Tensor) -> Node:
        """Make the node of a candidate, whose memory joins ``recent`` if object-aware selection accepts it."""
        iou, score = float(candidate.ious), float(candidate.score)
        memory = Memory(frame, candidate.pointers[:, 0], score, memory_map)
        recent = parent.recent
        if not self.settings.selection or (iou > self.settings.iou_threshold and score > 0):
            recent = (*recent, memory)[-(self.max_pointers - 1) :]
            aged = tuple(replace(m, map=None) if m.map is not None else m for m in recent[:-TRACKED_MAPS])
            recent = aged + recent[-TRACKED_MAPS:]
        return Node(frame, parent, candidate.visible_logits, score, memory, recent)

    def pop_final(self, max_lag: int | None = None) -> list[Node]:
        """Remove and return the nodes that have become final: those on which all pathways agree.

        Args:
            max_lag: frames further back than this are final too, by the best pathway (0 = all frames); None = only
                those on which the pathways agree.

        Returns:
            One node a frame, in order.
        """
        levels = [self.nodes]  # distinct nodes of the newest frame, the frame before it, ... the first pending one
        while levels[-1][0].frame > self.first_pending:
            levels.append(list(dict.fromkeys(node.parent for node in levels[-1] if node.parent)))
        newest = levels[0][0].frame
        final = next((level[0].frame for level in levels if len(level) == 1), self.first_pending - 1)
        if max_lag is not None:
            final = max(final, newest - max_lag)
        first = self.first_pending
        chain, node = [], self.pathways[0].node
        for _ in levels:
            chain.append(node)
            node = node.parent or node
        # cut the tree behind the last final frame, so that the nodes returned can be freed
        for node in levels[max(newest - final - 1, 0)] if final >= self.first_pending else []:
            node.parent = None
        self.first_pending = max(self.first_pending, final + 1)
        return [node for node in reversed(chain) if first <= node.frame <= final]
