"""What a session refuses before it changes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.errors import InputError
from common.inference.session import Session
from common.video import FrameMasks, Prompt

FRAME = torch.zeros(6, 8, 3, dtype=torch.uint8)


class Checking(Session):
    """Only checks its frames."""

    kinds = ("mask", "box", "points")

    def __init__(self) -> None:
        self.reset()

    def step(self, frame: Tensor, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
        frame, self.size = self.check(frame, prompts)
        self.frame += 1
        return []

    def finish(self) -> list[FrameMasks]:
        return []

    def drop(self, target: int) -> None:
        del target

    def reset(self) -> None:
        self.frame, self.size = -1, None


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME / 255, r"frame 1: .* not Tensor torch.float32 \(6, 8, 3\); convert values in 0..1 by \(255"),
        (FRAME.numpy().astype(np.float32), r"frame 1: .* not ndarray float32 \(6, 8, 3\); convert values in 0..1"),
        (FRAME.tolist(), "frame 1: it must be uint8 RGB .*, not list; give a tensor, a numpy array or a PIL image"),
        (None, "frame 1: .* not NoneType; give a tensor"),
        (
            Image.new("L", (8, 6)),
            r"frame 1: .* not Image uint8 \(6, 8\); a PIL image is converted by .convert\('RGB'\)",
        ),
        (FRAME.permute(2, 0, 1), r"frame 1: .* \(3, 6, 8\); three channels come last"),
        (FRAME[..., 0], r"frame 1: .* \(6, 8\)"),
        (FRAME[:4], "frame 1 is 4x8, the video is 6x8"),
    ],
)
def test_frames_that_are_not_uint8_rgb(frame: Any, words: str) -> None:
    session = Checking()
    session.step(FRAME)
    with pytest.raises(InputError, match=words) as error:
        session.step(frame)
    assert "\n" not in str(error.value)
    assert (session.frame, session.size) == (0, (6, 8))


@pytest.mark.parametrize(
    "frame", [FRAME, FRAME.numpy(), Image.new("RGB", (8, 6))], ids=lambda frame: type(frame).__name__
)
def test_frames_as_people_have_them(frame: Any) -> None:
    checked, size = Checking().check(frame, ())
    assert torch.equal(checked, FRAME)
    assert size == (6, 8)


def test_a_frame_is_moved_to_the_networks() -> None:
    class Elsewhere(Checking):
        device = torch.device("meta")

    for frame in (FRAME, FRAME.numpy()):
        assert Elsewhere().check(frame, ())[0].device.type == "meta"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"points": [[2, 3], [8.5, 3]], "labels": [1, 0]}, r"the point \(8.5, 3\) lies outside the frame of 6x8"),
        ({"points": [[2, -1]], "labels": [1]}, r"the point \(2, -1\) lies outside"),
        ({"box": (8, 0, 12, 5)}, "lies outside the frame of 6x8"),
        ({"box": (1, -5, 4, 0)}, "lies outside the frame of 6x8"),
        ({"mask": np.ones((8, 6), bool)}, r"the mask is \(8, 6\), the frame is \(6, 8\)"),
    ],
)
def test_prompts_outside_the_frame(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"prompt of target 3 at frame 0: .*{words}"):
        Checking().step(FRAME, [Prompt(3, **fields)])


@pytest.mark.parametrize(
    "fields",
    [{"box": (-3, -2, 1, 1)}, {"box": (7, 5, 20, 20)}, {"box": (-1, -1, 9, 7)}, {"points": [[8, 6]], "labels": [1]}],
)
def test_a_box_may_overlap_the_border(fields: dict[str, Any]) -> None:
    session = Checking()
    session.step(FRAME, [Prompt(3, **fields)])
    assert session.frame == 0
