"""UniVS where nothing is found, and where a name is asked for that nobody trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.benchmarks.tiny_tasks import TinyVis, TinyVps
from common.evaluation import evaluate
from common.video import Prompt, TensorFrames, Video
from methods.univs.inference import InferenceSettings
from methods.univs.model import UniVs
from methods.univs.session import UniVsSession
from methods.univs.settings import preset
from tests.methods.fake_univs import PaintedUniVs

SETTINGS = InferenceSettings(clip=3, memory=3, points=4, short_side=None)
SMALL = dict(videos=2, frames=8, size=(32, 48))  # VPQ has windows of up to 8 frames


def answers(model, video: Video):
    session = UniVsSession(model, SETTINGS)
    for index, frame in enumerate(video):
        yield from session.step(frame, [prompt for prompt in video.prompts if prompt.frame == index])
    yield from session.finish()


@pytest.mark.parametrize(("kind", "number"), [(TinyVis, "AP"), (TinyVps, "VPQ")])
def test_a_video_without_detections_is_scored_written_and_read_again(kind, number, tmp_path):
    """The learnable queries find painted objects, and the frames are black."""
    benchmark = kind(**SMALL)
    model = PaintedUniVs(torch.full((3, 8), 4.0))
    metric = benchmark.metric()
    for video in benchmark:
        dark = replace(video, frames=TensorFrames(torch.zeros(8, 32, 48, 3, dtype=torch.uint8)))
        written = list(benchmark.write(video, answers(model, dark), tmp_path / "me"))
        assert [answer.targets for answer in written] == [()] * 8
        metric.extend(**benchmark.measure(video, iter(written)))
    assert metric.compute()[number] == 0
    assert evaluate(benchmark, tmp_path / "me").numbers[number] == 0


@pytest.mark.parametrize("stuff", [(), ("a pangolin",), ("a pangolin", "mud")])
def test_any_name_may_be_asked_for(stuff):
    torch.manual_seed(0)
    video = replace(TinyVis(**SMALL)[0], prompts=(Prompt(1, vocabulary=("a pangolin", "mud"), stuff=stuff),))
    found = list(answers(UniVs(preset("nano")).eval(), video))
    assert [answer.frame for answer in found] == list(range(8))
    assert {place for answer in found for place in answer.categories or ()} <= {0, 1}
