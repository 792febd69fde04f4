"""SAM 2's losses, worked out by hand on a few pixels."""

from __future__ import annotations

import math

import pytest
import torch

from common.nn.losses import dice_loss, focal_loss, mask_iou, sam2_losses


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Probabilities of 2 x 2 masks as logits (1, K, 2, 2)."""
    return torch.tensor([[logit(p) for p in row] for row in rows]).view(1, -1, 2, 2)


TARGET = torch.tensor([[[True, True], [False, False]]])


def test_focal():
    # 0.25 (1-p)^2 (-ln p) on the target, 0.75 p^2 (-ln(1-p)) off it
    on = 0.25 * (0.1**2 * -math.log(0.9) + 0.4**2 * -math.log(0.6))
    off = 0.75 * (0.2**2 * -math.log(0.8) + 0.5**2 * -math.log(0.5))
    got = focal_loss(logits_of([0.9, 0.6, 0.2, 0.5]), TARGET)
    assert got.shape == (1, 1)
    assert got.item() == pytest.approx((on + off) / 4, rel=1e-5)


def test_dice():
    # 1 - (2 (0.9 + 0.6) + 1) / ((0.9 + 0.6 + 0.2 + 0.5) + 2 + 1)
    got = dice_loss(logits_of([0.9, 0.6, 0.2, 0.5]), TARGET)
    assert got.item() == pytest.approx(1 - 4.0 / 5.2, rel=1e-5)
    empty = dice_loss(torch.full((1, 1, 2, 2), -100.0), torch.zeros(1, 2, 2, dtype=torch.bool))
    assert empty.item() == pytest.approx(0.0)


def test_iou_of_thresholded_masks():
    logits = torch.tensor([[[[1.0, -1.0], [1.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])  # a logit of 0 is off
    assert mask_iou(logits, TARGET).tolist() == [[pytest.approx(1 / 3), 0.0]]
    nothing = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert mask_iou(logits, nothing)[0, 1] == 0  # a union of nothing counts as 1


def test_only_the_candidate_of_lowest_loss_is_supervised_but_all_ious_are():
    rows = [0.1, 0.1, 0.9, 0.9], [0.9, 0.9, 0.1, 0.1], [0.6, 0.6, 0.6, 0.6]
    logits, ious = logits_of(*rows).requires_grad_(), torch.tensor([[0.5, 0.4, 0.3]])
    terms = sam2_losses(logits, ious, torch.tensor([0.0]), TARGET)
    best = logits_of(rows[1])
    assert terms["mask"].item() == pytest.approx(focal_loss(best, TARGET).item(), rel=1e-5)
    assert terms["dice"].item() == pytest.approx(dice_loss(best, TARGET).item(), rel=1e-5)
    # true IoUs are 0, 1 and 2 / 4
    assert terms["iou"].item() == pytest.approx((0.5 + 0.6 + 0.2) / 3, rel=1e-5)
    assert terms["occlusion"].item() == pytest.approx(math.log(2))
    (terms["mask"] + terms["dice"] + terms["iou"]).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].abs().min() > 0
    assert logits.grad[0, [0, 2]].abs().max() == 0


def test_the_choice_is_by_twenty_focal_plus_dice():
    # candidate 0 has the smaller dice, candidate 1 the smaller focal; 20 to 1 the second wins
    sharp, flat = [0.999, 0.999, 0.5, 0.5], [0.6, 0.6, 0.4, 0.4]
    logits = logits_of(sharp, flat)
    focal, dice = focal_loss(logits, TARGET)[0], dice_loss(logits, TARGET)[0]
    assert focal[0] + dice[0] < focal[1] + dice[1]
    assert 20 * focal[1] + dice[1] < 20 * focal[0] + dice[0]
    terms = sam2_losses(logits, torch.zeros(1, 2), torch.zeros(1), TARGET)
    assert terms["dice"] == dice[1]


def test_squared_iou_error():
    logits = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    terms = sam2_losses(logits, torch.tensor([[0.5]]), torch.zeros(1), TARGET, iou_l1=False)
    assert terms["iou"].item() == pytest.approx(0.25)


def test_an_absent_object_counts_for_occlusion_only():
    logits = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.cat([TARGET, torch.zeros_like(TARGET)])
    ious, score = torch.full((2, 3), 0.5, requires_grad=True), torch.tensor([2.0, 2.0])
    terms = sam2_losses(logits, ious, score, target)
    alone = sam2_losses(logits[:1], ious[:1], score[:1], TARGET)
    for name in ("mask", "dice", "iou"):
        assert terms[name] == alone[name], name
    # softplus(-2) for the present one, softplus(2) for the absent one
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(2))
    assert terms["occlusion"].item() == pytest.approx(expected, rel=1e-6)
    sum(terms.values()).backward()
    assert logits.grad[1].abs().max() == 0
    assert ious.grad[1].abs().max() == 0


def test_terms_are_sums_over_objects():
    logits, ious = torch.randn(1, 3, 8, 8), torch.rand(1, 3)
    target, score = torch.rand(1, 8, 8) > 0.5, torch.randn(1)
    one = sam2_losses(logits, ious, score, target)
    three = sam2_losses(*(t.expand(3, *t.shape[1:]) for t in (logits, ious, score, target)))
    for name, value in one.items():
        assert three[name].item() == pytest.approx(3 * value.item(), rel=1e-5)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([-1024.0, 1024.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2).clone().requires_grad_()
    total = sum(sam2_losses(logits, torch.zeros(1, 2), torch.tensor([-1000.0]), TARGET).values())
    total.backward()
    assert total.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_is_averaged_in_float32():
    logits, ious = torch.randn(1, 3, 64, 64), torch.rand(1, 3)
    target, score = torch.rand(1, 64, 64) > 0.5, torch.randn(1)
    half = sam2_losses(logits.bfloat16(), ious.bfloat16(), score.bfloat16(), target)
    assert all(value.dtype == torch.float32 for value in half.values())
