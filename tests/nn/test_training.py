"""SAM 2's training pass over clips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from common.data.clip import Clip
from common.nn.sam2 import SAM2
from common.nn.sam2.prompts import PromptSampling
from common.nn.sam2.training import ClipPass
from tests.support.lively import lively_sam2

MASKS = PromptSampling(points=0.0, prompted_frames=1)
POINTS = PromptSampling(points=1.0, box=0.0, prompted_frames=1, corrected_frames=1, clicks=2)
BOXES = PromptSampling(points=1.0, box=1.0, prompted_frames=1, corrected_frames=1, clicks=1)
TERMS = ("mask", "dice", "iou", "occlusion")


@pytest.fixture
def model() -> SAM2:
    return lively_sam2().train()


def random_clip(batch: int = 2, frames: int = 3, objects: int = 2, side: int = 64, seed: int = 0) -> Clip:
    """Noise with boxes that move; every object shows on frame 0."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(batch, frames, objects, side, side, dtype=torch.bool)
    for b in range(batch):
        for n in range(objects):
            for t in range(frames):
                top, left = 4 + 9 * n + 3 * t, 5 + 7 * b + 2 * t
                masks[b, t, n, top : top + 20, left : left + 16] = True
    images = torch.randint(0, 256, (batch, frames, 3, side, side), dtype=torch.uint8, generator=generator)
    return Clip(images, masks, torch.ones(batch, objects, dtype=torch.bool))


def run(model: SAM2, clip: Clip, sampling: PromptSampling, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return ClipPass(model, clip, sampling).run()


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def gradients(model: SAM2, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.net.named_parameters() if p.grad is not None}


def samplings() -> Iterator[PromptSampling]:
    yield from (MASKS, POINTS, BOXES, PromptSampling())


def test_gradients_reach_every_parameter():
    """Over a few networks: some take the object for absent, and another candidate is nearest each time."""
    reached: set[str] = set()
    for seed, sampling in enumerate([*samplings(), *samplings()]):
        model = lively_sam2(seed=seed, visible=2.0 * (seed % 2), head=2.0).train()
        clip = random_clip(frames=4, seed=seed)
        clip.masks[:, 2, 0] = False  # occluded
        found = gradients(model, total(run(model, clip, sampling, seed)))
        assert all(value.isfinite().all() for value in found.values())
        reached |= {name for name, value in found.items() if value.abs().max() > 0}
    trainable = {name for name, parameter in model.net.named_parameters() if parameter.requires_grad}
    assert trainable - reached == set()
    frozen = {name for name, _ in model.net.named_parameters()} - trainable
    assert frozen == {"no_memory_positional_encoding"}  # has no use in SAM 2 but lies in its files


@pytest.mark.parametrize("frames", [1, 2, 3, 9])
def test_any_number_of_frames_gives_finite_terms_with_gradients(model, frames):
    for seed, sampling in enumerate(samplings()):
        terms = run(model, random_clip(frames=frames), sampling, seed)
        assert tuple(terms) == TERMS
        assert all(term.ndim == 0 and term.isfinite() and term >= 0 for term in terms.values())
        assert total(terms).requires_grad


def test_masks_on_every_frame_still_leave_something_to_learn(model):
    """Two frames, both drawn as prompted: the clip goes by points, or no term would depend on the network."""
    every = PromptSampling(points=0.0, prompted_frames=2, corrected_frames=1, clicks=0)
    for seed in range(8):
        assert total(run(model, random_clip(frames=2), every, seed)).requires_grad


def test_one_frame_clip_is_prompted_by_points(model):
    terms = run(model, random_clip(frames=1), MASKS)
    assert terms["mask"].requires_grad
    assert terms["mask"] > 0


def test_mask_prompted_frame_itself_costs_almost_nothing(model):
    """The answer on it is the prompt; what remains is that of the frames after."""
    clip = random_clip(frames=2)
    walk = ClipPass(model, clip, MASKS)
    walk.prompted = [0]
    walk._prompt(0, by_points=False, by_box=False, corrected=False)
    objects = 4
    assert walk.terms["mask"][0] / objects < 5e-3
    assert walk.terms["dice"][0] / objects < 0.1
    assert walk.terms["occlusion"][0] / objects < 1e-3


def test_number_of_supervised_steps(model):
    """A frame counts once, and once more for each correction click."""
    for sampling, steps in ((MASKS, 3), (POINTS, 3 + 2), (BOXES, 3 + 1)):
        torch.manual_seed(0)
        walk = ClipPass(model, random_clip(), sampling)
        walk.run()
        assert {name: len(values) for name, values in walk.terms.items()} == dict.fromkeys(TERMS, steps)


def test_terms_are_per_object(model):
    """Twice the same clip gives the same loss as once."""
    clip = random_clip(batch=1)
    double = Clip(*(torch.cat([t, t]) for t in (clip.frames, clip.masks, clip.valid)))
    one, two = run(model, clip, MASKS), run(model, double, MASKS)
    for name in TERMS:
        torch.testing.assert_close(one[name], two[name], atol=1e-4, rtol=1e-4)


def test_padded_objects_change_nothing(model):
    clip = random_clip(batch=2, objects=1)
    more = torch.cat([clip.masks, torch.ones_like(clip.masks), torch.zeros_like(clip.masks)], 2)
    valid = torch.tensor([[True, False, False]] * 2)
    for seed, sampling in enumerate(samplings()):
        plain = run(model, clip, sampling, seed)
        padded = run(model, Clip(clip.frames, more, valid), sampling, seed)
        for name in TERMS:
            assert torch.equal(plain[name], padded[name]), name


def test_objects_of_one_clip_do_not_meet(model):
    both = random_clip(batch=1, objects=2)
    alone = [Clip(both.frames, both.masks[:, :, n : n + 1], both.valid[:, :1]) for n in range(2)]
    halves = [run(model, clip, MASKS) for clip in alone]
    for name, value in run(model, both, MASKS).items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2, atol=1e-4, rtol=1e-4)


def test_memory_is_read_from_the_past_and_from_all_prompted_frames(model):
    walk = ClipPass(model, random_clip(frames=9), MASKS)
    walk.prompted = [0, 6]
    walk.memories = {t: (torch.full((), t), torch.full((), 10 + t)) for t in (0, 1, 2, 3, 4, 6)}  # type: ignore[misc]
    bank = walk._bank(5)
    assert [int(m) for m in bank.maps] == [0, 6, 1, 2, 3, 4]
    assert bank.slots == [6, 6, 3, 2, 1, 0]
    assert [int(p) - 10 for p in bank.pointers] == [0, 6, 4, 3, 2, 1]
    assert bank.offsets == [5, -1, 1, 2, 3, 4]  # signed
    assert bank.max_pointers == 9


def test_corrected_frame_becomes_a_prompted_one(model):
    sampling = PromptSampling(points=1.0, prompted_frames=1, corrected_frames=2, clicks=1)
    for seed in range(6):
        torch.manual_seed(seed)
        walk = ClipPass(model, random_clip(frames=4), sampling)
        walk.run()
        steps = len(walk.terms["mask"])
        assert len(walk.prompted) == steps - 4
        assert walk.prompted[0] == 0
    assert {steps} <= {5, 6}


@pytest.mark.parametrize("sampling", [MASKS, POINTS, BOXES], ids=["masks", "points", "boxes"])
def test_activation_checkpointing_gives_the_same_gradients(model, sampling):
    clip = random_clip(frames=3)
    plain = gradients(model, total(run(model, clip, sampling)))
    model.checkpoint_activations = True
    kept = gradients(model, total(run(model, clip, sampling)))
    assert kept.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(kept[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_autocast_runs_and_stays_near(model, dtype):
    clip = random_clip()
    for seed, sampling in enumerate(samplings()):
        exact = run(model, clip, MASKS)
        with torch.autocast("cpu", dtype):
            terms = run(model, clip, sampling, seed)
            near = run(model, clip, MASKS)
        assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
        found = gradients(model, total(terms))
        assert all(value.isfinite().all() for value in found.values())
        torch.testing.assert_close(total(near), total(exact), atol=0.1, rtol=0.1)


def test_masks_of_another_size_are_brought_to_the_input(model):
    clip = random_clip(side=96)
    walk = ClipPass(model, clip, MASKS)
    assert walk.truth.shape == (4, 3, 64, 64)
    assert all(term.isfinite() for term in walk.run().values())


def test_a_pass_repeats(model):
    clip = random_clip(frames=4)
    first, second = (run(model, clip, PromptSampling(), seed=5) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in TERMS)


def with_queries(clip: Clip, seed: int = 1) -> Clip:
    """The same clip with a noisy query image and a box on it for each target."""
    batch, objects, side = len(clip.frames), clip.masks.shape[2], clip.frames.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    query = torch.randint(0, 256, (batch, objects, 3, side, side), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(batch, objects, side, side, dtype=torch.bool)
    for n in range(objects):
        masks[:, n, 10 + 8 * n : 30 + 8 * n, 12:40] = True
    return Clip(clip.frames, clip.masks, clip.valid, query, masks)


def test_prompts_without_memory_are_supervised_beside_the_clip_and_leave_its_memories_alone(model):
    clip = random_clip(frames=3)
    clip.masks[0, 1:, 1] = False
    both = PromptSampling(points=0.0, prompted_frames=1, prompt_only_frames=2, prompt_only_clicks=2, feed_back=0.5)
    walks = []
    for sampling in (MASKS, both):
        torch.manual_seed(0)
        walks.append(ClipPass(model, clip, sampling))
        terms = walks[-1].run()
        assert all(term.isfinite() for term in terms.values())
    # on each of two frames a box, a click and two corrections; they come after everything else
    assert len(walks[1].terms["mask"]) == len(walks[0].terms["mask"]) + 2 * 4
    assert walks[0].terms["mask"] == walks[1].terms["mask"][:3]
    for frame, (memory, pointer) in walks[0].memories.items():
        assert torch.equal(memory, walks[1].memories[frame][0])
        assert torch.equal(pointer, walks[1].memories[frame][1])


def test_prompts_without_memory_train_the_single_mask_token(model):
    grads = []
    for sampling in (MASKS, PromptSampling(points=0.0, prompted_frames=1, prompt_only_frames=1)):
        head = gradients(model, run(model, random_clip(), sampling)["dice"])
        grads.append(head["mask_decoder.output_hypernetworks_mlps.0.proj_in.weight"].abs().sum())
    assert grads[0] == 0
    assert grads[1] > 0


def test_losses_at_half_the_resolution_are_near_those_at_the_whole(model):
    clip = random_clip()
    torch.manual_seed(0)
    whole = ClipPass(model, clip, MASKS).run()
    torch.manual_seed(0)
    half = ClipPass(model, clip, MASKS, loss_stride=2).run()
    for name in ("mask", "dice", "iou"):
        assert float(half[name].detach()) == pytest.approx(float(whole[name].detach()), rel=0.15)
    assert half["occlusion"] == whole["occlusion"]


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_every_frame_after_a_query_is_tracked(model, frames):
    """Whatever the sampling says: no frame is prompted or corrected, the first included."""
    clip = with_queries(random_clip(frames=frames))
    clip.masks[:, 0] = False
    for sampling in samplings():
        walk = ClipPass(model, clip, sampling)
        terms = walk.run()
        assert {name: len(values) for name, values in walk.terms.items()} == dict.fromkeys(TERMS, frames)
        assert sorted(walk.memories) == list(range(-1, frames))
        assert all(term.isfinite() for term in terms.values())
        assert terms["occlusion"].requires_grad


def test_absent_targets_are_supervised_by_the_occlusion_score_alone(model):
    clip = with_queries(random_clip())
    clip.masks[:] = False
    terms = run(model, clip, MASKS)
    assert terms["mask"] == terms["dice"] == terms["iou"] == 0
    assert terms["occlusion"] > 0


def test_the_query_is_read_as_a_prompted_frame_before_the_clip(model):
    walk = ClipPass(model, with_queries(random_clip(frames=9)), MASKS)
    walk.prompted = [-1]
    walk.memories = {t: (torch.full((), t), torch.full((), 10 + t)) for t in range(-1, 8)}  # type: ignore[misc]
    first, bank = walk._bank(0), walk._bank(8)
    assert ([int(m) for m in first.maps], first.slots, first.offsets) == ([-1], [6], [1.0])
    assert [int(m) for m in bank.maps] == [-1, 2, 3, 4, 5, 6, 7]
    assert bank.slots == [6, 5, 4, 3, 2, 1, 0]
    assert [int(p) - 10 for p in bank.pointers] == [-1, 7, 6, 5, 4, 3, 2, 1, 0]
    assert bank.offsets == [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_the_loss_depends_on_the_query_and_each_target_on_its_own(model):
    clip = with_queries(random_clip())
    other = with_queries(random_clip(), seed=2)
    assert not torch.equal(total(run(model, clip, MASKS)), total(run(model, other, MASKS)))
    both = with_queries(random_clip(batch=1))
    halves = [Clip(both.frames, both.masks[:, :, [n]], both.valid[:, :1], both.query[:, [n]], both.query_masks[:, [n]])
              for n in range(2)]  # fmt: skip
    each = [run(model, clip, MASKS) for clip in halves]
    for name, value in run(model, both, MASKS).items():
        torch.testing.assert_close(value, (each[0][name] + each[1][name]) / 2, atol=1e-4, rtol=1e-4)


def test_rows_that_pad_the_queries_change_nothing(model):
    clip = with_queries(random_clip(objects=1))
    padded = Clip(
        clip.frames,
        torch.cat([clip.masks, clip.masks], 2),
        torch.tensor([[True, False]] * 2),
        torch.cat([clip.query, torch.zeros_like(clip.query)], 1),
        torch.cat([clip.query_masks, torch.zeros_like(clip.query_masks)], 1),
    )
    for name, value in run(model, clip, MASKS).items():
        assert torch.equal(value, run(model, padded, MASKS)[name]), name
