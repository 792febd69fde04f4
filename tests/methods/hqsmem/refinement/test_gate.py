"""The gate and the merging of masks, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from methods.hqsmem.refinement.gate import Refiner, RefineSettings, label_map
from methods.hqsmem.refinement.sam_hq import SAMHQ
from tests.support.small_refiner import BLACK_FRAME, ROW_TOKENS, PlantedDINO, rectangle, small_sam


class PlantedSAM(SAMHQ):
    """A SAM-HQ with proposals chosen by a test, which counts its calls."""

    def __init__(self, proposals: Tensor) -> None:
        super().__init__(small_sam().network)
        self.proposals, self.encode_calls, self.propose_calls = proposals, 0, 0

    def encode(self, frame):
        self.encode_calls += 1

    def propose(self, image, boxes=None, points=None, labels=None):
        self.propose_calls += 1
        return self.proposals, torch.ones(self.proposals.shape[:2])


UPPER, LOWER, MOSTLY_LOWER = rectangle(0, 8, 0, 24), rectangle(8, 16, 0, 24), rectangle(2, 16, 0, 8)


@pytest.mark.parametrize(
    ("threshold", "accepted"),
    [(0.5, True), (0.59, True), (0.61, False), (0.99, False)],
)
def test_the_most_similar_proposal_is_taken_where_it_is_similar_enough(threshold, accepted):
    sam = PlantedSAM(torch.stack([LOWER, MOSTLY_LOWER, LOWER])[None])
    out = Refiner(sam, PlantedDINO(ROW_TOKENS), RefineSettings(threshold))(BLACK_FRAME, UPPER[None])
    assert out.similarity.item() == pytest.approx(0.6)
    assert out.accepted.tolist() == [accepted]
    assert torch.equal(out.masks[0], MOSTLY_LOWER if accepted else UPPER)


def test_the_threshold_must_be_exceeded():
    sam = PlantedSAM(torch.stack([UPPER] * 3)[None])
    dino = PlantedDINO(torch.ones(1, 2, 3))
    for threshold, accepted in ((1.0, False), (0.999, True)):
        assert Refiner(sam, dino, RefineSettings(threshold))(BLACK_FRAME, UPPER[None]).accepted.tolist() == [accepted]


def test_without_a_threshold_the_first_proposal_is_taken():
    sam = PlantedSAM(torch.stack([LOWER, UPPER, UPPER])[None])
    out = Refiner(sam, None, RefineSettings(threshold=None))(BLACK_FRAME, UPPER[None])
    assert torch.equal(out.masks[0], LOWER)


def test_empty_masks_and_empty_proposals():
    empty = torch.zeros_like(UPPER)
    sam = PlantedSAM(torch.stack([empty] * 3)[None])
    for settings in (RefineSettings(-1.0), RefineSettings(None)):
        refiner = Refiner(sam, PlantedDINO(ROW_TOKENS), settings)
        out = refiner(BLACK_FRAME, torch.stack([empty, UPPER]))
        assert out.accepted.tolist() == [False, False]
        assert torch.equal(out.masks, torch.stack([empty, UPPER]))
    before = sam.encode_calls
    assert not refiner(BLACK_FRAME, empty[None]).masks.any()
    assert refiner(BLACK_FRAME, empty[:0].new_zeros(0, 16, 24)).masks.shape == (0, 16, 24)
    assert sam.encode_calls == before  # nothing to refine


def test_a_frame_is_encoded_once_for_all_targets():
    sam, dino = PlantedSAM(torch.stack([UPPER] * 6).view(2, 3, 16, 24)), PlantedDINO(ROW_TOKENS)
    Refiner(sam, dino, RefineSettings())(BLACK_FRAME, torch.stack([UPPER, LOWER]))
    assert (sam.encode_calls, sam.propose_calls) == (1, 1)


@pytest.mark.parametrize(
    "settings", [{"box": False}, {"positive_points": -1}, {"box": False, "negative_points": -2, "positive_points": 1}]
)
def test_no_prompt_is_refused(settings):
    with pytest.raises(InputError, match="prompt with a box"):
        RefineSettings(**settings)


def test_contested_pixels_go_to_the_highest_probability():
    """Both masks contain the middle column; the second has the higher probability in the upper row only."""
    masks = torch.tensor([[[1, 1, 0], [1, 1, 0]], [[0, 1, 1], [0, 1, 0]]]).bool()
    prob = torch.tensor([[[0.9, 0.4, 0.0], [0.9, 0.5, 0.0]], [[0.0, 0.5, 0.0], [0.0, 0.5, 0.9]]])
    assert label_map(masks, prob, (7, 3)).tolist() == [[7, 3, 3], [7, 7, 0]]
    assert label_map(masks[:0], prob[:0], ()).tolist() == [[0, 0, 0], [0, 0, 0]]
