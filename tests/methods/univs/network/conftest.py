"""A nano network in eval mode, and a clip of random frames."""

from __future__ import annotations

import pytest
import torch

from methods.univs.network.model import UniVSNetwork
from methods.univs.network.scene import Scene
from methods.univs.settings import preset
from tests.support.fake_univs import FRAMES


@pytest.fixture(scope="module")
def network() -> UniVSNetwork:
    torch.manual_seed(0)
    return UniVSNetwork(preset(queries=6)).eval()


@pytest.fixture(scope="module")
def scene(network: UniVSNetwork) -> Scene:
    frames = torch.rand(3, 3, 50, 70, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network.scene(network.encode(frames), torch.tensor([FRAMES]))
