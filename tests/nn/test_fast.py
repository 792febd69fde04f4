"""Every attention of the suite reaches its kernel with strides that all kernels take."""

import pytest
import torch
import torch.nn.functional as F

from common.cli.build import build_method
from common.inference.playback import play, prompts_by_frame
from common.nn.fast import sdpa
from common.nn.sam2 import SAM2
from common.synthetic import SyntheticClips
from common.synthetic.queries import SyntheticQueries
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession

APART = TreeSettings(pathways=3, confidence=1e9)  # no frame is certain: the pathways differ


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """The strides of every query, key and value that reaches torch's function."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    function = F.scaled_dot_product_attention

    def checked(query, key, value, *args, **options):
        seen.extend((name, x.stride()) for name, x in zip(("query", "key", "value"), (query, key, value), strict=True))
        return function(query, key, value, *args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", checked)
    return seen


def unfit(calls: list[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    return [call for call in calls if call[1][-1] != 1 or 0 in call[1]]


def test_expanded_and_transposed_tensors_are_copied(calls):
    query = torch.randn(1, 1, 5, 8).expand(3, 1, 5, 8)
    key, value = torch.randn(3, 1, 8, 7).transpose(2, 3), torch.randn(3, 1, 7, 8)
    expected = F.scaled_dot_product_attention(query.contiguous(), key.contiguous(), value)
    calls.clear()
    assert torch.allclose(sdpa(query, key, value), expected, atol=1e-6)
    assert len(calls) == 3
    assert not unfit(calls)


def test_pathways_that_differ(calls):
    model, video = SAM2("nano", image_size=64).eval(), SyntheticClips("easy", 1, frames=4, size=(64, 64))[0]
    with torch.autocast("cpu", torch.bfloat16):
        session = SAM2LongSession(model, APART, length=4)
        list(play(session, video, prompts_by_frame(video), torch.device("cpu")))
    assert max(len(tree.nodes) for tree in session.trees.values()) > 1
    assert calls
    assert not unfit(calls)


@pytest.mark.parametrize("name", ["hqsmem", "sslvos", "univs", "vqsam"])
def test_every_method(name, calls):
    video = SyntheticQueries("query", 1, frames=4)[0] if name == "vqsam" else SyntheticClips("easy", 1, frames=4)[0]
    with torch.autocast("cpu", torch.bfloat16):
        list(
            play(build_method(name, "nano", []).eval().session(4), video, prompts_by_frame(video), torch.device("cpu"))
        )
    assert calls
    assert not unfit(calls)
