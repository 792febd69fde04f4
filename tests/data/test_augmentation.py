"""Augmentation: one change for the whole clip, masks and frames together."""

import numpy as np
import pytest
import torch

from common.data import Augmentation

STILL = Augmentation(
    flip=0,
    degrees=0,
    shear=0,
    translate=0,
    crop=(1, 1),
    stretch=0,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    grey=0,
)
STILL = Augmentation(**{**STILL.__dict__, "frame_jitter": 0, "paste": 0})


def only(**changes) -> Augmentation:
    return Augmentation(**{**STILL.__dict__, **changes})


def painted(frames=3, size=(48, 64)) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip whose two targets are pure red and pure blue on mid-grey, at rest."""
    masks = torch.zeros(frames, 2, *size, dtype=torch.bool)
    masks[:, 0, 10:26, 12:34] = True
    masks[:, 1, 22:40, 40:56] = True
    pixels = torch.full((frames, 3, *size), 128, dtype=torch.uint8)
    for row, channel in ((0, 0), (1, 2)):
        pixels.transpose(0, 1)[:, masks[:, row]] = 0
        pixels[:, channel][masks[:, row]] = 255
    return pixels, masks


GEOMETRIES = {
    "flip": only(flip=1),
    "rotation": only(degrees=40),
    "shear": only(shear=20),
    "shift": only(translate=0.2),
    "crop": only(crop=(0.6, 0.9), stretch=0.2),
    "all": only(flip=0.5, degrees=25, shear=20, translate=0.1, crop=(0.7, 1.0), stretch=0.15),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_stay_on_their_object_in_every_frame(name):
    pixels, masks = painted()
    moved = 0
    for seed in range(10):
        frames, after = GEOMETRIES[name](pixels, masks, np.random.default_rng(seed))
        red = frames[:, 0].float() - frames[:, 2].float()
        colour = torch.stack((red, -red), 1)  # 255 on its own target
        if after.shape[1] == 2:
            inside, outside = after & (colour > 40), ~after & (colour > 215)
            assert inside.sum() > 0.93 * after.sum()
            assert outside.sum() < 0.02 * after.sum()
        assert (frames == frames[:1]).all()
        assert (after == after[:1]).all()
        moved += after.shape != masks.shape or not torch.equal(after, masks)
    assert moved >= 9


def test_nothing_asked_changes_nothing():
    pixels, masks = painted()
    frames, after = STILL(pixels, masks, np.random.default_rng(0))
    assert torch.equal(after, masks)
    assert (frames.int() - pixels.int()).abs().max() <= 1


def test_flip_is_the_mirror_image():
    pixels, masks = painted()
    frames, after = only(flip=1)(pixels, masks, np.random.default_rng(0))
    assert torch.equal(after, masks.flip(-1))
    assert (frames.int() - pixels.flip(-1).int()).abs().max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_strong_geometry_keeps_a_target_in_the_first_frame(seed):
    pixels, masks = painted()
    wild = only(flip=0.5, degrees=180, shear=40, translate=0.9, crop=(0.2, 0.5))
    _, after = wild(pixels, masks, np.random.default_rng(seed))
    assert after.shape[1] >= 1
    assert after[0].flatten(1).any(1).all()


def test_colour_is_the_same_for_all_frames_unless_jittered():
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(4, -1, -1, -1).contiguous()
    masks = torch.ones(4, 1, 16, 16, dtype=torch.bool)
    strong = only(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    frames, _ = strong(pixels, masks, np.random.default_rng(1))
    assert (frames == frames[:1]).all()
    assert not torch.equal(frames, pixels)
    jittered, _ = only(frame_jitter=0.2)(pixels, masks, np.random.default_rng(1))
    assert not (jittered == jittered[:1]).all()


def test_grey_loses_colour_and_keeps_brightness():
    pixels, masks = painted()
    frames, _ = only(grey=1)(pixels, masks, np.random.default_rng(0))
    assert (frames - frames[:, :1] == 0).all()
    red = frames[:, 0][masks[:, 0]]
    assert (red == 76).all()  # 0.299 * 255


def test_hue_keeps_greys_and_mean_colour():
    pixels, masks = painted()
    frames, _ = only(hue=1 / 3)(pixels, masks, np.random.default_rng(3))
    background = ~masks.any(1)
    assert (frames.transpose(0, 1)[:, background] == 128).all()


def test_pasted_object_hides_what_is_behind_it():
    pixels, masks = painted()
    other = torch.full_like(pixels, 7), torch.zeros(3, 1, 48, 64, dtype=torch.bool)
    other[1][:, 0, 20:24, 30:44] = True
    frames, after = only(paste=1)(pixels, masks, np.random.default_rng(0), paste=other)
    assert (frames.transpose(0, 1)[:, other[1][:, 0]] == 7).all()
    assert torch.equal(after, masks & ~other[1])


def test_paste_never_hides_a_target_in_the_first_frame():
    pixels, masks = painted()
    other = torch.full_like(pixels, 7), torch.ones(3, 1, 48, 64, dtype=torch.bool)
    frames, after = only(paste=1)(pixels, masks, np.random.default_rng(0), paste=other)
    assert torch.equal(after, masks)
    assert (frames.int() - pixels.int()).abs().max() <= 1


def square(box: tuple[int, int, int, int], colour: int, frames=3, size=(48, 64)) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip of one colour with one target, y0, y1, x0, x1."""
    masks = torch.zeros(frames, 1, *size, dtype=torch.bool)
    masks[:, 0, box[0] : box[1], box[2] : box[3]] = True
    return torch.full((frames, 3, *size), colour, dtype=torch.uint8), masks


def test_pasted_targets_are_targets_with_soft_edges():
    pixels, masks = painted()
    other, added = square((20, 30, 30, 44), 7)
    joining = only(paste=1, pasted="targets")
    frames, after = joining(pixels, masks, np.random.default_rng(0), paste=(other, added), max_objects=3)
    assert torch.equal(after, torch.cat([masks & ~added, added], 1))
    inner = torch.zeros(48, 64, dtype=torch.bool)
    inner[22:28, 32:42] = True
    assert (frames.transpose(0, 1)[:, :, inner] == 7).all()
    # Two pixels before its left edge and one, over the red target: 0.0545 and 0.0545 + 0.2442 of the Gaussian.
    assert masks[0, 0, 24, 28:30].all()
    assert frames[0, 0, 24, 28:30].tolist() == [round(255 + (7 - 255) * weight) for weight in (0.0545, 0.2987)]


def test_no_more_targets_than_a_clip_may_have_and_none_that_is_hidden():
    pixels, masks = painted()
    joining = only(paste=1, pasted="targets")
    over = square((8, 28, 10, 36), 7)  # all of the red one
    _, after = joining(pixels, masks, np.random.default_rng(0), paste=over, max_objects=3)
    assert torch.equal(after, torch.cat([masks[:, 1:] & ~over[1], over[1]], 1))
    beside = square((40, 46, 4, 10), 7)
    frames, after = joining(pixels, masks, np.random.default_rng(0), paste=beside, max_objects=2)
    assert torch.equal(after, masks)  # it has as many as it may: nothing is pasted
    assert (frames.int() - pixels.int()).abs().max() <= 1
    three = torch.cat([masks, beside[1]], 1)
    kept = set()
    for seed in range(12):
        _, after = joining(
            *square((0, 6, 50, 60), 9), np.random.default_rng(seed), paste=(pixels, three), max_objects=3
        )
        assert after.shape[1] == 3
        kept |= {row for row in range(3) if any(torch.equal(m, three[:, row]) for m in after.unbind(1))}
    assert kept == {0, 1, 2}


def test_shape_is_kept():
    """A disc in a wide frame stays a disc in a square clip, and is squeezed without ``keep_shape``."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(96), indexing="ij")
    disc = ((y - 24) ** 2 + (x - 48) ** 2 < 15**2)[None, None]
    pixels = torch.zeros(1, 3, 48, 96, dtype=torch.uint8)

    def spread(augment: Augmentation) -> tuple[int, int]:
        sides = []
        for seed in range(20):  # the disc may be cut off, but not always
            frames, after = augment(pixels, disc, np.random.default_rng(seed), size=(48, 48))
            assert frames.shape[2:] == after.shape[2:] == (48, 48)
            sides.append((int(after[0, 0].any(1).sum()), int(after[0, 0].any(0).sum())))
        return max(height for height, _ in sides), max(width for _, width in sides)

    assert spread(only()) == (29, 15)
    assert spread(only(keep_shape=True)) == (29, 29)
    # A share of 1/4 of 48 x 96, in the shape of the clip: 34 pixels a side, of which 48 are made.
    assert spread(only(keep_shape=True, crop=(0.5, 0.5))) == pytest.approx((29 * 48 / 33.94, 29 * 48 / 33.94), abs=1)
