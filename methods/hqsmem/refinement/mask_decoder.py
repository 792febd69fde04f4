"""The mask decoder of SAM-HQ (Ke et al., arXiv 2306.01567, figure 2) on transformers' modules.

The forward pass of transformers 5.23.0 upsamples the image embedding from before the two-way transformer, and with
rows and columns exchanged (docs/upstream/transformers_sam_hq.md); the published code upsamples what the transformer
returns. Modules and parameter names are transformers', so its weights load.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import SamHQConfig, SamHQModel
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder


class MaskDecoder(SamHQMaskDecoder):
    """SAM's mask decoder with a high-quality token, whose mask is added to SAM's.

    Shape legend: B images, P prompts, C width, s side of the embedding, T prompt tokens, K masks.
    """

    def forward(  # type: ignore[override]  # the names are those by which SamHQModel calls it
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        hq_token_only: bool,
        intermediate_embeddings: Sequence[Tensor],
        attention_similarity: Tensor | None = None,
        target_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode masks.

        Args:
            image_embeddings: (B, C, s, s).
            image_positional_embeddings: (B, C, s, s).
            sparse_prompt_embeddings: (B, P, T, C).
            dense_prompt_embeddings: (B, C, s, s).
            multimask_output: three masks by descending predicted IoU, else one.
            hq_token_only: the mask of the high-quality token alone, else its sum with SAM's.
            intermediate_embeddings: outputs of the trunk's blocks with global attention, each (B, s, s, D); the first
                is used.
            attention_similarity: for the two-way transformer.
            target_embedding: for the two-way transformer.

        Returns:
            Mask logits (B, P, K, 4 s, 4 s) and predicted IoUs (B, P, K).
        """
        batch, prompts = sparse_prompt_embeddings.shape[:2]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hq_token.weight])
        tokens = torch.cat([own.expand(batch, prompts, -1, -1), sparse_prompt_embeddings], 2)
        tokens, image = self.transformer(
            point_embeddings=tokens.to(own.dtype),
            image_embeddings=(image_embeddings + dense_prompt_embeddings).repeat_interleave(prompts, 0),
            image_positional_embeddings=image_positional_embeddings.repeat_interleave(prompts, 0),
            attention_similarity=attention_similarity,
            target_embedding=target_embedding,
        )
        # (B, P, s * s, C) -> (B * P, C, s, s)
        image = image.transpose(2, 3).reshape(batch * prompts, image_embeddings.shape[1], *image_embeddings.shape[2:])
        fine = self.activation(self.upscale_layer_norm(self.upscale_conv1(image)))
        fine = self.activation(self.upscale_conv2(fine))
        hq = self.mask_conv2(self.activation(self.mask_norm(self.mask_conv1(fine))))
        hq = hq + self._hq_features(image_embeddings, intermediate_embeddings).repeat_interleave(prompts, 0)

        masks = tokens[:, :, 1 : 1 + self.num_mask_tokens]
        heads = [*self.output_hypernetworks_mlps[: self.num_mask_tokens - 1], self.hq_mask_mlp]
        weights = torch.stack([head(masks[:, :, index]) for index, head in enumerate(heads)], 2)
        sam_logits = _dot(weights[:, :, :-1], fine)
        hq_logits = _dot(weights[:, :, -1:], hq)

        kept = slice(1, self.num_mask_tokens - 1) if multimask_output else slice(0, 1)
        ious, order = self.iou_prediction_head(tokens[:, :, 0])[:, :, kept].sort(dim=2, descending=True)
        if hq_token_only:
            return hq_logits, ious
        side = sam_logits.shape[-2:]
        return sam_logits[:, :, kept].gather(2, order[..., None, None].expand(-1, -1, -1, *side)) + hq_logits, ious

    def _hq_features(self, embedding: Tensor, intermediate: Sequence[Tensor]) -> Tensor:
        """Return the sum of the upsampled last and first global-attention features, (B, C / 8, 4 s, 4 s)."""
        late = self.encoder_conv2(self.activation(self.encoder_norm(self.encoder_conv1(embedding))))
        early = self.compress_vit_conv1(intermediate[0].permute(0, 3, 1, 2).contiguous())
        early = self.compress_vit_conv2(self.activation(self.compress_vit_norm(early)))
        features: Tensor = late + early
        return features


class SAMHQNetwork(SamHQModel):
    """transformers' SAM-HQ with the mask decoder of this file."""

    def __init__(self, config: SamHQConfig) -> None:
        super().__init__(config)
        self.mask_decoder.__class__ = MaskDecoder  # the same modules, initialised as transformers does


def _dot(weights: Tensor, features: Tensor) -> Tensor:
    """Multiply weights (B, P, K, c) and features (B * P, c, h, w) to logits (B, P, K, h, w)."""
    features = features.unflatten(0, weights.shape[:2])
    return torch.einsum("bpkc,bpchw->bpkhw", weights, features)
