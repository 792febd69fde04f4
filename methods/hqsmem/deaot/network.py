"""DeAOT (Yang & Yang, arXiv 2210.09782): encode, propagate, decode; write a frame to memory once its mask is final.

features = network.encode(frames)
outputs = network.propagate(features, identity=network.id_embedding(masks))    # a reference frame
memory = network.write(outputs, network.id_embedding(masks))
outputs = network.propagate(features, long=memory, short=memory)               # any other frame
logits = network.decode(features, outputs)

Legend: B batch, H W pixels, h w tokens at stride 16, n = h w, m tokens of the long-term memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.nn.timing import part
from methods.hqsmem.deaot.encoders import build_encoder
from methods.hqsmem.deaot.propagation import GatedPropagation, LayerMemory, LayerOutput
from methods.hqsmem.settings import DeAOTSettings

UNUSED_LOGIT = -1e4  # logit of an identity that no target has
TEMPORAL_SLOTS = 4  # learned temporal positions


class Features(NamedTuple):
    """An encoded frame.

    Attributes:
        f4: the encoder's map (B, C, H / 4, W / 4).
        f8: the encoder's map (B, C, H / 8, W / 8).
        f16: the encoder's map (B, C, h, w).
        tokens: (B, n, width), the deepest map projected.
        size: (h, w).
    """

    f4: Tensor
    f8: Tensor
    f16: Tensor
    tokens: Tensor
    size: tuple[int, int]


class Outputs(NamedTuple):
    """A propagated frame.

    Attributes:
        layers: what a write to memory needs of each layer.
        tokens: (B, n, 2 width), both branches after the last layer, normalised; the decoder reads them.
    """

    layers: list[LayerOutput]
    tokens: Tensor


class DeAOT(nn.Module):
    """The network. Frames have sides as given by ``nearest_side``: 16 k + 1 with an aligned encoder, else 16 k.

    Args:
        settings: sizes of the network; those of DeAOT-L by default.
    """

    def __init__(self, settings: DeAOTSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DeAOTSettings()
        width, channels = settings.width, settings.max_objects + 1
        self.encoder = build_encoder(settings.encoder)
        self.aligned = self.encoder.aligned
        self.project = nn.Conv2d(self.encoder.widths[-1], width, 1)
        # With sides of 16 k + 1 the kernel is centred on each token (17, padding 8), else it covers the token's patch.
        kernel = 17 if self.aligned else 16
        self.id_bank = nn.Conv2d(channels, width, kernel, 16, 8 if self.aligned else 0)
        self.id_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(GatedPropagation(settings, first=i == 0) for i in range(settings.layers))
        self.last_norm = nn.GroupNorm(2, 2 * width)
        self.decoder = Decoder(width, self.encoder.widths[:3], channels, self.aligned)
        if settings.temporal:
            self.query_time = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, settings.key_width), std=0.05))
            self.memory_time = nn.Parameter(
                nn.init.trunc_normal_(torch.empty(TEMPORAL_SLOTS, settings.key_width), std=0.05)
            )
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.orthogonal_(self.id_bank.weight.data.view(width, -1), gain=kernel**-2)

    @part("encode")
    def encode(self, frames: Tensor) -> Features:
        """Encode frames.

        Args:
            frames: float (B, 3, H, W), normalised by ImageNet's mean and standard deviation.
        """
        f4, f8, f16, deep = self.encoder(frames)
        projected = self.project(deep)
        size = (projected.shape[2], projected.shape[3])
        return Features(f4, f8, f16, projected.flatten(2).transpose(1, 2), size)

    def id_embedding(self, masks: Tensor, permutation: Tensor | None = None) -> Tensor:
        """Embed masks by the ID bank.

        Args:
            masks: float (B, 1 + max_objects, H, W), background first, one-hot or soft.
            permutation: int64 (B, 1 + max_objects), the channel of the ID bank for each mask; see
                ``random_permutation``.

        Returns:
            (B, n, width).
        """
        if permutation is not None:
            # argsort inverts the permutation: channel permutation[i] of the ID bank receives mask i.
            masks = masks.gather(1, permutation.argsort(1)[:, :, None, None].expand_as(masks))
        embedding: Tensor = self.id_norm(self.id_bank(masks).flatten(2).transpose(1, 2))
        return embedding

    @part("read memory")
    def propagate(
        self,
        features: Features,
        long: Sequence[LayerMemory] = (),
        short: Sequence[LayerMemory] = (),
        identity: Tensor | None = None,
        frame_ranks: Tensor | None = None,
    ) -> Outputs:
        """Run the gated propagation layers on a frame, which reads either the memories or, with its mask, itself.

        Args:
            features: the encoded frame.
            long: long-term memory, m tokens for every layer.
            short: short-term memory, n tokens for every layer.
            identity: ID embedding (B, n, width) of the mask of a reference frame, which has no memories.
            frame_ranks: int64 (m,), for each token of ``long`` the rank in time of its frame, 0 the earliest; read by
                the temporal embedding only.
        """
        x, x_id = features.tokens, torch.empty(0)  # the first layer makes the ID branch
        outputs: list[LayerOutput] = []
        times = self._temporal_embeddings(frame_ranks, long[0].key.shape[1] if long else x.shape[1])
        for i, layer in enumerate(self.layers):
            memories = None if identity is not None else (long[i], short[i])
            x, x_id, output = layer(x, x_id, features.size, memories, identity, times)
            outputs.append(output)
        return Outputs(outputs, self.last_norm(torch.cat([x, x_id], -1).transpose(1, 2)).transpose(1, 2))

    @part("decode masks")
    def decode(
        self,
        features: Features,
        outputs: Outputs,
        counts: Sequence[int] | None = None,
        permutation: Tensor | None = None,
    ) -> Tensor:
        """Decode a propagated frame to logits.

        Args:
            features: the encoded frame.
            outputs: the propagated frame.
            counts: number of targets of each sample; the logits of further identities are set to ``UNUSED_LOGIT``.
            permutation: as given to ``id_embedding``; it is undone.

        Returns:
            float (B, 1 + max_objects, H / 4, W / 4), background first.
        """
        maps = torch.unflatten(outputs.tokens.transpose(1, 2), 2, features.size)
        logits: Tensor = self.decoder(maps, features.f4, features.f8, features.f16)
        if permutation is not None:
            logits = logits.gather(1, permutation[:, :, None, None].expand_as(logits))
        if counts is not None:
            channel = torch.arange(logits.shape[1], device=logits.device)
            has_target = channel <= torch.as_tensor(counts, device=logits.device)[:, None]
            logits = logits.masked_fill(~has_target[:, :, None, None], UNUSED_LOGIT)
        return logits

    def write(self, outputs: Outputs, identity: Tensor) -> list[LayerMemory]:
        """Make a frame's memory for every layer; teacher forcing acts here.

        Args:
            outputs: the propagated frame.
            identity: ID embedding (B, n, width) of its final mask.
        """
        pairs = zip(self.layers, outputs.layers, strict=True)
        return [cast(GatedPropagation, layer).memory(output, identity) for layer, output in pairs]

    def random_permutation(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a random identity for each target; the background keeps the first.

        Args:
            batch: B.
            generator: on the CPU.

        Returns:
            int64 (B, 1 + max_objects).
        """
        rows = [torch.randperm(self.settings.max_objects, generator=generator) + 1 for _ in range(batch)]
        return F.pad(torch.stack(rows), (1, 0)).to(self.id_bank.weight.device)

    def nearest_side(self, pixels: float) -> int:
        """Return the side nearest to ``pixels`` that the encoder accepts: 16 k + 1 if it is aligned, else 16 k."""
        extra = int(self.aligned)
        return max(1, round((int(pixels) - extra) / 16)) * 16 + extra

    def _temporal_embeddings(self, frame_ranks: Tensor | None, count: int) -> tuple[Tensor, Tensor] | None:
        """Return the temporal embeddings of the query (1, key_width) and of the memory tokens (m, key_width).

        Up to four frames take a slot each, in the order of time; more frames share the slots as evenly as possible.
        Source: RMem's released code.
        """
        if not self.settings.temporal:
            return None
        if frame_ranks is None:
            frame_ranks = torch.zeros(count, dtype=torch.long, device=self.memory_time.device)
        frames = frame_ranks.max() + 1
        # Slots are counted from the newest frame backwards, like a nearest interpolation of the reversed slots.
        shared = TEMPORAL_SLOTS - 1 - (frames - 1 - frame_ranks) * TEMPORAL_SLOTS // frames
        return self.query_time, self.memory_time[torch.where(frames <= TEMPORAL_SLOTS, frame_ranks, shared)]


class ConvNorm(nn.Module):
    """Convolution, group norm of 8 groups, ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        normed: Tensor = self.norm(self.conv(x))
        return normed.relu_()


class Decoder(nn.Module):
    """Feature pyramid from stride 16 to 4, with a shortcut from the encoder at each step.

    Args:
        width: channels at stride 16; half as many at strides 8 and 4.
        shortcuts: channels of the encoder's maps at strides 4, 8 and 16.
        channels: of the logits.
        aligned: see ``Encoder``.
    """

    def __init__(self, width: int, shortcuts: tuple[int, ...], channels: int, aligned: bool) -> None:
        super().__init__()
        self.aligned, half = aligned, width // 2
        self.enter = ConvNorm(2 * width, width, 1)
        self.at16, self.at8, self.at4 = ConvNorm(width, width, 3), ConvNorm(width, half, 3), ConvNorm(half, half, 3)
        self.skip4, self.skip8, self.skip16 = (
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip(shortcuts, (half, width, width), strict=True)
        )
        self.predict = nn.Conv2d(half, channels, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> Tensor:
        """Decode a map to logits.

        Args:
            x: the propagated frame, (B, 2 width, h, w).
            f4: the encoder's map at stride 4.
            f8: the encoder's map at stride 8.
            f16: the encoder's map at stride 16.

        Returns:
            (B, channels, H / 4, W / 4).
        """
        x = self.at16(self.skip16(f16) + self.enter(x))
        x = self.at8(self.skip8(f8) + self._resize(x, f8))
        x = self.at4(self.skip4(f4) + self._resize(x, f4))
        logits: Tensor = self.predict(x)
        return logits

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=self.aligned)
