"""UniVS's training step: which prompts a batch gets, clips of long videos and their memory."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch

from common.data.clip import Clip
from common.errors import InputError
from methods.univs import UniVS
from methods.univs.settings import TrainingSettings
from methods.univs.training.prompts import PromptBatch, sample_prompts
from methods.univs.training.step import CROSS_CLIP_TERMS, LOSS_TERMS, batch_losses, instance_targets
from tests.support.fake_univs import bar_clip

SMALL = TrainingSettings(num_points=32, max_prompts=6)


@pytest.fixture(scope="module")
def module() -> UniVS:
    torch.manual_seed(0)
    return UniVS(queries=8, points=4, recipe=SMALL)


def masks_of(batch: Clip) -> torch.Tensor:
    return batch.masks.transpose(1, 2)


def prompts_of(module: UniVS, batch: Clip, **changes) -> PromptBatch:
    settings = replace(SMALL, **changes)
    concepts = module.network.concepts(batch.vocabulary) if batch.vocabulary else None
    return sample_prompts(module.network, batch, masks_of(batch), concepts, settings)


def test_clips_of_a_video():
    long = TrainingSettings(clip=5, overlap=1)
    assert TrainingSettings().windows(3) == [(0, 3)]
    assert long.windows(7) == [(0, 5), (2, 7)]  # the last one is moved back
    assert long.windows(13) == [(0, 5), (4, 9), (8, 13)]
    with pytest.raises(InputError, match=r"clips of 5 frames, but the batch has videos of 4; give --data\.frames 6"):
        long.windows(4)
    with pytest.raises(InputError, match="overlap"):
        TrainingSettings(clip=3, overlap=3)


def test_prompts_follow_from_what_the_data_set_has(module):
    assert prompts_of(module, bar_clip(kind="mask")).kind == "visual"
    assert prompts_of(module, bar_clip(kind="expression")).kind == "expression"
    assert prompts_of(module, bar_clip(), visual_prompt_prob=1.0).kind == "visual"
    assert prompts_of(module, bar_clip(), visual_prompt_prob=0.0).kind == "category"
    assert prompts_of(module, bar_clip(), visual_prompt_prob=0.0, max_vocabulary=4).kind == "visual"  # as LVIS
    torch.manual_seed(0)
    drawn = [prompts_of(module, bar_clip()).kind for _ in range(60)]
    assert 8 <= drawn.count("visual") <= 30  # 18.5 expected


def test_only_what_shows_in_the_key_frame_becomes_a_visual_prompt(module):
    batch = bar_clip(kind="mask")
    batch.masks[0, 0, 1] = False
    draws = [prompts_of(module, batch) for _ in range(20)]
    chosen = {tuple(sorted(prompts.rows[0][prompts.valid[0]].tolist())) for prompts in draws}
    assert chosen == {(0, 2), (0, 1, 2)}
    assert all(prompts.valid[1].sum() == 2 for prompts in draws)


def test_category_names_ask_for_what_is_present_and_for_other_names(module):
    prompts = prompts_of(module, bar_clip(), visual_prompt_prob=0.0, max_prompts=4)
    assert prompts.valid.all()
    assert {0, 4} <= set(prompts.rows[0].tolist())
    assert len(set(prompts.rows[0].tolist())) == 4
    batch = bar_clip()
    targets = prompts.targets(masks_of(batch))
    for place, name in enumerate(prompts.rows[0].tolist()):
        rows = [row for row, category in enumerate((0, 0, 4)) if category == name]
        assert targets.ids[0, place] == (name if rows else -1)
        assert targets.labels[0, place] == name
        assert torch.equal(targets.masks[0, place], masks_of(batch)[0, rows].any(0))


def test_the_words_of_an_expression_stay_with_its_target(module):
    batch = bar_clip(kind="expression")
    prompts = prompts_of(module, batch)
    for video, place in prompts.valid.nonzero().tolist():
        row = int(prompts.rows[video, place])
        words = module.network.text.expressions([batch.expressions[video][row]])[0]
        torch.testing.assert_close(prompts.text[video, place], words)


def test_targets_of_the_learnable_queries_are_those_that_show():
    batch = bar_clip()
    batch.masks[0, :, 1] = False
    targets = instance_targets(masks_of(batch), batch.categories)
    assert targets.ids.tolist() == [[0, -1, 2], [0, 1, -1]]


@pytest.mark.parametrize(("kind", "visual"), [("category", 0.0), ("category", 1.0), ("expression", 0.5), ("mask", 0.5)])
def test_every_kind_of_batch_gives_every_term(module, kind, visual):
    torch.manual_seed(0)
    module.train()
    terms = batch_losses(module.network, bar_clip(kind=kind), replace(SMALL, visual_prompt_prob=visual))
    assert set(terms) == {*LOSS_TERMS, *CROSS_CLIP_TERMS} == set(module.loss_weights)
    assert all(term.isfinite() for term in terms.values())
    assert all(terms[name] > 0 for name in ("mask", "dice", "reid_prompt"))
    assert (terms["class"] > 0) == (kind == "category")
    assert (terms["semantic"] > 0) == (kind == "category" and visual == 0)
    assert terms["reid_clips"] == 0


def test_without_prompts_only_learnable_queries_are_trained(module):
    terms = batch_losses(module.network, bar_clip(), replace(SMALL, prompts=False))
    assert terms["class"] > 0
    assert terms["reid_prompt"] == 0


@pytest.mark.parametrize("kind", ["mask", "expression", "category"])
def test_later_clips_of_a_long_video_read_the_memory_of_the_first(module, kind):
    torch.manual_seed(0)
    module.train()
    seen, network, points = [], module.network, module.network.settings.points
    decode = network.decode

    def spy(scene, prompts):
        seen.append((scene, prompts))
        return decode(scene, prompts)

    with mock.patch.object(network, "decode", spy):
        terms = batch_losses(network, bar_clip(5, kind), replace(SMALL, clip=3, overlap=1, visual_prompt_prob=0.0))
    assert terms["reid_clips"] > 0
    assert [scene.frame_index[0].tolist() for scene, _ in seen] == [[0, 1, 2], [2, 3, 4]]
    lengths = [prompts.content.shape[3] for _, prompts in seen]
    assert len(seen[0][1]) == len(seen[1][1])
    # T = 3: k is 2. Names have no memory.
    assert lengths[1] - lengths[0] == (0 if kind == "category" else 2 * points)


def test_memory_is_of_the_last_frames_and_keeps_their_times(module):
    network, batch = module.network.eval(), bar_clip(5, "mask")
    scene = network.scene(network.encode(batch.frames.flatten(0, 1).float() / 255), batch.times + 7)
    prompts = prompts_of(module, batch)
    counts = set()
    for seed in range(12):
        torch.manual_seed(seed)
        tokens = prompts.sample_memory_tokens(scene, masks_of(batch))
        count = tokens.content.shape[3] // network.settings.points
        counts.add(count)
        assert not tokens.content.requires_grad
        first = tokens.position[0, 0, 0, 0]  # a cell of frame T - k
        assert any(torch.equal(first, code) for code in scene.codes[-1][0, 5 - count])
    assert counts == {2, 3, 4}  # T / 3 + 1 to T - 1


def test_frame_numbers_stay_within_what_the_position_code_knows(module):
    batch = bar_clip(kind="mask")
    with mock.patch.object(module.network, "scene", wraps=module.network.scene) as scene:
        batch_losses(module.network, replace(batch, times=torch.tensor([[100, 500], [3, 9]])), SMALL)
    assert scene.call_args.args[1].tolist() == [[-272, 128], [3, 9]]
