"""The LightningModule: losses and their weights, what is trained, weights in and out, bad settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from common.benchmarks.vqs.benchmark import VQS4K
from common.checkpoints import load_state
from common.data import VideoDataModule
from common.data.clip import Clip
from common.errors import InputError
from common.evaluation.submission import evaluate
from common.nn.losses import sam2_losses
from common.nn.sam2 import SAM2, Candidates
from common.nn.sam2.weights import load_sam2
from common.records.record import ResultRecord
from common.synthetic.queries import SyntheticQueries
from methods.vqsam import VQSAM
from methods.vqsam.model import Settings
from methods.vqsam.training import clip_losses
from tests.support.lively import enliven
from tests.support.miniatures.vqs import make as make_vqs

SIDE, T = 64, 2


def build(**settings) -> VQSAM:
    torch.manual_seed(0)
    module = VQSAM(**({"image_size": SIDE, "clip_length": T, "target_iou": 0.0, "distractor_iou": 0.0} | settings))
    enliven(module.network.sam2, seed=2)
    return module


@pytest.fixture
def clip() -> Clip:
    """Two clips; three valid targets, one of them never there."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)  # noqa: E731
    masks = torch.zeros(2, T, 2, SIDE, SIDE, dtype=torch.bool)
    masks[0, :, 0, 10:30, 10:30] = True
    masks[0, 1, 1, 30:60, 5:25] = True
    query_masks = torch.zeros(2, 2, SIDE, SIDE, dtype=torch.bool)
    query_masks[:, :, 20:44, 16:50] = True
    valid = torch.tensor([[True, True], [True, False]])
    query_masks[~valid] = False
    return Clip(draw(2, T, 3, SIDE, SIDE), masks, valid, draw(2, 2, 3, SIDE, SIDE), query_masks)


# Losses.


class Fixed(torch.nn.Module):
    """A network whose stages answer as told."""

    def __init__(self, core: SAM2, stages: list[Candidates]) -> None:
        super().__init__()
        self.sam2, self.stages = core, stages

    def encode_query(self, features, masks):
        return None

    def forward(self, features, rows, query) -> list[Candidates]:
        assert rows.tolist() == [[0, 1], [0, 1], [2, 3]]
        return self.stages


def answer(seed: int) -> Candidates:
    g = torch.Generator().manual_seed(seed)
    rand = lambda *size: torch.rand(size, generator=g)  # noqa: E731
    return Candidates(rand(6, 3, 16, 16) - 0.5, rand(6, 3), rand(6) - 0.5, rand(6, 3, 64))


def test_loss_is_sam2s_summed_over_frames_and_weighed_over_stages(clip):
    """Σ_k λ_k Σ_frames / queries, with λ = (0.5, 1), each stage from ``sam2_losses`` at input size."""
    core, stages = build().network.sam2, [answer(0), answer(1)]
    got = clip_losses(Fixed(core, stages), clip, [0.5, 1.0])  # type: ignore[arg-type]
    truth = torch.stack([clip.masks[0, :, 0], clip.masks[0, :, 1], clip.masks[1, :, 0]]).flatten(0, 1)
    terms = []
    for stage in stages:
        logits = torch.nn.functional.interpolate(stage.logits, (SIDE, SIDE), mode="bilinear", align_corners=False)
        terms.append(sam2_losses(logits, stage.ious, stage.score, truth))
    assert got.keys() == {"mask", "dice", "iou", "occlusion"}
    for name, value in got.items():
        torch.testing.assert_close(value, (0.5 * terms[0][name] + terms[1][name]) / 3)


def test_weights_of_terms_and_stages():
    assert build().loss_weights == {"mask": 20.0, "dice": 1.0, "iou": 1.0, "occlusion": 1.0}
    assert build(loss_weights={"iou": 5.0}).loss_weights["iou"] == 5.0
    assert build().stage_weights == [0.5, 1.0]
    assert build(stages=1).stage_weights == [1.0]
    assert build(stages=3).stage_weights == [0.5, 0.5, 1.0]
    assert build(stage_weights=[1.0, 0.5]).stage_weights == [1.0, 0.5]


def test_every_part_is_trained_and_a_frozen_encoder_is_not(clip):
    module = build(encoder_lr=0.0)
    enliven(module.network.generate, seed=3)
    enliven(module.network.stt, seed=3)
    torch.stack(list(module.losses(clip).values())).sum().backward()
    got = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert not [name for name in got if "vision_encoder" in name]
    new = {name for name, _ in module.named_parameters() if name.startswith(("model.stt", "model.generate"))}
    assert [name for name in new - got if not name.endswith("key.bias")] == []  # a softmax does not see that bias
    for part in ("memory_attention", "memory_encoder", "mask_decoder", "object_pointer_proj"):
        assert any(f".{part}." in name for name in got), part
    trained = {id(p) for group in module.parameter_groups() for p in group["params"]}
    assert not [n for n, p in module.named_parameters() if "vision_encoder" in n and id(p) in trained]


def test_the_encoder_has_its_own_rates():
    module = build(lr=1.0, encoder_lr=0.5, layer_decay=0.1, weight_decay=0.2)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in module.parameter_groups() for p in g["params"]}
    by_name = {name: rate[id(p)] for name, p in module.named_parameters() if p.requires_grad}
    trunk = "network.sam2.net.vision_encoder.backbone."
    expected = {  # nano has 8 blocks; the last one is one step away from the neck
        "network.stt.layers.0.query.weight": (1.0, 0.2),
        "network.generate.weigh.0.weight": (1.0, 0.2),
        "network.sam2.net.memory_attention.layers.0.linear1.bias": (1.0, 0.0),
        "network.sam2.net.vision_encoder.neck.convs.0.weight": (0.5, 0.2),
        trunk + "blocks.7.attn.qkv.weight": (0.5 * 0.1, 0.2),
        trunk + "blocks.0.attn.qkv.weight": (0.5 * 0.1**8, 0.2),
        trunk + "pos_embed": (0.5, 0.2),
    }
    for name, (lr, decay) in expected.items():
        assert by_name[name] == (pytest.approx(lr), decay), name


def test_loss_falls_when_overfitting_two_clips(clip):
    module = build().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    history = []
    for _ in range(20):
        terms = module.losses(clip)
        assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
        total = torch.stack([module.loss_weights[name] * value for name, value in terms.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert min(history[-3:]) < 0.6 * history[0], history


def test_activations_may_be_recomputed(clip):
    plain, checked = build(), build(checkpoint_activations=True)
    for module in (plain, checked):
        module.train()
        enliven(module.network.stt, seed=3)
        torch.stack(list(module.losses(clip).values())).sum().backward()
    for (name, a), b in zip(plain.named_parameters(), checked.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-4, rtol=1e-3)


def test_trains_and_tests_on_the_layout_of_vqs4k(tmp_path: Path):
    """As paper_train.yaml and paper.yaml put it, on a miniature: clips with queries, then a record and a submission."""
    make_vqs(root := tmp_path / "vqs4k", "vqs4k")
    data = VideoDataModule(
        train=[VQS4K(root, "train")], test=[VQS4K(root, "test")], queries=True, batch_size=1, frames=T,
        size=(SIDE, SIDE), clips_per_epoch=2, reverse=0.0,
    )  # fmt: skip
    clip = next(iter(data.train_dataloader()))
    assert (clip.frames.shape[1], clip.query.shape[1], clip.query_masks.any().item()) == (T, 1, True)
    module = build(save_predictions=True)
    before = module.network.stt.layers[0].narrow.weight.clone()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=2, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, data)
    assert not torch.equal(module.network.stt.layers[0].narrow.weight, before)
    trainer.test(module, data, verbose=False)
    record = ResultRecord.read(tmp_path / "vqs4k-test/results.json")
    assert record.videos.keys() == {"moth", "kite"}
    assert record.metrics["tAP"] > 0
    scores = evaluate(VQS4K(root), tmp_path / "vqs4k-test/predictions")
    assert scores.numbers == pytest.approx(record.metrics, abs=0, rel=0, nan_ok=True)


# Bad input.


def test_short_clips_are_refused_in_training(clip):
    with pytest.raises(InputError, match="training clips have 2 frames, VQ-SAM looks at 7"):
        VQSAM(image_size=SIDE).losses(clip)


def test_clips_without_queries_are_refused(clip):
    with pytest.raises(InputError, match=r"set data\.queries: true"):
        build().losses(Clip(clip.frames, clip.masks, clip.valid))


def test_an_empty_query_mask_is_refused(clip):
    clip.query_masks[1, 0] = False
    with pytest.raises(InputError, match="clip 1 of the batch: the query mask of a target is empty"):
        build().losses(clip)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 2}, "overlap 2 must be at least 0 and less than clip_length 2"),
        ({"overlap": -1}, "overlap -1"),
        ({"stage_weights": [1.0]}, "must be 2 numbers, one for each stage"),
        ({"image_size": 70}, "image_size 70"),
        ({"stages": 0}, "stages 0"),
        ({"stt_heads": 7}, "stt_heads 7 does not divide 64"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build(**settings)


# Settings and names.


def test_defaults_are_the_papers():
    assert VQSAM(image_size=SIDE).network.settings == Settings()
    s = Settings()
    assert (s.stages, s.targets, s.distractors, s.target_iou, s.divergence, s.distractor_iou) == (
        2,
        2,
        1,
        0.5,
        0.5,
        0.7,
    )
    assert (s.fusion, VQSAM(image_size=SIDE).clip_length) == ("adaptive", 7)


def test_a_rows_name_tells_what_is_not_the_papers():
    module = VQSAM(image_size=SIDE)
    assert (module.method_name, module.variant) == ("VQ-SAM", "nano")
    assert VQSAM(image_size=SIDE, stages=1, fusion="equal").variant == "nano, stages=1, fusion=equal"


def test_session_has_the_settings():
    session = VQSAM(image_size=SIDE, clip_length=5, overlap=2).session(9)
    assert (session.clip_length, session.clip_overlap) == (5, 2)


# Weights.


def parts(module: VQSAM) -> dict[str, Tensor]:
    return {
        name: value for name, value in module.network.state_dict().items() if name.startswith(("stt.", "generate."))
    }


def test_starts_from_our_nano_sam2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)  # the path is found from any folder
    module, core = VQSAM(weights="weights/sam2_nano.safetensors"), SAM2("nano")
    load_sam2(core, "weights/sam2_nano.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(module.network.sam2.parameters(), core.parameters(), strict=True))
    assert module.weights_note == "partial"


def test_own_weights_come_back_from_both_kinds_of_file(tmp_path: Path):
    source = build()
    enliven(source, seed=4)
    torch.save({"state_dict": source.state_dict()}, ckpt := tmp_path / "last.ckpt")
    source.export(half := tmp_path / "vqsam.safetensors", half=True)
    same = {"image_size": SIDE, "clip_length": T}
    for name, value in VQSAM(weights=str(ckpt), **same).state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    for name, value in VQSAM(weights=str(half), **same).state_dict().items():
        assert torch.equal(value, source.state_dict()[name].half().float()), name


def test_own_weights_of_another_fusion_are_refused(tmp_path: Path):
    torch.save({"state_dict": build(fusion="static").state_dict()}, file := tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"does not fit VQSAMNetwork: 4 missing: .*1 not known: generate.logits"):
        VQSAM(image_size=SIDE, weights=str(file))
    with pytest.raises(InputError, match="no such weights"):
        VQSAM(image_size=SIDE, weights=str(tmp_path / "none.pt"))


def test_checkpoint_round_trip_is_bit_equal(tmp_path: Path):
    videos = SyntheticQueries("query", length=2, frames=4, size=(SIDE, SIDE))
    module = build().train()
    data = VideoDataModule([videos], frames=T, size=(SIDE, SIDE), batch_size=1, clips_per_epoch=1, queries=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(module, data)
    trainer.save_checkpoint(file := tmp_path / "last.ckpt")
    again = VQSAM.load_from_checkpoint(file, weights_only=True).eval()
    stored = load_state(file)
    assert stored.keys() == again.state_dict().keys()
    for key, value in again.state_dict().items():
        assert torch.equal(value, module.state_dict()[key]), key
    video = replace(videos[0])
    for a, b in zip(again.track(video), module.eval().track(video), strict=True):
        assert torch.equal(a.masks, b.masks)
        assert torch.equal(a.scores, b.scores)
