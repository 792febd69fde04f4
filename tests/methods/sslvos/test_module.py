"""The module: sizes and rows, optimiser groups, weights, what it refuses."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from common.data import VideoDataModule
from common.errors import InputError
from common.synthetic import SyntheticClips
from methods.sslvos import SSLVOS
from methods.sslvos.build import Parts, build_core
from methods.sslvos.losses import PointSettings
from methods.sslvos.session import SessionSettings
from methods.sslvos.settings import AdapterSettings, DiscriminativeSettings, LongTermSettings, MemorySettings
from methods.sslvos.training import TrainingSettings

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def fit(module: SSLVOS, steps: int = 2) -> L.Trainer:
    data = VideoDataModule(
        [SyntheticClips("easy", length=2, size=(32, 32))], frames=2, size=(32, 32), batch_size=2, clips_per_epoch=8
    )
    trainer = L.Trainer(max_steps=steps, enable_checkpointing=False, **QUIET)
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize(
    ("parts", "row"),
    [
        (Parts("cutie-base"), ("Cutie", "base")),
        (Parts("cutie-small"), ("Cutie", "small")),
        (Parts("cutie-base", discriminative=True), ("SSLVOS", "base, +Discriminative Query")),
        (Parts(), ("SSLVOS", "nano, +Discriminative Query")),
        (Parts(discriminative=False), ("Cutie", "nano")),
        (Parts("sslvos"), ("SSLVOS", "ViT-B, +Semantic (Full)")),
        (Parts("sslvos", "spatial"), ("SSLVOS", "ViT-B, +Spatial")),
        (Parts("sslvos", "pyramid", freeze_vit=False), ("SSLVOS", "ViT-B, +ViT, ViT trained")),
        (Parts("sslvos", "resnet"), ("SSLVOS", "ResNet-50, +Discriminative Query")),
        (Parts("sslvos", vit="mae-base", queries=16), ("SSLVOS", "MAE ViT-B, +Semantic (Full), queries=16")),
        (Parts("sslvos", adapter=AdapterSettings(roles="paper")), ("SSLVOS", "ViT-B, +Semantic (Full), roles=paper")),
        (Parts("sslvos", discriminative=False), ("SSLVOS", "ViT-B, +Semantic (Full), masked attention")),
        (Parts("sslvos", "resnet", equation_variant=DiscriminativeSettings(norm="queries")),
         ("SSLVOS", "ResNet-50, +Discriminative Query, norm=queries")),
    ],
)  # fmt: skip
def test_rows(parts, row):
    assert parts.row() == row


@pytest.mark.parametrize(
    ("size", "queries", "blocks", "discriminative"),
    [("nano", 8, 2, True), ("cutie-small", 16, 3, False), ("cutie-base", 16, 3, False), ("sslvos", 8, 5, True)],
)
def test_counts_of_the_sizes(size, queries, blocks, discriminative):
    settings = Parts(size).settings
    assert (settings.queries, settings.blocks, settings.discriminative is not None) == (queries, blocks, discriminative)


def test_published_size_builds():
    """The core of SSLVOS, whose object transformer has 5 blocks and 6 mask heads, over maps of 768 channels."""
    with torch.device("meta"):
        core = build_core(Parts("sslvos"))
    assert core.pixel_proj.weight.shape == (256, 768, 1, 1)
    assert core.transformer.query_init.shape == (8, 256)
    assert len(core.transformer.heads) == 6


def test_optimiser_groups():
    """The encoder at a tenth of the rate; vectors and query embeddings without decay; every parameter once."""
    module = SSLVOS(lr=1e-3, weight_decay=0.05, encoder_lr=0.1, encoder="full")
    groups = module.parameter_groups()
    listed = [id(p) for group in groups for p in group["params"]]
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    assert len(listed) == len(set(listed))
    assert set(listed) == trained
    place = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    core = module.network
    assert place[id(core.encoder.up.weight)] == (pytest.approx(1e-4), 0.05)
    assert place[id(core.encoder.norms[0].weight)] == (pytest.approx(1e-4), 0.0)
    assert place[id(core.mask_encoder.trunk.conv1.weight)] == (1e-3, 0.05)
    assert place[id(core.transformer.query_init)] == place[id(core.transformer.query_pe)] == (1e-3, 0.0)
    assert not {id(p) for p in core.encoder.vit.parameters()} & set(listed)


def test_rate_falls_in_steps_as_published():
    module = SSLVOS(lr=1e-3, encoder_lr=1.0, milestones=[2, 3])
    trainer = fit(module, steps=4)
    schedule = trainer.lr_scheduler_configs[0]
    assert schedule.interval == "step"
    assert isinstance(schedule.scheduler, LambdaLR)
    assert schedule.scheduler.get_last_lr() == pytest.approx([1e-5] * len(module.parameter_groups()))


def test_training_on_a_frozen_vit_needs_its_weights():
    with pytest.raises(InputError, match="frozen and has no weights"):
        fit(SSLVOS(encoder="full"))
    fit(SSLVOS(encoder="full", backbone="random"))
    fit(SSLVOS(encoder="full", freeze_vit=False))


def test_training_leaves_the_vit_as_it_was():
    module = SSLVOS(encoder="full", backbone="random", lr=0.01)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module)
    after = module.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("network.encoder.spatial") for name in changed)
    assert not any(name.startswith("network.encoder.vit.") for name in changed)


def test_auxiliary_losses_weigh_little_unless_told():
    assert SSLVOS().loss_weights == {"sensory": 0.01, "queries": 0.01}
    assert SSLVOS(loss_weights={"queries": 0.5, "dice": 2.0}).loss_weights == {
        "sensory": 0.01, "queries": 0.5, "dice": 2.0,
    }  # fmt: skip


def test_own_checkpoint_and_settings_come_back(tmp_path: Path):
    memory = MemorySettings(every=3, frames=10, long_term=LongTermSettings(keep=2))
    module = SSLVOS(
        encoder="spatial",
        backbone="random",
        adapter=AdapterSettings(roles="paper"),
        equation_variant=DiscriminativeSettings(heads=2),
        inference=SessionSettings(memory, sides=(24, 32), flip=True),
        recipe=TrainingSettings(references=2, points=PointSettings(count=500)),
    )
    trainer = fit(module)
    trainer.save_checkpoint(file := tmp_path / "last.ckpt")
    again = SSLVOS.load_from_checkpoint(file, weights_only=True)
    assert (again.inference, again.recipe) == (module.inference, module.recipe)
    assert again.variant == module.variant
    loaded = SSLVOS(
        encoder="spatial",
        adapter=AdapterSettings(roles="paper"),
        equation_variant=DiscriminativeSettings(heads=2),
        weights=str(file),
    )
    assert loaded.weights_file == file
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with pytest.raises(InputError, match="does not fit SSLVOSNetwork"):
        SSLVOS(weights=str(file))


def test_a_checkpoint_needs_no_other_file(tmp_path: Path):
    trunk = SSLVOS(size="nano").network.mask_encoder.trunk
    torch.save(trunk.state_dict(), start := tmp_path / "resnet.pth")
    module = SSLVOS(mask_backbone=str(start))
    assert torch.equal(module.network.mask_encoder.trunk.conv1.weight, trunk.conv1.weight)
    trainer = fit(module)
    trainer.save_checkpoint(file := tmp_path / "last.ckpt")
    start.unlink()
    again = SSLVOS.load_from_checkpoint(file, weights_only=True)
    assert torch.equal(again.network.mask_encoder.trunk.conv1.weight, module.network.mask_encoder.trunk.conv1.weight)


def test_published_cutie_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file without our prefix goes to the reader of published ones (tests/methods/sslvos/test_weights.py)."""
    torch.save({"pixel_encoder.conv1.weight": torch.zeros(1)}, file := tmp_path / "cutie.pth")
    with pytest.raises(InputError, match=r"cutie.pth: does not fit SSLVOSNetwork: .* missing"):
        SSLVOS(size="cutie-small", weights=str(file))
    with pytest.raises(InputError, match=r"github.com/hkchengrex/Cutie"):
        SSLVOS(weights=str(tmp_path / "nowhere.pth"))


def test_settings_that_do_not_fit():
    with pytest.raises(InputError, match="discriminative: true"):
        SSLVOS(discriminative=False, equation_variant=DiscriminativeSettings(heads=2))
    with pytest.raises(InputError, match="no such file"):
        SSLVOS(backbone="resnet50.pth")
