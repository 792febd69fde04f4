"""UniVS's assignment and losses, by numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from methods.univs.network.decoder import Outputs, Predictions
from methods.univs.training.criterion import (
    Assignment,
    PointSampling,
    Targets,
    assign,
    class_cost,
    class_loss,
    mask_cost,
    mask_losses,
    match,
    output_losses,
    prompt_assignment,
    prompt_reid_losses,
    semantic_loss,
)

LN2, LN3 = math.log(2), math.log(3)
POINTS = PointSampling(8, 3.0, 0.5)


@pytest.fixture
def centre(monkeypatch):
    """All points in the middle of a map: towards its border, where it is read as zero, a flat one is not flat."""
    monkeypatch.setattr(
        PointSampling, "sample", lambda points, logits: torch.full((len(logits), points.num_points, 2), 0.5)
    )


def targets(masks, ids=None, labels=None, valid=None) -> Targets:
    """Targets of one clip from masks (N, T, H, W)."""
    count = len(masks)
    ids = list(range(count)) if ids is None else ids
    return Targets(
        masks[None],
        torch.tensor([ids]),
        torch.tensor([[-1] * count if labels is None else labels]),
        torch.tensor([[True] * count if valid is None else valid]),
    )


def predictions(masks, embeddings=None) -> Predictions:
    """Predictions of one clip from mask logits (Q, T, h, w)."""
    queries, frames = masks.shape[:2]
    embeddings = torch.zeros(queries, frames, 4) if embeddings is None else embeddings
    return Predictions(masks[None], torch.zeros(1, queries, 2), embeddings[None])


def test_class_cost_is_a_sharp_softmax_of_probabilities():
    # sigmoids 1/2 and 3/4; 5 x them 2.5 and 3.75
    cost = class_cost(torch.tensor([[0.0, LN3]]), torch.tensor([1, 0]))
    torch.testing.assert_close(cost, torch.tensor([[-1 / (1 + math.exp(-1.25)), -1 / (1 + math.exp(1.25))]]))


def test_mask_cost():
    # logits 0: entropy ln 2; dice 1 - (2 x 0.5 + 1) / (1 + 1 + 1)
    cost = mask_cost(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(cost, torch.tensor([[5 * LN2 + 5 / 3]]))


def test_matching_is_one_assignment_for_all_frames():
    masks = torch.zeros(2, 3, 16, 16, dtype=torch.bool)
    masks[0, :, :8], masks[1, :, 8:] = True, True
    logits = torch.where(masks.flip(0), 5.0, -5.0)
    logits = torch.cat([torch.full((1, 3, 16, 16), -5.0), logits])
    logits[1, 0] = -logits[1, 0]  # one bad frame of three does not change the partners
    query, target = match(logits, None, masks, torch.tensor([-1, -1]), 64)
    assert dict(zip(query.tolist(), target.tolist(), strict=True)) == {1: 1, 2: 0}


def test_classes_decide_between_equal_masks():
    masks = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    classes = torch.tensor([[-3.0, 3.0], [3.0, -3.0]])
    query, target = match(torch.zeros(2, 1, 4, 4), classes, masks, torch.tensor([0, 1]), 4)
    assert (query.tolist(), target.tolist()) == ([0, 1], [1, 0])


def test_targets_that_do_not_show_are_not_matched():
    assignment = assign(predictions(torch.zeros(3, 1, 4, 4)), targets(torch.ones(2, 1, 4, 4).bool(), [-1, 1]), None, 4)
    assert assignment.target.tolist() == [1]


def test_class_loss():
    # matched: query 0, label 0. Three probabilities of 1/2 and one of 3/4, alpha 0.5, gamma 2; one positive.
    logits = torch.tensor([[[0.0, 0.0], [0.0, LN3]]])
    one = torch.tensor([0])
    focal = 3 * 0.5 * 0.25 * LN2 + 0.5 * 0.5625 * math.log(4)
    goal = targets(torch.ones(1, 1, 2, 2).bool(), labels=[0])
    torch.testing.assert_close(class_loss(logits, goal, Assignment(one, one, one)), torch.tensor(focal + LN2))


def test_prompts_that_only_pad_have_no_class_loss_but_absent_categories_do():
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [9.0, 9.0]]])
    masks = torch.ones(3, 1, 2, 2).bool()
    prompted = targets(masks, [0, -1, -1], [0, 1, 0], [True, True, False])
    expected = 4 * 0.5 * 0.25 * LN2 + LN2  # four probabilities of 1/2 of two rows, one positive
    torch.testing.assert_close(class_loss(logits, prompted, prompt_assignment(prompted)), torch.tensor(expected))


def test_mask_losses_of_a_flat_map():
    # empty truth, logits 0, R = 8: entropy ln 2; dice 1 - 1 / (8 x 0.5 + 1)
    entropy, dice = mask_losses(torch.zeros(1, 6, 6), torch.zeros(1, 24, 24, dtype=torch.bool), POINTS)
    torch.testing.assert_close(entropy, torch.tensor([LN2]))
    torch.testing.assert_close(dice, torch.tensor([0.8]))


def test_points_are_where_the_map_is_uncertain():
    torch.manual_seed(0)
    ramp = torch.linspace(-8, 8, 65).expand(1, 1, 65, 65)
    places = PointSampling(400, 4.0, 0.5).sample(ramp)[0]
    assert places.shape == (400, 2)
    # a quarter of the candidates, the most uncertain ones, lie in the middle of the ramp; the others anywhere
    assert (places[:200, 0] - 0.5).abs().max() < 0.125 * 1.5
    assert (places[200:, 0] - 0.5).abs().max() > 0.4


def test_semantic_loss_is_among_the_categories_that_are_present(centre):
    logits = torch.stack([torch.full((1, 6, 6), value) for value in (1.0, 3.0, 50.0)])[None]
    masks = torch.zeros(3, 1, 24, 24, dtype=torch.bool)
    masks[0] = True
    loss = semantic_loss(logits, targets(masks, [0, 1, -1]), POINTS)
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + math.exp(2))))  # 3 against 1; the absent 50 has no part
    assert semantic_loss(logits, targets(torch.zeros_like(masks), [0, 1, -1]), POINTS) == 0  # void


def test_terms_of_both_parts_are_averaged_over_objects_and_frames(centre):
    masks = torch.zeros(2, 3, 8, 8, dtype=torch.bool)
    outputs = Outputs(predictions(torch.zeros(4, 3, 4, 4)), predictions(torch.full((2, 3, 4, 4), LN3)))
    terms, assignment = output_losses(outputs, targets(masks), targets(masks, [1, 0]), None, False, POINTS)
    # against empty masks: entropies softplus(0) and softplus(ln 3), dice 1 - 1 / (8 p + 1); means over 2 x 3 pairs
    torch.testing.assert_close(terms["mask"], torch.tensor((LN2 + math.log(4)) / 2))
    torch.testing.assert_close(terms["dice"], torch.tensor((0.8 + 1 - 1 / 7) / 2))
    assert terms["class"] == 0
    assert len(assignment.query) == 2
    alone, _ = output_losses(outputs, targets(masks), None, None, False, POINTS)
    torch.testing.assert_close(alone["mask"], torch.tensor(LN2))
    assert "reid_prompt" not in alone


def test_absent_prompts_count_among_the_prompts_of_the_mask_losses():
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    outputs = Outputs(predictions(torch.zeros(1, 1, 4, 4)), predictions(torch.zeros(2, 1, 4, 4)))
    terms, _ = output_losses(outputs, targets(masks[:1]), targets(masks, [4, -1]), None, False, POINTS)
    torch.testing.assert_close(terms["mask"], torch.tensor((LN2 + LN2 / 2) / 2))


@pytest.mark.parametrize("categories", [False, True])
def test_learnable_queries_are_pulled_to_the_prompts_of_their_targets(categories):
    masks = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    rows = 2 * torch.eye(4)[:2, None]
    learned, logits = targets(masks, [0, 1], [7, 7]), torch.zeros(2, 1, 4, 4)
    # prompts: by target, 0 and 1; by category, 7 and 3
    prompted = targets(masks, [7, 3] if categories else [0, 1])
    clip, query = torch.tensor([0, 0]), torch.tensor([0, 1])
    outputs = Outputs(predictions(logits, rows), predictions(logits, rows))
    loss, aux = prompt_reid_losses(outputs, learned, prompted, Assignment(clip, query, query), categories)
    alike, apart = math.log(1 + 2 * math.exp(-2)), math.log(1 + 2 * math.exp(2))
    torch.testing.assert_close(loss, torch.tensor((alike + apart) / 2 if categories else alike))
    assert aux == 0


def test_a_prompt_on_a_frame_without_its_target_is_background():
    masks = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 1] = False
    rows = 2 * torch.eye(4)[:2][None]
    one = torch.tensor([0])
    outputs = Outputs(*(predictions(torch.zeros(1, 2, 4, 4), rows) for _ in range(2)))
    loss, _ = prompt_reid_losses(outputs, targets(masks), targets(masks), Assignment(one, one, one), False)
    torch.testing.assert_close(loss, torch.tensor(math.log(1 + 2 * math.exp(-2))))


def test_prompts_need_no_matching():
    """Permuting prompts and targets together changes nothing; apart it does."""
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    classes = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    goal, turned = targets(masks, labels=[0, 1]), targets(masks, labels=[1, 0])
    same = class_loss(classes.flip(1), turned, prompt_assignment(turned))
    torch.testing.assert_close(class_loss(classes, goal, prompt_assignment(goal)), same)
    assert class_loss(classes, turned, prompt_assignment(turned)) > same
