"""Pretrain the nano ViT as a masked autoencoder (He et al., CVPR 2022) on frames of generated training clips.

python benchmarks/pretrain_nano_vit.py --output weights/vit_nano_mae.safetensors

Writes the encoder in half precision, under the names of transformers' ``ViTMAEModel``, and a record beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.files import file_sha256
from common.nn.preprocessing import normalise
from common.records.environment import environment
from common.synthetic import SyntheticClips
from methods.sslvos.encoders.vit import PATCH, SIZES

PRESETS = ["easy", "occlusion", "distractor", "reappear"]
BATCH, WARMUP = 64, 50


def drawn(count: int, side: int, seed: int) -> Tensor:
    """Frames uint8 (count, 3, side, side), each of a video of its own, of a stream that training may use."""
    clips, rng = SyntheticClips(PRESETS, length=count, size=(side, side), seed=seed), np.random.default_rng(seed)
    return torch.stack([video[int(rng.integers(len(video)))].movedim(2, 0) for video in clips])


def cropped(frames: Tensor) -> Tensor:
    """Random crops of 0.5 to 1 of the sides, mirrored or not, normalised: float of the same shape."""
    count, side = len(frames), frames.shape[-1]
    scale = 0.5 + 0.5 * torch.rand(count)
    shift = (2 * torch.rand(count, 2) - 1) * (1 - scale)[:, None]
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0] = scale * (2 * torch.randint(2, (count,)) - 1)
    affine[:, 1, 1], affine[:, :, 2] = scale, shift
    grid = F.affine_grid(affine, [count, 3, side, side], align_corners=False)
    pixels = F.grid_sample(frames.float() / 255, grid, padding_mode="border", align_corners=False)
    return normalise(pixels)


def autoencoder(side: int) -> ViTMAEForPreTraining:
    """The nano ViT and a small decoder; three quarters of the patches are hidden, patches are normalised targets."""
    width, depth, heads, _ = SIZES["nano"]
    config = ViTMAEConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        patch_size=PATCH,
        image_size=side,
        mask_ratio=0.75,
        norm_pix_loss=True,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=256,
    )
    return ViTMAEForPreTraining(config)


def train(model: ViTMAEForPreTraining, frames: Tensor, steps: int, rate: float) -> list[float]:
    """AdamW with warm-up and cosine; the loss of every step."""
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.05)
    falling = lambda step: min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, falling)
    losses = []
    for step in range(steps):
        loss = model(cropped(frames[torch.randint(len(frames), (BATCH,))])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-50:]):.4f}", flush=True)
    return losses


def main() -> None:
    """Train, and write weights and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="safetensors file; the record ends in .json")
    parser.add_argument("--steps", type=int, default=600, help=f"of {BATCH} frames")
    parser.add_argument("--frames", type=int, default=2000, help="frames that are drawn before the training")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="learning rate")
    parser.add_argument("--seed", type=int, default=5, help="of frames, weights and crops")
    args = parser.parse_args()
    start, made = time.perf_counter(), environment()
    torch.manual_seed(args.seed)
    side = PATCH * SIZES["nano"][3]
    model = autoencoder(side)
    losses = train(model, drawn(args.frames, side, args.seed), args.steps, args.rate)
    state = {key: value.half().contiguous() for key, value in model.state_dict().items() if key.startswith("vit.")}
    save_file(state, args.output)
    record = {
        "file": args.output.name,
        "sha256": file_sha256(args.output),
        "model": "ViT(size='nano') of methods/sslvos, half precision",
        "data": f"{args.frames} frames of generated clips (common/synthetic), seed {args.seed}",
        "command": " ".join(["python benchmarks/pretrain_nano_vit.py", *sys.argv[1:]]),
        "training": {
            "steps": args.steps,
            "loss, first and last 50 steps": [round(float(np.mean(part)), 4) for part in (losses[:50], losses[-50:])],
            "minutes": round((time.perf_counter() - start) / 60, 1),
        },
        "environment": made,
    }
    args.output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
