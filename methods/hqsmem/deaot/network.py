"""DeAOT (Yang & Yang, arXiv 2210.09782): encode, propagate, decode; write a frame once its mask is final.

features = net.encode(frames)
outputs = net.propagate(features, identity=net.identify(masks))    # a reference frame
memory = net.write(outputs, net.identify(masks))
outputs = net.propagate(features, long=memory, short=memory)       # any other
logits = net.decode(features, outputs)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.hqsmem.deaot.decoder import Decoder
from methods.hqsmem.deaot.encoders.base import build_encoder
from methods.hqsmem.deaot.propagation import GatedPropagation, LayerMemory, LayerOutput
from methods.hqsmem.settings import DeAOTSettings

UNUSED = -1e4  # logit of an identity that no target has
SLOTS = 4  # temporal positions that are learned


class Features(NamedTuple):
    """An encoded frame.

    Attributes:
        f4, f8, f16: the encoder's maps (B, C, H / s, W / s).
        tokens: (B, n, width), the deepest map projected.
        size: (h, w) at stride 16; n = h w.
    """

    f4: Tensor
    f8: Tensor
    f16: Tensor
    tokens: Tensor
    size: tuple[int, int]


class Outputs(NamedTuple):
    """A propagated frame.

    Attributes:
        layers: what a write needs of each layer.
        last: (B, n, 2 width), both branches after the last layer, normalised, for the decoder.
    """

    layers: list[LayerOutput]
    last: Tensor


class DeAOT(nn.Module):
    """The network. Frames come in sides of ``side(...)``: 16 k + 1 with an aligned encoder, else 16 k.

    Args:
        settings: widths and counts.
    """

    def __init__(self, settings: DeAOTSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeAOTSettings()
        width, channels = settings.width, settings.objects + 1
        self.encoder = build_encoder(settings.encoder)
        self.aligned = self.encoder.aligned
        self.project = nn.Conv2d(self.encoder.widths[-1], width, 1)
        kernel = 17 if self.aligned else 16
        self.id_bank = nn.Conv2d(channels, width, kernel, 16, 8 if self.aligned else 0)
        self.id_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(GatedPropagation(settings, first=i == 0) for i in range(settings.layers))
        self.last_norm = nn.GroupNorm(2, 2 * width)
        self.decoder = Decoder(width, self.encoder.widths[:3], channels, self.aligned)
        if settings.temporal:
            self.query_time = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, settings.key), std=0.05))
            self.memory_time = nn.Parameter(nn.init.trunc_normal_(torch.empty(SLOTS, settings.key), std=0.05))
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.orthogonal_(self.id_bank.weight.data.view(width, -1), gain=kernel**-2)

    def encode(self, frames: Tensor) -> Features:
        """Float (B, 3, H, W), normalised by ImageNet's mean and deviation."""
        f4, f8, f16, deep = self.encoder(frames)
        projected = self.project(deep)
        size = (projected.shape[2], projected.shape[3])
        return Features(f4, f8, f16, projected.flatten(2).transpose(1, 2), size)

    def identify(self, masks: Tensor, order: Tensor | None = None) -> Tensor:
        """ID embedding (B, n, width) of masks float (B, 1 + objects, H, W), background first, one-hot or soft.

        Args:
            order: int64 (B, 1 + objects), the channel of the ID bank that each plane gets; see ``random_order``.
        """
        if order is not None:
            masks = masks.gather(1, order.argsort(1)[:, :, None, None].expand_as(masks))
        return self.id_norm(self.id_bank(masks).flatten(2).transpose(1, 2))

    def propagate(
        self,
        features: Features,
        long: Sequence[LayerMemory] = (),
        short: Sequence[LayerMemory] = (),
        identity: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Outputs:
        """Read the memories, one of each for every layer; a reference frame is given its ``identity`` instead.

        Args:
            identity: ID embedding (B, n, width) of a reference frame's mask.
            order: int64 (m,), the rank in time of the frame that each token of ``long`` is from, 0 the earliest; for
                the temporal embedding alone.
        """
        x, x_id = features.tokens, torch.empty(0)  # the first layer makes the ID branch
        kept: list[LayerOutput] = []
        times = self._times(order, long[0].key.shape[1] if long else x.shape[1])
        for i, layer in enumerate(self.layers):
            memories = None if identity is not None else (long[i], short[i])
            x, x_id, output = layer(x, x_id, features.size, memories, identity, times)
            kept.append(output)
        return Outputs(kept, self.last_norm(torch.cat([x, x_id], -1).transpose(1, 2)).transpose(1, 2))

    def decode(
        self, features: Features, outputs: Outputs, counts: Sequence[int] | None = None, order: Tensor | None = None
    ) -> Tensor:
        """Logits (B, 1 + objects, H / 4, W / 4), background first.

        Args:
            counts: targets of each sample; the identities beyond get ``UNUSED``.
            order: as ``identify`` was given it.
        """
        maps = outputs.last.transpose(1, 2).unflatten(2, features.size)
        logits = self.decoder(maps, features.f4, features.f8, features.f16)
        if order is not None:
            logits = logits.gather(1, order[:, :, None, None].expand_as(logits))
        if counts is not None:
            channel = torch.arange(logits.shape[1], device=logits.device)
            used = channel <= torch.as_tensor(counts, device=logits.device)[:, None]
            logits = logits.masked_fill(~used[:, :, None, None], UNUSED)
        return logits

    def write(self, outputs: Outputs, identity: Tensor) -> list[LayerMemory]:
        """A frame's memory, given the ID embedding (B, n, width) of its final mask; teacher forcing acts here."""
        pairs = zip(self.layers, outputs.layers, strict=True)
        return [cast(GatedPropagation, layer).fuse(output, identity) for layer, output in pairs]

    def random_order(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """int64 (B, 1 + objects): a random identity for each target; the background keeps the first."""
        rows = [torch.randperm(self.settings.objects, generator=generator) + 1 for _ in range(batch)]
        return F.pad(torch.stack(rows), (1, 0)).to(self.id_bank.weight.device)

    def side(self, pixels: float) -> int:
        """The side nearest to ``pixels`` that the encoder takes: 16 k + 1 or 16 k, at least 17 or 16."""
        extra = int(self.aligned)
        return max(1, round((int(pixels) - extra) / 16)) * 16 + extra

    def _times(self, order: Tensor | None, count: int) -> tuple[Tensor, Tensor] | None:
        """Temporal embeddings of the query (1, key) and of the memory tokens (m, key).

        Up to 4 frames have a slot each, in the order of time; of more, the last slots are shared, as evenly as goes.
        Source: RMem's released code.
        """
        if not self.settings.temporal:
            return None
        if order is None:
            order = torch.zeros(count, dtype=torch.long, device=self.memory_time.device)
        frames = order.max() + 1
        spread = SLOTS - 1 - (frames - 1 - order) * SLOTS // frames
        return self.query_time, self.memory_time[torch.where(frames <= SLOTS, order, spread)]
