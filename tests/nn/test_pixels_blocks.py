"""Soft aggregation, sine grid, channel attention, ResNet trunk: values by hand and shapes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.nn.aggregate import soft_aggregate
from common.nn.layers import ChannelAttentionBlock
from common.nn.position import sine_grid
from common.nn.resnet import ResNet, load_imagenet


def test_soft_aggregation_by_hand():
    # two targets of 0.5 and 0.8: background (1 - 0.5)(1 - 0.8) = 0.1; logits ln(p / (1 - p))
    logits = soft_aggregate(torch.tensor([[0.5, 0.8]]))
    assert logits.tolist()[0] == pytest.approx([math.log(0.1 / 0.9), 0.0, math.log(4.0)])
    # odds 1/9, 1, 4 shared out
    odds = torch.tensor([1 / 9, 1.0, 4.0])
    torch.testing.assert_close(logits.softmax(1)[0], odds / odds.sum())


def test_soft_aggregation_stays_finite():
    for prob in ([0.0, 0.0], [1.0, 1.0], [1.0, 0.0]):
        logits = soft_aggregate(torch.tensor([prob]))
        assert logits.isfinite().all()
    assert logits.argmax() == 1


def test_soft_aggregation_permutes():
    prob = torch.rand(2, 4, 3)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(soft_aggregate(prob)[:, 1:][:, order], soft_aggregate(prob[:, order])[:, 1:])


def test_sine_grid_by_hand():
    # 8 channels: 4 from x, 4 from y, frequencies 1 and 1 / √100 = 0.1; three columns at 0, 3, 6, two rows at 0, 6
    grid = sine_grid((2, 3), 8, scale=6.0, temperature=100.0).view(2, 3, 8)
    s, c = math.sin, math.cos
    assert grid[1, 1].tolist() == pytest.approx([s(3), c(3), s(0.3), c(0.3), s(6), c(6), s(0.6), c(0.6)], abs=1e-4)
    assert sine_grid((1, 1), 8, 6.0, 100.0).tolist() == [[0, 1] * 4]


def test_channel_attention_by_hand():
    block = ChannelAttentionBlock(16)
    assert block.conv.kernel_size == (3,)  # (log2 16 + 1) / 2 = 2.5, cut to 2, made odd
    assert ChannelAttentionBlock(256).conv.kernel_size == (5,)
    nn.init.zeros_(block.conv.weight)  # weight of every channel: sigmoid(0) = 1/2
    x = torch.randn(2, 16, 5, 6)
    inner = block.conv2(block.conv1(x.relu()).relu())
    torch.testing.assert_close(block(x), x + inner / 2)


@pytest.mark.parametrize(("bottleneck", "widths"), [(True, (32, 64, 128)), (False, (8, 16, 32))])
def test_resnet_strides_and_widths(bottleneck, widths):
    trunk = ResNet((1, 2, 1), (8, 16, 32), bottleneck).eval()
    maps = trunk(torch.randn(1, 3, 48, 64))
    assert trunk.widths == widths
    assert [tuple(m.shape[1:]) for m in maps] == [
        (w, 48 // s, 64 // s) for w, s in zip(widths, (4, 8, 16), strict=True)
    ]


def test_frozen_norms_keep_their_statistics():
    for frozen in (True, False):
        trunk = ResNet((1, 1, 1), (8, 8, 8), frozen_norm=frozen).train()
        before = trunk.bn1.running_mean.clone()
        trunk(torch.randn(2, 3, 32, 32))
        assert torch.equal(trunk.bn1.running_mean, before) == frozen


def test_imagenet_weights(tmp_path):
    """A torchvision file has a last stage and a classifier; old ones lack the counters of the norms."""
    source, target = ResNet((1, 1, 1), (8, 8, 8)), ResNet((1, 1, 1), (8, 8, 8), channels=5)
    state = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    torch.save(state | {"fc.weight": torch.ones(2), "layer4.0.conv1.weight": torch.ones(3)}, tmp_path / "r.pth")
    load_imagenet(target, tmp_path / "r.pth")
    assert torch.equal(target.conv1.weight[:, :3], source.conv1.weight)
    assert not target.conv1.weight[:, 3:].any()
    assert torch.equal(target.layer3[0].conv2.weight, source.layer3[0].conv2.weight)
    torch.save(state | {"layer9.weight": torch.ones(2)}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"layer9\.weight"):
        load_imagenet(target, tmp_path / "odd.pth")
