"""What the tests of reading and writing share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor

from common.errors import InputError

Refuses = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def refuses() -> Refuses:
    """A context in which an InputError must be raised, on one line that has all the given words in it."""

    @contextmanager
    def check(*words: object) -> Iterator[None]:
        with pytest.raises(InputError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert not [word for word in words if str(word) not in message], message

    return check


@pytest.fixture
def clip() -> Tensor:
    """A smooth clip, uint8 (30, 48, 64, 3): a ramp that gets lighter, with a bright square that moves."""
    frames = torch.zeros(30, 48, 64, 3)
    frames += torch.linspace(0, 90, 64)[:, None] + torch.tensor([0.0, 30.0, 60.0])
    frames += 3 * torch.arange(30)[:, None, None, None]
    for index in range(30):
        frames[index, 16:32, index : index + 16, 0] = 250
    return frames.to(torch.uint8)
