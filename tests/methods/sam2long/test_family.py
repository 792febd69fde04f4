"""SAMURAI and DAM4SAM: the Kalman filter, the choice of masks and the memories that are read, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.nn.sam2 import SAM2, Candidates
from common.video.masks import rle_decode
from methods.sam2long import SAM2Long
from methods.sam2long.dam4sam import DAM4SAMSettings, DistractorAwareMemory, DistractorDetector, largest_component
from methods.sam2long.motion import BoxFilter, box_iou, mask_boxes
from methods.sam2long.pathways import Prediction, TargetMemory
from methods.sam2long.samurai import MotionModel, SamuraiMemory, SamuraiSettings
from methods.sam2long.session import SAM2LongSession
from tests.support.seeded import FAMILY_CASES, case_prompts, case_video, seed_ours

FILE = Path(__file__).parents[2] / "golden/sam2long/family.json"
EXPECTED = json.loads(FILE.read_text()) if FILE.exists() else {}


def test_boxes_of_masks():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:5, 3:7] = True
    assert mask_boxes(masks) == [(3, 2, 6, 4), (0, 0, 0, 0)]
    assert box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(1 / 3)
    assert box_iou((1, 1, 1, 1), (2, 2, 2, 2)) == 1


def test_filter_follows_constant_velocity_and_is_pulled_by_what_it_sees():
    box_filter = BoxFilter((0, 0, 20, 40))
    assert box_filter.mean.tolist() == [10, 20, 0.5, 40, 0, 0, 0, 0]
    # 2 / 20 and 10 / 160 of the height, squared
    np.testing.assert_allclose(np.diag(box_filter.covariance), [16, 16, 1e-4, 16, 6.25, 6.25, 1e-10, 6.25])
    box_filter.predict()
    assert box_filter.box == (0, 0, 20, 40)
    assert box_filter.covariance[0, 0] == pytest.approx(16 + 6.25 + 4)
    box_filter.update((10, 0, 30, 40))
    gain = 26.25 / (26.25 + 4)  # of the centre, 10 pixels further
    assert box_filter.mean[0] == pytest.approx(10 + 10 * gain)
    assert box_filter.mean[4] == pytest.approx(10 * 6.25 / 30.25)
    for step in range(2, 40):
        box_filter.predict()
        box_filter.update((10 * step, 0, 10 * step + 20, 40))
    box_filter.predict()
    assert box_filter.box[0] == pytest.approx(400, abs=1)


def test_motion_takes_part_once_the_track_is_stable():
    model = MotionModel(SamuraiSettings(motion_weight=0.5, stable_frames=3))
    here, far = (10.0, 10.0, 30.0, 30.0), (100.0, 100.0, 120.0, 120.0)
    for _ in range(3):
        assert model.choose([0.6, 0.9], [far, here]) == (1, None)
    index, overlap = model.choose([0.9, 0.8], [far, here])
    assert index == 1
    assert overlap == pytest.approx(1, abs=0.01)
    assert model.choose([0.2, 0.1], [far, here])[0] == 1  # unstable: 0.1 is below 0.3
    assert model.choose([0.9, 0.8], [far, here]) == (0, None)  # and starts again


def answer(iou: float, score: float = 5.0, size: int = 4) -> Candidates:
    logits = torch.ones(1, 1, size, size) * score
    return Candidates(logits, torch.tensor([[iou]]), torch.tensor([score]), torch.zeros(1, 1, 4))


def track(memory: TargetMemory, steps: list[tuple[float, float]]) -> None:
    """Prompt on frame 0 and one frame for each (IoU, score); every map names its frame."""
    memory.prompt(0, answer(1.0, 10.0), torch.zeros(1, 1))
    for frame, (iou, score) in enumerate(steps, 1):
        (node,) = memory.nodes
        predictions = {node: Prediction([iou], score, torch.ones(1, 4, 4) * score)}
        branches = memory.choose(predictions, (8, 8))
        memory.grow(frame, branches, predictions, [answer(iou, score)], [torch.full((1, 1), float(frame))])
        assert [final.frame for final in memory.pop_final()][-1] == frame


def read(memory: TargetMemory, frame: int) -> tuple[list[int], list[int], list[float]]:
    """Frames and slots of the maps, and offsets of the pointers, that a frame reads."""
    bank = memory.bank(memory.nodes[0], frame)
    return [int(m) for m in bank.maps], bank.slots, bank.offsets


def test_samurai_reads_good_frames_the_last_one_and_all_recent_pointers():
    memory = SamuraiMemory(SamuraiSettings())
    track(memory, [(0.9, 5.0), (0.9, 5.0), (0.5, 5.0), (0.9, -0.5), (0.9, 5.0), (0.1, 5.0)])
    #              1: never        2           3: not > .5   4: hidden     5           6: last
    maps, slots, offsets = read(memory, 7)
    assert maps == [0, 2, 5, 6]
    assert slots == [6, 2, 1, 0]
    assert offsets == [7, 1, 2, 3, 4, 5, 6]


def test_samurai_memory_is_bounded():
    memory = SamuraiMemory(SamuraiSettings())
    track(memory, [(0.9, 5.0)] * 10 + [(0.1, 5.0)] * 60)
    assert read(memory, 71)[0] == [0, 6, 7, 8, 9, 10, 70]
    assert len(memory.nodes[0].recent) <= 15 + 6


def test_dam4sam_reads_the_last_frame_and_every_fifth_on_which_the_target_is_visible():
    memory = DistractorAwareMemory(DAM4SAMSettings())
    track(memory, [(0.9, -5.0 if frame in (10, 13) else 5.0) for frame in range(1, 33)])
    maps, slots, offsets = read(memory, 33)
    assert maps == [0, 5, 15, 20, 25, 30, 32]
    assert slots == [6, 5, 4, 3, 2, 1, 0]
    assert offsets == [33, *range(1, 16)]
    hidden = DistractorAwareMemory(DAM4SAMSettings())
    track(hidden, [(0.9, 5.0)] * 12 + [(0.9, -5.0)] * 40)
    assert read(hidden, 53) == ([0, 5, 10, 12], [6, 2, 1, 0], [53])
    assert len(hidden.nodes[0].recent) <= 15 + 8


def test_dam4sam_reads_at_most_four_frames_of_the_drm_and_never_the_last_frame_from_it():
    memory = DistractorAwareMemory(DAM4SAMSettings())
    memory.detector.joins = lambda frame, *rest: frame in (3, 6, 9, 12, 15)  # type: ignore[method-assign]
    track(memory, [(0.9, 5.0)] * 15)
    maps, slots, _ = read(memory, 16)
    assert maps == [0, 6, 9, 12, 5, 10, 15]  # 15 is the previous frame still; 3 is no longer read
    assert slots == [6, 6, 6, 6, 2, 1, 0]
    assert len(memory.prompted) == 5


def test_a_frame_joins_the_drm_if_a_reliable_mask_has_a_distant_alternative():
    def masks(*columns: slice) -> torch.Tensor:
        out = torch.zeros(2, 10, 40, dtype=torch.bool)
        out[0, :, :10] = True
        for part in columns:
            out[1, :, part] = True
        return out

    far, near = masks(slice(0, 12), slice(25, 40)), masks(slice(0, 12))
    watch = DistractorDetector(DAM4SAMSettings())
    assert not watch.joins(1, 0, 0.9, far)  # one area is no history
    assert not watch.joins(2, 0, 0.8, far)  # predicted IoU
    assert not watch.joins(3, 0, 0.9, near)  # box IoU 9 / 11
    assert watch.joins(4, 0, 0.9, far)
    assert not watch.joins(9, 0, 0.9, far)  # 5 frames are too few
    assert watch.joins(10, 0, 0.9, far)
    grown = far.clone()
    grown[0, :, :13] = True
    assert not watch.joins(20, 0, 0.9, grown)  # 1.3 times the median area


def test_largest_component_is_eight_connected():
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = mask[3, 3] = True
    mask[5, 5:8] = True
    assert largest_component(mask) == (0, 0, 3, 3)


def test_module_names_rows_and_refuses_settings_of_another_rule():
    assert SAM2Long(image_size=64, memory="samurai").method_name == "SAMURAI"
    module = SAM2Long(image_size=64, memory="dam4sam", dam4sam=DAM4SAMSettings(ram_stride=3))
    assert (module.method_name, module.variant) == ("DAM4SAM", "nano, ram_stride=3")
    with pytest.raises(InputError, match="settings of samurai are given"):
        SAM2Long(image_size=64, samurai=SamuraiSettings())
    with pytest.raises(InputError, match="settings of sam2long are given"):
        SAM2Long(image_size=64, memory="samurai", pathways=2)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", EXPECTED)
def test_same_masks_as_the_official_codes(name):
    case = FAMILY_CASES[name]
    session = SAM2LongSession(seed_ours(SAM2("tiny", case.version, case.side), case), case.settings)
    session.overlap = True
    answers = []
    for index, frame in enumerate(case_video(case)):
        answers += session.step(frame, case_prompts(case) if index == 0 else ())
    for target, counts in enumerate(EXPECTED[name]):
        masks = torch.stack([answer.masks[target] for answer in answers])
        official = rle_decode([{"size": list(masks.shape[1:]), "counts": one} for one in counts])
        assert int((masks != official).sum()) <= 5  # rounding differs between processors
