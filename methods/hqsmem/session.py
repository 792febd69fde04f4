"""HQ-SMem on a stream of frames; each frame is answered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inference.session import Frame, Session, check_tracked, module_device
from common.video import FrameMasks, Prompt
from common.video.masks import without_overlap
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.gate import Refiner, label_map
from methods.hqsmem.tracker import Tracker

Feature = Literal["lstt_kv", "encoder", "dino"]


@dataclass
class LastFrame:
    """The last frame, not yet written to memory.

    Attributes:
        masks: bool (N, H, W), which may overlap.
        prob: float (N, H, W) of the base tracker; above 1 in given masks.
        targets: N ids, those of the tracker and then the new ones.
        new_targets: annotated on this frame for the first time.
        tokens: DINO's, where the memory needs them.
        given: the user's masks bool (H, W), by target.
        dropped: targets to be dropped after it.
    """

    masks: Tensor
    prob: Tensor
    targets: tuple[int, ...]
    new_targets: tuple[int, ...]
    tokens: Tensor | None
    given: dict[int, Tensor] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)

    @property
    def labels(self) -> Tensor:
        """The target of each pixel, int (H, W), 0 the background."""
        return label_map(self.masks, self.prob, self.targets)

    def give(self, masks: Mapping[int, Tensor]) -> None:
        """Overwrite masks of targets by the user's; a pixel of two given masks belongs to the smaller one.

        Args:
            masks: target -> bool (H, W).
        """
        self.given |= masks
        owned = without_overlap(torch.stack(list(self.given.values())))
        for (target, mask), own in zip(self.given.items(), owned, strict=True):
            row = self.targets.index(target)
            # Above any probability, so that annotated masks win every contested pixel.
            self.masks[row], self.prob[row] = mask, mask * 2.0 + own


class HQSMemSession(Session):
    """Inference on one video. Targets are given by masks, at any frame, and can be dropped.

    A frame is predicted, its masks are refined, and the result is both answered and written to memory (eq. 1, 8 to 10).
    A further mask of a followed target replaces its prediction on that frame, in the answer and in memory. The frame is
    written when the next one comes, so that it can be corrected until then.

    Args:
        tracker: the base tracker, with its memory and policy.
        refiner: SAM-HQ and DINO; None leaves the masks as predicted.
        feature: what relevance (eq. 3) is measured on: the stored keys and values (``lstt_kv``), the mean of the
            projected encoder map (``encoder``), or DINO's tokens (``dino``), averaged over the frame or, where memory
            is per object, over each mask.
        dino: encoder, required by ``feature="dino"``.
        overlap: answer accepted masks as they are, as VOTS scores them; else no two masks share a pixel. Masks written
            to memory never overlap.

    Raises:
        ValueError: ``feature="dino"`` without ``dino``.
    """

    correction_kinds = ("mask",)
    settable = ("overlap",)

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
        """Return to the state of a new session."""
        self.frame = -1
        self.size: tuple[int, int] | None = None
        self._last: LastFrame | None = None
        self.tracker.reset()

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return module_device(self.tracker.network)

    @torch.inference_mode()
    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        """Take the next frame; see ``Session.step``.

        Args:
            frame: uint8 (H, W, 3).
            prompts: at most one mask for each target.

        Raises:
            InputError: a frame of another size, a prompt that is not a mask of the frame's size, or a second prompt of
                a target; the state of the session is unchanged then.
        """
        frame, size = self.check(frame, prompts)
        self.size = size
        self._write_last()
        self.frame += 1
        prompt_masks = {p.target: p.mask.to(frame.device) for p in prompts if p.mask is not None}
        new_targets = tuple(sorted(prompt_masks.keys() - set(self.tracker.targets)))
        prob = self.tracker.predict(frame)
        old_targets = self.tracker.targets
        if not old_targets + new_targets:
            return [FrameMasks(self.frame, (), frame.new_zeros(0, *size, dtype=torch.bool), torch.zeros(0))]
        # Encoded before the refinement, so that the gate and the memory share one pass of DINO.
        tokens = self._dino_tokens(frame, bool(new_targets))
        masks = prob.argmax(0) == torch.arange(1, len(old_targets) + 1, device=prob.device)[:, None, None]
        if self.refiner is not None and old_targets:
            rows = [row for row, target in enumerate(old_targets) if target not in prompt_masks]
            masks[rows] = self.refiner(frame, masks[rows], tokens).masks
        # New targets get rows of zeros, which their annotated masks fill.
        prob = F.pad(prob[1:], (0, 0, 0, 0, 0, len(new_targets)))
        masks = F.pad(masks, (0, 0, 0, 0, 0, len(new_targets)))
        self._last = LastFrame(masks, prob, (*old_targets, *new_targets), new_targets, tokens)
        if prompt_masks:
            self._last.give(prompt_masks)
        return [self._answer(self._last)]

    @torch.inference_mode()
    def correct(self, prompts: Sequence[Prompt]) -> FrameMasks:
        """Replace masks of the last frame, in the answer and in memory; see ``Session.correct``.

        Raises:
            InputError: see ``Session.check_correction``; the session is unchanged.
        """
        self.check_correction(prompts, self._targets)
        assert self._last is not None
        self._last.give({p.target: p.mask.to(self._last.masks.device) for p in prompts if p.mask is not None})
        return self._answer(self._last)

    def finish(self) -> list[FrameMasks]:
        """Return nothing: every frame has been answered."""
        return []

    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self._targets)
        assert self._last is not None
        self._last.dropped.append(target)

    @property
    def _targets(self) -> tuple[int, ...]:
        """Ids of the targets of the last frame that have not been dropped."""
        last = self._last
        return () if last is None else tuple(target for target in last.targets if target not in last.dropped)

    def _write_last(self) -> None:
        """Write the last frame to memory, then drop the targets that were dropped after it."""
        last, self._last = self._last, None
        if last is None:
            return
        labels = last.labels
        descriptors = self._descriptors(labels, last.targets, last.tokens, bool(last.new_targets))
        self.tracker.write(labels, last.new_targets, descriptors)
        for target in last.dropped:
            self.tracker.drop(target)

    def _answer(self, last: LastFrame) -> FrameMasks:
        """Sort targets by id; the score is the largest probability that the base tracker predicts for a target."""
        order = sorted(range(len(last.targets)), key=last.targets.__getitem__)
        ids = tuple(last.targets[row] for row in order)
        exclusive = last.labels == torch.tensor(ids, device=last.masks.device)[:, None, None]
        answer = last.masks[order] if self.overlap else exclusive
        return FrameMasks(self.frame, ids, answer, last.prob[order].amax((1, 2)).clamp(max=1).float())

    def _dino_tokens(self, frame: Tensor, is_reference: bool) -> Tensor | None:
        """Encode the frame where memory needs DINO's tokens on it; the refiner then reuses them."""
        needed = self.feature == "dino" and (is_reference or self.tracker.update_due())
        return self.dino.encode(frame) if needed and self.dino is not None else None

    def _descriptors(
        self, labels: Tensor, targets: tuple[int, ...], tokens: Tensor | None, is_reference: bool
    ) -> dict[int, Tensor] | None:
        """Return the vectors on which the memory measures relevance, see ``Tracker.write``; None for its own."""
        if self.feature == "lstt_kv" or not (is_reference or self.tracker.update_due()):
            return None
        ids = (0, *targets)
        if self.feature == "encoder":
            assert self.tracker.features is not None
            return dict.fromkeys(ids, self.tracker.features.tokens[0].mean(0))
        assert tokens is not None
        assert self.dino is not None
        masks = labels == torch.tensor(ids, device=labels.device)[:, None, None]
        if not self.tracker.memory.per_object:
            masks[0] = True  # entry 0 is the whole frame then, not the background
        return dict(zip(ids, self.dino.describe(tokens, masks)[0], strict=True))
