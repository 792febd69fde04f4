"""Released DeAOT checkpoints: seeded values under the released names and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from methods.hqsmem import HQSMem
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.weights import from_released, load_trunk, released_state
from methods.hqsmem.settings import VARIANTS, DeAOTSettings
from tests.support.seeded_deaot import CASES, Case, seed_official, seed_ours

NAMES = json.loads((Path(__file__).parents[3] / "golden/deaot/names.json").read_text())
ENTRIES = {"deaot-t": 325, "deaot-l": 399, "r50-deaot-l": 354, "swinb-deaot-l": 463}


def released(case: Case) -> dict[str, Tensor]:
    return seed_official({name: torch.zeros(shape) for name, shape in NAMES[case.variant].items()}, case)


def load(net: DeAOT, path: Path) -> None:
    load_strict(net, released_state(net, load_state(path), path), path)


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    return released(CASES["T"])


@pytest.mark.parametrize(
    "name", ["T", *(pytest.param(name, marks=pytest.mark.slow) for name in ("L", "R50-L", "SwinB-L"))]
)
def test_every_value_finds_its_place(name, tmp_path):
    """A seeded value depends on its name: two cannot be swapped."""
    case = CASES[name]
    state, expected = released(case), seed_ours(case).state_dict()
    assert len(state) == ENTRIES[case.variant]
    state |= {k: expected[k] for k in state if k.endswith("relative_position_index")}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "deaot.pth")
    net = DeAOT(VARIANTS[case.variant])
    load(net, tmp_path / "deaot.pth")
    for key, value in net.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_the_module_takes_a_released_file(tiny, tmp_path):
    """Many names of its encoder are the network's too."""
    torch.save(tiny, file := tmp_path / "DeAOTT_PRE_YTB_DAV.pth")
    module = HQSMem(variant="deaot-t", weights=str(file))
    assert (module.weights_note, module.weights_file) == ("published", file)
    assert torch.equal(module.network.id_bank.weight, tiny["patch_wise_id_bank.weight"])


def test_layers_of_the_variants():
    """S and B differ from T in layers alone: 362 and 399 entries."""
    per_layer = [key for key in NAMES["deaot-l"] if key.startswith("LSTT.layers.2.")]
    assert len(NAMES["deaot-t"]) + len(per_layer) == 362
    assert len(NAMES["deaot-t"]) + 2 * len(per_layer) == 399
    assert VARIANTS["deaot-s"].layers == 2


def test_names_are_ours_one_to_one(tiny):
    ours = DeAOT(VARIANTS["deaot-t"]).state_dict()
    assert from_released(tiny).keys() == {key for key in ours if not key.endswith("num_batches_tracked")}


def test_temporal_embedding_of_rmem(tiny, tmp_path):
    state = tiny | {"cur_pos_emb": torch.ones(1, 128), "mem_pos_emb": torch.rand(4, 128)}
    torch.save(state, tmp_path / "rmem.pth")
    net = DeAOT(DeAOTSettings(layers=1, temporal=True))
    load(net, tmp_path / "rmem.pth")
    assert torch.equal(net.memory_time, state["mem_pos_emb"])
    with pytest.raises(InputError, match="2 not known: memory_time, query_time"):
        load(DeAOT(VARIANTS["deaot-t"]), tmp_path / "rmem.pth")


@pytest.mark.parametrize("fault", ["unknown", "missing", "size", "aot"])
def test_keys_that_do_not_fit_are_named(tiny, tmp_path, fault):
    state = dict(tiny)
    if fault == "unknown":
        state["LSTT.layers.7.norm1.weight"] = torch.zeros(256)
    elif fault == "missing":
        del state["decoder.conv_out.bias"]
    elif fault == "size":
        state["patch_wise_id_bank.weight"] = torch.zeros(256, 11, 16, 16)
    else:
        state["LSTT.layers.0.linear_Q.weight"] = torch.zeros(256, 256)
    torch.save(state, tmp_path / "odd.pth")
    said = {"unknown": r"layers\.7\.norm", "missing": r"decoder\.predict\.bias", "size": "id_bank", "aot": "of AOT"}
    with pytest.raises(InputError, match=said[fault]) as error:
        load(DeAOT(VARIANTS["deaot-t"]), tmp_path / "odd.pth")
    assert "\n" not in str(error.value)


def test_no_such_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(InputError, match=r"github\.com/yoxu515/aot-benchmark"):
        HQSMem(weights=str(tmp_path / "none.pth"))


def test_our_own_checkpoint(tmp_path):
    saved = DeAOT(VARIANTS["nano"])
    torch.save({"state_dict": {f"network.{k}": v for k, v in saved.state_dict().items()}}, tmp_path / "ours.ckpt")
    module = HQSMem(weights=str(tmp_path / "ours.ckpt"))
    assert module.weights_note == "trained here"
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in module.network.state_dict().items())


def test_imagenet_mobilenet(tmp_path):
    """A file of the whole classifier: what DeAOT lacks is left out."""
    net = DeAOT(VARIANTS["deaot-t"])
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in net.encoder.state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(1000, 1280)}, tmp_path / "mobilenet.pth")
    load_trunk(net, tmp_path / "mobilenet.pth")
    assert all(torch.equal(value, state[key]) for key, value in net.encoder.state_dict().items())
    del state["features.0.0.weight"]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"features\.0\.0"):
        load_trunk(net, tmp_path / "odd.pth")


@pytest.mark.slow
def test_imagenet_swin(tmp_path):
    """The norms of the outputs, which the file lacks, stay."""
    swin = DeAOT(VARIANTS["swinb-deaot-l"])
    state = {k: v + 1 for k, v in swin.encoder.state_dict().items() if not k.startswith("norm")}
    extra = {"layers.3.blocks.0.norm1.weight": torch.zeros(1024), "norm.weight": torch.zeros(1024)}
    extra |= {
        "layers.2.downsample.norm.weight": torch.zeros(2048),
        "layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49),
    }
    torch.save({"model": state | extra}, tmp_path / "swin.pth")
    load_trunk(swin, tmp_path / "swin.pth")
    assert torch.equal(swin.encoder.patch_embed.proj.bias, state["patch_embed.proj.bias"])
