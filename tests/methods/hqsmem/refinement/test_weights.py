"""SAM-HQ and DINO in the layouts that they are published in, made here with random values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SamHQConfig,
    SamHQModel,
    ViTConfig,
    ViTModel,
)

from common.errors import InputError
from methods.hqsmem.refinement import weights as module
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.mask_decoder import SAMHQNetwork
from methods.hqsmem.refinement.sam_hq import SAMHQ
from methods.hqsmem.refinement.weights import load_dino, load_sam_hq
from tests.support.small_refiner import randomize

# The fact sheet's table from right to left, in the order of replacement.
ORIGINAL = [
    ("shared_image_embedding.positional_embedding", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    ("vision_encoder.patch_embed.projection", "image_encoder.patch_embed.proj"),
    ("vision_encoder.layers", "image_encoder.blocks"),
    ("vision_encoder.neck.conv1", "image_encoder.neck.0"),
    ("vision_encoder.neck.layer_norm1", "image_encoder.neck.1"),
    ("vision_encoder.neck.conv2", "image_encoder.neck.2"),
    ("vision_encoder.neck.layer_norm2", "image_encoder.neck.3"),
    ("vision_encoder", "image_encoder"),
    ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
    ("mask_embed.conv1", "mask_downscaling.0"),
    ("mask_embed.layer_norm1", "mask_downscaling.1"),
    ("mask_embed.conv2", "mask_downscaling.3"),
    ("mask_embed.layer_norm2", "mask_downscaling.4"),
    ("mask_embed.conv3", "mask_downscaling.6"),
    ("upscale_conv1", "output_upscaling.0"),
    ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"),
    ("hq_token", "hf_token"),
    ("hq_mask_mlp", "hf_mlp"),
    *(
        (f"mask_decoder.{ours}_{part}", f"mask_decoder.{theirs}.{number}")
        for ours, theirs in [
            ("compress_vit", "compress_vit_feat"),
            ("encoder", "embedding_encoder"),
            ("mask", "embedding_maskfeature"),
        ]
        for part, number in [("conv1", 0), ("norm", 1), ("conv2", 3)]
    ),
    ("layer_norm", "norm"),
]
MLPS = ("output_hypernetworks_mlps", "iou_prediction_head", "hf_mlp")


def original(net: SamHQModel) -> dict[str, Tensor]:
    """A state dict as ``sam_hq_vit_*.pth`` has it."""
    out = {}
    for key, value in net.state_dict().items():
        if key == "prompt_encoder.shared_embedding.positional_embedding":
            continue
        for ours, theirs in ORIGINAL:
            key = key.replace(ours, theirs)
        if any(name in key for name in MLPS):
            key = key.replace("layers.0", "layers.1").replace("proj_in", "layers.0").replace("proj_out", "layers.2")
        out[key] = value
    return out


@pytest.fixture
def sam(monkeypatch: pytest.MonkeyPatch) -> SamHQModel:
    """Two blocks of width 32 on 64 x 64 pixels, as published but for the sizes."""
    monkeypatch.setitem(module._TRUNKS, 32, (2, 2, (1,)))
    small = {"vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}}
    small["vision_config"] |= {"global_attn_indexes": (1,), "image_size": 64, "output_channels": 256}
    net: SamHQModel = SAMHQNetwork(
        SamHQConfig(**small, prompt_encoder_config={"image_size": 64}, mask_decoder_config={"vit_dim": 32})
    )
    randomize(net)
    return net.eval()


def answer(net: SamHQModel) -> Tensor:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[[3.0, 5.0, 40.0, 50.0], [20.0, 8.0, 60.0, 30.0]]])
    with torch.inference_mode():
        return net(pixel_values=image, input_boxes=boxes).pred_masks


def test_original_sam_hq(sam, tmp_path, monkeypatch):
    """The input's side is not in a file: published ones are 1024 pixels, so this trunk is made with 64."""
    state = original(sam)
    assert len(state) == len(sam.state_dict()) - 1
    torch.save(state, file := tmp_path / "sam_hq_vit_x.pth")
    published = module.SamHQVisionConfig
    monkeypatch.setattr(module, "SamHQVisionConfig", lambda **sizes: published(image_size=64, **sizes))
    monkeypatch.setattr(
        module, "SamHQConfig", lambda **parts: SamHQConfig(prompt_encoder_config={"image_size": 64}, **parts)
    )
    assert torch.equal(answer(load_sam_hq(file)), answer(sam))


def test_a_folder_of_sam_hq(sam, tmp_path):
    sam.save_pretrained(tmp_path)
    loaded = load_sam_hq(tmp_path)
    assert torch.equal(answer(loaded), answer(sam))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_does_not_fit_sam_hq_is_an_error(sam, tmp_path: Path):
    with pytest.raises(InputError, match=r"no such weights.*SysCV/sam-hq"):
        load_sam_hq(tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match=r"no model.safetensors"):
        load_sam_hq(tmp_path)
    torch.save({"pos_embed": torch.zeros(1)}, file := tmp_path / "x.pth")
    with pytest.raises(InputError, match="is it another model's file"):
        load_sam_hq(file)
    torch.save({"image_encoder.patch_embed.proj.bias": torch.zeros(7)}, file)
    with pytest.raises(InputError, match="trunk of width 7; known are 768"):
        load_sam_hq(file)
    sam.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(InputError, match="model_type is 'sam'; expected sam_hq"):
        load_sam_hq(tmp_path)


def vit(kind: str) -> torch.nn.Module:
    """DINO or DINOv2 with heads of 64 and 3 x 3 places."""
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 8}
    net = {
        "dino": lambda: ViTModel(
            ViTConfig(**sizes, intermediate_size=512, layer_norm_eps=1e-6), add_pooling_layer=False
        ),
        "dinov2": lambda: Dinov2Model(Dinov2Config(**sizes)),
        "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=3)),
    }[kind]()
    randomize(net)
    return net.eval()


def hub(net: torch.nn.Module) -> dict[str, Tensor]:
    """A state dict as torch.hub has it: query, key and value in one."""
    out: dict[str, Tensor] = {}
    for key, value in net.state_dict().items():
        for ours, theirs in [
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.", ""),
            ("encoder.layer.", "blocks."),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("layers.", "blocks."),
            ("attention.o_proj", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("layernorm", "norm"),
        ]:
            key = key.replace(ours, theirs)
        if "attention.q_proj" in key:
            other = [net.state_dict()[f] for f in (_swap(net, key, part) for part in "qkv")]
            out[key.replace("attention.q_proj", "attn.qkv")] = torch.cat(other)
        elif "attention." not in key:
            out[key] = value
    return out


def _swap(net: torch.nn.Module, key: str, part: str) -> str:
    """``blocks.0.attention.q_proj.weight`` as the model names its ``part``."""
    stem = "encoder.layer." if not isinstance(net, ViTModel) else "layers."
    return key.replace("blocks.", stem).replace("q_proj", f"{part}_proj")


def tokens(net: torch.nn.Module) -> Tensor:
    image = torch.randint(0, 256, (40, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return DINO(net, side=32).encode(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dino", "dinov2", "registers"])
def test_dino_from_the_hub(kind, tmp_path):
    torch.save(hub(net := vit(kind)), file := tmp_path / "dino.pth")
    loaded = load_dino(file)
    assert type(loaded) is type(net)
    assert loaded.config.num_attention_heads == 2
    expected = tokens(net)
    assert expected.shape == (128, 7, 4)  # 40 : 24 at a short side of 32, in patches of 8
    assert torch.equal(tokens(loaded), expected)


@pytest.mark.parametrize("kind", ["dino", "dinov2", "registers"])
def test_a_folder_of_dino(kind, tmp_path):
    (net := vit(kind)).save_pretrained(tmp_path)
    assert torch.equal(tokens(load_dino(tmp_path)), tokens(net))


def test_half_precision_is_read_as_single(tmp_path):
    (net := vit("dino").half()).save_pretrained(tmp_path)
    assert torch.equal(tokens(load_dino(tmp_path)), tokens(net.float()))


def test_what_does_not_fit_dino_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no such weights.*facebookresearch/dino"):
        load_dino(tmp_path / "nowhere.pth")
    state = hub(vit("dino"))
    torch.save(state | {"head.weight": torch.zeros(1)}, file := tmp_path / "dino.pth")
    with pytest.raises(InputError, match=r"1 not known: head.weight"):
        load_dino(file)
    del state["pos_embed"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"no key embeddings.position_embeddings"):
        load_dino(file)


def test_our_nano_folders(nano_sam: SAMHQ, nano_dino: DINO):
    """As the training script writes them."""
    assert nano_sam.side == 256
    assert nano_dino.patch == 8


@pytest.fixture
def nano_sam() -> SAMHQ:
    if not module.NANO_SAM.is_dir():
        pytest.skip(f"{module.NANO_SAM} is not there; benchmarks/train_nano_refiner.py makes it")
    return SAMHQ(load_sam_hq(module.NANO_SAM))


@pytest.fixture
def nano_dino() -> DINO:
    if not module.NANO_DINO.is_dir():
        pytest.skip(f"{module.NANO_DINO} is not there; benchmarks/train_nano_refiner.py makes it")
    return DINO(load_dino(module.NANO_DINO))
