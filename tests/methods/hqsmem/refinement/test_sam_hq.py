"""Preprocessing and proposals of SAM-HQ, on a small network."""

from __future__ import annotations

import pytest
import torch

from methods.hqsmem.refinement.sam_hq import SAMHQ
from tests.support.small_refiner import small_sam


@pytest.fixture(scope="module")
def sam() -> SAMHQ:
    return small_sam()


@torch.inference_mode()
def test_a_frame_is_padded_below_and_to_the_right(sam):
    pixels, inner = sam.preprocess(torch.full((1, 3, 40, 80), 255, dtype=torch.uint8))
    assert inner == (32, 64)
    assert pixels.shape == (1, 3, 64, 64)
    assert not pixels[:, :, 32:].any()
    white = (255 - 123.675) / 58.395
    torch.testing.assert_close(pixels[0, 0, :32], torch.full((32, 64), white))


@torch.inference_mode()
def test_proposals_of_a_target_do_not_depend_on_the_others(sam):
    frame = torch.randint(0, 256, (16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[2.0, 3, 9, 9], [10, 1, 20, 14]])
    image = sam.encode(frame)
    masks, ious = sam.propose(image, boxes)
    assert masks.shape == (2, 3, 16, 24)
    assert (ious.diff(dim=1) <= 0).all()
    alone, _ = sam.propose(image, boxes[1:])
    assert (alone[0] ^ masks[1]).float().mean() < 0.01
    moved, _ = sam.propose(image, boxes.flip(0))
    assert (moved.flip(0) ^ masks).float().mean() < 0.01
