"""SAM-HQ (Ke et al., arXiv 2306.01567) of transformers: an image is encoded once, each prompt gets three masks."""

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

from methods.hqsmem.refinement.mask_decoder import SAMHQNetwork

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass
class EncodedImage:
    """An encoded image.

    Attributes:
        embedding: float (1, C, s, s).
        intermediate: outputs of the trunk's blocks with global attention, each (1, s, s, D).
        size: (H, W) of the image.
        inner_size: (h, w) of the image in the square input; the rest of the input is padding.
    """

    embedding: Tensor
    intermediate: list[Tensor]
    size: tuple[int, int]
    inner_size: tuple[int, int]


class SAMHQ(nn.Module):
    """SAM-HQ with its preprocessing and postprocessing, on frames of any size.

    Args:
        network: a transformers model, see ``methods.hqsmem.refinement.weights.load_sam_hq``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: SamHQModel) -> None:
        super().__init__()
        self.network, self.side = network, int(network.vision_encoder.image_size)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def preprocess(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Resize images to the long side S of the input, normalise them, and pad with zeros below and to the right.

        Args:
            images: uint8 (B, 3, H, W).

        Returns:
            The input float (B, 3, S, S), and the size (h, w) of the images in it.
        """
        height, width = images.shape[-2:]
        scale = self.side / max(height, width)
        inner_size = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        pixels = images.float()
        if inner_size != (height, width):
            pixels = F.interpolate(pixels, inner_size, mode="bilinear", align_corners=False, antialias=True)
        pixels = (pixels - self.mean) / self.std
        return F.pad(pixels, (0, self.side - inner_size[1], 0, self.side - inner_size[0])), inner_size

    def encode(self, frame: Tensor) -> EncodedImage:
        """Encode a frame uint8 (H, W, 3)."""
        pixels, inner_size = self.preprocess(frame.permute(2, 0, 1)[None])
        embedding, intermediate = self.network.get_image_embeddings(pixels)
        return EncodedImage(embedding, intermediate, (frame.shape[0], frame.shape[1]), inner_size)

    def propose(
        self,
        image: EncodedImage,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict three masks for each of N prompts; coordinates are in pixels of the frame.

        Args:
            image: the encoded frame.
            boxes: float (N, 4), x0, y0, x1, y1, both corners inclusive.
            points: float (N, P, 2), x and y.
            labels: int64 (N, P), 1 on the target, 0 off it, -10 for no point.

        Returns:
            Masks bool (N, 3, H, W), logits above 0 at the size of the frame; and their predicted IoUs (N, 3), in
            descending order.
        """
        (height, width), (inner_height, inner_width) = image.size, image.inner_size
        scale = image.embedding.new_tensor([inner_width / width, inner_height / height])
        out = self.network(
            image_embeddings=image.embedding,
            intermediate_embeddings=image.intermediate,
            input_boxes=None if boxes is None else boxes[None].to(scale) * scale.repeat(2),
            input_points=None if points is None else points[None].to(scale) * scale,
            input_labels=None if labels is None else labels[None].to(scale.device),
        )
        # Resized in two steps, as in SAM: to the square input, then, without its padding, to the frame.
        logits = F.interpolate(out.pred_masks[0].float(), (self.side, self.side), mode="bilinear", align_corners=False)
        logits = logits[..., :inner_height, :inner_width]
        if image.inner_size != image.size:
            logits = F.interpolate(logits, image.size, mode="bilinear", align_corners=False)
        return logits > 0, out.iou_scores[0]


def nano_sam_hq() -> SamHQModel:
    """Build a SAM-HQ of 1.1 M parameters on 256 x 256 pixels, initialised for training from scratch.

    The initialisation of transformers expects to be replaced by published weights: its Fourier features have tens of
    periods across the image, and its layers are almost zero. Here the trunk has the position embedding of the prompts,
    and query and key of the cross-attention start with equal projections, so that the corner of a box attends to the
    places near it. Without both, a small network needs long to learn what a box is.
    """
    network: SamHQModel = SAMHQNetwork(
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
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    fourier = network.shared_image_embedding.positional_embedding  # shared by images and prompts, and never trained
    nn.init.normal_(fourier).requires_grad_(False)
    assert network.prompt_encoder.shared_embedding.positional_embedding is fourier
    assert network.vision_encoder.pos_embed is not None
    places = network.get_image_wide_positional_embeddings()
    network.vision_encoder.pos_embed.data.copy_(places.permute(0, 2, 3, 1) / 2)
    for name, module in network.mask_decoder.transformer.named_modules():
        if name.endswith(("token_to_image", "image_to_token")):
            nn.init.orthogonal_(module.q_proj.weight, gain=2.0)
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    return network
