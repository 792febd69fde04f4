"""The gated propagation module of DeAOT (Yang & Yang, arXiv 2210.09782, section 4): two branches, visual and ID.

Tokens are (B, n, C). Each layer reads the long-term memory, a window of the short-term memory, and itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn import fast
from common.nn.drop_path import DropPath
from methods.hqsmem.deaot.local import window_attend
from methods.hqsmem.settings import DeAOTSettings


class LayerMemory(NamedTuple):
    """What one layer reads of stored frames.

    Attributes:
        key: float (B, n, key).
        value: float (B, n, 2 E): visual V (E = expand x width), then ID_V (E).
    """

    key: Tensor
    value: Tensor

    @property
    def visual(self) -> Tensor:
        """V, (B, n, E)."""
        return self.value[..., : self.value.shape[-1] // 2]

    @property
    def identity(self) -> Tensor:
        """ID_V, (B, n, E)."""
        return self.value[..., self.value.shape[-1] // 2 :]


class LayerOutput(NamedTuple):
    """What a layer computed for a frame, kept until its mask is final and can be written.

    Attributes:
        key: (B, n, key).
        value: V (B, n, E).
        source: the normalised ID branch (B, n, width), which the layer's ID_V is made from; None in the first layer.
    """

    key: Tensor
    value: Tensor
    source: Tensor | None


class Mix(nn.Module):
    """After attention: gate, depth-wise 5x5 convolution, projection to the residuals of both branches."""

    def __init__(self, settings: DeAOTSettings) -> None:
        super().__init__()
        inner = 2 * settings.expand * settings.width
        self.conv = nn.Conv2d(inner, inner, 5, padding=2, groups=inner, bias=False)
        self.dropout = nn.Dropout2d(settings.dropout)
        self.project = nn.Linear(inner, 2 * settings.width)

    def forward(self, x: Tensor, gate: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, n, 2 E) both, to (B, n, 2 width)."""
        maps = (x * gate).transpose(1, 2).unflatten(2, size)
        return fast.linear(self.project, self.dropout(self.conv(maps)).flatten(2).transpose(1, 2))


class SelfPropagation(nn.Module):
    """Gated attention of a frame to itself, over both branches."""

    def __init__(self, settings: DeAOTSettings) -> None:
        super().__init__()
        width, inner = settings.width, settings.expand * settings.width
        self.scale = settings.key**-0.5
        self.query = nn.Linear(2 * width, settings.key)
        self.value, self.id_value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.gate, self.id_gate = nn.Linear(width, inner), nn.Linear(width, inner)
        self.mix = Mix(settings)

    def forward(self, x: Tensor, x_id: Tensor, size: tuple[int, int]) -> Tensor:
        """Normalised branches (B, n, width) to residuals (B, n, 2 width)."""
        query = self.query(torch.cat([x, x_id], -1))
        value = F.silu(torch.cat([self.value(x), self.id_value(x_id)], -1))
        gate = F.silu(torch.cat([self.gate(x), self.id_gate(x_id)], -1))
        return self.mix(fast.attend(query, query, value, self.scale), gate, size)


class GatedPropagation(nn.Module):
    """One layer.

    Args:
        settings: widths.
        first: the first layer has no ID branch to read yet.
    """

    def __init__(self, settings: DeAOTSettings, first: bool) -> None:
        super().__init__()
        width, inner = settings.width, settings.expand * settings.width
        self.widths, self.scale = [settings.key, inner], settings.key**-0.5
        self.norm = nn.LayerNorm(width)
        self.key_value, self.gate = nn.Linear(width, settings.key + inner), nn.Linear(width, inner)
        self.id_value = nn.Linear(width if first else 2 * width, inner)
        if not first:
            self.id_norm, self.id_gate = nn.LayerNorm(width), nn.Linear(width, inner)
        self.first = first
        self.relative = nn.Linear(settings.key, settings.window**2)
        self.long, self.short = Mix(settings), Mix(settings)
        self.self_norm, self.self_id_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_propagation = SelfPropagation(settings)
        self.drop_path = DropPath(settings.drop_path)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def fuse(self, output: LayerOutput, identity: Tensor) -> LayerMemory:
        """The layer's memory of a frame, given the ID embedding (B, n, width) of its mask."""
        source = identity if output.source is None else torch.cat([output.source, identity], -1)
        return LayerMemory(output.key, torch.cat([output.value, F.silu(self.id_value(source))], -1))

    def forward(
        self,
        x: Tensor,
        x_id: Tensor,
        size: tuple[int, int],
        memories: tuple[LayerMemory, LayerMemory] | None,
        identity: Tensor | None,
        times: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, LayerOutput]:
        """One frame.

        Args:
            x, x_id: branches (B, n, width); the first layer does not look at the ID branch.
            size: (h, w) of the map.
            memories: long-term and short-term; None for a reference frame, which reads itself.
            identity: ID embedding (B, n, width) of a reference frame's mask.
            times: temporal embeddings of the query (key,) and of the long-term keys (m, key).

        Returns:
            The branches and what a write needs.
        """
        normed = self.norm(x)
        key, value = fast.linear(self.key_value, normed).split(self.widths, -1)
        gate, source = self.gate(normed), None
        if self.first:
            gates = torch.cat([F.silu(gate), torch.ones_like(gate)], -1)
        else:
            source = self.id_norm(x_id)
            gates = F.silu(torch.cat([gate, self.id_gate(source)], -1))
        output = LayerOutput(key, F.silu(value), source)
        if memories is None:
            assert identity is not None
            own = self.fuse(output, identity)
            memories = own, own
        long, short = memories
        late, early = (key, long.key) if times is None else (key + times[0], long.key + times[1])
        read = fast.attend(late, early, long.value, self.scale)
        near = window_attend(key, short.key, short.value, self.relative(key), size, self.scale)
        visual, own_id = (self.long(read, gates, size) + self.short(near, gates, size)).chunk(2, -1)
        x, x_id = x + visual, own_id if self.first else x_id + own_id
        update = self.self_propagation(self.self_norm(x), self.self_id_norm(x_id), size)
        visual, own_id = self.drop_path(update).chunk(2, -1)
        return x + visual, x_id + own_id, output
