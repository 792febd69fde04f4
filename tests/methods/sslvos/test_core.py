"""The core on random weights: shapes, gradients, padded and permuted targets, pluggable encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.base import FeatureEncoder, resnet_nano
from methods.sslvos.settings import CoreSettings, DiscriminativeSettings, nano
from tests.support.seeded_sslvos import Case, seeded_value

DISCRIMINATIVE = nano(DiscriminativeSettings(heads=4))


def lively(settings: CoreSettings, encoder: FeatureEncoder | None = None) -> SSLVOSNetwork:
    core = SSLVOSNetwork(encoder or resnet_nano(), settings).eval()
    state = core.state_dict()
    core.load_state_dict({name: seeded_value(name, value.shape, Case(seed=1)) for name, value in state.items()})
    return core


def two_frames(core: SSLVOSNetwork, images: Tensor, masks: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
    """As a training step does it: memorise frame 0 (B, 3, H, W), segment frame 1; (logits, auxiliary logits ...)."""
    first, second = core.encode(images[:, 0]), core.encode(images[:, 1])
    memory = core.memorise(first, core.initial_sensory(first, masks.shape[1]), masks)
    readout = core.read_memory(second, first.key, first.shrinkage, memory.value)
    pixels, levels = core.attend(second, readout, memory.sensory, masks, memory.summary, valid)
    logits, sensory = core.decode(second, pixels, memory.sensory, valid=valid)
    return logits, core.sensory_logits(second, sensory), *levels


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(2, 3, 48, 64)
    masks[:, 0, :20, :30], masks[:, 1, 20:, 10:40], masks[:, 2, 5:30, 40:] = 1, 1, 1
    return torch.rand(2, 2, 3, 48, 64, generator=generator), masks


@pytest.mark.parametrize("settings", [nano(), DISCRIMINATIVE], ids=["masked", "discriminative"])
def test_a_training_step_reaches_every_parameter(settings, clip):
    core = SSLVOSNetwork(resnet_nano(), settings).train()
    logits, sensory, *levels = two_frames(core, *clip)
    assert logits.shape == (2, 4, 48, 64)
    assert sensory.shape == (2, 3, 3, 4)
    assert [level.shape for level in levels] == [(2, 3, 3, 4)] * (settings.blocks + 1)
    torch.testing.assert_close(logits.softmax(1).sum(1), torch.ones(2, 48, 64))
    terms = [logits.softmax(1)[:, 1:].mean(), sensory.mean(), *(level.mean() for level in levels)]
    torch.stack(terms).sum().backward()
    assert [name for name, p in core.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("settings", [nano(), DISCRIMINATIVE], ids=["masked", "discriminative"])
@torch.inference_mode()
def test_permuting_targets_permutes_answers(settings, clip):
    core, (images, masks) = lively(settings), clip
    order = torch.tensor([2, 0, 1])
    straight, permuted = two_frames(core, images, masks), two_frames(core, images, masks[:, order])
    torch.testing.assert_close(permuted[0][:, 1:], straight[0][:, 1:][:, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(permuted[0][:, 0], straight[0][:, 0], atol=1e-4, rtol=1e-4)
    assert straight[0].argmax(1).unique().numel() > 1


@torch.inference_mode()
def test_a_padded_row_is_no_target(clip):
    core, (images, masks) = lively(nano()), clip
    padded = torch.cat([masks[:, :2], torch.zeros_like(masks[:, 2:])], 1)
    valid = torch.tensor([[1.0, 1, 0]]).expand(2, -1)
    expected, got = two_frames(core, images, masks[:, :2])[0], two_frames(core, images, padded, valid)[0]
    torch.testing.assert_close(got[:, :3], expected, atol=1e-4, rtol=1e-4)
    assert not (got.argmax(1) == 3).any()


@torch.inference_mode()
def test_clips_of_a_batch_do_not_meet(clip):
    core, (images, masks) = lively(DISCRIMINATIVE), clip
    both = two_frames(core, images, masks)[0]
    for row in range(2):
        alone = two_frames(core, images[row : row + 1], masks[row : row + 1])[0]
        torch.testing.assert_close(both[row : row + 1], alone, atol=1e-4, rtol=1e-4)


def test_mask_encoder_shares_the_frame_s_part_of_its_first_convolution(clip):
    """The same as one convolution over five channels for every target."""
    core, (images, masks) = lively(nano()), clip
    encoder, features = core.mask_encoder, core.encode(images[:, 0])
    others = (masks.sum(1, keepdim=True) - masks).clamp(0, 1)
    value = []
    for target in range(3):
        planes = torch.cat([features.image, masks[:, target : target + 1], others[:, target : target + 1]], 1)
        value.append(encoder.trunk(planes)[-1])
    expected = encoder.fusion(features.pixels, torch.stack(value, 1))
    torch.testing.assert_close(encoder(features.image, features.pixels, masks), expected, atol=1e-4, rtol=1e-4)


def test_queries_see_the_target_or_the_rest():
    """Two targets on a 1 x 4 map, logits (5 5 -5 -5) and (-5 6 -5 -5): the second wins pixel 1."""
    transformer = SSLVOSNetwork(resnet_nano(), nano(queries=4)).transformer
    logits = torch.tensor([[[[5.0, 5, -5, -5]], [[-5.0, 6, -5, -5]]]])
    seen = transformer._allowed(logits, None)[0].int().tolist()
    assert seen[0] == [[1, 0, 0, 0]] * 2 + [[0, 1, 1, 1]] * 2
    assert seen[1] == [[0, 1, 0, 0]] * 2 + [[1, 0, 1, 1]] * 2
    nowhere = transformer._allowed(torch.full_like(logits, -9.0), None)[0]
    assert nowhere.all()  # the foreground queries would be left with nothing


def test_object_memory_is_a_mean_that_adds_up(clip):
    """Sums and areas of two frames added are those of the two frames seen as one."""
    core, (_, masks) = lively(nano()), clip
    value = torch.randn(2, 3, 64, 3, 4)
    summary = core.summary(masks, value)
    assert summary.shape == (2, 3, 8, 65)
    assert (summary[..., -1] >= 0).all()
    inside, outside = summary[..., :4, -1], summary[..., 4:, -1]
    empty = core.summary(torch.zeros_like(masks), value)
    assert not empty[..., :4, :].any()  # no mask, nothing pooled inside
    torch.testing.assert_close(core.summary(torch.ones_like(masks), value)[..., 4:, :], 0 * summary[..., 4:, :])
    assert inside.sum() < outside.sum()


def test_another_encoder_plugs_in(clip):
    class Patches(FeatureEncoder):
        widths, multiple = (24, 16, 8), 32

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, c, s, s) for c, s in zip(self.widths, (16, 8, 4), strict=True))

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            f16, f8, f4 = (conv(image) for conv in self.convs)
            return f16, f8, f4

    core = lively(replace(nano(), blocks=1), Patches())
    assert two_frames(core, *clip)[0].shape == (2, 4, 48, 64)
