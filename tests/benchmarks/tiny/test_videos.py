"""Tiny: held out, scored like DAVIS."""

from dataclasses import replace

import pytest
import torch

from common.benchmarks.tiny.videos import Tiny, TinyVOTS
from common.errors import InputError
from common.synthetic import PRESETS, SyntheticClips
from common.video import FrameMasks, Prompt, open_video


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


def test_vots_measures_count_from_the_frame_after_that_in_which_a_target_is_given() -> None:
    """Two targets of 4 pixels, given at frames 0 and 2 of 4; hand-counted."""
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 0], mask[1, 3] = True, True
    gone = mask & torch.tensor([True, False])[:, None, None]
    prompts = (Prompt(1, 0, mask=mask[0]), Prompt(2, 2, mask=mask[1]))
    video = replace(
        open_video(torch.zeros(4, 4, 4, 3, dtype=torch.uint8), "v"),
        targets=(1, 2),
        prompts=prompts,
        truth=[gone, gone, mask, gone],
    )
    half = mask.clone()
    half[0, 0, 2:] = False
    # target 1: 1/2, 1, missed -> quality 1/2; target 2 counts in frame 3 alone, where it is absent and reported: 0
    answered = [mask, half, mask, mask & torch.tensor([False, True])[:, None, None]]
    answers = [FrameMasks(t, (1, 2), masks, torch.ones(2)) for t, masks in enumerate(answered)]
    tiny = TinyVOTS(videos=1)
    metric = tiny.metric()
    metric.extend(**tiny.measure(video, answers))
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found["Quality"] == pytest.approx(0.25)
    assert found["Accuracy"] == pytest.approx(0.375)  # 3/4 of the first, 0 of the second, never met
    assert found["Robustness"] == pytest.approx(2 / 3)
    assert found["NRE"] == pytest.approx(1 / 3)
