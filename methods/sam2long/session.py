"""Streaming inference of SAM2Long, SAMURAI and DAM4SAM: one memory per target, all fed by one pass over each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.errors import InputError
from common.inference.session import Frame, check_tracked
from common.nn.sam2 import SAM2, Candidates, FrameFeatures
from common.nn.sam2.postprocess import PLAIN, PostProcessing
from common.nn.sam2.session import ReadFrame, SAM2Session
from common.nn.sam2.types import CLEARED, MAX_POINTERS
from common.nn.transfer import to_device, to_host
from common.video import FrameMasks, Prompt
from methods.sam2long.dam4sam import DAM4SAMSettings, DistractorAwareMemory
from methods.sam2long.pathways import Branch, Memory, Node, Prediction, TargetMemory
from methods.sam2long.picks import TreeSettings
from methods.sam2long.samurai import SamuraiMemory, SamuraiSettings
from methods.sam2long.tree import MemoryTree

MemorySettings = TreeSettings | SamuraiSettings | DAM4SAMSettings
"""Hyper-parameters of a memory rule; their class says which."""


def new_memory(settings: MemorySettings, max_pointers: int) -> TargetMemory:
    """Return the empty memory of a new target."""
    if isinstance(settings, SamuraiSettings):
        return SamuraiMemory(settings, max_pointers)
    if isinstance(settings, DAM4SAMSettings):
        return DistractorAwareMemory(settings, max_pointers)
    return MemoryTree(settings, max_pointers)


@dataclass
class AheadPrompt:
    """A prompt on a frame that has not been taken.

    Attributes:
        prompt: as given.
        decoded: B = 1, K = 3 where the prompt is one point, else K = 1.
        answer: the prediction, B = 1, K = 1.
        memory: of the frame.
    """

    prompt: Prompt
    decoded: Candidates
    answer: Candidates
    memory: Memory


@dataclass
class LastFrame(ReadFrame):
    """What corrections of the last frame need; the embeddings are those of the best pathways.

    Attributes:
        answers: the leaf of the best pathway of every target on the frame.
    """

    answers: dict[int, Node] = field(default_factory=dict)


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
        options: post-processing.
    """

    correction_kinds = ("mask", "box", "points")

    def __init__(
        self,
        sam2: SAM2,
        settings: MemorySettings,
        max_lag: int | None = None,
        length: int | None = None,
        options: PostProcessing = PLAIN,
    ) -> None:
        self.settings, self.max_lag = settings, max_lag
        self.max_pointers = min(max(length or MAX_POINTERS, 2), MAX_POINTERS)
        self.ahead_kinds = () if isinstance(settings, DAM4SAMSettings) else self.kinds
        super().__init__(sam2, options)

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        super().reset()
        self.trees: dict[int, TargetMemory] = {}
        self._ahead: dict[int, dict[int, AheadPrompt]] = {}  # frame not yet taken -> target -> its prompt there
        self._last: LastFrame | None = None  # what corrections of the last frame need

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: see ``Session.check``; the session is then as if the frame had not been given.
        """
        frame, self.size = self.check(frame, prompts)
        self.frame += 1
        for prompt in prompts:
            if prompt.image is not None:
                self._prompt(self._encode(prompt.image.to(frame.device)), prompt)
        on_frame = [prompt for prompt in prompts if prompt.image is None]
        ahead = self._ahead.pop(self.frame, {})
        self._last = None
        if self.trees or on_frame or ahead:
            self._last = LastFrame(features := self._encode(frame))
            corrected = [p for p in on_frame if p.mask is None and (p.target in self.trees or p.target in ahead)]
            fresh = [p for p in on_frame if p not in corrected]
            prompted = {prompt.target for prompt in fresh} | ahead.keys()
            self._track(features, {target: tree for target, tree in self.trees.items() if target not in prompted})
            for target, given in ahead.items():
                self._start(target).answer(self.frame, given.answer)
                self._remember_prompt(given.prompt, given.decoded)
            for prompt in fresh:
                self._prompt(features, prompt)
            for prompt in corrected:
                self._correct(self._last, prompt)
            self._last.answers = {target: tree.pathways[0].node for target, tree in self.trees.items()}
        self._pending[self.frame] = tuple(sorted(self.trees))
        return self._answers(self.max_lag)

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Correct the answer for the last frame; see ``Session.correct``.

        As in the ``sam2`` package, see ``_decode_correction``. With several pathways the memory and the logits are
        those of the best one, and the answer is that of all.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        last = self._last
        self.check_correction(prompts, last.answers if last else ())
        assert last is not None
        for prompt in prompts:
            check_tracked(prompt.target, self.trees)  # it may have been dropped since
        for prompt in prompts:
            self._correct(last, prompt)
            last.answers[prompt.target] = self.trees[prompt.target].pathways[0].node
        return self._last_masks(last)

    @torch.inference_mode()
    def clear(self, target: int) -> FrameMasks:
        """Forget what the user said about a target on the last frame; the answer stays as it is.

        As in the ``sam2`` package: the memory of a prompted frame becomes that of a tracked one. On the first frame of
        the target nothing else is known about it, so that it is to be dropped or prompted anew instead.

        Args:
            target: its id.

        Returns:
            The answer for the last frame, with all its targets.

        Raises:
            InputError: the target is not on the last frame, or no other prompt of it is left.
        """
        last = self._last
        check_tracked(target, last.answers if last else ())
        check_tracked(target, self.trees)
        assert last is not None
        tree = self.trees[target]
        if all(memory.frame == self.frame for memory in tree.prompted):
            raise InputError(
                f"target {target} has no prompt but those on frame {self.frame}; drop it, or prompt it there anew"
            )
        tree.clear(self.frame)
        last.points.pop(target, None)
        self._given[self.frame].discard(target)
        self._candidates[self.frame].pop(target, None)
        return self._last_masks(last)

    @torch.inference_mode()
    def prompt_ahead(self, index: int, frame: Frame, prompts: Sequence[Prompt]) -> None:
        """Give the prompts of a later frame in advance, so that earlier frames read them.

        As in the ``sam2`` package where prompts on several frames are given before tracking: the later frame is decoded
        without memory, and all frames from the target's first prompt on read its map, those after it its pointer too.
        A target starts on the first frame on which it is prompted.

        Args:
            index: of the frame, which has not been taken.
            frame: uint8 RGB (H, W, 3), see ``Frame``.
            prompts: on the frame, none of them on an outside image.

        Raises:
            InputError: the frame has been taken, a prompt of the target on it has been given, a prompt lies on an
                outside image, the memory is DAM4SAM's, or see ``Session.check``; the session is unchanged.
        """
        if not self.ahead_kinds:
            raise InputError("the memory of DAM4SAM reads prompted frames of the past only; give prompts in time")
        if index <= self.frame:
            raise InputError(f"frame {index} has been taken; give its prompts with it, or correct the last frame")
        frame, size = self._check_frame(frame, index)
        self._check_prompts(prompts, index, size, self.ahead_kinds, ())
        for prompt in prompts:
            if prompt.target in self._ahead.get(index, {}):
                raise InputError(f"frame {index}: target {prompt.target} has a prompt there already")
        self.size = size
        features = self._encode(frame)
        for prompt in prompts:
            decoded = self._decode_prompt(features, prompt)
            answer = self._clean(decoded.best())
            memory = Memory(
                index, answer.pointers[:, 0], float(answer.score), self._encode_memory(features, answer, prompted=True)
            )
            self._ahead.setdefault(index, {})[prompt.target] = AheadPrompt(prompt, decoded, answer, memory)
            if prompt.target in self.trees:
                self.trees[prompt.target].prompted.append(memory)

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
        for given in self._ahead.values():
            given.pop(target, None)

    def _track(self, features: FrameFeatures, tracked: dict[int, TargetMemory]) -> None:
        """Track targets on a frame; every distinct pathway of every target is a row of one batch.

        Args:
            features: of the frame.
            tracked: of the targets, by id.
        """
        trees = list(tracked.values())
        rows = [(tree, node) for tree in trees for node in tree.nodes]
        if not rows:
            return
        embedding = self.sam2.read_many(features, [tree.bank(node, self.frame) for tree, node in rows])
        candidates = self.sam2.decode(embedding, features, presence=self.settings.presence)
        ious, scores = to_host(candidates.ious, candidates.score)
        count = candidates.ious.shape[1]
        predictions = {
            node: Prediction(ious[row * count : (row + 1) * count], scores[row], logits)
            for row, ((_, node), logits) in enumerate(zip(rows, candidates.visible_logits, strict=True))
        }
        assert self.size is not None
        branches: list[tuple[TargetMemory, Branch]] = [
            (tree, branch)
            for tree in trees
            for branch in tree.choose({node: predictions[node] for node in tree.nodes}, self.size)
        ]
        row_of = {node: row for row, (_, node) in enumerate(rows)}
        chosen = [(row_of[branch.parent], branch.candidate) for _, branch in branches]
        index, choice = to_device(torch.tensor(chosen).T, embedding.device)
        picked = candidates.rows(index).pick(choice)
        maps = self._encode_memory(features, picked)
        picked = self._clean(picked)
        for tree in trees:
            of_tree = [i for i, (owner, _) in enumerate(branches) if owner is tree]
            tree.grow(
                self.frame,
                [branches[i][1] for i in of_tree],
                predictions,
                [picked.row(i) for i in of_tree],
                [maps[i : i + 1] for i in of_tree],
            )
        assert self._last is not None
        for target, tree in tracked.items():
            row = next(row_of[b.parent] for owner, b in branches if owner is tree and 0 in b.totals)
            self._last.embeddings[target] = embedding[row : row + 1].clone()

    def _encode_memory(self, features: FrameFeatures, picked: Candidates, prompted: bool = False) -> Tensor:
        """Encode memory maps and store them in bfloat16, as SAM 2 does."""
        binarize = prompted and self.options.binarize_clicks
        return self.sam2.encode_memory(features, picked, binarize).bfloat16()

    def _start(self, target: int) -> TargetMemory:
        """Return the memory of a target; a new one holds what was given ahead."""
        if target not in self.trees:
            tree = new_memory(self.settings, self.max_pointers)
            tree.max_prompted = self.options.max_prompted_frames
            ahead = (given[target] for given in self._ahead.values() if target in given)
            tree.prompted += [given.memory for given in ahead]
            self.trees[target] = tree
        return self.trees[target]

    def _remember_prompt(self, prompt: Prompt, decoded: Candidates) -> None:
        """Keep what corrections of a frame of the video need to know about its prompt."""
        self._note(prompt, decoded)
        assert self._last is not None
        if prompt.mask is None:
            self._last.points[prompt.target] = self._points(prompt)
        if self.options.clear_around_input:
            self.trees[prompt.target].forget_around(self.frame, CLEARED)

    def _correct(self, last: LastFrame, prompt: Prompt) -> None:
        """Correct a target on the last frame."""
        tree = self.trees[prompt.target]
        decoded = self._decode_correction(last, prompt, tree.pathways[0].node.logits)
        answer = self._clean(decoded.best())
        self._note(prompt, decoded)
        memory = self._encode_memory(last.features, answer, prompted=True)
        tree.correct(self.frame, answer, memory, self.options.corrections_as_prompts)
        if self.options.clear_around_input:
            tree.forget_around(self.frame, CLEARED)

    def _last_masks(self, last: LastFrame) -> FrameMasks:
        """Return the answer for the last frame."""
        targets = tuple(sorted(last.answers))
        return self._masks(self.frame, targets, [last.answers[target] for target in targets])

    def _prompt(self, features: FrameFeatures, prompt: Prompt) -> None:
        """Add a prompted frame or query image to the tree of its target."""
        decoded = self._decode_prompt(features, prompt)
        answer = self._clean(decoded.best())
        tree = self._start(prompt.target)
        memory = self._encode_memory(features, answer, prompted=True)
        if prompt.image is None:
            tree.prompt(self.frame, answer, memory)
            self._remember_prompt(prompt, decoded)
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
