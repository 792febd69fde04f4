"""A training step: which prompts a batch of clips gets, and the losses of its outputs; long videos clip by clip.

Legend: B videos, T frames, N targets, Np prompts, L tokens, C channels, D size of a concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.clip import Clip
from common.errors import InputError
from methods.univs.network.heads import Outputs
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.prompts import PromptTokens, VisualTokens, stack_tokens
from methods.univs.network.scene import Scene
from methods.univs.network.visual_sampler import jitter_box, sample_box, sample_mask, sample_points
from methods.univs.training.criterion import Matched, Points, Targets, added, embedded, itself, output_losses
from methods.univs.training.reid import clip_losses

TERMS = ("class", "mask", "dice", "semantic", "reid", "reid_aux", "reid_prompt", "reid_prompt_aux")
BETWEEN = ("reid_clips", "reid_clips_aux")
LAST_FRAME = 128  # frame indices are shifted to stay up to it


@dataclass(frozen=True)
class TrainingSettings:
    """The recipe; the defaults are those of stage 2.

    Attributes:
        clip: frames of a clip; a longer video is cut into clips, 0 = it is one.
        overlap: frames that two clips of a video share; the last clip is moved back to fit.
        targets: most prompts of a video.
        visual: probability of visual prompts where there are categories, else their names are the prompts. As
            released, a standard normal number above 0.5.
        kinds: shares of points, boxes and masks among visual prompts.
        names: larger vocabularies have visual prompts always, as LVIS and EntitySeg.
        own_position: probability that a visual prompt's content is also its position code.
        prompts: whether there are prompt queries at all (Table 3a, first row).
        points: R of the mask losses.
        oversample: candidates for each point.
        uncertain: share of the points that are the least certain candidates.
    """

    clip: int = 0
    overlap: int = 1
    targets: int = 20
    visual: float = 0.3085
    kinds: tuple[float, float, float] = (0.25, 0.25, 0.5)
    names: int = 200
    own_position: float = 0.5
    prompts: bool = True
    points: int = 12544
    oversample: float = 3.0
    uncertain: float = 0.5

    def __post_init__(self) -> None:
        if self.clip and not 0 <= self.overlap < self.clip:
            raise InputError(f"recipe: overlap {self.overlap} must be at least 0 and less than clip {self.clip}")
        if min(self.targets, self.points) < 1 or min(self.kinds) < 0 or sum(self.kinds) <= 0:
            raise InputError(f"recipe: targets {self.targets}, points {self.points} start at 1; kinds are shares")

    def windows(self, length: int) -> list[tuple[int, int]]:
        """First and one past the last frame of each clip of a video."""
        size = min(self.clip or length, length)
        starts = range(0, max(1, length - self.overlap), size - self.overlap if size > self.overlap else 1)
        return [(min(start, length - size), min(start, length - size) + size) for start in starts]


@dataclass(frozen=True)
class Asked:
    """What the prompts of all clips of a video batch are about.

    Attributes:
        kind: of all of them.
        rows: int64 (B, Np), rows of the targets; for category names places in the vocabulary.
        valid: bool (B, Np), False where a row only pads the batch.
        text: (B, Np, L, D), of names (L = 1) and expressions.
    """

    kind: str
    rows: Tensor
    valid: Tensor
    text: Tensor | None = None


def batch_losses(core: UniVSNetwork, clip: Clip, settings: TrainingSettings) -> dict[str, Tensor]:
    """Loss terms by name, summed over outputs, mean over clips; what a batch has no use for is zero.

    Where a video is cut into several clips (stage 3), the first one's true masks are sampled on its last frames, and
    these tokens are the memory that ProCA reads in all later clips; embeddings are also compared between clips.
    """
    batch, length = clip.frames.shape[:2]
    features = core.encode(clip.frames.flatten(0, 1).float() / 255)
    times = torch.arange(length, device=clip.frames.device).expand(batch, -1) if clip.times is None else clip.times
    times = times - (times.amax(1, keepdim=True) - LAST_FRAME).clamp(min=0)
    height, width = features.mask.shape[-2] * 4, features.mask.shape[-1] * 4
    beyond = (0, width - clip.masks.shape[-1], 0, height - clip.masks.shape[-2])
    masks = F.pad(clip.masks, beyond).transpose(1, 2)
    masks = masks & clip.valid[:, :, None, None, None]
    concepts = None if clip.categories is None else core.concepts(clip.vocabulary)
    windows = settings.windows(length)
    numbers = torch.arange(batch * length, device=clip.frames.device).view(batch, length)
    asked = ask(core, clip, masks[:, :, slice(*windows[0])], concepts, settings) if settings.prompts else None
    memory: VisualTokens | None = None
    parts, pools = [], []
    for number, (first, last) in enumerate(windows):
        scene = core.scene(features[numbers[:, first:last].flatten()], times[:, first:last])
        here = masks[:, :, first:last]
        prompts = None if asked is None else prompt_tokens(core, scene, asked, here, memory, settings)
        outputs = core.decode(scene, prompts)
        learned = instance_targets(here, clip.categories)
        prompted = None if asked is None else prompt_targets(asked, here, clip.categories)
        terms, found = _all_outputs(core, outputs, learned, prompted, concepts, asked, settings)
        parts.append(terms)
        if len(windows) > 1:
            pools.append(_pool(outputs[-1], learned, prompted, found, asked))
            if number == 0 and asked is not None and asked.kind != "category":
                memory = remember(core, scene, asked, here)
    out = {name: term / len(parts) for name, term in added(parts).items()}
    return out | _between(pools, out["mask"])


def instance_targets(masks: Tensor, categories: Tensor | None) -> Targets:
    """Every target that shows in a clip, for the learnable queries: masks bool (B, N, T, H, W)."""
    shown = masks.flatten(2).any(2)
    numbers = torch.arange(masks.shape[1], device=masks.device).expand_as(shown)
    labels = torch.full_like(numbers, -1) if categories is None else categories
    return Targets(masks, torch.where(shown, numbers, -1), labels, shown)


def prompt_targets(asked: Asked, masks: Tensor, categories: Tensor | None) -> Targets:
    """What the prompts ask for, in a clip; for category names the union of the targets of a category."""
    if asked.kind == "category":
        assert categories is not None
        of = (categories[:, None] == asked.rows[:, :, None]) & asked.valid[:, :, None]
        joined = torch.stack([_union(own, clip) for own, clip in zip(of, masks, strict=True)])
        labels = asked.rows
    else:
        clips = torch.arange(len(masks), device=masks.device)[:, None]
        joined = masks[clips, asked.rows] & asked.valid[:, :, None, None, None]
        labels = torch.full_like(asked.rows, -1) if categories is None else categories.gather(1, asked.rows)
    shown = joined.flatten(2).any(2)
    return Targets(joined, torch.where(shown, asked.rows, -1), labels, asked.valid)


def ask(core: UniVSNetwork, clip: Clip, masks: Tensor, concepts: Tensor | None, settings: TrainingSettings) -> Asked:
    """Choose the prompts of a batch by what its data set has: expressions; category names or, sometimes, the targets
    themselves; the targets themselves.

    Args:
        masks: bool (B, N, T, H, W), of the first clip of each video.
        concepts: (K, D), of the vocabulary.
    """
    shown = masks.flatten(2).any(2)
    if clip.expressions is not None:
        rows, valid = _chosen([own.nonzero()[:, 0] for own in shown], settings.targets)
        said = [[texts[row] for row in own] for texts, own in zip(clip.expressions, rows.tolist(), strict=True)]
        places = valid.nonzero().tolist()
        words = core.text.expressions([said[b][n] for b, n in places])
        text = words.new_zeros(*valid.shape, *words.shape[1:]).index_put(valid.nonzero().unbind(1), words)
        return Asked("expression", rows, valid, text)
    named = concepts is not None and len(concepts) <= settings.names and torch.rand(()) >= settings.visual
    if named and concepts is not None and clip.categories is not None:
        present = [own[has] for own, has in zip(clip.categories, shown, strict=True)]
        rows, valid = _chosen([_names(own, len(concepts), settings.targets) for own in present], settings.targets)
        return Asked("category", rows, valid, concepts[rows][:, :, None])
    keys = [_key_frame(own) for own in masks]
    seen = [own[:, key].flatten(1).any(1).nonzero()[:, 0] for own, key in zip(masks, keys, strict=True)]
    return Asked("visual", *_chosen(seen, settings.targets))


def prompt_tokens(
    core: UniVSNetwork,
    scene: Scene,
    asked: Asked,
    masks: Tensor,
    memory: VisualTokens | None,
    settings: TrainingSettings,
) -> PromptTokens:
    """Prompts of a clip; visual ones are sampled on a random key frame that shows one of the targets.

    Args:
        masks: bool (B, N, T, H, W), of the clip's targets.
        memory: (B, Np, 1, L, C), further tokens that ProCA reads.
    """
    if asked.kind == "category":
        assert asked.text is not None
        return core.category_prompts(scene, asked.text[:, :, 0], asked.valid)
    if asked.kind == "expression":
        assert asked.text is not None
        return core.expression_prompts(scene, asked.text, asked.valid, None if memory is None else memory.content)
    count, parts = core.settings.points, []
    for clip, (rows, valid) in enumerate(zip(asked.rows, asked.valid, strict=True)):
        targets = masks[clip, rows] & valid[:, None, None, None]
        key = _key_frame(targets)
        parts.append(stack_tokens([_sampled(scene, clip, key, own[key], count, settings.kinds) for own in targets]))
    own = _batched(parts)
    read = own if memory is None else VisualTokens.joined([own, memory], lambda some: torch.cat(some, 3))
    return core.visual_prompts(own, read, asked.valid, bool(torch.rand(()) < settings.own_position))


def remember(core: UniVSNetwork, scene: Scene, asked: Asked, masks: Tensor) -> VisualTokens:
    """Tokens (B, Np, 1, k R, C) of the true masks on a clip's last k frames, k from T / 3 + 1 to T - 1."""
    length = masks.shape[2]
    low = min(length // 3 + 1, max(1, length - 1))
    last = int(torch.randint(low, max(low + 1, length), ()))
    parts = []
    for clip, (rows, valid) in enumerate(zip(asked.rows, asked.valid, strict=True)):
        targets = masks[clip, rows] & valid[:, None, None, None]
        frames = [
            stack_tokens([sample_mask(scene, clip, t, own[t], core.settings.points, extremes=True) for own in targets])
            for t in range(length - last, length)
        ]
        parts.append(VisualTokens.joined(frames, lambda some: torch.cat(some, 1)))
    return _batched(parts)


def _all_outputs(
    core: UniVSNetwork,
    outputs: list[Outputs],
    learned: Targets,
    prompted: Targets | None,
    concepts: Tensor | None,
    asked: Asked | None,
    settings: TrainingSettings,
) -> tuple[dict[str, Tensor], Matched]:
    """Terms of a clip summed over outputs, and how the last output was matched."""
    points = Points(settings.points, settings.oversample, settings.uncertain)
    named, terms = asked is not None and asked.kind == "category", []
    for output in outputs:
        logits = None
        if concepts is not None:
            both = (output.learnable.classes, output.prompt.classes)
            logits = (core.class_logits(both[0], concepts), core.class_logits(both[1], concepts))
        own, found = output_losses(output, learned, prompted, logits, named, points)
        terms.append({name: own.get(name, own["mask"] * 0) for name in TERMS})
    return added(terms), found


def _pool(
    output: Outputs, learned: Targets, prompted: Targets | None, found: Matched, asked: Asked | None
) -> list[tuple[Tensor, Tensor]]:
    """Embeddings and ids of a clip, matched and prompted, for each video; categories have ids of their own."""
    pools = embedded(output.learnable, learned, found)
    if prompted is None or asked is None:
        return pools
    shift = learned.ids.shape[1] if asked.kind == "category" else 0
    given = embedded(output.prompt, prompted, itself(prompted))
    return [(torch.cat([a, b]), torch.cat([i, j + shift])) for (a, i), (b, j) in zip(pools, given, strict=True)]


def _between(pools: list[list[tuple[Tensor, Tensor]]], like: Tensor) -> dict[str, Tensor]:
    """ReID losses between the clips of each video, mean over videos; zero where there is one clip."""
    terms = []
    for video in zip(*pools, strict=True):
        rows, ids = (torch.cat(part) for part in zip(*video, strict=True))
        terms.append(torch.stack(clip_losses(rows, ids)))
    total = torch.stack(terms).mean(0) if terms else torch.stack([like * 0, like * 0])
    return dict(zip(BETWEEN, total, strict=True))


def _sampled(
    scene: Scene, clip: int, frame: int, mask: Tensor, count: int, kinds: tuple[float, float, float]
) -> VisualTokens:
    """Tokens of a target by a random point of it, its jittered box, or its mask."""
    kind = int(torch.multinomial(torch.tensor(kinds), 1))
    places = mask.nonzero()
    if kind == 2 or not len(places):
        return sample_mask(scene, clip, frame, mask, count, extremes=True)
    if kind == 0:
        place = places[int(torch.randint(len(places), ()))].flip(0)[None] + 0.5
        return sample_points(scene, clip, frame, place, count)
    (y0, x0), (y1, x1) = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
    return sample_box(scene, clip, frame, jitter_box((x0, y0, x1, y1), scene.size), count)


def _key_frame(masks: Tensor) -> int:
    """A random frame that shows a target; masks bool (N, T, H, W)."""
    frames = masks.flatten(2).any(2).any(0).nonzero()[:, 0]
    return int(frames[torch.randint(len(frames), ())]) if len(frames) else 0


def _names(present: Tensor, count: int, most: int) -> Tensor:
    """Categories that are present, and random other ones of ``count`` up to ``most``."""
    here = present.unique()
    absent = torch.tensor([name for name in range(count) if name not in here.tolist()], dtype=torch.long).to(here)
    return torch.cat([here[:most], absent[torch.randperm(len(absent))[: max(0, most - len(here))]]])


def _chosen(rows: list[Tensor], most: int) -> tuple[Tensor, Tensor]:
    """At most ``most`` of each list, padded with 0 to (B, Np), and which are no padding."""
    some = [own[torch.randperm(len(own))[:most].to(own.device)] for own in rows]
    longest = max(1, max(len(own) for own in some))
    valid = [torch.arange(longest, device=own.device) < len(own) for own in some]
    return torch.stack([F.pad(own, (0, longest - len(own))) for own in some]), torch.stack(valid)


def _batched(parts: list[VisualTokens]) -> VisualTokens:
    """Tokens (Np, L, C) of each clip as (B, Np, 1, L, C)."""
    return VisualTokens.joined(parts, lambda some: torch.stack(some)[:, :, None])


def _union(of: Tensor, masks: Tensor) -> Tensor:
    """Bool (Np, T, H, W): the targets (N, T, H, W) of each row of ``of`` (Np, N) together."""
    return torch.stack([masks[own].any(0) if own.any() else torch.zeros_like(masks[0]) for own in of])
