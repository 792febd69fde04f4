"""Tiny visual queries: held out, scored like VQS-4K."""

import pytest
import torch

from common.benchmarks.registry import make_benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tiny.queries import TinyVQS
from common.synthetic import QUERIES, SyntheticQueries
from common.video import FrameMasks
from methods.baselines.baselines import AnswerNothing

SMALL = {"videos": 2, "frames": 12, "size": (48, 40)}


def answers(video, mask):
    for t in range(len(video)):
        yield FrameMasks(t, (1,), mask(t), torch.ones(1))


@pytest.mark.parametrize("preset", QUERIES)
def test_perfect_answers_and_none(preset):
    benchmark = TinyVQS(preset, **SMALL)
    perfect, nothing = benchmark.metric(), benchmark.metric()
    for video in benchmark:
        measured = benchmark.measure(video, answers(video, lambda t, v=video: v.truth[t]))
        assert measured["area"].shape == (12, 1)  # all frames count, those without the target too
        perfect.extend(**measured)
        nothing.extend(**benchmark.measure(video, AnswerNothing().track(video)))
    for name in benchmark.numbers:
        assert perfect.compute()[name] == 1
        assert nothing.compute()[name] == 0


def test_a_mask_where_the_target_is_absent_costs():
    """By hand: the truth and one pixel more on every frame where the target is absent."""
    benchmark = TinyVQS(**SMALL)
    video = benchmark[0]
    pixel = torch.zeros(1, 48, 40, dtype=torch.bool)
    pixel[0, 0, 0] = True
    measured = benchmark.measure(video, answers(video, lambda t: video.truth[t] if video.truth[t].any() else pixel))
    numbers = benchmark.item_scores(measured)
    area, shown = float(measured["area"].sum()), int((measured["area"] > 0).sum())
    assert 0 < shown < 12
    assert numbers["stAP"] == pytest.approx(area / (area + 12 - shown))
    assert numbers["tAP"] == pytest.approx(shown / 12)


@pytest.mark.parametrize("empty", [False, True])
def test_submission_reads_back(tmp_path, empty):
    benchmark = TinyVQS(**SMALL)
    for video in benchmark:
        given = answers(video, lambda t, v=video: v.truth[t] & (not empty))
        expected = benchmark.measure(video, benchmark.write(video, given, tmp_path))
        got = benchmark.measure(video, benchmark.read(video, tmp_path, SubmissionErrors(False)))
        assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_no_training_seed_meets_it():
    video, trained = TinyVQS(videos=1, seed=10_000)[0], SyntheticQueries("query", frames=48, seed=10_000)[0]
    assert not torch.equal(video[0], trained[0])
    assert not torch.equal(video.prompts[0].image, trained.prompts[0].image)


def test_name_and_protocol_say_what_was_scored():
    benchmark = TinyVQS("query-distractor", videos=3, frames=9, size=(33, 47), seed=5)
    assert len(benchmark) == 3
    for part in ("3 generated videos", "9 frames", "33x47", "seed 5", "all frames"):
        assert part in benchmark.protocol
    for name in ("tiny-vqs", "tiny-vqs-distractor"):
        assert make_benchmark(name).name == name
