"""SAM 2 and SAM2Long driven by a query: an image from outside the video."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from common.data import QueryClips, collate
from common.errors import InputError
from common.nn.sam2 import Bank
from common.synthetic import SyntheticQueries
from common.video import Prompt, Video
from methods.sam2long import SAM2Long
from tests.support.lively import enliven

SIZE, LENGTH = (33, 47), 12
GREEDY = {"pathways": 1, "selection": False, "modulation": None}


@pytest.fixture(scope="module")
def video() -> Video:
    made = SyntheticQueries(length=1, frames=LENGTH, size=SIZE, seed=3)[0]
    return replace(made, frames=torch.stack(list(made)))


def build(visible: float = 4.0, **settings) -> SAM2Long:
    module = SAM2Long(image_size=64, weights="random", **settings).eval()
    enliven(module, seed=2, visible=visible)
    return module


def run(module, video, prompts):
    session, out = module.session(len(video)), []
    for index, frame in enumerate(video):
        out += session.step(frame, [prompt for prompt in prompts if prompt.frame == index])
    return out + session.finish()


def same(got, expected):
    return len(got) == len(expected) and all(
        a.targets == b.targets and torch.equal(a.masks, b.masks) and torch.equal(a.scores, b.scores)
        for a, b in zip(got, expected, strict=True)
    )


@torch.inference_mode()
def test_query_is_a_prompted_memory_one_frame_before_the_first(video):
    """The first two frames by hand: temporal place 6, pointer offset t + 1, the mask taken as it is."""
    module, query = build(**GREEDY), video.prompts[0]
    answers = list(module.track(video))
    core = module.network
    image = core.encode(core.preprocess(query.image.permute(2, 0, 1)[None]))
    mask = F.interpolate(query.mask[None, None].float(), (64, 64), mode="bilinear", antialias=True) >= 0.5
    taken = core.take_mask(image, mask.float())
    first = core.encode_memory(image, taken).bfloat16(), taken.pointers[:, 0]
    memories: list[tuple[torch.Tensor, torch.Tensor]] = []
    for t in (0, 1):
        features = core.encode(core.preprocess(video[t].permute(2, 0, 1)[None]))
        maps, pointers = [first[0], *(m[0] for m in memories)], [first[1], *(m[1] for m in memories)]
        bank = Bank(maps, [6, 0][: t + 1], pointers, [t + 1.0, 1.0][: t + 1], max_pointers=LENGTH)
        best = core.decode(core.read(features, bank), features).best()
        expected = F.interpolate(best.visible_logits, SIZE, mode="bilinear", align_corners=False)[0, 0] > 0
        assert torch.equal(answers[t].masks[0], expected)
        assert float(answers[t].scores) == pytest.approx(float(best.score), abs=1e-4)
        memories.append((core.encode_memory(features, best).bfloat16(), best.pointers[:, 0]))


@pytest.mark.parametrize("settings", [GREEDY, {}, {"visible": 1.0}, {"visible": 1.0, "max_lag": 2}], ids=str)
def test_every_frame_is_answered_and_reset_leaves_nothing(video, settings):
    module = build(**settings)
    offline = list(module.track(video))
    assert [answer.frame for answer in offline] == list(range(LENGTH))
    assert all(answer.targets == (1,) and answer.masks.shape == (1, *SIZE) for answer in offline)
    assert any(answer.masks.any() and not answer.masks.all() for answer in offline), "nothing to compare"
    session = module.session(LENGTH)
    session.step(video[5], video.prompts)
    session.reset()
    streamed = [a for t, frame in enumerate(video) for a in session.step(frame, video.prompts if not t else ())]
    assert same(streamed + session.finish(), offline)


def test_the_query_decides(video):
    """Another query gives other masks: the answer does not come from the video alone."""
    other = SyntheticQueries(length=2, frames=2, size=SIZE, seed=9)[1].prompts
    module = build()
    assert not same(list(module.track(video)), list(module.track(replace(video, prompts=other))))


@pytest.mark.parametrize("settings", [GREEDY, {}], ids=str)
def test_absent_target_is_empty(video, settings):
    answers = list(build(visible=-20.0, **settings).track(video))
    assert len(answers) == LENGTH
    assert not any(answer.masks.any() for answer in answers)
    assert all(answer.scores.item() < 0 for answer in answers)


def test_late_query_is_that_of_a_video_that_starts_there(video):
    module, start = build(**GREEDY), 4
    session = module.session()
    late = [a for t, f in enumerate(video) for a in session.step(f, [replace(video.prompts[0], frame=4)][: t == start])]
    assert [answer.targets for answer in late] == [()] * start + [(1,)] * (LENGTH - start)
    session.reset()
    alone = [a for t, f in enumerate(list(video)[start:]) for a in session.step(f, video.prompts[: t == 0])]
    assert same(late[start:], alone)


def test_box_on_an_image_of_another_size(video):
    """A box is given in pixels of the query image, whatever the size of the frames."""
    query = video.prompts[0]
    large = F.interpolate(query.image.permute(2, 0, 1)[None].float(), (66, 94), mode="nearest")[0]
    large = large.permute(1, 2, 0).to(torch.uint8)
    box = (10.0, 5.0, 30.0, 25.0)
    module = build(**GREEDY)
    small = run(module, video, [Prompt(1, box=box, image=query.image)])
    module.network.preprocess = lambda frames, pre=module.network.preprocess: pre(  # the same pixels after resizing
        frames[..., ::2, ::2] if frames.shape[-1] == 94 else frames
    )
    doubled = run(module, video, [Prompt(1, box=tuple(2 * x for x in box), image=large)])
    assert same(small, doubled)
    assert any(answer.masks.any() for answer in small)


def test_second_query_joins_the_first(video):
    module, query = build(**GREEDY), video.prompts[0]
    session = module.session(LENGTH)
    for index, frame in enumerate(list(video)[:7]):
        session.step(frame, [replace(query, frame=index)] if index in (0, 5) else ())
    tree = session.trees[1]
    assert [memory.frame for memory in tree.prompted] == [-1, 4]
    assert tree.tracked_frames == 7
    bank = tree.bank(tree.nodes[0], 7)
    assert bank.slots == [6, 6, 5, 4, 3, 2, 1, 0]
    assert bank.offsets == [8.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_query_beside_a_prompt_on_the_frame(video):
    module, mask = build(**GREEDY), torch.zeros(SIZE, dtype=torch.bool)
    mask[5:20, 5:20] = True
    both = run(module, video, [*video.prompts, Prompt(2, mask=mask)])
    assert all(answer.targets == (1, 2) for answer in both)
    alone = run(module, video, video.prompts)
    for answer, expected in zip(both, alone, strict=True):
        assert math.isclose(answer.scores[0], expected.scores[0], abs_tol=1e-3)


def test_points_on_a_query_image_are_refused(video):
    query = Prompt(1, points=torch.tensor([[3.0, 4.0]]), labels=torch.tensor([1]), image=video.prompts[0].image)
    session = build(**GREEDY).session()
    with pytest.raises(InputError, match="mask, box on an outside image; this is points on an outside image"):
        session.step(video[0], [query])
    assert session.frame == -1
    assert not session.trees


@pytest.mark.slow
def test_loss_falls_when_overfitting_two_query_clips():
    clips = QueryClips(SyntheticQueries(length=2, size=(64, 64), seed=1), frames=3, size=(64, 64))
    clip, module = collate([clips[0], clips[1]]), build().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    history = []
    for _ in range(25):
        terms = module.losses(clip)
        total = torch.stack([module.loss_weights.get(term, 1.0) * value for term, value in terms.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert min(history[-3:]) < 0.6 * history[0], history
