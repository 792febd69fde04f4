"""The session: clips and their borders, queries from outside, several targets, absence, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.nn.sam2 import Candidates
from common.video import FrameMasks, Prompt
from common.video.occurrences import occurrences
from methods.vqsam import VQSAM
from methods.vqsam.prompts import fit_masks, prompt_mask
from methods.vqsam.session import VQSAMSession
from tests.support.fake_vqsam import Fake
from tests.support.lively import enliven

SIDE = 64
SIZE = (33, 47)


def build(visible: float = 4.0, **settings) -> VQSAM:
    torch.manual_seed(0)
    module = VQSAM(image_size=SIDE, weights="random", clip_length=3, **settings).eval()
    enliven(module, seed=2, visible=visible)
    return module


def frames(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(0, 256, (count, *SIZE, 3), generator=generator, dtype=torch.uint8))


def query(target: int = 1, frame: int = 0, seed: int = 5) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (40, 30, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(40, 30, dtype=torch.bool)
    mask[10:30, 8:22] = True
    return Prompt(target, frame, mask=mask, image=image)


def run(session: VQSAMSession, video: Sequence[Tensor], prompts: Sequence[Prompt]) -> list[list[FrameMasks]]:
    """What each step returned, and last what ``finish`` did."""
    out = [session.step(f, [p for p in prompts if p.frame == index]) for index, f in enumerate(video)]
    return [*out, session.finish()]


def flat(steps: Sequence[Sequence[FrameMasks]]) -> list[FrameMasks]:
    return [answer for step in steps for answer in step]


def same(got: Sequence[FrameMasks], expected: Sequence[FrameMasks]) -> bool:
    return len(got) == len(expected) and all(
        a.targets == b.targets and torch.equal(a.masks, b.masks) and torch.equal(a.scores, b.scores)
        for a, b in zip(got, expected, strict=True)
    )


# Clips.


def test_a_clip_is_answered_when_it_is_full_and_the_rest_at_the_end():
    steps = run(build().session(), frames(8), [query()])
    assert [[answer.frame for answer in step] for step in steps] == [
        [],
        [],
        [0, 1, 2],
        [],
        [],
        [3, 4, 5],
        [],
        [],
        [6, 7],
    ]


def test_every_clip_starts_from_the_query_alone():
    """Clips of a video are those of videos that begin there."""
    module, video = build(), frames(7)
    whole = flat(run(module.session(), video, [query()]))
    parts = [flat(run(module.session(), video[start : start + 3], [query()])) for start in (0, 3, 6)]
    assert same(whole, flat(parts))


def test_a_short_video_is_one_short_clip():
    (answer,) = flat(run(build().session(), frames(1), [query()]))
    assert (answer.frame, answer.targets, answer.masks.shape) == (0, (1,), (1, *SIZE))


def test_answers_are_those_of_the_network():
    module, video = build(), frames(3)
    core, given = module.network.sam2, query()
    with torch.inference_mode():
        image = core.encode(core.preprocess(given.image.permute(2, 0, 1)[None]))
        known = module.network.encode_query(image, fit_masks(given.mask[None], SIDE))
        features = core.encode(core.preprocess(torch.stack(video).permute(0, 3, 1, 2)))
        best = module.network(features, torch.arange(3)[None], known)[-1].best()
        logits = torch.nn.functional.interpolate(best.visible_logits, SIZE, mode="bilinear", align_corners=False)
    for index, answer in enumerate(flat(run(module.session(), video, [given]))):
        assert answer.scores.item() == pytest.approx(float(best.score[index]), abs=1e-4)
        assert (answer.masks[0] ^ (logits[index, 0] > 0)).float().mean() < 1e-3


# Overlap. A network whose scores are given.


def faked(
    scores: list[list[float]], count: int, overlap: int, length: int = 3
) -> tuple[list[list[int]], list[float], int]:
    """Frames that each step answers, the scores of all frames, number of clips."""
    fake = Fake(build().network.sam2, scores)
    steps = run(VQSAMSession(fake, length, overlap), frames(count), [query()])  # type: ignore[arg-type]
    return [[a.frame for a in step] for step in steps], [a.scores.item() for a in flat(steps)], fake.calls


def test_of_two_answers_the_surer_counts():
    # clips 0-2, 2-4, then 4-5; frame 2: 1 against -3; frame 4: 2 against 2 keeps the earlier
    steps, scores, calls = faked([[5, 5, 1], [-3, 5, 2], [-2, 5]], count=6, overlap=1)
    assert scores == [5, 5, -3, 5, 2, 5]
    assert steps == [[], [], [0, 1], [], [2, 3], [], [4, 5]]
    assert calls == 3


def test_a_clip_of_nothing_new_is_not_looked_at():
    steps, scores, calls = faked([[1, 2, 3], [4, 5, 6]], count=5, overlap=1)
    assert (scores, calls) == ([1, 2, 4, 5, 6], 2)
    assert steps[-1] == [4]


def test_clips_may_overlap_by_all_but_one():
    _, scores, calls = faked([[1, 1, 1], [2, 2, 2], [3, 3, 3]], count=5, overlap=2)
    assert (scores, calls) == ([1, 2, 3, 3, 3], 3)


@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_overlapping_or_not_every_frame_is_answered_once(overlap):
    steps = run(build(overlap=overlap).session(), frames(8), [query()])
    assert [answer.frame for answer in flat(steps)] == list(range(8))
    assert all(index - answer.frame < 3 for index, step in enumerate(steps[:-1]) for answer in step)  # clip_length


# Targets.


def test_several_queries_are_answered_as_each_alone():
    module, video = build(), frames(8)
    prompts = [query(1), query(2, seed=6), query(3, frame=2, seed=7)]
    together = flat(run(module.session(), video, prompts))
    assert [answer.targets for answer in together] == [(1, 2)] * 2 + [(1, 2, 3)] * 6
    for prompt in prompts:
        alone = flat(run(module.session(), video, [prompt]))
        for a, b in zip(together[prompt.frame :], alone[prompt.frame :], strict=True):
            assert a.scores[a.targets.index(prompt.target)] == b.scores[0]
            assert not (a.select((prompt.target,)) & ~b.masks).any()


def test_frames_are_encoded_once_for_all_targets(monkeypatch):
    module = build()
    core = module.network.sam2
    calls, encode = [], core.encode
    monkeypatch.setattr(core, "encode", lambda images: calls.append(len(images)) or encode(images))
    run(module.session(), frames(5), [query(1), query(2, seed=6)])
    assert sum(calls) == 5 + 2


def test_a_new_query_takes_the_place_of_the_first():
    module, video = build(), frames(6)
    later = query(1, frame=2, seed=9)
    steps = run(module.session(), video, [query(1), later])
    assert [[a.frame for a in step] for step in steps] == [[], [], [0, 1], [], [2, 3, 4], [], [5]]
    assert same(flat(steps)[2:], flat(run(module.session(), video[2:], [replace(later, frame=0)])))


def test_a_frame_that_is_the_query_is_answered_by_it():
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[8:24, 10:30] = True
    steps = run(build().session(), frames(5), [Prompt(1, mask=mask)])
    assert [[a.frame for a in step] for step in steps] == [[0], [], [], [1, 2, 3], [], [4]]
    assert (steps[0][0].masks[0] ^ mask).float().mean() < 0.02
    assert steps[0][0].scores.tolist() == [10.0]


def test_dropped_in_the_middle_of_a_clip():
    module, video = build(), frames(6)
    session = module.session()
    steps = [session.step(f, [query(1), query(2, seed=6)] if index == 0 else []) for index, f in enumerate(video[:5])]
    session.drop(2)
    steps += [session.step(video[5]), session.finish()]
    answers = flat(steps)
    assert [a.targets for a in answers] == [(1, 2)] * 5 + [(1,)]
    alone = flat(run(module.session(), video[:5], [query(2, seed=6)]))
    assert [a.scores[1].item() for a in answers[:5]] == [a.scores.item() for a in alone]


# Absence.


def test_video_without_the_target_is_empty_throughout():
    answers = flat(run(build(visible=-30.0).session(), frames(7), [query()]))
    assert len(answers) == 7
    assert not any(answer.masks.any() for answer in answers)
    assert all(answer.scores.item() < 0 for answer in answers)


def test_an_absent_frame_is_empty_whatever_the_decoder_drew():
    fake = Fake(build().network.sam2, [[1.0, 0.0, -1.0]])
    answers = flat(run(VQSAMSession(fake, 3), frames(3), [query()]))  # type: ignore[arg-type]
    assert [answer.masks.all().item() for answer in answers] == [True, False, False]
    assert [answer.masks.any().item() for answer in answers] == [True, False, False]


def test_the_answer_is_the_candidate_of_highest_predicted_iou():
    drawn = torch.zeros(3, SIDE // 4, SIDE // 4, dtype=torch.bool)
    for index in range(3):
        drawn[index, :, 5 * index : 5 * index + 5] = True
    fake = Fake(build().network.sam2, [[1.0, 1.0]], drawn, torch.tensor([0.2, 0.9, 0.5]))
    for answer in flat(run(VQSAMSession(fake, 3), frames(2), [query()])):  # type: ignore[arg-type]
        columns = answer.masks[0].any(0).nonzero()[:, 0]
        assert (columns.min(), columns.max()) == (15, 28)  # the second third: 47 columns / 16 x 5 to x 10
        assert answer.masks[0, :, 15:29].all()


def test_occurrences_are_runs_of_frames():
    assert occurrences([False, True, True, False, True]) == [(1, 2), (4, 4)]
    assert occurrences([True, True]) == [(0, 1)]
    assert occurrences([]) == occurrences([False, False]) == []


def test_occurrences_run_on_over_the_border_of_two_clips():
    fake = Fake(build().network.sam2, [[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    answers = flat(run(VQSAMSession(fake, 3), frames(6), [query()]))  # type: ignore[arg-type]
    assert occurrences([bool(answer.masks.any()) for answer in answers]) == [(1, 3), (5, 5)]


def test_overlapping_clips_that_disagree_make_one_run_of_what_the_surer_saw():
    # clips 0-2, 2-4, 4-6; frame 2: seen by 1, denied by 4; frame 4: denied by 1, seen by 3
    fake = Fake(build().network.sam2, [[-1.0, 2.0, 1.0], [-4.0, 1.0, -1.0], [3.0, 1.0, -1.0]])
    answers = flat(run(VQSAMSession(fake, 3, clip_overlap=1), frames(7), [query()]))  # type: ignore[arg-type]
    assert occurrences([bool(answer.masks.any()) for answer in answers]) == [(1, 1), (3, 5)]


# Prompts.


def test_a_small_target_keeps_what_it_touches():
    mask = torch.zeros(1, 256, 256, dtype=torch.bool)
    mask[0, 130, 70] = True
    fitted = fit_masks(mask, 64)
    assert fitted.shape == (1, 1, 64, 64)
    assert fitted.sum() == 1
    assert fitted[0, 0, 32, 17] == 1


def test_half_covered_places_count_as_sam2_has_it():
    mask = torch.zeros(2, 128, 128, dtype=torch.bool)
    mask[0, 32:64, 32:64] = True
    mask[1, 0, 0] = True  # the rows do not meet
    fitted = fit_masks(mask, 64)
    assert fitted[0, 0].sum() == 16 * 16
    assert fitted[0, 0, 16:32, 16:32].all()
    assert fitted[1, 0].sum() == 1


def box_query(**how) -> Prompt:
    return Prompt(1, box=(5.0, 10.0, 25.0, 30.0), image=query().image, **how)


def test_a_box_on_the_query_image_becomes_a_mask(monkeypatch):
    """By SAM 2's decoder, the box scaled from the image's 30 x 40 to the input's 64 x 64."""
    module = build()
    core = module.network.sam2
    features = core.encode(core.preprocess(query().image.permute(2, 0, 1)[None]))
    calls, decode = [], core.decode
    monkeypatch.setattr(core, "decode", lambda *args, **how: calls.append((args, how)) or decode(*args, **how))
    with torch.no_grad():
        mask = prompt_mask(core, features, box_query(), (40, 30))
    (_, _, points, labels), how = calls[0]
    torch.testing.assert_close(points[0], torch.tensor([[5 * 64 / 30, 16.0], [25 * 64 / 30, 48.0]]))
    assert (labels.tolist(), how) == ([[2, 3]], {"multimask": False})
    assert mask.shape == (1, 1, SIDE, SIDE)
    assert mask.any()
    assert not mask.all()


def test_a_box_in_which_nothing_is_found_is_the_mask_itself(monkeypatch):
    core = build().network.sam2
    features = core.encode(core.preprocess(query().image.permute(2, 0, 1)[None]))
    nothing = Candidates(torch.full((1, 1, 16, 16), -1.0), torch.ones(1, 1), torch.ones(1), torch.ones(1, 1, 4))
    monkeypatch.setattr(core, "decode", lambda *args, **how: nothing)
    mask = prompt_mask(core, features, box_query(), (40, 30))[0, 0]
    expected = torch.zeros(SIDE, SIDE)
    expected[16:49, 10:54] = 1
    assert torch.equal(mask, expected)


def test_a_box_query_is_answered():
    answers = flat(run(build().session(), frames(4), [box_query()]))
    assert [answer.targets for answer in answers] == [(1,)] * 4


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(4, text="a cup"), "target 4 at frame 0: VQSAM takes mask, box"),
        (
            Prompt(4, points=torch.ones(1, 2), labels=torch.ones(1), image=query().image),
            "this is points on an outside image",
        ),
        (Prompt(4, mask=torch.ones(9, 9, dtype=torch.bool)), r"target 4 at frame 0: the mask is \(9, 9\)"),
    ],
)
def test_bad_prompts_are_refused(prompt, message):
    session = build().session()
    with pytest.raises(InputError, match=message):
        session.step(frames(1)[0], [prompt])
    with pytest.raises(InputError, match="there is another one already"):
        session.step(frames(1)[0], [query(), query()])
    assert len(flat(run(session, frames(2), [query()]))) == 2


def test_an_empty_query_mask_is_refused():
    with pytest.raises(InputError, match="prompt of target 1 at frame 0: the mask is empty"):
        Prompt(1, mask=torch.zeros(8, 9, dtype=torch.bool), image=torch.zeros(8, 9, 3, dtype=torch.uint8))


def test_a_query_mask_of_another_size_than_its_image_is_refused():
    with pytest.raises(InputError, match="the query mask is"):
        Prompt(1, mask=torch.ones(9, 8, dtype=torch.bool), image=torch.zeros(8, 9, 3, dtype=torch.uint8))


# Memory.


def test_what_is_held_does_not_grow_with_the_video():
    session, video = build(overlap=2).session(), frames(6)
    held = []
    for index in range(36):
        session.step(video[index % 6], [query(1), query(2, seed=6)] if index == 0 else [query(3)] if index == 1 else [])
        held.append((len(session._features), len(session._pending), sum(len(a) for a in session._final.values())))
    assert max(f for f, _, _ in held) < 3  # a full clip goes at once
    assert max(held[9:18]) == max(held[18:])
    session.finish()
    assert not session._pending
