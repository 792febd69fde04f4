"""The video predictor: against the ``sam2`` package on seeded weights with its defaults, and what it keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.nn.sam2.postprocess import PLAIN, PostProcessing
from common.synthetic import SyntheticClips
from methods.sam2long.predictor import VideoPredictor
from tests.support import sam2_package
from tests.support.lively import lively_sam2

FRAMES = 9
BOX = np.array([50, 30, 120, 90], dtype=np.float32)
POINTS = np.array([[80, 60], [20, 10]], dtype=np.float32)
LABELS = np.array([1, 0], dtype=np.int32)
Script = Callable[[Any, Any], list]


def write_frames(folder: Path, frames: int = FRAMES) -> str:
    for index, frame in enumerate(SyntheticClips("easy", length=1, frames=frames, size=(120, 200), seed=5)[0]):
        Image.fromarray(frame.numpy()).save(folder / f"{index:05d}.jpg", quality=95)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return write_frames(tmp_path_factory.mktemp("frames"))


@pytest.fixture
def official(monkeypatch):
    pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")
    predictor = sam2_package.seeded_pair(side=sam2_package.VIDEO_SIDE)[0]
    monkeypatch.setattr(sys.modules["sam2.utils.misc"], "get_connected_components", sam2_package.connected_components)
    return predictor


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:120, :200]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def click(x: int, y: int, positive: bool = True) -> dict[str, Any]:
    return {"points": np.array([[x, y]], dtype=np.float32), "labels": np.array([positive], dtype=np.int32)}


def refine_and_go_on(predictor, state) -> list:
    """A box, more clicks on the frame, the whole video, a correction in its middle, and on from there."""
    out = [predictor.add_new_points_or_box(state, 0, 1, box=BOX)]
    out += [predictor.add_new_points_or_box(state, 0, 1, POINTS, LABELS, box=BOX)]
    out += [predictor.add_new_points_or_box(state, 0, 1, **click(100, 50), clear_old_points=False)]
    out += predictor.propagate_in_video(state)
    out += [predictor.add_new_points_or_box(state, 5, 1, **click(60, 80, False))]
    out += [predictor.add_new_points_or_box(state, 5, 1, **click(90, 60), clear_old_points=False)]
    out += predictor.propagate_in_video(state, start_frame_idx=5)
    out += predictor.propagate_in_video(state, start_frame_idx=3, max_frame_num_to_track=2)
    return out


def both_directions(predictor, state) -> list:
    """A mask and a click on a middle frame, forwards and backwards, then a click on a frame tracked backwards."""
    out = [predictor.add_new_mask(state, 4, 7, disc(84, 58, 22))]
    out += [predictor.add_new_points_or_box(state, 4, 3, **click(130, 44))]
    out += predictor.propagate_in_video(state)
    out += predictor.propagate_in_video(state, start_frame_idx=4, reverse=True)
    out += [predictor.add_new_points_or_box(state, 2, 3, **click(150, 50))]
    out += predictor.propagate_in_video(state, start_frame_idx=2, max_frame_num_to_track=3, reverse=True)
    out += predictor.propagate_in_video(state, start_frame_idx=0, reverse=True)
    return out


def several_prompted_frames(predictor, state) -> list:
    """Prompts on two frames before tracking: the first frames read the later one; then one is cleared."""
    out = [predictor.add_new_points_or_box(state, 6, "cup", POINTS, LABELS)]
    out += [predictor.add_new_mask(state, 1, "cup", torch.from_numpy(disc(90, 50, 20)))]
    out += [predictor.add_new_points_or_box(state, 1, "hand", box=BOX)]
    out += predictor.propagate_in_video(state)
    out += predictor.propagate_in_video(state, start_frame_idx=2, max_frame_num_to_track=1)
    out += [predictor.clear_all_prompts_in_frame(state, 6, "cup")]
    out += predictor.propagate_in_video(state)
    out += [predictor.add_new_points_or_box(state, 6, "cup", **click(70, 70))]
    out += predictor.propagate_in_video(state, start_frame_idx=4)
    return out


def objects_come_and_go(predictor, state) -> list:
    """A second object after tracking, removal of the first, and a new start."""
    out = [predictor.add_new_points_or_box(state, 0, 1, **click(80, 60))]
    out += predictor.propagate_in_video(state, max_frame_num_to_track=4)
    out += [predictor.add_new_points_or_box(state, 3, 2, box=BOX / [200, 120, 200, 120], normalize_coords=False)]
    out += predictor.propagate_in_video(state, start_frame_idx=3)
    ids, frames = predictor.remove_object(state, 1)
    out += [(frame, ids, logits) for frame, logits in frames]
    out += predictor.propagate_in_video(state, start_frame_idx=3)
    assert predictor.remove_object(state, "none") == ([2], [])
    assert predictor.remove_object(state, 2) == ([], [])
    out += [predictor.add_new_mask(state, 1, 5, disc(100, 60, 20))]
    out += predictor.propagate_in_video(state)
    predictor.reset_state(state)
    out += [predictor.add_new_points_or_box(state, 2, 9, box=BOX)]
    out += predictor.propagate_in_video(state, max_frame_num_to_track=2)
    return out


SCRIPTS: list[Script] = [refine_and_go_on, both_directions, several_prompted_frames, objects_come_and_go]


def compare(theirs: list, ours: list) -> None:
    assert [frame for frame, _, _ in ours] == [frame for frame, _, _ in theirs]
    for step, ((frame, ids, a), (_, expected_ids, b)) in enumerate(zip(ours, theirs, strict=True)):
        assert ids == expected_ids, f"step {step}"
        assert a.shape == b.shape, f"step {step}, frame {frame}"
        assert (a - b).abs().max() < 1e-3, f"step {step}, frame {frame}: {(a - b).abs().max()}"
        differ = (a > 0) != (b > 0)  # rounding may move a logit across 0
        assert differ.sum() <= 2, f"step {step}, frame {frame}"
    mixed = sum(bool((logits > 0).any() and (logits <= 0).any()) for _, _, logits in theirs)
    assert mixed > len(theirs) - 5, "the case is trivial"


def recorded(script: Script, predictor: Any, state: Any) -> list:
    """Run a script; ids and logits are copied, as the package changes its list of ids later."""

    class Recording:
        def __getattr__(self, name):
            method = getattr(predictor, name)

            def call(*args, **kwargs):
                result = method(*args, **kwargs)
                if name == "propagate_in_video":
                    return [(frame, list(ids), logits.clone()) for frame, ids, logits in result]
                if name == "remove_object":
                    return list(result[0]), result[1]
                if name.startswith(("add", "clear")):
                    return result[0], list(result[1]), result[2].clone()
                return result

            return call

    return script(Recording(), state)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_same_answers_as_the_package(script, official, folder):
    ours = VideoPredictor(sam2_package.seeded_pair(side=sam2_package.VIDEO_SIDE)[1])
    theirs = recorded(script, official, official.init_state(folder))
    compare(theirs, recorded(script, ours, ours.init_state(folder)))


@pytest.fixture(scope="module")
def small() -> VideoPredictor:
    return VideoPredictor(lively_sam2(seed=2, image_size=64), PLAIN)


def clip(frames: int = 24) -> torch.Tensor:
    return torch.stack(list(SyntheticClips("easy", length=1, frames=frames, size=(60, 80), seed=5)[0]))


def tracked(predictor: VideoPredictor, state: Any, **options: Any) -> list:
    return list(predictor.propagate_in_video(state, **options))


def assert_same(ours: list, expected: list) -> None:
    assert [frame for frame, _, _ in ours] == [frame for frame, _, _ in expected]
    for (_, _, a), (_, _, b) in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_folder_a_tensor_and_an_iterator_are_the_same_video(small, tmp_path):
    video = clip(18)
    for index, frame in enumerate(video):
        Image.fromarray(frame.numpy()).save(tmp_path / f"{index:05d}.png")
    answers = []
    for source in (video, str(tmp_path), iter(video.numpy())):
        state = small.init_state(source)
        small.add_new_points_or_box(state, 0, "a", box=(20, 15, 50, 45))
        small.add_new_mask(state, 2, ("b", 1), video[2, ..., 0] > 128)
        answers.append(tracked(small, state))
        assert answers[-1][0][1] == ["a", ("b", 1)]
    assert_same(answers[1], answers[0])
    assert_same(answers[2], answers[0])
    assert small.init_state(video)["num_frames"] == 18


def test_a_stream_and_keep_frames_are_bounded_and_equal_until_then(small):
    video = clip(60)
    everything, bounded, stream = (
        small.init_state(video),
        small.init_state(video, keep_frames=16),
        small.init_state(iter(video)),
    )
    answers = []
    for state in (everything, bounded, stream):
        small.add_new_points_or_box(state, 0, 1, **click(40, 30))
        answers.append(tracked(small, state))
    assert_same(answers[1], answers[0])
    assert_same(answers[2], answers[0])
    assert [len(state.targets[1].tracked) for state in (everything, bounded, stream)] == [59, 31, 47]
    # a correction within what is kept is the same, one beyond it is an error and not another answer
    corrected = [small.add_new_points_or_box(state, 50, 1, **click(50, 20)) for state in (everything, bounded, stream)]
    assert_same(corrected[1:2], corrected[:1])
    assert_same(corrected[2:], corrected[:1])
    with pytest.raises(InputError, match="frame 5: what it reads is no longer kept; raise keep_frames"):
        small.add_new_points_or_box(bounded, 5, 1, **click(50, 20))
    with pytest.raises(InputError, match="frame 5 of the stream is no longer kept"):
        small.add_new_points_or_box(stream, 5, 1, **click(50, 20))
    with pytest.raises(InputError, match="frame 35: what it reads is no longer kept"):
        tracked(small, bounded, start_frame_idx=35)
    assert_same(tracked(small, bounded), tracked(small, everything))
    with pytest.raises(InputError, match="keep_frames is 0"):
        small.init_state(video, keep_frames=0)


def test_a_correction_of_a_prompted_frame_is_kept(small):
    """The package answers it and forgets it when tracking goes on."""
    state = small.init_state(clip(6))
    small.add_new_points_or_box(state, 0, 1, box=(20, 15, 50, 45))
    before = tracked(small, state)
    corrected = small.add_new_points_or_box(state, 0, 1, **click(60, 50))
    after = tracked(small, state)
    assert_same(after[:1], [corrected])
    assert not torch.allclose(after[0][2], before[0][2])
    assert not torch.allclose(after[3][2], before[3][2])


def test_frames_before_the_first_prompt_are_tracked(small):
    state = small.init_state(clip(6))
    small.add_new_points_or_box(state, 4, 1, box=(20, 15, 50, 45))
    assert [frame for frame, _, _ in tracked(small, state, start_frame_idx=1)] == [1, 2, 3, 4, 5]


def test_options(small):
    video = clip(12)
    network = small.model
    apart = VideoPredictor(network, PLAIN, non_overlap_masks=True)
    cleared = VideoPredictor(network, PostProcessing(clear_around_input=True))
    closest = VideoPredictor(network, PostProcessing(max_prompted_frames=2))
    state = apart.init_state(video)
    apart.add_new_points_or_box(state, 0, 1, box=(10, 10, 60, 50))
    apart.add_new_points_or_box(state, 0, 2, box=(20, 15, 50, 45))
    for _, _, logits in tracked(apart, state):
        assert ((logits > 0).sum(0) <= 1).all()
    state = cleared.init_state(video)
    cleared.add_new_points_or_box(state, 0, 1, box=(10, 10, 60, 50))
    tracked(cleared, state)
    cleared.add_new_points_or_box(state, 9, 1, **click(40, 30))
    cleared.propagate_in_video_preflight(state)
    assert sorted(state.targets[1].tracked) == [1, 9]
    state = closest.init_state(video)
    for frame in (0, 1, 2, 8):
        closest.add_new_points_or_box(state, frame, 1, box=(10, 10, 60, 50))
    tracked(closest, state)
    bank = state.targets[1].bank(6, False, 12, 2, torch.device("cpu"))
    assert bank.slots == [6, 6, 5, 4, 2, 1, 0]  # frames 2 and 8; 0 and 1 as tracked ones; 3, 4, 5


def test_errors(small):
    state = small.init_state(clip(4))
    with pytest.raises(RuntimeError, match="no object has been given"):
        tracked(small, state)
    for arguments, message in (
        ({}, "give points or a box"),
        ({"points": [[1, 2]]}, "must be given together"),
        ({"points": [[1, 2]], "labels": [7]}, "labels must be 1"),
        ({"points": [[1, float("nan")]], "labels": [1]}, "finite"),
        ({"box": [1, 2, 3]}, "a box must be"),
        ({"box": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "of one object, not of 2"),
        ({"box": [1, 2, 3, 4], "clear_old_points": False}, "clear_old_points=True"),
    ):
        with pytest.raises(InputError, match=message):
            small.add_new_points_or_box(state, 0, 1, **arguments)
    for frame in (-1, 4, 1.5):
        with pytest.raises(InputError, match=f"frame {frame} is not in the video of 4 frames"):
            small.add_new_mask(state, frame, 1, torch.ones(60, 80))
    with pytest.raises(InputError, match="must be"):
        small.add_new_mask(state, 0, 1, torch.ones(1, 60, 80))
    assert state["obj_ids"] == [], "a refused input leaves no object"
    with pytest.raises(InputError, match="object 1 is not tracked"):
        small.clear_all_prompts_in_frame(state, 0, 1)
    with pytest.raises(RuntimeError, match="object 1 is not tracked"):
        small.remove_object(state, 1, strict=True)
    small.add_new_mask(state, 0, 1, torch.ones(60, 80))
    small.clear_all_prompts_in_frame(state, 0, 1)
    with pytest.raises(RuntimeError, match="object 1 has no input left"):
        tracked(small, state)
