"""Directions of tracking, and prompts that are given ahead of their frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from common.inference.playback import propagations
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import Prompt, Video
from common.video.readers import TensorFrames
from methods.sam2long import SAM2Long

LENGTH, MIDDLE = 6, 3


@pytest.fixture(scope="module")
def nano() -> VideoSegmenter:
    return SAM2Long(weights="nano", image_size=64, pathways=1).eval()


@pytest.fixture(scope="module")
def clip() -> Video:
    return SyntheticClips("easy", 1, frames=LENGTH, size=(32, 48), seed=5, objects=1)[0]


def prompted(clip: Video, *frames: int) -> Video:
    prompts = tuple(Prompt(1, frame, mask=clip.truth[frame][0].bool()) for frame in frames)
    return Video(clip.id, TensorFrames(torch.stack(list(clip))), prompts=prompts)


def test_backward_is_the_reversed_video_tracked_forward(nano: VideoSegmenter, clip: Video) -> None:
    answers = list(nano.track(prompted(clip, LENGTH - 1), "backward"))
    turned = prompted(clip, LENGTH - 1)
    flipped = Video("turned", TensorFrames(torch.stack(list(clip)).flip(0)))
    flipped.prompts = tuple(replace(prompt, frame=0) for prompt in turned.prompts)
    expected = list(nano.track(flipped))
    assert [answer.frame for answer in answers] == list(range(LENGTH))
    for answer, other in zip(answers, reversed(expected), strict=True):
        assert torch.equal(answer.masks, other.masks)


def test_both_directions_answer_every_frame_once_in_order(nano: VideoSegmenter, clip: Video) -> None:
    video = prompted(clip, MIDDLE)
    both = list(nano.track(video, "both"))
    assert [answer.frame for answer in both] == list(range(LENGTH))
    back = list(nano.track(video, "backward"))
    forward = list(nano.track(video))
    for frame in range(LENGTH):
        expected = back if frame < MIDDLE else forward
        assert torch.equal(both[frame].masks, expected[frame].masks)
    assert not back[LENGTH - 1].targets


def test_earlier_frames_read_a_later_mask(nano: VideoSegmenter, clip: Video) -> None:
    session = nano.session(LENGTH)
    session.keep_logits = True
    later = prompted(clip, 0, MIDDLE).prompts
    with torch.inference_mode():
        session.prompt_ahead(MIDDLE, clip[MIDDLE], later[1:])
        ahead = [session.step(clip[t], later[:1] if t == 0 else [])[0] for t in range(LENGTH)]
        plain = nano.session(LENGTH)
        plain.keep_logits = True
        without = [plain.step(clip[t], later[:1] if t == 0 else [])[0] for t in range(LENGTH)]
    assert torch.equal(ahead[0].logits, without[0].logits)
    assert not torch.equal(ahead[1].logits, without[1].logits)
    tracked = list(nano.track(prompted(clip, 0, MIDDLE)))
    for answer, other in zip(tracked, ahead, strict=True):
        assert torch.equal(answer.masks, other.masks)


def test_a_float_frame_takes_no_prompt_ahead(nano: VideoSegmenter, clip: Video) -> None:
    session = nano.session(len(clip))
    with pytest.raises(InputError, match=f"frame {MIDDLE}: .* not Tensor torch.float32"):
        session.prompt_ahead(MIDDLE, clip[MIDDLE] / 255, clip.prompts)


def test_frames_that_have_been_taken_take_no_prompt_ahead(nano: VideoSegmenter, clip: Video) -> None:
    session = nano.session(LENGTH)
    first = prompted(clip, 0).prompts
    session.step(clip[0], first)
    with pytest.raises(InputError, match="frame 0 has been taken"):
        session.prompt_ahead(0, clip[0], first)


def test_a_stream_is_not_tracked_backward(clip: Video) -> None:
    with pytest.raises(InputError, match="cannot be tracked backward"):
        propagations(Video("stream", iter(list(clip)), prompts=prompted(clip, 0).prompts), "backward")
