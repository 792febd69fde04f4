"""Clips: what is cut out of which video, and that it repeats bit for bit."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

from common.data import Augmentation, ClipDataset, collate
from common.errors import InputError
from common.synthetic import SyntheticClips
from common.video import Video


class Counted:
    """Videos whose frame t has the colour t everywhere, and one target that shows from frame ``start`` on."""

    def __init__(self, frames=20, start=0, size=(20, 24), videos=3, truth=True):
        self.frames, self.start, self.size, self.videos, self.truth = frames, start, size, videos, truth

    def __len__(self):
        return self.videos

    def __getitem__(self, index):
        frames = [torch.full((*self.size, 3), t, dtype=torch.uint8) for t in range(self.frames)]
        masks = torch.zeros(self.frames, 1, *self.size, dtype=torch.bool)
        masks[self.start :, :, 5:15, 5:15] = True
        return Video(f"v{index}", frames, targets=(1,), truth=masks if self.truth else None)


def times(clip):
    return clip[0][:, 0, 0, 0].tolist()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("preset", ["easy", "occlusion", "reappear"])
def test_first_frame_shows_every_target(preset):
    clips = ClipDataset(SyntheticClips(preset, size=(48, 48), objects=4), frames=4, size=(48, 48), max_objects=2)
    for index in range(15):
        frames, masks = clips[index]
        assert frames.shape == (4, 3, 48, 48)
        assert frames.dtype == torch.uint8
        assert masks.dtype == torch.bool
        assert 1 <= masks.shape[1] <= 2
        assert masks[0].flatten(1).any(1).all()


def test_frames_and_masks_are_of_the_same_moment():
    videos = SyntheticClips("easy", size=(32, 32), objects=1, length=1)
    video = videos[0]
    moments = {video[t].numpy().tobytes(): video.truth[t] for t in range(len(video))}
    frames, masks = ClipDataset(videos, frames=5, max_skip=3, size=(32, 32), length=1)[0]
    for frame, mask in zip(frames, masks, strict=True):
        assert torch.equal(moments[frame.permute(1, 2, 0).contiguous().numpy().tobytes()], mask)


def test_steps_stay_within_the_schedule():
    clips = ClipDataset(Counted(60), frames=5, max_skip=[(0, 1), (2, 4)], size=(20, 24), length=40, reverse=0)
    for epoch, largest in ((0, 1), (1, 1), (2, 4), (7, 4)):
        clips.set_epoch(epoch)
        assert clips.skip == largest
        steps = {b - a for i in range(40) for t in [times(clips[i])] for a, b in itertools.pairwise(t)}
        assert steps == set(range(1, largest + 1))


def test_backwards():
    forward, backward = (ClipDataset(Counted(30), frames=4, max_skip=2, size=(20, 24), reverse=p) for p in (0.0, 1.0))
    assert times(forward[0]) == sorted(times(forward[0]))
    assert times(backward[0]) == sorted(times(backward[0]), reverse=True)


@pytest.mark.parametrize(("length", "expected"), [(1, [0, 0, 0, 0]), (3, [0, 1, 2, 2]), (4, [0, 1, 2, 3])])
def test_short_videos_repeat_their_last_frame(length, expected):
    clips = ClipDataset(Counted(length), frames=4, max_skip=5, size=(20, 24), reverse=0)
    assert times(clips[0]) == expected


def test_starts_only_where_a_target_shows():
    clips = ClipDataset(Counted(20, start=12), frames=2, size=(20, 24), length=10, reverse=0)
    assert all(times(clips[i])[0] >= 12 for i in range(10))


def test_epochs_go_on_through_the_videos():
    seen = []

    class Watched(Counted):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    clips = ClipDataset(Watched(videos=5), frames=2, size=(20, 24), length=3)
    for epoch in range(2):
        clips.set_epoch(epoch)
        _ = [clips[i] for i in range(3)]
    assert seen == [0, 1, 2, 3, 4, 0]


def test_resizing_keeps_masks_on_their_object():
    class Painted(Counted):
        def __getitem__(self, index):
            video = super().__getitem__(index)
            for frame, masks in zip(video.frames, video.truth, strict=True):
                frame[masks[0]] = 200
            return video

    frames, masks = ClipDataset(Painted(size=(60, 90)), frames=2, size=(33, 47))[0]
    assert frames.shape[2:] == masks.shape[2:] == (33, 47)
    inside = frames[:, 0][masks[:, 0]].float()
    assert inside.min() > 90
    assert frames[:, 0][~masks[:, 0]].float().max() < 120


@pytest.mark.parametrize("augment", [None, Augmentation(paste=0.5)])
def test_repeats_bit_for_bit_with_any_number_of_workers(augment):
    def batches(workers):
        videos = SyntheticClips(["easy", "occlusion"], size=(48, 48))
        clips = ClipDataset(videos, frames=3, size=(40, 40), augment=augment, length=8, seed=5)
        clips.set_epoch(2)
        loader = DataLoader(clips, 2, num_workers=workers, collate_fn=collate)
        return [(clip.frames, clip.masks, clip.valid) for clip in loader]

    for first, second in zip(batches(0), batches(2), strict=True):
        assert equal(first, second)


def test_epoch_seed_and_index_each_change_a_clip():
    videos = SyntheticClips("easy", size=(32, 32), length=1)
    one = ClipDataset(videos, frames=3, size=(32, 32), length=4, augment=Augmentation())
    two = ClipDataset(videos, frames=3, size=(32, 32), length=4, augment=Augmentation(), seed=1)
    before = one[0]
    assert not equal(before, two[0])
    assert not equal(before, one[1])
    one.set_epoch(1)
    assert not equal(before, one[0])


def test_collate_pads_and_marks_the_padding():
    one = torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.ones(2, 1, 4, 5, dtype=torch.bool)
    two = torch.ones(2, 3, 4, 5, dtype=torch.uint8), torch.ones(2, 3, 4, 5, dtype=torch.bool)
    clip = collate([one, two])
    assert clip.frames.shape == (2, 2, 3, 4, 5)
    assert clip.masks.shape == (2, 2, 3, 4, 5)
    assert clip.valid.tolist() == [[True, False, False], [True, True, True]]
    assert not clip.masks[0, :, 1:].any()
    assert clip.masks[0, :, 0].all()


def test_no_videos():
    with pytest.raises(InputError, match="no training videos"):
        ClipDataset([])


def test_no_annotation():
    with pytest.raises(InputError, match=r"v0: frame \d+ has no annotation"):
        ClipDataset(Counted(truth=False), frames=2)[0]


def test_no_target_anywhere():
    with pytest.raises(InputError, match="no clip of it shows a target"):
        ClipDataset(Counted(start=99), frames=2)[0]


@pytest.mark.parametrize("bad", [{"frames": 0}, {"max_skip": 0}, {"max_skip": []}, {"max_objects": 0}])
def test_bad_arguments(bad):
    with pytest.raises(InputError, match="start at 1"):
        ClipDataset(Counted(), **bad)


def test_wide_frames_keep_their_shape_until_they_are_cut():
    wide = SyntheticClips("easy", length=3, frames=6, size=(40, 80), seed=2)
    still = Augmentation(flip=0, degrees=0, shear=0, translate=0, crop=(1, 1), stretch=0, paste=0, keep_shape=True)
    dataset = ClipDataset(wide, frames=3, size=(20, 20), augment=still)
    assert dataset._source_size(40, 80) == (20, 40)
    assert dataset._source_size(80, 40) == (40, 20)
    frames, masks = dataset[0]
    assert frames.shape == (3, 3, 20, 20)
    assert masks.shape[2:] == (20, 20)
    both = ClipDataset(wide, frames=3, size=(20, 20), augment=Augmentation(keep_shape=True, paste=1, pasted="targets"))
    assert max(both[index][1].shape[1] for index in range(3)) > 1
    assert all(both[index][1][0].flatten(1).any(1).all() for index in range(3))
