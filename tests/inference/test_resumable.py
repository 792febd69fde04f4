"""One video tracked into a folder: what is written, and stopping and going on."""

from __future__ import annotations

import json
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.files import write_text
from common.inference.output import write_labels
from common.inference.resumable import Tracking, _load, _occurrences, _results
from common.segmenter import VideoSegmenter
from common.synthetic import SyntheticClips
from common.video import (
    FrameMasks,
    MaskCandidates,
    Prompt,
    Video,
    VideoFile,
    masks_from_labels,
    open_video,
    read_label_map,
    rle_decode,
)
from methods.baselines.baselines import CopyFirstMask
from methods.sam2long import SAM2Long

LENGTH, SIZE = 7, (32, 48)


@pytest.fixture
def video() -> Video:
    return SyntheticClips("easy", 1, frames=LENGTH, size=SIZE, seed=5, objects=2)[0]


@pytest.fixture(scope="module")
def nano() -> VideoSegmenter:
    return SAM2Long(weights="nano", image_size=64).eval()


def test_everything_is_written_and_agrees(video: Video, tmp_path: Path) -> None:
    run = Tracking(CopyFirstMask(), video, tmp_path / "out", "key")
    assert list(run.run()) == list(range(1, LENGTH + 1))
    assert run.finished
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "contact.png",
        "masks",
        "masks.json",
        "occurrences.json",
        "overlay.mp4",
    ]
    whole = [[0, LENGTH - 1]]
    assert json.loads((tmp_path / "out" / "occurrences.json").read_text()) == {str(t): whole for t in video.targets}
    results = json.loads((tmp_path / "out" / "masks.json").read_text())
    for frame in range(LENGTH):
        labels = read_label_map(tmp_path / "out" / "masks" / f"{frame:05d}.png")
        rows = [row for row in results if row["image_id"] == frame]
        assert [row["track_id"] for row in rows] == list(video.targets)
        assert torch.equal(rle_decode([row["segmentation"] for row in rows]), masks_from_labels(labels, video.targets))
    overlay = VideoFile(tmp_path / "out" / "overlay.mp4")
    assert len(overlay) == LENGTH
    assert overlay[0].shape == (*SIZE, 3)


def test_occurrences_are_runs_of_frames(tmp_path: Path) -> None:
    seen = [(0, 1), (1, 1), (1, 2), (4, 1), (5, 1), (6, 2)]
    lines = tmp_path / "lines"
    lines.write_text("".join(json.dumps({"image_id": frame, "track_id": target}) + "\n" for frame, target in seen))
    assert _occurrences(lines) == {1: [(0, 1), (4, 5)], 2: [(1, 1), (6, 6)]}


def test_a_stopped_run_goes_on_to_the_same_answers(video: Video, nano: VideoSegmenter, tmp_path: Path) -> None:
    list(Tracking(nano, video, tmp_path / "whole", "key").run())
    stopped = Tracking(nano, video, tmp_path / "parts", "key")
    for taken in stopped.run():
        if taken == 3:
            signal.raise_signal(signal.SIGINT)
    assert not stopped.finished
    with pytest.raises(InputError, match="continue it with --resume"):
        list(Tracking(nano, video, tmp_path / "parts", "key").run())
    with pytest.raises(InputError, match="another video, other targets or other weights"):
        list(Tracking(nano, video, tmp_path / "parts", "other").run(resume=True))
    with (tmp_path / "parts" / "masks.jsonl.part").open("a") as lines:
        lines.write('{"half a li')  # what a crash may leave
    again = Tracking(nano, video, tmp_path / "parts", "key")
    assert list(again.run(resume=True)) == [4, 5, 6, 7]
    assert again.finished
    for name in ("masks.json", "masks/00006.png", "overlay.mp4", "contact.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "parts").glob("*.part"))


def test_a_second_interrupt_does_not_wait(video: Video, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run = Tracking(CopyFirstMask(), video, tmp_path / "out", "key").run()
    next(run)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    run.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stream_keeps_its_frames_and_ends_where_it_is_stopped(video: Video, tmp_path: Path) -> None:
    stream = open_video((frame for frame in video), "camera0")
    stream.prompts = video.prompts
    run = Tracking(CopyFirstMask(), stream, tmp_path / "out", "key")
    for taken in run.run():
        if taken == 4:
            signal.raise_signal(signal.SIGINT)
    assert run.finished
    assert len(VideoFile(tmp_path / "out" / "overlay.mp4")) == 4
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 4


def test_nothing_to_continue(video: Video, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stopped run to continue"):
        list(Tracking(CopyFirstMask(), video, tmp_path / "out", "key").run(resume=True))
    (tmp_path / "session.part").write_bytes(b"no pickle")
    with pytest.raises(InputError, match=r"session.part: not a readable checkpoint"):
        list(Tracking(CopyFirstMask(), video, tmp_path, "key").run(resume=True))
    torch.save({"state": pickle.dumps({"key": "key"}), "tensors": []}, tmp_path / "session.part")
    with pytest.raises(InputError, match="not the state of an interrupted run"):
        list(Tracking(CopyFirstMask(), video, tmp_path, "key").run(resume=True))


class Hostile:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Hostile(os.system, "touch pwned"), "posix.system"),
        (Hostile(getattr, Path(), "touch"), "builtins.getattr"),
        (Hostile(write_text, Path("pwned"), "x"), "common.files.write_text"),
        (Hostile(Path, "pwned"), "pathlib"),
    ],
)
def test_a_saved_session_that_would_run_code_is_refused(
    content: Hostile, named: str, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    torch.save({"state": pickle.dumps(content), "tensors": []}, tmp_path / "out" / "session.part")
    with pytest.raises(InputError, match=rf"session.part: .*it holds {named}"):
        list(Tracking(CopyFirstMask(), video, tmp_path / "out", "key").run(resume=True))
    assert not (tmp_path / "pwned").exists()


def test_names_that_lead_out_of_the_suite_are_refused(tmp_path: Path) -> None:
    # protocol 4 resolves dotted names: through an imported module to any function
    state = b"\x80\x04\x8c\x0ccommon.files\x8c\tos.system\x93\x8c\x0btouch pwned\x85R."
    torch.save({"state": state, "tensors": []}, tmp_path / "session.part")
    with pytest.raises(InputError, match=r"it holds common.files.os.system"):
        _load(tmp_path / "session.part", CopyFirstMask())


def test_a_prompt_after_the_end(video: Video, tmp_path: Path) -> None:
    video.prompts = (Prompt(1, frame=LENGTH, box=(1, 1, 9, 9)),)
    message = f"target 1 has a prompt at frame {LENGTH}, but the video has {LENGTH} frames"
    with pytest.raises(InputError, match=message):
        list(Tracking(CopyFirstMask(), video, tmp_path / "out", "key").run())
    with pytest.raises(InputError, match=message):
        list(CopyFirstMask().track(video))
    assert not (tmp_path / "out").exists()


def test_a_frame_that_cannot_be_read_keeps_the_frames_before_it(nano: VideoSegmenter, tmp_path: Path) -> None:
    made = SyntheticClips("easy", 1, frames=LENGTH, size=SIZE, seed=5, objects=1)[0]
    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(made):
        Image.fromarray(frame.numpy()).save(tmp_path / "clip" / f"{index}.png")
    video = replace(open_video(tmp_path / "clip"), prompts=made.prompts)
    list(Tracking(nano, video, tmp_path / "whole", "key").run())
    last = tmp_path / "clip" / f"{LENGTH - 1}.png"
    data = last.read_bytes()
    last.write_bytes(data[:40])
    with pytest.raises(InputError, match=last.name):
        list(Tracking(nano, video, tmp_path / "parts", "key").run())
    last.write_bytes(data)
    assert list(Tracking(nano, video, tmp_path / "parts", "key").run(resume=True)) == [LENGTH]
    assert (tmp_path / "parts" / "masks.json").read_text() == (tmp_path / "whole" / "masks.json").read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_run_leaves_no_folder(nano: VideoSegmenter, video: Video, stream: bool, tmp_path: Path) -> None:
    wrong = replace(video, prompts=(Prompt(1, mask=torch.ones(5, 5, dtype=torch.bool)),))
    if stream:
        wrong = replace(open_video(frame for frame in video), prompts=wrong.prompts)
    with pytest.raises(InputError, match="the mask is"):
        list(Tracking(nano, wrong, tmp_path / "out", "key").run())
    list(Tracking(nano, video, tmp_path / "out", "key").run())


def test_a_killed_run_goes_on_from_the_last_save(
    nano: VideoSegmenter, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.inference.resumable.SAVE_EVERY", 0.0)
    list(Tracking(nano, video, tmp_path / "whole", "key").run())
    for taken in Tracking(nano, video, tmp_path / "parts", "key").run():
        if taken == 5:
            break  # as by kill -9: nothing more is written
    assert list(Tracking(nano, video, tmp_path / "parts", "key").run(resume=True)) == list(range(5, LENGTH + 1))
    assert (tmp_path / "parts" / "masks.json").read_text() == (tmp_path / "whole" / "masks.json").read_text()


def read_results(folder: Path) -> dict[tuple[int, int], dict]:
    """Results by frame and target, each of them once."""
    rows = json.loads((folder / "masks.json").read_text())
    assert len({(row["image_id"], row["track_id"]) for row in rows}) == len(rows)
    return {(row["image_id"], row["track_id"]): row for row in rows}


def test_candidates_and_logits_are_written(nano: VideoSegmenter, video: Video, tmp_path: Path) -> None:
    y, x = video.truth[0][0].nonzero()[20].tolist()
    click = Prompt(1, points=torch.tensor([[float(x), float(y)]]), labels=torch.tensor([1]))
    clicked = replace(video, prompts=(click, video.prompts[1]))
    asked = ["keep_logits", "keep_candidates", "overlap"]
    list(Tracking(nano, clicked, tmp_path / "out", "", asked=asked).run())
    session = nano.session(LENGTH)
    session.ask(*asked)
    with torch.inference_mode():
        expected = [
            answer for i, frame in enumerate(video) for answer in session.step(frame, () if i else clicked.prompts)
        ]
        expected += session.finish()
    rows = read_results(tmp_path / "out")
    assert [key for key, row in rows.items() if "candidates" in row] == [(0, 1)]
    offered, candidates = rows[0, 1]["candidates"], expected[0].candidates[1]
    assert torch.equal(rle_decode([row["segmentation"] for row in offered]), candidates.masks)
    assert [row["predicted_iou"] for row in offered] == pytest.approx(candidates.ious.tolist(), abs=1e-4)
    for answer in expected:
        with np.load(tmp_path / "out" / "logits" / f"{answer.frame:05d}.npz") as planes:
            for row, target in enumerate(answer.targets):
                assert planes[str(target)].dtype == np.float16
                assert torch.equal(torch.from_numpy(planes[str(target)]), answer.logits[row].half())


def test_a_candidate_is_kept_where_the_answer_is_empty(tmp_path: Path) -> None:
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    offered = {1: MaskCandidates(~masks, torch.tensor([0.25]))}
    (row,) = _results(FrameMasks(3, (1,), masks, torch.tensor([-2.0]), candidates=offered))
    assert [candidate["predicted_iou"] for candidate in row["candidates"]] == [0.25]
    (lines := tmp_path / "lines").write_text(json.dumps(row) + "\n")
    assert _occurrences(lines) == {}
    assert not list(_results(FrameMasks(3, (1,), masks, torch.tensor([-2.0]))))


@pytest.mark.parametrize("overlap", [False, True])
def test_both_directions_are_joined_in_the_files(
    nano: VideoSegmenter, video: Video, tmp_path: Path, overlap: bool
) -> None:
    """Stopped on the way and resumed; as ``track`` gives it from Python."""
    prompts = tuple(Prompt(t + 1, frame, mask=video.truth[frame][t].bool()) for t, frame in ((0, 1), (1, 4)))
    late = replace(video, prompts=prompts, overlap=overlap)
    asked = ["overlap"] * overlap + ["keep_logits"]
    for taken in Tracking(nano, late, tmp_path / "out", "", "both", asked).run():
        if taken == LENGTH:
            signal.raise_signal(signal.SIGINT)
    list(Tracking(nano, late, tmp_path / "out", "", "both", asked).run(resume=True))
    rows = read_results(tmp_path / "out")
    for answer in nano.track(late, "both"):
        for target, mask in zip(answer.targets, answer.masks, strict=True):
            found = (answer.frame, target) in rows
            assert found == bool(mask.any())
            assert not found or torch.equal(rle_decode([rows[answer.frame, target]["segmentation"]])[0], mask)
        labels = read_label_map(tmp_path / "out" / "masks" / f"{answer.frame:05d}.png")
        assert torch.equal(labels > 0, answer.masks.any(0))
        with np.load(tmp_path / "out" / "logits" / f"{answer.frame:05d}.npz") as planes:
            assert set(planes) == {"1", "2"}


def test_what_a_method_cannot_give_is_refused_before_anything_is_written(video: Video, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Copy gives no logits"):
        list(Tracking(CopyFirstMask(), video, tmp_path / "out", "", asked=["overlap", "keep_logits"]).run())
    assert not (tmp_path / "out").exists()


def test_a_png_shows_the_smallest_of_overlapping_masks(tmp_path: Path) -> None:
    outer, inner = torch.zeros(2, 4, 4, dtype=torch.bool)
    outer[:3], inner[1, 1] = True, True
    write_labels(FrameMasks(0, (1, 2), torch.stack([inner, outer]), torch.ones(2)), tmp_path / "0.png")
    assert torch.equal(read_label_map(tmp_path / "0.png").int(), outer * 2 - inner.int())
