"""Which parts of the encoders are trained."""

from __future__ import annotations

from torch import nn

from common.nn.swin import SwinTransformer
from methods.hqsmem.deaot.encoders import build_encoder
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.settings import VARIANTS


def test_frozen_parts_as_published():
    """Stem, first stage and batch norms are constants of the published trunks; the nano trunk learns all."""
    net = DeAOT(VARIANTS["deaot-t"]).train()
    held = {name for name, p in net.encoder.named_parameters() if not p.requires_grad}
    assert {"features.0.0.weight", "features.3.conv.2.weight", "features.18.1.weight"} <= held
    assert "features.4.conv.0.0.weight" not in held
    assert not any(m.training for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    nano = DeAOT(VARIANTS["nano"]).train()
    assert all(p.requires_grad for p in nano.parameters())
    assert all(m.training for m in nano.modules() if isinstance(m, nn.BatchNorm2d))


def test_the_frozen_stage_of_swin_is_deterministic(monkeypatch):
    monkeypatch.setattr(SwinTransformer.__init__, "__defaults__", (8, (2, 2, 2), (1, 2, 2), 0.3))
    encoder = build_encoder("swin_base")
    rates = [block.drop_path.rate for stage in encoder.layers for block in stage.blocks]
    assert rates[:2] == [0.0, 0.0]
    assert rates[2:] == sorted(rates[2:])
    assert rates[2] > 0
    assert encoder.widths == (8, 16, 32, 32)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("patch_embed.", "layers.0.blocks.")) for name in trained)
    assert "layers.0.downsample.norm.weight" in trained
