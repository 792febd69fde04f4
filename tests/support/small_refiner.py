"""SAM-HQ and DINO as small as they go, with random values."""

from __future__ import annotations

import torch
from transformers import SamHQConfig, SamHQModel, ViTConfig, ViTModel

from methods.hqsmem import HQSMem
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.gate import Refiner, RefineSettings
from methods.hqsmem.refinement.sam_hq import SAMHQ


def small_sam() -> SAMHQ:
    """Two blocks of width 16 on 64 x 64 pixels."""
    trunk = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "global_attn_indexes": (1,)}
    trunk |= {"image_size": 64, "output_channels": 16, "num_pos_feats": 8, "window_size": 2}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16, "vit_dim": 16}
    prompts = {"hidden_size": 16, "image_size": 64}
    net = SamHQModel(SamHQConfig(vision_config=trunk, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    return SAMHQ(lively(net)).eval()


def small_dino() -> DINO:
    """Two blocks of width 16, patches of 8 x 8, frames of 32 pixels."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return DINO(lively(ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False)), 32).eval()


def lively(net: torch.nn.Module, seed: int = 1):
    """Random values at which every part has a say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.named_parameters():
            scale = 1.0 if value.ndim == 1 or "positional" in name else value[0].numel() ** -0.5
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
    return net


def with_small_refiner(module: HQSMem) -> HQSMem:
    """The module with these in place of its own, as far as it uses them."""
    dino = small_dino() if module.sources["dino"] else None
    refiner = Refiner(small_sam(), dino, module.refinement or RefineSettings()) if module.hqtf else None
    module._borrowed.append((refiner, dino))
    return module
