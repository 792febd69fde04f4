"""Train the nano SAM-HQ or the nano DINO of HQ-SMem on generated clips and save it as a transformers folder.

python benchmarks/train_nano_refiner.py sam runs/sam_hq_nano --steps 3500 --batch 64 --device cuda
python benchmarks/train_nano_refiner.py sam runs/sam_hq_nano_real --steps 3000 --batch 64 --photographs --device cuda
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.prompt_iou import HELD_OUT
from common.benchmarks.davis import DAVIS
from common.data.clips import VideoSet
from common.data.still_folder import StillFolder
from common.nn.losses import dice_loss, mask_iou
from common.nn.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from common.nn.sam2.prompts import noisy_box, uniform_click
from common.records.environment import environment
from common.synthetic import SyntheticClips
from methods.hqsmem.refinement.dino import nano_dino
from methods.hqsmem.refinement.prompts import boxes_of
from methods.hqsmem.refinement.sam_hq import MEAN, SAMHQ, nano_sam_hq
from methods.hqsmem.refinement.weights import load_sam_hq

PRESETS = ["easy", "occlusion", "distractor", "reappear", "long"]
SIDE, PHOTOGRAPH_SIDE = 128, 256  # sides of frames in pixels: of generated clips alone, and with photographs
MIN_AREA = 24  # pixels of a frame of 128 x 128; smaller targets are not prompted
PROMPTS = 2  # prompted targets of a frame
GLOBAL_SIDE, LOCAL_SIDE, LOCAL_CROPS = 96, 48, 3  # sides of DINO's crops in pixels, and the number of local ones


@dataclass
class Pool:
    """Annotated frames.

    Attributes:
        frames: uint8 (n, 3, S, S).
        masks: bool (m, S, S), those of one frame after the other.
        counts: int64 (n,), number of masks of each frame, at least 1.
    """

    frames: Tensor
    masks: Tensor
    counts: Tensor

    def to(self, device: torch.device) -> Pool:
        """Return the pool on a device."""
        return Pool(*(part.to(device) for part in (self.frames, self.masks, self.counts)))

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Draw frames (B, 3, S, S) at random, and ``PROMPTS`` masks of each, (B, P, S, S)."""
        device = self.frames.device
        rows = torch.randint(len(self.frames), (batch,), device=device)
        first = self.counts.cumsum(0) - self.counts
        chosen = (torch.rand(batch, PROMPTS, device=device) * self.counts[rows, None]).long()
        return self.frames[rows], self.masks[first[rows, None] + chosen]


def gather(pictures: Iterator[tuple[Tensor, Tensor]], side: int) -> Pool:
    """Gather frames uint8 (3, S, S) with masks bool (N, S, S); a frame without a large enough target is left out."""
    least, frames, masks = MIN_AREA * (side // SIDE) ** 2, [], []
    for frame, truth in pictures:
        large = truth[truth.flatten(1).sum(1) >= least]
        if len(large):
            frames.append(frame)
            masks.append(large)
    return Pool(torch.stack(frames), torch.cat(masks), torch.tensor([len(part) for part in masks]))


def generated(count: int, seed: int, side: int = SIDE) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw one random frame of each of ``count`` generated clips, with its masks."""
    clips = SyntheticClips(PRESETS, length=count, size=(side, side), seed=seed)
    for index in range(count):
        video = clips[index]
        assert video.truth is not None
        assert video.length is not None
        moment = int(torch.randint(video.length, ()))
        yield torch.as_tensor(video[moment]).permute(2, 0, 1), torch.as_tensor(video.truth[moment])


def photographs(part: Literal["train", "held_out"], side: int = PHOTOGRAPH_SIDE) -> Iterator[tuple[Tensor, Tensor]]:
    """Annotated photographs, and for training every fourth frame of 24 sequences of DAVIS 2016 train, from VIDSEG_DATA.

    They are resized to the long side S and padded below and to the right with SAM's mean colour, as SAM-HQ's input is.
    """
    sets: list[tuple[VideoSet, int]] = [(StillFolder(part=part), 1)]
    if part == "train":
        names = [name for name in DAVIS(year="2016", split="train").list_videos() if name not in HELD_OUT]
        sets.append((DAVIS(year="2016", split="train", videos=names), 4))
    mean = torch.tensor(MEAN).view(3, 1, 1)
    for videos, step in sets:
        for index in range(len(videos)):
            video = videos[index]
            assert video.truth is not None
            for moment in range(0, len(video), step):
                frame, truth = video[moment].permute(2, 0, 1).float(), video.truth[moment]
                assert truth is not None
                scale = side / max(frame.shape[1:])
                size = [max(1, round(length * scale)) for length in frame.shape[1:]]
                picture, masks = mean.expand(3, side, side).clone(), truth.new_zeros(len(truth), side, side)
                picture[:, : size[0], : size[1]] = F.interpolate(frame[None], size, mode="bilinear", antialias=True)[0]
                masks[:, : size[0], : size[1]] = F.interpolate(truth[None].float(), size, mode="bilinear")[0] > 0.5
                yield picture.round().clamp(0, 255).to(torch.uint8), masks


def train(
    module: nn.Module, loss: Callable[[float], Tensor], steps: int, lr: float, minutes: float | None = None
) -> int:
    """Train by AdamW, with a warm-up over a twentieth of the steps and a cosine decay to zero.

    Args:
        module: its parameters that require gradients are trained.
        loss: from the share of the training that is done, in [0, 1), to the loss of a new batch.
        steps: number of optimiser steps.
        lr: peak learning rate.
        minutes: train as long as this instead.

    Returns:
        The number of steps.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer, begin, running_loss = torch.optim.AdamW(parameters, lr, weight_decay=0.05), time.time(), 0.0
    step = 0
    while (done := step / steps if minutes is None else (time.time() - begin) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 20 * done + 1 / 50) * 0.5 * (1 + math.cos(math.pi * done))
        value = loss(done)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running_loss = running_loss + value.detach()
        step += 1
        if step % 50 == 0:
            print(f"step {step}: loss {float(running_loss) / 50:.4f}, {time.time() - begin:.0f} s", flush=True)
            running_loss = 0.0
    return step


# SAM-HQ is prompted with boxes or points of the annotation; of its three proposals the best one is supervised most.


def train_sam(
    steps: int,
    batch: int,
    pool: Pool,
    start: Path | None = None,
    lr: float = 1e-3,
    device: str = "cpu",
    minutes: float | None = None,
) -> tuple[PreTrainedModel, int]:
    """Train the nano SAM-HQ.

    Args:
        steps: number of optimiser steps.
        batch: frames of a batch.
        pool: frames to train on.
        start: folder of a network to start from, run by the decoder of ``mask_decoder.py``; None starts from scratch.
        lr: peak learning rate.
        device: to train on.
        minutes: train as long as this instead.

    Returns:
        The network, and the number of steps.
    """
    network = nano_sam_hq()
    if start is not None:
        network.load_state_dict(load_sam_hq(start).state_dict())
    network.shared_image_embedding.positional_embedding.requires_grad_(False)
    sam, side = SAMHQ(network).train().to(device), pool.frames.shape[-1]
    pool = pool.to(torch.device(device))

    def loss(done: float) -> Tensor:
        pixels, targets = augment(*pool.draw(batch))
        prompts = sam_prompts(targets, sam.side / side)
        out = network(pixel_values=sam.preprocess(pixels)[0], **prompts)
        logits = F.interpolate(out.pred_masks.flatten(0, 1), (side, side), mode="bilinear", align_corners=False)
        return sam_loss(logits, out.iou_scores.flatten(0, 1), targets.flatten(0, 1))

    steps = train(network, loss, steps, lr, minutes)
    return network.cpu(), steps


def augment(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror half of the frames, and show half of them enlarged, in another light.

    The centre of an enlarged part, 0.35 to 1 of the frame's side, is a pixel of the first target. A target that is
    almost outside of it is replaced by the first one.

    Args:
        pixels: uint8 (B, 3, S, S).
        targets: bool (B, N, S, S).

    Returns:
        float (B, 3, S, S), in 0 to 255, and bool (B, N, S, S).
    """
    batch, side, device = len(pixels), pixels.shape[-1], pixels.device
    enlarged = torch.rand(batch, 1, device=device) < 0.5
    extent = torch.where(enlarged, 0.35 + 0.65 * torch.rand(batch, 1, device=device), 1.0)
    centre = (uniform_click(targets[:, 0]) + 0.5) * 2 / side - 1
    centre = centre.minimum(1 - extent).maximum(extent - 1)
    theta = torch.zeros(batch, 2, 3, device=device)
    theta[:, 0, 0] = extent[:, 0] * torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = extent[:, 0]
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta, [batch, 3, side, side], align_corners=False)
    out = F.grid_sample(pixels.float(), grid, align_corners=False, padding_mode="border")
    masks = F.grid_sample(targets.float(), grid, mode="nearest", align_corners=False) > 0.5
    visible = masks.flatten(2).sum(2) >= MIN_AREA * (side // SIDE) ** 2
    masks = torch.where(visible[..., None, None], masks, masks[:, :1])
    contrast, brightness = (1 + 0.25 * (2 * torch.rand(2, batch, 3, 1, 1, device=device) - 1)).unbind(0)
    mean = out.mean((2, 3), keepdim=True)
    return (((out - mean) * contrast[:, :1] + mean) * brightness).clamp(0, 255), masks


def sam_prompts(targets: Tensor, scale: float) -> dict[str, Tensor]:
    """Draw the prompts of a batch: noisy boxes (75 %), points (15 %) or both (10 %).

    Args:
        targets: bool (B, N, S, S).
        scale: from pixels of the frame to pixels of SAM-HQ's input.

    Returns:
        Arguments of the network.
    """
    flat, shape, kind = targets.flatten(0, 1), targets.shape[:2], float(torch.rand(()))
    prompts: dict[str, Tensor] = {}
    if kind < 0.85:
        prompts["input_boxes"] = noisy_box(flat)[0].view(*shape, 4) * scale
    if kind > 0.75:
        positive, negative = ((3, 0), (5, 5), (0, 5))[int(torch.randint(3, ()))]
        clicks = [uniform_click(flat) for _ in range(positive)] + [uniform_click(~flat) for _ in range(negative)]
        labels = torch.tensor([1] * positive + [0] * negative, device=flat.device)
        prompts["input_points"] = torch.stack(clicks, 1).view(*shape, -1, 2) * scale
        prompts["input_labels"] = labels.expand(*shape, -1).contiguous()
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
def sam_quality(sam: SAMHQ, pool: Pool) -> dict[str, float]:
    """Return the mean IoU with exact boxes: of the proposal that the network ranks first, and of the best of three."""
    ious_of_frames = []
    for frame, truth in zip(pool.frames, pool.masks.split(pool.counts.tolist()), strict=True):
        proposals, _ = sam.propose(sam.encode(frame.permute(1, 2, 0)), boxes_of(truth))
        union = (proposals | truth[:, None]).sum((2, 3))
        ious_of_frames.append((proposals & truth[:, None]).sum((2, 3)) / union)
    ious = torch.cat(ious_of_frames)
    return {"IoU, first proposal": ious[:, 0].mean().item(), "IoU, best of three": ious.amax(1).mean().item()}


# DINO (Caron et al., arXiv 2104.14294): the student predicts, from any crop, the output of its mean teacher on another,
# global crop of the same image.


def train_dino(steps: int, batch: int, images: int, seed: int) -> tuple[PreTrainedModel, dict[str, float]]:
    """Train the nano DINO; return the teacher, and the entropy of its mean output."""
    frames = gather(generated(images, seed), SIDE).frames
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
    parser.add_argument("--photographs", action="store_true", help="sam: train on real frames too, 256 px")
    parser.add_argument("--lr", type=float, default=1e-3, help="sam: peak learning rate")
    parser.add_argument("--minutes", type=float, help="sam: train as long as this instead of --steps")
    parser.add_argument("--device", default="cpu", help="sam: to train on")
    parser.add_argument("--no-measurement", action="store_true", help="sam: leave out the IoU on other pictures")
    args = parser.parse_args()
    if args.network == "dino" and (args.start or args.photographs or args.device != "cpu"):
        parser.error("--start, --photographs and --device are for sam")
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    begin, clips = time.time(), "generated clips (common/synthetic)"
    if args.network == "dino":
        network, measured = train_dino(args.steps, args.batch, args.images, args.seed)
    else:
        side = PHOTOGRAPH_SIDE if args.photographs else SIDE
        pictures = chain(generated(args.images, args.seed, side), photographs("train") if args.photographs else ())
        pool = gather(iter(pictures), side)
        network, args.steps = train_sam(args.steps, args.batch, pool, args.start, args.lr, args.device, args.minutes)
        others = photographs("held_out") if args.photographs else generated(200, args.seed + 1)
        measured = {} if args.no_measurement else sam_quality(SAMHQ(network).eval(), gather(others, side))
        if args.photographs:
            clips += ", nine tenths of the photographs and 24 sequences of DAVIS 2016 train"
    minutes = (time.time() - begin) / 60
    network.half().save_pretrained(args.output)
    record = {
        "file": f"{args.output.name}/model.safetensors",
        "sha256": hashlib.sha256((args.output / "model.safetensors").read_bytes()).hexdigest(),
        "data": f"{clips}, seed {args.seed}",
        "command": " ".join(["python", *sys.argv]),
        "steps": args.steps,
        "minutes": round(minutes, 1),
        "measured on other pictures" if args.network == "sam" else "measured": measured,
        "environment": environment(),
    }
    Path(f"{args.output}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
