"""The training step: what is read, what is masked, what the losses reach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.data.clip import Clip
from common.errors import InputError
from methods.sslvos import training
from methods.sslvos.build import Parts, build_core
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.training import TrainingSettings, clip_losses, reference_tokens, run_clip, split_frames
from tests.methods.sslvos.test_core import DISCRIMINATIVE, lively, two_frames

ALL_ONES = torch.ones(2, 3, dtype=torch.bool)


@pytest.fixture
def core() -> SSLVOSNetwork:
    return lively(DISCRIMINATIVE)


@pytest.fixture
def clip() -> Clip:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 6, 3, 48, 64), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(2, 6, 3, 48, 64, dtype=torch.bool)
    masks[:, :, 0, :20, :30], masks[:, :, 1, 20:, 10:40], masks[:, :, 2, 5:30, 40:] = True, True, True
    return Clip(frames, masks, ALL_ONES.clone())


@torch.inference_mode()
def test_the_second_frame_is_that_of_a_step_by_hand(core, clip):
    image = clip.frames[:, :2].float() / 255
    out = run_clip(core, image, clip.masks[:, 0].float(), clip.valid, TrainingSettings())
    torch.testing.assert_close(out.masks[:, 0], two_frames(core, image, clip.masks[:, 0].float())[0])
    assert out.masks.shape == (2, 1, 4, 48, 64)
    assert out.sensory.shape == (2, 1, 4, 3, 4)
    assert [level.shape for level in out.queries] == [(2, 1, 4, 3, 4)] * DISCRIMINATIVE.blocks  # one more in training


@torch.inference_mode()
def test_frames_of_a_clip_are_kept_apart(core, clip):
    image = clip.frames.float() / 255
    parts = split_frames(core.encode(image.flatten(0, 1)), 6)
    alone = core.encode(image[:, 4])
    assert len(parts) == 6
    torch.testing.assert_close(parts[4].key, alone.key, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts[4].f4, alone.f4, atol=1e-4, rtol=1e-4)


def test_all_past_frames_are_read_while_they_are_few(core, clip):
    """Frame t is recognised by its value, t everywhere."""
    frames = split_frames(core.encode(clip.frames.flatten(0, 1).float() / 255), 6)
    values = [torch.full((2, 12, 3, 4), float(time)) for time in range(6)]
    for past in (1, 2, 3):
        key, shrinkage, value = reference_tokens(frames[:past], values[:past], 3)
        assert key.shape[:2] == shrinkage.shape[:2] == value.shape[:2] == (2, 12 * past)
        assert value[:, ::12, 0, 0].tolist() == [list(range(past))] * 2


def test_three_random_frames_are_read_afterwards(core, clip):
    torch.manual_seed(0)
    frames = split_frames(core.encode(clip.frames.flatten(0, 1).float() / 255), 6)
    values = [torch.full((2, 12, 3, 4), float(time)) for time in range(5)]
    seen = [set(), set()]
    apart = False
    for _ in range(20):
        key, _, value = reference_tokens(frames[:5], values, 3)
        drawn = value[:, ::12, 0, 0].int().tolist()
        for row in range(2):
            assert len(set(drawn[row])) == 3
            seen[row] |= set(drawn[row])
            for place, time in enumerate(drawn[row]):  # keys go with values
                assert torch.equal(key[row, 12 * place : 12 * place + 12], frames[time].key[row])
        apart |= set(drawn[0]) != set(drawn[1])
    assert seen == [set(range(5))] * 2  # the first may be left out
    assert apart


def test_object_memory_is_summed_over_all_past_frames(core, clip, monkeypatch):
    """Whatever the pixel memory reads: areas of all memorised frames."""
    areas, summaries = [], []
    attend, memorise = core.attend, core.memorise

    def watched_attend(features, readout, sensory, last, objects, valid=None):
        areas.append(objects)
        return attend(features, readout, sensory, last, objects, valid)

    def watched_memorise(*args, **kwargs):
        memory = memorise(*args, **kwargs)
        summaries.append(memory.summary)
        return memory

    monkeypatch.setattr(core, "attend", watched_attend)
    monkeypatch.setattr(core, "memorise", watched_memorise)
    with torch.inference_mode():
        image = clip.frames.float() / 255
        run_clip(core, image, clip.masks[:, 0].float(), clip.valid, TrainingSettings(references=1))
    assert len(areas) == len(summaries) == 5  # the last frame is not memorised
    for time, objects in enumerate(areas, 1):
        torch.testing.assert_close(objects, torch.stack(summaries[:time]).sum(0))


@pytest.mark.parametrize(("probability", "expected"), [(0.0, [True, False, False, False, False]), (1.0, [True] * 5)])
def test_deep_update(core, clip, monkeypatch, probability, expected):
    """Frame 0 always, the others by chance."""
    calls, memorise = [], core.memorise

    def watched(features, sensory, masks, deep=True):
        calls.append(deep)
        return memorise(features, sensory, masks, deep)

    monkeypatch.setattr(core, "memorise", watched)
    with torch.inference_mode():
        settings = TrainingSettings(deep_update=probability)
        run_clip(core, clip.frames.float() / 255, clip.masks[:, 0].float(), clip.valid, settings)
    assert calls == expected


@torch.inference_mode()
def test_a_padded_target_changes_no_loss(core, clip):
    """The points drawn differ with nothing but their seed, and maps of padded and plain clips are alike."""
    plain = Clip(clip.frames, clip.masks[:, :, :2], ALL_ONES[:, :2])
    masks = clip.masks.clone()
    masks[:, :, 2] = False
    padded = replace(clip, masks=masks, valid=torch.tensor([[True, True, False]]).expand(2, -1))
    terms = []
    for which in (plain, padded):
        torch.manual_seed(3)
        terms.append(clip_losses(core, which, TrainingSettings(deep_update=0.0, references=9)))
    for name, value in terms[0].items():
        torch.testing.assert_close(terms[1][name], value, rtol=2e-3, atol=2e-3)


def test_losses_reach_every_parameter_but_the_vit(clip):
    core = build_core(Parts(encoder="full")).train()
    terms = clip_losses(core, clip, TrainingSettings())
    assert list(terms) == ["ce", "dice", "sensory", "queries"]
    torch.stack(list(terms.values())).sum().backward()
    without = [name for name, p in core.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without
    assert all(name.startswith("encoder.vit.") for name in without)


@torch.inference_mode()
def test_gradients_stop_nowhere_in_time(core, clip):
    with torch.inference_mode(False), torch.enable_grad():
        image = (clip.frames.float() / 255).requires_grad_()
        out = run_clip(core, image, clip.masks[:, 0].float(), clip.valid, TrainingSettings(references=1))
        out.masks[:, -1].softmax(1)[:, 1].mean().backward()
    assert (image.grad.flatten(2).abs().amax(-1) > 0).all()  # every frame, by sensory and object memory


@torch.inference_mode()
def test_a_clip_of_another_size_is_padded(clip):
    core = build_core(Parts(encoder="spatial"))
    terms = clip_losses(
        core, replace(clip, frames=clip.frames[..., :40, :50], masks=clip.masks[..., :40, :50]), TrainingSettings()
    )
    assert all(term.isfinite() for term in terms.values())


def test_bad_input(core, clip):
    with pytest.raises(InputError, match="two frames"):
        clip_losses(core, replace(clip, frames=clip.frames[:, :1], masks=clip.masks[:, :1]), TrainingSettings())
    with pytest.raises(InputError, match="references 0"):
        training.TrainingSettings(references=0)
