"""Published Cutie checkpoints: seeded values under the published names and sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.checkpoints import load_state, load_strict
from common.errors import InputError
from methods.sslvos import SSLVOS
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.base import resnet18, resnet50
from methods.sslvos.weights import cutie_state, from_cutie
from tests.support.seeded_sslvos import CASES, seed_official, seed_ours

NAMES = json.loads((Path(__file__).parents[2] / "golden/sslvos/cutie_base_names.json").read_text())


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A base checkpoint: 527 entries, 35.0 M parameters."""
    return seed_official({name: torch.zeros(shape) for name, shape in NAMES.items()}, CASES["base"])


@pytest.fixture(scope="module")
def core() -> SSLVOSNetwork:
    return SSLVOSNetwork(resnet50())


def load(core: SSLVOSNetwork, path: Path) -> None:
    load_strict(core, cutie_state(core, load_state(path)), path)


def test_every_value_finds_its_place(published, core, tmp_path):
    torch.save(published, tmp_path / "cutie-base-mega.pth")
    load(core, tmp_path / "cutie-base-mega.pth")
    expected = seed_ours(CASES["base"]).state_dict()  # a seeded value depends on its name: two cannot be swapped
    assert len(published) == 527
    assert sum(p.numel() for p in core.parameters()) == 35_024_186
    for name, value in core.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_module_takes_a_published_file(published, tmp_path):
    torch.save(published, file := tmp_path / "cutie-base-mega.pth")
    module = SSLVOS(size="cutie-base", weights=str(file))
    assert (module.weights_note, module.weights_file) == ("published", file)
    expected = seed_ours(CASES["base"]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.network.state_dict().items())


def test_training_checkpoints_wrap_it(published, core, tmp_path):
    torch.save({"weights": published, "it": torch.tensor(5)}, tmp_path / "checkpoint.pth")
    load(core, tmp_path / "checkpoint.pth")
    expected = seed_ours(CASES["base"]).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in core.state_dict().items())


def test_single_object_weights_get_a_silent_channel(published, core, tmp_path):
    single = dict(published)
    for key in ("mask_encoder.conv1.weight", "pixel_fuser.sensory_compress.weight"):
        single[key] = single[key][:, :-1]
    torch.save(single, tmp_path / "single.pth")
    load(core, tmp_path / "single.pth")
    assert not core.mask_encoder.trunk.conv1.weight[:, 4].any()
    assert torch.equal(core.mask_encoder.trunk.conv1.weight[:, :4], single["mask_encoder.conv1.weight"])
    assert not core.fuser.sensory.weight[:, 257].any()


@pytest.mark.parametrize("fault", ["unknown", "missing", "size"])
def test_keys_that_do_not_fit_are_named(published, core, tmp_path, fault):
    state = dict(published)
    if fault == "unknown":
        state["pixel_encoder.layer9.weight"] = torch.zeros(1)
    elif fault == "missing":
        del state["mask_decoder.pred.bias"]
    else:
        state["key_proj.d_proj.weight"] = torch.zeros(2, 256, 3, 3)
    torch.save(state, tmp_path / "odd.pth")
    said = {"unknown": r"encoder\.trunk\.layer9", "missing": r"decoder\.predict\.bias", "size": "key_proj.shrinkage"}
    with pytest.raises(InputError, match=said[fault]) as error:
        load(core, tmp_path / "odd.pth")
    assert "\n" not in str(error.value)


def test_base_weights_do_not_fit_the_small_model(published, tmp_path):
    torch.save(published, tmp_path / "base.pth")
    with pytest.raises(InputError, match="does not fit SSLVOSNetwork"):
        load(SSLVOSNetwork(resnet18()), tmp_path / "base.pth")


def test_no_such_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(InputError, match=r"github\.com/hkchengrex/Cutie"):
        SSLVOS(weights=str(tmp_path / "none.pth"))


def test_names_are_ours_one_to_one(published):
    ours = from_cutie(published)
    assert len(ours) == 525  # less two tables of frequencies
    assert ours.keys() == SSLVOSNetwork(resnet50()).state_dict().keys()
