"""UniVS as a LightningModule: frozen parts, learning rates, checkpoints."""

from __future__ import annotations

import pytest
import torch

from methods.univs import UniVS
from methods.univs.settings import TrainingSettings
from methods.univs.training.step import batch_losses
from tests.support.fake_univs import bar_clip

SMALL = TrainingSettings(num_points=32, max_prompts=6)


def test_frozen_parts_stay_as_they_are():
    module = UniVS(queries=4, recipe=SMALL, frozen_stages=4, freeze_pixel_decoder=True).train()
    trained = {name.split(".")[1] for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert not trained & {"backbone", "pixels"}
    before = {name: value.clone() for name, value in module.network.backbone.state_dict().items()}
    batch_losses(module.network, bar_clip(), SMALL)
    assert all(torch.equal(value, before[name]) for name, value in module.network.backbone.state_dict().items())
    partly = UniVS(queries=4, recipe=SMALL, frozen_stages=3)
    trained = {n.split("stages.")[1][0] for n, p in partly.named_parameters() if p.requires_grad and "stages." in n}
    assert trained == {"3"}


def test_rates_and_decay():
    module = UniVS(lr=1.0, weight_decay=0.5, backbone_lr=0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = module.parameter_groups()
    rates = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert rates.keys() == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, (lr, _) in rates.items():
        assert lr == (0.1 if "network.backbone." in name else 1.0), name
    assert rates["network.decoder.query"] == rates["network.level"] == rates["network.task.visual"] == (1.0, 0.0)
    assert rates["network.decoder.heads.norm.weight"][1] == 0
    assert rates["network.decoder.heads.classes.projection.weight"] == (1.0, 0.5)
    embeddings = [name for name in rates if "embedding.weight" in name or "level_embed" in name]
    assert len(embeddings) == 3
    assert all(rates[name][1] == 0 for name in embeddings)


def test_milestones():
    chosen = UniVS(lr=1.0, warmup_steps=1, milestones=[3, 5]).configure_optimizers()
    schedule, rates = chosen["lr_scheduler"]["scheduler"], []
    for _ in range(7):
        rates.append(max(group["lr"] for group in chosen["optimizer"].param_groups))
        chosen["optimizer"].step()
        schedule.step()
    assert rates == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.slow
def test_a_batch_can_be_learned():
    torch.manual_seed(0)
    module = UniVS(queries=8, points=8, recipe=SMALL, backbone_lr=1.0).train()
    batch, optimizer = bar_clip(), torch.optim.AdamW(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        terms = module.losses(batch)
        loss = torch.stack([module.loss_weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(terms["mask"].item() + terms["dice"].item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_exported_weights_are_read_again(tmp_path):
    torch.manual_seed(1)
    module = UniVS(queries=4)
    module.export(exported := tmp_path / "small.safetensors", half=True)
    again = UniVS(queries=4, weights=str(exported))
    assert again.weights_file == exported
    for name, value in module.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().to(value.dtype), msg=name)


def test_settings_outlive_a_checkpoint():
    """A checkpoint holds them as plain data."""
    module = UniVS(queries=4, recipe=SMALL, frozen_stages=2)
    checkpoint = {"hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    assert isinstance(checkpoint["hyper_parameters"]["recipe"], dict)
    again = UniVS(**{key: value for key, value in checkpoint["hyper_parameters"].items() if key != "_class_path"})
    assert again.recipe == SMALL
    assert again.inference.short_side is None  # nano runs at the video's own size
