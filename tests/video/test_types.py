"""Prompts and frame masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.video import FrameMasks, Prompt

MASK = torch.eye(4, dtype=torch.bool)
POINTS = torch.tensor([[1.0, 2.0]])
ONE = torch.tensor([1])


@pytest.mark.parametrize(
    "kind",
    [
        {"mask": MASK},
        {"mask": MASK, "image": torch.zeros(4, 4, 3, dtype=torch.uint8)},
        {"box": (0.0, 0.0, 2.0, 3.0)},
        {"box": (0.0, 1.0, 5.0, 4.0), "image": torch.zeros(4, 5, 3, dtype=torch.uint8)},
        {"points": POINTS, "labels": ONE},
        {"box": (0.0, 0.0, 2.0, 3.0), "points": POINTS, "labels": ONE},
        {"text": "the small red blob"},
        {"vocabulary": ("cat", "dog")},
    ],
)
def test_each_kind_of_prompt(kind: dict[str, Any]) -> None:
    assert Prompt(254, 3, **kind).frame == 3


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({}, "exactly one"),
        ({"mask": MASK, "text": "a cat"}, "exactly one"),
        ({"box": (0, 0, 2, 3), "vocabulary": ("cat",)}, "exactly one"),
        ({"labels": ONE}, "exactly one"),
        ({"mask": MASK.float()}, "boolean"),
        ({"mask": MASK[None]}, "boolean"),
        ({"mask": ~MASK & MASK}, "empty"),
        ({"points": POINTS}, "label"),
        ({"points": POINTS, "labels": torch.tensor([1, 0])}, "label"),
        ({"points": POINTS[0], "labels": torch.tensor([1, 0])}, "(K, 2)"),
        ({"points": POINTS[:0], "labels": ONE[:0]}, "(K, 2)"),
        ({"box": (3, 0, 3, 4)}, "x0 < x1"),
        ({"box": (0, 0, float("nan"), 4)}, "not finite"),
        ({"text": " "}, "text is empty"),
        ({"vocabulary": ()}, "vocabulary is empty"),
        ({"mask": MASK, "image": torch.zeros(4, 5, 3, dtype=torch.uint8)}, "(4, 5)"),
        ({"mask": MASK, "image": torch.zeros(4, 4, 3)}, "the query image is torch.float32"),
        ({"box": (0, 0, 5.5, 4), "image": torch.zeros(4, 5, 3, dtype=torch.uint8)}, "4x5"),
        ({"box": (0, 0, 5, 4.5), "image": torch.zeros(4, 5, 3, dtype=torch.uint8)}, "4x5"),
        ({"box": (-1, 0, 5, 4), "image": torch.zeros(4, 5, 3, dtype=torch.uint8)}, "leaves its image"),
        ({"box": (0, -1, 5, 4), "image": torch.zeros(4, 5, 3, dtype=torch.uint8)}, "leaves its image"),
    ],
)
def test_wrong_prompt_names_target_and_frame(wrong: dict[str, Any], word: str, refuses) -> None:
    with refuses("target 2", "frame 7", word):
        Prompt(2, 7, **wrong)


@pytest.mark.parametrize(("target", "frame"), [(0, 0), (255, 0), (1, -1)])
def test_ids_and_frames_out_of_range(target: int, frame: int, refuses) -> None:
    with refuses(f"target {target}", f"frame {frame}"):
        Prompt(target, frame, mask=MASK)


def test_logits_become_masks_that_do_not_overlap() -> None:
    logits = torch.tensor([[[1.0, 2.0, -1.0, 0.0]], [[1.0, 3.0, -2.0, 0.5]]])
    scores = torch.tensor([0.1, 0.2])
    answer = FrameMasks.from_logits(5, (2, 9), logits, scores)
    assert (answer.frame, answer.targets) == (5, (2, 9))
    assert answer.masks.tolist() == [[[True, False, False, False]], [[False, True, False, True]]]  # a tie: the first
    both = FrameMasks.from_logits(5, (2, 9), logits, scores, overlap=True)
    assert torch.equal(both.masks, logits > 0)


@given(st.integers(0, 4), st.integers(0, 2**31))
def test_without_overlap_a_pixel_has_one_target_and_none_is_lost(number: int, seed: int) -> None:
    logits = torch.randn(number, 5, 6, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    answer = FrameMasks.from_logits(0, tuple(range(1, number + 1)), logits, torch.zeros(number))
    assert torch.equal(answer.masks.sum(0), (logits > 0).any(0).long())
    assert (logits[answer.masks] > 0).all()


def test_select_keeps_the_order_asked_for() -> None:
    answer = FrameMasks(0, (3, 8), torch.stack([MASK, ~MASK]), torch.zeros(2))
    assert torch.equal(answer.select((8, 5, 3)), torch.stack([~MASK, MASK & ~MASK, MASK]))
    assert answer.select(()).shape == (0, 4, 4)


def test_label_map_gives_overlaps_to_the_last_target() -> None:
    answer = FrameMasks(0, (3, 8), torch.stack([torch.ones_like(MASK), MASK]), torch.zeros(2))
    assert torch.equal(answer.label_map(), torch.where(MASK, 8, 3).byte())
    nothing = FrameMasks(0, (), MASK[None][:0], torch.zeros(0))
    assert nothing.label_map().tolist() == [[0] * 4] * 4


def test_masks_must_fit_their_targets() -> None:
    for masks in (MASK, MASK[None].float(), MASK[None].expand(2, 4, 4)):
        with pytest.raises(ValueError, match="frame 6: masks must be boolean"):
            FrameMasks(6, (1,), masks, torch.zeros(1))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"vocabulary": ("cat", "dog", "cat")}, "'cat' is named twice"),
        ({"vocabulary": ("cat", " ")}, "' ' is empty"),
        ({"vocabulary": ("cat", "dog"), "stuff": ("sky",)}, "'sky' is stuff but not in the vocabulary"),
        ({"text": "a cat", "stuff": ("sky",)}, "'sky' is stuff but not in the vocabulary"),
    ],
)
def test_a_vocabulary_names_each_category_once(wrong: dict[str, Any], word: str, refuses) -> None:
    with refuses("target 1", word):
        Prompt(1, **wrong)


def test_stuff_says_which_names_cannot_be_counted() -> None:
    prompt = Prompt(1, vocabulary=("cat", "sky"), stuff=("sky",))
    assert prompt.kinds == ("vocabulary",)
    assert prompt.stuff == ("sky",)


def test_categories_and_class_scores_must_fit_their_targets() -> None:
    masks, scores = MASK[None].expand(2, -1, -1), torch.ones(2)
    answer = FrameMasks(0, (1, 300), masks, scores, (0, 4), torch.zeros(2, 5))
    assert answer.categories == (0, 4)
    with pytest.raises(ValueError, match="frame 0: target 300 does not fit into a label map"):
        answer.label_map()
    with pytest.raises(ValueError, match="1 categories for 2 targets"):
        FrameMasks(0, (1, 2), masks, scores, (0,))
    with pytest.raises(ValueError, match="3 class scores for 2 targets"):
        FrameMasks(0, (1, 2), masks, scores, (0, 1), torch.zeros(3, 5))


def test_given_masks_replace_those_of_their_targets() -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 1, 1]], [[0, 0, 0, 0]]], dtype=torch.bool)
    answer = FrameMasks(5, (2, 4, 6), masks, torch.tensor([0.2, 0.4, 0.6]))
    given = {6: torch.tensor([[0, 1, 1, 0]], dtype=torch.bool), 2: torch.tensor([[0, 0, 1, 0]], dtype=torch.bool)}
    new = answer.with_masks(given)
    assert new.masks.int().tolist() == [[[0, 0, 1, 0]], [[0, 0, 0, 1]], [[0, 1, 0, 0]]]
    assert new.scores.tolist() == pytest.approx([1, 0.4, 1])
    assert answer.with_masks(given, overlap=True).masks.int().tolist() == [
        [[0, 0, 1, 0]],
        [[0, 0, 1, 1]],
        [[0, 1, 1, 0]],
    ]
    assert answer.masks.int().tolist() == masks.int().tolist()


def test_a_given_mask_inside_another_is_not_lost() -> None:
    logits = torch.full((3, 6, 6), -10.0)
    logits[0, :5, :5] = 10  # given
    logits[1, 1:3, 1:3] = 10  # given, inside
    logits[2, :, 2:] = 20  # tracked
    scores = torch.ones(3)
    alone = FrameMasks.from_logits(0, (1, 2, 3), logits, scores, given={1, 2})
    assert alone.masks.flatten(1).sum(1).tolist() == [21, 4, 24 - 15]
    assert alone.masks.sum(0).max() == 1
    assert torch.equal(FrameMasks.from_logits(0, (1, 2, 3), logits, scores, overlap=True).masks, logits > 0)


def test_arrays_and_lists_are_taken_for_tensors() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3] = 255
    assert Prompt(1, mask=mask).mask.dtype == torch.bool
    assert Prompt(1, mask=mask // 255).mask.sum() == Prompt(1, mask=mask > 0).mask.sum() == 12
    assert Prompt(1, mask=mask.tolist()).mask.sum() == Prompt(1, mask=(mask > 0).tolist()).mask.sum() == 12
    prompt = Prompt(1, points=[[1, 2], [3, 4]], labels=[1, 0])
    assert prompt.points.tolist() == [[1, 2], [3, 4]]
    assert prompt.labels.dtype == torch.int64
    assert Prompt(1, points=np.array([[1.5, 2]]), labels=np.array([1])).points.dtype == torch.float32
    assert Prompt(1, box=np.array([1, 2, 3, 4])).box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mask": np.full((4, 6), 7, np.uint8)}, "0 and 255"),
        ({"mask": [[0, 256]]}, "0 to 255"),
        ({"mask": [[0, 1], [1]]}, "the mask is not an array of numbers"),
        ({"mask": np.array([[0.0, 1.0]])}, "boolean"),
        ({"points": [[1, 2]], "labels": [0.5]}, "labels are 1 on the target and 0 off it"),
        ({"points": [[1, 2]], "labels": [float("nan")]}, "labels are 1 on the target and 0 off it"),
        ({"points": [[1, 2]], "labels": [5]}, "labels are 1 on the target and 0 off it"),
        ({"points": [[1, float("nan")]], "labels": [1]}, "not finite"),
        ({"box": (1, 2, float("inf"), 4)}, "not finite"),
        ({"points": "1,2", "labels": [1]}, "not numbers"),
        ({"box": (1, 2, 3)}, "not numbers"),
    ],
)
def test_coordinates_and_labels_that_are_none(fields: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Prompt(1, **fields)
