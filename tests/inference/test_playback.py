"""Directions of tracking, and prompts that are given ahead of their frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from common.inference.playback import merge_directions, nearest_prompts, propagations
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Prompt, Video
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


def row(*pixels: int) -> torch.Tensor:
    """Mask of a frame of 1x6."""
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, list(pixels)] = True
    return mask


def test_a_contested_pixel_goes_to_the_target_prompted_nearest_in_time() -> None:
    """On frame 4, targets of frames 0, 9 and 5 are 4, 5 and 1 frames away."""
    masks = torch.stack([row(0, 1, 2), row(1, 2, 3), row(2, 3, 4)])
    settled = nearest_prompts(FrameMasks(4, (1, 2, 3), masks, torch.ones(3)), {1: 0, 2: 9, 3: 5})
    assert torch.equal(settled.masks, torch.stack([row(0, 1), row(), row(2, 3, 4)]))


def test_both_directions_are_merged() -> None:
    forward = FrameMasks(4, (1, 3), torch.stack([row(0, 1), row(2)]), torch.tensor([0.1, 0.3]))
    backward = FrameMasks(4, (2, 3), torch.stack([row(1, 4), row(5)]), torch.tensor([0.2, 0.9]))
    first = {1: 0, 2: 5, 3: 4}
    answer = merge_directions(forward, backward, first)
    assert (answer.frame, answer.targets) == (4, (1, 2, 3))
    assert torch.equal(answer.masks, torch.stack([row(0), row(1, 4), row(2)]))
    assert answer.scores.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(merge_directions(forward, backward, first, overlap=True).masks[0], row(0, 1))


def test_targets_prompted_later_are_tracked_backward_too(nano: VideoSegmenter) -> None:
    """Each target is answered as if it were alone, tracked from its own first prompt in both directions."""
    clip = SyntheticClips("easy", 1, frames=LENGTH, size=(32, 48), seed=5, objects=2)[0]
    frames = TensorFrames(torch.stack(list(clip)))
    prompts = [Prompt(t + 1, frame, mask=clip.truth[frame][t].bool()) for t, frame in ((0, 1), (1, 4))]
    again = Prompt(1, 5, mask=clip.truth[5][0].bool())  # a second prompt is for the forward direction
    video = Video(clip.id, frames, prompts=(*prompts, again))
    video.overlap = True
    both = list(nano.track(video, "both"))
    assert [answer.frame for answer in both] == list(range(LENGTH))
    assert all(answer.targets == (1, 2) for answer in both)
    back = [list(nano.track(Video("x", frames, prompts=(prompt,)), "backward")) for prompt in prompts]
    for answer in both:
        for target, alone in enumerate(back, 1):
            if answer.frame < prompts[target - 1].frame:
                mine, expected = answer.select((target,)), alone[answer.frame].select((target,))
                assert (mine ^ expected).float().mean() < 2e-3
    assert torch.equal(both[4].select((2,)), list(nano.track(Video("x", frames, prompts=prompts[1:])))[4].masks)
    video.overlap = False
    assert all(not (answer.masks[0] & answer.masks[1]).any() for answer in nano.track(video, "both"))


def test_masks_may_overlap_where_the_video_says_so_or_targets_are_queries(nano: VideoSegmenter, clip: Video) -> None:
    mask, image = clip.truth[0][0].bool(), clip[0]
    same = [Prompt(target, mask=mask) for target in (1, 2)]
    queries = [Prompt(target, mask=mask, image=image) for target in (1, 2)]
    overlaps = {}
    for name, prompts, overlap in (("plain", same, False), ("video", same, True), ("queries", queries, False)):
        video = Video(name, TensorFrames(torch.stack(list(clip))), prompts=tuple(prompts), overlap=overlap)
        overlaps[name] = any((answer.masks[0] & answer.masks[1]).any() for answer in nano.track(video))
    assert overlaps == {"plain": False, "video": True, "queries": True}
