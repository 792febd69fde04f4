"""The baselines that any method must beat."""

import pytest
import torch

from common.benchmarks.tiny.tasks import TinyVIS, TinyVPS, TinyVSS
from common.errors import InputError
from common.synthetic import SyntheticClips, SyntheticQueries
from common.video import Prompt
from methods.baselines.baselines import AnswerNothing, CopyFirstMask


@pytest.mark.parametrize("kind", [SyntheticClips, SyntheticQueries])
def test_nothing_is_found_whatever_the_prompt(kind):
    video = kind(length=1, frames=4, size=(32, 40))[0]
    answers = list(AnswerNothing().track(video))
    assert [answer.frame for answer in answers] == [0, 1, 2, 3]
    for answer in answers:
        assert answer.targets == video.targets
        assert answer.masks.shape == (len(video.targets), 32, 40)
        assert not answer.masks.any()


def test_nothing_keeps_to_its_targets():
    session, frame = AnswerNothing().session(), torch.zeros(8, 9, 3, dtype=torch.uint8)
    assert session.step(frame)[0].targets == ()
    assert session.step(frame, [Prompt(3, text="the cat"), Prompt(2, box=(0, 0, 4, 4))])[0].targets == (2, 3)
    session.drop(3)
    assert session.step(frame)[0].targets == (2,)
    with pytest.raises(InputError, match="target 3 is not tracked"):
        session.drop(3)
    with pytest.raises(InputError, match="the video is"):
        session.step(frame[:-1])
    session.reset()
    assert [(answer.frame, answer.targets) for answer in session.step(frame[:-1])] == [(0, ())]


@pytest.mark.parametrize("kind", [TinyVIS, TinyVSS, TinyVPS])
def test_nothing_of_a_vocabulary_can_be_scored(kind):
    benchmark = kind(videos=1, frames=8, size=(32, 40))
    answers = list(AnswerNothing().track(benchmark[0]))
    assert {answer.targets for answer in answers} == {()}
    metric = benchmark.metric()
    metric.extend(**benchmark.measure(benchmark[0], iter(answers)))
    assert metric.compute()[benchmark.numbers[0]] == 0


def test_copying_needs_a_mask_on_the_frame():
    video = SyntheticQueries(length=1, frames=2, size=(32, 40))[0]
    with pytest.raises(InputError, match="Copy takes mask on a frame"):
        list(CopyFirstMask().track(video))
