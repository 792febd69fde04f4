"""The session: rhythm of the memory, targets that join and go, sizes, averaging. The rest is in test_contract.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Prompt, Video, open_video
from methods.sslvos.cutie.core import SSLVOSNetwork
from methods.sslvos.encoders.base import resnet_nano
from methods.sslvos.session import SessionSettings, SSLVOSSession
from methods.sslvos.settings import LongTermSettings, MemorySettings, nano
from methods.sslvos.tracker import Tracker, inner_size
from tests.support.seeded_sslvos import Case, seeded_value

SIZE = (33, 47)
KEEP = MemorySettings(skip_absent=False)
LONG = replace(KEEP, every=1, frames=4, long_term=LongTermSettings(keep=2, prototypes=6, tokens=40, spare=10))


@pytest.fixture(scope="module")
def core() -> SSLVOSNetwork:
    core, case = SSLVOSNetwork(resnet_nano(), nano()).eval(), Case(visible=0.5)
    core.load_state_dict({name: seeded_value(name, value.shape, case) for name, value in core.state_dict().items()})
    return core


@pytest.fixture(scope="module")
def video() -> Video:
    made = SyntheticClips("easy", length=1, frames=8, size=SIZE, seed=5, objects=2)[0]
    return replace(open_video(torch.stack(list(made)), "clip"), prompts=made.prompts)


def run(session: SSLVOSSession, frames: Sequence[Tensor], prompts: Sequence[Prompt]) -> list[FrameMasks]:
    out = []
    for index, frame in enumerate(frames):
        out += session.step(frame, [prompt for prompt in prompts if prompt.frame == index])
    return out


def test_first_answer_is_the_given_masks_and_masks_never_overlap(core, video):
    answers = run(SSLVOSSession(core), list(video), video.prompts)
    assert torch.equal(answers[0].masks, torch.stack([prompt.mask for prompt in video.prompts]))
    assert answers[0].scores.tolist() == [1, 1]
    assert all(answer.masks.sum(0).max() <= 1 for answer in answers)
    assert all(0 <= score <= 1 for answer in answers for score in answer.scores.tolist())


def test_every_so_manieth_frame_is_remembered(core, video):
    session = SSLVOSSession(core, SessionSettings(replace(KEEP, every=3, frames=9)))
    held = []
    for index, frame in enumerate(video):
        session.step(frame, video.prompts if index == 0 else ())
        if index:  # a frame is written when the next one comes
            held.append(len(session.trackers[0].groups[0].bank) // 9)  # 33x47 padded to 48x48: 9 tokens a frame
    assert held == [1, 1, 1, 2, 2, 2, 3]


def test_sensory_updates_are_staggered(core):
    for every, stagger, expected in ((5, 5, {1, 2, 3, 4, 5}), (10, 5, {1, 3, 6, 8, 10}), (3, 5, {1, 2, 3})):
        tracker = SSLVOSSession(core, SessionSettings(MemorySettings(every=every, stagger=stagger))).trackers[0]
        assert tracker.update_at == expected


def test_frames_without_a_target_are_not_remembered(core, video):
    """With a decoder that sees nothing, nothing but the first frame is kept; asked not to skip, every frame is."""
    blind = SSLVOSNetwork(resnet_nano(), nano()).eval()
    blind.load_state_dict(core.state_dict())
    with torch.no_grad():
        blind.decoder.predict.bias -= 100
    for skip, expected in ((True, 9), (False, 5 * 9)):
        session = SSLVOSSession(blind, SessionSettings(MemorySettings(every=1, skip_absent=skip)))
        answers = run(session, list(video), video.prompts)
        assert not any(answer.masks.any() for answer in answers[1:])
        assert len(session.trackers[0].groups[0].bank) == expected


def test_a_late_target_takes_its_pixels_from_the_others(core, video):
    late = replace(video.prompts[1], frame=3)
    session = SSLVOSSession(core, SessionSettings(KEEP))
    answers = run(session, list(video), [video.prompts[0], late])
    assert [answer.targets for answer in answers] == [(1,)] * 3 + [(1, 2)] * 5
    assert torch.equal(answers[3].masks[1], late.mask)
    assert not (answers[3].masks[0] & late.mask).any()
    assert [group.count for group in session.trackers[0].groups] == [1, 1]
    assert [answer.frame for answer in answers] == list(range(8))


def test_ids_need_not_come_in_order(core, video):
    """Target 9 first, target 4 later: answers are by id."""
    first, second = replace(video.prompts[0], target=9), replace(video.prompts[1], target=4, frame=2)
    answers = run(SSLVOSSession(core, SessionSettings(KEEP)), list(video), [first, second])
    expected = run(
        SSLVOSSession(core, SessionSettings(KEEP)), list(video), [video.prompts[0], replace(second, target=2)]
    )
    for answer, other in zip(answers[2:], expected[2:], strict=True):
        assert answer.targets == (4, 9)
        assert torch.equal(answer.masks, other.masks.flip(0))


def test_dropping_and_coming_back(core, video):
    session, frames = SSLVOSSession(core, SessionSettings(LONG)), list(video)
    run(session, frames[:3], video.prompts)
    session.drop(1)
    assert session.step(frames[3])[0].targets == (2,)
    with pytest.raises(InputError, match="target 1 is not tracked"):
        session.drop(1)
    assert session.step(frames[4], [video.prompts[0]])[0].targets == (1, 2)
    session.drop(2)
    session.drop(1)
    tracker = session.trackers[0]
    assert (tracker.groups, tracker.targets) == ([], [])
    assert session.step(frames[5])[0].targets == ()


def test_another_mask_of_a_followed_target_is_remembered(core, video):
    session = SSLVOSSession(core, SessionSettings(replace(KEEP, every=99)))
    again = replace(video.prompts[0], frame=4)
    answers = run(session, list(video), [*video.prompts, again])
    assert torch.equal(answers[4].masks[0], again.mask)
    assert len(session.trackers[0].groups[0].bank) == 2 * 9


def test_a_correction_is_as_if_the_mask_had_been_given_with_the_frame(core, video):
    settings, mask = SessionSettings(LONG, sides=(32, None), flip=True), video.prompts[0].mask.roll(5, 1)
    given = run(
        SSLVOSSession(core, settings), list(video), [*video.prompts, replace(video.prompts[0], frame=4, mask=mask)]
    )
    session = SSLVOSSession(core, settings)
    run(session, list(video)[:5], video.prompts)
    corrected = session.correct([replace(video.prompts[0], mask=video.prompts[1].mask)])
    assert not torch.equal(corrected.masks[0], mask)
    corrected = session.correct([replace(video.prompts[0], mask=mask)])  # it takes the place of the one before
    assert torch.equal(corrected.masks[0], mask)
    for answer, expected in zip(run(session, list(video)[5:], ()), given[5:], strict=True):
        assert torch.equal(answer.masks, expected.masks)
        torch.testing.assert_close(answer.scores, expected.scores)


def test_nested_given_masks_are_both_answered(core):
    outer, inner = torch.zeros(2, 33, 47, dtype=torch.bool)
    outer[5:25, 5:35], inner[10:15, 10:15] = True, True
    session = SSLVOSSession(core)
    (answer,) = session.step(torch.zeros(33, 47, 3, dtype=torch.uint8), [Prompt(1, mask=outer), Prompt(2, mask=inner)])
    assert torch.equal(answer.masks, torch.stack([outer & ~inner, inner]))


def test_long_videos_stay_in_the_budget(core, video):
    session, frames, sizes = SSLVOSSession(core, SessionSettings(LONG)), list(video), set()
    for index in range(60):
        session.step(frames[index % 8], video.prompts if index == 0 else ())
        if index == 0:
            continue
        bank = session.trackers[0].groups[0].bank
        assert bank.long_term_tokens <= 40
        sizes.add(bank.buffers["value"].numel())
    assert bank.long_term_tokens > 0
    assert len(sizes) == 1


def test_half_precision_keeps_keys_and_counts_in_float32(core, video):
    session = SSLVOSSession(core, SessionSettings(LONG))
    with torch.autocast("cpu", torch.bfloat16):
        answers = run(session, [*video, *video], video.prompts)
    rows = session.trackers[0].groups[0].bank.buffers
    assert rows.pop("value").dtype == torch.bfloat16
    assert {tensor.dtype for tensor in rows.values()} == {torch.float32}
    assert all(answer.scores.isfinite().all() for answer in answers)


def test_two_sizes_are_averaged(core, video):
    """Each size tracks by itself; the answer is the mean of their shares, with a target that joins late."""
    late = [video.prompts[0], replace(video.prompts[1], frame=3)]
    answers = run(SSLVOSSession(core, SessionSettings(KEEP, sides=(32, None), flip=True)), list(video), late)
    trackers, differ = [Tracker(core, KEEP, side, flip=True) for side in (32, None)], False
    for index, frame in enumerate(video):
        given = {prompt.target: prompt.mask for prompt in late if prompt.frame == index}
        with torch.inference_mode():
            small, full = (tracker.step(frame, given) for tracker in trackers)
        chosen = ((small + full) / 2).argmax(0)
        if not given:
            assert torch.equal(answers[index].masks, torch.stack([chosen == 1, chosen == 2])[: 1 + (index > 3)])
        differ |= not torch.equal(chosen, full.argmax(0))
    assert differ


@pytest.mark.parametrize(("side", "inner"), [(480, (480, 864)), (600, (608, 1072)), (720, (720, 1280))])
def test_sizes_of_the_tables(core, side, inner, monkeypatch):
    """What the network sees of a video of 1080 x 1920 at the sizes of Table A2: shrunk, then made multiples of 16."""

    class SeenError(Exception):
        pass

    def encode(image: Tensor) -> None:
        raise SeenError(tuple(image.shape))

    monkeypatch.setattr(core, "encode", encode)
    frame, mask = torch.zeros(1080, 1920, 3, dtype=torch.uint8), torch.ones(1080, 1920, dtype=torch.bool)
    with pytest.raises(SeenError) as seen:
        SSLVOSSession(core, SessionSettings(sides=(side,))).step(frame, [Prompt(1, mask=mask)])
    assert seen.value.args == ((1, 3, *inner),)


def test_a_mirrored_video_has_mirrored_answers(core):
    """With flip averaging, where the padding is the same on both sides."""
    clip = SyntheticClips("easy", length=1, frames=5, size=(32, 48), seed=5, objects=2)[0]
    frames, settings = list(clip), SessionSettings(KEEP, flip=True)
    straight = run(SSLVOSSession(core, settings), frames, clip.prompts)
    mirrored = [replace(prompt, mask=prompt.mask.flip(1)) for prompt in clip.prompts]
    for a, b in zip(straight, run(SSLVOSSession(core, settings), [f.flip(1) for f in frames], mirrored), strict=True):
        assert (a.masks ^ b.masks.flip(2)).float().mean() < 2e-3


def test_sizes():
    assert inner_size((720, 1280), 480) == (480, 853)
    assert inner_size((1280, 720), 480) == (853, 480)
    assert inner_size((100, 200), 480) == (100, 200)
    assert inner_size((720, 1280), None) == (720, 1280)


def test_prompts_that_cannot_be_taken(core, video):
    session, twice = SSLVOSSession(core), [video.prompts[0], video.prompts[0]]
    with pytest.raises(InputError, match="another one already"):
        session.step(video[0], twice)
    with pytest.raises(InputError, match="SSLVOS takes mask on a frame of the video; this is box"):
        session.step(video[0], [Prompt(1, box=(1.0, 1.0, 5.0, 5.0))])
    with pytest.raises(InputError, match="short side"):
        SessionSettings(sides=())
