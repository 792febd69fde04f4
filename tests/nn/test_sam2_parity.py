"""The SAM 2 core against the ``sam2`` package on the same seeded weights, float32, frame by frame."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from common.nn.sam2 import SAM2
from common.nn.sam2.weights import from_official
from common.synthetic import SyntheticClips
from common.video import Prompt, Video
from common.video.readers import TensorFrames
from methods.sam2long.picks import TreeSettings
from methods.sam2long.session import SAM2LongSession

pytestmark = pytest.mark.parity
build_sam = pytest.importorskip("sam2.build_sam", reason="the sam2 package is not installed; `make parity` installs it")

CONFIGS = {"2": "configs/sam2/sam2_hiera_t.yaml", "2.1": "configs/sam2.1/sam2.1_hiera_t.yaml"}
GREEDY = TreeSettings(pathways=1, modulation=None, selection=False)
FRAMES = 10
LONGER = ("box", "point", "points")


@functools.lru_cache(maxsize=1)
def seeded_pair(version: str, side: int):
    """The official predictor and our core on the same random weights, with the object made visible."""
    official = build_sam.build_sam2_video_predictor(
        CONFIGS[version],
        None,
        device="cpu",
        apply_postprocessing=False,
        hydra_overrides_extra=[f"++model.image_size={side}"],
    )
    generator = torch.Generator().manual_seed(0)
    state = official.state_dict()
    for name, value in state.items():
        if value.ndim > 1 and "norm" not in name:
            fan = value[0].numel() if value.ndim > 2 or "embed" not in name else value.shape[-1]
            state[name] = torch.randn(value.shape, generator=generator) / fan**0.5
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 1.0
    official.load_state_dict(state)
    ours = SAM2("tiny", version, side).eval()
    ours.net.load_state_dict(from_official(state))
    return official, ours


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[str, Video]:
    """A generated clip as a JPEG folder and as the same decoded frames."""
    folder = tmp_path_factory.mktemp("frames")
    video = SyntheticClips("easy", length=1, frames=FRAMES, size=(120, 200), seed=5, objects=1)[0]
    frames = []
    for index, frame in enumerate(video):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(frame.numpy()).save(path, quality=95)
        frames.append(torch.from_numpy(np.array(Image.open(path))))
    return str(folder), Video("clip", TensorFrames(torch.stack(frames)), prompts=video.prompts)


def official_logits(official, folder: str, prompt: Prompt) -> list[torch.Tensor]:
    """Video-size logits (H, W) of every frame."""
    with torch.inference_mode():
        state = official.init_state(video_path=folder)
        if prompt.mask is not None:
            official.add_new_mask(state, 0, 1, prompt.mask)
        else:
            official.add_new_points_or_box(
                state,
                0,
                1,
                points=prompt.points,
                labels=prompt.labels,
                box=None if prompt.box is None else np.array(prompt.box),
            )
        return [logits[0, 0].clone() for _, _, logits in official.propagate_in_video(state)]


def our_logits(model: SAM2, video: Video, prompt: Prompt) -> list[torch.Tensor]:
    """The same from our session, by the S/4 logits of every answer."""
    session = SAM2LongSession(model, GREEDY, length=len(video))
    logits = []
    for index, frame in enumerate(video):
        session.step(frame, [prompt] if index == 0 else [])
        small = session.trees[1].pathways[0].node.logits
        logits.append(
            torch.nn.functional.interpolate(small, frame.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        )
    return logits


def compare(version: str, side: int, clip, prompt: Prompt, frames: int = FRAMES) -> None:
    folder, video = clip
    official, ours = seeded_pair(version, side)
    expected = official_logits(official, folder, prompt)
    got = our_logits(ours, video, prompt)
    assert len(got) == len(expected) == frames
    assert sum((e > 0).any() and (e <= 0).any() for e in expected) >= frames - 2, "the case is trivial"
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert (a - b).abs().max() < 1e-3, f"frame {index}"
        # a logit within rounding of 0 may have either sign on some processors
        assert int(((a > 0) != (b > 0)).sum()) <= 1, f"frame {index}"


@pytest.mark.parametrize("version", [pytest.param("2", marks=pytest.mark.slow), "2.1"])
def test_mask_prompt(version, clip):
    compare(version, 256, clip, clip[1].prompts[0])


@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in LONGER), "box and points"])
def test_box_and_point_prompts(kind, clip):
    box = (50.0, 30.0, 120.0, 90.0) if "box" in kind else None
    count = {"point": 1, "points": 3, "box and points": 2}.get(kind, 0)
    points = torch.tensor([[80.0, 60.0], [90.0, 65.0], [20.0, 10.0]])[:count] if count else None
    labels = torch.tensor([1, 1, 0])[:count] if count else None
    compare("2.1", 256, clip, Prompt(1, 0, box=box, points=points, labels=labels))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2", "2.1"])
def test_mask_prompt_at_full_size(version, clip):
    compare(version, 1024, clip, clip[1].prompts[0])
