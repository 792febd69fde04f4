"""The video predictor: against the ``sam2`` package on seeded weights, with its default post-processing, and its state."""

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
    out = [predictor.add_new_mask(state, 4, 7, disc(80, 60, 25))]
    out += [predictor.add_new_points_or_box(state, 4, 3, **click(140, 40))]
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
        assert not differ.any() or (differ.sum() <= 2 and b[differ].abs().max() < 1e-4), f"step {step}, frame {frame}"
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
