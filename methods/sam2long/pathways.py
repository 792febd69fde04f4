"""The pathways of one target through the frames, and which of their nodes are final.

A node is one prediction on one frame. P pathways grow through the video; those that share their last node are the
same pathway until they branch, so the network runs once for each distinct node. A tracker with one pathway is the
case P = 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from common.nn.sam2 import Bank, Candidates
from common.nn.sam2.postprocess import closest_prompted

WAITING_ON_DEVICE = 64  # newest frames whose logits stay on the device while they wait


@dataclass(eq=False)
class Memory:
    """Memory of one tracked or prompted frame.

    Attributes:
        frame: index of the frame.
        pointer: object pointer (1, C).
        score: occlusion score.
        map: bfloat16 (1, 64, S/16, S/16); None once the frame is too old for any but its pointer to be read.
        selected: whether later frames may read its map; the previous frame is read without.
    """

    frame: int
    pointer: Tensor
    score: float
    map: Tensor | None
    selected: bool = True


@dataclass(eq=False)
class Node:
    """A distinct prediction on one frame.

    Memory is read from the leaves only, so an inner node keeps its logits alone and frees the rest.

    Attributes:
        frame: index of the frame.
        parent: node of the frame before, None for the root and once the parent is final.
        logits: SAM 2's mask logits float32 (1, 1, S/4, S/4); on the CPU once the frame has waited long.
        score: occlusion score.
        memory: of this frame; None for a prompted frame, which every pathway reads anyway, and for an inner node.
        recent: readable memories of the node's lineage, this frame included, oldest first; empty for an inner node.
        children: number of its children that a pathway passes through.
    """

    frame: int
    parent: Node | None
    logits: Tensor
    score: float
    memory: Memory | None
    recent: tuple[Memory, ...] = ()
    children: int = 0


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


class Prediction(NamedTuple):
    """What the network predicts on a frame from the memory of one leaf.

    Attributes:
        ious: predicted IoU of each of the K candidates.
        score: occlusion score.
        logits: mask logits float32 (K, S/4, S/4) of the candidates, ``NO_OBJECT_LOGIT`` for an absent target.
    """

    ious: list[float]
    score: float
    logits: Tensor


class TargetMemory(ABC):
    """The pathways of one target from its first prompt on, and the memories that they read.

    A subclass decides which candidates continue the pathways and which memories are read.

    Args:
        count: P, number of pathways.
        max_pointers: min(number of frames, 16); 16 where the length is unknown.

    Attributes:
        prompted: memories of prompted frames and query images, which all pathways read.
        max_prompted: number of prompted frames that a frame reads, see ``PostProcessing``; -1 = all.
        pathways: the P pathways.
    """

    def __init__(self, count: int, max_pointers: int) -> None:
        self.count, self.max_pointers = count, max_pointers
        self.prompted: list[Memory] = []
        self.max_prompted = -1
        self.pathways: list[Pathway] = []
        self._waiting: deque[list[Node]] = deque()  # distinct nodes of each frame that is not final, oldest frame first

    def readable(self, frame: int) -> tuple[list[Memory], list[Memory], list[Memory]]:
        """Select the prompted memories that a frame reads, by ``max_prompted``.

        Args:
            frame: index of the frame.

        Returns:
            Memories whose maps are read; those among them that are not in the future, whose pointers are read too; the
            others, which SAM 2 reads as tracked frames where they are near enough.
        """
        chosen = set(closest_prompted(frame, dict.fromkeys(m.frame for m in self.prompted), self.max_prompted))
        maps = [m for m in self.prompted if m.frame in chosen]
        return maps, [m for m in maps if m.frame <= frame], [m for m in self.prompted if m.frame not in chosen]

    def correct(self, frame: int, candidates: Candidates, memory: Tensor, as_prompt: bool = False) -> None:
        """Replace the answer and the memory of the last frame, on all pathways.

        The memory of a prompted frame stays one that all frames read; that of a tracked frame stays among the tracked
        ones, as in the ``sam2`` package, and is read even where the selection had left the frame out.

        Args:
            frame: index of the last frame.
            candidates: the corrected prediction, B = 1, K = 1.
            memory: memory map bfloat16 (1, 64, S/16, S/16).
            as_prompt: a tracked frame becomes a prompted one.
        """
        logits, score = candidates.visible_logits, float(candidates.score)
        new = Memory(frame, candidates.pointers[:, 0], score, memory)
        places = [place for place, m in enumerate(self.prompted) if m.frame == frame]
        for place in places:
            self.prompted[place] = new
        if as_prompt and not places:
            self.prompted.append(new)
        for node in self.nodes:
            node.logits, node.score = logits, score
            if not places:
                others = tuple(m for m in node.recent if m.frame != frame)
                node.memory, node.recent = (None, others) if as_prompt else (new, (*others, new))

    def clear(self, frame: int) -> None:
        """Make a prompted last frame one that was tracked: its answer stays, its memory is no longer read by all.

        Args:
            frame: index of the last frame.
        """
        cleared = [m for m in self.prompted if m.frame == frame]
        self.prompted = [m for m in self.prompted if m.frame != frame]
        for node in self.nodes if cleared else []:
            node.memory = cleared[-1]
            node.recent = (*(m for m in node.recent if m.frame != frame), cleared[-1])

    def forget_around(self, frame: int, reach: int) -> None:
        """Forget the memories of tracked frames around a frame, which itself is kept.

        Args:
            frame: its index.
            reach: number of frames.
        """
        for node in self.nodes:
            node.recent = tuple(m for m in node.recent if m.frame == frame or abs(m.frame - frame) > reach)

    @property
    def nodes(self) -> list[Node]:
        """The distinct leaves, in pathway order."""
        return list(dict.fromkeys(path.node for path in self.pathways))

    def prompt(self, frame: int, candidates: Candidates, memory: Tensor) -> None:
        """Add a prompted frame, which continues every pathway and is read by later frames.

        Args:
            frame: index of the frame.
            candidates: the prediction from the prompt, B = 1, K = 1.
            memory: memory map bfloat16 (1, 64, S/16, S/16).
        """
        self.prompted.append(Memory(frame, candidates.pointers[:, 0], float(candidates.score), memory))
        self.answer(frame, candidates)

    def answer(self, frame: int, candidates: Candidates) -> None:
        """Continue every pathway by one answer, whose memory is among ``prompted``.

        Args:
            frame: index of the frame.
            candidates: the prediction, B = 1, K = 1.
        """
        logits, score = candidates.visible_logits, float(candidates.score)
        if not self.pathways:
            root = Node(frame, None, logits, score, None)
            self.advance([Pathway(root) for _ in range(self.count)])
            return
        children = {node: Node(frame, node, logits, score, None, node.recent) for node in self.nodes}
        self.advance([Pathway(children[path.node], path.total) for path in self.pathways])

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
        if not self.pathways:  # the root is no frame of the video and is never returned
            root = Node(frame - 1, None, candidates.visible_logits, score, None)
            self.pathways = [Pathway(root) for _ in range(self.count)]

    @abstractmethod
    def bank(self, node: Node, frame: int) -> Bank:
        """Return the memories that the lineage of a leaf reads on the next frame.

        Args:
            node: a leaf.
            frame: index of the next frame.
        """

    @abstractmethod
    def choose(self, predictions: Mapping[Node, Prediction], size: tuple[int, int]) -> list[Branch]:
        """Choose the candidates that continue the pathways on a frame.

        Args:
            predictions: at every distinct leaf.
            size: (H, W) of the video.

        Returns:
            The distinct nodes to add.
        """

    @abstractmethod
    def child(
        self, frame: int, branch: Branch, predicted: Prediction, candidate: Candidates, memory_map: Tensor
    ) -> Node:
        """Make the node of a chosen candidate, with what its lineage can read from then on.

        Args:
            frame: index of the frame.
            branch: from ``choose``.
            predicted: at the leaf that it continues.
            candidate: B = 1, K = 1.
            memory_map: bfloat16 (1, 64, S/16, S/16).
        """

    def grow(
        self,
        frame: int,
        branches: Sequence[Branch],
        predictions: Mapping[Node, Prediction],
        picked: Sequence[Candidates],
        maps: Sequence[Tensor],
    ) -> None:
        """Add the chosen nodes and move the pathways to them.

        Args:
            frame: index of the frame.
            branches: from ``choose``.
            predictions: at every distinct leaf.
            picked: the candidate of each branch, B = 1, K = 1.
            maps: memory map of each branch, bfloat16 (1, 64, S/16, S/16).
        """
        leaves: dict[int, Pathway] = {}
        for branch, candidate, memory_map in zip(branches, picked, maps, strict=True):
            # a copy: a view would keep the whole batch's maps alive for as long as any one of them
            node = self.child(frame, branch, predictions[branch.parent], candidate, memory_map.clone())
            leaves.update({slot: Pathway(node, total) for slot, total in branch.totals.items()})
        self.advance([leaves[slot] for slot in sorted(leaves)])

    def advance(self, pathways: list[Pathway]) -> None:
        """Move the pathways to nodes of the next frame and remove the nodes that none of them passes through.

        A node is added and removed once, so that a frame costs the same however many frames are not final.

        Args:
            pathways: the P pathways; the parents of their nodes are the present leaves.
        """
        old, self.pathways = self.nodes, pathways
        leaves = self.nodes
        for node in old:  # what can be read has been passed on to the new leaves
            node.memory, node.recent = None, ()
        for node in leaves:
            if not self._waiting:
                node.parent = None  # it is final
            elif node.parent is not None:
                node.parent.children += 1
        for leaf in old:
            self._remove_dead(leaf)
        self._waiting.append(leaves)
        if len(self._waiting) > WAITING_ON_DEVICE:
            for node in self._waiting[-WAITING_ON_DEVICE - 1]:
                node.logits = node.logits.cpu()

    def _remove_dead(self, node: Node) -> None:
        """Remove a node of the last waiting frame and its ancestors, as far as they have no children."""
        level = len(self._waiting) - 1
        while level >= 0 and node.children == 0:
            self._waiting[level].remove(node)
            if node.parent is None:
                return
            node, level = node.parent, level - 1
            node.children -= 1

    def pop_final(self, max_lag: int | None = None) -> list[Node]:
        """Remove and return the nodes that have become final: those on which all pathways agree.

        Args:
            max_lag: frames further back than this are final too, by the best pathway (0 = all frames); None = only
                those on which the pathways agree.

        Returns:
            One node a frame, in order.
        """
        final: list[Node] = []
        while self._waiting and len(self._waiting[0]) == 1:
            final += self._waiting.popleft()
        late = 0 if max_lag is None else len(self._waiting) - max_lag
        if late > 0:
            best = [self.pathways[0].node]
            while len(best) < len(self._waiting):
                assert best[-1].parent is not None
                best.append(best[-1].parent)
            final += best[::-1][:late]
            for _ in range(late):
                self._waiting.popleft()
        # cut the tree behind the last final frame, so that the nodes returned can be freed
        for node in self._waiting[0] if final and self._waiting else []:
            node.parent = None
        return final
