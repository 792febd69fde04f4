"""Make a mini SAM 2 of a nano one that computes the same: start of the training of mini (docs/training.md).

    python benchmarks/grow_sam2.py weights/research/sam2_nano_real.safetensors runs/mini_start.safetensors

mini has more blocks in the third and fourth stage of the trunk and more layers of memory attention. Each new one stands
behind an old one and starts as the identity: the last projections of its branches are zero (Chen et al., Net2Net, ICLR
2016, for residual networks).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import save_file
from torch import Tensor

from common.nn.sam2 import SAM2
from common.nn.sam2.weights import load_sam2

# The blocks and layers of nano, in mini.
PLACES = {
    "vision_encoder.backbone.blocks.": (0, 1, 2, 3, 5, 7, 9, 11),
    "memory_attention.layers.": (0, 2),
}
LAST = ("attn.proj", "mlp.proj_out", "self_attn.o_proj", "cross_attn_image.o_proj", "linear2")  # of a residual branch


def grown(nano: dict[str, Tensor], mini: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a mini that computes what a nano does.

    Args:
        nano: tensors by name.
        mini: initial values of a mini.
    """
    moved = {}
    for name, value in nano.items():
        prefix = next((prefix for prefix in PLACES if name.startswith(prefix)), None)
        if prefix is not None:
            number, rest = re.fullmatch(r"(\d+)\.(.*)", name[len(prefix) :]).groups()  # type: ignore[union-attr]
            name = f"{prefix}{PLACES[prefix][int(number)]}.{rest}"
        moved[name] = value
    for name, value in mini.items():
        last = any(f".{part}." in name for part in LAST)
        yield name, moved[name] if name in moved else torch.zeros_like(value) if last else value


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("nano", type=Path, help="weights of a nano SAM 2")
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the initial values of the new layers")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    nano, mini = SAM2("nano"), SAM2("mini")
    load_sam2(nano, args.nano)
    tensors = dict(grown(nano.net.state_dict(), mini.net.state_dict()))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"network.net.{name}": value.contiguous().clone() for name, value in tensors.items()}, args.output)


if __name__ == "__main__":
    main()
