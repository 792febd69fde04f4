"""Streaming inference of SAM2Long, SAMURAI and DAM4SAM: one memory per target, all fed by one pass over each frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.inference.session import check_tracked
from common.nn.sam2 import SAM2, Candidates, FrameFeatures
from common.nn.sam2.session import SAM2Session
from common.video import FrameMasks, Prompt
from methods.sam2long.dam4sam import DAM4SAMSettings, DistractorAwareMemory
from methods.sam2long.pathways import Branch, Prediction, TargetMemory
from methods.sam2long.picks import TreeSettings
from methods.sam2long.samurai import SamuraiMemory, SamuraiSettings
from methods.sam2long.tree import MemoryTree

MAX_POINTERS = 16

MemorySettings = TreeSettings | SamuraiSettings | DAM4SAMSettings
"""Hyper-parameters of a memory rule; their class says which."""


def new_memory(settings: MemorySettings, max_pointers: int) -> TargetMemory:
    """Return the empty memory of a new target."""
    if isinstance(settings, SamuraiSettings):
        return SamuraiMemory(settings, max_pointers)
    if isinstance(settings, DAM4SAMSettings):
        return DistractorAwareMemory(settings, max_pointers)
    return MemoryTree(settings, max_pointers)


class SAM2LongSession(SAM2Session):
    """A session that returns a frame as soon as the pathways of all its targets agree on it.

    A target may be given by a visual query: a mask or a box on an outside image. The query's memory is read as that of
    a prompted frame, one frame before the frame it is given with. The target is tracked from that frame on, and its
    mask is empty wherever it is predicted to be absent.

    Memory that later frames read is bounded: per target and pathway 7 maps and 16 pointers with SAM2Long, 7 and 16 with
    SAMURAI, 14 and 16 with DAM4SAM, next to the prompted frames. Frames that are not final keep the logits of every
    distinct pathway, (S/4, S/4) float32 each, those of the newest 64 on the device and the others on the CPU. With
    SAM2Long their number is not bounded unless ``max_lag`` is; with the others every frame is final at once.

    Args:
        sam2: SAM 2, in eval mode.
        settings: of the memory; they say which rule.
        max_lag: return a frame at most this many frames late, by the best pathway then; 0 = at once; None = when final.
        length: number of frames, where known; SAM 2 divides pointer distances by min(length, 16) - 1.
    """

    def __init__(
        self, sam2: SAM2, settings: MemorySettings, max_lag: int | None = None, length: int | None = None
    ) -> None:
        self.settings, self.max_lag = settings, max_lag
        self.max_pointers = min(max(length or MAX_POINTERS, 2), MAX_POINTERS)
        super().__init__(sam2)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.trees: dict[int, TargetMemory] = {}

    @torch.inference_mode()
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: see ``Session.check``; the session is then as if the frame had not been given.
        """
        self.size = self.check(frame, prompts)
        self.frame += 1
        for prompt in prompts:
            if prompt.image is not None:
                self._prompt(self._encode(prompt.image.to(frame.device)), prompt)
        frame_prompts = {prompt.target: prompt for prompt in prompts if prompt.image is None}
        if self.trees or frame_prompts:
            features = self._encode(frame)
            self._track(features, [tree for target, tree in self.trees.items() if target not in frame_prompts])
            for prompt in frame_prompts.values():
                self._prompt(features, prompt)
        self._pending[self.frame] = tuple(sorted(self.trees))
        return self._answers(self.max_lag)

    def finish(self) -> list[FrameMasks]:
        """Return the remaining frames, by the best pathway."""
        return self._answers(0)

    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on; its pending frames become final by its best pathway.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self.trees)
        self._collect_final(target, self.trees.pop(target), 0)

    def _track(self, features: FrameFeatures, trees: list[TargetMemory]) -> None:
        """Track targets on a frame; every distinct pathway of every target is a row of one batch.

        Args:
            features: of the frame.
            trees: of the targets.
        """
        rows = [(tree, node) for tree in trees for node in tree.nodes]
        if not rows:
            return
        embedding = self.sam2.read_many(features, [tree.bank(node, self.frame) for tree, node in rows])
        candidates = self.sam2.decode(embedding, features, presence=self.settings.presence)
        values = zip(candidates.ious.tolist(), candidates.score.tolist(), candidates.visible_logits, strict=True)
        predictions = {node: Prediction(*value) for (_, node), value in zip(rows, values, strict=True)}
        assert self.size is not None
        branches: list[tuple[TargetMemory, Branch]] = [
            (tree, branch)
            for tree in trees
            for branch in tree.choose({node: predictions[node] for node in tree.nodes}, self.size)
        ]
        row_of = {node: row for row, (_, node) in enumerate(rows)}
        index = torch.tensor([row_of[branch.parent] for _, branch in branches], device=embedding.device)
        choice = torch.tensor([branch.candidate for _, branch in branches], device=embedding.device)
        picked = candidates.rows(index).pick(choice)
        maps = self._encode_memory(features, picked)
        for tree in trees:
            of_tree = [i for i, (owner, _) in enumerate(branches) if owner is tree]
            chosen = [picked.rows(torch.tensor([i], device=index.device)) for i in of_tree]
            tree.grow(self.frame, [branches[i][1] for i in of_tree], chosen, [maps[i : i + 1] for i in of_tree])

    def _encode_memory(self, features: FrameFeatures, picked: Candidates) -> Tensor:
        """Encode memory maps and store them in bfloat16, as SAM 2 does."""
        return self.sam2.encode_memory(features, picked).bfloat16()

    def _prompt(self, features: FrameFeatures, prompt: Prompt) -> None:
        """Add a prompted frame or query image to the tree of its target."""
        answer = self._prompt_prediction(features, prompt)
        tree = self.trees.setdefault(prompt.target, new_memory(self.settings, self.max_pointers))
        memory = self._encode_memory(features, answer)
        if prompt.image is None:
            tree.prompt(self.frame, answer, memory)
        else:
            tree.query(self.frame, answer, memory)

    def _collect_final(self, target: int, tree: TargetMemory, max_lag: int | None) -> None:
        """Take over the nodes of a tree that have become final."""
        for node in tree.pop_final(max_lag):
            self._final[node.frame][target] = node

    def _answers(self, max_lag: int | None) -> list[FrameMasks]:
        """Return the frames whose targets are all final, in order."""
        for target, tree in self.trees.items():
            self._collect_final(target, tree, max_lag)
        return self._pop_final()
