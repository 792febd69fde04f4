"""UniVS's session on a network that segments colours: which masks, tokens and frames it uses, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.benchmarks.tiny.tasks import TinyVIS, TinyVPS
from common.errors import InputError
from common.evaluation.profiling import gflops
from common.evaluation.submission import evaluate
from common.video import FrameMasks, Prompt, TensorFrames, Video
from methods.univs import UniVS
from methods.univs.network.model import UniVSNetwork
from methods.univs.session import UniVSSession
from methods.univs.settings import EntitySettings, InferenceSettings, preset
from tests.support.fake_univs import PaintedUniVSNetwork, object_masks, painted

SETTINGS = InferenceSettings(clip=3, memory=3, points=4, short_side=None)
LENGTH = 8
RIGHT = [(16, 8 * step, 16) for step in range(LENGTH)]
STILL = [(40, 40, 24)] * LENGTH
FRAMES = painted(LENGTH, o1=RIGHT, o2=STILL)
CLASSES = torch.tensor([[4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])
NAMES = ("cat", "sky")


def track(
    frames: torch.Tensor,
    *prompts: Prompt,
    settings: InferenceSettings = SETTINGS,
    model: PaintedUniVSNetwork | None = None,
) -> list[FrameMasks]:
    session, out = UniVSSession(model or PaintedUniVSNetwork(CLASSES), settings), []  # type: ignore[arg-type]
    for index, frame in enumerate(frames):
        out += session.step(frame, [prompt for prompt in prompts if prompt.frame == index])
    out += session.finish()
    assert [answer.frame for answer in out] == list(range(len(frames)))
    return out


def same(mask: torch.Tensor, square: torch.Tensor, corner: int = 1) -> bool:
    """Up to the pixel at each corner, which bilinear upsampling by 4 cuts off."""
    return int((mask ^ square).sum()) <= 4 * corner and bool(mask.any() == square.any())


def assert_shows(answers: list[FrameMasks], target: int, masks: torch.Tensor, corner: int = 1) -> None:
    for answer, mask in zip(answers, masks, strict=True):
        assert same(answer.select((target,))[0], mask, corner), f"frame {answer.frame}"


def mask_prompt(target: int, number: int, frame: int = 0) -> Prompt:
    return Prompt(target, frame, mask=object_masks(FRAMES, number)[frame])


# Prompted targets.


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("clip", [1, 3])
@pytest.mark.parametrize("kind", ["mask", "text"])
def test_a_corrected_target_is_followed_by_its_new_mask(kind, clip, at):
    """A target of object 1 is corrected to object 2, before or after the first full clip; another one stays."""
    settings = replace(SETTINGS, clip=clip, min_similarity=-1.0)
    session, out = UniVSSession(PaintedUniVSNetwork(CLASSES), settings), []  # type: ignore[arg-type]
    frames = painted(LENGTH, o1=RIGHT, o2=STILL, o3=[(0, 0, 12)] * LENGTH)
    one, two, three = (object_masks(frames, number) for number in (1, 2, 3))
    first = Prompt(1, mask=one[0]) if kind == "mask" else Prompt(1, text="one")
    for index, frame in enumerate(frames):
        out += session.step(frame, [first, Prompt(2, mask=three[0])] if index == 0 else ())
        if index == at:
            with pytest.raises(InputError, match="target 9 is not tracked"):
                session.correct([Prompt(9, mask=two[at])])
            session.correct([Prompt(1, mask=one[at] | two[at])])
            corrected = session.correct([Prompt(1, mask=two[at])])
            out = [corrected if answer.frame == at else answer for answer in out]
    out += session.finish()
    assert corrected.targets == (1, 2)
    assert torch.equal(corrected.masks[0], two[at])
    assert same(corrected.masks[1], three[at])
    assert [answer.frame for answer in out] == list(range(LENGTH))
    final = max(at + 1 - clip, 0)  # frames that were pending are in later clips, which read the correction too
    assert_shows(out[:final], 1, one[:final])
    assert_shows(out[at:], 1, two[at:])
    assert_shows(out, 2, three)


def test_targets_of_a_vocabulary_are_not_corrected():
    session = UniVSSession(PaintedUniVSNetwork(CLASSES), replace(SETTINGS, clip=1))  # type: ignore[arg-type]
    session.step(FRAMES[0], [Prompt(1, vocabulary=NAMES)])
    with pytest.raises(InputError, match="found by a vocabulary take no corrections"):
        session.correct([mask_prompt(1, 1)])


@pytest.mark.parametrize("tracking", ["prompts", "similarity"])
@pytest.mark.parametrize("clip", [1, 3, 20])
def test_prompt_masks_are_followed(tracking, clip):
    settings = replace(SETTINGS, tracking=tracking, clip=clip)
    answers = track(FRAMES, mask_prompt(1, 2), mask_prompt(2, 1), settings=settings)
    assert_shows(answers, 1, object_masks(FRAMES, 2))
    assert_shows(answers, 2, object_masks(FRAMES, 1))


def test_clips_slide_by_one_and_answers_come_a_clip_late():
    model = PaintedUniVSNetwork(CLASSES)
    session = UniVSSession(model, SETTINGS)  # type: ignore[arg-type]
    counts = [len(session.step(frame, [mask_prompt(1, 1)] if i == 0 else ())) for i, frame in enumerate(FRAMES)]
    assert counts == [0, 0, 1, 1, 1, 1, 1, 1]
    assert len(session.finish()) == 2
    assert model.clips == [[i, i + 1, i + 2] for i in range(LENGTH - 2)]


def test_proca_reads_m_plus_one_times_r_tokens_and_no_more():
    model = PaintedUniVSNetwork(CLASSES)
    track(FRAMES, mask_prompt(1, 1), settings=replace(SETTINGS, memory=5), model=model)
    # first clip: its first appearance and three slots; then a slot more with every frame, until there are M = 5
    assert model.lengths == [4 * n for n in (4, 5, 6, 6, 6, 6)]


def test_a_target_that_joins_late_starts_with_its_frame():
    answers = track(FRAMES, mask_prompt(1, 1), mask_prompt(2, 2, 5))
    assert [answer.targets for answer in answers] == [(1,)] * 5 + [(1, 2)] * 3
    assert_shows(answers[5:], 2, object_masks(FRAMES, 2)[5:])


def test_a_box_points_and_a_text():
    box, points = Prompt(1, box=(40.0, 40.0, 64.0, 64.0)), torch.tensor([[50.5, 50.5], [55.0, 44.0]])
    answers = track(FRAMES, box, Prompt(2, 1, points=points, labels=torch.ones(2)), Prompt(3, text="one"))
    assert_shows(answers, 3, object_masks(FRAMES, 1))
    both = torch.stack([answer.masks[: 1 + (answer.frame > 0)].any(0) for answer in answers])
    # the box and the points say the same object, whose pixels they share out
    assert all(same(mask, square) for mask, square in zip(both, object_masks(FRAMES, 2), strict=True))


def test_expressions_do_not_share_out_pixels():
    answers = track(FRAMES, Prompt(1, text="one"), Prompt(2, text="uno"))
    assert_shows(answers, 1, object_masks(FRAMES, 1))
    assert_shows(answers, 2, object_masks(FRAMES, 1))


def test_a_target_that_was_hidden_is_found_again():
    hidden = [*RIGHT[:2], *[None] * 4, *RIGHT[6:]]
    frames = painted(LENGTH, o1=hidden, o2=STILL)
    answers = track(frames, mask_prompt(1, 1))
    assert_shows(answers, 1, object_masks(frames, 1))


def test_a_dropped_target_stays_in_the_frames_before():
    session, out = UniVSSession(PaintedUniVSNetwork(CLASSES), SETTINGS), []  # type: ignore[arg-type]
    for index, frame in enumerate(FRAMES):
        out += session.step(frame, [mask_prompt(1, 1), mask_prompt(2, 2)] if index == 0 else ())
        if index in (1, 4):
            session.drop(2 if index == 1 else 1)
    assert [answer.frame for answer in out] == list(range(LENGTH)), "nothing is open once nothing is followed"
    assert [answer.targets for answer in out] == [(1, 2)] * 2 + [(1,)] * 3 + [()] * 3
    assert_shows(out[:5], 1, object_masks(FRAMES, 1)[:5])
    with pytest.raises(InputError, match="target 2 is not tracked"):
        session.drop(2)


def test_a_second_prompt_begins_a_target_anew():
    answers = track(FRAMES, mask_prompt(1, 1), mask_prompt(1, 2, 4))
    assert_shows(answers, 1, torch.cat([object_masks(FRAMES, 1)[:4], object_masks(FRAMES, 2)[4:]]))


def test_a_prompt_mask_wins_its_pixels():
    whole = Prompt(2, 4, mask=torch.ones(64, 96, dtype=torch.bool))
    answer = track(FRAMES, mask_prompt(1, 1), whole)[4]
    assert answer.masks[1].all()
    assert not answer.masks[0].any()


def test_frames_are_brought_to_the_short_side():
    frames = FRAMES.repeat_interleave(2, 1).repeat_interleave(2, 2)
    prompt = Prompt(1, mask=object_masks(frames, 2)[0])
    model = PaintedUniVSNetwork(CLASSES)
    answers = track(frames, prompt, settings=replace(SETTINGS, short_side=64), model=model)
    assert_shows(answers, 1, object_masks(frames, 2), corner=6)


# Categories.


@pytest.mark.parametrize("tracking", ["prompts", "similarity"])
@pytest.mark.parametrize("interval", [1, 3])
def test_instances_keep_their_ids(tracking, interval):
    late = [*[None] * 4, *STILL[4:]]
    frames = painted(LENGTH, o1=RIGHT, o2=late)
    settings = replace(SETTINGS, tracking=tracking, detection_interval=interval)
    answers = track(frames, Prompt(1, vocabulary=NAMES), settings=settings)
    first = next(i for i, answer in enumerate(answers) if 2 in answer.targets)
    # the clip from frame 2 is the first to show object 2, on frame 4; every third clip begins at 0, 3 and 6
    assert first == 4
    assert_shows(answers, 1, object_masks(frames, 1))
    assert_shows(answers, 2, object_masks(frames, 2))
    assert {answer.categories for answer in answers} == {(0,), (0, 1)}
    high, low = torch.tensor([4.0, -4.0]).sigmoid().tolist()
    # the quality of one clip, 1, by the largest and 1
    torch.testing.assert_close(answers[0].class_scores, torch.tensor([[high, low]]) / 2)


def test_an_instance_that_leaves_keeps_its_id():
    away = [*RIGHT[:2], *[None] * 4, *RIGHT[6:]]
    answers = track(painted(LENGTH, o1=away), Prompt(1, vocabulary=NAMES))
    assert [answer.targets for answer in answers] == [(1,)] * 2 + [()] * 4 + [(1,)] * 2


def test_two_queries_for_one_object_are_one_instance():
    classes = torch.tensor([[2.0, -4.0], [4.0, -4.0]])
    answers = track(FRAMES, Prompt(1, vocabulary=NAMES), model=PaintedUniVSNetwork(classes, finds=[1, 1]))
    assert [answer.targets for answer in answers] == [(1,)] * LENGTH


def test_panoptic_segments():
    answers = track(FRAMES, Prompt(1, vocabulary=NAMES, stuff=("sky",)))
    for answer in answers:
        assert answer.targets in ((1, 3), (1, 2))  # the segment of the sky has a number of its own
        assert answer.categories == (0, 1)
        assert answer.masks.sum(0).max() == 1
        assert same(answer.masks[0], object_masks(FRAMES, 1)[answer.frame])
        assert same(answer.masks[1], object_masks(FRAMES, 2)[answer.frame])


def test_semantic_classes_clip_by_clip():
    model = PaintedUniVSNetwork(CLASSES)
    answers = track(FRAMES, Prompt(1, vocabulary=NAMES, stuff=NAMES), model=model)
    assert model.clips == [[0, 1, 2], [3, 4, 5], [6, 7]]
    for answer in answers:
        assert answer.masks.sum(0).eq(1).all(), "every pixel has a class"
        assert answer.targets == tuple(category + 1 for category in answer.categories or ())
        seen = (object_masks(FRAMES, 1) | object_masks(FRAMES, 2))[answer.frame]
        sky = answer.select((2,))[0]
        assert same(sky & seen, object_masks(FRAMES, 2)[answer.frame])


@pytest.mark.parametrize("stuff", [(), ("sky",)])
def test_zero_detections_are_empty_answers(stuff):
    answers = track(torch.zeros_like(FRAMES), Prompt(1, vocabulary=NAMES, stuff=stuff))
    assert all(answer.targets == () and answer.masks.shape == (0, 64, 96) for answer in answers)
    assert answers[0].class_scores is not None
    assert answers[0].class_scores.shape == (0, 2)


@pytest.mark.parametrize("prompt", [mask_prompt(1, 2), Prompt(1, text="one"), Prompt(1, vocabulary=NAMES)])
def test_memory_is_bounded(prompt):
    session = UniVSSession(PaintedUniVSNetwork(CLASSES), SETTINGS)  # type: ignore[arg-type]
    counts = []
    for index in range(40):
        session.step(FRAMES[-1], [prompt] if index == 0 else ())
        task = session._task
        owners = getattr(task, "targets", None) or getattr(task, "entities", [])
        slots = [len(o.pool.tokens) + len(o.pool.embeddings(99)) + len(o.pool._logits) for o in owners if o.pool]
        counts.append((len(session._features), sum(slots)))
    assert len(set(counts[10:])) == 1, counts
    assert counts[-1][0] == SETTINGS.clip - 1
    # three slots of tokens, embeddings and logits at most, of one target or two entities
    assert 0 < counts[-1][1] <= 9 * max(1, len(getattr(session._task, "entities", [])))


def test_entities_are_limited():
    settings = replace(SETTINGS, max_entities=1, instances=EntitySettings(min_new_score=0.9))
    session = UniVSSession(PaintedUniVSNetwork(CLASSES), settings)  # type: ignore[arg-type]
    answers = [
        a for i, f in enumerate(FRAMES) for a in session.step(f, [Prompt(1, vocabulary=NAMES)] if i == 0 else ())
    ]
    assert all(len(answer.targets) == 1 for answer in answers)


@pytest.mark.parametrize("stuff", [(), NAMES])
def test_operations_are_counted_where_learnable_queries_are_alone(stuff):
    """torch's counter trips over a parameter, or a view of one, that a module is given in inference mode."""
    torch.manual_seed(0)
    video = Video("v", TensorFrames(FRAMES[:3]), prompts=(Prompt(1, vocabulary=NAMES, stuff=stuff),))
    assert gflops(UniVS(queries=4).eval().session(), video, torch.device("cpu")) > 0


# No prompts, and invalid ones.


def test_no_prompt_at_all_is_an_empty_answer_at_once():
    session = UniVSSession(PaintedUniVSNetwork(CLASSES), SETTINGS)  # type: ignore[arg-type]
    for index, frame in enumerate(FRAMES):
        (answer,) = session.step(frame)
        assert answer.frame == index
        assert answer.masks.shape == (0, 64, 96)
    assert session.finish() == []


ONE = torch.ones(1)
BAD = {
    "box .* outside the frame of 64x96": Prompt(1, box=(96.0, 0.0, 120.0, 9.0)),
    "a point lies outside the frame of 64x96": Prompt(1, points=torch.tensor([[10.0, 64.0]]), labels=ONE),
    "points on the target only": Prompt(1, points=torch.tensor([[10.0, 6.0]]), labels=torch.zeros(1)),
    "a box or points": Prompt(1, box=(0.0, 0.0, 9.0, 9.0), points=torch.tensor([[1.0, 6.0]]), labels=ONE),
    "a vocabulary stands alone": Prompt(1, vocabulary=NAMES),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_prompts_are_refused_and_change_nothing(said):
    session, out = UniVSSession(PaintedUniVSNetwork(CLASSES), SETTINGS), []  # type: ignore[arg-type]
    out += session.step(FRAMES[0], [mask_prompt(1, 1)])
    with pytest.raises(InputError, match=said) as error:
        session.step(FRAMES[1], [BAD[said]])
    assert "\n" not in str(error.value)
    for frame in FRAMES[1:]:
        out += session.step(frame)
    assert_shows(out + session.finish(), 1, object_masks(FRAMES, 1))


def test_a_vocabulary_takes_no_targets():
    session = UniVSSession(PaintedUniVSNetwork(CLASSES), SETTINGS)  # type: ignore[arg-type]
    session.step(FRAMES[0], [Prompt(1, vocabulary=NAMES)])
    with pytest.raises(InputError, match="a vocabulary stands alone"):
        session.step(FRAMES[1], [mask_prompt(2, 1)])
    with pytest.raises(InputError, match="target 1 is not tracked"):
        session.drop(1)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Prompt(1, text="word " * 200), "has 200 tokens"),
        (Prompt(1, text="42"), "no word is left"),
        (Prompt(1, vocabulary=("cat", "!?")), "no word is left"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(prompt, said):
    torch.manual_seed(0)
    session = UniVSSession(UniVSNetwork(preset("nano")).eval(), SETTINGS)
    with pytest.raises(InputError, match=said):
        session.step(FRAMES[0], [prompt])
    (answer,) = session.step(FRAMES[0])
    assert answer.frame == 0
    session.step(FRAMES[1], [Prompt(1, vocabulary=("a name that no one has trained on",))])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(clip=0), "clip is 0"),
        (dict(short_side=2000), "short_side is 2000"),
        (dict(tracking="x"), "tracking is 'x'"),
    ],
)
def test_settings_that_do_not_fit(change, said):
    with pytest.raises(InputError, match=said):
        InferenceSettings(**change)


# Nothing is detected, and names that were not trained.

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
    model = PaintedUniVSNetwork(torch.full((3, 8), 4.0))
    metric = benchmark.metric()
    for video in benchmark:
        dark = replace(video, frames=TensorFrames(torch.zeros(8, 32, 48, 3, dtype=torch.uint8)))
        written = list(benchmark.write(video, answers(model, dark), tmp_path / "me"))
        assert [answer.targets for answer in written] == [()] * 8
        metric.extend(**benchmark.measure(video, iter(written)))
    assert metric.compute()[number] == 0
    assert evaluate(benchmark, tmp_path / "me").numbers[number] == 0


@pytest.mark.parametrize("stuff", [(), ("a pangolin",), ("a pangolin", "mud")])
def test_any_name_may_be_in_a_vocabulary(stuff):
    torch.manual_seed(0)
    video = replace(TinyVIS(**SMALL)[0], prompts=(Prompt(1, vocabulary=("a pangolin", "mud"), stuff=stuff),))
    predictions = list(answers(UniVSNetwork(preset("nano")).eval(), video))
    assert [answer.frame for answer in predictions] == list(range(8))
    assert {place for answer in predictions for place in answer.categories or ()} <= {0, 1}
