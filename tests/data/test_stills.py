"""Still images that move."""

from __future__ import annotations

from dataclasses import replace

import torch

from common.data.clips import ClipDataset
from common.data.stills import MovedStills
from common.synthetic import SyntheticClips
from common.video import open_video


def still(frames: int = 1):
    """A frame of 30 x 40 pixels, left half white with the one target in it."""
    image = torch.zeros(frames, 30, 40, 3, dtype=torch.uint8)
    image[:, :, :20] = 255
    mask = torch.zeros(1, 30, 40, dtype=torch.bool)
    mask[0, :, :20] = True
    return replace(open_video(image, "half"), targets=(1,), truth=[mask] * frames)


def test_without_movement_every_frame_is_the_image() -> None:
    video = MovedStills([still()], frames=3, degrees=0, shear=0, translate=0, scale=(1.0, 1.0))[0]
    assert len(video) == 3
    for frame in range(3):
        assert torch.equal(video[frame], still()[0])
        assert torch.equal(video.truth[frame], still().truth[0])


def test_a_rotation_turns_pixels_and_not_the_stretched_frame() -> None:
    moved = MovedStills([still()], frames=1, degrees=0, shear=0, translate=0, scale=(1.0, 1.0))
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    moved._move = lambda rng: quarter
    mask = moved[0].truth[0][0]
    # pixel (x, y) from the centre looks at (-y, x): the left half becomes the lower half, and beyond 30 of the image's
    # height, that is 15 to each side of the centre, there is nothing
    assert mask[15:, 5:35].all()
    assert not mask[:15].any()
    assert not mask[:, :5].any()
    assert not mask[:, 35:].any()
    frame = moved[0][0]
    assert (frame[16:, 6:34] == 255).all()
    assert (frame[:, :4] == 128).all()


def test_frames_move_each_by_itself_with_their_masks_and_always_alike() -> None:
    videos = SyntheticClips("easy", length=2, frames=1, size=(33, 49), seed=1)
    moved = MovedStills(videos, frames=3)
    first, again, other = moved[0], moved[0], MovedStills(videos, frames=3, seed=1)[0]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first.truth[0], first.truth[1])
    frames, masks = ClipDataset(moved, frames=3, size=(33, 33))[0]
    assert frames.shape == (3, 3, 33, 33)
    assert masks[0].any()
