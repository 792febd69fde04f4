"""Published ViT weights in every layout that they come in, made here with random values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, ViTMAEConfig, ViTMAEForPreTraining

from common.errors import InputError
from methods.sslvos.encoders import vit as module
from methods.sslvos.encoders.vit import ViT, load_vit

SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins: position tables of 4 x 4 and of 2 x 2."""
    monkeypatch.setitem(module.SIZES, "base", (32, 4, 2, 4))
    monkeypatch.setitem(module.SIZES, "mae-base", (32, 4, 2, 2))


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * (0.2 if value.ndim > 1 else 1))


@pytest.fixture
def dinov2() -> Dinov2Model:
    """With 16 x 16 patches, so that its own answers are those that ours must be."""
    model = Dinov2Model(Dinov2Config(**SMALL, patch_size=16, image_size=64)).eval()
    randomise(model)
    return model


def hub(model: Dinov2Model) -> dict[str, Tensor]:
    """A DINOv2 state dict with the names of its first release."""
    out = {}
    for key, value in model.state_dict().items():
        for old, new in [
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.", ""),
            ("encoder.layer", "blocks"),
            ("attention.o_proj", "attn.proj"),
            ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
            ("layernorm", "norm"),
        ]:
            key = key.replace(old, new)
        out[key] = value
    for block in range(4):
        for kind in ("weight", "bias"):
            parts = [out.pop(f"blocks.{block}.attention.{part}_proj.{kind}") for part in "qkv"]
            out[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return out


def assert_last_is(vit: ViT, expected: Tensor, image: Tensor) -> None:
    tokens, cls = vit(image)[-1]
    torch.testing.assert_close(torch.cat([cls[:, None], tokens], 1), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_taps_are_the_outputs_of_the_groups(dinov2, image, tmp_path):
    dinov2.save_pretrained(tmp_path)
    vit = ViT("base")
    assert load_vit(vit, tmp_path) == tmp_path / "model.safetensors"
    states = dinov2(image, output_hidden_states=True).hidden_states[1:]
    taps = vit(image)
    assert len(taps) == len(states) == 4
    for (tokens, cls), state in zip(taps, states, strict=True):
        torch.testing.assert_close(tokens, state[:, 1:])
        torch.testing.assert_close(cls, state[:, 0])


@torch.inference_mode()
@pytest.mark.parametrize("prefix", ["", "pretrained."])
def test_files_of_the_first_release(dinov2, image, tmp_path, prefix):
    """DINOv2's, and Depth Anything's with its head."""
    state = {prefix + key: value for key, value in hub(dinov2).items()}
    if prefix:
        state["depth_head.scratch.weight"] = torch.zeros(1)
    torch.save(state, file := tmp_path / "vit.pth")
    load_vit(vit := ViT("base"), file)
    assert_last_is(vit, dinov2(image, output_hidden_states=True).hidden_states[-1], image)


@torch.inference_mode()
def test_depth_anything_of_transformers(dinov2, image, tmp_path):
    state = {f"backbone.{key}": value for key, value in dinov2.state_dict().items()}
    state |= {"neck.fusion.weight": torch.zeros(1), "head.conv1.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    load_vit(vit := ViT("base"), tmp_path)
    assert_last_is(vit, dinov2(image, output_hidden_states=True).hidden_states[-1], image)


@torch.inference_mode()
def test_mae_has_layer_scales_of_one(tmp_path):
    """All patches in their order, as MAE sees them when it hides none."""
    decoder = {"decoder_num_hidden_layers": 1, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2}
    config = ViTMAEConfig(**SMALL, **decoder, intermediate_size=128, image_size=32, mask_ratio=0.0, layer_norm_eps=1e-6)
    model = ViTMAEForPreTraining(config).eval()
    randomise(model.vit)
    model.save_pretrained(tmp_path)
    load_vit(vit := ViT("mae-base"), tmp_path)
    image = torch.randn(2, 3, 32, 32)
    states = model.vit(image, noise=torch.arange(4.0).expand(2, -1), output_hidden_states=True).hidden_states
    assert_last_is(vit, states[-1], image)


@torch.inference_mode()
def test_mae_of_the_first_release(dinov2, image, tmp_path):
    """The hub's names without layer scales, under ``model``."""
    for block in dinov2.encoder.layer:
        block.layer_scale1.lambda1.fill_(1)
        block.layer_scale2.lambda1.fill_(1)
    state = {key: value for key, value in hub(dinov2).items() if "gamma" not in key and key != "mask_token"}
    torch.save({"model": state}, file := tmp_path / "mae.pth")
    load_vit(vit := ViT("base"), file)
    assert_last_is(vit, dinov2(image, output_hidden_states=True).hidden_states[-1], image)


@torch.inference_mode()
def test_patch_kernels_are_resized(dinov2, tmp_path):
    """A constant kernel stays constant; corners stay where they are."""
    state = hub(dinov2)
    kernel = torch.randn(32, 3, 14, 14)
    kernel[0] = 2.0
    torch.save(state | {"patch_embed.proj.weight": kernel}, file := tmp_path / "vit.pth")
    load_vit(vit := ViT("base"), file)
    got = vit.model.embeddings.patch_embeddings.projection.weight
    assert got.shape == (32, 3, 16, 16)
    assert torch.allclose(got[0], torch.tensor(2.0))
    torch.testing.assert_close(got[..., [0, 0, -1, -1], [0, -1, 0, -1]], kernel[..., [0, 0, -1, -1], [0, -1, 0, -1]])


def test_what_does_not_fit_is_an_error(dinov2, tmp_path: Path):
    with pytest.raises(InputError, match="no such ViT weights"):
        load_vit(ViT("base"), tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match=r"no model.safetensors"):
        load_vit(ViT("base"), tmp_path)
    torch.save(hub(dinov2) | {"register_tokens": torch.zeros(1, 4, 32)}, file := tmp_path / "registers.pth")
    with pytest.raises(InputError, match=r"not known: embeddings\.register_tokens"):
        load_vit(ViT("base"), file)
    with pytest.raises(InputError, match="wrong size"):
        load_vit(ViT("mae-base"), file)  # another position table
