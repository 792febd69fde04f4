"""SAM2Long on a stream: one memory tree per target, all of them fed by one pass over each frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import InputError
from common.nn.sam2 import SAM2, Candidates, FrameFeatures
from common.nn.sam2.session import SAM2Session
from common.video import FrameMasks, Prompt
from methods.sam2long.picks import TreeSettings
from methods.sam2long.tree import Branch, MemoryTree

MAX_POINTERS = 16


class SAM2LongSession(SAM2Session):
    """Frame in, masks out. A frame is answered as soon as all pathways of all its targets share their past there.

    A target may be known from an outside image, with a mask or a box on it (a visual query). The image's memory is read
    as that of a prompted frame, one frame before the one it is given with; the target is tracked from that frame on,
    which is no prompted frame, and its mask is empty wherever the target is taken to be absent.

    Memory per target is bounded by P x 15 memory maps and pointers; frames not yet decided keep their S/4 logits.

    Args:
        model: the SAM 2 core, in eval mode.
        settings: of the memory trees.
        max_lag: answer a frame at most this many frames late, by the best pathway then; 0 = at once; None = when final.
        length: number of frames, where known; SAM 2 scales pointer distances by min(length, 16) - 1.
    """

    def __init__(
        self, model: SAM2, settings: TreeSettings, max_lag: int | None = None, length: int | None = None
    ) -> None:
        self.settings, self.max_lag = settings, max_lag
        self.max_pointers = min(max(length or MAX_POINTERS, 2), MAX_POINTERS)
        super().__init__(model)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.trees: dict[int, MemoryTree] = {}

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
        given = {prompt.target: prompt for prompt in prompts if prompt.image is None}
        if self.trees or given:
            features = self._encode(frame)
            self._track(features, [tree for target, tree in self.trees.items() if target not in given])
            for prompt in given.values():
                self._prompt(features, prompt)
        self._due[self.frame] = tuple(sorted(self.trees))
        return self._answers(self.max_lag)

    def finish(self) -> list[FrameMasks]:
        """The frames still open, by the best pathway."""
        return self._answers(0)

    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on; its open frames are decided by its best pathway.

        Raises:
            InputError: the target is not followed.
        """
        if target not in self.trees:
            raise InputError(f"target {target} is not followed; followed are {sorted(self.trees)}")
        self._collect(target, self.trees.pop(target), 0)

    def _track(self, features: FrameFeatures, trees: list[MemoryTree]) -> None:
        """One frame for all targets: every distinct pathway of every target is a row of one batch."""
        rows = [(tree, node) for tree in trees for node in tree.nodes]
        if not rows:
            return
        embedding = self.core.read_many(features, [tree.bank(node, self.frame) for tree, node in rows])
        answer = self.core.decode(embedding, features)
        values = zip(answer.ious.tolist(), answer.score.tolist(), strict=True)
        measured = {node: value for (_, node), value in zip(rows, values, strict=True)}
        branches: list[tuple[MemoryTree, Branch]] = [
            (tree, branch) for tree in trees for branch in tree.choose({node: measured[node] for node in tree.nodes})
        ]
        row_of = {node: row for row, (_, node) in enumerate(rows)}
        index = torch.tensor([row_of[branch.parent] for _, branch in branches], device=embedding.device)
        candidate = torch.tensor([branch.candidate for _, branch in branches], device=embedding.device)
        picked = answer.rows(index).pick(candidate)
        maps = self._memories(features, picked)
        for tree in trees:
            mine = [i for i, (owner, _) in enumerate(branches) if owner is tree]
            chosen = [picked.rows(torch.tensor([i], device=index.device)) for i in mine]
            tree.grow(self.frame, [branches[i][1] for i in mine], chosen, [maps[i : i + 1] for i in mine])

    def _memories(self, features: FrameFeatures, picked: Candidates) -> Tensor:
        """Memory maps as SAM 2 keeps them, in bfloat16."""
        return self.core.encode_memory(features, picked).bfloat16()

    def _prompt(self, features: FrameFeatures, prompt: Prompt) -> None:
        """Remember a prompted frame or query image."""
        answer = self._taken(features, prompt)
        tree = self.trees.setdefault(prompt.target, MemoryTree(self.settings, self.max_pointers))
        memory = self._memories(features, answer)
        if prompt.image is None:
            tree.prompt(self.frame, answer, memory)
        else:
            tree.query(self.frame, answer, memory)

    def _collect(self, target: int, tree: MemoryTree, max_lag: int | None) -> None:
        for node in tree.decided(max_lag):
            self._decided[node.frame][target] = node

    def _answers(self, max_lag: int | None) -> list[FrameMasks]:
        """The frames, in order, whose targets are all decided."""
        for target, tree in self.trees.items():
            self._collect(target, tree, max_lag)
        return self._released()
