"""The session: answers, writes to memory, and the feature that relevance is measured on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import InputError
from common.nn.memory_policy import KeepAll, LeastRelevant, Oldest
from common.nn.smart_memory import SmartMemory
from common.synthetic import SyntheticClips
from common.video import Prompt, Video, open_video
from methods.hqsmem import HQSMem
from methods.hqsmem.refinement.gate import RefinedMasks, Refiner, RefineSettings
from methods.hqsmem.session import HQSMemSession
from methods.hqsmem.settings import MemorySettings
from tests.support.small_refiner import with_small_refiner

SIZE, LENGTH = (33, 47), 9


@pytest.fixture(scope="module")
def video() -> Video:
    clip = SyntheticClips("easy", length=1, frames=LENGTH, size=SIZE, seed=5, objects=2)[0]
    return replace(open_video(torch.stack(list(clip)), "clip"), prompts=clip.prompts)


def module(**settings) -> HQSMem:
    torch.manual_seed(0)
    return with_small_refiner(HQSMem(weights="random", sam_hq="random", dino="random", **settings).eval())


class ShiftingRefiner(Refiner):
    """Replaces every mask by itself, shifted by one pixel to the right, and records the masks that it gets."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.inputs: list[Tensor] = []

    def forward(self, frame: Tensor, masks: Tensor, tokens: Tensor | None = None) -> RefinedMasks:
        self.inputs.append(masks)
        accepted = torch.ones(len(masks), dtype=torch.bool)
        return RefinedMasks(masks.roll(1, -1), accepted, accepted.float())


def open_session(overlap: bool = False, **settings) -> tuple[HQSMemSession, list[Tensor]]:
    """Return a session that refines by ``ShiftingRefiner``, and a list to which it appends the label maps it writes.

    A frame is written when the next one comes.
    """
    session = module(hqtf=False, memory=MemorySettings(gap=2), **settings).session(LENGTH)
    session.refiner, session.overlap = ShiftingRefiner(), overlap
    written, write = [], session.tracker.write

    def recording_write(labels, *rest):
        written.append(labels)
        write(labels, *rest)

    session.tracker.write = recording_write  # type: ignore[method-assign]
    return session, written


def test_refined_masks_are_answered_and_written(video):
    session, written = open_session()
    answers = [
        answer for index, frame in enumerate(video) for answer in session.step(frame, () if index else video.prompts)
    ]
    session.step(video[0])
    assert len(written) == LENGTH
    for answer, labels in zip(answers, written, strict=True):
        assert torch.equal(answer.label_map().long(), labels)
        assert torch.equal(answer.masks.sum(0) > 0, labels > 0)  # no two share a pixel
    inputs = session.refiner.inputs[:-1]
    assert len(inputs) == LENGTH - 1  # an annotated mask is not refined
    moved = torch.stack([inputs[-1][row].roll(1, -1) for row in range(2)])
    assert torch.equal(moved.any(0), written[-1] > 0)


def test_refined_masks_may_be_answered_as_they_are(video):
    session, written = open_session(overlap=True)
    session.step(video[0], video.prompts)
    (answer,) = session.step(video[1])
    assert torch.equal(answer.masks, session.refiner.inputs[0].roll(1, -1))
    session.step(video[2])
    assert torch.equal(answer.masks.any(0), written[-1] > 0)


def test_a_second_mask_of_a_target_is_its_answer(video):
    session, written = open_session()
    session.step(video[0], video.prompts)
    corrected = replace(video.prompts[1], mask=video.prompts[1].mask.roll(3, 0))
    (answer,) = session.step(video[1], [corrected])
    assert torch.equal(answer.select((corrected.target,))[0], corrected.mask)
    assert len(session.refiner.inputs[-1]) == 1
    session.step(video[2])
    assert torch.equal(written[-1] == corrected.target, corrected.mask)


@pytest.mark.parametrize("per_object", [False, True])
def test_a_correction_is_as_if_the_mask_had_been_given_with_the_frame(video, per_object):
    made = module(hqtf=False, memory=MemorySettings(gap=2, capacity=3, per_object=per_object, short_term_skip=2))
    corrected = replace(video.prompts[1], mask=video.prompts[1].mask.roll(3, 0))
    answers = {}
    for way in ("given", "corrected"):
        session = made.session(LENGTH)
        answers[way] = []
        for index, frame in enumerate(video):
            prompts = video.prompts if index == 0 else [corrected] if index == 4 and way == "given" else ()
            answers[way] += session.step(frame, prompts)
            if index == 4 and way == "corrected":
                session.correct([replace(corrected, mask=video.prompts[0].mask)])
                answers[way][-1] = session.correct([corrected])
    for one, other in zip(answers["given"], answers["corrected"], strict=True):
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.scores, other.scores)


def test_nested_given_masks_are_both_answered(video):
    outer, inner = torch.zeros(2, *SIZE, dtype=torch.bool)
    outer[5:25, 5:35], inner[10:15, 10:15] = True, True
    (answer,) = module().session().step(video[0], [Prompt(1, mask=outer), Prompt(2, mask=inner)])
    assert torch.equal(answer.masks, torch.stack([outer & ~inner, inner]))


@pytest.mark.parametrize("feature", ["encoder", "dino"])
@pytest.mark.parametrize("per_object", [False, True])
def test_relevance_is_measured_on_the_chosen_feature(video, feature, per_object):
    memory = MemorySettings(gap=2, capacity=3, per_object=per_object)
    made = module(hqtf=False, feature=feature, memory=memory)
    session = made.session(LENGTH)
    left, right = torch.zeros(2, *SIZE, dtype=torch.bool)
    left[:, :20], right[:, 27:] = True, True
    session.step(video[0], [Prompt(1, mask=left), Prompt(2, mask=right)])
    for frame in list(video)[1:]:
        session.step(frame)
    width = {"encoder": made.network.settings.width, "dino": 16}[feature]
    lists = session.tracker.groups[0].engine.bank.lists
    assert len(lists) == (3 if per_object else 1)
    assert max(map(len, lists.values())) > 1
    for entries in lists.values():
        assert len(entries) <= 3
        assert {len(entry.descriptor) for entry in entries} == {width}
        assert all(entry.descriptor.norm().item() == pytest.approx(1, abs=1e-4) for entry in entries)
    if feature == "dino" and per_object:  # of each mask, not of the frame
        assert not torch.allclose(lists[1][0].descriptor, lists[2][0].descriptor, atol=1e-3)


def test_smart_memory_holds_the_bank_at_its_capacity(video):
    made = module(hqtf=False, memory=MemorySettings(gap=1, capacity=3))
    session, sizes = made.session(), []
    for index in range(20):
        session.step(video[index % LENGTH], video.prompts if index == 0 else ())
        if index == 0:
            continue  # a frame is written when the next one comes
        bank = session.tracker.groups[0].engine.bank
        sizes.append(len(bank))
        assert bank.lists[0][0].reference
    assert max(sizes) <= 3
    assert sizes[-1] > 1


def test_more_than_ten_targets(video):
    """Twelve one-row masks: an engine for every three (the nano network's identities), one SAM-HQ for all."""
    masks = torch.zeros(12, *SIZE, dtype=torch.bool)
    for row in range(12):
        masks[row, 2 * row] = True
    session = module(refinement=RefineSettings(threshold=-1.0)).session()
    session.step(video[0], [Prompt(row + 1, mask=mask) for row, mask in enumerate(masks)])
    (answer,) = session.step(video[1])
    assert answer.targets == tuple(range(1, 13))
    assert len(session.tracker.groups) == 4


def test_the_policy_follows_from_the_settings():
    """The rows of the ablation, and the baselines that they rest on."""
    bounded = MemorySettings(capacity=4)
    policies = [
        (module()._memory_policy(), SmartMemory),
        (module(smem=False)._memory_policy(), KeepAll),
        (module(smem=False, memory=bounded)._memory_policy(), Oldest),
        (module(smem=False, memory=replace(bounded, per_object=True))._memory_policy(), LeastRelevant),
    ]
    assert all(isinstance(policy, kind) for policy, kind in policies)
    assert module().memory.capacity == 10


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({}, ("HQ-SMem", "base=DeAOT nano")),
        ({"variant": "swinb-deaot-l", "memory": MemorySettings(per_object=True)}, ("HQ-SMem", "base=DM_Swin_DeAOT")),
        ({"variant": "deaot-t", "hqtf": False, "smem": False}, ("DeAOT-T", "")),
        ({"variant": "r50-deaot-l", "smem": False}, ("R50_DeAOT-L", "+HQTF")),
        ({"hqtf": False, "policy": SmartMemory(balance=0.2)}, ("DeAOT nano", "+SMem, balance=0.2")),
        ({"smem": False, "refinement": RefineSettings(None)}, ("DeAOT nano", "+SAM ungated")),
    ],
)
def test_rows_are_named_as_in_the_tables(settings, row, monkeypatch):
    monkeypatch.setattr("methods.hqsmem.module.DeAOT", Sketch)  # a Swin-B takes long to make
    made = module(**settings)
    assert (made.method_name, made.variant) == row


class Sketch(torch.nn.Module):
    def __init__(self, settings) -> None:
        super().__init__()
        self.settings = settings


def test_missing_networks_are_reported_where_they_are_needed(video, tmp_path):
    made = HQSMem(weights="random", sam_hq=str(tmp_path / "sam_hq_vit_h.pth"), dino="random").eval()
    with pytest.raises(InputError, match=r"sam_hq_vit_h.pth: no such weights"):
        made.session()
    with pytest.raises(InputError, match=r"sam_hq_vit_h.pth: no such weights"):
        _ = made.borrowed_files
    without = HQSMem(weights="random", sam_hq=str(tmp_path), dino=str(tmp_path), hqtf=False).eval()
    assert without.borrowed_files == ()
    assert len(list(without.track(video))) == LENGTH


def test_no_checkpoint_holds_the_borrowed_networks():
    made = HQSMem(weights="random", sam_hq="random", dino="random")
    made.session()
    assert all(name.startswith("network.") for name in made.state_dict())
    assert all(name.startswith("network.") for name, _ in made.named_parameters())
