"""UniVS's detection, association and fusion on made-up masks and embeddings, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from methods.univs.inference.detected import bi_softmax, match_entities, select_candidates, suppress_overlaps
from methods.univs.inference.entity import Entity
from methods.univs.inference.memory_pool import MemoryPool
from methods.univs.inference.panoptic import PanopticSegments, fuse_segments, predict_instances
from methods.univs.inference.semantic import class_masks, class_scores
from methods.univs.settings import EntitySettings


def test_suppression_is_of_the_matrix_form():
    overlaps = torch.eye(4)
    overlaps[0, 1] = overlaps[1, 0] = 0.9
    overlaps[1, 2] = overlaps[2, 1] = 0.9
    overlaps[2, 3] = overlaps[3, 2] = 0.8
    # 1 goes for 0, and 2 for 1, though 1 has gone; greedily 2 would stay
    assert suppress_overlaps(overlaps, 0.85).tolist() == [True, False, False, True]


def test_candidates():
    masks = torch.zeros(6, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, :4, :4] = masks[1, 0, :4, :4] = True  # the same box
    masks[2, 0, 4:, 4:] = True
    masks[3, 0, 4:, :4] = masks[4, 0, 4:, :4] = True  # the same stuff
    probs = torch.tensor([[0.5, 0.0], [0.9, 0.0], [0.6, 0.1], [0.2, 0.4], [0.1, 0.7], [0.9, 0.0]])
    quality = torch.tensor([1.0, 0.9, 0.2, 1.0, 1.0, 1.0])  # 2 is not stable, 5 is empty
    stuff = torch.tensor([False, True])
    assert select_candidates(probs, masks, quality, stuff, EntitySettings()).tolist() == [1, 4]
    loose = EntitySettings(max_box_iou=1.0, max_stuff_iou=1.0, min_quality=0.1, max_things=2, max_stuff=1)
    assert select_candidates(probs, masks, quality, stuff, loose).tolist() == [1, 2, 4]
    assert select_candidates(probs, masks & False, quality, stuff, loose).tolist() == []


def test_bi_softmax():
    past = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two entities, one past frame
    current = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])  # one candidate, two frames
    # over one candidate always 1; over entities e^2 / (e^2 + 1) on the first frame, 1 / 2 on the second
    sure = math.exp(2) / (math.exp(2) + 1)
    expected = torch.tensor([[((1 + sure) / 2 + 0.75) / 2], [((1 + 1 - sure) / 2 + 0.75) / 2]])
    torch.testing.assert_close(bi_softmax(past, current), expected)


def test_matching_is_hungarian():
    similarity = torch.tensor([[0.6, 0.5], [0.5, 0.05], [0.0, 0.3]])
    # 0.5 + 0.5 is more than 0.6 + 0.3, which the best first would take
    assert match_entities(similarity, 0.1) == [(0, 1), (1, 0)]
    assert match_entities(similarity, 0.55) == [(0, 0)]
    assert match_entities(similarity, 0.9) == []
    assert match_entities(torch.zeros(0, 2), 0.1) == []


def test_fusion():
    logits = torch.tensor([[2.0, 2.0, 2.0, -1.0], [3.0, 1.0, -1.0, -1.0], [-1.0, 5.0, 8.0, 1.0]])[:, None]
    # times 0.9, 0.7, 0.2: 1.8 1.8 1.8 -.9 | 2.1 .7 -.7 -.7 | -.2 1 1.6 .2
    scores = torch.tensor([0.9, 0.7, 0.2])
    masks = fuse_segments(logits, scores, torch.zeros(3))[:, 0]
    assert masks.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    # shares 2 / 3, 1 / 2 and 1 / 3: what is dropped leaves a hole
    masks = fuse_segments(logits, scores, torch.tensor([0.6, 0.6, 0.0]))[:, 0]
    assert masks.int().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert not fuse_segments(torch.zeros(1, 2, 2), torch.ones(1), torch.zeros(1)).any(), "a logit of 0 claims nothing"


class Window:
    """What predictions need of a clip: masks of 2 x 2 cells."""

    size = (8, 8)

    scene = SimpleNamespace(size=(8, 8), mask_features=torch.zeros(1))


def entity(id: int, probs: list[float], cells: list[list[float]], quality: float = 1.0) -> Entity:
    pool = MemoryPool([0])
    pool.update({0: torch.tensor(cells)}, {})
    classes = torch.tensor(probs)
    return Entity(id, pool, classes, torch.zeros_like(classes), quality=quality)


def test_panoptic_segments_join_stuff_and_keep_its_number():
    numbers = iter(range(7, 99))
    segments = PanopticSegments(torch.tensor([False, True]), 0.6, lambda: next(numbers))
    entities = [
        entity(2, [0.1, 0.8], [[9.0, -9.0], [-9.0, -9.0]]),
        entity(1, [0.9, 0.1], [[-9.0, 9.0], [-9.0, -9.0]]),
        entity(3, [0.1, 0.6], [[-9.0, -9.0], [9.0, -9.0]]),
    ]
    answer = segments.predict(0, Window, entities)  # type: ignore[arg-type]
    assert answer.targets == (1, 7)
    assert answer.categories == (0, 1)
    assert answer.masks[0, :4, 4:].sum() >= 14
    assert answer.masks[1, :, :4].sum() >= 28
    # every corner is as sharp as the other; stuff counts three quarters: 0.75 * 0.8
    torch.testing.assert_close(answer.scores[1] / answer.scores[0], torch.tensor(0.6 / 0.9))
    assert segments.predict(0, Window, entities[:1]).targets == (7,)  # type: ignore[arg-type]


def test_a_predicted_thing_may_lose_more_of_its_area():
    number = lambda: 9  # noqa: E731
    thing, other = entity(1, [0.5], [[2.0, 2.0]] * 2), entity(2, [0.9], [[-1.0, 9.0]] * 2)
    segments = PanopticSegments(torch.tensor([False]), 0.6, number)
    # the other's logits in the eight columns are -1, -1, 0.25, 2.75, 5.25, ...: its quality is 5 / 6, its score 0.75,
    # and 0.75 of its logits is more than 0.5 of 2 in the last five columns, so that the thing keeps 3 / 8
    assert segments.predict(0, Window, [thing, other]).targets == (2,)  # type: ignore[arg-type]
    thing.predicted = True
    assert segments.predict(0, Window, [thing, other]).targets == (1, 2)  # type: ignore[arg-type]


def test_class_history():
    one = entity(1, [0.8, 0.2], [[1.0]], quality=0.5)
    one.pool.update({}, {0: torch.ones(2)})
    one.extend(1, 3)  # a copy
    one.classes = (one.classes + torch.tensor([0.2, 0.4])) / 2  # a detection: half old, half new
    torch.testing.assert_close(one.scores, torch.tensor([(0.8 + 0.5) / 2, (0.2 + 0.3) / 2]))


def test_instances_by_quality_over_the_whole_video():
    entities = [entity(2, [0.8, 0.2], [[9.0]], quality=4.5), entity(1, [0.4, 0.6], [[9.0]], quality=1.0)]
    answer = predict_instances(0, Window, entities, 2, max_quality=4.5)  # type: ignore[arg-type]
    assert answer.targets == (1, 2)
    assert answer.categories == (1, 0)
    # times 1 / (4 + 1) and 4.5 / (4 + 1)
    torch.testing.assert_close(answer.class_scores, torch.tensor([[0.08, 0.12], [0.72, 0.18]]))
    torch.testing.assert_close(answer.scores, torch.tensor([0.12, 0.72]))


def test_semantic_scores():
    classes = torch.tensor([[0.8, 0.1], [0.2, 0.5]])
    masks = torch.tensor([[[0.0, 20.0]], [[0.0, -20.0]]])
    # 0.5 of both, then the first alone
    scores = class_scores(classes, masks)
    torch.testing.assert_close(scores, torch.tensor([[[0.5, 0.8]], [[0.3, 0.1]]]), atol=1e-6, rtol=0)
    answer = class_masks(3, torch.tensor([[[0.5, 0.1]], [[0.3, 0.9]]]), (2, 4))
    assert answer.targets == (1, 2)
    assert answer.categories == (0, 1)
    assert answer.masks.int().tolist() == [[[1, 1, 0, 0]] * 2, [[0, 0, 1, 1]] * 2]
    assert answer.scores.tolist() == pytest.approx([0.5 / 0.8, 0.9])
