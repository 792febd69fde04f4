"""Tiny: held out, scored like DAVIS."""

import pytest
import torch

from common.benchmarks.tiny import Tiny
from common.errors import InputError
from common.video import FrameMasks
from common.video.synthetic import PRESETS, SyntheticClips


def answers(video, masks):
    for t in range(len(video)):
        yield FrameMasks(t, video.targets, masks(t), torch.ones(len(video.targets)))


@pytest.mark.parametrize("preset", PRESETS)
def test_perfect_and_copied_answers(preset):
    benchmark = Tiny(preset, videos=2, frames=12, size=(48, 48))
    perfect, copied = benchmark.metric(), benchmark.metric()
    for video in benchmark:
        perfect.extend(**benchmark.measure(video, answers(video, lambda t, v=video: v.truth[t])))
        first = torch.stack([prompt.mask for prompt in video.prompts])
        measured = benchmark.measure(video, answers(video, lambda t, m=first: m))
        assert measured["j"].shape == (10, len(video.targets))  # neither the first nor the last frame counts
        copied.extend(**measured)
    assert all(
        float(value) == pytest.approx(1) for key, value in perfect.compute().items() if "decay" not in key.lower()
    )
    low, high = (float(next(iter(metric.compute().values()))) for metric in (copied, perfect))
    assert low < 0.7 * high


def test_no_training_seed_meets_it():
    tiny = Tiny(videos=1, seed=10_000)
    assert not torch.equal(tiny[0][0], SyntheticClips("easy", frames=24, seed=10_000)[0][0])


def test_name_and_protocol_say_what_was_scored():
    tiny = Tiny("occlusion", videos=3, frames=9, size=(33, 47), seed=5)
    assert tiny.name == "tiny-occlusion"
    assert len(tiny) == 3
    for part in ("3 generated videos", "9 frames", "33x47", "seed 5", "first and last"):
        assert part in tiny.protocol


def test_unknown_preset():
    with pytest.raises(InputError, match="unknown"):
        Tiny("hard")
