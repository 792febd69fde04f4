"""Masks that are empty, vanish or lie on the border, with smart memory and refinement on.

The predictions of the network are scripted; everything else is the real pipeline.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.video import FrameMasks, Prompt
from methods.hqsmem import HQSMem
from methods.hqsmem.refinement.gate import RefinedMasks, RefineSettings
from methods.hqsmem.session import HQSMemSession
from methods.hqsmem.settings import MemorySettings
from tests.support.small_refiner import with_small_refiner

SIZE, LENGTH, CAPACITY = (33, 47), 12, 3
LEFT, RIGHT = torch.zeros(2, *SIZE, dtype=torch.bool)
LEFT[8:20, 4:16], RIGHT[10:25, 28:40] = True, True
EMPTY = torch.zeros_like(LEFT)


def open_session(per_object: bool = False, **settings) -> HQSMemSession:
    torch.manual_seed(0)
    memory = MemorySettings(gap=1, capacity=CAPACITY, per_object=per_object)
    module = HQSMem(weights="random", sam_hq="random", dino="random", memory=memory, **settings).eval()
    return with_small_refiner(module).session()


def track(
    session: HQSMemSession, prompt_masks: list[Tensor], predicted: Callable[[int], list[Tensor]]
) -> list[FrameMasks]:
    """Track targets 1, 2, ... on noise: annotated on the first frame, then with scripted predictions."""
    generator, predict = torch.Generator().manual_seed(1), session.tracker.predict

    def scripted(frame: Tensor) -> Tensor:
        prob = predict(frame)
        if len(prob) > 1:
            planes = torch.stack([EMPTY, *predicted(session.frame)])
            planes[0] = ~planes.any(0)
            prob = planes * 0.9 + 0.05
        return prob

    session.tracker.predict = scripted  # type: ignore[method-assign]
    answers = []
    for index in range(LENGTH):
        frame = torch.randint(0, 256, (*SIZE, 3), generator=generator, dtype=torch.uint8)
        prompts = [Prompt(row, mask=mask) for row, mask in enumerate(prompt_masks, 1)] if index == 0 else []
        answers += session.step(frame, prompts)
        for group in session.tracker.groups:
            assert all(len(entries) <= CAPACITY for entries in group.engine.bank.lists.values())
    return answers


def record_refinement(session: HQSMemSession) -> tuple[list[Tensor], list[RefinedMasks]]:
    """Return lists to which the session appends the boxes of SAM-HQ and the results of the gate."""
    boxes: list[Tensor] = []
    refined: list[RefinedMasks] = []
    assert session.refiner is not None
    propose, gate = session.refiner.sam.propose, session.refiner.forward

    def recording_propose(image, prompt_boxes, *rest):
        boxes.append(prompt_boxes)
        return propose(image, prompt_boxes, *rest)

    def recording_gate(*inputs):
        refined.append(gate(*inputs))
        return refined[-1]

    session.refiner.sam.propose, session.refiner.forward = recording_propose, recording_gate  # type: ignore[method-assign]
    return boxes, refined


@pytest.mark.parametrize("per_object", [False, True])
def test_masks_that_are_empty_throughout(per_object):
    session = open_session(per_object)
    boxes, _ = record_refinement(session)
    answers = track(session, [LEFT, RIGHT], lambda frame: [EMPTY, EMPTY])
    assert torch.equal(answers[0].masks, torch.stack([LEFT, RIGHT]))
    assert [answer.targets for answer in answers] == [(1, 2)] * LENGTH
    assert not any(answer.masks.any() for answer in answers[1:])
    assert not boxes  # there is nothing to refine


@pytest.mark.parametrize("per_object", [False, True])
def test_a_target_that_vanishes_and_comes_back(per_object):
    """Every proposal is accepted: what is empty stays so, the other target is refined all the same."""
    session = open_session(per_object, refinement=RefineSettings(threshold=-1.0), overlap=True)
    boxes, refined = record_refinement(session)
    hidden = range(4, 8)
    answers = track(session, [LEFT, RIGHT], lambda frame: [LEFT, EMPTY if frame in hidden else RIGHT])
    for frame, (answer, frame_boxes, gate) in enumerate(zip(answers[1:], boxes, refined, strict=True), 1):
        assert len(frame_boxes) == (1 if frame in hidden else 2)
        assert frame_boxes[0].tolist() == [4, 8, 15, 19]
        assert gate.accepted.tolist() == [True, frame not in hidden]
        assert answer.masks.flatten(1).any(1).tolist() == [True, frame not in hidden]
        assert answer.scores.isfinite().all()


def test_boxes_at_the_border():
    """Corners of one pixel, whole edges and the frame itself: boxes stay inside, the gate's cosines stay cosines."""
    corner, end, top, side, whole = torch.zeros(5, *SIZE, dtype=torch.bool)
    corner[0, 0], end[-1, -1], top[0], side[:, 0], whole[:] = True, True, True, True, True
    masks = [corner, end, top, side]
    session = open_session(refinement=RefineSettings(threshold=-1.0), overlap=True)
    boxes, refined = record_refinement(session)
    # the network's masks share no pixel
    predictions = [corner, end, top & ~corner, side & ~corner]
    answers = track(session, masks, lambda frame: predictions if frame % 2 else [EMPTY, EMPTY, EMPTY, whole])
    assert boxes[0].tolist() == [[0, 0, 0, 0], [46, 32, 46, 32], [1, 0, 46, 0], [0, 1, 0, 32]]
    assert boxes[1].tolist() == [[0, 0, 46, 32]]
    for gate in refined:
        assert gate.similarity.isfinite().all()
        assert gate.similarity.abs().max() <= 1 + 1e-5
    assert all(answer.masks.shape == (4, *SIZE) for answer in answers)
    assert any(gate.accepted.any() for gate in refined)


@pytest.mark.parametrize("per_object", [False, True])
def test_no_proposal_accepted_for_a_whole_video(per_object):
    """No cosine exceeds 2: answers and memory are those of the tracker without refinement."""
    masks = [LEFT, RIGHT]
    refused = open_session(per_object, refinement=RefineSettings(threshold=2.0))
    _, refined = record_refinement(refused)
    without = open_session(per_object, hqtf=False)
    for one, other in zip(
        track(refused, masks, lambda frame: masks), track(without, masks, lambda frame: masks), strict=True
    ):
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.scores, other.scores)
    assert len(refined) == LENGTH - 1
    assert not any(gate.accepted.any() for gate in refined)
    banks = [session.tracker.groups[0].engine.bank for session in (refused, without)]
    assert [entry.frame for entries in banks[0].lists.values() for entry in entries] == [
        entry.frame for entries in banks[1].lists.values() for entry in entries
    ]
