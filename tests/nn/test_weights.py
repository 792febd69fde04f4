"""Weights in and out: official names, transformers folders, our checkpoints, and files that do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam2VideoModel

from common.errors import InputError
from common.nn.sam2 import SAM2, sam2_config
from common.nn.sam2.weights import from_official, load_sam2
from methods.sam2long import SAM2Long
from tests.support.lively import lively_sam2
from tests.support.official_sam2 import to_official

# A few names of the published file, so that the two tables above cannot err together.
KNOWN = {
    "image_encoder.trunk.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj.weight",
    "image_encoder.trunk.blocks.1.proj.weight",
    "image_encoder.trunk.blocks.0.norm1.weight",
    "image_encoder.trunk.blocks.3.attn.qkv.bias",
    "image_encoder.trunk.blocks.3.mlp.layers.1.weight",
    "image_encoder.neck.convs.2.conv.bias",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_embed_spatial",
    "mask_downsample.weight",
    "obj_ptr_proj.layers.1.bias",
    "obj_ptr_tpos_proj.weight",
    "sam_prompt_encoder.point_embeddings.3.weight",
    "sam_prompt_encoder.not_a_point_embed.weight",
    "sam_prompt_encoder.mask_downscaling.6.weight",
    "sam_mask_decoder.transformer.layers.0.self_attn.out_proj.weight",
    "sam_mask_decoder.transformer.layers.1.mlp.layers.0.bias",
    "sam_mask_decoder.transformer.norm_final_attn.weight",
    "sam_mask_decoder.output_upscaling.3.bias",
    "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.weight",
    "sam_mask_decoder.iou_prediction_head.layers.1.weight",
    "sam_mask_decoder.pred_obj_score_head.layers.0.weight",
    "sam_mask_decoder.conv_s0.weight",
    "memory_attention.layers.1.cross_attn_image.out_proj.bias",
    "memory_attention.layers.0.norm3.weight",
    "memory_attention.norm.weight",
    "memory_encoder.mask_downsampler.encoder.10.weight",
    "memory_encoder.mask_downsampler.encoder.12.bias",
    "memory_encoder.fuser.layers.1.gamma",
    "memory_encoder.fuser.layers.0.pwconv2.weight",
    "memory_encoder.out_proj.weight",
}


@pytest.fixture(scope="module")
def source() -> SAM2:
    return lively_sam2(seed=3)


@pytest.fixture
def target() -> SAM2:
    return SAM2("nano", "2.1", 64)


def assert_loaded(target: SAM2, source: SAM2, exact: bool = True) -> None:
    wanted = source.net.state_dict()
    for key, value in target.net.state_dict().items():
        expected = wanted[key] if exact else wanted[key].half().float()
        assert torch.equal(value, expected), key


def test_official_names_and_back(source):
    official = to_official(source.net.state_dict())
    assert official.keys() >= KNOWN
    again = from_official(official)
    assert again.keys() == source.net.state_dict().keys()
    for key, value in source.net.state_dict().items():
        assert torch.equal(again[key], value), key


@pytest.mark.parametrize(("size", "version"), [("tiny", "2.1"), ("tiny", "2"), ("large", "2.1")])
def test_every_name_of_the_published_sizes(size, version):
    with torch.device("meta"):
        state = Sam2VideoModel(sam2_config(size, version)).state_dict()
    official = to_official(state)
    assert len(official) == len(state) + 2  # four point embeddings for one, one Fourier matrix for two
    if (size, version) == ("tiny", "2.1"):
        assert len(official) == 471
    again = from_official(official)
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in state.items()}


def test_official_file(source, target, tmp_path: Path):
    torch.save({"model": to_official(source.net.state_dict())}, file := tmp_path / "sam2.1_hiera_nano.pt")
    assert load_sam2(target, file) == file
    assert_loaded(target, source)


def test_transformers_folder(source, target, tmp_path: Path):
    source.net.save_pretrained(tmp_path / "hub")
    load_sam2(target, tmp_path / "hub")
    assert_loaded(target, source)


def test_our_checkpoint_of_a_training_run(source, target, tmp_path: Path):
    module = SAM2Long(image_size=64)
    module.network.load_state_dict(source.state_dict())
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, file := tmp_path / "last.ckpt")
    load_sam2(target, str(file))
    assert_loaded(target, source)


def test_our_weights_in_half_precision(source, target, tmp_path: Path):
    state = {key: value.half() for key, value in source.state_dict().items()}
    save_file(state, file := tmp_path / "nano.safetensors")
    load_sam2(target, file)
    assert_loaded(target, source, exact=False)
    assert all(value.dtype == torch.float32 for value in target.net.state_dict().values())


def test_module_takes_weights_by_path(source, tmp_path: Path):
    save_file(source.state_dict(), file := tmp_path / "nano.safetensors")
    module = SAM2Long(image_size=64, weights=str(file))
    assert_loaded(module.network, source)
    assert module.weights_file == file


def test_weights_do_not_depend_on_the_image_size(source, tmp_path: Path):
    save_file(source.state_dict(), file := tmp_path / "nano.safetensors")
    load_sam2(larger := SAM2("nano", "2.1", 128), file)
    assert_loaded(larger, source)


# What does not fit.


def refused(target: SAM2, file: Path, *parts: str) -> None:
    before = {key: value.clone() for key, value in target.net.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_sam2(target, file)
    message = str(error.value)
    assert "\n" not in message
    assert str(file) in message
    for part in parts:
        assert part in message, message
    assert all(torch.equal(value, before[key]) for key, value in target.net.state_dict().items())


def test_missing_file_tells_where_to_get_it(target, tmp_path: Path):
    refused(target, tmp_path / "sam2.1.pt", "no such weights", "facebookresearch/sam2")
    (tmp_path / "hub").mkdir()
    refused(target, tmp_path / "hub", "hub: no model.safetensors")


def test_missing_extra_and_wrong_keys_are_named(source, target, tmp_path: Path):
    state = dict(source.state_dict())
    gone = state.pop("net.no_memory_embedding")
    state["net.mask_decoder.extra"] = gone
    state["net.no_object_pointer"] = torch.zeros(1, 7)
    save_file(state, file := tmp_path / "nano.safetensors")
    refused(
        target,
        file,
        "1 missing: no_memory_embedding",
        "1 not known: mask_decoder.extra",
        "1 wrong size: no_object_pointer (1, 7) instead of (1, 64)",
    )


def test_another_version_does_not_fit(source, tmp_path: Path):
    torch.save({"model": to_official(source.net.state_dict())}, file := tmp_path / "sam2.1.pt")
    refused(SAM2("nano", "2", 64), file, "3 not known", "occlusion_spatial_embedding_parameter")
    older = lively_sam2("2")
    torch.save({"model": to_official(older.net.state_dict())}, file := tmp_path / "sam2.pt")
    refused(SAM2("nano", "2.1", 64), file, "3 missing", "occlusion_spatial_embedding_parameter")


def test_another_size_does_not_fit(target, tmp_path: Path):
    with torch.device("meta"):
        other = Sam2VideoModel(sam2_config("tiny")).state_dict()
    state = {key: torch.zeros(value.shape) for key, value in other.items() if "blocks" not in key}
    save_file(state, file := tmp_path / "tiny.safetensors")
    refused(target, file, "missing", "wrong size", "and")


class Evil:
    """Would create a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run(target, tmp_path: Path):
    torch.save({"model": {"weight": Evil(tmp_path / "owned")}}, file := tmp_path / "evil.pt")
    refused(target, file, "not a readable checkpoint")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["cut.pt", "cut.safetensors", "cut.ckpt"])
def test_a_cut_off_file_is_refused(source, target, tmp_path: Path, name):
    file = tmp_path / name
    save_file(source.state_dict(), file) if name.endswith("safetensors") else torch.save(source.state_dict(), file)
    file.write_bytes(file.read_bytes()[:5000])
    refused(target, file, "not a readable")


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"epoch": 3}, [1, 2]], ids=str)
def test_a_file_of_something_else_is_refused(target, tmp_path: Path, content):
    torch.save(content, file := tmp_path / "other.pt")
    refused(target, file)
