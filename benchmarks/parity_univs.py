"""Run the official UniVS code beside our network on the same seeded weights and inputs, and compare or record.

    python benchmarks/parity_univs.py --official PATH/TO/UniVS [--record tests/golden/univs/expected.json]

The official code (github.com/MinghanLi/UniVS) is not part of this project: unpack a checkout, install einops (and ftfy
for the tokeniser), and give its path. What it takes from detectron2, fvcore and timm is stood in for by a few lines
here, and its compiled deformable attention by its own PyTorch version. It runs in this process on the CPU in float32.
Nothing of it is kept but the numbers.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import sys
import tempfile
import types
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.checkpoints import load_state, load_strict
from methods.univs.network.backbone import _SWIN, ImageBackbone
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.text_tower import TextTower
from methods.univs.network.tokenizer import Tokenizer, clean, templates
from methods.univs.settings import TextSettings
from methods.univs.weights.loading import from_published, published_state
from methods.univs.weights.text_weights import from_clip
from tests.support.seeded_univs import (
    BANK,
    BOX,
    CASES,
    POINT,
    WIDTHS,
    Case,
    backbone_maps,
    bank,
    clip_names,
    our_run,
    pixel_names,
    predictor_names,
    prompt_mask,
    published_names,
    seeded,
    summarise,
    swin_names,
    text_features,
)

LIMIT = 1e-4
TEXTS = ["a man in a red shirt", "the 2 dogs, left-most!", "person/rider", "traffic_light (far)", "café chair"]


def stand_ins(root: Path) -> None:
    """Modules that the official files import, as far as they use them."""
    sys.path.insert(0, str(root))
    for name in ("mask2former", "mask2former/modeling", "univs", "univs/modeling", "univs/utils"):
        _package(name.replace("/", "."), [str(root / name)])
    for part in ("transformer_decoder", "prompt_encoder", "language"):
        _package(f"univs.modeling.{part}", [str(root / "univs/modeling" / part)])
    for part in ("pixel_decoder", "backbone", "transformer_decoder"):
        _package(f"mask2former.modeling.{part}", [str(root / "mask2former/modeling" / part)])

    class Registry:
        def __init__(self, *_: object) -> None: ...

        def register(self):
            return lambda kind: kind

    def configurable(function):
        return function

    shape = lambda **sizes: SimpleNamespace(**sizes)  # noqa: E731
    fill = SimpleNamespace(c2_xavier_fill=lambda module: None)
    norm = lambda kind, channels: nn.GroupNorm(32, channels)  # noqa: E731
    sample = lambda x, p, **how: F.grid_sample(x, 2 * p.unsqueeze(2) - 1, **how).squeeze(3)  # noqa: E731
    drop = lambda rate: nn.Identity()  # noqa: E731
    registries = dict(SEM_SEG_HEADS_REGISTRY=Registry(), BACKBONE_REGISTRY=Registry())
    parts = {
        "fvcore.nn": dict(weight_init=fill),
        "fvcore.nn.weight_init": vars(fill),
        "detectron2.config": dict(configurable=configurable),
        "detectron2.layers": dict(Conv2d=_Conv2d, ShapeSpec=shape, get_norm=norm),
        "detectron2.modeling": dict(Backbone=object, ShapeSpec=shape, **registries),
        "detectron2.utils.registry": dict(Registry=Registry),
        "detectron2.projects.point_rend.point_features": dict(point_sample=sample),
        "timm.models.layers": dict(
            DropPath=drop,
            to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x),
            trunc_normal_=nn.init.trunc_normal_,
        ),
        "MultiScaleDeformableAttention": {},
        "torchvision": {},
        "univs.modeling.language": dict(pre_tokenize_expression=None),
    }
    for name, content in parts.items():
        vars(_package(name)).update(content)
    encoder = importlib.import_module("univs.modeling.prompt_encoder.prompt_encoder")
    vars(sys.modules["univs.modeling.prompt_encoder"]).update(
        VisualPromptEncoder=encoder.VisualPromptEncoder, VisualPromptSampler=encoder.VisualPromptSampler
    )
    ops = "mask2former.modeling.pixel_decoder.ops"
    functions = importlib.import_module(f"{ops}.functions.ms_deform_attn_func")
    plain = lambda value, sizes, _, places, weights, __: functions.ms_deform_attn_core_pytorch(  # noqa: E731
        value, sizes, places, weights
    )
    importlib.import_module(f"{ops}.modules.ms_deform_attn").MSDeformAttnFunction = SimpleNamespace(apply=plain)


def _package(name: str, path: list[str] | None = None) -> types.ModuleType:
    """An empty package, and those above it, without running what it would import."""
    for end in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:end])
        if part not in sys.modules:
            module = sys.modules[part] = types.ModuleType(part)
            module.__path__ = []  # type: ignore[attr-defined]
    if path:
        sys.modules[name].__path__ = path  # type: ignore[attr-defined]
    return sys.modules[name]


class _Conv2d(nn.Conv2d):
    """With a norm and an activation behind it, as detectron2's."""

    def __init__(self, *sizes: int, norm=None, activation=None, **options) -> None:
        super().__init__(*sizes, **options)
        self.norm, self.activation = norm, activation

    def forward(self, x):
        x = super().forward(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class _Sampler:
    """The official visual prompt encoder on the case's mask, box and point of frame 0."""

    def __init__(self, case: Case) -> None:
        kind = {"fixed": "FixedT", "arbitrary": "ArbitraryT"}[case.settings.temporal]
        make = sys.modules["univs.modeling.prompt_encoder"].VisualPromptEncoder
        count = case.settings.points
        self.case = case
        self.encoder = make(1024, case.settings.hidden, len(case.frames), count, kind)

    def process_per_batch(self, sources, codes, sizes, targets, *_, **__):
        (height, width), case = self.case.size, self.case
        features, code = (x[-1][:, 0].T.reshape(-1, *sizes[-1]) for x in (sources, codes))
        place = torch.tensor([POINT]) / torch.tensor([width, height])
        frames = dict(key_fid=0, key_fid_original=case.frames[0])
        mask, box = (
            prompt_mask(case)[None].float(),
            torch.tensor([[0.2, 0.2, 0.5, 0.5]]),
        )  # the box is for the blank ones
        parts = [self.encoder.get_mask_prompt(features, code, mask, box, **frames)]
        # whole cells, without the first row and column: the official box leaves them out and takes one more at the end
        x0, y0, x1, y1 = (int(BOX[0] // 8) - 1, int(BOX[1] // 8) - 1, -int(-BOX[2] // 8) - 1, -int(-BOX[3] // 8) - 1)
        cells = torch.tensor([[x0, y0, x1, y1]]) / torch.tensor([width, height, width, height]) * 8
        with mock.patch("torch.randperm", partial(torch.randperm, generator=torch.Generator().manual_seed(0))):
            parts.append(self.encoder.get_box_prompt(features, code, cells, **frames))
        parts.append(self.encoder.get_point_prompt(features, code, place, **frames))
        return torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts]), None


def official_run(case: Case) -> list[dict[str, torch.Tensor]]:
    """All outputs of the official pixel decoder and mask decoder."""
    decoders = "mask2former.modeling.pixel_decoder.msdeformattn"
    predictors = "univs.modeling.transformer_decoder.video_mask2former_transformer_decoder_univs"
    settings, widths = case.settings, WIDTHS
    names = ("res2", "res3", "res4", "res5")
    maps = {
        name: SimpleNamespace(channels=width, stride=4 * 2**i)
        for i, (name, width) in enumerate(zip(names, widths, strict=True))
    }
    pixels = importlib.import_module(decoders).MSDeformAttnPixelDecoder(
        maps,
        transformer_dropout=0.0,
        transformer_nheads=settings.heads,
        transformer_dim_feedforward=settings.encoder_feedforward,
        transformer_enc_layers=settings.encoder_layers,
        conv_dim=settings.hidden,
        mask_dim=settings.hidden,
        norm="GN",
        transformer_in_features=names[1:],
        common_stride=4,
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.save(bank(case), file := Path(folder) / "bank.pth")
        predictor = importlib.import_module(predictors).VideoMultiScaleMaskedTransformerDecoderUniVS(
            settings.hidden,
            num_classes=1,
            hidden_dim=settings.hidden,
            num_queries=settings.queries,
            nheads=settings.heads,
            dim_feedforward=settings.feedforward,
            dec_layers=settings.layers,
            pre_norm=False,
            mask_dim=settings.hidden,
            enforce_input_project=False,
            num_frames=len(case.frames),
            clip_class_embed_path=file,
            visual_prompt_sampler=_Sampler(case),
            num_dense_points=settings.points,
            maskdec_self_attn_mask_type=settings.self_attention,
            position_embedding_sin3d_type={"fixed": "FixedT", "arbitrary": "ArbitraryT"}[settings.temporal],
            prompt_as_queries=case.prompts != "none",
        )
    predictor.reid_temp.weight.data = torch.zeros(1, 1)  # shares its memory with cls_temp until it is moved to a GPU
    _load(pixels, seeded(pixel_names(settings, widths), case.seed), "sem_seg_head.pixel_decoder.")
    _load(predictor, seeded(predictor_names(settings), case.seed), "sem_seg_head.predictor.")
    task = {"none": "detection", "category": "detection", "visual": "sot", "expression": "grounding"}[case.prompts]
    target = {"task": task, "prompt_type": "visual" if task == "sot" else "text", "dataset_name": "bdd_track"}
    target["prompt_gt_labels"] = torch.arange(1, BANK[0] + 1)
    if task == "grounding":
        text = text_features(case)[:, :, None].repeat(1, 1, len(case.frames), 1)
        target |= {"exp_sentence_feats": text[:, 0], "exp_word_feats": text[:, 1:], "exp_word_len": [5, 5]}
    with torch.inference_mode():
        mask, _, _, scales = pixels.eval().forward_features(dict(zip(names, backbone_maps(case), strict=True)))
        torch.manual_seed(0)
        targets = [target | {"frame_indices": index} for index in case.frame_index]
        out = predictor.train(case.training)(scales, mask, mask, targets=targets)
    layers = [*out["aux_outputs"], out]
    return [{"masks": x["pred_masks"], "embeddings": x["pred_embds"], "logits": x["pred_logits"]} for x in layers]


def _load(module: nn.Module, state: dict[str, torch.Tensor], prefix: str = "") -> None:
    """Strictly, so that our lists of published names and sizes are proven too."""
    module.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})


def compare(name: str, case: Case) -> tuple[bool, list]:
    """Print the largest differences of a case; True if they are too large."""
    core = UniVSNetwork(case.settings).eval()
    with tempfile.TemporaryDirectory() as folder:  # through the file, so that the names are proven too
        state = seeded(published_names(case.settings), case.seed)
        torch.save({"model": state, "iteration": 1}, file := Path(folder) / "model_final.pth")
        for value in core.parameters():
            value.data.fill_(float("nan"))
        load_strict(core, published_state(core, load_state(file))[0], file)
    theirs, ours = official_run(case), our_run(core, case)
    compared = ["masks", "embeddings"] + ["logits"] * (case.prompts != "expression")
    differ = {
        part: max(float((a[part] - b[part]).abs().max()) for a, b in zip(theirs, ours, strict=True))
        for part in compared
    }
    queries, covered = theirs[-1]["masks"].shape[1], float((theirs[-1]["masks"] > 0).float().mean())
    said = ", ".join(f"{part} {value:.1e}" for part, value in differ.items())
    print(f"{name}: {len(ours)} outputs, {queries} queries, {covered:.0%} of the mask pixels set; within {said}")
    return max(differ.values()) > LIMIT, summarise(ours)


@torch.inference_mode()
def compare_swin(kind: str) -> bool:
    """Official Swin against ours on an image whose sides are no multiples of the window."""
    width, depths, heads, window = _SWIN[kind]
    swin = importlib.import_module("mask2former.modeling.backbone.swin")
    theirs = swin.SwinTransformer(embed_dim=width, depths=depths, num_heads=heads, window_size=window)
    theirs.eval()  # returns nothing
    state = seeded(swin_names(kind))
    kept = {key: value for key, value in theirs.state_dict().items() if "relative_position_index" in key}
    _load(theirs, state | {f"backbone.{key}": value for key, value in kept.items()}, "backbone.")
    ours = ImageBackbone(kind).eval()
    _load(ours, from_published(state), "backbone.")
    image = torch.randn(1, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    pairs = zip(theirs(image).values(), ours(image), strict=True)
    differ = max(float((a - b).abs().max()) for a, b in pairs)
    print(f"{kind}: four maps within {differ:.1e}")
    return differ > LIMIT


@torch.inference_mode()
def compare_text(root: Path) -> bool:
    """Official text encoder against ours, RN50x4's sizes; official token numbers against ours, where ftfy is there."""
    settings = TextSettings()
    encoder = importlib.import_module("univs.modeling.language.TextEncoder").CLIPLangEncoder
    theirs = encoder(640, 77, 49408, 640, 10, 12, None, None).eval()
    state = seeded(clip_names(settings))
    _load(theirs, state)
    tower = TextTower(settings)
    _load(tower.body, from_clip(state))
    rows = torch.zeros(2, 77, dtype=torch.long)
    rows[0, :4], rows[1, :6] = torch.tensor([49406, 320, 1125, 49407]), torch.tensor([49406, 5, 6, 7, 8, 49407])
    words, sentence = theirs.encode_text(rows, only_eot=False)
    out = tower.body(input_ids=rows)
    differ = max(
        float((words - tower.body.text_projection(out.last_hidden_state)).abs().max()),
        float((sentence - out.text_embeds).abs().max()),
    )
    print(f"text tower: words and sentence within {differ:.1e}")
    return differ > LIMIT or compare_tokens(root, settings)


def compare_tokens(root: Path, settings: TextSettings) -> bool:
    """Token numbers of a few texts in all 81 templates."""
    try:
        theirs = importlib.import_module("univs.modeling.language.clip_prompt_utils")
    except ModuleNotFoundError as error:
        print(f"tokens: not compared ({error})")
        return False
    with tempfile.TemporaryDirectory() as folder:  # the vocabulary as two files, as on the hub
        merges = (root / "univs/modeling/language/bpe_simple_vocab_16e6.txt.gz").read_bytes()
        lines = gzip.decompress(merges).decode().split("\n")
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *lines[1 : 49152 - 256 - 2 + 1]]) + "\n")
        (Path(folder) / "vocab.json").write_text(json.dumps(theirs._tokenizer.encoder))
        ours = Tokenizer(settings, folder)
        cleaned = [clean(text) for text in TEXTS]
        mine = torch.stack([ours(cleaned, template) for template in templates(settings)], 1)
    expected = theirs.pre_tokenize_expression([theirs.clean_strings(text) for text in TEXTS])
    same = [
        torch.equal(a[0], b[0]) and set(map(tuple, a.tolist())) == set(map(tuple, b.tolist()))
        for a, b in zip(mine, expected, strict=True)
    ]
    print(f"tokens: {sum(same)} of {len(same)} texts alike in all {mine.shape[1]} templates")
    return not all(same)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="an unpacked UniVS checkout")
    parser.add_argument("--record", type=Path, help="write our values here, once they agree")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    stand_ins(args.official)
    record, failed = {}, False
    for name in args.cases:
        bad, record[name] = compare(name, CASES[name])
        failed |= bad
    for kind in ("swin-tiny", "swin-base"):
        failed |= compare_swin(kind)
    failed |= compare_text(args.official)
    if args.record and not failed:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(record) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
