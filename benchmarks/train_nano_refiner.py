"""Train the nano SAM-HQ or the nano DINO of HQ-SMem on generated clips and save it as a transformers folder.

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
from common.nn.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from common.nn.sam2.prompts import noisy_box
from common.records.environment import environment
from common.synthetic import SyntheticClips
from methods.hqsmem.refinement.dino import nano_dino
from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from methods.hqsmem.refinement.sam_hq import SAMHQ, nano_sam_hq
from methods.hqsmem.refinement.weights import load_sam_hq

PRESETS = ["easy", "occlusion", "distractor", "reappear", "long"]
SIDE = 128  # side of a frame, in pixels
MIN_AREA = 24  # pixels; smaller targets are not prompted
PROMPTS = 2  # prompted targets of a frame
GLOBAL_SIDE, LOCAL_SIDE, LOCAL_CROPS = 96, 48, 3  # sides of DINO's crops in pixels, and the number of local ones


def pool(count: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Draw one random frame of each of ``count`` generated clips; frames without a target are left out.

    Returns:
        Frames uint8 (n, 3, S, S), and for each frame the masks of its targets, bool (N, S, S) with N > 0.
    """
    clips = SyntheticClips(PRESETS, length=count, size=(SIDE, SIDE), seed=seed)
    frames, masks = [], []
    for index in range(count):
        video = clips[index]
        assert video.truth is not None
        assert video.length is not None
        moment = int(torch.randint(video.length, ()))
        truth = torch.as_tensor(video.truth[moment])
        truth = truth[truth.flatten(1).sum(1) >= MIN_AREA]
        if len(truth):
            frames.append(torch.as_tensor(video[moment]).permute(2, 0, 1))
            masks.append(truth)
    return torch.stack(frames), masks


def train(module: nn.Module, loss: Callable[[float], Tensor], steps: int, lr: float) -> None:
    """Train by AdamW, with a warm-up over a twentieth of the steps and a cosine decay to zero.

    Args:
        module: its parameters that require gradients are trained.
        loss: from the share of the training that is done, in [0, 1), to the loss of a new batch.
        steps: number of optimiser steps.
        lr: peak learning rate.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer, begin, running_loss = torch.optim.AdamW(parameters, lr, weight_decay=0.05), time.time(), 0.0
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 20 * (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * done))
        value = loss(done)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running_loss += value.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: loss {running_loss / 50:.4f}, {time.time() - begin:.0f} s", flush=True)
            running_loss = 0.0


# SAM-HQ is prompted with boxes or points of the annotation; of its three proposals the best one is supervised most.


def train_sam(
    steps: int, batch: int, images: int, seed: int, start: Path | None = None
) -> tuple[PreTrainedModel, dict[str, float]]:
    """Train the nano SAM-HQ.

    Args:
        steps: number of optimiser steps.
        batch: frames of a batch.
        images: number of clips, of which one frame each is drawn.
        seed: of clips and prompts.
        start: folder of a network to start from; None starts from scratch.

    Returns:
        The network, and its IoU on other clips.
    """
    network = nano_sam_hq() if start is None else load_sam_hq(start).requires_grad_(True).float()
    network.shared_image_embedding.positional_embedding.requires_grad_(False)
    sam, generator = SAMHQ(network), torch.Generator().manual_seed(seed)
    frames, masks = pool(images, seed)

    def loss(done: float) -> Tensor:
        rows = torch.randint(len(frames), (batch,)).tolist()
        pixels = frames[rows]
        targets = torch.stack([masks[row][torch.randint(len(masks[row]), (PROMPTS,))] for row in rows])
        flip = torch.rand(batch) < 0.5
        pixels[flip], targets[flip] = pixels[flip].flip(-1), targets[flip].flip(-1)
        if torch.rand(()) < 0.5:
            pixels, targets = zoom(pixels, targets)
        out = network(pixel_values=sam.preprocess(pixels)[0], **sam_prompts(targets, sam.side / SIDE, generator))
        logits = F.interpolate(out.pred_masks.flatten(0, 1), (SIDE, SIDE), mode="bilinear", align_corners=False)
        return sam_loss(logits, out.iou_scores.flatten(0, 1), targets.flatten(0, 1))

    train(network, loss, steps, lr=1e-3)
    return network, sam_quality(sam.eval(), *pool(200, seed + 1))


def zoom(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarge a quarter of each frame around a pixel of its first target.

    Targets that are almost outside the crop are replaced by the first one.

    Args:
        pixels: uint8 (B, 3, S, S).
        targets: bool (B, N, S, S).

    Returns:
        float (B, 3, S, S) and bool (B, N, S, S).
    """
    half, images, masks = SIDE // 2, [], []
    for image, image_targets in zip(pixels, targets, strict=True):
        places = image_targets[0].nonzero()
        top, left = (places[torch.randint(len(places), ())] - half // 2).clamp(0, half).tolist()
        crop_targets = image_targets[:, top : top + half, left : left + half]
        visible = crop_targets.flatten(1).sum(1) >= MIN_AREA // 4
        masks.append(torch.where(visible[:, None, None], crop_targets, crop_targets[:1]))
        images.append(image[:, top : top + half, left : left + half])
    large = F.interpolate(torch.stack(images).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
    return large, F.interpolate(torch.stack(masks).float(), (SIDE, SIDE), mode="nearest").bool()


def sam_prompts(targets: Tensor, scale: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw the prompts of a batch: noisy boxes (75 %), points (15 %) or both (10 %).

    Args:
        targets: bool (B, N, S, S).
        scale: from pixels of the frame to pixels of SAM-HQ's input.
        generator: of the points.

    Returns:
        Arguments of the network.
    """
    flat, shape, kind = targets.flatten(0, 1), targets.shape[:2], float(torch.rand(()))
    prompts: dict[str, Tensor] = {}
    if kind < 0.85:
        prompts["input_boxes"] = noisy_box(flat)[0].view(*shape, 4) * scale
    if kind > 0.75:
        positive, negative = ((3, 0), (5, 5), (0, 5))[int(torch.randint(3, ()))]
        points, labels = zip(*(sample_points(target, positive, negative, generator) for target in flat), strict=True)
        prompts["input_points"] = torch.stack(points).view(*shape, -1, 2) * scale
        prompts["input_labels"] = torch.stack(labels).view(*shape, -1)
    return prompts


def sam_loss(logits: Tensor, ious: Tensor, target: Tensor) -> Tensor:
    """Return 5 BCE + dice, 0.9 of the best proposal and 0.1 of the mean, plus the squared error of the predicted IoUs.

    Args:
        logits: (B, 3, H, W).
        ious: predicted, (B, 3).
        target: bool (B, H, W).
    """
    truth = target[:, None].expand_as(logits).float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    masks = 5 * cross_entropy + dice_loss(logits, target)
    best = masks.amin(1)
    return (best + 0.1 * (masks.mean(1) - best)).mean() + (ious - mask_iou(logits, target)).square().mean()


@torch.inference_mode()
def sam_quality(sam: SAMHQ, frames: Tensor, masks: list[Tensor]) -> dict[str, float]:
    """Return the mean IoU with exact boxes: of the proposal that the network ranks first, and of the best of three."""
    ious_of_frames = []
    for frame, truth in zip(frames, masks, strict=True):
        proposals, _ = sam.propose(sam.encode(frame.permute(1, 2, 0)), boxes_of(truth))
        union = (proposals | truth[:, None]).sum((2, 3))
        ious_of_frames.append((proposals & truth[:, None]).sum((2, 3)) / union)
    ious = torch.cat(ious_of_frames)
    return {"IoU, first proposal": ious[:, 0].mean().item(), "IoU, best of three": ious.amax(1).mean().item()}


# DINO (Caron et al., arXiv 2104.14294): the student predicts, from any crop, the output of its mean teacher on another,
# global crop of the same image.


def train_dino(steps: int, batch: int, images: int, seed: int) -> tuple[PreTrainedModel, dict[str, float]]:
    """Train the nano DINO; return the teacher, and the entropy of its mean output."""
    frames, _ = pool(images, seed)
    student = nn.ModuleDict({"network": nano_dino(), "head": Head(96)})
    teacher = copy.deepcopy(student).requires_grad_(False)
    centre, entropy = torch.zeros(1, 1024), [0.0]

    def loss(done: float) -> Tensor:
        momentum = 1 - 0.01 * 0.5 * (1 + math.cos(math.pi * done))
        for average, current in zip(teacher.parameters(), student.parameters(), strict=True):
            average.data.lerp_(current.data, 1 - momentum)
        images = frames[torch.randint(len(frames), (batch,))] / 255
        global_crops = torch.cat([crop(images, GLOBAL_SIDE, 0.4, 1.0) for _ in range(2)])
        local_crops = torch.cat([crop(images, LOCAL_SIDE, 0.05, 0.4) for _ in range(LOCAL_CROPS)])
        with torch.no_grad():
            logits = project(teacher, global_crops)
            targets = ((logits - centre) / 0.04).softmax(-1).chunk(2)
            centre.lerp_(logits.mean(0, keepdim=True), 0.1)
        outputs = [*project(student, global_crops).chunk(2), *project(student, local_crops).chunk(LOCAL_CROPS)]
        outputs = [(logits / 0.1).log_softmax(-1) for logits in outputs]
        # Crops 0 and 1 are the global ones; the student never predicts the teacher's output on the same crop.
        pairs = [-(p * q).sum(-1).mean() for i, p in enumerate(targets) for j, q in enumerate(outputs) if i != j]
        mean = torch.cat(targets).mean(0)
        entropy[0] = -(mean * mean.clamp(min=1e-9).log()).sum().item()
        return torch.stack(pairs).mean()

    train(student, loss, steps, lr=1e-3)
    network = teacher["network"]
    assert isinstance(network, PreTrainedModel)
    return network, {"entropy of the teacher's mean answer, nats (6.93 = uniform)": entropy[0]}


class Head(nn.Module):
    """DINO's projection head: an MLP, then cosine similarities with prototypes.

    Args:
        width: channels of the input.
        hidden: of the MLP.
        bottleneck: channels of the MLP's output.
        prototypes: number of outputs.
    """

    def __init__(self, width: int, hidden: int = 256, bottleneck: int = 64, prototypes: int = 1024) -> None:
        super().__init__()
        layers = [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width) to (B, prototypes)."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def project(model: nn.ModuleDict, pixels: Tensor) -> Tensor:
    """Return the head's output (B, prototypes) for the CLS token of pixels (B, 3, S, S)."""
    tokens = model["network"](pixels, interpolate_pos_encoding=True).last_hidden_state
    out: Tensor = model["head"](tokens[:, 0])
    return out


def crop(images: Tensor, side: int, low: float, high: float) -> Tensor:
    """Crop each image at random, and change its brightness, contrast and saturation.

    Args:
        images: float (B, 3, S, S), in [0, 1].
        side: of the crop, in pixels.
        low: smallest share of the image's area.
        high: largest share of the image's area.

    Returns:
        float (B, 3, side, side), half of them mirrored, normalised by ImageNet's mean and standard deviation.
    """
    count = len(images)
    scale = (low + (high - low) * torch.rand(count, 1)).sqrt()
    extent = (scale * (0.3 * (torch.rand(count, 2) - 0.5)).exp()).clamp(max=1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, :, 2] = (1 - extent) * (2 * torch.rand(count, 2) - 1)
    theta[:, 0, 0] = extent[:, 0] * torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = extent[:, 1]
    grid = F.affine_grid(theta, [count, 3, side, side], align_corners=False)
    out = F.grid_sample(images, grid, align_corners=False, padding_mode="border")
    brightness, contrast, saturation = (0.6 + 0.8 * torch.rand(3, count, 1, 1, 1)).unbind(0)
    out = (out - out.mean((1, 2, 3), keepdim=True)) * contrast + out.mean((1, 2, 3), keepdim=True) * brightness
    gray = out.mean(1, keepdim=True)
    out = (gray + (out - gray) * saturation).clamp(0, 1)
    return (out - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=("sam", "dino"))
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--images", type=int, default=2500, help="number of clips, of which one frame each is drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path, help="sam: folder of an earlier run to continue from")
    args = parser.parse_args()
    if args.start and args.network == "dino":
        parser.error("--start is for sam")
    torch.manual_seed(args.seed)
    begin, common = time.time(), (args.steps, args.batch, args.images, args.seed)
    network, measured = train_sam(*common, args.start) if args.network == "sam" else train_dino(*common)
    minutes = (time.time() - begin) / 60
    network.half().save_pretrained(args.output)
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
