"""Generated videos for visual queries: the target comes and goes, relatives nearly look like it."""

import itertools
import pickle

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.synthetic import QUERIES, SyntheticClips, SyntheticQueries
from common.synthetic.actors import Actor
from common.synthetic.draw import Appearance, draw_relative
from common.synthetic.motion import draw_long_absences


def presence(video):
    """Frames that show the target, bool (T,)."""
    return torch.stack([video.truth[t].any() for t in range(len(video))])


@pytest.mark.parametrize("preset", QUERIES)
def test_contract(preset):
    videos = SyntheticQueries(preset, length=3, frames=10, size=(48, 40), seed=2)
    assert len({video.id for video in videos}) == 3
    for video in videos:
        assert len(video) == 10 == len(video.names)
        assert video[0].shape == (48, 40, 3)
        assert video[0].dtype == torch.uint8
        assert video.targets == (1,)
        assert video.truth[0].shape == (1, 48, 40)
        (query,) = video.prompts
        assert (query.target, query.frame) == (1, 0)
        assert query.image.shape == (48, 40, 3)
        assert query.mask.any()
        expected = {"preset", "category", "height", "width", "length"}
        assert video.attributes.keys() == expected
        assert video.attributes["height"] == 48


@pytest.mark.parametrize("preset", QUERIES)
def test_targets_come_and_go(preset):
    """Each shows at some time, never all the time, mostly more than once, and half of them not at first."""
    seen = [presence(video) for video in SyntheticQueries(preset, length=30, size=(48, 48))]
    assert all(0.15 < shown.float().mean() < 0.85 for shown in seen)
    occurrences = [int((shown.int().diff() == 1).sum()) + int(shown[0]) for shown in seen]
    assert np.mean(occurrences) > 1.8
    assert 5 < sum(bool(shown[0]) for shown in seen) < 25


def test_short_videos_show_their_target():
    assert all(presence(video).any() for video in SyntheticQueries(length=40, frames=8, size=(48, 48)))


def test_deterministic_in_any_order_and_after_pickling():
    one, two = (SyntheticQueries("query-distractor", frames=10, size=(32, 48), seed=4)[6] for _ in range(2))
    two = pickle.loads(pickle.dumps(two))
    assert torch.equal(one.prompts[0].image, two.prompts[0].image)
    assert torch.equal(one.prompts[0].mask, two.prompts[0].mask)
    for t in (9, 0, 5, 3):
        assert torch.equal(one[t], two[t])
        assert torch.equal(one.truth[t], two.truth[t])


def test_training_seeds_never_meet_held_out_ones():
    size = {"frames": 4, "size": (32, 32), "length": 3}
    train = {v[1].numpy().tobytes() for seed in range(5) for v in SyntheticQueries(seed=seed, **size)}
    held_out = {v[1].numpy().tobytes() for seed in range(5) for v in SyntheticQueries(seed=seed, held_out=True, **size)}
    assert len(train) == len(held_out) == 15
    assert not train & held_out


def test_query_is_that_of_the_clips():
    videos = SyntheticQueries(size=(40, 40), seed=1)
    image, mask = videos.query_image(3, 1)
    assert torch.equal(videos[3].prompts[0].image, image)
    assert torch.equal(videos[3].prompts[0].mask, mask)


def test_relatives_differ_in_one_trait():
    rng, look = np.random.default_rng(0), Appearance("star", "red", "dots")
    traits = set()
    for _ in range(40):
        other = draw_relative(look, rng)
        changed = [name for name in ("category", "colour", "pattern") if getattr(other, name) != getattr(look, name)]
        assert len(changed) == 1
        traits |= set(changed)
    assert traits == {"category", "colour", "pattern"}


def test_relatives_are_not_annotated():
    for index in range(5):
        video = SyntheticQueries("query-distractor", frames=12, size=(48, 48))[index]
        actors = [actor for actor in video.frames.scene.actors if isinstance(actor, Actor)]
        assert sum(actor.target == 0 for actor in actors) in (2, 3)
        for t in range(0, 12, 3):
            labels = video.frames.scene.labels(video.frames._layers(t), t, (48, 48))
            assert torch.equal(labels == 1, video.truth[t][0])


@pytest.mark.parametrize("frames", [1, 5, 24, 48, 300])
def test_visits_stay_in_their_stretch(frames):
    rng = np.random.default_rng(0)
    rounds = max(1, round(frames / 24))
    for _ in range(50):
        absences = draw_long_absences(rng, frames, 24, (0.3, 0.6))
        assert len(absences) == (rounds + 1 if rounds > 1 else 1)
        for before, after in itertools.pairwise(absences):
            assert before.start + 2 * before.ramp + before.gone <= after.start + 1e-9
        for absence in absences:
            assert 0.3 <= absence.gone / (frames / rounds) <= 0.6


def test_other_presets_have_queries_too():
    video = SyntheticQueries("easy", frames=4, size=(32, 32))[0]
    assert torch.equal(video[2], SyntheticClips("easy", frames=4, size=(32, 32))[0][2])
    with pytest.raises(InputError, match=r"unknown; choose from .*query-distractor"):
        SyntheticQueries("eazy")
