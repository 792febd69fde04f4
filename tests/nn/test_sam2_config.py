"""Sizes of SAM 2."""

from __future__ import annotations

import pytest
import torch
from transformers import Sam2VideoModel

from benchmarks.grow_sam2 import grown
from common.errors import InputError
from common.nn.sam2 import SAM2, SIZES, VERSIONS, Bank, sam2_config
from tests.support.lively import lively_sam2

# Parameters of the published SAM 2.1 models: the whole and the trunk.
PUBLISHED = {
    "tiny": (38_962_498, 26_849_472),
    "small": (46_060_354, 33_947_328),
    "base_plus": (80_850_178, 68_675_712),
    "large": (224_446_642, 212_149_296),
}


def meta(size: str, version: str = "2.1") -> Sam2VideoModel:
    with torch.device("meta"):
        return Sam2VideoModel(sam2_config(size, version))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", PUBLISHED)
def test_parameters_of_the_published_sizes(size):
    net = meta(size)
    assert (count(net), count(net.vision_encoder.backbone)) == PUBLISHED[size]


def test_parts_behind_the_trunk():
    net = meta("tiny")
    assert count(net.memory_attention) == 5_922_304
    assert count(net.memory_encoder) == 1_384_608
    assert len(net.state_dict()) == 469


def test_version_2_lacks_what_2_1_added():
    added = meta("tiny").state_dict().keys() - meta("tiny", "2").state_dict().keys()
    assert added == {
        "occlusion_spatial_embedding_parameter",
        "temporal_positional_encoding_projection_layer.weight",
        "temporal_positional_encoding_projection_layer.bias",
    }


def test_nano_is_small():
    assert count(meta("nano")) <= 4_000_000
    assert set(SIZES) == {*PUBLISHED, "nano", "mini"}
    assert VERSIONS == ("2", "2.1")


@pytest.mark.parametrize("side", [32, 64, 96, 160, 224])
def test_nano_takes_any_side_divisible_by_32(side):
    model = lively_sam2(image_size=side)
    with torch.inference_mode():
        features = model.encode(model.preprocess(torch.zeros(2, 3, 20, 30, dtype=torch.uint8)))
        first = model.take_mask(features, torch.ones(2, 1, side, side))
        answer = model.decode(model.without_memory(features), features)
        memory = model.encode_memory(features, first)
    assert features.embedding.shape == (2, 64, side // 16, side // 16)
    assert [tuple(f.shape) for f in features.fine] == [(2, 8, side // 4, side // 4), (2, 16, side // 8, side // 8)]
    assert answer.logits.shape == (2, 3, side // 4, side // 4)
    assert answer.ious.shape == (2, 3)
    assert answer.score.shape == (2,)
    assert answer.pointers.shape == (2, 3, 64)
    assert memory.shape == (2, 64, side // 16, side // 16)
    assert all(t.isfinite().all() for t in (answer.logits, answer.ious, answer.score, answer.pointers, memory))
    assert ((answer.ious > 0) & (answer.ious < 1)).all()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"size": "nano", "image_size": 100}, "image_size 100 is not divisible by 32; try 96"),
        ({"size": "nano", "image_size": 8}, "try 32"),
        ({"size": "huge"}, "'huge' is unknown; choose one of tiny, small, base_plus, large, nano"),
        ({"size": "nano", "version": "3"}, "'3' is unknown; choose one of 2, 2.1"),
    ],
)
def test_bad_settings_are_named(how, message):
    with pytest.raises(InputError, match=message):
        SAM2(**how)


def test_mini_starts_from_what_nano_computes():
    nano, mini = lively_sam2(), SAM2("mini", image_size=64).eval()
    mini.net.load_state_dict(dict(grown(nano.net.state_dict(), mini.net.state_dict())))
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = [net.encode(images) for net in (nano, mini)]
        answers = [net.take_mask(f, torch.ones(1, 1, 64, 64)) for net, f in zip((nano, mini), features, strict=True)]
        maps = [net.encode_memory(f, a) for net, f, a in zip((nano, mini), features, answers, strict=True)]
        read = [
            net.read(f, Bank(maps=[m], slots=[6], pointers=[a.pointers[:, 0]], offsets=[1.0]))
            for net, f, m, a in zip((nano, mini), features, maps, answers, strict=True)
        ]
    assert torch.equal(features[0].embedding, features[1].embedding)
    assert torch.allclose(read[0], read[1], atol=1e-6)
    assert not torch.allclose(read[0], features[0].embedding, atol=1e-2)
