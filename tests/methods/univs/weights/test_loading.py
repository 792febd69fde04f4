"""Published UniVS, Mask2Former and CLIP checkpoints: seeded values under the published names and sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from common.nn.resnet import ResNet
from methods.univs import UniVS
from methods.univs.network.backbone import ImageBackbone
from methods.univs.network.model import UniVSNetwork
from methods.univs.network.text_tower import TextTower
from methods.univs.settings import TextSettings, UniVSSettings
from methods.univs.weights.loading import from_published, published_state
from methods.univs.weights.text_weights import from_clip, load_text
from tests.support.seeded_univs import Shapes, clip_names, published_names, resnet_names, seeded, swin_names, thin

SETTINGS = thin()
FRESH = ("language.", "task.", "decoder.heads.classes.")
CLIP = TextSettings(16, 2, 2, 24, 12, 64, hashed=True)


@pytest.fixture(scope="module")
def network() -> UniVSNetwork:
    with torch.device("meta"):  # initial values of a ResNet-50 take longer than all the rest
        return UniVSNetwork(SETTINGS).to_empty(device="cpu")


@pytest.fixture
def core(network) -> UniVSNetwork:
    """A network with -1 everywhere."""
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(-1)
    return network


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return numbered(published_names(SETTINGS))


def numbered(names: Shapes, first: int = 0) -> dict[str, Tensor]:
    """Another number for every name, without the memory of whole tensors."""
    return {name: torch.tensor(float(first + i)).expand(shape) for i, (name, shape) in enumerate(names.items())}


def arrived(core: UniVSNetwork, state: dict[str, Tensor]) -> set[str]:
    """Names of the network whose values are those of a published state."""
    expected = from_published(state)
    return {
        name for name, value in core.state_dict().items() if name in expected and torch.equal(value, expected[name])
    }


def learned(core: UniVSNetwork) -> set[str]:
    """Names that a published file has."""
    return {name for name in core.state_dict() if not name.startswith("text.") and "num_batches" not in name}


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def load(core: UniVSNetwork, path: Path) -> bool:
    """Load; whether the file has only a part of the network."""
    state, partial = published_state(core, load_state(path))
    load_strict(core, state, path)
    return partial


def test_every_value_finds_its_place(core, published, tmp_path):
    file = saved({"model": published, "iteration": 7}, tmp_path / "model_final.pth")
    assert not load(core, file)
    assert arrived(core, published) == learned(core)
    assert len(learned(core)) == len(published) - 1  # reid_temp is never read
    assert core.text.body.text_projection.weight.eq(-1).all()


@pytest.mark.parametrize("backbone", ["swin-tiny", "swin-base", "swin-large"])
def test_swin_names(backbone):
    state = from_published(numbered(swin_names(backbone)))
    with torch.device("meta"):
        wanted = ImageBackbone(backbone).state_dict()
    assert {f"backbone.{key}": value.shape for key, value in wanted.items()} == {k: v.shape for k, v in state.items()}


def test_the_teacher_wins(core, published, tmp_path):
    teacher = numbered(published_names(SETTINGS), 10_000)
    both = published | {key.replace(".", "_t.", 1): value for key, value in teacher.items()}
    load(core, saved({"model": both}, tmp_path / "stage3.pth"))
    assert arrived(core, teacher) == learned(core)


@pytest.mark.parametrize(("queries", "kept"), [(12, False), (5, True)])
def test_mask2former_starts_what_it_has(core, tmp_path, queries, kept):
    names = published_names(replace(SETTINGS, queries=queries), mask2former=True)
    assert load(core, saved({"model": numbered(names)}, tmp_path / "m2f.pth"))
    fresh = {name for name in learned(core) if name.startswith(FRESH) or ".proca." in name}
    fresh |= {"decoder.query", "decoder.query_code"} if kept else set()
    assert arrived(core, numbered(names)) == learned(core) - fresh
    assert all(core.state_dict()[name].eq(-1).all() for name in fresh)


@pytest.mark.parametrize("fault", ["unknown", "missing", "size"])
def test_keys_that_do_not_fit_are_named(core, published, tmp_path, fault):
    state = dict(published)
    if fault == "unknown":
        state["sem_seg_head.predictor.class_embeds.weight"] = torch.zeros(1)
    elif fault == "missing":
        del state["sem_seg_head.predictor.transformer_prompt_self_attention_layers.3.multihead_attn.in_proj_bias"]
    else:
        state["sem_seg_head.pixel_decoder.transformer.encoder.layers.0.norm2.bias"] = torch.zeros(3)
    said = {
        "unknown": r"not known: class_embeds\.weight",
        "missing": r"missing: decoder\.layers\.3\.proca\.attention\.in_proj_bias",
        "size": r"wrong size: pixels\.body\.encoder\.layers\.0\.final_layer_norm\.bias",
    }
    with pytest.raises(InputError, match=said[fault]) as error:
        load(core, saved({"model": state}, tmp_path / "odd.pth"))
    assert "\n" not in str(error.value)


def test_no_such_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(InputError, match=r"github\.com/MinghanLi/UniVS"):
        UniVS(weights=str(tmp_path / "none.pth"))


# ResNet-50 against this project's other one, which has been held against the released Cutie.


def test_resnet50_computes_what_a_resnet50_does():
    state = seeded({name: shape for name, shape in resnet_names().items() if "res5" not in name})
    ours = ImageBackbone("resnet50").train()
    norms = [module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert ours.training
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    loaded = {key.removeprefix("backbone."): value for key, value in from_published(state).items()}
    assert not ours.load_state_dict(loaded, strict=False).unexpected_keys
    other = ResNet()
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("backbone.").replace("stem.", "").replace("shortcut.norm", "downsample.1")
        key = key.replace("shortcut", "downsample.0").replace("res2", "layer1").replace("res3", "layer2")
        key = key.replace("res4", "layer3")
        for conv in "123":
            key = key.replace(f"conv{conv}.norm", f"bn{conv}")
        renamed[key] = value
    assert all("num_batches" in key for key in other.load_state_dict(renamed, strict=False).missing_keys)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, expected = ours(image), other.eval()(image)
    for a, b in zip(maps, expected, strict=False):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)
    assert [x.shape[1:] for x in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert ours.widths == (256, 512, 1024, 2048)


def test_nano_trains_its_norms():
    nano = ImageBackbone("nano").train()
    assert all(module.training for module in nano.modules() if isinstance(module, nn.BatchNorm2d))


# The text tower.


def clip_state() -> dict[str, Tensor]:
    return seeded(clip_names(CLIP))


@pytest.mark.parametrize("layout", ["own", "regionclip", "transformers"])
def test_every_layout_of_a_text_tower(tmp_path, layout):
    tower, state = TextTower(CLIP), clip_state()
    if layout == "regionclip":
        file = {f"lang_encoder.{key}": value for key, value in state.items()}
        file |= {"backbone.conv1.weight": torch.zeros(1), "roi_heads.x": torch.zeros(1)}
        path = saved({"model": file}, tmp_path / "regionclip.pth")
    elif layout == "own":
        path = saved(state | {"visual.conv1.weight": torch.zeros(1), "logit_scale": torch.zeros(1)}, tmp_path / "rn.pt")
    else:
        whole = from_clip(state) | {"vision_model.x": torch.zeros(1), "logit_scale": torch.zeros(1)}
        saved(whole, tmp_path / "pytorch_model.bin")
        path = tmp_path
    tower.bank.add(["old"], torch.zeros(1, 24))
    load_text(tower, path)
    assert tower.bank.get(["old"]) is None
    values = tower.body.state_dict()
    assert torch.equal(values["text_projection.weight"], state["text_projection"].T)
    key, query = (
        "transformer.resblocks.1.attn.in_proj_weight",
        values["text_model.encoder.layers.1.self_attn.q_proj.weight"],
    )
    assert torch.equal(query, state[key][:16])
    expected = from_clip(state)
    assert values.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in values.items())


def test_a_text_tower_that_does_not_fit(tmp_path):
    with pytest.raises(InputError, match="RegionCLIP"):
        load_text(TextTower(CLIP), tmp_path / "none.pth")
    state = clip_state()
    del state["ln_final.bias"]
    with pytest.raises(InputError, match=r"missing: body\.text_model\.final_layer_norm\.bias"):
        load_text(TextTower(CLIP), saved(state, tmp_path / "odd.pth"))


def test_the_papers_sizes():
    with torch.device("meta"):
        core = UniVSNetwork(UniVSSettings())
    ours = {name: value.shape for name, value in core.state_dict().items()}
    state = from_published(numbered(published_names(UniVSSettings())))
    assert all(ours[name] == value.shape for name, value in state.items())
    # 12 layers of 4,923,520, 49,408 + 77 embeddings of 640, the last norm and the projection
    assert sum(parameter.numel() for parameter in core.text.parameters()) == 91_163_520
