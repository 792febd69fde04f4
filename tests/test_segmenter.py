"""Training, scoring and prediction of ``VideoSegmenter``, shown on the copy baseline and a toy."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from common import optim
from common.benchmarks.tiny.videos import Tiny
from common.checkpoints import read_weights
from common.data.clip import Clip
from common.data.datamodule import VideoDataModule
from common.errors import InputError
from common.records.run import class_path
from common.segmenter import VideoSegmenter
from common.video import Prompt, Video
from common.video.masks import read_label_map
from methods.baselines.baselines import CopyFirstMask
from tests.support.toy import BrokenVideo, Toy

SMALL: dict[str, Any] = {"videos": 3, "frames": 6, "size": (32, 32)}
FOLDER = "tiny-easy-test"
ROOT = Path(__file__).resolve().parents[1]
NANO_METHODS = {"sam2long": "SAM2Long", "vqsam": "VQSAM", "sslvos": "SSLVOS", "univs": "UniVS", "hqsmem": "HQSMem"}


def trainer(root: Path, **kwargs: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", devices=1, default_root_dir=root, **{**quiet, **kwargs})


def score(root: Path, method: VideoSegmenter, *benchmarks: Tiny) -> dict[str, float]:
    """Test; the numbers that were logged."""
    runner = trainer(root)
    runner.test(method, datamodule=VideoDataModule(test=list(benchmarks)), verbose=False)
    return {name: float(value) for name, value in runner.callback_metrics.items()}


def clip() -> Clip:
    frames = torch.randint(0, 256, (2, 3, 3, 16, 16), dtype=torch.uint8)
    return Clip(frames, (frames[:, :, :1] > 128), torch.ones(2, 1, dtype=torch.bool))


class TestScoring:
    def test_numbers_equal_a_plain_loop_over_the_benchmark(self, tmp_path: Path) -> None:
        benchmark, method = Tiny(**SMALL), CopyFirstMask()
        metric = benchmark.metric()
        for index in range(len(benchmark)):
            video = benchmark[index]
            metric.extend(**benchmark.measure(video, method.track(video)))
        logged = score(tmp_path, method, benchmark)
        assert logged[f"{FOLDER}/J&F"] == pytest.approx(float(metric.compute()["J&F"]), abs=1e-6)
        record = json.loads((tmp_path / FOLDER / "results.json").read_text())
        assert record["metrics"]["J&F"] == float(metric.compute()["J&F"])
        assert record["method"] == "CopyFirstMask"
        assert set(record["videos"]) == {benchmark[index].id for index in range(3)}
        assert record["frames_per_second"] > 0
        assert record["peak_memory_mb"] > 10

    def test_two_benchmarks_have_a_folder_each(self, tmp_path: Path) -> None:
        logged = score(tmp_path, CopyFirstMask(), Tiny(**SMALL), Tiny("occlusion", **SMALL))
        assert {f"{FOLDER}/J&F", "tiny-occlusion-test/J&F"} <= set(logged)
        assert (tmp_path / "tiny-occlusion-test" / "results.json").is_file()

    def test_the_same_benchmark_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="given twice"):
            score(tmp_path, CopyFirstMask(), Tiny(**SMALL), Tiny(**SMALL))

    def test_a_rerun_reads_what_was_measured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = score(tmp_path, CopyFirstMask(), Tiny(**SMALL))
        tracked = count_tracking(monkeypatch)
        assert score(tmp_path, CopyFirstMask(), Tiny(**SMALL)) == first
        assert tracked == []

    @pytest.mark.parametrize("change", ["settings", "weights", "protocol"])
    def test_a_changed_run_measures_again(self, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        score(tmp_path, Toy(weights="random"), Tiny(**SMALL))
        tracked = count_tracking(monkeypatch)
        torch.manual_seed(0 if change != "weights" else 1)
        other = Toy(weights="random", loss_weights={"size": 2.0} if change == "settings" else None)
        score(tmp_path, other, Tiny(**{**SMALL, "frames": 7}) if change == "protocol" else Tiny(**SMALL))
        assert len(tracked) == 3

    def test_the_same_weights_from_elsewhere_count_as_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method = Toy(weights="random")
        score(tmp_path, method, Tiny(**SMALL))
        tracked = count_tracking(monkeypatch)
        again = Toy(weights="random")
        again.load_state_dict(method.state_dict())
        score(tmp_path, again, Tiny(**SMALL))
        assert tracked == []

    @pytest.mark.parametrize("closed", [False, True])
    def test_failed_videos_do_not_lose_the_others(self, closed: bool, tmp_path: Path) -> None:
        method = CopyFirstMask()
        score(tmp_path, method, BrokenVideo(closed))
        reasons = {"clip2.mp4: frame 3 is truncated"} | ({"clip3.mp4: not a video file"} if closed else set())
        assert set(method.failed.values()) == reasons
        assert len(list((tmp_path / FOLDER / "per_video").glob("*.json"))) == 3 - len(reasons)
        assert not (tmp_path / FOLDER / "results.json").exists()

    def test_a_part_of_a_benchmark_makes_no_record(self, tmp_path: Path) -> None:
        runner = trainer(tmp_path, limit_test_batches=2)
        runner.test(CopyFirstMask(), datamodule=VideoDataModule(test=[Tiny(**SMALL)]), verbose=False)
        assert not (tmp_path / FOLDER / "results.json").exists()

    def test_predictions_are_the_answers(self, tmp_path: Path) -> None:
        method, benchmark = CopyFirstMask(save_predictions=True), Tiny(**SMALL)
        score(tmp_path, method, benchmark)
        video = benchmark[0]
        for answer in method.track(video):
            path = tmp_path / FOLDER / "predictions" / video.id / f"{video.name(answer.frame)}.png"
            assert torch.equal(read_label_map(path), answer.label_map())

    def test_validation_while_training_keeps_nothing(self, tmp_path: Path) -> None:
        data = VideoDataModule(train=[Tiny(**SMALL)], val=[Tiny(**SMALL)], batch_size=2, frames=2, clips_per_epoch=2)
        runner = trainer(tmp_path, max_steps=1)
        runner.fit(Toy(), datamodule=data)
        assert f"{FOLDER}/J&F" in runner.callback_metrics
        assert not (tmp_path / FOLDER).exists()


def count_tracking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the videos that are tracked from now on."""
    tracked: list[str] = []
    track = VideoSegmenter.track

    def counting(self: VideoSegmenter, video: Video) -> Any:
        tracked.append(video.id)
        return track(self, video)

    monkeypatch.setattr(VideoSegmenter, "track", counting)
    return tracked


class TestTraining:
    def test_loss_falls_on_one_batch(self) -> None:
        method, batch = Toy(loss_weights={"size": 0.0}, lr=0.05), clip()
        optimizer = torch.optim.AdamW(method.parameter_groups())
        losses = []
        for _ in range(80):
            optimizer.zero_grad()
            loss = method.training_step(batch, 0)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.6 * losses[0]

    def test_loss_weights(self) -> None:
        method, batch = Toy(), clip()
        terms = method.losses(batch)
        assert method.training_step(batch, 0) == terms["mask"] + terms["size"]
        method.loss_weights = {"size": 0.25}
        torch.testing.assert_close(method.training_step(batch, 0), terms["mask"] + 0.25 * terms["size"])
        method.loss_weights = {"szie": 1.0}
        with pytest.raises(InputError, match="'szie'; the terms are mask, size"):
            method.training_step(batch, 0)

    def test_biases_are_not_decayed_and_layers_are_scaled(self) -> None:
        groups = optim.parameter_groups(Toy(), 0.1, 0.01, lambda name: 0.5 if name.startswith("network.0") else 1.0)
        found = {(group["lr"], group["weight_decay"], group["params"][0].ndim) for group in groups}
        assert found == {(0.05, 0.01, 4), (0.05, 0.0, 1), (0.1, 0.01, 4), (0.1, 0.0, 1)}

    def test_frozen_parameters_are_left_out(self) -> None:
        method = Toy()
        method.network[0].requires_grad_(False)
        assert sum(len(group["params"]) for group in method.parameter_groups()) == 2

    def test_learning_rate_follows_the_methods_settings(self) -> None:
        method = Toy(lr=0.2, warmup_steps=1, final_lr=0.5, milestones=[2])
        chosen = method.configure_optimizers()
        assert chosen["lr_scheduler"]["interval"] == "step"
        assert rates(chosen, 4) == pytest.approx([0.1, 0.2, 0.02, 0.02])
        method.milestones = None
        assert rates(method.configure_optimizers(), 4) == pytest.approx([0.1, 0.2, 0.2, 0.2])  # no trainer, no end


def rates(chosen: dict[str, Any], steps: int) -> list[float]:
    """The learning rate of each step."""
    found = []
    for _ in range(steps):
        found.append(chosen["optimizer"].param_groups[0]["lr"])
        chosen["optimizer"].step()
        chosen["lr_scheduler"]["scheduler"].step()
    return found


class TestWeights:
    def test_a_file_carries_the_settings_that_it_depends_on(self, tmp_path: Path) -> None:
        Toy(width=6).export(file := tmp_path / "toy.safetensors", data="nothing")
        stored = read_weights(file)
        assert (stored.class_path, stored.settings) == ("tests.support.toy.Toy", {"width": 6})
        assert stored.state.keys() == Toy(width=6).state_dict().keys()
        first = file.read_bytes()
        torch.manual_seed(0)
        Toy(width=6, weights=str(file)).export(file, data="nothing")
        assert file.read_bytes() == first  # and so its checksum

    def test_values_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        toy = Toy()
        with torch.no_grad():
            next(toy.network.parameters()).view(-1)[0] = float("nan")
        toy.export(tmp_path / "toy.safetensors")
        with pytest.raises(InputError, match="values that are not finite"):
            Toy(weights=str(tmp_path / "toy.safetensors"))

    def test_a_mismatch_is_one_line_that_names_both(self, tmp_path: Path) -> None:
        Toy(width=6).export(file := tmp_path / "toy.safetensors")
        with pytest.raises(InputError, match="trained with width 6, but the model has width 4") as error:
            Toy(weights=str(file))
        assert "\n" not in str(error.value)
        assert "toy.safetensors: does not fit" in str(error.value)

    def test_settings_that_leave_the_shapes_alone_are_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Toy().export(file := tmp_path / "toy.safetensors")
        assert not caplog.messages
        monkeypatch.setattr(Toy, "architecture", lambda self: {"width": 5})
        Toy(weights=str(file))
        assert caplog.messages == [f"{file}: trained with width 4, but the model has width 5"]

    def test_a_checkpoint_carries_them_too(self, tmp_path: Path) -> None:
        data = VideoDataModule(train=[Tiny(**SMALL)], batch_size=2, frames=2, clips_per_epoch=2)
        runner = trainer(tmp_path, max_steps=1)
        runner.fit(Toy(width=6), datamodule=data)
        runner.save_checkpoint(file := tmp_path / "last.ckpt")
        assert read_weights(file).settings == {"width": 6}
        loaded = Toy(width=6, weights=str(file))
        assert (loaded.weights_note, loaded.weights_file) == ("trained here", file)
        with pytest.raises(InputError, match="trained with width 6"):
            Toy(weights=str(file))

    @pytest.mark.parametrize("name", NANO_METHODS)
    def test_nano_means_the_methods_own(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        kind = getattr(import_module(f"methods.{name}"), NANO_METHODS[name])
        file = ROOT / yaml.safe_load((ROOT / "methods" / name / "method.yaml").read_text())["nano"]
        module = kind(weights="nano")
        assert (module.weights_file, module.weights_note) == (file, "nano")
        stored = read_weights(file)
        assert stored.class_path == class_path(kind)
        assert stored.settings.keys() == module.architecture().keys()
        for key, value in module.state_dict().items():
            assert torch.equal(value, stored.state[key].to(value.dtype)), key
        relative = kind(weights=file.relative_to(ROOT).as_posix())
        assert (relative.weights_file, relative.weights_note) == (file, "nano")

    def test_a_method_without_nano_weights_says_so(self) -> None:
        with pytest.raises(InputError, match="weights nano: Toy has none; give a file"):
            Toy(weights="nano")


class TestContracts:
    def test_a_class_is_named_by_the_package_that_exports_it(self) -> None:
        assert class_path(VideoDataModule) == "common.data.VideoDataModule"
        assert class_path(CopyFirstMask) == "methods.baselines.CopyFirstMask"

    def test_what_a_method_does_not_define(self) -> None:
        with pytest.raises(TypeError, match=r"must define session\(\)"):
            VideoSegmenter().session()
        with pytest.raises(TypeError, match="cannot be trained"):
            VideoSegmenter().losses(clip())

    def test_copy_repeats_each_mask_from_where_it_is_given(self) -> None:
        frame, session = torch.zeros(4, 5, 3, dtype=torch.uint8), CopyFirstMask().session()
        left, right = torch.zeros(2, 4, 5, dtype=torch.bool)
        left[:, 0], right[:, 4] = True, True
        assert session.step(frame)[0].targets == ()
        assert session.step(frame, [Prompt(2, mask=right)])[0].targets == (2,)
        answer = session.step(frame, [Prompt(1, mask=left)])[0]
        assert (answer.frame, answer.targets) == (2, (1, 2))
        assert torch.equal(answer.masks, torch.stack([left, right]))
        session.drop(2)
        assert session.step(frame)[0].targets == (1,)
        session.reset()
        assert session.step(frame)[0].targets == ()

    def test_copy_refuses_what_it_cannot_use(self) -> None:
        frame, session = torch.zeros(4, 5, 3, dtype=torch.uint8), CopyFirstMask().session()
        with pytest.raises(InputError, match="Copy takes mask on a frame"):
            session.step(frame, [Prompt(1, box=(0, 0, 2, 2))])
        with pytest.raises(InputError, match=r"\(5, 4\), the frame is \(4, 5\)"):
            session.step(frame, [Prompt(1, mask=torch.ones(5, 4, dtype=torch.bool))])
        with pytest.raises(InputError, match="not tracked"):
            session.drop(1)
        session.step(frame)
        with pytest.raises(InputError, match="the video is"):
            session.step(frame[:3])


def test_predict_needs_prompts_and_weights(tmp_path: Path) -> None:
    class NoPrompt(Tiny):
        def __getitem__(self, index: int) -> Video:
            video = super().__getitem__(index)
            video.prompts = () if index == 0 else video.prompts
            return video

    method, data = CopyFirstMask(), VideoDataModule(predict=[NoPrompt(**SMALL)])
    trainer(tmp_path).predict(method, datamodule=data)
    ((failed, why),) = method.failed.items()
    assert "it has no prompt" in why
    assert "\n" not in why
    assert not (tmp_path / "predictions" / failed).exists()
    with pytest.raises(InputError, match="Toy has no weights"):
        trainer(tmp_path).predict(Toy(), datamodule=data)


def test_predict_writes_masks_and_an_overlay_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    method, data = CopyFirstMask(), VideoDataModule(predict=[BrokenVideo(closed=True)])
    trainer(tmp_path).predict(method, datamodule=data)
    done = BrokenVideo()[0].id
    assert len(list((tmp_path / "predictions" / done).glob("*.png"))) == 6
    assert (tmp_path / "predictions" / f"{done}.mp4").stat().st_size > 0
    assert sorted(method.failed.values()) == ["clip2.mp4: frame 3 is truncated", "clip3.mp4: not a video file"]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path, repository: Path) -> None:
    """Three videos on two processes: shared out, none twice, none lost, and not a digit differs."""
    benchmark = {"class_path": "common.benchmarks.tiny.Tiny", "init_args": {**SMALL, "size": [32, 32]}}
    config = tmp_path / "copy.yaml"
    config.write_text(
        yaml.safe_dump({"model": {"class_path": "methods.baselines.CopyFirstMask"}, "data": {"test": [benchmark]}})
    )
    flags = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "cli.py", "test", "--config", str(config), *flags]
    done = subprocess.run(
        [*command, "--trainer.default_root_dir", str(tmp_path / "two")],
        cwd=repository, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    score(tmp_path / "one", CopyFirstMask(), Tiny(**SMALL))
    one, two = (json.loads((tmp_path / name / FOLDER / "results.json").read_text()) for name in ("one", "two"))
    for key in ("metrics", "videos", "protocol_id"):
        assert one[key] == two[key]
