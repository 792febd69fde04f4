"""SAM 2 as four steps: encode a frame, read memory, decode candidates, encode a memory.

The modules, parameters and parameter names are those of transformers' ``Sam2VideoModel``. Every step has a batch axis
of objects, or objects x pathways. Only this package depends on the internals of transformers' modules.
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

from common.nn.graphs import run
from common.nn.preprocessing import normalise, resize_logits
from common.nn.sam2.attention import read_memory
from common.nn.sam2.config import sam2_config
from common.nn.sam2.postprocess import PACKAGE, PostProcessing
from common.nn.sam2.trunk import encode_trunk
from common.nn.sam2.types import Bank, Candidates, FrameFeatures
from common.nn.timing import part
from common.nn.transfer import to_device
from common.precision import Float32Module


class SAM2(Float32Module):
    """SAM 2 with random weights; ``common.nn.sam2.weights`` loads published ones.

    Shape legend: B objects (or objects x pathways), K candidates, S image size, C width (256, nano and mini 64).

    Args:
        size: ``tiny``, ``small``, ``base_plus``, ``large``, ``nano`` or ``mini``.
        version: ``"2"`` or ``"2.1"``.
        image_size: side of the square input, divisible by 32; default 1024 (nano 128, mini 384).

    Attributes:
        compiled: compile the steps by ``torch.compile``, in training the encoder only.
        predictor_options: post-processing of the predictors on this network; sessions have their own.
    """

    predictor_options: PostProcessing = PACKAGE
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
        self.compiled = False
        self.net.no_memory_positional_encoding.requires_grad_(False)  # in the checkpoints, but unused
        self._initialise()
        grid, width = self.image_size // 16, config.vision_config.fpn_hidden_size
        sine = self.net.vision_encoder.neck.position_encoding
        memory_sine = self.net.memory_encoder.position_encoding
        for name, encode, channels in (("position", sine, width), ("memory_position", memory_sine, 64)):
            table = encode(torch.Size((1, channels, grid, grid)), "cpu", torch.float32)
            self.register_buffer(name, table.flatten(2).transpose(1, 2).clone(), persistent=False)

    def _initialise(self) -> None:
        """Initialise for training from scratch; transformers' initial values are meant to be replaced by weights.

        Layers behind the trunk are initialised as in torch, as SAM 2's are. In the attention to memory, equal biases of
        query and key make RoPE a kernel of distance: a place attends to the same place in memory first, so that masks
        are propagated from the first step. Without that a small network learns to ignore its memory.
        """
        for name, module in self.net.named_modules():
            if "backbone" not in name and isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                module.reset_parameters()
        for layer in self.net.memory_attention.layers:
            nn.init.ones_(layer.cross_attn_image.q_proj.bias)
            nn.init.ones_(layer.cross_attn_image.k_proj.bias)
        for layer in self.net.memory_encoder.memory_fuser.layers:
            nn.init.constant_(layer.scale, self.net.config.memory_fuser_layer_scale_init_value)
        # points and image positions share one Fourier matrix, which transformers stores twice
        fourier = self.net.shared_image_embedding.positional_embedding
        self.net.prompt_encoder.shared_embedding.positional_embedding.data.copy_(fourier)

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, S / 4."""
        return self.image_size // 4

    def preprocess(self, frames: Tensor) -> Tensor:
        """Resize frames by a bicubic filter and normalise them.

        On a CPU Pillow resizes, as in the official code; on a GPU torch does, within one grey level of it.

        Args:
            frames: uint8 RGB (B, 3, H, W).

        Returns:
            float32 (B, 3, S, S).
        """
        side = (self.image_size, self.image_size)
        if frames.shape[-2:] != side and frames.device.type == "cpu":
            frames = torch.stack([_pillow_resize(frame, side) for frame in frames])
        pixels = frames.float()
        if frames.shape[-2:] != side:
            pixels = F.interpolate(pixels, side, mode="bicubic", antialias=True).round().clamp(0, 255)
        return normalise(pixels / 255)

    @part("encode")
    def encode(self, images: Tensor) -> FrameFeatures:
        """Encode preprocessed images (B, 3, S, S)."""
        embedding, *fine = run(self, _encode, images, compile=self.compiled)
        return FrameFeatures(embedding, (fine[0], fine[1]))

    def without_memory(self, features: FrameFeatures) -> Tensor:
        """Return the embedding (B, C, h, w) from which a prompt by points or a box is decoded: no memory is read."""
        embedding: Tensor = features.embedding + self.net.no_memory_embedding.view(1, -1, 1, 1)
        return embedding

    @part("read memory")
    def read(self, features: FrameFeatures, bank: Bank) -> Tensor:
        """Condition the embedding of a frame on memory by memory attention.

        Args:
            features: of one frame, which all B banks share, or of B frames.
            bank: B banks.

        Returns:
            (B, C, h, w).
        """
        tokens, positions, weights, pointers = self._tokens(bank)
        compile = self.compiled and not self.training
        return run(self, _read, features.embedding, tokens, positions, weights, pointers, compile=compile)[0]

    def read_many(self, features: FrameFeatures, banks: Sequence[Bank]) -> Tensor:
        """Condition the embedding of one frame on several banks of batch 1; those of one layout are read in one call.

        Args:
            features: of one frame.
            banks: B banks of any layouts.

        Returns:
            (B, C, h, w).
        """
        out = features.embedding.new_empty(len(banks), *features.embedding.shape[1:])
        for rows in Bank.group(banks):
            out[rows] = self.read(features, Bank.merge([banks[row] for row in rows])).to(out.dtype)
        return out

    def _tokens(self, bank: Bank) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """Convert a bank to tokens; a pointer of C channels becomes C / 64 tokens of 64.

        Returns:
            Memory tokens (B, n, 64), positions (1, n, 64), key weights (B, n, 1) or None, number of pointer tokens.
        """
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
        """Compute the temporal encoding (1, L, 64) of the pointers; zeros in version 2."""
        if self.version == "2":
            return self.memory_position.new_zeros(1, len(bank.offsets), 64)
        offsets = to_device(bank.offsets, self.memory_position.device) / (bank.max_pointers - 1)
        sine = get_1d_sine_pe(offsets, dim=self.net.hidden_dim)
        encoding: Tensor = self.net.temporal_positional_encoding_projection_layer(sine)
        return encoding[None]

    @part("decode masks")
    def decode(
        self,
        embedding: Tensor,
        features: FrameFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        multimask: bool = True,
        *,
        presence: float = 0.0,
        dynamic_multimask: bool = False,
    ) -> Candidates:
        """Decode candidate masks.

        Args:
            embedding: from ``read`` or ``without_memory``, (B, C, h, w).
            features: of the frame, for the fine maps.
            points: (B, P, 2) in pixels of the input; a box is two points, labelled 2 and 3, ahead of the others. None
                is one padding point, as in tracking; P = 0 is no point at all, as in the package's image predictor with
                a mask alone.
            labels: int64 (B, P): 1 on the object, 0 off it, 2 and 3 box corners, -1 padding.
            mask: logits (B, 1, S/4, S/4) of a mask prompt.
            multimask: decode three candidates, else one from the single-mask token.
            presence: occlusion score above which an object has a mask and a pointer.
            dynamic_multimask: where one candidate is decoded and its mask is not stable (the masks at logits of 0.05
                and -0.05 have an IoU below 0.98), take the mask and predicted IoU of the best of the three; the pointer
                stays that of the single-mask token. Not in training mode.
        """
        frame = features.expand(len(embedding)) if len(features.embedding) == 1 else features
        arguments = (embedding, *frame.fine, points, labels, mask, multimask, presence, dynamic_multimask)
        if points is None and mask is None and not self.training:  # tracking: the shapes recur
            logits, ious, score, pointers = run(self, _decode, *arguments, compile=self.compiled)
        else:
            logits, ious, score, pointers = _decode(self, *arguments)
        return Candidates(logits, ious, score, pointers, presence)

    def _pointers(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Project mask tokens to object pointers (B, K, C); an absent object gets the no-object pointer."""
        keep = present.view(-1, 1, 1)
        return torch.where(keep, self.net.object_pointer_proj(tokens), self.net.no_object_pointer.to(tokens.dtype))

    def take_mask(self, features: FrameFeatures, masks: Tensor, presence: float = 0.0) -> Candidates:
        """Return a mask prompt as the prediction; the decoder provides the object pointer only.

        Args:
            features: of one frame, or of B frames.
            masks: float (B, 1, S, S) in {0, 1}.
            presence: occlusion score above which the decoder provides a pointer.

        Returns:
            K = 1; logits are 10 inside and -10 outside of the mask.
        """
        logits = F.interpolate(
            masks * 20.0 - 10.0, (self.mask_size,) * 2, mode="bilinear", align_corners=False, antialias=True
        )
        batch = len(masks)
        frame = features.expand(batch) if len(features.embedding) == 1 else features
        decoded = self.decode(
            frame.embedding, frame, mask=self.net.mask_downsample(masks), multimask=False, presence=presence
        )
        present = masks.flatten(1).any(1)
        pointers = torch.where(
            present.view(-1, 1, 1), decoded.pointers, self.net.no_object_pointer.to(decoded.pointers.dtype)
        )
        score = torch.where(present, 10.0, -10.0)
        return Candidates(logits, torch.ones_like(logits[:, :, 0, 0]), score, pointers, presence)

    @part("write memory")
    def encode_memory(self, features: FrameFeatures, candidates: Candidates, binarize: bool = False) -> Tensor:
        """Encode a frame and its chosen masks as memory.

        Args:
            features: of one frame, or of B frames.
            candidates: the chosen masks, K = 1.
            binarize: encode the masks thresholded at 0 instead of as probabilities.

        Returns:
            Memory maps (B, 64, S/16, S/16).
        """
        arguments = (features.embedding, candidates.visible_logits, candidates.score, binarize)
        return run(self, _encode_memory, *arguments, compile=self.compiled and not self.training)[0]


# The steps as functions of tensors, which may be compiled and captured.


def _encode(model: SAM2, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encode images: the embedding and the two fine maps of ``FrameFeatures``."""
    trunk, neck = model.net.vision_encoder.backbone, model.net.vision_encoder.neck
    stages = encode_trunk(trunk, images, model.checkpoint_activations)
    lateral = [conv(x.permute(0, 3, 1, 2)) for conv, x in zip(neck.convs, stages[::-1], strict=True)]
    coarse = F.interpolate(lateral[0].float(), scale_factor=2.0, mode="nearest").to(lateral[1].dtype)
    decoder = model.net.mask_decoder
    return lateral[1] + coarse, decoder.conv_s0(lateral[3]), decoder.conv_s1(lateral[2])


def _read(
    model: SAM2, embedding: Tensor, tokens: Tensor, positions: Tensor, weights: Tensor | None, pointers: int
) -> tuple[Tensor]:
    """Read memory: arguments as of ``read_memory``."""
    attention, checkpointed = model.net.memory_attention, model.checkpoint_activations
    return (read_memory(attention, embedding, model.position, tokens, positions, weights, pointers, checkpointed),)


def _decode(
    model: SAM2,
    embedding: Tensor,
    fine0: Tensor,
    fine1: Tensor,
    points: Tensor | None,
    labels: Tensor | None,
    mask: Tensor | None,
    multimask: bool,
    presence: float,
    dynamic_multimask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decode: the first four fields of ``Candidates``."""
    net, batch = model.net, len(embedding)
    if points is None or labels is None:
        points = embedding.new_zeros(batch, 1, 2)
        labels = torch.full((batch, 1), -1, device=embedding.device)
    if points.shape[1]:
        sparse, dense = net.prompt_encoder(points[:, None], labels[:, None], None, mask)
    else:
        _, dense = net.prompt_encoder(None, None, None, mask)
        sparse = dense.new_zeros(batch, 1, 0, dense.shape[1])
    net.mask_decoder.dynamic_multimask_via_stability = dynamic_multimask
    logits, ious, tokens, score = net.mask_decoder(
        image_embeddings=embedding,
        image_positional_embeddings=net.get_image_wide_positional_embeddings().expand(batch, -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        high_resolution_features=[fine0, fine1],
    )
    score = score[:, 0, 0]
    return logits[:, 0], ious[:, 0], score, model._pointers(tokens[:, 0], score > presence)


def _encode_memory(
    model: SAM2, embedding: Tensor, visible_logits: Tensor, score: Tensor, binarize: bool
) -> tuple[Tensor]:
    """Encode a memory: a frame's embedding, and the logits and occlusion scores of its chosen masks."""
    net, config = model.net, model.net.config
    logits = resize_logits(visible_logits, (model.image_size, model.image_size))
    probabilities = (logits > 0).float() if binarize else logits.sigmoid()
    mask = probabilities * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
    memory: Tensor = net.memory_encoder(embedding, mask.to(embedding.dtype))[0]
    if net.occlusion_spatial_embedding_parameter is not None:
        absent = (score <= 0).view(-1, 1, 1, 1)
        memory = memory + absent * net.occlusion_spatial_embedding_parameter.view(1, -1, 1, 1)
    return (memory,)


def _pillow_resize(frame: Tensor, side: tuple[int, int]) -> Tensor:
    """Resize a frame uint8 (3, H, W) by Pillow's bicubic filter."""
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(np.array(image.resize(side, Image.Resampling.BICUBIC))).permute(2, 0, 1)
