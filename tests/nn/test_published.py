"""Names of published SAM 2 networks: what is found on this machine, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import files
from common.errors import InputError
from common.nn.sam2.published import find_sam2

LINKS = "https://dl.fbaipublicfiles.com/segment_anything_2"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders of weights and an empty cache; the working folder is another one."""
    for name in ("weights", "more", "hub", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(files, "PROJECT", tmp_path)
    monkeypatch.setenv("VIDSEG_WEIGHTS", str(tmp_path / "more"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


NAMES = {
    "sam2.1-large": "sam2.1_hiera_large.pt",
    "sam2.1_hiera_large.pt": "sam2.1_hiera_large.pt",
    "facebook/sam2.1-hiera-base-plus": "sam2.1_hiera_base_plus.pt",
    "facebook/sam2-hiera-tiny": "sam2_hiera_tiny.pt",
    "sam2-small": "sam2_hiera_small.pt",
}


@pytest.mark.parametrize("folder", ["weights", "more"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found_in_a_folder_of_weights(name: str, folder: str, places: Path) -> None:
    (file := places / folder / NAMES[name]).touch()
    assert find_sam2(name) == file


def test_a_folder_of_a_transformers_model(places: Path) -> None:
    (places / "weights" / "sam2.1-hiera-tiny").mkdir()
    assert find_sam2("facebook/sam2.1-hiera-tiny") == places / "weights" / "sam2.1-hiera-tiny"


def test_the_cache_of_the_hub(places: Path) -> None:
    cached = places / "hub" / "models--facebook--sam2.1-hiera-tiny"
    for revision, file in (("aa11", "sam2.1_hiera_tiny.pt"), ("bb22", "model.safetensors")):
        (cached / "snapshots" / revision).mkdir(parents=True)
        (cached / "snapshots" / revision / file).touch()
    (cached / "refs").mkdir()
    for revision, file in (("aa11", "sam2.1_hiera_tiny.pt"), ("bb22", "model.safetensors")):
        (cached / "refs" / "main").write_text(revision)
        assert find_sam2("sam2.1-tiny") == cached / "snapshots" / revision / file
    (places / "weights" / "sam2.1_hiera_tiny.pt").touch()
    assert find_sam2("sam2.1-tiny").parent == places / "weights"  # what the user has put there comes first


def test_what_is_not_here(places: Path) -> None:
    for name, link in (
        ("facebook/sam2.1-hiera-base-plus", f"{LINKS}/092824/sam2.1_hiera_base_plus.pt"),
        ("sam2-large", f"{LINKS}/072824/sam2_hiera_large.pt"),
    ):
        with pytest.raises(InputError) as error:
            find_sam2(name)
        file = places / "more" / Path(link).name
        assert str(error.value).startswith(f"{name}: not in weights/, $VIDSEG_WEIGHTS or the cache")
        assert str(error.value).endswith(f"get it by: curl -L -o {file} {link}")
        assert "\n" not in str(error.value)


def test_a_path_is_not_looked_for_elsewhere(places: Path) -> None:
    (places / "weights" / "sam2.1_hiera_tiny.pt").touch()
    link = f"{LINKS}/092824/sam2.1_hiera_tiny.pt"
    with pytest.raises(InputError, match=rf"^mine/sam2.1_hiera_tiny.pt: no such file.*curl -L -o mine/\S* {link}$"):
        find_sam2("mine/sam2.1_hiera_tiny.pt")
    assert find_sam2("mine.safetensors") == Path("mine.safetensors")
    (places / "here" / "sam2.1_hiera_tiny.pt").touch()
    assert find_sam2("sam2.1_hiera_tiny.pt") == Path("sam2.1_hiera_tiny.pt")
