"""SAM 2 as four steps: encode a frame, read memory, decode candidates, encode a memory.

Composed from the modules of transformers' ``Sam2VideoModel`` (its parameters, its names), with an explicit batch axis
of objects, or objects x pathways, everywhere. This package is the only place that knows those modules' internals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

from common.nn.preprocessing import normalise, resize_logits
from common.nn.sam2.attention import read_memory
from common.nn.sam2.config import sam2_config
from common.nn.sam2.trunk import encode_trunk
from common.nn.sam2.types import Bank, Candidates, FrameFeatures


class SAM2(nn.Module):
    """The SAM 2 core, with seeded random weights until some are loaded (``common.nn.sam2.weights``).

    Shape legend: B objects (or objects x pathways), S image size, C width (256, nano 64).

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large`` or ``nano``.
        version: ``"2"`` or ``"2.1"``.
        image_size: side of the square input, divisible by 32; default 1024 (nano 128).
    """

    net: Any  # transformers' Sam2VideoModel; its attributes are not typed
    position: Tensor
    memory_position: Tensor

    def __init__(self, size: str = "tiny", version: str = "2.1", image_size: int | None = None) -> None:
        super().__init__()
        config: Any = sam2_config(size, version, image_size)
        self.net = Sam2VideoModel(config)
        self.size, self.version = size, version
        self.image_size: int = config.image_size
        self.checkpoint_activations = False
        self.net.no_memory_positional_encoding.requires_grad_(False)  # in the checkpoints, read by nothing
        self._initialise()
        grid, width = self.image_size // 16, config.vision_config.fpn_hidden_size
        sine = self.net.vision_encoder.neck.position_encoding
        memory_sine = self.net.memory_encoder.position_encoding
        for name, encode, channels in (("position", sine, width), ("memory_position", memory_sine, 64)):
            table = encode(torch.Size((1, channels, grid, grid)), "cpu", torch.float32)
            self.register_buffer(name, table.flatten(2).transpose(1, 2).clone(), persistent=False)

    def _initialise(self) -> None:
        """Values to start training from nothing; transformers' own are made to be replaced by published weights.

        Behind the trunk, layers start as torch makes them, as in SAM 2. In the attention to memory, equal biases of
        query and key leave RoPE's kernel of distance: a place looks at the same place in memory first, so that a mask
        is carried on from the first step. Without that a small network learns to do without memory.
        """
        for name, module in self.net.named_modules():
            if "backbone" not in name and isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                module.reset_parameters()
        for layer in self.net.memory_attention.layers:
            nn.init.ones_(layer.cross_attn_image.q_proj.bias)
            nn.init.ones_(layer.cross_attn_image.k_proj.bias)
        for layer in self.net.memory_encoder.memory_fuser.layers:
            nn.init.constant_(layer.scale, self.net.config.memory_fuser_layer_scale_init_value)
        # points and image positions are encoded by one Fourier matrix, which transformers stores twice
        fourier = self.net.shared_image_embedding.positional_embedding
        self.net.prompt_encoder.shared_embedding.positional_embedding.data.copy_(fourier)

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, S / 4."""
        return self.image_size // 4

    def preprocess(self, frames: Tensor) -> Tensor:
        """Frames uint8 (B, 3, H, W) to the network's input float32 (B, 3, S, S): bicubic resize, then normalised.

        On the CPU Pillow resizes, as in the official code; on a GPU torch does, within one grey level of it.
        """
        side = (self.image_size, self.image_size)
        if frames.shape[-2:] != side and frames.device.type == "cpu":
            frames = torch.stack([_pillow_resize(frame, side) for frame in frames])
        pixels = frames.float()
        if frames.shape[-2:] != side:
            pixels = F.interpolate(pixels, side, mode="bicubic", antialias=True).round().clamp(0, 255)
        return normalise(pixels / 255)

    def encode(self, images: Tensor) -> FrameFeatures:
        """Encode preprocessed images (B, 3, S, S)."""
        trunk, neck = self.net.vision_encoder.backbone, self.net.vision_encoder.neck
        stages = encode_trunk(trunk, images, self.checkpoint_activations)
        lateral = [conv(x.permute(0, 3, 1, 2)) for conv, x in zip(neck.convs, stages[::-1], strict=True)]
        coarse = F.interpolate(lateral[0].float(), scale_factor=2.0, mode="nearest").to(lateral[1].dtype)
        decoder = self.net.mask_decoder
        return FrameFeatures(lateral[1] + coarse, (decoder.conv_s0(lateral[3]), decoder.conv_s1(lateral[2])))

    def without_memory(self, features: FrameFeatures) -> Tensor:
        """The embedding (B, C, h, w) that the decoder sees on a frame prompted by points or a box."""
        return features.embedding + self.net.no_memory_embedding.view(1, -1, 1, 1)

    def read(self, features: FrameFeatures, bank: Bank) -> Tensor:
        """Memory attention: the embedding (B, C, h, w) of the frame conditioned on a bank of B entries.

        ``features`` may hold one frame (seen by all B) or B frames.
        """
        tokens, positions, weights, pointers = self._tokens(bank)
        return read_memory(
            self.net.memory_attention,
            features.embedding,
            self.position,
            tokens,
            positions,
            weights,
            pointers,
            self.checkpoint_activations,
        )

    def read_many(self, features: FrameFeatures, banks: Sequence[Bank]) -> Tensor:
        """Memory attention of one frame with many banks of batch 1: (len(banks), C, h, w).

        Banks that are laid out alike are read in one call.
        """
        out = features.embedding.new_empty(len(banks), *features.embedding.shape[1:])
        for rows in Bank.group(banks):
            out[rows] = self.read(features, Bank.merge([banks[row] for row in rows])).to(out.dtype)
        return out

    def _tokens(self, bank: Bank) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """Memory tokens (B, n, 64), positions (1, n, 64), key weights (B, n, 1) or None, number of pointer tokens."""
        temporal = self.net.memory_temporal_positional_encoding.view(-1, 1, 64)
        tokens = [m.flatten(2).transpose(1, 2) for m in bank.maps]
        positions = [self.memory_position + temporal[slot] for slot in bank.slots]
        split = 0
        if bank.pointers:
            pointers = torch.stack(bank.pointers, 1)
            split = pointers.shape[-1] // 64
            tokens.append(pointers.reshape(len(pointers), -1, 64))
            positions.append(self._pointer_positions(bank).repeat_interleave(split, 1))
        weights = None
        if bank.map_weights is not None:
            per_token = [bank.map_weights.repeat_interleave(self.memory_position.shape[1], 1)]
            if bank.pointer_weights is not None:
                per_token.append(bank.pointer_weights.repeat_interleave(split, 1))
            weights = torch.cat(per_token, 1)[..., None]
        dtype = tokens[-1].dtype if bank.pointers else self.memory_position.dtype
        return torch.cat([t.to(dtype) for t in tokens], 1), torch.cat(positions, 1), weights, len(bank.pointers) * split

    def _pointer_positions(self, bank: Bank) -> Tensor:
        """Temporal encoding (1, L, 64) of the pointers; zeros in version 2."""
        if self.version == "2":
            return self.memory_position.new_zeros(1, len(bank.offsets), 64)
        offsets = torch.tensor(bank.offsets, device=self.memory_position.device) / (bank.max_pointers - 1)
        sine = get_1d_sine_pe(offsets, dim=self.net.hidden_dim)
        return self.net.temporal_positional_encoding_projection_layer(sine)[None]

    def decode(
        self,
        embedding: Tensor,
        features: FrameFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        multimask: bool = True,
    ) -> Candidates:
        """Candidate masks from a conditioned embedding (B, C, h, w).

        Args:
            embedding: from ``read`` or ``without_memory``.
            features: the frame's features, for the fine maps.
            points: (B, P, 2) in input pixels; a box is two points, labelled 2 and 3, ahead of the others.
            labels: int64 (B, P): 1 on the object, 0 off it, 2 / 3 box corners, -1 padding.
            mask: logits (B, 1, S/4, S/4) given as a dense prompt.
            multimask: three candidates (else the single-mask token).
        """
        net, batch = self.net, len(embedding)
        if points is None or labels is None:
            points = embedding.new_zeros(batch, 1, 2)
            labels = torch.full((batch, 1), -1, device=embedding.device)
        sparse, dense = net.prompt_encoder(points[:, None], labels[:, None], None, mask)
        logits, ious, tokens, score = net.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=net.get_image_wide_positional_embeddings().expand(batch, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=list(
                features.expand(batch).fine if len(features.embedding) == 1 else features.fine
            ),
        )
        score = score[:, 0, 0]
        return Candidates(logits[:, 0], ious[:, 0], score, self._pointers(tokens[:, 0], score > 0))

    def _pointers(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Object pointers (B, K, C) from mask tokens, switched hard to the no-object pointer."""
        keep = present.view(-1, 1, 1)
        return torch.where(keep, self.net.object_pointer_proj(tokens), self.net.no_object_pointer.to(tokens.dtype))

    def take_mask(self, features: FrameFeatures, masks: Tensor) -> Candidates:
        """A mask prompt (B, 1, S, S) in {0, 1} taken as the answer; the decoder only makes the pointer. K = 1."""
        logits = F.interpolate(
            masks * 20.0 - 10.0, (self.mask_size,) * 2, mode="bilinear", align_corners=False, antialias=True
        )
        batch = len(masks)
        frame = features.expand(batch) if len(features.embedding) == 1 else features
        seen = self.decode(frame.embedding, frame, mask=self.net.mask_downsample(masks), multimask=False)
        present = masks.flatten(1).any(1)
        pointers = torch.where(
            present.view(-1, 1, 1), seen.pointers, self.net.no_object_pointer.to(seen.pointers.dtype)
        )
        score = torch.where(present, 10.0, -10.0)
        return Candidates(logits, torch.ones_like(logits[:, :, 0, 0]), score, pointers)

    def encode_memory(self, features: FrameFeatures, candidates: Candidates) -> Tensor:
        """Memory map (B, 64, S/16, S/16) of a frame with its chosen masks (K = 1)."""
        net, config = self.net, self.net.config
        side = (self.image_size, self.image_size)
        logits = resize_logits(candidates.visible_logits, side)
        mask = logits.sigmoid() * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        memory, _ = net.memory_encoder(features.embedding, mask.to(features.embedding.dtype))
        if net.occlusion_spatial_embedding_parameter is not None:
            absent = (candidates.score <= 0).view(-1, 1, 1, 1)
            memory = memory + absent * net.occlusion_spatial_embedding_parameter.view(1, -1, 1, 1)
        return memory


def _pillow_resize(frame: Tensor, side: tuple[int, int]) -> Tensor:
    """A frame uint8 (3, H, W) resized by Pillow's bicubic filter."""
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(np.array(image.resize(side, Image.Resampling.BICUBIC))).permute(2, 0, 1)
