"""The verb ``track``: what is pointed at, where frames come from, and what a person reads."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

import cli
from common.cli.build import build_method
from common.cli.targets import prompts
from common.cli.track import _key, _parser
from common.errors import InputError
from common.inference.session import Frame
from common.synthetic import SyntheticClips
from common.video import (
    FrameMasks,
    Prompt,
    Video,
    VideoFile,
    labels_from_masks,
    read_label_map,
    rle_decode,
    write_label_map,
    write_video,
)
from common.video.streams import camera_frames, piped_frames, raw_frames
from methods.baselines.baselines import CopyFirstMask, CopySession
from tests.support.lively import lively_sam2
from tests.support.official_sam2 import to_official

SIZE = (64, 80)


@pytest.fixture(scope="module")
def video() -> Video:
    return SyntheticClips("easy", 1, frames=4, size=SIZE, seed=3, objects=2, held_out=True)[0]


@pytest.fixture(scope="module")
def files(video: Video, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip.mp4``, ``first.png`` with two labels, ``one.png`` in black and white."""
    folder = tmp_path_factory.mktemp("files")
    write_video(folder / "clip.mp4", iter(video))
    write_label_map(folder / "first.png", labels_from_masks(video.truth[0], video.targets))
    Image.fromarray(video.truth[0][0].numpy()).convert("L").save(folder / "one.png")
    return folder


def test_boxes_points_and_texts() -> None:
    made = prompts(boxes=["2:10,20,30.5,40@5"], points=["1,2", "1:3,4,-", "3:7,8@5"], texts=["4:a red cup: left"])
    assert [(prompt.frame, prompt.target) for prompt in made] == [(0, 1), (0, 4), (5, 2), (5, 3)]
    points, text, box, _ = made
    assert points.points.tolist() == [[1, 2], [3, 4]]
    assert points.labels.tolist() == [1, 0]
    assert text.text == "a red cup: left"
    assert box.box == (10, 20, 30.5, 40)


def test_a_box_and_points_of_one_target_are_one_prompt() -> None:
    (made,) = prompts(boxes=["1,1,9,9"], points=["3,3", "8,8,-"])
    assert made.kinds == ("box", "points")


def test_masks(files: Path, video: Video) -> None:
    two = prompts(masks=[str(files / "first.png")])
    assert [prompt.target for prompt in two] == list(video.targets)
    (one,) = prompts(masks=[str(files / "one.png")])
    assert torch.equal(one.mask, video.truth[0][0])
    (other,) = prompts(masks=[f"7:{files / 'first.png'}@2"])
    assert (other.target, other.frame) == (7, 2)
    assert torch.equal(other.mask, video.truth[0].any(0))


def test_a_query_and_its_mask(files: Path, video: Video) -> None:
    Image.fromarray(video[0].numpy()).save(files / "query.png")
    (made,) = prompts(queries=[str(files / "query.png")], query_masks=[str(files / "one.png")])
    assert torch.equal(made.image, video[0])
    assert torch.equal(made.mask, video.truth[0][0])


def test_a_vocabulary() -> None:
    (made,) = prompts(vocabulary="cat, red car,")
    assert made.vocabulary == ("cat", "red car")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "nothing to follow"),
        ({"boxes": ["1,2,3"]}, r"1,2,3: cannot be read; write \[ID:\]x0,y0,x1,y1"),
        ({"boxes": ["1,1,2,2", "3,3,4,4"]}, "give another id, as in 2:3,3,4,4"),
        ({"points": ["a,b"]}, "a,b: cannot be read"),
        ({"queries": ["a.png"]}, "every query image needs its mask"),
        ({"points": ["0:100,100", "1:30,30"]}, "target ids are 1 to 254 .*; write 1:100,100"),
        ({"boxes": ["0:1,1,9,9"]}, "target ids are 1 to 254"),
        ({"texts": ["255:a cup"]}, "target ids are 1 to 254"),
        ({"masks": ["none.png"]}, "none.png: no such label map"),
    ],
)
def test_what_cannot_be_read(said: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prompts(**said)


def test_raw_frames_from_a_pipe(video: Video) -> None:
    data = b"".join(frame.numpy().tobytes() for frame in video)
    assert all(torch.equal(a, b) for a, b in zip(raw_frames(io.BytesIO(data), SIZE), video, strict=True))
    with pytest.raises(InputError, match="frame 3 breaks off"):
        list(raw_frames(io.BytesIO(data[:-5]), SIZE))


def test_mjpeg_from_a_pipe(video: Video) -> None:
    def jpeg(frame: Tensor) -> bytes:
        file = io.BytesIO()
        Image.fromarray(frame.numpy()).save(file, "JPEG", quality=95)
        return file.getvalue()

    read = list(piped_frames(io.BytesIO(b"".join(jpeg(frame) for frame in video))))
    assert len(read) == 4
    assert all((a.float() - b.float()).abs().mean() < 6 for a, b in zip(read, video, strict=True))
    with pytest.raises(InputError, match="not a video that can be read from a pipe"):
        list(piped_frames(io.BytesIO(b"no video" * 99)))


def test_no_such_camera() -> None:
    with pytest.raises(InputError, match="camera:97: no such camera"):
        next(camera_frames(97))


def test_unknown_method_and_a_config_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--method sam3: unknown; choose from .*sam2long"):
        build_method("sam3")
    config = tmp_path / "data.yaml"
    config.write_text("data: {}")
    with pytest.raises(InputError, match="it has no model"):
        build_method("sam2long", configs=[config])
    config.write_text("model: {class_path: methods.sam2long.SAM2Long, init_args: {pathway: 2}}")
    with pytest.raises(InputError, match="did you mean 'pathways'"):
        build_method("sam2long", configs=[config])


def test_weights_of_another_method(repository: Path) -> None:
    with pytest.raises(InputError, match=r"^\S*univs_nano.safetensors: does not fit"):
        build_method("sslvos", str(repository / "weights" / "univs_nano.safetensors"))


def test_a_config_without_weights_is_refused(repository: Path) -> None:
    config = repository / "configs" / "sam2long" / "nano_scratch.yaml"
    with pytest.raises(InputError, match="sam2long has no weights"):
        build_method("sam2long", configs=[config])
    assert build_method("sam2long", "random", [config]).weights == "random"


def test_empty_masks_are_said(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing.yaml").write_text("model: {class_path: methods.baselines.baselines.AnswerNothing}\n")
    flags = ["--config", str(tmp_path / "nothing.yaml"), "--output", str(tmp_path / "out")]
    assert cli.main(["track", str(files / "clip.mp4"), "--mask", str(files / "one.png"), *flags]) == 0
    assert "every mask is empty" in capsys.readouterr().err


def test_a_box_in_a_file(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "out")]
    assert (
        cli.main(["track", str(files / "clip.mp4"), "--box", "10,10,40,40", "--box", "2:30,30,60,60@1", *output]) == 0
    )
    said = capsys.readouterr()
    assert "weights: sam2_mini_real.safetensors, a small network for research use only" in said.err
    assert "frames/s" in said.err
    tracks = {row["track_id"] for row in json.loads((tmp_path / "out" / "masks.json").read_text())}
    assert tracks <= {1, 2}
    assert cli.main(["track", str(files / "clip.mp4"), "--box", "10,10,40,40", *output]) == 2
    assert "give another --output" in capsys.readouterr().err
    nano = ["--box", "10,10,40,40", "--weights", "nano", "--output", str(tmp_path / "nano")]
    assert cli.main(["track", str(files / "clip.mp4"), *nano]) == 0
    assert "weights: nano, small and trained on generated clips" in capsys.readouterr().err
    assert cli.main(["track", str(files / "clip.mp4"), "--text", "a cup", "--output", str(tmp_path / "text")]) == 2
    assert "this is text" in capsys.readouterr().err


def test_weights_alone_say_which_network(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": to_official(lively_sam2("2").net.state_dict())}, file := tmp_path / "sam2.pt")
    said = [str(files / "clip.mp4"), "--box", "10,10,40,40", "--weights", str(file)]
    assert cli.main(["track", *said, "--output", str(tmp_path / "out")]) == 0
    config = ["--config", "configs/sam2long/paper.yaml", "--output", str(tmp_path / "other")]
    assert cli.main(["track", *said, *config]) == 2
    assert "the weights are of SAM 2 nano, but the settings say size large" in capsys.readouterr().err
    assert cli.main(["track", *said[:-1], "sam2.1-small", "--output", str(tmp_path / "third")]) == 2
    assert "sam2.1-small: not in weights/" in capsys.readouterr().err


def test_precision_of_the_flag_or_the_config(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["track", str(files / "clip.mp4"), "--mask", str(files / "one.png"), "--output"]
    (config := tmp_path / "seen.yaml").write_text(
        "model: {class_path: tests.cli.test_track.Precise}\ntrainer: {precision: bf16-mixed}\n"
    )
    (later := tmp_path / "later.yaml").write_text("trainer: {precision: 32-true}\n")
    for name, flags, dtype in (
        ("a", ["--config", str(config)], torch.bfloat16),
        ("b", ["--config", str(config), "--precision", "32-true"], torch.float32),
        ("c", ["--config", str(config), "--config", str(later)], torch.float32),
        ("d", ["--config", str(config), "--precision", "16-mixed"], torch.bfloat16),  # on a CPU
    ):
        Precise.seen.clear()
        assert cli.main([*said, str(tmp_path / name), "--device", "cpu", *flags]) == 0
        assert Precise.seen == [dtype] * 4, name
    assert cli.main([*said, str(tmp_path / "e"), "--precision", "bf16-true"]) == 2
    assert "precision bf16-true: weights stay float32; for speed use" in capsys.readouterr().err


class Precise(CopyFirstMask):
    """Notes the dtype of a matrix product on every frame."""

    seen: ClassVar[list[torch.dtype]] = []

    def session(self, length: int | None = None) -> CopySession:
        class Noting(CopySession):
            def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> list[FrameMasks]:
                Precise.seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
                return super().step(frame, prompts)

        return Noting()


def test_a_pipe_end_to_end(files: Path, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO(b"".join(frame.numpy().tobytes() for frame in video))

    monkeypatch.setattr(sys, "stdin", Pipe)
    command = ["track", "-", "--raw", "80x64", "--mask", str(files / "first.png"), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 4


def test_a_run_is_not_continued_with_other_borrowed_weights(tmp_path: Path) -> None:
    segmenter = torch.nn.Linear(2, 2)
    segmenter.borrowed_files = (tmp_path / "sam.pth",)
    keys = []
    for content, box in ((b"one", "1,1,9,9"), (b"two", "1,1,9,9"), (b"two", "1,1,9,8"), (b"one", "1,1,9,9")):
        (tmp_path / "sam.pth").write_bytes(content)
        keys.append(_key(_parser().parse_args(["clip.mp4", "--box", box]), segmenter, "32-true"))
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3
    mixed = _key(_parser().parse_args(["clip.mp4", "--box", "1,1,9,9"]), segmenter, "bf16-mixed")
    assert mixed not in keys


def test_the_example(files: Path, repository: Path, tmp_path: Path) -> None:
    example = runpy.run_path(str(repository / "examples" / "track_video.py"))
    example["main"](str(files / "clip.mp4"), str(files / "first.png"), str(tmp_path))
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert len(VideoFile(tmp_path / "overlay.mp4")) == 4


def test_overlapping_masks_candidates_and_logits(files: Path, video: Video, tmp_path: Path) -> None:
    """Two nested masks and a click: RLE holds the overlap, PNGs have one owner."""
    outer, inner = torch.zeros(2, *SIZE, dtype=torch.uint8)
    outer[10:50, 10:60], inner[20:30, 20:30] = 1, 1
    write_label_map(tmp_path / "outer.png", outer)
    write_label_map(tmp_path / "inner.png", inner)
    given = [f"--mask=1:{tmp_path / 'outer.png'}", f"--mask=2:{tmp_path / 'inner.png'}", "--point=3:60,50"]
    shared = {}
    for options in ([], ["--overlap", "--candidates", "--logits"]):
        folder = tmp_path / f"out{len(options)}"
        assert cli.main(["track", str(files / "clip.mp4"), *given, *options, "--output", str(folder)]) == 0
        rows = [row for row in json.loads((folder / "masks.json").read_text()) if row["image_id"] == 0]
        masks = {row["track_id"]: rle_decode([row["segmentation"]])[0] for row in rows}
        shared[len(options)] = int((masks[1] & masks[2]).sum())
        assert [row["track_id"] for row in rows if "candidates" in row] == [3] * bool(options)
        assert (folder / "logits").is_dir() == bool(options)
        assert (read_label_map(folder / "masks" / "00000.png") == 2).sum() > 50
    assert shared[0] == 0
    assert shared[3] > 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "sslvos", "--overlap"], "SSLVOS gives no overlapping masks"),
        (["--method", "hqsmem", "--candidates"], "HQSMem gives no candidate masks"),
        (["--everything", "2", "--both"], "leave out K"),
    ],
)
def test_outputs_that_a_method_cannot_give(
    files: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["track", str(files / "clip.mp4"), "--mask", str(files / "first.png"), "--output", str(tmp_path / "out")]
    assert cli.main([*command, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
