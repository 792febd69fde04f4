"""The data module: mixtures, epochs, sharing of videos, YAML."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from common.benchmarks.tiny.videos import Tiny
from common.data import Augmentation, VideoDataModule
from common.data.clips import ClipDataset
from common.data.mixture import EpochSampler, MixedClips
from common.errors import InputError
from common.synthetic import SyntheticClips

SMALL = {"frames": 2, "size": (32, 32), "batch_size": 2, "clips_per_epoch": 4}


def clips(preset="easy", **arguments):
    return SyntheticClips(preset, size=(32, 32), frames=6, **arguments)


def tiny(videos):
    return Tiny(videos=videos, frames=4, size=(32, 32))


def sources(*presets):
    return [ClipDataset(clips(p), frames=2, size=(32, 32), length=200, seed=k) for k, p in enumerate(presets)]


def test_training_batches_repeat_bit_for_bit_and_change_with_the_epoch():
    def batches(epoch, workers=0):
        module = VideoDataModule(
            train=[clips(), clips("occlusion")], augmentation=Augmentation(), num_workers=workers, **SMALL
        )
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return [clip.frames for clip in loader]

    first = batches(0)
    assert len(first) == 2
    assert all(torch.equal(a, b) for a, b in zip(first, batches(0, workers=1), strict=True))
    assert not torch.equal(first[0], batches(1)[0])


def test_largest_step_in_frames_of_the_video():
    """The published schedule on sets annotated every 5th, 3rd and 2nd frame, as the release divides it."""
    schedule = [(0, 5), (10, 10), (30, 15), (80, 5)]
    module = VideoDataModule(train=[clips()] * 3, max_skip=schedule, intervals=[5, 3, 2], **SMALL)
    assert [[skip for _, skip in source.schedule] for source in module.clips.sources] == [
        [1, 2, 3, 1],
        [1, 3, 5, 1],
        [2, 5, 7, 2],
    ]
    assert VideoDataModule(train=[clips()], max_skip=2, intervals=[5], **SMALL).clips.sources[0].skip == 1


@pytest.mark.parametrize("intervals", [[5], [5, 0]])
def test_intervals_that_do_not_fit(intervals):
    with pytest.raises(InputError, match=r"intervals .*give each of 2 training sets one"):
        VideoDataModule(train=[clips(), clips()], intervals=intervals, **SMALL)


def test_lightning_passes_the_epoch_on():
    module = VideoDataModule(train=[clips()], max_skip=[(0, 1), (2, 4)], **SMALL)
    seen = []

    class Probe(L.LightningModule):
        def training_step(self, clip, batch_idx):
            seen.append((self.current_epoch, module.clips.sources[0].skip, clip.frames.float().mean().item()))

        def configure_optimizers(self):
            return None

    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", enable_model_summary=False, **options)
    trainer.fit(Probe(), datamodule=module)
    assert [(epoch, skip) for epoch, skip, _ in seen] == [(0, 1), (0, 1), (1, 1), (1, 1), (2, 4), (2, 4)]
    assert len({mean for _, _, mean in seen}) == 6


def test_weights_set_the_shares():
    mixed = MixedClips(sources("easy", "occlusion"), [3, 1])
    plain = sources("easy", "occlusion")
    came = [[torch.equal(mixed[i][0], source[i][0]) for source in plain].index(True) for i in range(80)]
    assert 8 <= sum(came) <= 34  # 20 expected


@pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1]])
def test_bad_weights(weights):
    with pytest.raises(InputError, match="training sets a weight"):
        VideoDataModule(train=[clips(), clips()], weights=weights, **SMALL)


def test_processes_train_on_different_clips():
    mixed = MixedClips(sources("easy"))
    shares = [list(EpochSampler(mixed, 2, rank)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(200))


@pytest.mark.parametrize(("videos", "processes"), [(5, 2), (3, 3), (7, 4), (4, 1)])
def test_every_video_is_scored_once(videos, processes):
    module = VideoDataModule(test=[tiny(videos), tiny(videos + 1)])
    seen = [[], []]
    for rank in range(processes):
        module.trainer = SimpleNamespace(world_size=processes, global_rank=rank)
        for number, loader in enumerate(module.test_dataloader()):
            seen[number] += [video.id for video in loader]
    for number, benchmark in enumerate(module.test_benchmarks):
        assert sorted(seen[number]) == sorted(video.id for video in benchmark.clips)


def test_more_processes_than_videos():
    module = VideoDataModule(test=[tiny(1)])
    module.trainer = SimpleNamespace(world_size=2, global_rank=0)
    with pytest.raises(InputError, match="use fewer devices"):
        module.test_dataloader()


def test_validation_is_optional_but_test_predict_and_train_are_not():
    module = VideoDataModule()
    assert module.val_dataloader() == []
    for loader in (module.train_dataloader, module.test_dataloader, module.predict_dataloader):
        with pytest.raises(InputError, match="is empty"):
            loader()


def test_predict_takes_paths_and_sets(tmp_path):
    from PIL import Image

    folder = tmp_path / "walk"
    folder.mkdir()
    Image.new("RGB", (20, 16)).save(folder / "00000.png")
    module = VideoDataModule(predict=[str(folder), clips(length=2)])
    loaders = module.predict_dataloader()
    assert [[video.id for video in loader] for loader in loaders] == [["walk"], ["easy-0-00000", "easy-0-00001"]]
    with pytest.raises(InputError, match="nowhere"):
        VideoDataModule(predict=[str(tmp_path / "nowhere.mp4")])


def test_too_short_an_epoch():
    with pytest.raises(InputError, match="does not fill one batch"):
        VideoDataModule(train=[clips()], batch_size=8, clips_per_epoch=4)


def test_from_yaml():
    parser = ArgumentParser()
    parser.add_subclass_arguments(VideoDataModule, "data")
    config = parser.parse_object(
        {
            "data": {
                "class_path": "common.data.VideoDataModule",
                "init_args": {
                    "train": [
                        {"class_path": "common.synthetic.SyntheticClips", "init_args": {"preset": "easy"}},
                        {
                            "class_path": "common.synthetic.SyntheticClips",
                            "init_args": {"preset": ["occlusion", "reappear"], "size": [64, 96]},
                        },
                    ],
                    "test": [{"class_path": "common.benchmarks.tiny.Tiny", "init_args": {"preset": "reappear"}}],
                    "weights": [1, 2],
                    "max_skip": [[0, 1], [5, 3]],
                    "augmentation": {"class_path": "common.data.Augmentation", "init_args": {"flip": 0.0}},
                },
            }
        }
    )
    module = parser.instantiate(config).data
    first, second = module.clips.sources
    assert (first.videos.size, second.videos.size) == ((128, 128), (64, 96))
    assert first.schedule == [(0, 1), (5, 3)]
    assert first.augment.flip == 0.0
    assert module.test_benchmarks[0].name == "tiny-reappear"


def test_videos_of_one_name_to_predict_are_told_apart(tmp_path):
    names = ["a/clip", "b/clip", "b/other"]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    (loader,) = VideoDataModule(predict=[str(tmp_path / name) for name in names]).predict_dataloader()
    assert [video.id for video in loader] == ["a_clip", "b_clip", "other"]
    with pytest.raises(InputError, match="two videos of this name"):
        VideoDataModule(predict=[str(tmp_path / "a/clip")] * 2)
