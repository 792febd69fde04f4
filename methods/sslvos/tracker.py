"""All targets of a video at one size: when to read, decode and remember, in the order that Cutie does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.nn.aggregate import soft_aggregate
from common.nn.preprocessing import crop_padding, pad_to_multiple, resize_frame, resize_logits, resize_mask
from methods.sslvos.cutie.core import FrameFeatures, SSLVOSNetwork
from methods.sslvos.memory import TokenBank
from methods.sslvos.settings import MemorySettings


def inner_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Return the size at which a frame is processed: never enlarged, aspect ratio kept, the long side rounded down.

    Args:
        size: (H, W) of the video.
        short_side: the largest short side, in pixels; None = any.

    Returns:
        (h, w).
    """
    height, width = size
    short = min(size)
    if short_side is None or short <= short_side:
        return height, width
    return short_side * height // short, short_side * width // short


@dataclass
class Group:
    """Targets that joined on the same frame: they share a bank, and see each other in the object transformer."""

    bank: TokenBank
    count: int


class Tracker:
    """Frames in, probabilities out; targets in the order in which they joined.

    Memory is the banks, one sensory map and one object memory a target: bounded whatever the length of the video.

    Args:
        core: in eval mode.
        memory: budget and rhythm.
        side: frames whose short side is longer are shrunk to it; None = never.
        flip: average over the frame and its mirror image.
    """

    def __init__(self, core: SSLVOSNetwork, memory: MemorySettings, side: int | None = 480, flip: bool = False) -> None:
        self.core, self.memory, self.side, self.flip = core, memory, side, flip
        steps = torch.linspace(1, memory.every, min(memory.stagger, memory.every))
        self.update_at = set(steps.round().int().tolist())
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.targets: list[int] = []
        self.groups: list[Group] = []
        self.since = 0  # frames since the last memorised one
        self.sensory = self.objects = self.last = torch.empty(0)

    def step(self, frame: Tensor, given: Mapping[int, Tensor]) -> Tensor:
        """Follow the targets on the next frame.

        Args:
            frame: uint8 RGB (H, W, 3).
            given: masks bool (H, W) that hold on this frame, of followed or new targets; some target must be known.

        Returns:
            float32 (N + 1, H, W), shares of background and targets, those that join now last.
        """
        self.since += 1
        full, multiple = (frame.shape[0], frame.shape[1]), self.core.encoder.multiple
        size = inner_size(full, self.side)
        image = pad_to_multiple(resize_frame(frame, size), multiple)
        features = self.core.encode(torch.cat([image, image.flip(-1)]) if self.flip else image)
        known = len(self.targets)
        prob = torch.empty(0, *image.shape[-2:], device=image.device)
        if known and not given.keys() >= set(self.targets):
            prob = self._predict(features)
        if given:
            masks = torch.stack([resize_mask(mask.to(frame.device), size) for mask in given.values()]).float()
            prob = self._take(prob[1:], list(given), pad_to_multiple(masks, multiple))
        self._remember(features, prob, bool(given), known)
        prob = crop_padding(prob, size, multiple)
        return prob if size == full else resize_logits(prob[None], full)[0]

    def drop(self, target: int) -> None:
        """Forget a target."""
        row = self.targets.index(target)
        left = [i for i in range(len(self.targets)) if i != row]
        if not left:
            self.reset()
            return
        del self.targets[row]
        self.sensory, self.objects, self.last = self.sensory[:, left], self.objects[:, left], self.last[:, left]
        for group in self.groups:
            if row < group.count:
                group.bank.keep([i for i in range(group.count) if i != row])
                group.count -= 1
                break
            row -= group.count
        self.groups = [group for group in self.groups if group.count]

    def _predict(self, features: FrameFeatures) -> Tensor:
        """Shares (N + 1, H, W) of the targets followed."""
        counts = [group.count for group in self.groups]
        states = zip(*(x.split(counts, 1) for x in (self.sensory, self.last, self.objects)), strict=True)
        pixels = [
            self.core.attend(features, group.bank.read(features), sensory, last, objects)[0]
            for group, (sensory, last, objects) in zip(self.groups, states, strict=True)
        ]
        update = self.since in self.update_at
        logits, self.sensory = self.core.decode(features, torch.cat(pixels, 1), self.sensory, update)
        prob = logits.softmax(1)
        return (prob[0] + prob[1].flip(-1)) / 2 if self.flip else prob[0]

    def _take(self, prob: Tensor, given: list[int], masks: Tensor) -> Tensor:
        """Put given masks (M, H, W) over the predicted ones (N, H, W): a pixel of theirs is no other target's."""
        if not len(prob):  # nothing was predicted: all targets followed are given
            prob = masks.new_zeros(len(self.targets), *masks.shape[-2:])
        prob = prob * (1 - masks.amax(0))
        self.targets += [target for target in given if target not in self.targets]
        rows = torch.tensor([self.targets.index(target) for target in given], device=masks.device)
        prob = torch.cat([prob, prob.new_zeros(len(self.targets) - len(prob), *prob.shape[1:])])
        return soft_aggregate(prob.index_copy(0, rows, masks), 0).softmax(0)

    def _remember(self, features: FrameFeatures, prob: Tensor, given: bool, known: int) -> None:
        """Keep the masks for the next frame, and memorise the frame in its turn; rows after ``known`` are new."""
        self.last = torch.stack([prob[1:], prob[1:].flip(-1)]) if self.flip else prob[None, 1:]
        if self.since < self.memory.every and not given:
            return
        self.since = 0
        if self.memory.skip_absent and not given and not prob.argmax(0).any():
            return
        joined = len(self.targets) - known
        if joined:
            fresh = self.core.no_sensory(features, joined)
            self.sensory = torch.cat([self.sensory, fresh], 1) if known else fresh
        new = self.core.memorise(features, self.sensory, self.last)
        self.sensory, summary, start = new.sensory, new.summary, 0
        self.objects = torch.cat([self.objects + summary[:, :known], summary[:, known:]], 1) if known else summary
        for group in self.groups:
            group.bank.add(features, new.value[:, :, start : start + group.count])
            start += group.count
        if joined:
            self.groups.append(Group(TokenBank(self.memory, features, new.value[:, :, start:]), joined))
