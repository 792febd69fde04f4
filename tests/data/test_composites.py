"""Clips composed of still pictures."""

from __future__ import annotations

from dataclasses import replace

import torch

from common.data.clips import ClipDataset
from common.data.composites import CompositeClips
from common.video import Video, open_video


def picture(colour: int, name: str) -> Video:
    """A grey frame of 60 x 80 with one object, a square of one colour."""
    image = torch.full((1, 60, 80, 3), 40, dtype=torch.uint8)
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 20:40, 30:50] = True
    image[0][mask[0]] = colour
    return replace(open_video(image, name), targets=(1,), truth=[mask])


def clips(**options: object) -> CompositeClips:
    return CompositeClips([[picture(200, "light"), picture(120, "dark")]], length=20, size=(48, 48), **options)


def test_the_same_index_gives_the_same_video_and_another_seed_another() -> None:
    first, again, other = (clips(seed=seed)[3] for seed in (1, 1, 2))
    assert torch.equal(first[2], again[2])
    assert torch.equal(first.truth[2], again.truth[2])
    assert not torch.equal(first[2], other[2])


def test_pasted_objects_are_targets_beside_those_of_the_background() -> None:
    video = clips(objects=(0.0, 0.0, 1.0))[0]
    assert video.targets == (1, 2, 3)
    assert len(video) == 8
    for frame in range(8):
        masks = video.truth[frame]
        assert video[frame].shape == (48, 48, 3)
        assert video[frame].dtype == torch.uint8
        assert masks.shape == (3, 48, 48)
        assert (masks.sum(0) <= 1).all()  # what hides another takes its pixels


def test_masks_follow_the_pixels() -> None:
    for index in range(8):
        video = clips(objects=(1.0,), motion=1.5)[index]
        for frame in (0, 7):
            mask = video.truth[frame][0]
            grey = video[frame].float().mean(-1)
            if mask.any() and not mask.all():
                assert grey[mask].mean() > 90
                assert grey[~mask].mean() < 60


def test_without_motion_only_the_deformation_and_the_light_change() -> None:
    still, moving = (clips(objects=(0.0, 1.0), motion=motion) for motion in (0.0, 3.0))

    def drift(videos: CompositeClips) -> float:
        return sum(float((v.truth[0] ^ v.truth[7]).float().mean()) for v in (videos[i] for i in range(10)))

    assert drift(still) < 0.5 * drift(moving)


def test_a_twin_is_the_same_object_once_more() -> None:
    video = clips(objects=(0.0, 0.0, 1.0), twin=1.0)[1]
    layers = video.frames.scene.layers
    assert layers[1].labels.sum() > 0
    assert len(layers) == 3


def test_a_background_object_that_does_not_show_is_still_a_target() -> None:
    empty = picture(200, "empty")
    empty = replace(empty, truth=[torch.zeros(1, 60, 80, dtype=torch.bool)])
    video = CompositeClips([[empty]], objects=(1.0,), size=(48, 48))[0]
    assert video.truth[0].shape == (1, 48, 48)


def test_clips_are_cut_out_of_them() -> None:
    frames, masks = ClipDataset(clips(), frames=3, max_skip=2, size=(32, 32), max_objects=2)[0]
    assert frames.shape == (3, 3, 32, 32)
    assert masks[0].flatten(1).any(1).all()
