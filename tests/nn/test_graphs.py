"""Compiled steps of SAM 2: traced as one graph each, once however many targets come and go, with equal results.

The backend here is ``eager``, which runs what was traced; `make gpu DEVICE=cpu` compares what inductor compiles.
"""

import pytest
import torch
from torch import nn

from common.nn import graphs
from common.nn.graphs import run, without_graphs
from common.nn.sam2 import SAM2
from common.synthetic import SyntheticClips
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession

PLAIN = TreeSettings(pathways=1, selection=False, modulation=None)


def logits(model: SAM2, targets: int, frames: int = 6, dropped: int | None = None) -> list[torch.Tensor]:
    """Logits of a video; a target is dropped halfway."""
    video = SyntheticClips("easy", 1, frames=frames, size=(64, 64), objects=targets, seed=4)[0]
    session = SAM2LongSession(model, PLAIN, max_lag=0, length=frames)
    session.keep_logits = True
    answers = []
    for index, frame in enumerate(video):
        if index == frames // 2 and dropped is not None:
            session.drop(dropped)
        answers += session.step(frame, [prompt for prompt in video.prompts if prompt.frame == index])
    return [answer.logits for answer in answers]


def test_a_step_runs_as_it_is_on_a_cpu():
    model = nn.Linear(2, 2).eval()
    step = lambda module, x, factor: (module(x) * factor,)  # noqa: E731
    x = torch.ones(1, 2)
    with torch.inference_mode():
        for _ in range(5):
            assert torch.equal(run(model, step, x, 2.0)[0], model(x) * 2)
        with without_graphs():
            assert torch.equal(run(model, step, x, 3.0)[0], model(x) * 3)
    assert model not in graphs._graphs


@pytest.mark.slow
def test_nothing_is_compiled_again_when_targets_come_and_go(monkeypatch):
    monkeypatch.setattr(graphs, "_compiled", {})
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **options: compile(step, backend="eager", **options))
    model = SAM2("nano", image_size=64).eval()
    expected = [logits(model, targets, dropped=dropped) for targets, dropped in ((3, 1), (2, None), (1, None))]
    model.compiled = True
    for targets in (1, 2, 3):  # one and several targets, and sizes that vary
        logits(model, targets, dropped=1 if targets == 3 else None)
    with torch.compiler.set_stance("fail_on_recompile"):
        found = [logits(model, targets, dropped=dropped) for targets, dropped in ((3, 1), (2, None), (1, None))]
    for one, other in zip(expected, found, strict=True):
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True))
