"""Clips with categories and expressions: one task and one data set a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch.utils.data import DataLoader

from common.data import Augmentation, LabelledClips, ScaleJitter, VideoDataModule, collate_labelled
from common.data.labelled import LabelledItem
from common.data.mixture import EpochSampler, MixedClips
from common.errors import InputError
from common.synthetic import SyntheticClips, SyntheticPanoptic
from common.video import Video

SMALL = {"frames": 3, "size": (32, 40), "max_objects": 6}


def panoptic(**named):
    return SyntheticPanoptic(size=(32, 40), frames=8, **named)


class Stills:
    """Two pictures of one frame: a square whose texts say where it is; object 7 has two expressions of its own."""

    def __init__(self, objects=None):
        self.objects = objects

    def __len__(self):
        return 2

    def __getitem__(self, index):
        frame = torch.zeros(20, 30, 3, dtype=torch.uint8)
        frame[5:15, 3:9] = 200
        mask = frame[None, :, :, 0] > 0
        return Video(
            f"still{index}",
            [frame],
            targets=(1, 2),
            truth=[mask.expand(2, -1, -1)],
            attributes={"objects": self.objects} if self.objects else {},
            vocabulary=("cat", "dog"),
            categories={1: 0, 2: 1},
            expressions={1: ("the cat on the left",), 2: ("leftmost dog", "right of nothing")},
        )


@pytest.mark.parametrize("task", ["VIS", "VSS", "VPS"])
def test_masks_and_categories_belong_together(task):
    clips = LabelledClips(panoptic(length=6), task=task, **SMALL)
    for index in range(6):
        item, video = clips[index], panoptic(length=6)[index]
        assert item.masks.flatten(2).any(2).any(0).all()
        assert len(item.categories) == item.masks.shape[1]
        names = [item.vocabulary[category] for category in item.categories]
        if task == "VIS":
            assert not set(names) & set(video.stuff)
            assert item.stuff == ()
        if task == "VSS":
            assert len(set(names)) == len(names)
            assert item.stuff == item.vocabulary == video.vocabulary
        if task != "VIS":
            assert (item.masks.sum(1) == 1).all()  # every pixel has one category: nothing was left out
        # a mask lies where a target with its category does
        for frame, masks in zip(item.frames, item.masks, strict=True):
            time = next(t for t in range(8) if torch.equal(video[t].permute(2, 0, 1), frame))
            for name, mask in zip(names, masks, strict=True):
                same = [video.vocabulary[video.categories[target]] == name for target in video.targets]
                assert not (mask & ~video.truth[time][same].any(0)).any()


def test_a_video_object_task_has_masks_alone():
    item = LabelledClips(SyntheticClips(size=(32, 40), frames=8), task="VOS", **SMALL)[0]
    assert item.categories is item.expressions is None
    assert item.vocabulary == item.stuff == ()


def test_the_window_bounds_the_frames_and_a_still_is_repeated():
    clips = LabelledClips(Stills(), frames=4, size=(20, 30), task="VIS", window=3)
    assert all(torch.equal(frame, clips[0].frames[0]) for frame in clips[0].frames)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        times = clips._times(50, rng)
        assert times == sorted(times)
        assert times[-1] - times[0] <= 6
        seen.add(times[-1] - times[0])
    assert 6 in seen


def test_no_more_targets_than_asked_for():
    clips = LabelledClips(panoptic(), frames=2, size=(32, 40), task="VPS", max_objects=2)
    counts = [clips[index].masks.shape[1] for index in range(8)]
    assert set(counts) == {2}
    assert len({tuple(clips[index].categories.tolist()) for index in range(8)}) > 2


def test_one_expression_of_each_object():
    said = [LabelledClips(Stills(), frames=1, size=(20, 30), task="RefVOS", seed=s)[0].expressions for s in range(12)]
    assert {one for one, _ in said} == {"the cat on the left"}
    assert {other for _, other in said} == {"leftmost dog", "right of nothing"}
    alike = LabelledClips(Stills({1: 7, 2: 7}), frames=1, size=(20, 30), task="RefVOS")
    assert alike[0].masks.shape[1] == 1


def test_left_is_right_in_a_mirrored_clip():
    jitter = ScaleJitter(flip=1, turn=0, scale=(1, 1))
    item = LabelledClips(Stills(), frames=2, size=(20, 30), task="RefVOS", jitter=jitter)[0]
    assert item.expressions[0] == "the cat on the right"
    assert item.expressions[1] in ("rightmost dog", "left of nothing")
    columns = item.masks[0, 0].any(0).nonzero().flatten().tolist()
    assert columns == list(range(21, 27))  # 3..8 mirrored in 30 columns
    assert torch.equal(item.frames[0, 0] == 200, item.masks[0, 0])


def test_every_frame_has_a_scale_of_its_own_and_masks_stay_on_their_pixels():
    jitter = ScaleJitter(flip=0, turn=0, scale=(1, 3))
    item = LabelledClips(Stills(), frames=6, size=(24, 24), task="VIS", jitter=jitter)[0]
    areas = item.masks[:, 0].flatten(1).sum(1)
    assert len(set(areas.tolist())) > 2
    for frame, mask in zip(item.frames, item.masks[:, 0], strict=True):
        bright = frame[0] > 160  # the grey beyond the frame is 128
        assert (bright & mask).sum() > 0.5 * (bright | mask).sum()  # edges are between the two


def test_what_lies_beyond_a_small_frame_is_grey_and_no_target():
    frames = torch.full((1, 3, 10, 20), 9, dtype=torch.uint8)
    masks = torch.ones(1, 1, 10, 20, dtype=torch.bool)
    small, inside, flipped = ScaleJitter(0, 0, scale=(0.5, 0.5))(frames, masks, (20, 20), np.random.default_rng(0))
    assert not flipped
    assert int(inside.sum()) == 5 * 10  # fits at 10 x 20, half of it
    assert inside[0, 0, :5, :10].all()
    assert (small[0, 0, :5, :10] == 9).all()
    assert (small[0, 0][~inside[0, 0]] == 128).all()


def test_short_side_keeps_the_whole_frame():
    frames, masks = torch.zeros(2, 3, 30, 60, dtype=torch.uint8), torch.ones(2, 1, 30, 60, dtype=torch.bool)
    rng = np.random.default_rng(0)
    assert ScaleJitter(0, 0, short_sides=(15,))(frames, masks, (9, 9), rng)[0].shape == (2, 3, 15, 30)
    assert ScaleJitter(0, 0, short_sides=(15,), longest=20)(frames, masks, (9, 9), rng)[0].shape == (2, 3, 10, 20)


def test_turning_moves_masks_with_pixels():
    frames = torch.zeros(1, 3, 41, 81, dtype=torch.uint8)
    frames[:, :, 10:20, 10:40] = 255
    masks = frames[:, :1] > 0
    turned, moved, _ = ScaleJitter(0, 1, degrees=15, scale=(1, 1))(frames, masks, (41, 81), np.random.default_rng(1))
    assert not torch.equal(moved, masks)
    assert abs(int(moved.sum()) - 300) < 12  # a rotation keeps the area
    assert ((turned[:, 0] > 191) == moved[:, 0]).float().mean() > 0.99


def test_batches_fill_up_rows():
    one = LabelledItem(
        torch.ones(2, 3, 4, 5, dtype=torch.uint8),
        torch.ones(2, 1, 4, 5, dtype=torch.bool),
        torch.tensor([3]),
        ["a"],
        ("x",) * 1,
        (),
        [3, 5],
    )
    two = one._replace(masks=torch.ones(2, 3, 4, 5, dtype=torch.bool), categories=torch.tensor([2, 0, 1]))
    two = two._replace(expressions=["b", "c", "d"])
    clip = collate_labelled([one, two])
    assert clip.categories.tolist() == [[3, -1, -1], [2, 0, 1]]
    assert clip.times.tolist() == [[3, 5], [3, 5]]
    assert clip.expressions == [["a", "", ""], ["b", "c", "d"]]
    assert clip.valid.tolist() == [[True, False, False], [True] * 3]
    assert clip.masks.shape == (2, 2, 3, 4, 5)
    assert not clip.masks[0, :, 1:].any()
    wide = one._replace(frames=one.frames[..., :4, :3], masks=one.masks[..., :4, :3])
    assert collate_labelled([one, wide]).frames.shape == (2, 2, 3, 4, 5)
    with pytest.raises(InputError, match="different vocabularies"):
        collate_labelled([one, one._replace(vocabulary=("y",))])
    moved = clip.to("cpu")
    assert moved.expressions is clip.expressions
    assert moved.vocabulary == ("x",)


def test_each_batch_is_of_one_task_and_shares_follow_the_weights():
    module = VideoDataModule(
        train=[panoptic(), panoptic(), SyntheticClips(size=(32, 40), frames=8)],
        tasks=["VIS", "RefVOS", "VOS"],
        weights=[3, 1, 1],
        batch_size=3,
        frames=2,
        size=(32, 40),
        clips_per_epoch=60,
        window=2,
        augmentation=ScaleJitter(scale=(0.8, 1.5)),
    )
    kinds = [(clip.categories is not None, clip.expressions is not None) for clip in module.train_dataloader()]
    assert len(kinds) == 20
    assert set(kinds) == {(True, False), (False, True), (False, False)}
    assert 8 <= kinds.count((True, False)) <= 16  # 12 expected


def test_processes_take_their_batch_from_the_same_set():
    def sources():
        return [LabelledClips(panoptic(), 2, 1, (32, 40), 3, None, 48, seed, task="VIS") for seed in (0, 1)]

    mixed = MixedClips(sources(), group=2 * 3)
    came = []
    for rank in range(2):
        order = list(EpochSampler(mixed, 2, rank))
        came.append([[mixed._source(index) for index in order[b : b + 3]] for b in range(0, 24, 3)])
    assert came[0] == came[1]
    assert all(len(set(batch)) == 1 for batch in came[0])
    assert {batch[0] for batch in came[0]} == {0, 1}


def test_the_same_in_a_worker_and_in_another_epoch_not():
    clips = LabelledClips(panoptic(), task="VPS", jitter=ScaleJitter(), length=4, **SMALL)
    here = [clip.frames for clip in DataLoader(clips, 2, collate_fn=collate_labelled)]
    there = [clip.frames for clip in DataLoader(clips, 2, collate_fn=collate_labelled, num_workers=1)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    clips.set_epoch(1)
    assert not torch.equal(here[0][0], clips[0].frames)


def test_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(VideoDataModule, "data")
    given = {
        "train": [{"class_path": "common.synthetic.SyntheticPanoptic"}],
        "tasks": ["VSS"],
        "window": 4,
        "augmentation": {"class_path": "common.data.scale_jitter.ScaleJitter", "init_args": {"scale": [0.5, 2.0]}},
    }
    module = parser.instantiate(parser.parse_object({"data": given})).data
    assert module.clips.sources[0].jitter == ScaleJitter(scale=(0.5, 2.0))
    assert module.clips.sources[0].window == 4


class NoMasks(Stills):
    def __getitem__(self, index):
        return replace(super().__getitem__(index), truth=None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"tasks": ["VOS"]}, "1 tasks and 2 windows for 2 training sets"),
        ({"tasks": ["VOS", "XYZ"]}, "task 'XYZ' of a training set is unknown; choose from VOS, PVOS"),
        ({"tasks": ["VOS", "VOS"], "window": [3]}, "1 windows for 2"),
        ({"tasks": ["VOS", "VOS"], "augmentation": Augmentation()}, "a ScaleJitter goes with tasks"),
        ({"augmentation": ScaleJitter()}, "a ScaleJitter goes with tasks"),
    ],
)
def test_settings_that_do_not_fit(arguments, word):
    with pytest.raises(InputError, match=word):
        VideoDataModule(train=[panoptic(), panoptic()], **arguments)


BARE = Video("bare", [torch.zeros(9, 9, 3)], targets=(1,), truth=[torch.ones(1, 9, 9)])


@pytest.mark.parametrize(
    ("videos", "task", "word"),
    [
        (SyntheticClips(size=(32, 32)), "RefVOS", None),
        (NoMasks(), "VIS", "still0: frame 00000 has no annotation"),
        ([Video("bare", [torch.zeros(9, 9, 3)], targets=(1,), truth=[torch.ones(1, 9, 9)])], "VIS", "has no category"),
        (
            [Video("bare", [torch.zeros(9, 9, 3)], targets=(1,), truth=[torch.ones(1, 9, 9)])],
            "RefVOS",
            "no expressions",
        ),
        ([Video("none", [torch.zeros(9, 9, 3)])], "VOS", "none: no clip of it shows a target to train on"),
    ],
)
def test_videos_that_do_not_fit(videos, task, word):
    clips = LabelledClips(videos, frames=1, size=(32, 32), task=task)
    if word is None:
        assert clips[0].expressions
        return
    with pytest.raises(InputError, match=word):
        clips[0]
