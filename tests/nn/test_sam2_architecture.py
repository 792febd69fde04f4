"""Size and version of SAM 2 are read from the file of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import Sam2VideoModel

from common.checkpoints import read_weights
from common.cli.build import build_method
from common.errors import InputError
from common.nn.sam2 import SAM2, SIZES, VERSIONS, sam2_config
from common.nn.sam2.architecture import read_architecture, sam2_from
from common.nn.sam2.weights import sam2_state
from methods.hqsmem import SAM2SMem
from methods.sam2long import SAM2Long
from methods.sam2long.predictor import ImagePredictor, build_sam2_video_predictor
from methods.vqsam import VQSAM
from tests.support.lively import lively_sam2
from tests.support.official_sam2 import to_official

ROOT = Path(__file__).resolve().parents[2]


def official_file(path: Path, size: str, version: str) -> Path:
    """A file in the official layout, every tensor of which is one number: a few hundred kilobytes for any size."""
    with torch.device("meta"):
        state = Sam2VideoModel(sam2_config(size, version)).state_dict()
    constant = {name: torch.tensor(float(row)).expand(value.shape) for row, (name, value) in enumerate(state.items())}
    torch.save({"model": to_official(constant)}, path)
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", SIZES)
def test_every_published_file(size: str, version: str, tmp_path: Path) -> None:
    file = official_file(tmp_path / "weights.pt", size, version)
    assert file.stat().st_size < 1e6
    state = read_weights(file).state
    assert read_architecture(state, file) == (size, version, None)
    with torch.device("meta"):
        wanted = Sam2VideoModel(sam2_config(size, version)).state_dict()
    assert {name: value.shape for name, value in sam2_state(state).items()} == {
        name: value.shape for name, value in wanted.items()
    }


@pytest.mark.slow  # 8 s: networks of 39 M parameters
def test_tiny_from_its_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    source = SAM2("tiny", version := "2.1")
    torch.save({"model": to_official(source.net.state_dict())}, file := tmp_path / "published.pt")
    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    networks: list[nn.Module] = [
        SAM2Long(weights=str(file)).network,
        build_method("sam2long", str(file)).network,  # as track --weights FILE
        SAM2Long.from_pretrained(file).network,
        ImagePredictor.from_pretrained(str(file)).model,
        build_sam2_video_predictor(config, file, "cpu").model,
    ]
    for network in networks:
        assert (network.size, network.version, network.image_size) == ("tiny", version, 1024)
        for name, value in source.net.state_dict().items():
            assert torch.equal(network.net.state_dict()[name], value), name


@pytest.mark.parametrize(("name", "equal"), [("Sam3TrackerVideo", 307), ("EdgeTamVideo", 247)])
def test_what_other_trackers_share_behind_the_trunk(name: str, equal: int) -> None:
    """Parameters of equal name and shape, as the README of the method says; neither tracker is supported."""

    def shapes(net: nn.Module) -> dict[str, torch.Size]:
        return {n: v.shape for n, v in net.state_dict().items() if not n.startswith("vision_encoder.")}

    with torch.device("meta"):
        ours = shapes(Sam2VideoModel(sam2_config("base_plus", "2.1")))
        config = getattr(transformers, f"{name}Config")()
        theirs = shapes(getattr(transformers, f"{name}Model")(config))
    assert len(ours) == 307
    assert sum(theirs.get(key) == shape for key, shape in ours.items()) == equal


@pytest.fixture(params=["official", "transformers", "safetensors", "exported", "checkpoint"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Weights of nano, version 2, in every layout."""
    source = lively_sam2("2")
    module = SAM2Long(version="2", image_size=64)
    module.network.load_state_dict(source.state_dict())
    name = request.param
    if name == "official":
        torch.save({"model": to_official(source.net.state_dict())}, path := tmp_path / "official.pt")
    elif name == "transformers":
        source.net.save_pretrained(path := tmp_path / "folder")
    elif name == "safetensors":
        state = {key: value.contiguous() for key, value in to_official(source.net.state_dict()).items()}
        save_file(state, path := tmp_path / "official.safetensors")
    elif name == "exported":
        module.export(path := tmp_path / "exported.safetensors")
    else:
        torch.save(
            {"state_dict": module.state_dict(), "settings": module.architecture()}, path := tmp_path / "last.ckpt"
        )
    return path


def test_every_layout_and_method(file: Path) -> None:
    for module in (SAM2Long(weights=str(file)), build_method("sam2long", str(file)), SAM2SMem(weights=str(file))):
        assert (module.network.size, module.network.version) == ("nano", "2")
        assert (module.hparams["size"], module.hparams["version"]) == ("nano", "2")  # as a checkpoint stores them
    assert VQSAM(weights=str(file), stt_heads=4).network.sam2.version == "2"
    assert sam2_from(file).version == "2"


def test_a_file_of_this_suite_says_the_side_of_the_input(tmp_path: Path) -> None:
    SAM2Long(image_size=96).export(file := tmp_path / "weights.safetensors")
    assert SAM2Long(weights=str(file)).network.image_size == 96
    assert SAM2Long(weights=str(file), image_size=64).network.image_size == 64
    assert SAM2Long(weights="nano").network.image_size == 128


def test_settings_that_contradict_the_file(tmp_path: Path) -> None:
    file = official_file(tmp_path / "weights.pt", "tiny", "2")
    with pytest.raises(
        InputError, match=r"weights\.pt: the weights are of SAM 2 tiny, but .* size large; .* size tiny$"
    ):
        SAM2Long(size="large", weights=str(file))
    with pytest.raises(InputError, match=r"but the settings say version 2\.1; leave version out, or give version 2$"):
        build_sam2_video_predictor("sam2.1_hiera_t.yaml", file, "cpu")
    paper = ROOT / "configs" / "sam2long" / "paper.yaml"
    with pytest.raises(InputError, match=r"^\S*weights\.pt: the weights are of SAM 2 tiny, but") as error:
        build_method("sam2long", str(file), [paper])
    assert "\n" not in str(error.value)


def test_weights_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sslvos_nano\.safetensors: no weights of SAM 2: they have no image encoder"):
        SAM2Long(weights="weights/sslvos_nano.safetensors")
    patches = torch.zeros(64, 3, 7, 7)
    save_file({"vision_encoder.backbone.patch_embed.projection.weight": patches}, file := tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"width 64 and 0 blocks is none of SAM 2's sizes"):
        SAM2Long(weights=str(file))
