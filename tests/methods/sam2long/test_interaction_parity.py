"""What a user does after the first prompt, against the ``sam2`` package on equal seeded weights, float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.nn.sam2.postprocess import PACKAGE, PLAIN, PostProcessing
from common.synthetic import SyntheticClips
from common.video import FrameMasks, Prompt, Video
from common.video.readers import TensorFrames
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession
from tests.support import sam2_package

pytestmark = [pytest.mark.parity, pytest.mark.slow]
pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")

GREEDY = TreeSettings(pathways=1, modulation=None, selection=False)
ROUNDING = 1e-4
FRAMES, AT = 6, 3  # AT: the corrected frame
CLICKS = (Prompt(1, points=torch.tensor([[100.0, 60.0]]), labels=torch.tensor([1])),)
CLICKS += (Prompt(1, points=torch.tensor([[40.0, 80.0]]), labels=torch.tensor([0])),)
BOX = Prompt(1, box=(50.0, 30.0, 120.0, 90.0))
Act = Callable[[Any, Any], list[Tensor]]


class Clip:
    """A generated clip as a JPEG folder and as the same decoded frames."""

    def __init__(self, folder: Path) -> None:
        raw = SyntheticClips("easy", length=1, frames=FRAMES, size=(120, 200), seed=5, objects=1)[0]
        frames = []
        for index, frame in enumerate(raw):
            path = folder / f"{index:05d}.jpg"
            Image.fromarray(frame.numpy()).save(path, quality=95)
            frames.append(torch.from_numpy(np.array(Image.open(path))))
        self.folder, self.masks = str(folder), [truth[0].bool() for truth in raw.truth]
        self.video = Video("clip", TensorFrames(torch.stack(frames)))

    def mask(self, frame: int, target: int = 1) -> Prompt:
        return Prompt(target, frame, mask=self.masks[frame])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip(tmp_path_factory.mktemp("frames"))


class Official:
    """The package's predictor with the suite's prompts; ``logits`` are the newest of target 1, by frame."""

    def __init__(self, predictor: Any, clip: Clip) -> None:
        self.predictor, self.state, self.logits = predictor, predictor.init_state(clip.folder), dict[int, Tensor]()

    def add(self, frame: int, prompt: Prompt, more: bool = False) -> None:
        if prompt.mask is not None:
            _, _, logits = self.predictor.add_new_mask(self.state, frame, prompt.target, prompt.mask)
        else:
            box = None if prompt.box is None else np.array(prompt.box)
            _, _, logits = self.predictor.add_new_points_or_box(
                self.state, frame, prompt.target, prompt.points, prompt.labels, clear_old_points=not more, box=box
            )
        self.logits[frame] = logits[0, 0].clone()

    def run(self, **kwargs: Any) -> None:
        for frame, _, logits in self.predictor.propagate_in_video(self.state, **kwargs):
            self.logits[frame] = logits[0, 0].clone()


class Ours:
    """A session that keeps the newest logits of target 1, by frame."""

    def __init__(self, model: Any, clip: Clip, options: PostProcessing) -> None:
        self.clip, self.logits = clip, dict[int, Tensor]()
        self.session = SAM2LongSession(model, GREEDY, length=FRAMES, options=options)
        self.session.keep_logits = self.session.overlap = True

    def take(self, answers: list[FrameMasks]) -> None:
        for answer in answers:
            assert answer.logits is not None
            if 1 in answer.targets:
                self.logits[answer.frame] = answer.logits[answer.targets.index(1)]

    def run(self, first: int, last: int, *prompts: Prompt) -> None:
        for frame in range(first, last + 1):
            self.take(self.session.step(self.clip.video[frame], prompts if frame == first else ()))

    def correct(self, *prompts: Prompt) -> None:
        self.take([self.session.correct(prompts)])


def compare(ours: dict[int, Tensor], official: dict[int, Tensor]) -> None:
    """Logits of the same frames within 1e-3, and equal masks; with ``pytest -s`` the differences are printed."""
    assert ours.keys() == official.keys()
    differences = [(ours[frame] - expected).abs().max().item() for frame, expected in official.items()]
    pixels = sum(int(((ours[frame] > 0) ^ (expected > 0)).sum()) for frame, expected in official.items())
    inside = sum(int((expected > 0).sum()) for expected in official.values())
    print(f"\n{len(official)} frames: logits within {max(differences):.1e}, {pixels} of {inside} pixels differ")
    for frame, expected in official.items():
        assert (ours[frame] - expected).abs().max() < 1e-3, f"frame {frame}"
        decided = expected.abs() > ROUNDING  # a logit within rounding of 0 may have either sign
        assert torch.equal((ours[frame] > 0)[decided], (expected > 0)[decided]), f"frame {frame}"


@pytest.fixture(params=["plain", "package"])
def pair(request: pytest.FixtureRequest, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> tuple[Official, Ours]:
    """Both without and with the package's default post-processing."""
    post = request.param == "package"
    predictor, model = sam2_package.seeded_pair(post, sam2_package.VIDEO_SIDE)
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", sam2_package.connected_components)
    with torch.inference_mode():
        yield Official(predictor, clip), Ours(model, clip, PACKAGE if post else PLAIN)


CORRECTIONS = {"click": CLICKS[:1], "two clicks": CLICKS, "box": (BOX,), "mask": ()}


@pytest.mark.parametrize(("kind", "as_prompt"), [*((kind, False) for kind in CORRECTIONS), ("two clicks", True)])
def test_correction_of_a_tracked_frame(
    pair: tuple[Official, Ours], clip: Clip, kind: str, as_prompt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    official, ours = pair
    ours.session.options = replace(ours.session.options, corrections_as_prompts=as_prompt)
    monkeypatch.setattr(official.predictor, "add_all_frames_to_correct_as_cond", as_prompt)
    official.add(0, clip.mask(0))
    official.run()
    ours.run(0, AT, clip.mask(0))
    for number, prompt in enumerate(CORRECTIONS[kind] or (clip.mask(AT),)):
        before = ours.logits[AT]
        official.add(AT, prompt, more=number > 0)
        ours.correct(prompt)
        compare({AT: ours.logits[AT]}, {AT: official.logits[AT]})
        assert not torch.equal(before > 0, ours.logits[AT] > 0)
    official.run(start_frame_idx=AT + 1)  # from AT on, it would track AT once more and lose the correction
    ours.run(AT + 1, FRAMES - 1)
    compare(ours.logits, official.logits)


def test_click_in_step_on_a_tracked_target_is_a_correction(pair: tuple[Official, Ours], clip: Clip) -> None:
    official, ours = pair
    official.add(0, clip.mask(0))
    official.run()
    official.add(AT, CLICKS[0])
    official.run(start_frame_idx=AT + 1)
    ours.run(0, AT - 1, clip.mask(0))
    ours.run(AT, FRAMES - 1, CLICKS[0])
    compare(ours.logits, official.logits)


def test_clicks_one_after_the_other_on_the_first_frame(pair: tuple[Official, Ours]) -> None:
    official, ours = pair
    official.add(0, CLICKS[0])
    official.add(0, CLICKS[1], more=True)
    official.run()
    ours.run(0, 0, CLICKS[0])
    ours.correct(CLICKS[1])
    ours.run(1, FRAMES - 1)
    compare(ours.logits, official.logits)


@pytest.mark.parametrize("prompt", [BOX, replace(CLICKS[0], points=torch.tensor([[80.0, 60.0]])), "points"])
def test_first_prompt(pair: tuple[Official, Ours], prompt: Prompt | str) -> None:
    if isinstance(prompt, str):
        points = torch.tensor([[80.0, 60.0], [90.0, 65.0], [20.0, 10.0]])
        prompt = Prompt(1, points=points, labels=torch.tensor([1, 1, 0]))
    official, ours = pair
    official.add(0, prompt)
    official.run()
    ours.run(0, FRAMES - 1, prompt)
    compare(ours.logits, official.logits)


def test_prompts_of_a_frame_cleared(pair: tuple[Official, Ours], clip: Clip) -> None:
    official, ours = pair
    official.add(0, clip.mask(0))
    official.run(max_frame_num_to_track=AT - 1)
    official.add(AT, clip.mask(AT))
    official.run(start_frame_idx=AT, max_frame_num_to_track=0)
    official.predictor.clear_all_prompts_in_frame(official.state, AT, 1)
    official.run(start_frame_idx=AT + 1)
    ours.run(0, AT - 1, clip.mask(0))
    ours.run(AT, AT, clip.mask(AT))
    ours.take([ours.session.clear(1)])
    ours.run(AT + 1, FRAMES - 1)
    compare(ours.logits, official.logits)


def test_removed_target_leaves_the_others_alone(pair: tuple[Official, Ours], clip: Clip) -> None:
    official, ours = pair
    other = replace(BOX, target=2)
    official.add(0, clip.mask(0))
    official.add(0, other)
    official.run(max_frame_num_to_track=AT)
    official.predictor.remove_object(official.state, 2)
    official.run(start_frame_idx=AT + 1)
    ours.run(0, AT, clip.mask(0), other)
    ours.session.drop(2)
    ours.run(AT + 1, FRAMES - 1)
    compare(ours.logits, official.logits)


@pytest.mark.parametrize("second", ["mask", "click"])
def test_prompts_on_two_frames_given_before_tracking(pair: tuple[Official, Ours], clip: Clip, second: str) -> None:
    official, ours = pair
    prompt = clip.mask(AT) if second == "mask" else CLICKS[0]
    official.add(0, clip.mask(0))
    official.add(AT, prompt)
    official.run()
    ours.session.prompt_ahead(AT, clip.video[AT], [prompt])
    ours.run(0, FRAMES - 1, clip.mask(0))
    compare(ours.logits, official.logits)


def test_limit_of_prompted_frames(clip: Clip) -> None:
    predictor, model = sam2_package.seeded_pair(False, sam2_package.VIDEO_SIDE)
    official, ours = Official(predictor, clip), Ours(model, clip, replace(PLAIN, max_prompted_frames=2))
    predictor.max_cond_frames_in_attn = 2
    try:
        with torch.inference_mode():
            for frame in (0, 2, AT, AT + 2):
                official.add(frame, clip.mask(frame))
                if frame:
                    ours.session.prompt_ahead(frame, clip.video[frame], [clip.mask(frame)])
            official.run()
            ours.run(0, FRAMES - 1, clip.mask(0))
    finally:
        predictor.max_cond_frames_in_attn = -1
    compare(ours.logits, official.logits)


def test_backwards(pair: tuple[Official, Ours], clip: Clip) -> None:
    official, ours = pair
    official.add(FRAMES - 1, clip.mask(FRAMES - 1))
    official.run(start_frame_idx=FRAMES - 1, reverse=True)
    for frame in reversed(range(FRAMES)):
        ours.take(ours.session.step(clip.video[frame], [clip.mask(frame)] if frame == FRAMES - 1 else []))
    compare({FRAMES - 1 - frame: logits for frame, logits in ours.logits.items()}, official.logits)
