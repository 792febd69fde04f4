"""The base tracker on the frames of a video: engines of a limited number of targets each, and as many as needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from common.inference.session import check_tracked
from common.nn.memory_policy import MemoryPolicy
from common.nn.timing import part
from methods.hqsmem.deaot.network import DeAOT, Features, Outputs
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.memory import FRAME, MemoryBank
from methods.hqsmem.preprocessing import LONG_EDGE, at_stride16, inner_size, merge_engines, planes_of, prepare
from methods.hqsmem.settings import MemorySettings


class Engine:
    """Long-term and short-term memory of as many targets as the network has identities, 10 as published.

    Args:
        network: in eval mode.
        settings: when frames are written and how many are stored; ``gap`` is a number or None.
        policy: which stored frame is removed.

    Attributes:
        bank: the long-term memory.
        short: memories of the latest frames, oldest first; the first one is the short-term memory.
    """

    def __init__(self, network: DeAOT, settings: MemorySettings, policy: MemoryPolicy | None = None) -> None:
        self.network, self.settings = network, settings
        self.bank = MemoryBank(settings, policy)
        self.short: list[list[LayerMemory]] = []
        self.outputs: Outputs | None = None
        self.last_write = 0

    def add_reference(
        self, features: Features, masks: Tensor, frame: int, descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Write a reference frame: one with the annotated mask of a new target.

        Args:
            features: the encoded frame.
            masks: one-hot float (1, 1 + max_objects, H, W) at the network's input size, all targets of the engine.
            frame: its index.
            descriptors: see ``MemoryBank.add``.
        """
        identity = self.network.id_embedding(masks)
        # Propagated anew with its masks: the prediction of this frame does not contain the new target.
        self.outputs = self.network.propagate(features, identity=identity)
        memory = self.network.write(self.outputs, identity)
        self._store(memory, masks, features.size, frame, True, descriptors)
        self.short = [memory]

    def predict(self, features: Features) -> Tensor:
        """Return the logits (1, 1 + max_objects, H / 4, W / 4) of the next frame."""
        long, frame_ranks = self.bank.read()
        self.outputs = self.network.propagate(features, long, self.short[0], frame_ranks=frame_ranks)
        return self.network.decode(features, self.outputs)

    def write(
        self, features: Features, masks: Tensor, frame: int, descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Write the frame just predicted, with its final masks.

        It becomes the newest frame of the short-term memory. Every ``gap`` frames it is offered to the bank too.

        Args:
            features: the encoded frame.
            masks: one-hot float (1, 1 + max_objects, H, W) at the network's input size.
            frame: its index.
            descriptors: see ``MemoryBank.add``.
        """
        assert self.outputs is not None
        memory = self.network.write(self.outputs, self.network.id_embedding(masks))
        # Until there are as many frames, the oldest one since the reference frame serves as short-term memory.
        self.short = [*self.short, memory][-self.settings.short_term_skip :]
        if self.update_due(frame):
            self._store(memory, masks, features.size, frame, False, descriptors)

    def update_due(self, frame: int) -> bool:
        """Return whether writing this frame offers it to the bank."""
        return isinstance(self.settings.gap, int) and frame - self.last_write >= self.settings.gap

    @part("write memory")
    def _store(
        self,
        memory: list[LayerMemory],
        masks: Tensor,
        size: tuple[int, int],
        frame: int,
        reference: bool,
        descriptors: Mapping[int, Tensor] | None,
    ) -> None:
        labels = at_stride16(masks, size) if self.settings.per_object else None
        self.bank.add(memory, frame, labels, reference, descriptors)
        self.last_write = frame


@dataclass
class Group:
    """An engine and its targets.

    Attributes:
        engine: the engine.
        targets: the target of each identity 1, 2, ...; None where one was dropped.
    """

    engine: Engine
    targets: list[int | None]


class Tracker:
    """Tracks frame by frame: ``predict`` a frame, make its label map final, ``write`` it.

    Args:
        network: in eval mode.
        memory: when frames are written and how many are stored; ``gap`` is a number or None.
        policy: which stored frame is removed.
        long_edge: longer frames are shrunk to this long edge, in pixels; None = never.
        scale: factor on the size of the frame after that.

    Attributes:
        features: the last frame, encoded; None before the first.
        frame: index of the last frame, -1 before the first.
    """

    def __init__(
        self,
        network: DeAOT,
        memory: MemorySettings | None = None,
        policy: MemoryPolicy | None = None,
        long_edge: int | None = LONG_EDGE,
        scale: float = 1.0,
    ) -> None:
        self.network, self.memory, self.policy = network, memory or MemorySettings(), policy
        self.long_edge, self.scale = long_edge, scale
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first frame."""
        self.groups: list[Group] = []
        self.frame = -1
        self.features: Features | None = None
        self.input_size: tuple[int, int] = (0, 0)

    @property
    def targets(self) -> tuple[int, ...]:
        """Ids of the followed targets, in the order in which ``predict`` returns them."""
        return tuple(target for group in self.groups for target in group.targets if target is not None)

    def predict(self, frame: Tensor) -> Tensor:
        """Predict the next frame.

        Args:
            frame: uint8 (H, W, 3).

        Returns:
            Probabilities float (1 + N, H, W), background first, then ``targets``; they sum to 1 over the first axis.
        """
        self.frame += 1
        size = (frame.shape[0], frame.shape[1])
        self.input_size = inner_size(size, self.network.aligned, self.long_edge, self.scale)
        self.features = self.network.encode(prepare(frame, self.input_size))
        if not self.groups:
            return torch.ones(1, *size, device=frame.device)
        logits = []
        for group in self.groups:
            # The background and the identities in use; channels of dropped targets must not compete in the softmax.
            channels = [0, *(i for i, target in enumerate(group.targets, 1) if target is not None)]
            group_logits = group.engine.predict(self.features)[:, channels]
            logits.append(F.interpolate(group_logits, size, mode="bilinear", align_corners=self.network.aligned))
        return merge_engines(logits)[0].softmax(0)

    def write(
        self, labels: Tensor, new_targets: Sequence[int] = (), descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Write the frame just predicted, with its final masks, to memory.

        Args:
            labels: int (H, W), the target id of each pixel, 0 the background.
            new_targets: targets that are annotated on this frame for the first time. With any, the frame is a reference
                frame of all engines, which is never removed.
            descriptors: for each target id a vector on which the bank measures relevance; 0 is the background or, where
                whole frames are stored, the frame. By default the means of the stored keys and values.

        Raises:
            InputError: a new target is followed already.
        """
        assert self.features is not None, "predict comes first"
        for new in new_targets:
            if new in self.targets:
                raise InputError(f"target {new} is followed already; it cannot join again at frame {self.frame}")
            self._group_with_room().targets.append(new)
        for group in self.groups:
            group_labels = torch.zeros_like(labels, dtype=torch.long)
            target_of = {FRAME: FRAME}
            for identity, target in enumerate(group.targets, 1):
                if target is not None:
                    group_labels[labels == target] = identity
                    target_of[identity] = target
            # Targets of other engines are background to this one.
            masks = planes_of(group_labels, self.network.settings.max_objects, self.input_size)
            by_identity = None
            if descriptors is not None:
                by_identity = {i: descriptors[t] for i, t in target_of.items() if t in descriptors}
            write = group.engine.add_reference if new_targets else group.engine.write
            write(self.features, masks, self.frame, by_identity)

    def update_due(self) -> bool:
        """Return whether ``write`` will offer the frame to the long-term memory, which then reads its descriptors."""
        return any(group.engine.update_due(self.frame) for group in self.groups)

    def drop(self, target: int) -> None:
        """Stop tracking a target from the next frame on.

        Its identity is not used again, since stored frames contain it. An engine without targets is removed.

        Raises:
            InputError: the target is not tracked.
        """
        check_tracked(target, self.targets)
        group = next(group for group in self.groups if target in group.targets)
        row = group.targets.index(target)
        group.targets[row] = None
        if self.memory.per_object:
            group.engine.bank.drop(row + 1)
        self.groups = [group for group in self.groups if any(target is not None for target in group.targets)]

    def _group_with_room(self) -> Group:
        """Return the last group, or a new one where it is full."""
        if not self.groups or len(self.groups[-1].targets) == self.network.settings.max_objects:
            self.groups.append(Group(Engine(self.network, self.memory, self.policy), []))
        return self.groups[-1]
