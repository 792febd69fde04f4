"""What an object looks like to DINO: the mean of its patches' tokens (eq. 8, 9; section 5)."""

from __future__ import annotations

from transformers import ViTConfig, ViTModel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def nano_dino() -> ViTModel:
    """A ViT of 0.5 M parameters, patches of 8 x 8 pixels, made to be trained as DINO."""
    config = ViTConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=96,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    return ViTModel(config, add_pooling_layer=False)
