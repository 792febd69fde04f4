"""Descriptors of masks and their similarity, against numbers worked out by hand."""

from __future__ import annotations

import torch

from tests.support.small_refiner import BLACK_FRAME, ROW_TOKENS, PlantedDINO, rectangle, small_dino


def test_descriptors_are_means_weighed_by_area():
    """Six rows of the upper patches and eight of the lower: (0.75, 1) / 1.25 = (0.6, 0.8), 0.75 + 1 patches."""
    descriptors, area = PlantedDINO(ROW_TOKENS).describe(
        ROW_TOKENS, torch.stack([rectangle(2, 16, 0, 8), torch.zeros_like(BLACK_FRAME[..., 0]).bool()])
    )
    torch.testing.assert_close(descriptors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert area.tolist() == [1.75, 0.0]


def test_similarity_is_the_cosine_of_descriptors():
    dino, upper = PlantedDINO(ROW_TOKENS), rectangle(0, 8, 0, 24)
    others = torch.stack([rectangle(2, 16, 0, 8), rectangle(8, 16, 0, 24), upper, torch.zeros_like(upper)])
    torch.testing.assert_close(
        dino.similarity(BLACK_FRAME, ROW_TOKENS, upper, others), torch.tensor([0.6, 0.0, 1.0, -1.0])
    )
    assert dino.crops == 0
    assert dino.similarity(BLACK_FRAME, ROW_TOKENS, torch.zeros_like(upper), others).tolist() == [-1.0] * 4


def test_small_objects_are_compared_in_a_crop():
    """5 x 5 pixels are less than a patch: both masks of the pair are seen in the crop, whose tokens are all alike."""
    dino, small = PlantedDINO(ROW_TOKENS), rectangle(1, 6, 1, 6)
    others = torch.stack([rectangle(10, 15, 1, 6), rectangle(0, 8, 0, 24)])
    torch.testing.assert_close(dino.similarity(BLACK_FRAME, ROW_TOKENS, small, others), torch.ones(2))
    assert dino.crops == 2


@torch.inference_mode()
def test_a_crop_at_the_border_is_padded():
    dino = small_dino()
    corner = rectangle(14, 16, 22, 24)
    similarity = dino.similarity(BLACK_FRAME, dino.encode(BLACK_FRAME), corner, corner[None])
    torch.testing.assert_close(similarity, torch.ones(1))
