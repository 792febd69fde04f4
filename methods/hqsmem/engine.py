"""One network with its memory: as many targets as it has identities, 1 to 10 as published."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from common.nn.memory_policy import MemoryPolicy
from methods.hqsmem.deaot.network import DeAOT, Features, Outputs
from methods.hqsmem.deaot.propagation import LayerMemory
from methods.hqsmem.memory import Bank
from methods.hqsmem.preprocessing import at_stride16
from methods.hqsmem.settings import MemorySettings


class Engine:
    """Long-term bank and short-term memory of one group of targets.

    Args:
        net: the network, in eval mode.
        settings: rhythm and size of the memory; its gap is a number or None.
        policy: what a full bank gives up.
    """

    def __init__(self, net: DeAOT, settings: MemorySettings, policy: MemoryPolicy | None = None) -> None:
        self.net, self.settings = net, settings
        self.bank = Bank(settings, policy)
        self.short: list[list[LayerMemory]] = []
        self.outputs: Outputs | None = None
        self.last_write = 0

    def refer(
        self, features: Features, planes: Tensor, frame: int, descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Take a frame whose mask is given, or has been completed by a new target's.

        Args:
            planes: one-hot float (1, 1 + objects, H, W) at the network's input size.
            frame: its index.
            descriptors: see ``Bank.add``.
        """
        identity = self.net.identify(planes)
        self.outputs = self.net.propagate(features, identity=identity)
        memory = self.net.write(self.outputs, identity)
        self._store(memory, planes, features.size, frame, True, descriptors)
        self.short = [memory]

    def predict(self, features: Features) -> Tensor:
        """Logits (1, 1 + objects, H / 4, W / 4) of the next frame."""
        long, order = self.bank.read()
        self.outputs = self.net.propagate(features, long, self.short[0], order=order)
        return self.net.decode(features, self.outputs)

    def write(
        self, features: Features, planes: Tensor, frame: int, descriptors: Mapping[int, Tensor] | None = None
    ) -> None:
        """Remember the frame just predicted with its final mask: the next ones read it as their short-term memory.

        Args:
            planes: one-hot float (1, 1 + objects, H, W) at the network's input size.
            frame: its index; every ``gap`` frames it goes to the bank as well.
            descriptors: see ``Bank.add``.
        """
        assert self.outputs is not None
        memory = self.net.write(self.outputs, self.net.identify(planes))
        self.short = [*self.short, memory][-self.settings.short_skip :]
        if self.due(frame):
            self._store(memory, planes, features.size, frame, False, descriptors)

    def due(self, frame: int) -> bool:
        """Whether a write of this frame would offer it to the bank."""
        return isinstance(self.settings.gap, int) and frame - self.last_write >= self.settings.gap

    def _store(
        self,
        memory: list[LayerMemory],
        planes: Tensor,
        size: tuple[int, int],
        frame: int,
        reference: bool,
        descriptors: Mapping[int, Tensor] | None,
    ) -> None:
        labels = at_stride16(planes, size) if self.settings.per_object else None
        self.bank.add(memory, frame, labels, reference, descriptors)
        self.last_write = frame
