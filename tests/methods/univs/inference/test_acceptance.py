"""Which predicted masks UniVS accepts, by hand."""

from __future__ import annotations

import torch

from methods.univs.inference.acceptance import accept_first, accept_tracked, most_similar_queries
from methods.univs.network.decoder import Predictions
from methods.univs.settings import InferenceSettings


def predictions(*rows: list[float], embeddings: torch.Tensor | None = None) -> Predictions:
    """Masks of one row of pixels on one frame."""
    masks = torch.tensor(rows)[:, None, None]
    return Predictions(
        masks, torch.zeros(len(rows), 1), torch.ones(len(rows), 1, 2) if embeddings is None else embeddings
    )


def test_first_masks_must_overlap_the_prompt_masks():
    # at stride 4: predictions cover the first, and all, of two cells; the prompts cover the first, and 4 pixels
    left, right = torch.zeros(4, 8, dtype=torch.bool), torch.zeros(4, 8, dtype=torch.bool)
    left[:, :4] = True
    right[:, 7] = True
    settings = InferenceSettings(min_first_iou=0.2, small_area=8)
    candidates = predictions([9.0, -9.0], [9.0, 9.0], [9.0, -9.0])
    accepted = accept_first(candidates, [(0, left), (0, right), None], (4, 8), settings).accepted
    # IoU 1; 4 / 32 < 0.2 * 4 / 8 = 0.1 is wrong, so accepted; a box has no mask to be compared with
    assert accepted.tolist() == [True, True, True]
    accepted = accept_first(
        candidates, [(0, left), (0, right), None], (4, 8), InferenceSettings(min_first_iou=0.3, small_area=4)
    ).accepted
    assert accepted.tolist() == [True, False, True]


def test_first_masks_compete_by_iou_squared():
    whole = torch.ones(4, 8, dtype=torch.bool)
    left = whole.clone()
    left[:, 4:] = False
    masks = accept_first(
        predictions([5.0, 5.0], [9.0, -9.0]), [(0, whole), (0, left)], (4, 8), InferenceSettings()
    ).masks
    assert masks[:, 0, 0].tolist() == [[0.0, 5.0], [9.0, -9.0]]  # both are all right: the larger probability


def test_tracked_masks_must_be_consistent_with_the_memory_and_keep_their_share():
    same, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    candidates = predictions([9.0] * 4, [5.0, 5.0, 5.0, -9.0], [9.0] * 4, embeddings=torch.stack([same, same, same]))
    settings = InferenceSettings()
    competing = accept_tracked(candidates, [same, same, other], 0.5, settings.min_area_share)
    assert competing.accepted.tolist() == [True, False, False], (
        "the second loses all of its pixels, the third is another target"
    )
    alone = accept_tracked(candidates, [same, same, other], 0.5, None)
    assert alone.accepted.tolist() == [True, True, False]
    assert torch.equal(alone.masks, candidates.masks)
    # entities: a class score in place of the second similarity, and masks as they are
    entities = accept_tracked(candidates, [same, same, other], 0.5, 0.5, torch.tensor([0.1, 0.9, 0.9]))
    assert entities.accepted.tolist() == [False, True, False]
    assert torch.equal(entities.masks, candidates.masks)


def test_tracking_by_similarity_selects_the_most_similar_learnable_query():
    embeddings = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]], [[0.0, 3.0]]])
    learnable = predictions([1.0], [2.0], [3.0], embeddings=embeddings)
    best = most_similar_queries(learnable, [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.1]])])
    assert best.masks.flatten().tolist() == [3.0, 1.0]
