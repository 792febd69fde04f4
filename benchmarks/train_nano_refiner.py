"""Train the nano SAM-HQ or the nano DINO of HQ-SMem on generated clips and write it as a transformers folder.

python benchmarks/train_nano_refiner.py sam runs/sam_hq_nano --steps 3000 --batch 8
python benchmarks/train_nano_refiner.py sam weights/sam_hq_nano --steps 3500 --batch 8 --seed 4 --start runs/sam_hq_nano
python benchmarks/train_nano_refiner.py dino weights/dino_nano --steps 300 --batch 16
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.nn.losses import dice_loss, mask_iou
from common.nn.sam2.prompts import noisy_box
from common.records.environment import environment
from common.synthetic import SyntheticClips
from methods.hqsmem.refinement.dino import MEAN, STD, nano_dino
from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from methods.hqsmem.refinement.sam_hq import SAMHQ, nano_sam_hq
from methods.hqsmem.refinement.weights import load_sam_hq

PRESETS = ["easy", "occlusion", "distractor", "reappear", "long"]
SIDE, SMALLEST = 128, 24  # pixels of a frame's side; a target of fewer pixels is not asked for
PROMPTS = 2  # targets of a frame
GLOBAL, LOCAL, LOCALS = 96, 48, 3  # pixels of DINO's crops, and the number of local ones


def pool(count: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """One frame, drawn at random, of each of ``count`` clips: uint8 (n, 3, S, S) and targets bool (N, S, S), N > 0."""
    clips = SyntheticClips(PRESETS, length=count, size=(SIDE, SIDE), seed=seed)
    frames, masks = [], []
    for index in range(count):
        video = clips[index]
        assert video.truth is not None
        assert video.length is not None
        moment = int(torch.randint(video.length, ()))
        truth = torch.as_tensor(video.truth[moment])
        truth = truth[truth.flatten(1).sum(1) >= SMALLEST]
        if len(truth):
            frames.append(torch.as_tensor(video[moment]).permute(2, 0, 1))
            masks.append(truth)
    return torch.stack(frames), masks


def train(module: nn.Module, loss: Callable[[float], Tensor], steps: int, lr: float) -> None:
    """AdamW with warm-up over a twentieth of the steps and a cosine to zero; ``loss`` takes the share that is done."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser, begin, shown = torch.optim.AdamW(parameters, lr, weight_decay=0.05), time.time(), 0.0
    for step in range(steps):
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, 20 * (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * done))
        value = loss(done)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        shown += value.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {shown / 50:.4f}, {time.time() - begin:.0f} s", flush=True)
            shown = 0.0


# SAM-HQ: boxes or points of the truth, three proposals, of which the best is taught.


def train_sam(
    steps: int, batch: int, images: int, seed: int, start: Path | None = None
) -> tuple[PreTrainedModel, dict[str, float]]:
    """The network after training from nothing or from ``start``, and its IoU on other clips."""
    net = nano_sam_hq() if start is None else load_sam_hq(start).requires_grad_(True).float()
    net.shared_image_embedding.positional_embedding.requires_grad_(False)
    sam, generator = SAMHQ(net), torch.Generator().manual_seed(seed)
    frames, masks = pool(images, seed)

    def loss(done: float) -> Tensor:
        rows = torch.randint(len(frames), (batch,)).tolist()
        pixels = frames[rows]
        targets = torch.stack([masks[row][torch.randint(len(masks[row]), (PROMPTS,))] for row in rows])
        flip = torch.rand(batch) < 0.5
        pixels[flip], targets[flip] = pixels[flip].flip(-1), targets[flip].flip(-1)
        if torch.rand(()) < 0.5:
            pixels, targets = zoom(pixels, targets)
        out = net(pixel_values=sam.preprocess(pixels)[0], **sam_prompts(targets, sam.side / SIDE, generator))
        logits = F.interpolate(out.pred_masks.flatten(0, 1), (SIDE, SIDE), mode="bilinear", align_corners=False)
        return sam_loss(logits, out.iou_scores.flatten(0, 1), targets.flatten(0, 1))

    train(net, loss, steps, lr=1e-3)
    return net, sam_quality(sam.eval(), *pool(200, seed + 1))


def zoom(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A quarter of each frame, at twice its size, around a pixel of its first target, which replaces those left out."""
    half, images, masks = SIDE // 2, [], []
    for image, own in zip(pixels, targets, strict=True):
        places = own[0].nonzero()
        top, left = (places[torch.randint(len(places), ())] - half // 2).clamp(0, half).tolist()
        cut = own[:, top : top + half, left : left + half]
        seen = cut.flatten(1).sum(1) >= SMALLEST // 4
        masks.append(torch.where(seen[:, None, None], cut, cut[:1]))
        images.append(image[:, top : top + half, left : left + half])
    large = F.interpolate(torch.stack(images).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    return large, F.interpolate(torch.stack(masks).float(), (SIDE, SIDE), mode="nearest").bool()


def sam_prompts(targets: Tensor, scale: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Noisy boxes for most batches of targets bool (B, N, S, S), points for some, now and then both."""
    flat, shape, kind, out = targets.flatten(0, 1), targets.shape[:2], float(torch.rand(())), {}
    if kind < 0.85:
        out["input_boxes"] = noisy_box(flat)[0].view(*shape, 4) * scale
    if kind > 0.75:
        positive, negative = ((3, 0), (5, 5), (0, 5))[int(torch.randint(3, ()))]
        points, labels = zip(*(sample_points(target, positive, negative, generator) for target in flat), strict=True)
        out["input_points"] = torch.stack(points).view(*shape, -1, 2) * scale
        out["input_labels"] = torch.stack(labels).view(*shape, -1)
    return out


def sam_loss(logits: Tensor, ious: Tensor, target: Tensor) -> Tensor:
    """5 BCE + dice of the best of three (the others weigh a tenth), and the squared error of the predicted IoU."""
    truth = target[:, None].expand_as(logits).float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    masks = 5 * cross_entropy + dice_loss(logits, target)
    best = masks.amin(1)
    return (best + 0.1 * (masks.mean(1) - best)).mean() + (ious - mask_iou(logits, target)).square().mean()


@torch.inference_mode()
def sam_quality(sam: SAMHQ, frames: Tensor, masks: list[Tensor]) -> dict[str, float]:
    """Mean IoU with exact boxes: of the proposal that the network puts first, and of the best of three."""
    found = []
    for frame, truth in zip(frames, masks, strict=True):
        proposals, _ = sam.propose(sam.encode(frame.permute(1, 2, 0)), boxes_of(truth))
        either = (proposals | truth[:, None]).sum((2, 3))
        found.append((proposals & truth[:, None]).sum((2, 3)) / either)
    ious = torch.cat(found)
    return {"IoU, first proposal": ious[:, 0].mean().item(), "IoU, best of three": ious.amax(1).mean().item()}


# DINO (Caron et al., 2021): of any crop the student says what its mean teacher says of another, larger one.


def train_dino(steps: int, batch: int, images: int, seed: int) -> tuple[PreTrainedModel, dict[str, float]]:
    """The teacher after training, and the entropy of its mean answer."""
    frames, _ = pool(images, seed)
    student = nn.ModuleDict({"net": nano_dino(), "head": Head(96)})
    teacher = copy.deepcopy(student).requires_grad_(False)
    centre, entropy = torch.zeros(1, 1024), [0.0]

    def loss(done: float) -> Tensor:
        momentum = 1 - 0.01 * 0.5 * (1 + math.cos(math.pi * done))
        for mean, new in zip(teacher.parameters(), student.parameters(), strict=True):
            mean.data.lerp_(new.data, 1 - momentum)
        images = frames[torch.randint(len(frames), (batch,))] / 255
        large = [crop(images, GLOBAL, 0.4, 1.0) for _ in range(2)]
        small = [crop(images, LOCAL, 0.05, 0.4) for _ in range(LOCALS)]
        with torch.no_grad():
            said = project(teacher, torch.cat(large))
            wanted = ((said - centre) / 0.04).softmax(-1).chunk(2)
            centre.lerp_(said.mean(0, keepdim=True), 0.1)
        given = [*project(student, torch.cat(large)).chunk(2), *project(student, torch.cat(small)).chunk(LOCALS)]
        given = [(logits / 0.1).log_softmax(-1) for logits in given]
        pairs = [-(w * g).sum(-1).mean() for i, w in enumerate(wanted) for j, g in enumerate(given) if i != j]
        mean = torch.cat(wanted).mean(0)
        entropy[0] = -(mean * mean.clamp(min=1e-9).log()).sum().item()
        return torch.stack(pairs).mean()

    train(student, loss, steps, lr=1e-3)
    return teacher["net"], {"entropy of the teacher's mean answer, nats (6.93 = uniform)": entropy[0]}  # type: ignore


class Head(nn.Module):
    """DINO's projection: an MLP, then cosines with prototypes."""

    def __init__(self, width: int, hidden: int = 256, bottleneck: int = 64, prototypes: int = 1024) -> None:
        super().__init__()
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) to (B, prototypes)."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def project(model: nn.ModuleDict, pixels: Tensor) -> Tensor:
    """The head's answer to the CLS token."""
    return model["head"](model["net"](pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0])


def crop(images: Tensor, side: int, low: float, high: float) -> Tensor:
    """A crop of each image float (B, 3, S, S), 0 to 1: ``low`` to ``high`` of its area, mirrored and recoloured."""
    count = len(images)
    scale = (low + (high - low) * torch.rand(count, 1)).sqrt()
    extent = (scale * (0.3 * (torch.rand(count, 2) - 0.5)).exp()).clamp(max=1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, :, 2] = (1 - extent) * (2 * torch.rand(count, 2) - 1)
    theta[:, 0, 0] = extent[:, 0] * torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = extent[:, 1]
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    out = F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    bright, contrast, colour = (0.6 + 0.8 * torch.rand(3, count, 1, 1, 1)).unbind(0)
    out = (out - out.mean((1, 2, 3), keepdim=True)) * contrast + out.mean((1, 2, 3), keepdim=True) * bright
    gray = out.mean(1, keepdim=True)
    out = (gray + (out - gray) * colour).clamp(0, 1)
    return (out - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("sam", "dino"))
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--images", type=int, default=2500, help="clips of which one frame each is drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="sam: a folder of this script to go on from")
    args = parser.parse_args()
    if args.start and args.network == "dino":
        parser.error("--start is for sam")
    torch.manual_seed(args.seed)
    begin, common = time.time(), (args.steps, args.batch, args.images, args.seed)
    net, measured = train_sam(*common, args.start) if args.network == "sam" else train_dino(*common)
    minutes = (time.time() - begin) / 60
    net.half().save_pretrained(args.output)
    record = {
        "file": f"{args.output.name}/model.safetensors",
        "sha256": hashlib.sha256((args.output / "model.safetensors").read_bytes()).hexdigest(),
        "data": f"generated clips only (common/synthetic), seed {args.seed}",
        "command": " ".join(["python", *sys.argv]),
        "minutes on one core": round(minutes, 1),
        "measured on 200 other clips" if args.network == "sam" else "measured": measured,
        "environment": environment(),
    }
    Path(f"{args.output}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
