"""UniVS's training step: which prompts a batch gets, clips of long videos and their memory, freezing, rates."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch

from common.data.clip import Clip
from common.errors import InputError
from methods.univs import UniVS
from methods.univs.training.step import (
    BETWEEN,
    TERMS,
    TrainingSettings,
    ask,
    batch_losses,
    instance_targets,
    prompt_targets,
    remember,
)

SMALL = TrainingSettings(points=32, targets=6)
NAMES = ("ball", "box", "star", "tree", "sky")


@pytest.fixture(scope="module")
def module() -> UniVS:
    torch.manual_seed(0)
    return UniVS(queries=8, points=4, recipe=SMALL)


def clip(frames: int = 2, kind: str = "category", side: int = 64) -> Clip:
    """Two videos of three bars; the third one of the second is padding."""
    masks = torch.zeros(2, frames, 3, side, side, dtype=torch.bool)
    for row in range(3):
        masks[:, :, row, :, row * side // 3 : (row + 1) * side // 3] = True
    masks[1, :, 2] = False
    valid = torch.tensor([[True] * 3, [True, True, False]])
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (2, frames, 3, side, side), generator=generator, dtype=torch.uint8)
    out = Clip(pixels, masks, valid, times=torch.arange(frames).repeat(2, 1))
    if kind == "category":
        return replace(out, categories=torch.tensor([[0, 0, 4], [2, 0, -1]]), vocabulary=NAMES, stuff=("sky",))
    if kind == "expression":
        return replace(out, expressions=[["a ball", "the box", "sky"], ["a star", "a tree", ""]])
    return out


def masks_of(batch: Clip) -> torch.Tensor:
    return batch.masks.transpose(1, 2)


def asked_of(module: UniVS, batch: Clip, **changes):
    settings = replace(SMALL, **changes)
    concepts = module.network.concepts(batch.vocabulary) if batch.vocabulary else None
    return ask(module.network, batch, masks_of(batch), concepts, settings)


def test_clips_of_a_video():
    long = TrainingSettings(clip=5, overlap=1)
    assert TrainingSettings().windows(3) == [(0, 3)]
    assert long.windows(7) == [(0, 5), (2, 7)]  # the last one is moved back
    assert long.windows(13) == [(0, 5), (4, 9), (8, 13)]
    assert long.windows(4) == [(0, 4)]
    with pytest.raises(InputError, match="overlap"):
        TrainingSettings(clip=3, overlap=3)


def test_prompts_follow_from_what_the_data_set_has(module):
    assert asked_of(module, clip(kind="mask")).kind == "visual"
    assert asked_of(module, clip(kind="expression")).kind == "expression"
    assert asked_of(module, clip(), visual=1.0).kind == "visual"
    assert asked_of(module, clip(), visual=0.0).kind == "category"
    assert asked_of(module, clip(), visual=0.0, names=4).kind == "visual"  # as LVIS
    torch.manual_seed(0)
    drawn = [asked_of(module, clip()).kind for _ in range(60)]
    assert 8 <= drawn.count("visual") <= 30  # 18.5 expected


def test_only_what_shows_in_the_key_frame_becomes_a_visual_prompt(module):
    batch = clip(kind="mask")
    batch.masks[0, 0, 1] = False
    asked = [asked_of(module, batch) for _ in range(20)]
    seen = {tuple(sorted(a.rows[0][a.valid[0]].tolist())) for a in asked}
    assert seen == {(0, 2), (0, 1, 2)}
    assert all(a.valid[1].sum() == 2 for a in asked)


def test_category_names_ask_for_what_is_present_and_for_other_names(module):
    asked = asked_of(module, clip(), visual=0.0, targets=4)
    assert asked.valid.all()
    assert {0, 4} <= set(asked.rows[0].tolist())
    assert len(set(asked.rows[0].tolist())) == 4
    batch = clip()
    found = prompt_targets(asked, masks_of(batch), batch.categories)
    for place, name in enumerate(asked.rows[0].tolist()):
        rows = [row for row, own in enumerate((0, 0, 4)) if own == name]
        assert found.ids[0, place] == (name if rows else -1)
        assert found.labels[0, place] == name
        assert torch.equal(found.masks[0, place], masks_of(batch)[0, rows].any(0))


def test_the_words_of_an_expression_stay_with_its_target(module):
    batch = clip(kind="expression")
    asked = asked_of(module, batch)
    for video, place in asked.valid.nonzero().tolist():
        row = int(asked.rows[video, place])
        words = module.network.text.expressions([batch.expressions[video][row]])[0]
        torch.testing.assert_close(asked.text[video, place], words)


def test_targets_of_the_learnable_queries_are_those_that_show():
    batch = clip()
    batch.masks[0, :, 1] = False
    found = instance_targets(masks_of(batch), batch.categories)
    assert found.ids.tolist() == [[0, -1, 2], [0, 1, -1]]


@pytest.mark.parametrize(("kind", "visual"), [("category", 0.0), ("category", 1.0), ("expression", 0.5), ("mask", 0.5)])
def test_every_kind_of_batch_gives_every_term(module, kind, visual):
    torch.manual_seed(0)
    module.train()
    terms = batch_losses(module.network, clip(kind=kind), replace(SMALL, visual=visual))
    assert set(terms) == {*TERMS, *BETWEEN} == set(module.loss_weights)
    assert all(term.isfinite() for term in terms.values())
    assert all(terms[name] > 0 for name in ("mask", "dice", "reid_prompt"))
    assert (terms["class"] > 0) == (kind == "category")
    assert (terms["semantic"] > 0) == (kind == "category" and visual == 0)
    assert terms["reid_clips"] == 0


def test_without_prompts_only_learnable_queries_are_trained(module):
    terms = batch_losses(module.network, clip(), replace(SMALL, prompts=False))
    assert terms["class"] > 0
    assert terms["reid_prompt"] == 0


@pytest.mark.parametrize("kind", ["mask", "expression", "category"])
def test_later_clips_of_a_long_video_read_the_memory_of_the_first(module, kind):
    torch.manual_seed(0)
    module.train()
    seen, core, points = [], module.network, module.network.settings.points
    decode = core.decode

    def spy(scene, prompts):
        seen.append((scene, prompts))
        return decode(scene, prompts)

    with mock.patch.object(core, "decode", spy):
        terms = batch_losses(core, clip(5, kind), replace(SMALL, clip=3, overlap=1, visual=0.0))
    assert terms["reid_clips"] > 0
    assert [scene.frame_index[0].tolist() for scene, _ in seen] == [[0, 1, 2], [2, 3, 4]]
    lengths = [prompts.content.shape[3] for _, prompts in seen]
    assert len(seen[0][1]) == len(seen[1][1])
    # T = 3: k is 2. Names have no memory.
    assert lengths[1] - lengths[0] == (0 if kind == "category" else 2 * points)


def test_memory_is_of_the_last_frames_and_keeps_their_times(module):
    core, batch = module.network.eval(), clip(5, "mask")
    scene = core.scene(core.encode(batch.frames.flatten(0, 1).float() / 255), batch.times + 7)
    asked = asked_of(module, batch)
    counts = set()
    for seed in range(12):
        torch.manual_seed(seed)
        tokens = remember(core, scene, asked, masks_of(batch))
        count = tokens.content.shape[3] // core.settings.points
        counts.add(count)
        assert not tokens.content.requires_grad
        first = tokens.position[0, 0, 0, 0]  # a cell of frame T - k
        assert any(torch.equal(first, code) for code in scene.codes[-1][0, 5 - count])
    assert counts == {2, 3, 4}  # T / 3 + 1 to T - 1


def test_frame_numbers_stay_within_what_the_position_code_knows(module):
    batch = clip(kind="mask")
    with mock.patch.object(module.network, "scene", wraps=module.network.scene) as scene:
        batch_losses(module.network, replace(batch, times=torch.tensor([[100, 500], [3, 9]])), SMALL)
    assert scene.call_args.args[1].tolist() == [[-272, 128], [3, 9]]


def test_frozen_parts_stay_as_they_are():
    module = UniVS(queries=4, recipe=SMALL, frozen_stages=4, freeze_pixel_decoder=True).train()
    trained = {name.split(".")[1] for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert not trained & {"backbone", "pixels"}
    before = {name: value.clone() for name, value in module.network.backbone.state_dict().items()}
    batch_losses(module.network, clip(), SMALL)
    assert all(torch.equal(value, before[name]) for name, value in module.network.backbone.state_dict().items())
    partly = UniVS(queries=4, recipe=SMALL, frozen_stages=3)
    trained = {n.split("stages.")[1][0] for n, p in partly.named_parameters() if p.requires_grad and "stages." in n}
    assert trained == {"3"}


def test_rates_and_decay():
    module = UniVS(lr=1.0, weight_decay=0.5, backbone_lr=0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = module.parameter_groups()
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found.keys() == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, rates in found.items():
        assert rates[0] == (0.1 if "network.backbone." in name else 1.0), name
    assert found["network.decoder.query"] == found["network.level"] == found["network.task.visual"] == (1.0, 0.0)
    assert found["network.decoder.heads.norm.weight"][1] == 0
    assert found["network.decoder.heads.classes.projection.weight"] == (1.0, 0.5)
    embeddings = [name for name in found if "embedding.weight" in name or "level_embed" in name]
    assert len(embeddings) == 3
    assert all(found[name][1] == 0 for name in embeddings)


def test_milestones():
    chosen = UniVS(lr=1.0, warmup_steps=1, milestones=[3, 5]).configure_optimizers()
    schedule, rates = chosen["lr_scheduler"]["scheduler"], []
    for _ in range(7):
        rates.append(max(group["lr"] for group in chosen["optimizer"].param_groups))
        chosen["optimizer"].step()
        schedule.step()
    assert rates == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.slow
def test_a_batch_can_be_learned():
    torch.manual_seed(0)
    module = UniVS(queries=8, points=8, recipe=SMALL, backbone_lr=1.0).train()
    batch, optimizer = clip(), torch.optim.AdamW(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        terms = module.losses(batch)
        loss = torch.stack([module.loss_weights[name] * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(terms["mask"].item() + terms["dice"].item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_exported_weights_are_read_again(tmp_path):
    torch.manual_seed(1)
    module = UniVS(queries=4)
    module.export(exported := tmp_path / "small.safetensors", half=True)
    again = UniVS(queries=4, weights=str(exported))
    assert again.weights_file == exported
    for name, value in module.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().to(value.dtype), msg=name)


def test_settings_outlive_a_checkpoint():
    """A checkpoint holds them as plain data."""
    module = UniVS(queries=4, recipe=SMALL, frozen_stages=2)
    checkpoint = {"hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    assert isinstance(checkpoint["hyper_parameters"]["recipe"], dict)
    again = UniVS(**{key: value for key, value in checkpoint["hyper_parameters"].items() if key != "_class_path"})
    assert again.recipe == SMALL
    assert again.inference.short_side is None  # nano runs at the video's own size
