"""UniVS where nothing is found, and where a name is asked for that nobody trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.benchmarks.tiny.tasks import TinyVIS, TinyVPS
from common.evaluation.submission import evaluate
from common.video import Prompt, TensorFrames, Video
from methods.univs.inference.settings import InferenceSettings
from methods.univs.network.model import UniVSNetwork
from methods.univs.session import UniVSSession
from methods.univs.settings import preset
from tests.support.fake_univs import PaintedUniVs

SETTINGS = InferenceSettings(clip=3, memory=3, points=4, short_side=None)
SMALL = dict(videos=2, frames=8, size=(32, 48))  # VPQ has windows of up to 8 frames


def answers(model, video: Video):
    session = UniVSSession(model, SETTINGS)
    for index, frame in enumerate(video):
        yield from session.step(frame, [prompt for prompt in video.prompts if prompt.frame == index])
    yield from session.finish()


@pytest.mark.parametrize(("kind", "number"), [(TinyVIS, "AP"), (TinyVPS, "VPQ")])
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
    video = replace(TinyVIS(**SMALL)[0], prompts=(Prompt(1, vocabulary=("a pangolin", "mud"), stuff=stuff),))
    found = list(answers(UniVSNetwork(preset("nano")).eval(), video))
    assert [answer.frame for answer in found] == list(range(8))
    assert {place for answer in found for place in answer.categories or ()} <= {0, 1}
