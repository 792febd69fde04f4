"""Small SAM-HQ and DINO networks with random weights, and masks for their tests."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SamHQConfig, ViTConfig, ViTModel

from methods.hqsmem import HQSMem
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.gate import Refiner, RefineSettings
from methods.hqsmem.refinement.mask_decoder import SAMHQNetwork
from methods.hqsmem.refinement.sam_hq import SAMHQ

Network = TypeVar("Network", bound=nn.Module)


def small_sam() -> SAMHQ:
    """Build a SAM-HQ of two blocks of width 16 on 64 x 64 pixels."""
    trunk = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "global_attn_indexes": (1,)}
    trunk |= {"image_size": 64, "output_channels": 16, "num_pos_feats": 8, "window_size": 2}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16, "vit_dim": 16}
    prompts = {"hidden_size": 16, "image_size": 64}
    config = SamHQConfig(vision_config=trunk, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    return SAMHQ(randomize(SAMHQNetwork(config))).eval()


def small_dino() -> DINO:
    """Build a DINO of two blocks of width 16, with patches of 8 x 8 pixels, on frames with a short side of 32."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**sizes, image_size=32, patch_size=8)
    return DINO(randomize(ViTModel(config, add_pooling_layer=False)), 32).eval()


def randomize(network: Network, seed: int = 1) -> Network:
    """Draw random parameters of a scale at which every part influences the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            scale = 1.0 if value.ndim == 1 or "positional" in name else value[0].numel() ** -0.5
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
    return network


def with_small_refiner(module: HQSMem) -> HQSMem:
    """Replace the SAM-HQ and DINO that a module uses by small ones."""
    dino = small_dino() if module.sources["dino"] else None
    refiner = Refiner(small_sam(), dino, module.refinement or RefineSettings()) if module.hqtf else None
    module._borrowed.append((refiner, dino))
    return module


# Patches of 8 x 8 on a frame of 16 x 24 pixels: tokens (1, 0) in the first row, (0, 1) in the second.
BLACK_FRAME = torch.zeros(16, 24, 3, dtype=torch.uint8)
ROW_TOKENS = torch.tensor([[[1.0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]])


class PlantedDINO(DINO):
    """A DINO with tokens chosen by a test; the tokens of all crops are equal."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__(small_dino().network, side=16)
        self.tokens, self.crops = tokens, 0

    def encode(self, frame: Tensor) -> Tensor:
        """Return the planted tokens."""
        return self.tokens

    def _tokens(self, pixels: Tensor) -> Tensor:
        self.crops += len(pixels)
        return F.one_hot(torch.zeros(len(pixels), 28, 28, dtype=torch.long), 2).permute(0, 3, 1, 2).float()


def rectangle(y0: int, y1: int, x0: int, x1: int, size: tuple[int, int] = (16, 24)) -> Tensor:
    """Return a mask bool (H, W) of rows y0 to y1 - 1 and columns x0 to x1 - 1."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask
