"""SAM 2's training pass over clips: prompted frames first, then the others in order, losses at every step."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.nn.losses import sam2_losses
from common.nn.preprocessing import resize_logits
from common.nn.sam2.model import SAM2
from common.nn.sam2.prompts import PromptSampling, correction_click, first_click, noisy_box
from common.nn.sam2.types import LOGIT_LIMIT, MAX_POINTERS, PROMPT_SLOT, TRACKED_MAPS, Bank, Candidates, FrameFeatures

QUERY = -1  # frame index of a query image: one frame before the clip


class ClipPass:
    """One training pass over one batch; the objects of all clips form one batch axis B.

    Where the clip has query images, their masks are the only prompts: the memory of a query takes the place of that of
    a prompted frame, and every frame of the clip is tracked, whether it shows the target or not.

    Args:
        model: SAM 2.
        clip: the batch.
        sampling: simulated prompts.
        loss_stride: masks are compared at the input's resolution divided by this; 1 in SAM 2. At full resolution the
            losses take 40 % of the time of a small network on a CPU.
        loss: options of ``sam2_losses``.
    """

    def __init__(self, model: SAM2, clip: Clip, sampling: PromptSampling, loss_stride: int = 1, **loss: Any) -> None:
        self.model, self.clip, self.sampling, self.loss_stride, self.loss = model, clip, sampling, loss_stride, loss
        batch, self.frames = clip.frames.shape[:2]
        self.clip_of, self.slot = clip.valid.nonzero(as_tuple=True)
        images = model.preprocess(clip.frames.flatten(0, 1)).unflatten(0, (batch, self.frames))
        self.features = model.encode(images.transpose(0, 1).flatten(0, 1))
        side = (model.image_size, model.image_size)
        masks = clip.masks[self.clip_of, :, self.slot].float()
        self.truth = F.interpolate(masks, side, mode="nearest").bool()  # (B, T, S, S)
        self.batch = batch
        self.terms: dict[str, list[Tensor]] = defaultdict(list)
        self.memories: dict[int, tuple[Tensor, Tensor]] = {}  # frame -> (map, pointer)
        self.prompted: list[int] = []

    def run(self) -> dict[str, Tensor]:
        """Run the pass and return SAM 2's four loss terms, summed over frames and steps, mean over objects."""
        corrected = self._prompt_frames() if self.clip.query is None else self._take_query()
        for frame in (t for t in range(self.frames) if t not in self.prompted):
            self._track(frame, frame in corrected)
        if (most := self.sampling.prompt_only_frames) and self.clip.query is None:
            for frame in torch.randperm(self.frames)[:most].tolist():
                self._prompt_only(frame)
        objects = max(len(self.clip_of), 1)
        return {name: torch.stack(values).sum() / objects for name, values in self.terms.items()}

    def _prompt_frames(self) -> list[int]:
        """Draw the prompted frames and predict them from their prompts.

        Returns:
            The frames that get correction clicks.
        """
        by_points = bool(torch.rand(()) < self.sampling.points)
        by_box = bool(torch.rand(()) < self.sampling.box)
        self.prompted = self._draw(self.sampling.prompted_frames)
        by_points |= len(self.prompted) == self.frames  # masks on every frame would leave nothing to learn
        corrected = self._draw(self.sampling.corrected_frames) if by_points else []
        for frame in self.prompted:
            self._prompt(frame, by_points, by_box, frame in corrected)
        return corrected

    def _take_query(self) -> list[int]:
        """Encode the query images with their masks as prompted memory.

        Returns:
            The frames that get correction clicks: none.
        """
        assert self.clip.query is not None
        assert self.clip.query_masks is not None
        images, masks = (kind[self.clip_of, self.slot] for kind in (self.clip.query, self.clip.query_masks))
        features = self.model.encode(self.model.preprocess(images))
        masks = F.interpolate(masks[:, None].float(), (self.model.image_size,) * 2, mode="nearest")
        self._remember(QUERY, features, self.model.take_mask(features, masks))
        self.prompted = [QUERY]
        return []

    def _draw(self, most: int) -> list[int]:
        """Draw the first frame and up to ``most`` - 1 other frames, sorted."""
        count = int(torch.randint(1, most + 1, ())) if most > 1 else 1
        later = (torch.randperm(self.frames - 1)[: count - 1] + 1).tolist()
        return sorted([0, *later])

    def _prompt(self, frame: int, by_points: bool, by_box: bool, corrected: bool) -> None:
        """Predict a frame from its prompt without memory, and memorise it."""
        features, truth = self._frame(frame), self.truth[:, frame]
        if not by_points:
            answer = self.model.take_mask(features, truth[:, None].float())
            self._supervise(answer, truth)
            self._remember(frame, features, answer)
            return
        points, labels = noisy_box(truth) if by_box else first_click(truth)
        embedding = self.model.without_memory(features)
        answer = self.model.decode(embedding, features, points, labels, multimask=points.shape[1] == 1)
        self._supervise(answer, truth)
        if corrected:
            answer = self._correct(answer, embedding, features, truth, points, labels)
        self._remember(frame, features, answer.best())

    def _track(self, frame: int, corrected: bool) -> None:
        """Predict a frame from memory, and memorise it; a corrected frame counts as prompted from then on."""
        features, truth = self._frame(frame), self.truth[:, frame]
        embedding = self.model.read(features, self._bank(frame))
        answer = self.model.decode(embedding, features)
        self._supervise(answer, truth)
        if corrected:
            answer = self._correct(answer, embedding, features, truth)
            self.prompted.append(frame)
        self._remember(frame, features, answer.best())

    def _prompt_only(self, frame: int) -> None:
        """Supervise a box and a click with corrections on the visible objects of a frame, without storing a memory."""
        truth = self.truth[:, frame]
        rows = truth.flatten(1).any(1).nonzero()[:, 0]
        if not len(rows):
            return
        features, truth = self.features.select(frame * self.batch + self.clip_of[rows]), truth[rows]
        embedding = self.model.without_memory(features)
        self._supervise(self.model.decode(embedding, features, *noisy_box(truth), multimask=False), truth)
        points, labels = first_click(truth)
        answer = self.model.decode(embedding, features, points, labels)
        self._supervise(answer, truth)
        self._correct(answer, embedding, features, truth, points, labels, self.sampling.prompt_only_clicks)

    def _correct(
        self,
        answer: Candidates,
        embedding: Tensor,
        features: FrameFeatures,
        truth: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        clicks: int | None = None,
    ) -> Candidates:
        """Simulate correction clicks on a frame; each prediction is fed back to the next as a mask prompt.

        Args:
            answer: the prediction to correct.
            embedding: of the frame, conditioned on memory or not.
            features: of the frame.
            truth: bool (B, S, S).
            points: of the frame's first prompt, to which the clicks are added.
            labels: of the frame's first prompt.
            clicks: number of clicks; default: that of the sampling.

        Returns:
            The last prediction.
        """
        for _ in range(self.sampling.clicks if clicks is None else clicks):
            best = answer.best()
            if torch.rand(()) < self.sampling.from_truth:
                point, label = first_click(truth)
            else:
                point, label = correction_click(self._upsample(best.visible_logits)[:, 0] > 0, truth)
            points = point if points is None else torch.cat([points, point], 1)
            labels = label if labels is None else torch.cat([labels, label], 1)
            fed = self.sampling.feed_back == 1 or bool(torch.rand(()) < self.sampling.feed_back)
            mask = best.visible_logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).to(embedding.dtype) if fed else None
            answer = self.model.decode(embedding, features, points, labels, mask, multimask=points.shape[1] == 1)
            self._supervise(answer, truth)
        return answer

    def _bank(self, frame: int) -> Bank:
        """Return the memories that a frame reads: all prompted frames, later ones too, and earlier tracked frames."""
        bank = Bank(max_pointers=min(max(self.frames, 2), MAX_POINTERS))
        tracked = [t for t in range(frame) if t not in self.prompted]
        for t in self.prompted:
            bank.maps.append(self.memories[t][0])
            bank.slots.append(PROMPT_SLOT)
        for t in tracked:
            if frame - t <= TRACKED_MAPS:
                bank.maps.append(self.memories[t][0])
                bank.slots.append(frame - t - 1)
        for t in [*self.prompted, *(t for t in reversed(tracked) if frame - t < bank.max_pointers)]:
            bank.pointers.append(self.memories[t][1])
            bank.offsets.append(float(frame - t))
        return bank

    def _remember(self, frame: int, features: FrameFeatures, chosen: Candidates) -> None:
        self.memories[frame] = (self.model.encode_memory(features, chosen), chosen.pointers[:, 0])

    def _supervise(self, answer: Candidates, truth: Tensor) -> None:
        logits = self._upsample(answer.logits, self.loss_stride)
        if self.loss_stride > 1:
            truth = F.avg_pool2d(truth[:, None].float(), self.loss_stride)[:, 0] >= 0.5
        for name, value in sam2_losses(logits, answer.ious, answer.score, truth, **self.loss).items():
            self.terms[name].append(value)

    def _upsample(self, logits: Tensor, stride: int = 1) -> Tensor:
        side = self.model.image_size // stride
        return resize_logits(logits.float(), (side, side))

    def _frame(self, frame: int) -> FrameFeatures:
        return self.features.select(frame * self.batch + self.clip_of)
