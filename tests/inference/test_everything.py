"""Tracking of everything, on a method that finds rectangles and keeps every mask where it was given."""

from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.inference.everything import Everything
from common.inference.session import Session
from common.video import FrameMasks, Prompt

SIZE = (8, 10)
FRAME = torch.zeros(*SIZE, 3, dtype=torch.uint8)


def box(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


class Still(Session):
    """Answers every target's prompt on every frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frame, self.size, self.given = -1, None, {}

    def step(self, frame, prompts=()):
        frame, self.size = self.check(frame, prompts)
        self.frame += 1
        self.given.update({prompt.target: prompt.mask for prompt in prompts})
        targets = tuple(sorted(self.given))
        masks = torch.stack([self.given[t] for t in targets]) if targets else torch.zeros(0, *SIZE, dtype=torch.bool)
        return [FrameMasks(self.frame, targets, masks, torch.ones(len(targets)))]

    def finish(self):
        return []

    def drop(self, target):
        del self.given[target]


class Finder:
    """Finds the masks it was given, a list for each call."""

    device = torch.device("cpu")

    def __init__(self, *found: list[torch.Tensor]) -> None:
        self.found = list(found)

    def session(self, length=None):
        return Still()

    def networks(self):
        return {}

    def propose_masks(self, frame):
        masks = self.found.pop(0)
        return torch.stack(masks) if masks else torch.zeros(0, *SIZE, dtype=torch.bool)


def test_masks_of_the_first_frame_become_targets_unless_they_are_covered():
    whole, part, beside = box(0, 0, 4, 4), box(1, 1, 3, 3), box(4, 0, 8, 4)
    half = box(2, 4, 6, 6) | box(2, 2, 4, 4)  # 4 of its 12 pixels are covered by the first
    session = Everything(Finder([whole, part, beside, half])).session()
    (answer,) = session.step(FRAME)
    assert answer.targets == (1, 2, 3)
    for got, expected in zip(answer.masks, (whole, beside, half), strict=True):
        assert torch.equal(got, expected)
    assert session.step(FRAME)[0].targets == (1, 2, 3), "only the first frame is looked at"
    assert session.frame == 1


def test_every_kth_frame_adds_what_is_new():
    first, second = box(0, 0, 4, 4), box(6, 0, 10, 4)
    session = Everything(Finder([first], [first, second]), every=2).session()
    targets = [session.step(FRAME)[0].targets for _ in range(4)]
    assert targets == [(1,), (1,), (1, 2), (1, 2)]


def test_given_targets_keep_their_ids_and_are_not_found_again():
    mine, other = box(0, 0, 4, 4), box(5, 5, 9, 8)
    session = Everything(Finder([mine, other])).session()
    assert session.step(FRAME, [Prompt(7, mask=mine)])[0].targets == (7, 8)


def test_nothing_found_is_said():
    session = Everything(Finder([], [box(0, 0, 2, 2)])).session()
    with pytest.raises(InputError, match="frame 0: nothing is found"):
        session.step(FRAME)
    assert session.frame == -1
    assert session.step(FRAME)[0].targets == (1,), "the session takes another frame instead"
    assert Everything(Finder([]), every=3).session().step(FRAME)[0].targets == ()


def test_at_most_254_targets(caplog):
    session = Everything(Finder([box(0, 0, 2, 2), box(4, 4, 6, 6), box(8, 0, 10, 2)])).session()
    targets = session.step(FRAME, [Prompt(253, mask=box(0, 7, 9, 8))])[0].targets
    assert targets == (253, 254)
    assert [record.message for record in caplog.records] == [
        "frame 0: more is found, but 254 targets are tracked at most"
    ]


def test_reset_forgets_the_targets():
    session = Everything(Finder([box(0, 0, 2, 2)], [box(0, 0, 2, 2)])).session()
    session.step(FRAME)
    session.reset()
    assert session.step(FRAME)[0].targets == (1,)


def test_corrections_prompts_ahead_and_what_is_asked_for_reach_the_inner_session() -> None:
    calls = []

    class Full(Still):
        correction_kinds = ahead_kinds = ("mask",)
        settable = ("overlap",)

        def correct(self, prompts):
            self.given.update({prompt.target: prompt.mask for prompt in prompts})
            targets = tuple(sorted(self.given))
            return FrameMasks(
                self.frame, targets, torch.stack([self.given[t] for t in targets]), torch.ones(len(targets))
            )

        def prompt_ahead(self, index, frame, prompts):
            calls.append((index, [prompt.target for prompt in prompts]))

    class FullFinder(Finder):
        def session(self, length=None):
            return Full()

    first, second, moved = box(0, 0, 4, 4), box(6, 0, 10, 4), box(0, 4, 4, 8)
    session = Everything(FullFinder([first], [first, second]), every=1).session()
    assert (session.correction_kinds, session.ahead_kinds, session.overlap) == (("mask",), ("mask",), False)
    session.ask("overlap")
    assert session.inner.overlap
    assert session.overlap
    with pytest.raises(InputError, match="gives no logits"):
        session.ask("keep_logits")
    session.step(FRAME)
    session.prompt_ahead(5, FRAME, [Prompt(7, mask=second)])
    assert calls == [(5, [7])]
    assert torch.equal(session.correct([Prompt(1, mask=moved)]).masks[0], moved)
    (answer,) = session.step(FRAME)
    assert answer.targets == (1, 8, 9), (
        "what the corrected mask has left is new, and no id that was given ahead is taken"
    )
