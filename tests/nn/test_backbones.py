"""Shapes and single equations of MobileNetV2, Swin and stochastic depth; test_parity.py compares them as a whole."""

from __future__ import annotations

import torch

from common.nn.layers import DropPath
from common.nn.mobilenet import MobileNetV2
from common.nn.swin import WINDOW, SwinTransformer, partition_windows, shifted_window_mask


@torch.inference_mode()
def test_maps_of_mobilenet():
    maps = MobileNetV2().eval()(torch.rand(1, 3, 33, 49))
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 9, 13), (32, 5, 7), (96, 3, 4), (1280, 3, 4)]


@torch.inference_mode()
def test_maps_of_swin():
    """Sides that are no multiple of the stride are padded."""
    network = SwinTransformer(8, (1, 2, 2), (1, 2, 2)).eval()
    maps = network(torch.rand(2, 3, 32, 70))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 8, 18), (2, 16, 4, 9), (2, 32, 2, 5)]
    assert network.widths == (8, 16, 32)


@torch.inference_mode()
def test_swin_images_of_a_batch_are_independent():
    network = SwinTransformer(8, (2, 2, 2), (1, 2, 2)).eval()
    images = torch.rand(2, 3, 64, 64)
    for both, one in zip(network(images), network(images[1:]), strict=True):
        torch.testing.assert_close(both[1:], one)


def test_windows_are_cut_row_by_row():
    places = torch.arange(14 * 14).view(1, 14, 14, 1)
    windows = partition_windows(places)
    assert windows.shape == (4, 49, 1)
    assert windows[1, :2, 0].tolist() == [7, 8]
    assert windows[2, 0, 0] == 7 * 14


def test_shifted_windows_mask_tokens_of_opposite_borders():
    """A map of one window, shifted by 3: rows and columns 4 to 6 came from the other border."""
    mask = shifted_window_mask(WINDOW, WINDOW, torch.device("cpu")).view(WINDOW, WINDOW, WINDOW, WINDOW)
    side = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    region = 2 * side[:, None] + side
    expected = torch.where(region[:, :, None, None] == region, 0.0, -100.0)
    assert torch.equal(mask, expected)
    assert not shifted_window_mask(2 * WINDOW, 2 * WINDOW, torch.device("cpu"))[0].any()  # no border in the first


def test_drop_path_leaves_out_whole_samples():
    drop = DropPath(0.5).train()
    out = drop(torch.ones(1000, 3))
    assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert (out == out[:, :1]).all()
    assert 400 < (out[:, 0] > 0).sum() < 600
    assert torch.equal(drop.eval()(torch.ones(4, 3)), torch.ones(4, 3))
