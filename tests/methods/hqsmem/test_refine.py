"""Refinement: prompts, DINO's descriptors and the gate, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import InputError
from methods.hqsmem.refinement.dino import DINO
from methods.hqsmem.refinement.gate import Refiner, RefineSettings, label_map
from methods.hqsmem.refinement.prompts import boxes_of, sample_points
from methods.hqsmem.refinement.sam_hq import SAMHQ
from tests.support.small_refiner import small_dino, small_sam


def rectangle(y0: int, y1: int, x0: int, x1: int, size: tuple[int, int] = (16, 24)) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


# Prompts.


def test_boxes_are_inclusive_and_hold_all_parts():
    two_parts = rectangle(2, 5, 3, 4) | rectangle(10, 11, 20, 24)
    boxes = boxes_of(torch.stack([rectangle(0, 16, 0, 24), rectangle(7, 8, 9, 10), two_parts]))
    assert boxes.tolist() == [[0, 0, 23, 15], [9, 7, 9, 7], [3, 2, 23, 10]]


def test_points_lie_where_their_labels_say():
    """A box of 10 x 10 pixels, enlarged by 20 %: one pixel on each side."""
    mask = rectangle(3, 13, 5, 15)
    points, labels = sample_points(mask, 5, 200, torch.Generator().manual_seed(0))
    assert labels.tolist() == [1] * 5 + [0] * 200
    x, y = points.long().unbind(1)
    assert mask[y[:5], x[:5]].all()
    assert not mask[y[5:], x[5:]].any()
    assert (x[5:].min(), x[5:].max(), y[5:].min(), y[5:].max()) == (4, 15, 2, 13)


def test_a_mask_of_the_whole_frame_has_no_negative_points():
    _, labels = sample_points(torch.ones(4, 4, dtype=torch.bool), 1, 2, torch.Generator())
    assert labels.tolist() == [1, -10, -10]


# SAM-HQ.


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


# DINO.


class Planted(DINO):
    """Tokens that a test has chosen; of crops, a constant map."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__(small_dino().net, side=16)
        self.tokens, self.crops = tokens, 0

    def encode(self, frame: Tensor) -> Tensor:
        return self.tokens

    def _tokens(self, pixels: Tensor) -> Tensor:
        self.crops += len(pixels)
        return F.one_hot(torch.zeros(len(pixels), 28, 28, dtype=torch.long), 2).permute(0, 3, 1, 2).float()


# Patches of 8 x 8 on 16 x 24 pixels: e_x in the first row, e_y in the second.
ROWS = torch.tensor([[[1.0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]])
FRAME = torch.zeros(16, 24, 3, dtype=torch.uint8)


def test_descriptors_are_means_weighed_by_area():
    """Six rows of the upper patches and eight of the lower: (0.75, 1) / 1.25 = (0.6, 0.8), 0.75 + 1 patches."""
    descriptors, area = Planted(ROWS).describe(
        ROWS, torch.stack([rectangle(2, 16, 0, 8), torch.zeros_like(FRAME[..., 0]).bool()])
    )
    torch.testing.assert_close(descriptors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert area.tolist() == [1.75, 0.0]


def test_similarity_is_the_cosine_of_descriptors():
    dino, upper = Planted(ROWS), rectangle(0, 8, 0, 24)
    others = torch.stack([rectangle(2, 16, 0, 8), rectangle(8, 16, 0, 24), upper, torch.zeros_like(upper)])
    torch.testing.assert_close(dino.similarity(FRAME, ROWS, upper, others), torch.tensor([0.6, 0.0, 1.0, -1.0]))
    assert dino.crops == 0
    assert dino.similarity(FRAME, ROWS, torch.zeros_like(upper), others).tolist() == [-1.0] * 4


def test_small_objects_are_compared_in_a_crop():
    """5 x 5 pixels are less than a patch: both masks of the pair are seen in the crop, whose tokens are all alike."""
    dino, small = Planted(ROWS), rectangle(1, 6, 1, 6)
    others = torch.stack([rectangle(10, 15, 1, 6), rectangle(0, 8, 0, 24)])
    torch.testing.assert_close(dino.similarity(FRAME, ROWS, small, others), torch.ones(2))
    assert dino.crops == 2


@torch.inference_mode()
def test_a_crop_at_the_border_is_padded():
    dino = small_dino()
    corner = rectangle(14, 16, 22, 24)
    similarity = dino.similarity(FRAME, dino.encode(FRAME), corner, corner[None])
    torch.testing.assert_close(similarity, torch.ones(1))


# The gate.


class Proposes(SAMHQ):
    """Proposals that a test has chosen."""

    def __init__(self, proposals: Tensor) -> None:
        super().__init__(small_sam().net)
        self.proposals, self.encoded, self.asked = proposals, 0, 0

    def encode(self, frame):
        self.encoded += 1

    def propose(self, image, boxes=None, points=None, labels=None):
        self.asked += 1
        return self.proposals, torch.ones(self.proposals.shape[:2])


UPPER, LOWER, MOSTLY_LOWER = rectangle(0, 8, 0, 24), rectangle(8, 16, 0, 24), rectangle(2, 16, 0, 8)


@pytest.mark.parametrize(
    ("threshold", "accepted"),
    [(0.5, True), (0.59, True), (0.61, False), (0.99, False)],
)
def test_the_most_similar_proposal_is_taken_where_it_is_similar_enough(threshold, accepted):
    sam = Proposes(torch.stack([LOWER, MOSTLY_LOWER, LOWER])[None])
    out = Refiner(sam, Planted(ROWS), RefineSettings(threshold))(FRAME, UPPER[None])
    assert out.similarity.item() == pytest.approx(0.6)
    assert out.accepted.tolist() == [accepted]
    assert torch.equal(out.masks[0], MOSTLY_LOWER if accepted else UPPER)


def test_the_threshold_must_be_exceeded():
    sam = Proposes(torch.stack([UPPER] * 3)[None])
    dino = Planted(torch.ones(1, 2, 3))
    for threshold, accepted in ((1.0, False), (0.999, True)):
        assert Refiner(sam, dino, RefineSettings(threshold))(FRAME, UPPER[None]).accepted.tolist() == [accepted]


def test_without_a_threshold_the_first_proposal_is_taken():
    sam = Proposes(torch.stack([LOWER, UPPER, UPPER])[None])
    out = Refiner(sam, None, RefineSettings(threshold=None))(FRAME, UPPER[None])
    assert torch.equal(out.masks[0], LOWER)


def test_empty_masks_and_empty_proposals():
    empty = torch.zeros_like(UPPER)
    sam = Proposes(torch.stack([empty] * 3)[None])
    for settings in (RefineSettings(-1.0), RefineSettings(None)):
        refiner = Refiner(sam, Planted(ROWS), settings)
        out = refiner(FRAME, torch.stack([empty, UPPER]))
        assert out.accepted.tolist() == [False, False]
        assert torch.equal(out.masks, torch.stack([empty, UPPER]))
    before = sam.encoded
    assert not refiner(FRAME, empty[None]).masks.any()
    assert refiner(FRAME, empty[:0].new_zeros(0, 16, 24)).masks.shape == (0, 16, 24)
    assert sam.encoded == before  # nothing to ask


def test_a_frame_is_encoded_once_for_all_targets():
    sam, dino = Proposes(torch.stack([UPPER] * 6).view(2, 3, 16, 24)), Planted(ROWS)
    Refiner(sam, dino, RefineSettings())(FRAME, torch.stack([UPPER, LOWER]))
    assert (sam.encoded, sam.asked) == (1, 1)


@pytest.mark.parametrize("settings", [{"box": False}, {"positive": -1}, {"box": False, "negative": -2, "positive": 1}])
def test_no_prompt_is_refused(settings):
    with pytest.raises(InputError, match="prompt with a box"):
        RefineSettings(**settings)


def test_contested_pixels_go_to_the_surest():
    """Both claim the middle column; the second is surer in the upper row only."""
    masks = torch.tensor([[[1, 1, 0], [1, 1, 0]], [[0, 1, 1], [0, 1, 0]]]).bool()
    prob = torch.tensor([[[0.9, 0.4, 0.0], [0.9, 0.5, 0.0]], [[0.0, 0.5, 0.0], [0.0, 0.5, 0.9]]])
    assert label_map(masks, prob, (7, 3)).tolist() == [[7, 3, 3], [7, 7, 0]]
    assert label_map(masks[:0], prob[:0], ()).tolist() == [[0, 0, 0], [0, 0, 0]]
