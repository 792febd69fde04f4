"""HQ-SMem on a stream: every frame is answered at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inference.session import Session
from common.video import FrameMasks, Prompt
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.gate import Refiner, label_map
from methods.hqsmem.tracker import Tracker

Feature = Literal["lstt_kv", "encoder", "dino"]


class HQSMemSession(Session):
    """Frame in, masks out. Targets are given by masks, may join at any frame and be dropped.

    A frame is predicted, its masks are refined, and what came of it is answered and written to memory (section 6.4). A
    later mask of a followed target replaces its answer on that frame and is memorised.

    Args:
        tracker: the base tracker, with its memory and policy.
        refiner: SAM-HQ and DINO; None = masks as predicted.
        feature: what the memory measures relevance on: the ``lstt_kv`` that it stores, the projected ``encoder`` map,
            or the ``dino`` tokens, with memory per object those of each mask.
        dino: of the last of these.
        overlap: answer accepted masks as they are, as VOTS scores them; else no two masks share a pixel. What is
            written to memory never overlaps.
    """

    def __init__(
        self,
        tracker: Tracker,
        refiner: Refiner | None = None,
        feature: Feature = "lstt_kv",
        dino: DINO | None = None,
        overlap: bool = False,
    ) -> None:
        if feature == "dino" and dino is None:
            raise ValueError("relevance on DINO features needs a DINO")
        self.tracker, self.refiner, self.feature, self.dino, self.overlap = tracker, refiner, feature, dino, overlap
        self.reset()

    def reset(self) -> None:
        """Forget everything: the session is as new."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self.tracker.reset()

    @torch.inference_mode()
    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Raises:
            InputError: a frame of another size, or a prompt that is no mask on the frame, or the second of its target;
                the session is then as if the frame had not been given.
        """
        self.size = size = self.check(frame, prompts)
        self.frame += 1
        given = {p.target: p.mask.to(frame.device) for p in prompts if p.mask is not None}
        joined = tuple(sorted(given.keys() - set(self.tracker.targets)))
        prob = self.tracker.predict(frame)
        before = self.tracker.targets
        if not before + joined:
            return [FrameMasks(self.frame, (), frame.new_zeros(0, *size, dtype=torch.bool), torch.zeros(0))]
        tokens = self._tokens(frame, bool(joined))
        masks = prob.argmax(0) == torch.arange(1, len(before) + 1, device=prob.device)[:, None, None]
        if self.refiner is not None and before:
            predicted = [row for row, target in enumerate(before) if target not in given]
            masks[predicted] = self.refiner(frame, masks[predicted], tokens).masks
        targets, prob = (*before, *joined), F.pad(prob[1:], (0, 0, 0, 0, 0, len(joined)))
        masks = F.pad(masks, (0, 0, 0, 0, 0, len(joined)))
        for target, mask in given.items():
            row = targets.index(target)
            masks[row], prob[row] = mask, mask * 2.0  # over any probability: what is given is not contested
        labels = label_map(masks, prob, targets)
        self.tracker.write(labels, joined, self._descriptors(labels, targets, tokens, bool(joined)))
        return [self._answer(masks, prob, labels, targets)]

    def finish(self) -> list[FrameMasks]:
        """Nothing is ever left open."""
        return []

    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on.

        Raises:
            InputError: the target is not followed.
        """
        self.tracker.drop(target)

    def _answer(self, masks: Tensor, prob: Tensor, labels: Tensor, targets: tuple[int, ...]) -> FrameMasks:
        """Targets in order; the score is the largest probability that the base tracker gave."""
        order = sorted(range(len(targets)), key=targets.__getitem__)
        ids = tuple(targets[row] for row in order)
        shown = masks[order] if self.overlap else labels == torch.tensor(ids, device=labels.device)[:, None, None]
        return FrameMasks(self.frame, ids, shown, prob[order].amax((1, 2)).clamp(max=1).float())

    def _tokens(self, frame: Tensor, joined: bool) -> Tensor | None:
        """DINO's tokens of the frame where memory will want them; the refiner can use them too."""
        wanted = self.feature == "dino" and (joined or self.tracker.due())
        return self.dino.encode(frame) if wanted and self.dino is not None else None

    def _descriptors(
        self, labels: Tensor, targets: tuple[int, ...], tokens: Tensor | None, joined: bool
    ) -> dict[int, Tensor] | None:
        """What the long-term memory is to measure relevance on, if not on what it stores; see ``Tracker.write``."""
        if self.feature == "lstt_kv" or not (joined or self.tracker.due()):
            return None
        ids = (0, *targets)
        if self.feature == "encoder":
            assert self.tracker.features is not None
            return dict.fromkeys(ids, self.tracker.features.tokens[0].mean(0))
        assert tokens is not None
        assert self.dino is not None
        masks = labels == torch.tensor(ids, device=labels.device)[:, None, None]
        if not self.tracker.memory.per_object:
            masks[0] = True
        return dict(zip(ids, self.dino.describe(tokens, masks)[0], strict=True))
