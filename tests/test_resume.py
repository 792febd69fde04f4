"""A training that is resumed from any of its checkpoints ends bit for bit as one that was never stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

import cli
from common.data import VideoDataModule
from common.nn.sam2.prompts import PromptSampling
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from methods.sam2long import SAM2Long

STEPS = 6  # of three batches an epoch


class Noting(L.Callback):
    """Notes a number of each batch, which tells its clips apart."""

    def __init__(self) -> None:
        self.batches: list[float] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(float(batch.frames.float().mean()))


def trained(folder: Path, workers: int, resumed: Path | None = None) -> tuple[dict[str, Tensor], list[float]]:
    """Train a small SAM 2 on clicks, whose places are random, with a checkpoint at every step."""
    L.seed_everything(1)
    sampling = PromptSampling(points=1.0, box=0.0, prompted_frames=1, corrected_frames=1, clicks=1)
    model = SAM2Long(image_size=64, weights="random", prompting=sampling, lr=1e-3)
    clips = SyntheticClips("easy", 20, frames=4, size=(64, 64))
    data = VideoDataModule(train=[clips], batch_size=1, frames=2, size=(64, 64), clips_per_epoch=3, num_workers=workers)
    noting = Noting()
    saving = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=STEPS, accelerator="cpu", callbacks=[noting, saving], **quiet)
    trainer.fit(model, data, ckpt_path=resumed)
    return {name: value.clone() for name, value in model.state_dict().items()}, noting.batches


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_resumed_training_is_bit_equal(tmp_path: Path, workers: int) -> None:
    weights, batches = trained(tmp_path / "whole", workers)
    assert len(set(batches)) == STEPS  # no clip twice
    for step in (2, 3, 4):  # inside the first epoch, at its end, inside the second
        again, rest = trained(tmp_path / f"from{step}", workers, tmp_path / "whole" / f"step={step}.ckpt")
        assert rest == batches[step:]
        assert all(torch.equal(value, again[name]) for name, value in weights.items())


class Ending(L.Callback):
    """Ends the process after two steps, as a queue of jobs would."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore")
def test_sigterm_saves_and_is_no_success(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    small = ["--model.image_size", "64", "--model.weights", "random", "--data.batch_size", "1", "--data.frames", "2"]
    quick = ["--data.clips_per_epoch", "8", "--trainer.max_steps", "5", "--trainer.limit_val_batches", "0"]
    where = ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    config = ["fit", "--config", "configs/sam2long/nano.yaml", *small, *quick, *where]
    assert cli.main([*config, "--trainer.callbacks+=tests.test_resume.Ending"]) == 143
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    signal.signal(signal.SIGTERM, before)
    assert cli.main([*config, "--ckpt_path", str(last)]) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 5


def test_random_numbers_of_a_checkpoint_are_not_used_for_scoring() -> None:
    model: VideoSegmenter = SAM2Long(image_size=64, weights="random")
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.rand(3)
    state = torch.get_rng_state()
    model.on_load_checkpoint(checkpoint)
    assert torch.equal(torch.get_rng_state(), state)
    model.on_train_start()
    assert torch.equal(torch.get_rng_state(), checkpoint["random_state"][0])
