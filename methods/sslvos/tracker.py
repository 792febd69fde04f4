"""The tracker: all targets of a video at one size; when to read, decode and memorise, in the order of Cutie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.nn.aggregate import soft_aggregate
from common.nn.preprocessing import crop_padding, pad_to_multiple, resize_frame, resize_logits, resize_mask
from common.nn.timing import part
from common.nn.transfer import to_device
from methods.sslvos.cutie.core import FrameFeatures, SSLVOSNetwork
from methods.sslvos.memory import TokenBank
from methods.sslvos.settings import MemorySettings


def inner_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Return the size at which a frame is processed: never enlarged, aspect ratio kept, the long side rounded down.

    Args:
        size: (H, W) of the video.
        short_side: largest short side, in pixels; None = any.

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
    """Targets that joined on the same frame and share a memory bank.

    Attributes:
        bank: their pixel memory.
        count: number of targets.
    """

    bank: TokenBank
    count: int


@dataclass
class LastFrame:
    """The last frame, which is written to memory when the next one comes, so that it can be corrected until then.

    Attributes:
        features: of the frame.
        predicted: (N + 1, h, w) at the padded size, background first, without those that joined on the frame; (1, h, w)
            where nothing was predicted, since all targets are prompted.
        prob: the same with the masks that are given.
        size: (h, w) without padding.
        given: target -> mask bool (H, W).
        joined: number of targets that joined on it, the last rows.
        dropped: targets to be forgotten after it.
    """

    features: FrameFeatures
    predicted: Tensor
    prob: Tensor
    size: tuple[int, int]
    given: dict[int, Tensor]
    joined: int
    dropped: list[int] = field(default_factory=list)


class Tracker:
    """Frames in, probabilities out, for all targets in the order in which they joined.

    Memory is the banks, a sensory map and an object memory for each target, and the features of the last frame: bounded
    for any length of the video.

    Args:
        core: the network, in eval mode.
        memory: budget and interval of the memory.
        short_side: frames whose short side is longer are resized to it; None = never.
        flip: average over the frame and its mirror image.
    """

    def __init__(
        self, core: SSLVOSNetwork, memory: MemorySettings, short_side: int | None = 480, flip: bool = False
    ) -> None:
        self.core, self.memory, self.short_side, self.flip = core, memory, short_side, flip
        # frames after a memorised one on which the sensory memory is updated, as Cutie's stagger_updates
        steps = torch.linspace(1, memory.every, min(memory.stagger, memory.every))
        self.update_at = set(steps.round().int().tolist())
        self.reset()

    def reset(self) -> None:
        """Forget all targets."""
        self._joined: list[int] = []
        self._last: LastFrame | None = None
        self.groups: list[Group] = []
        self.frames_since_memory = 0
        # of all targets, with a batch of 1, or of 2 with mirror images; see SSLVOSNetwork.attend for shapes
        self.sensory = self.object_memory = self.last_masks = torch.empty(0)

    @property
    def targets(self) -> list[int]:
        """Ids of the tracked targets, in the order in which they joined."""
        return [target for target in self._joined if self._last is None or target not in self._last.dropped]

    def step(self, frame: Tensor, prompt_masks: Mapping[int, Tensor]) -> Tensor:
        """Track the targets on the next frame.

        Args:
            frame: uint8 RGB (H, W, 3).
            prompt_masks: target -> mask bool (H, W) on this frame, of tracked or new targets. At least one target
                must be tracked or prompted.

        Returns:
            Probabilities float32 (N + 1, H, W), background first, new targets last.
        """
        self._write_last()
        self.frames_since_memory += 1
        full, multiple = (frame.shape[0], frame.shape[1]), self.core.encoder.multiple
        size = inner_size(full, self.short_side)
        image = pad_to_multiple(resize_frame(frame, size), multiple)
        features = self.core.encode(torch.cat([image, image.flip(-1)]) if self.flip else image)
        tracked = len(self._joined)
        predicted = torch.empty(1, *image.shape[-2:], device=image.device)
        if tracked and not prompt_masks.keys() >= set(self._joined):
            predicted = self._predict(features)
        self._joined += [target for target in prompt_masks if target not in self._joined]
        prob = self._insert_prompts(predicted[1:], prompt_masks, size) if prompt_masks else predicted
        self._last = LastFrame(features, predicted, prob, size, dict(prompt_masks), len(self._joined) - tracked)
        prob = crop_padding(prob, size, multiple)
        return prob if size == full else resize_logits(prob[None], full)[0]

    def correct(self, prompt_masks: Mapping[int, Tensor]) -> None:
        """Overwrite masks of the last frame, which is memorised then as a prompted one.

        Args:
            prompt_masks: target -> mask bool (H, W), of targets on the frame.
        """
        last = self._last
        assert last is not None
        last.given |= prompt_masks
        last.prob = self._insert_prompts(last.predicted[1:], last.given, last.size)

    def drop(self, target: int) -> None:
        """Forget a target, once the last frame is written."""
        assert self._last is not None
        self._last.dropped.append(target)
        if not self.targets:
            self.reset()

    def _write_last(self) -> None:
        """Write the last frame to memory, and forget the targets that were dropped after it."""
        last, self._last = self._last, None
        if last is None:
            return
        self._update_memory(last.features, last.prob, bool(last.given), len(self._joined) - last.joined)
        for target in last.dropped:
            self._remove(target)

    def _remove(self, target: int) -> None:
        row = self._joined.index(target)
        remaining = [i for i in range(len(self._joined)) if i != row]
        del self._joined[row]
        self.sensory, self.object_memory, self.last_masks = (
            state[:, remaining] for state in (self.sensory, self.object_memory, self.last_masks)
        )
        for group in self.groups:
            if row < group.count:
                group.bank.keep_targets([i for i in range(group.count) if i != row])
                group.count -= 1
                break
            row -= group.count
        self.groups = [group for group in self.groups if group.count]

    @part("read memory")
    def _predict(self, features: FrameFeatures) -> Tensor:
        """Predict probabilities (N + 1, H, W) of the tracked targets from memory.

        The targets of a group see each other in the object transformer; all targets compete in the soft aggregation.
        """
        counts = [group.count for group in self.groups]
        states = zip(*(x.split(counts, 1) for x in (self.sensory, self.last_masks, self.object_memory)), strict=True)
        pixels = [
            self.core.attend(features, group.bank.read(features), sensory, last_masks, object_memory)[0]
            for group, (sensory, last_masks, object_memory) in zip(self.groups, states, strict=True)
        ]
        update = self.frames_since_memory in self.update_at
        logits, self.sensory = self.core.decode(features, torch.cat(pixels, 1), self.sensory, update)
        prob = logits.softmax(1)
        return (prob[0] + prob[1].flip(-1)) / 2 if self.flip else prob[0]

    def _insert_prompts(self, prob: Tensor, prompt_masks: Mapping[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Overwrite predicted masks by prompt masks; a pixel of a prompt mask belongs to no other target.

        Args:
            prob: predicted (N, h, w) at the padded size, without background and without new targets; (0, h, w) where
                nothing was predicted.
            prompt_masks: target -> mask bool (H, W), of M prompted targets.
            size: (h, w) without padding.

        Returns:
            Probabilities (N' + 1, h, w), background first.
        """
        resized = torch.stack([resize_mask(mask.to(prob.device), size) for mask in prompt_masks.values()])
        masks = pad_to_multiple(resized.float(), self.core.encoder.multiple)
        prob = prob * (1 - masks.amax(0))
        rows = to_device([self._joined.index(target) for target in prompt_masks], masks.device)
        prob = torch.cat([prob, prob.new_zeros(len(self._joined) - len(prob), *prob.shape[1:])])
        return soft_aggregate(prob.index_copy(0, rows, masks), 0).softmax(0)

    @part("write memory")
    def _update_memory(self, features: FrameFeatures, prob: Tensor, prompted: bool, tracked: int) -> None:
        """Keep the masks for the next frame; memorise the frame if it is prompted or the interval has passed.

        Args:
            features: of the frame.
            prob: (N + 1, H, W), background first.
            prompted: whether there are prompts on this frame.
            tracked: number of targets before this frame; the rows after it are new.
        """
        self.last_masks = torch.stack([prob[1:], prob[1:].flip(-1)]) if self.flip else prob[None, 1:]
        if self.frames_since_memory < self.memory.every and not prompted:
            return
        self.frames_since_memory = 0
        if self.memory.skip_absent and not prompted and not prob.argmax(0).any():
            return
        joined = len(self._joined) - tracked
        if joined:
            initial = self.core.initial_sensory(features, joined)
            self.sensory = torch.cat([self.sensory, initial], 1) if tracked else initial
        new = self.core.memorise(features, self.sensory, self.last_masks)
        self.sensory, summary = new.sensory, new.summary
        if tracked:
            summary = torch.cat([self.object_memory + summary[:, :tracked], summary[:, tracked:]], 1)
        self.object_memory = summary
        start = 0
        for group in self.groups:
            group.bank.add(features, new.value[:, :, start : start + group.count])
            start += group.count
        if joined:
            self.groups.append(Group(TokenBank(self.memory, features, new.value[:, :, start:]), joined))
