"""The base tracker on frames of a video: any number of targets, by as many engines as they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import MemoryPolicy
from methods.hqsmem.deaot.network import DeAOT, Features
from methods.hqsmem.engine import Engine
from methods.hqsmem.memory import FRAME
from methods.hqsmem.preprocessing import LONG_EDGE, inner_size, merge_engines, planes_of, prepare
from methods.hqsmem.settings import MemorySettings


@dataclass
class Group:
    """An engine and the targets that its identities 1, 2, ... stand for; None where one was dropped."""

    engine: Engine
    targets: list[int | None]


class Tracker:
    """Frame by frame: ``predict`` it, make its label map final, ``write`` it.

    Args:
        net: the network, in eval mode.
        memory: rhythm and size; its gap is a number or None.
        policy: what a full bank gives up.
        long_edge: longer frames are shrunk to it, in pixels; None = never.
        scale: of the frame after that.

    Attributes:
        features: of the last frame, as encoded.
        frame: index of the last frame, -1 before the first.
    """

    def __init__(
        self,
        net: DeAOT,
        memory: MemorySettings | None = None,
        policy: MemoryPolicy | None = None,
        long_edge: int | None = LONG_EDGE,
        scale: float = 1.0,
    ) -> None:
        self.net, self.memory, self.policy = net, memory or MemorySettings(), policy
        self.long_edge, self.scale = long_edge, scale
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.groups: list[Group] = []
        self.frame = -1
        self.features: Features | None = None
        self.inner: tuple[int, int] = (0, 0)

    @property
    def targets(self) -> tuple[int, ...]:
        """Ids of the followed targets, in the order of the planes that ``predict`` gives."""
        return tuple(target for group in self.groups for target in group.targets if target is not None)

    def predict(self, frame: Tensor) -> Tensor:
        """Take the next frame, uint8 (H, W, 3).

        Returns:
            Probabilities float (1 + N, H, W), background first, then ``targets``; they sum to 1.
        """
        self.frame += 1
        size = (frame.shape[0], frame.shape[1])
        self.inner = inner_size(size, self.net.aligned, self.long_edge, self.scale)
        self.features = self.net.encode(prepare(frame, self.inner))
        if not self.groups:
            return torch.ones(1, *size, device=frame.device)
        logits = []
        for group in self.groups:
            live = [0, *(i for i, target in enumerate(group.targets, 1) if target is not None)]
            own = group.engine.predict(self.features)[:, live]
            logits.append(F.interpolate(own, size, mode="bilinear", align_corners=self.net.aligned))
        return merge_engines(logits)[0].softmax(0)

    def write(
        self, labels: Tensor, joined: Sequence[int] = (), descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Remember the frame just predicted with its final masks.

        Args:
            labels: int (H, W), the target id of each pixel, 0 the background.
            joined: targets that are new on this frame: it becomes a reference frame, which nothing removes.
            descriptors: a vector for each target id, 0 the background or with memory of whole frames the frame: what
                the bank measures relevance on; by default the keys and values stored.

        Raises:
            InputError: a target that joined is followed already.
        """
        assert self.features is not None, "predict comes first"
        for new in joined:
            if new in self.targets:
                raise InputError(f"target {new} is followed already; it cannot join again at frame {self.frame}")
            self._room().targets.append(new)
        for group in self.groups:
            own = torch.zeros_like(labels, dtype=torch.long)
            names = {FRAME: FRAME}
            for identity, target in enumerate(group.targets, 1):
                if target is not None:
                    own[labels == target] = identity
                    names[identity] = target
            planes = planes_of(own, self.net.settings.objects, self.inner)
            chosen = None if descriptors is None else {i: descriptors[t] for i, t in names.items() if t in descriptors}
            take = group.engine.refer if joined else group.engine.write
            take(self.features, planes, self.frame, chosen)

    def due(self) -> bool:
        """Whether writing the frame just predicted offers it to the long-term memory: descriptors are wanted then."""
        return any(group.engine.due(self.frame) for group in self.groups)

    def drop(self, target: int) -> None:
        """Stop following a target from the next frame on.

        Its identity is not given out again, since stored frames know it; an engine without targets is given up.

        Raises:
            InputError: the target is not followed.
        """
        for group in self.groups:
            if target in group.targets:
                identity = group.targets.index(target) + 1
                group.targets[identity - 1] = None
                if self.memory.per_object:
                    group.engine.bank.forget(identity)
                break
        else:
            raise InputError(f"target {target} is not followed; followed are {sorted(self.targets)}")
        self.groups = [group for group in self.groups if any(target is not None for target in group.targets)]

    def _room(self) -> Group:
        """The last engine, or a new one where it is full."""
        if not self.groups or len(self.groups[-1].targets) == self.net.settings.objects:
            self.groups.append(Group(Engine(self.net, self.memory, self.policy), []))
        return self.groups[-1]
