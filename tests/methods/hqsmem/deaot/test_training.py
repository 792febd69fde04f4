"""Training of the base tracker: what a clip teaches, which weights move at what rate, and which are saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from common.data import VideoDataModule
from common.data.clip import Clip
from common.data.clips import ClipDataset, collate
from common.ema import decay_at
from common.errors import InputError
from common.nn.swin import WindowAttention
from common.synthetic import SyntheticClips
from methods.hqsmem import HQSMem
from methods.hqsmem.deaot.losses import bootstrapped_cross_entropy, soft_jaccard
from methods.hqsmem.deaot.network import DeAOT
from methods.hqsmem.deaot.training import clip_losses, label_maps
from methods.hqsmem.settings import VARIANTS, DeAOTSettings

SMALL = DeAOTSettings("nano", layers=2, width=32, key_width=16, window=3, drop_path=0.0, dropout=0.0)
SIDE = 33


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Two clips of four frames, of one and of two targets."""
    sets = [SyntheticClips("easy", length=1, size=(SIDE, SIDE), seed=4, objects=n) for n in (1, 2)]
    return collate([ClipDataset(videos, frames=4, size=(SIDE, SIDE))[0] for videos in sets])


def network(settings: DeAOTSettings = SMALL) -> DeAOT:
    torch.manual_seed(0)
    return DeAOT(settings).train()


def test_a_label_map_numbers_the_targets_and_leaves_out_rows_that_only_fill() -> None:
    masks = torch.zeros(2, 1, 2, 1, 4, dtype=torch.bool)
    masks[:, 0, 0, 0, :2] = True
    masks[:, 0, 1, 0, 1:3] = True  # overlaps the first; of the second sample it is no target
    made = Clip(torch.zeros(2, 1, 3, 1, 4), masks, torch.tensor([[True, True], [True, False]]))
    assert label_maps(made).tolist() == [[[[1, 2, 2, 0]]], [[[1, 1, 0, 0]]]]


def test_terms_are_those_of_a_clip_written_out(clip: Clip, monkeypatch) -> None:
    """Without permutation, memory by memory: the reference, then three frames from GT; a long-term write at frame 2."""
    net = network()
    straight = torch.arange(SMALL.max_objects + 1).expand(2, -1)
    monkeypatch.setattr(net, "random_permutation", lambda batch: straight)
    net.eval()  # batch statistics would depend on which frames are encoded together
    losses = clip_losses(net, clip, 0.25, gap=2)
    labels = label_maps(clip)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def identity(time: int) -> torch.Tensor:
        return net.id_embedding(torch.nn.functional.one_hot(labels[:, time], 11).permute(0, 3, 1, 2).float())

    def terms(time: int, outputs) -> list[torch.Tensor]:
        logits = net.decode(features[time], outputs, [1, 2])
        logits = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=True)
        return [bootstrapped_cross_entropy(logits, labels[:, time], 0.575), soft_jaccard(logits, labels[:, time])]

    features = [net.encode((clip.frames[:, time] / 255 - mean) / std) for time in range(4)]
    outputs = net.propagate(features[0], identity=identity(0))
    reference = terms(0, outputs)
    first = net.write(outputs, identity(0))
    one = net.propagate(features[1], first, first)
    near = net.write(one, identity(1))
    two = net.propagate(features[2], first, near)
    last = net.write(two, identity(2))
    both = [type(a)(*(torch.cat(pair, 1) for pair in zip(a, b, strict=True))) for a, b in zip(first, last, strict=True)]
    three = net.propagate(features[3], both, last)
    predicted = torch.stack([torch.stack(terms(time, x)) for time, x in ((1, one), (2, two), (3, three))]).mean(0)
    expected = {
        "ce": predicted[0],
        "jaccard": predicted[1],
        "reference_ce": 0.75 * reference[0],
        "reference_jaccard": 0.75 * reference[1],
    }
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_the_second_half_propagates_what_was_predicted_and_leaves_the_id_bank(clip: Clip, monkeypatch) -> None:
    written = []
    for progress in (0.0, 0.5):
        net = network()
        monkeypatch.setattr(net, "id_embedding", _recording(net.id_embedding, written, calls := []))
        sum(clip_losses(net, clip, progress, None).values()).backward()
        assert len(calls) == 3  # the last frame is not written
        assert (net.id_bank.weight.grad is not None) == (progress == 0.0)
        assert net.project.weight.grad is not None
    truth = torch.nn.functional.one_hot(label_maps(clip), 11).permute(1, 0, 4, 2, 3).float()
    assert all(torch.equal(a, b) for a, b in zip(written[:3], truth, strict=False))
    assert torch.equal(written[3], truth[0])  # the reference is always annotated
    assert not any(torch.equal(a, b) for a, b in zip(written[4:], truth[1:], strict=False))
    assert all(set(masks.sum(1).unique().tolist()) == {1.0} for masks in written[4:])  # arg-max, one-hot


def _recording(id_embedding, *lists):
    def recording(masks, permutation=None):
        for each in lists:
            each.append(masks)
        return id_embedding(masks, permutation)

    return recording


def test_targets_get_random_identities(clip: Clip, monkeypatch) -> None:
    """Another permutation of the identities gives another loss."""
    net, losses = network().eval(), []
    for permutation in [net.random_permutation(2, torch.Generator().manual_seed(seed)) for seed in (1, 2, 1)]:
        assert permutation[:, 0].tolist() == [0, 0]
        assert permutation.sort(1).values.tolist() == [list(range(11))] * 2
        monkeypatch.setattr(net, "random_permutation", lambda batch, permutation=permutation: permutation)
        losses.append(clip_losses(net, clip, 0.0, None)["ce"].item())
    assert losses[0] == losses[2] != losses[1]


def test_temporal_positions_learn(clip: Clip) -> None:
    net = network(replace(SMALL, temporal=True))
    sum(clip_losses(net, clip, 0.0, 1).values()).backward()
    assert (net.memory_time.grad.abs().sum(1) > 0).tolist() == [True, True, True, False]  # three frames at most


def test_clips_that_do_not_fit(clip: Clip) -> None:
    net = network()
    with pytest.raises(InputError, match=r"set data\.frames to 2"):
        clip_losses(net, replace(clip, frames=clip.frames[:, :1]), 0.0, None)
    with pytest.raises(InputError, match=r"set data\.size to \[33, 17\]"):
        clip_losses(net, replace(clip, frames=clip.frames[..., :20]), 0.0, None)
    many = replace(clip, masks=clip.masks[:, :, :1].expand(-1, -1, 11, -1, -1))
    with pytest.raises(InputError, match=r"data\.max_objects to 10"):
        clip_losses(net, many, 0.0, None)


def test_each_part_has_its_rate_and_decay() -> None:
    module = HQSMem(lr=2e-4, weight_decay=0.07, final_lr=0.05, encoder_lr=0.1)
    groups = module.parameter_groups()
    assert sum(len(group["params"]) for group in groups) == len(list(module.network.parameters()))
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in module.network.named_parameters():
        plain = name.endswith("bias") or "norm" in name or parameter.ndim == 1 or name.startswith("decoder.predict")
        assert (id(parameter) in decayed) != plain, name
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)  # type: ignore[assignment]
    chosen = module.configure_optimizers()
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    for step in range(7):
        now = 1e-5 + 1.9e-4 * (1 - step / 11) ** 0.9  # published: 1 - k / (K + 1)
        expected = {"encoder": (now - 1e-5) * 0.1 + 1e-5, "id_bank": now if step < 5 else 0.0}
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(expected.get(group["part"], now)), (step, group["part"])
        optimizer.step()
        schedule.step()


def test_swin_tables_of_relative_positions_do_not_decay() -> None:
    module = HQSMem(weight_decay=0.07)
    module.network = torch.nn.ModuleDict({"encoder": WindowAttention(8, 2)})  # type: ignore[assignment]
    flat = [group for group in module.parameter_groups() if not group["weight_decay"]]
    assert any(p.shape == (169, 2) for group in flat for p in group["params"])  # (2 x 7 - 1)^2 places, 2 heads


@pytest.mark.parametrize(
    ("updates", "steps", "decay"), [(0, 1000, 0.1), (8, 1000, 0.5), (10**6, 1000, 0.99), (10**6, 100_000, 0.9999)]
)
def test_decay_of_the_average(updates: int, steps: int, decay: float) -> None:
    assert decay_at(updates, steps) == pytest.approx(decay)


def test_training_starts_from_a_checkpoint_without_temporal_positions(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {f"network.{k}": v for k, v in network(VARIANTS["nano"]).state_dict().items()}}, tmp_path / "a"
    )
    begun = HQSMem(start=str(tmp_path / "a"), temporal=True)
    assert torch.equal(begun.network.id_bank.weight, network(VARIANTS["nano"]).id_bank.weight)
    assert begun.weights is None  # it is not to be scored like this
    with pytest.raises(InputError, match="missing"):
        HQSMem(weights=str(tmp_path / "a"), temporal=True)
    torch.save({"state_dict": {"network.id_bank.weight": begun.network.id_bank.weight}}, tmp_path / "b")
    with pytest.raises(InputError, match="missing"):
        HQSMem(start=str(tmp_path / "b"))


@pytest.mark.slow
def test_fit_saves_and_tests_the_average(tmp_path: Path) -> None:
    L.seed_everything(1)
    model = HQSMem(lr=1e-2, training_gap=1)
    steps: list[dict[str, torch.Tensor]] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_) -> None:
            steps.append({k: v.detach().clone() for k, v in pl_module.named_parameters()})

    videos = SyntheticClips("easy", length=20, size=(SIDE, SIDE))
    data = VideoDataModule([videos], batch_size=2, frames=3, size=(SIDE, SIDE), clips_per_epoch=40)
    settings = dict(accelerator="cpu", max_steps=4, logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = L.Trainer(**settings, callbacks=[Watch()], default_root_dir=tmp_path)
    trainer.fit(model, data)
    # 4 steps: decay min(1 - 1 / 1, ...) = 0 as 0.1 x 4 is less than a step, so the average is the last
    assert all(torch.equal(v, steps[-1][k]) for k, v in model.named_parameters())
    model = HQSMem(lr=1e-2)
    steps.clear()
    settings["max_steps"] = 30
    trainer = L.Trainer(**settings, callbacks=[Watch()], default_root_dir=tmp_path)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    expected = steps[0]
    for count, step in enumerate(steps[1:], start=1):
        decay = min(1 - 1 / 3, (1 + count) / (10 + count))
        expected = {k: decay * v + (1 - decay) * step[k] for k, v in expected.items()}
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["start"] is None
    for name, value in model.named_parameters():
        assert torch.allclose(value, expected[name], atol=1e-6), name
        assert torch.equal(stored["state_dict"][name], value)
    assert not torch.equal(model.network.project.weight, steps[-1]["network.project.weight"])
    bank = "network.id_bank.weight"
    assert torch.equal(steps[15][bank], steps[-1][bank])
    assert not torch.equal(steps[13][bank], steps[14][bank])
