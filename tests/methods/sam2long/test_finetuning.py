"""The fine-tuning configs, on generated data in the layouts that they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import cli
from common.cli.suite import SuiteCLI
from common.synthetic import SyntheticClips
from common.video import labels_from_masks, write_label_map
from tests.support.lively import lively_sam2
from tests.support.miniatures.mose import make
from tests.support.official_sam2 import to_official

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "sam2long"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano SAM 2.1 in the official layout."""
    file = tmp_path_factory.mktemp("weights") / "published.pt"
    torch.save({"model": to_official(lively_sam2(seed=3).net.state_dict())}, file)
    return file


class Built(Exception):
    """Carries the model and the data that a command would train."""


class BuildOnly(SuiteCLI):
    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        raise Built(self)


def build(argv: list[str]) -> Any:
    with pytest.raises(Built) as built:
        BuildOnly(argv)
    return built.value.args[0]


def test_mose(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "MOSE", "mose")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    small = ["--model.size=nano", f"--model.weights={weights}", "--model.image_size=64", "--data.size=[64,64]"]
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto", "--data.num_workers=0"]
    run = build(["fit", "--config", str(CONFIGS / "finetune_mose.yaml"), *small, *here])
    model, data = run.model, run.datamodule
    assert (model.weights_file, model.weights_note) == (weights, "published")
    assert (run.trainer.max_epochs, run.trainer.gradient_clip_val, run.trainer.precision) == (40, 0.1, "bf16-mixed")
    clip = next(iter(data.train_dataloader()))
    assert clip.frames.shape == (1, 8, 3, 64, 64)
    assert clip.masks.shape[:3] == (1, 8, 1)  # of the first frame; 7 of the second video comes later
    assert torch.stack(list(model.losses(clip).values())).isfinite().all()
    # 5e-6, in the image encoder 3e-6, in the patches of nano's eight blocks 3e-6 * 0.9^9
    rates = {id(parameter): group["lr"] for group in model.parameter_groups() for parameter in group["params"]}
    net = model.network.net
    assert rates[id(net.no_object_pointer)] == pytest.approx(5e-6)
    assert rates[id(net.vision_encoder.neck.convs[0].weight)] == pytest.approx(3e-6)
    patches = net.vision_encoder.backbone.patch_embed.projection.weight
    assert rates[id(patches)] == pytest.approx(3e-6 * 0.387420489)
    assert model.loss_weights == {"mask": 20.0, "dice": 1.0, "iou": 1.0, "occlusion": 1.0}
    assert [video.id for video in data.test_benchmarks[0]] == ["one", "two"]


def write_videos(root: Path, seed: int) -> None:
    for index, video in enumerate(SyntheticClips("easy", 2, frames=5, size=(48, 64), seed=seed, objects=2)):
        for time, frame in enumerate(video):
            folder = root / "JPEGImages" / f"clip{index}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.numpy()).save(folder / f"{time:05d}.png")
            labels = labels_from_masks(video.truth[time], video.targets)
            write_label_map(root / "Annotations" / f"clip{index}" / f"{time:05d}.png", labels)


@pytest.mark.slow  # 20 s
def test_own_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps, validation, a test of the best checkpoint, and its weights as any others."""
    write_videos(tmp_path / "my_videos" / "train", 3)
    write_videos(tmp_path / "my_videos" / "val", 4)
    monkeypatch.chdir(tmp_path)
    config = ["--config", str(CONFIGS / "finetune_folder.yaml"), "--trainer.accelerator=cpu"]
    small = ["--data.clips_per_epoch=2", "--data.frames=2", "--data.size=[64,64]", "--data.num_workers=0"]
    steps = ["--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=1", "--trainer.precision=32-true"]
    start = [f"--model.weights={weights}", "--model.image_size=64"]
    assert cli.main(["fit", *config, *small, *steps, *start]) == 0, capsys.readouterr().err
    best = Path("runs/finetune_folder/checkpoints/best.ckpt")
    content = torch.load(best, weights_only=True)
    assert content["global_step"] == 2
    assert content["hyper_parameters"]["size"] == "nano"  # read from the file of weights
    test = ["test", *config, "--trainer.precision=32-true", f"--ckpt_path={best}", *start]
    assert cli.main(test) == 0, capsys.readouterr().err
    record = json.loads(Path("runs/finetune_folder/folder-all/results.json").read_text())
    assert record["weights"] == str(best)
    assert 0 <= record["metrics"]["J&F"] <= 100
    mask = "my_videos/val/Annotations/clip0/00000.png"
    assert cli.main(["track", "my_videos/val/JPEGImages/clip0", "--mask", mask, "--weights", str(best)]) == 0
    assert (tmp_path / "runs" / "track" / "clip0-sam2long" / "masks.json").is_file()
