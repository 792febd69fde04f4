"""SAM-HQ (transformers): one image, many prompts, three masks each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamHQConfig, SamHQModel
from transformers.models.sam_hq.configuration_sam_hq import (
    SamHQMaskDecoderConfig,
    SamHQPromptEncoderConfig,
    SamHQVisionConfig,
)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass
class Encoded:
    """An encoded image.

    Attributes:
        embedding: float (1, C, s, s).
        early: outputs of the trunk's blocks with global attention, each (1, s, s, D).
        size: (H, W) of the image.
        inner: (h, w) that it has in the square input, the rest of which is padding.
    """

    embedding: Tensor
    early: list[Tensor]
    size: tuple[int, int]
    inner: tuple[int, int]


class SAMHQ(nn.Module):
    """SAM-HQ on frames as they are.

    Args:
        net: a transformers model; see ``methods.hqsmem.refinement.weights.load_sam_hq``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: SamHQModel) -> None:
        super().__init__()
        self.net, self.side = net, int(net.vision_encoder.image_size)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """uint8 (B, 3, H, W) to the input float (B, 3, S, S): long side S, normalised, zeros below and to the right.

        Returns:
            The input and the (h, w) that the images have in it.
        """
        height, width = images.shape[-2:]
        scale = self.side / max(height, width)
        inner = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        pixels = images.float()
        if inner != (height, width):
            pixels = F.interpolate(pixels, inner, mode="bilinear", align_corners=False, antialias=True)
        pixels = (pixels - self.mean) / self.std
        return F.pad(pixels, (0, self.side - inner[1], 0, self.side - inner[0])), inner

    def encode(self, frame: Tensor) -> Encoded:
        """A frame uint8 (H, W, 3)."""
        pixels, inner = self.preprocess(frame.permute(2, 0, 1)[None])
        embedding, early = self.net.get_image_embeddings(pixels)
        return Encoded(embedding, early, (frame.shape[0], frame.shape[1]), inner)

    def propose(
        self, image: Encoded, boxes: Tensor | None = None, points: Tensor | None = None, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Three masks for each of N prompts, in pixels of the frame.

        Args:
            boxes: float (N, 4), inclusive corners.
            points: float (N, P, 2), x and y.
            labels: int64 (N, P): 1 on the target, 0 off it, -10 no point.

        Returns:
            masks bool (N, 3, H, W), the logits resized to the frame and cut at 0; predicted IoUs (N, 3), falling.
        """
        scale = image.embedding.new_tensor([image.inner[1] / image.size[1], image.inner[0] / image.size[0]])
        out = self.net(
            image_embeddings=image.embedding,
            intermediate_embeddings=image.early,
            input_boxes=None if boxes is None else boxes[None].to(scale) * scale.repeat(2),
            input_points=None if points is None else points[None].to(scale) * scale,
            input_labels=None if labels is None else labels[None].to(scale.device),
        )
        # in two steps, as SAM does: the square first, then without its padding to the frame
        logits = F.interpolate(out.pred_masks[0].float(), (self.side, self.side), mode="bilinear", align_corners=False)
        logits = logits[..., : image.inner[0], : image.inner[1]]
        if image.inner != image.size:
            logits = F.interpolate(logits, image.size, mode="bilinear", align_corners=False)
        return logits > 0, out.iou_scores[0]


def nano_sam_hq() -> SamHQModel:
    """A SAM-HQ of 1.1 M parameters on 256 x 256 pixels, with values to start training from.

    Transformers' own are made to be replaced by published weights: Fourier features of tens of periods, layers of
    almost zero. Here the trunk knows places by the prompts' Fourier features, and equal projections of query and key
    let a corner look at the places near it first. Without both, a small network takes long to learn what a box is.
    """
    net = SamHQModel(
        SamHQConfig(
            vision_config=SamHQVisionConfig(
                hidden_size=96,
                output_channels=96,
                num_hidden_layers=4,
                num_attention_heads=4,
                image_size=256,
                window_size=8,
                global_attn_indexes=(1, 3),
                num_pos_feats=48,
            ),
            prompt_encoder_config=SamHQPromptEncoderConfig(hidden_size=96, image_size=256),
            mask_decoder_config=SamHQMaskDecoderConfig(
                hidden_size=96, mlp_dim=256, num_attention_heads=4, iou_head_hidden_dim=96, vit_dim=96
            ),
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    fourier = net.shared_image_embedding.positional_embedding  # of images and prompts alike, and never trained
    nn.init.normal_(fourier).requires_grad_(False)
    assert net.prompt_encoder.shared_embedding.positional_embedding is fourier
    assert net.vision_encoder.pos_embed is not None
    net.vision_encoder.pos_embed.data.copy_(net.get_image_wide_positional_embeddings().permute(0, 2, 3, 1) / 2)
    for name, module in net.mask_decoder.transformer.named_modules():
        if name.endswith(("token_to_image", "image_to_token")):
            nn.init.orthogonal_(module.q_proj.weight, gain=2.0)
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    return net
