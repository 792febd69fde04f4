"""Seeded weights and inputs on which the official UniVS code was run (docs/parity.md).

A value depends on the seed and on the parameter's published name, so that the same weights can be put into the official
model and into ours, on any machine.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from methods.univs.network.backbone import _SWIN
from methods.univs.network.decoder import Outputs
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.pixel_decoder import PixelDecoder
from methods.univs.network.prompts import PromptTokens, VisualTokens, stack_tokens
from methods.univs.network.scene import Features, Scene
from methods.univs.network.visual_sampler import sample_box, sample_mask, sample_points
from methods.univs.settings import TextSettings, UniVSSettings
from methods.univs.weights.loading import from_published

Shapes = dict[str, tuple[int, ...]]
TEXT = TextSettings(32, 1, 2, 640, 77, 64, hashed=True)  # small: the tower is compared by itself
WIDTHS = (256, 512, 1024, 2048)  # of ResNet-50's maps
THIN = dict(hidden=64, heads=4, queries=12, layers=4, feedforward=96, encoder_layers=2, encoder_feedforward=80)
FULL = UniVSSettings(text=TEXT)


def thin(**changes) -> UniVSSettings:
    """A small network with the paper's concepts."""
    return UniVSSettings(**(THIN | dict(text=TEXT) | changes))


@dataclass(frozen=True)
class Case:
    """One parity run of pixel decoder and mask decoder, on seeded backbone maps.

    Attributes:
        prompts: none, ``visual``, ``category`` or ``expression``.
        settings: of the network.
        frames: indices of the first clip's frames in the video; those of the next are 20 later.
        clips: in the batch; more than one in training mode, as the official code has it.
        size: of the frames.
        seed: of weights and maps.
    """

    prompts: str = "none"
    settings: UniVSSettings = field(default_factory=thin)
    frames: tuple[int, ...] = (3, 4, 9)
    clips: int = 1
    size: tuple[int, int] = (96, 128)
    seed: int = 0

    @property
    def training(self) -> bool:
        return self.clips > 1

    @property
    def frame_index(self) -> Tensor:
        """(B, T)."""
        return torch.tensor(self.frames) + 20 * torch.arange(self.clips)[:, None]


CASES = {
    "full": Case("visual", FULL, seed=1),
    "learnable": Case(seed=2),
    "visual": Case("visual", seed=3),
    "category": Case("category", seed=4),
    "expression": Case("expression", seed=5),
    "one frame": Case("visual", frames=(40,), seed=6),
    "fixed time": Case("visual", thin(temporal="fixed"), seed=7),
    "blocked": Case("visual", thin(self_attention="sep-blocked"), seed=8),
    "prompts read learnable": Case("visual", thin(self_attention="sep-l2p"), seed=9),
    "training": Case("category", clips=2, seed=11),
    "all": Case("category", thin(self_attention="all"), seed=10),
}
BANK = (8, 2268)  # rows of the official bank that category prompts take: BDD's
BOX = (9.0, 20.0, 70.0, 90.0)
POINT = (50.5, 33.25)


def with_kinds(prefix: str, kinds: str, *shape: int) -> Shapes:
    """weight and / or bias of a module; the bias has the first side alone."""
    return {f"{prefix}.{kind}": shape if kind == "weight" else shape[:1] for kind in kinds.split()}


def both(prefix: str, *shape: int) -> Shapes:
    return with_kinds(prefix, "weight bias", *shape)


def frozen_norm(prefix: str, channels: int) -> Shapes:
    return {f"{prefix}.norm.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")}


def attention(prefix: str, channels: int) -> Shapes:
    inner = {f"{prefix}.in_proj_weight": (3 * channels, channels), f"{prefix}.in_proj_bias": (3 * channels,)}
    return inner | both(f"{prefix}.out_proj", channels, channels)


def resnet_names() -> Shapes:
    """detectron2's ResNet-50."""
    out: Shapes = {"backbone.stem.conv1.weight": (64, 3, 7, 7)} | frozen_norm("backbone.stem.conv1", 64)
    inputs = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(depth):
            name = f"backbone.res{stage + 2}.{block}"
            shapes = {"conv1": (width, inputs, 1), "conv2": (width, width, 3), "conv3": (4 * width, width, 1)}
            if block == 0:
                shapes["shortcut"] = (4 * width, inputs, 1)
            for layer, (outputs, ins, side) in shapes.items():
                out[f"{name}.{layer}.weight"] = (outputs, ins, side, side)
                out |= frozen_norm(f"{name}.{layer}", outputs)
            inputs = 4 * width
    return out


def swin_names(kind: str) -> Shapes:
    """Mask2Former's Swin."""
    first, depths, heads, window = _SWIN[kind]
    out = both("backbone.patch_embed.proj", first, 3, 4, 4) | both("backbone.patch_embed.norm", first)
    for stage, depth in enumerate(depths):
        width, name = first * 2**stage, f"backbone.layers.{stage}"
        for block in (f"{name}.blocks.{i}" for i in range(depth)):
            out |= both(f"{block}.norm1", width) | both(f"{block}.norm2", width)
            out[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads[stage])
            out[f"{block}.attn.relative_position_index"] = (window**2, window**2)
            out |= both(f"{block}.attn.qkv", 3 * width, width) | both(f"{block}.attn.proj", width, width)
            out |= both(f"{block}.mlp.fc1", 4 * width, width) | both(f"{block}.mlp.fc2", width, 4 * width)
        if stage < 3:
            out |= {f"{name}.downsample.reduction.weight": (2 * width, 4 * width)}
            out |= both(f"{name}.downsample.norm", 4 * width)
        out |= both(f"backbone.norm{stage}", width)
    return out


def pixel_names(settings: UniVSSettings, widths: tuple[int, ...]) -> Shapes:
    """The pixel decoder's."""
    c, top = settings.hidden, "sem_seg_head.pixel_decoder"
    out: Shapes = {}
    for level, width in enumerate(widths[:0:-1]):
        out |= both(f"{top}.input_proj.{level}.0", c, width, 1, 1) | both(f"{top}.input_proj.{level}.1", c)
    out[f"{top}.transformer.level_embed"] = (3, c)
    for name in (f"{top}.transformer.encoder.layers.{i}" for i in range(settings.encoder_layers)):
        samples = settings.heads * 12
        out |= both(f"{name}.self_attn.sampling_offsets", 2 * samples, c)
        out |= both(f"{name}.self_attn.attention_weights", samples, c)
        out |= both(f"{name}.self_attn.value_proj", c, c) | both(f"{name}.self_attn.output_proj", c, c)
        out |= both(f"{name}.norm1", c) | both(f"{name}.norm2", c)
        out |= both(f"{name}.linear1", settings.encoder_feedforward, c)
        out |= both(f"{name}.linear2", c, settings.encoder_feedforward)
    out |= both(f"{top}.mask_features", c, c, 1, 1)
    out |= {f"{top}.adapter_1.weight": (c, widths[0], 1, 1), f"{top}.layer_1.weight": (c, c, 3, 3)}
    return out | both(f"{top}.adapter_1.norm", c) | both(f"{top}.layer_1.norm", c)


def predictor_names(settings: UniVSSettings, mask2former: bool = False) -> Shapes:
    """The mask decoder's: of UniVS, or of Mask2Former with 133 classes."""
    c, top, d = settings.hidden, "sem_seg_head.predictor", settings.text.outputs
    out: Shapes = {}
    for i in range(settings.layers):
        parts = [("self_attention", "self_attn"), ("cross_attention", "multihead_attn")]
        parts += [] if mask2former else [("prompt_self_attention", "multihead_attn")]
        for layer, inner in parts:
            name = f"{top}.transformer_{layer}_layers.{i}"
            out |= attention(f"{name}.{inner}", c) | both(f"{name}.norm", c)
        name = f"{top}.transformer_ffn_layers.{i}"
        out |= both(f"{name}.linear1", settings.feedforward, c) | both(f"{name}.linear2", c, settings.feedforward)
        out |= both(f"{name}.norm", c)
    out |= both(f"{top}.decoder_norm", c) | {f"{top}.level_embed.weight": (3, c)}
    out |= {f"{top}.{name}.weight": (settings.queries, c) for name in ("query_feat", "query_embed")}
    for i in range(3):
        out |= both(f"{top}.mask_embed.layers.{i}", c, c)
    if mask2former:
        return out | both(f"{top}.class_embed", 134, c) | {"criterion.empty_weight": (134,)}
    out |= attention(f"{top}.lang2vision_cross_attention_layer.multihead_attn", c)
    out |= both(f"{top}.lang2vision_cross_attention_layer.norm", c) | both(f"{top}.text_norm", d)
    out |= both(f"{top}.vis2text_projection", d, c) | both(f"{top}.text2vis_projection", c, d)
    out |= {f"{top}.{name}.weight": (1, c) for name in ("prompt_detection", "prompt_sot", "prompt_grounding")}
    return out | {f"{top}.{name}.weight": (1, 1) for name in ("cls_temp", "reid_temp")}


def clip_names(settings: TextSettings) -> Shapes:
    """CLIP's own layout of the text tower."""
    width = settings.width
    out: Shapes = {"token_embedding.weight": (settings.vocabulary, width)}
    out |= {"positional_embedding": (settings.context, width), "text_projection": (width, settings.outputs)}
    for name in (f"transformer.resblocks.{i}" for i in range(settings.layers)):
        out |= attention(f"{name}.attn", width) | both(f"{name}.ln_1", width) | both(f"{name}.ln_2", width)
        out |= both(f"{name}.mlp.c_fc", 4 * width, width) | both(f"{name}.mlp.c_proj", width, 4 * width)
    return out | both("ln_final", width)


def published_names(settings: UniVSSettings, mask2former: bool = False) -> Shapes:
    """A whole checkpoint's names and shapes."""
    resnet = settings.backbone == "resnet50"
    first = 256 if resnet else _SWIN[settings.backbone][0]
    widths = tuple(first * 2**i for i in range(4))
    backbone = resnet_names() if resnet else swin_names(settings.backbone)
    return backbone | pixel_names(settings, widths) | predictor_names(settings, mask2former)


def seeded(names: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Values by name: unit gain, so that masks are neither empty nor full."""
    return {name: _value(name, shape, seed) for name, shape in names.items()}


def _value(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode())))
    if name.endswith(("running_var", "temp.weight")):
        return 1 + noise.abs()
    if name.endswith("sampling_offsets.bias"):
        return 2 * noise
    if len(shape) > 1 and ".norm" not in name:
        table = re.search(r"_embed\.weight|query_feat|prompt_(sot|detection|grounding)\.|bias_table", name)
        return noise / (1 if table else noise[0].numel()) ** 0.5
    return float(name.endswith("weight")) + 0.1 * noise


def seed_ours(settings: UniVSSettings, seed: int = 0) -> UniVSNetwork:
    """A network with seeded weights, in eval mode, for maps of ResNet-50: it has a small backbone in its place."""
    network = UniVSNetwork(replace(settings, backbone="nano"))
    network.pixels = PixelDecoder(WIDTHS, settings)
    names = pixel_names(settings, WIDTHS) | predictor_names(settings)
    network.load_state_dict(from_published(seeded(names, seed)), strict=False)
    return network.eval()


def backbone_maps(case: Case) -> list[Tensor]:
    """Seeded maps at strides 4 to 32 of the case's frames."""
    generator, frames = torch.Generator().manual_seed(case.seed), case.frame_index.numel()
    shapes = [(frames, width, *(side // 4 // 2**i for side in case.size)) for i, width in enumerate(WIDTHS)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def our_scene(network: UniVSNetwork, case: Case) -> Scene:
    """The case's clip, from its maps on."""
    mask, maps = network.pixels(tuple(backbone_maps(case)))
    return network.scene(Features(mask, maps, case.size), case.frame_index)


def prompt_mask(case: Case) -> Tensor:
    """A mask of 20 cells, fewer than a prompt has tokens: what is drawn does not depend on chance."""
    mask = torch.zeros(case.size, dtype=torch.bool)
    mask[17:47, 30:67] = True
    return mask


def text_features(case: Case) -> Tensor:
    """Two expressions (2, 78, 640)."""
    return torch.randn(2, 78, 640, generator=torch.Generator().manual_seed(100 + case.seed))


def bank(case: Case) -> Tensor:
    """The official bank's size with seeded rows."""
    return torch.randn(3938, 640, generator=torch.Generator().manual_seed(200 + case.seed))


def our_prompts(network: UniVSNetwork, scene: Scene, case: Case) -> PromptTokens | None:
    """Prompts of the case: a mask, a box and a point on frame 0; eight names; or two expressions."""
    count, first = BANK
    if case.prompts == "category":
        return network.category_prompts(scene, bank(case)[first : first + count].expand(case.clips, -1, -1))
    if case.prompts == "expression":
        return network.expression_prompts(scene, text_features(case)[None])
    if case.prompts == "none":
        return None
    points = network.settings.points
    tokens = stack_tokens(
        [
            sample_mask(scene, 0, 0, prompt_mask(case), points),
            sample_box(scene, 0, 0, BOX, points, torch.Generator().manual_seed(0)),
            sample_points(scene, 0, 0, torch.tensor([POINT]), points),
        ]
    )
    return network.visual_prompts(VisualTokens(tokens.content[None, :, None], tokens.position[None, :, None]))


@torch.inference_mode()
def our_run(network: UniVSNetwork, case: Case) -> list[dict[str, Tensor]]:
    """All outputs of a case, both streams joined: masks, embeddings, and logits for the whole bank.

    In training mode the permutation of frames is drawn from seed 0.
    """
    torch.manual_seed(0)
    network.decoder.train(case.training)
    scene = our_scene(network, case)
    outputs = network.decode(
        scene, our_prompts(network, scene, case), average_with_learnable=case.prompts == "expression"
    )
    return [_joined(network, output, case) for output in outputs]


def _joined(network: UniVSNetwork, output: Outputs, case: Case) -> dict[str, Tensor]:
    learnable, prompt = output.learnable, output.prompt
    classes = torch.cat([learnable.classes, prompt.classes], 1)
    return {
        "masks": torch.cat([learnable.masks, prompt.masks], 1),
        "embeddings": torch.cat([learnable.embeddings, prompt.embeddings], 1),
        "logits": network.class_logits(classes, bank(case)),
    }


def summarise(outputs: list[dict[str, Tensor]]) -> list[list[float]]:
    """A few numbers of every output: mean and spread of each part, and values at places spread over it."""
    rows = []
    for output, name in product(outputs, ("masks", "embeddings", "logits")):
        flat = output[name].flatten()
        places = torch.linspace(0, len(flat) - 1, 7).long()
        rows.append([round(float(x), 6) for x in (flat.mean(), flat.std(), *flat[places])])
    return rows
