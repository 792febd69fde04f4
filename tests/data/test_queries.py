"""Query clips: what goes into them, that absent targets are kept, and that they repeat bit for bit."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from common.data import Augmentation, QueryClips, VideoDataModule, collate
from common.errors import InputError
from common.synthetic import SyntheticClips, SyntheticQueries
from common.video import Prompt, Video

SMALL = {"frames": 3, "size": (40, 40)}


class Rare:
    """Videos whose frame t has the colour t; target 7 shows in frames 10 to 12, target 3 never."""

    def __init__(self, targets=(7,), query_size=(20, 30)):
        self.targets, self.query_size = targets, query_size

    def __len__(self):
        return 2

    def __getitem__(self, index):
        frames = [torch.full((20, 24, 3), t, dtype=torch.uint8) for t in range(20)]
        masks = torch.zeros(20, 2, 20, 24, dtype=torch.bool)
        masks[10:13, 1, 5:15, 5:15] = True
        query = torch.zeros(self.query_size, dtype=torch.bool)
        query[2:9, 3:9] = True
        prompts = tuple(
            Prompt(target, mask=query, image=torch.full((*self.query_size, 3), 10 * target, dtype=torch.uint8))
            for target in self.targets
        )
        return Video(f"v{index}", frames, prompts=prompts, targets=(3, 7), truth=masks)


def times(clip):
    return clip[0][:, 0, 0, 0].tolist()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("augment", [None, Augmentation(paste=0.5)])
def test_shapes(augment):
    clips = QueryClips(SyntheticQueries(size=(48, 48)), augment=augment, **SMALL)
    for index in range(6):
        frames, masks, query, query_masks = clips[index]
        assert (frames.shape, frames.dtype) == ((3, 3, 40, 40), torch.uint8)
        assert (masks.shape, masks.dtype) == ((3, 1, 40, 40), torch.bool)
        assert (query.shape, query.dtype) == ((1, 3, 40, 40), torch.uint8)
        assert (query_masks.shape, query_masks.dtype) == ((1, 40, 40), torch.bool)
        assert query_masks.any()


def test_targets_may_be_absent_from_the_first_frame_and_from_all():
    clips = QueryClips(SyntheticQueries(size=(32, 32)), frames=4, size=(32, 32), max_skip=3, length=60, positives=0.8)
    shown = torch.stack([clips[i][1].flatten(1).any(1) for i in range(60)])
    assert 10 < shown[:, 0].sum() < 50
    assert 3 < (~shown.any(1)).sum() < 25  # of the 12 that fall where they may


@pytest.mark.parametrize(("shown", "least", "most"), [(1.0, 30, 30), (0.0, 0, 15)])
def test_share_of_clips_that_show_their_target(shown, least, most):
    clips = QueryClips(Rare(), frames=2, size=(20, 24), length=30, positives=shown)
    assert least <= sum(bool(clips[i][1].any()) for i in range(30)) <= most


def test_rows_belong_to_their_queries():
    """Targets are taken by id: the rows of masks follow the prompts, whose images tell them apart."""
    clips = QueryClips(Rare(targets=(7, 3)), frames=2, size=(20, 24), length=20, max_objects=2)
    for index in range(20):
        _, masks, query, _ = clips[index]
        assert query[:, 0, 0, 0].tolist() == [70, 30]
        assert not masks[:, 1].any()
    single = QueryClips(Rare(targets=(7, 3)), frames=2, size=(20, 24), length=20, max_objects=1, positives=0.0)
    assert {clip[2].shape[0] for clip in map(single.__getitem__, range(20))} == {1}


def test_steps_stay_within_the_schedule():
    clips = QueryClips(Rare(), frames=4, max_skip=[(0, 1), (2, 3)], size=(20, 24), length=30, reverse=0, positives=0.0)
    for epoch, largest in ((0, 1), (2, 3)):
        clips.set_epoch(epoch)
        steps = {b - a for i in range(30) for t in [times(clips[i])] for a, b in itertools.pairwise(t)}
        assert steps == set(range(1, largest + 1))


def test_query_is_resized_with_its_mask():
    item = QueryClips(Rare(query_size=(60, 72)), frames=2, size=(20, 24))[0]
    assert item[2].shape == (1, 3, 20, 24)
    assert 0 < item[3].sum() < 42 / 9 + 8


def test_a_tiny_query_mask_does_not_vanish():
    class OnePixel(Rare):
        def __getitem__(self, index):
            video = super().__getitem__(index)
            mask = torch.zeros(self.query_size, dtype=torch.bool)
            mask[1, 1] = True
            return replace(video, prompts=(replace(video.prompts[0], mask=mask),))

    assert QueryClips(OnePixel(query_size=(200, 240)), frames=2, size=(20, 24))[0][3].sum() == 1


@pytest.mark.parametrize("augment", [None, Augmentation(paste=0.5)])
def test_repeats_bit_for_bit_with_any_number_of_workers(augment):
    def batches(workers):
        clips = QueryClips(SyntheticQueries(size=(48, 48)), augment=augment, length=8, seed=5, **SMALL)
        clips.set_epoch(2)
        loader = DataLoader(clips, 2, num_workers=workers, collate_fn=collate)
        return [(c.frames, c.masks, c.valid, c.query, c.query_masks) for c in loader]

    for first, second in zip(batches(0), batches(2), strict=True):
        assert equal(first, second)


def test_augmentation_keeps_most_of_the_target_and_changes_clip_and_query_apart():
    augment = Augmentation(flip=1.0, degrees=0, shear=0, translate=0, crop=(1.0, 1.0), stretch=0, paste=0)
    calm = replace(augment, brightness=0, contrast=0, saturation=0, hue=0, grey=0, frame_jitter=0)
    videos = SyntheticQueries(size=(40, 40))
    for index in range(4):
        plain, flipped = (QueryClips(videos, augment=a, **SMALL)[index] for a in (None, calm))
        assert torch.equal(flipped[1], plain[1].flip(-1))
        assert torch.equal(flipped[3], plain[3].flip(-1))
    wild = Augmentation(degrees=60, translate=0.4, crop=(0.3, 0.6), paste=0.3)
    for index in range(20):
        plain, moved = (QueryClips(videos, augment=a, length=20, **SMALL)[index] for a in (None, wild))
        assert moved[1].shape == plain[1].shape
        assert not plain[1].any() or moved[1].any()
        assert moved[3].any()


def test_collate_pads_queries():
    one = QueryClips(Rare(), frames=2, size=(20, 24))[0]
    two = QueryClips(Rare(targets=(3, 7)), frames=2, size=(20, 24))[0]
    clip = collate([one, two])
    assert clip.valid.tolist() == [[True, False], [True, True]]
    assert clip.query.shape == (2, 2, 3, 20, 24)
    assert clip.query_masks.flatten(2).any(2).tolist() == clip.valid.tolist()
    moved = clip.to("cpu")
    assert torch.equal(moved.query, clip.query)
    assert collate([one[:2]]).to("cpu").query is None


def test_data_module():
    videos = SyntheticQueries(size=(32, 32), frames=12)
    small = {"frames": 2, "size": (32, 32), "batch_size": 2, "clips_per_epoch": 4}
    with_query, without = (
        next(iter(VideoDataModule(train=[videos], queries=queries, **small).train_dataloader()))
        for queries in (True, False)
    )
    assert with_query.query.shape == (2, 1, 3, 32, 32)
    assert without.query is None
    assert without.masks[:, 0, 0].flatten(1).any(1).all()


def test_videos_without_queries():
    with pytest.raises(InputError, match="easy-0-00000: no target has a query image"):
        QueryClips(SyntheticClips("easy", size=(32, 32)), **SMALL)[0]


def test_bad_share():
    with pytest.raises(InputError, match="0 to 1"):
        QueryClips(SyntheticQueries(size=(32, 32)), positives=1.5)


def test_never_shown():
    with pytest.raises(InputError, match="no clip of it shows a target"):
        QueryClips(Rare(targets=(3,)), frames=2, size=(20, 24), positives=1.0)[0]


@pytest.mark.parametrize("changed", [{"keep_shape": True}, {"pasted": "targets"}])
def test_augmentations_for_other_clips_are_refused(changed):
    with pytest.raises(InputError, match="for clips without queries"):
        QueryClips(SyntheticQueries(), augment=Augmentation(**changed))


def test_negatives_are_queries_of_another_video_and_every_mask_is_empty() -> None:
    videos = SyntheticQueries(length=6, frames=12, size=(48, 48), seed=3)
    plain = QueryClips(videos, frames=3, size=(48, 48), length=6, seed=1)
    asked = QueryClips(videos, frames=3, size=(48, 48), length=6, seed=1, negatives=1.0)
    own = [prompt.image for video in videos for prompt in video.prompts]
    for index in range(6):
        frames, masks, images, query_masks = asked[index]
        assert torch.equal(frames, plain[index][0])
        assert not masks.any()
        assert masks.shape[1] == len(images) == len(query_masks)
        assert query_masks.flatten(1).any(1).all()
        shown = [prompt.image for prompt in videos[index].prompts]
        assert not any(torch.equal(image.permute(1, 2, 0), other) for image in images for other in shown)
        assert all(any(torch.equal(image.permute(1, 2, 0), other) for other in own) for image in images)
    with pytest.raises(InputError, match="negatives 2 are shares"):
        QueryClips(videos, negatives=2)
