"""The gated propagation module of DeAOT (Yang & Yang, arXiv 2210.09782, section 4).

Two branches of tokens run through the layers: the visual branch and the ID branch, which carries the masks. Each layer
reads the long-term memory, a window of the short-term memory, and the frame itself.

Legend: B batch, n = h w tokens of the frame, m tokens of a memory, E = expansion x width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn import fast
from common.nn.layers import DropPath
from methods.hqsmem.settings import DeAOTSettings


class LayerMemory(NamedTuple):
    """Keys and values of stored frames, for one layer.

    Attributes:
        key: float (B, m, key_width).
        value: float (B, m, 2 E), the visual value V in the first half, the ID value in the second.
    """

    key: Tensor
    value: Tensor

    @property
    def visual(self) -> Tensor:
        """V, (B, m, E)."""
        return self.value[..., : self.value.shape[-1] // 2]

    @property
    def identity(self) -> Tensor:
        """ID value, (B, m, E)."""
        return self.value[..., self.value.shape[-1] // 2 :]


class LayerOutput(NamedTuple):
    """What one layer computed for a frame; its memory is made from this once the frame's mask is final.

    Attributes:
        key: (B, n, key_width).
        value: V, (B, n, E).
        source: the normalised ID branch (B, n, width), from which the ID value is made; None in the first layer.
    """

    key: Tensor
    value: Tensor
    source: Tensor | None


class GatedProjection(nn.Module):
    """The second half of gated attention: gate, depth-wise 5x5 convolution, projection to both branches."""

    def __init__(self, settings: DeAOTSettings) -> None:
        super().__init__()
        inner = 2 * settings.expansion * settings.width
        self.conv = nn.Conv2d(inner, inner, 5, padding=2, groups=inner, bias=False)
        self.dropout = nn.Dropout2d(settings.dropout)
        self.project = nn.Linear(inner, 2 * settings.width)

    def forward(self, x: Tensor, gate: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the residuals of both branches.

        Args:
            x: result of the attention, (B, n, 2 E).
            gate: (B, n, 2 E).
            size: (h, w) of the frame.

        Returns:
            (B, n, 2 width).
        """
        maps = torch.unflatten((x * gate).transpose(1, 2), 2, size)
        return fast.linear(self.project, self.dropout(self.conv(maps)).flatten(2).transpose(1, 2))


class SelfPropagation(nn.Module):
    """Gated self-attention of a frame over both branches."""

    def __init__(self, settings: DeAOTSettings) -> None:
        super().__init__()
        width, inner = settings.width, settings.expansion * settings.width
        self.scale = settings.key_width**-0.5
        self.query = nn.Linear(2 * width, settings.key_width)
        self.value, self.id_value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.gate, self.id_gate = nn.Linear(width, inner), nn.Linear(width, inner)
        self.mix = GatedProjection(settings)

    def forward(self, x: Tensor, x_id: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the residuals of both branches.

        Args:
            x: normalised visual branch, (B, n, width).
            x_id: normalised ID branch, (B, n, width).
            size: (h, w) of the frame.

        Returns:
            (B, n, 2 width).
        """
        query = self.query(torch.cat([x, x_id], -1))  # serves as the key too
        value = F.silu(torch.cat([self.value(x), self.id_value(x_id)], -1))
        gate = F.silu(torch.cat([self.gate(x), self.id_gate(x_id)], -1))
        residuals: Tensor = self.mix(fast.attend(query, query, value, self.scale), gate, size)
        return residuals


class GatedPropagation(nn.Module):
    """One layer.

    Args:
        settings: sizes of the network.
        first: whether this is the first layer, which has no ID branch to read yet.
    """

    def __init__(self, settings: DeAOTSettings, first: bool) -> None:
        super().__init__()
        width, inner = settings.width, settings.expansion * settings.width
        self.widths, self.scale = [settings.key_width, inner], settings.key_width**-0.5
        self.norm = nn.LayerNorm(width)
        self.key_value, self.gate = nn.Linear(width, settings.key_width + inner), nn.Linear(width, inner)
        self.id_value = nn.Linear(width if first else 2 * width, inner)
        if not first:
            self.id_norm, self.id_gate = nn.LayerNorm(width), nn.Linear(width, inner)
        self.first = first
        self.relative = nn.Linear(settings.key_width, settings.window**2)
        self.long, self.short = GatedProjection(settings), GatedProjection(settings)
        self.self_norm, self.self_id_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_propagation = SelfPropagation(settings)
        self.drop_path = DropPath(settings.drop_path)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def memory(self, output: LayerOutput, identity: Tensor) -> LayerMemory:
        """Make the layer's memory of a frame.

        Args:
            output: of the frame.
            identity: ID embedding of its mask, (B, n, width).
        """
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
        """Propagate one frame.

        Args:
            x: visual branch, (B, n, width).
            x_id: ID branch, (B, n, width); the first layer ignores it.
            size: (h, w) of the frame.
            memories: long-term (m tokens) and short-term (n tokens); None for a reference frame, which reads itself.
            identity: ID embedding (B, n, width) of a reference frame's mask.
            times: temporal embeddings of the query (key_width,) and of the long-term keys (m, key_width).

        Returns:
            Both branches, and what a write to memory needs.
        """
        normed = self.norm(x)
        key, value = torch.split(fast.linear(self.key_value, normed), self.widths, -1)
        gate, source = self.gate(normed), None
        if self.first:  # the ID branch is still empty: its value passes ungated
            gates = torch.cat([F.silu(gate), torch.ones_like(gate)], -1)
        else:
            source = self.id_norm(x_id)
            gates = F.silu(torch.cat([gate, self.id_gate(source)], -1))
        output = LayerOutput(key, F.silu(value), source)
        if memories is None:
            assert identity is not None
            itself = self.memory(output, identity)
            memories = itself, itself
        long, short = memories
        # DeAOT has one projection for queries and keys. Time is embedded for the long-term memory only.
        query, long_key = (key, long.key) if times is None else (key + times[0], long.key + times[1])
        long_read = fast.attend(query, long_key, long.value, self.scale)
        short_read = window_attend(key, short.key, short.value, self.relative(key), size, self.scale)
        residuals = self.long(long_read, gates, size) + self.short(short_read, gates, size)
        visual, id_residual = residuals.chunk(2, -1)
        x, x_id = x + visual, id_residual if self.first else x_id + id_residual
        residuals = self.self_propagation(self.self_norm(x), self.self_id_norm(x_id), size)
        visual, id_residual = self.drop_path(residuals).chunk(2, -1)
        return x + visual, x_id + id_residual, output


def concatenate_memories(frames: Sequence[Sequence[LayerMemory]]) -> list[LayerMemory]:
    """Concatenate the memories of several frames along the tokens, layer by layer."""
    layers = zip(*frames, strict=True)
    return [LayerMemory(*(torch.cat(parts, 1) for parts in zip(*layer, strict=True))) for layer in layers]


def window_attend(
    query: Tensor, key: Tensor, value: Tensor, relative: Tensor, size: tuple[int, int], scale: float
) -> Tensor:
    """Attend from each token to a k x k window around it: softmax(query keyᵀ scale + relative) value.

    Places of the window outside the map are masked. The map is processed row by row: the queries of a row and the rows
    of their windows meet in one matrix product, so that keys and values are not copied for every window.

    Args:
        query: (B, h w, C).
        key: (B, h w, C).
        value: (B, h w, D).
        relative: (B, h w, k k), added to the logit of each place of the window, row by row from the top left.
        size: (h, w).
        scale: of the logits.

    Returns:
        (B, h w, D).
    """
    (height, width), batch = size, len(query)
    side = int(relative.shape[-1] ** 0.5)
    reach = side // 2
    bias = _window_to_row(relative.view(batch, height, width, side, side).transpose(2, 3))
    rows = []
    for y in range(height):
        top, bottom = max(0, y - reach), min(height, y + reach + 1)
        visible = slice(top * width, bottom * width)
        row_bias = bias[:, y, top - y + reach : bottom - y + reach].transpose(1, 2).flatten(2)
        row_query = query[:, y * width : (y + 1) * width]
        logits = torch.baddbmm(row_bias, row_query, key[:, visible].transpose(1, 2), beta=1, alpha=scale)
        rows.append(logits.softmax(-1) @ value[:, visible])
    return torch.cat(rows, 1)


def _window_to_row(relative: Tensor) -> Tensor:
    """Spread logits over the columns of a window to logits over the columns of the map.

    Args:
        relative: (..., w, k), for the query in column q the logit of the key in column q + j - k // 2.

    Returns:
        (..., w, w), for each query the logit of the key in each column, -inf outside the window.
    """
    width, side = relative.shape[-2:]
    # Row q must move right by q. Rows of w + k columns, read again with one column less, are shifted by one each.
    wide = F.pad(relative, (0, width), value=-torch.inf).flatten(-2)[..., : width * (width + side - 1)]
    return torch.unflatten(wide, -1, (width, width + side - 1))[..., side // 2 : side // 2 + width]
