"""SA-V: folders of objects, frames that count, overlap, and the official scorer's numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.benchmarks.sav import SAV
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.evaluation.submission import evaluate
from common.video import FrameMasks, Video
from tests.support.miniatures.sav import SIZE, make, square


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "SA-V", "sav")
    return tmp_path / "SA-V"


def perfect(video: Video) -> Iterator[FrameMasks]:
    for frame in range(len(video)):
        masks = video.truth[frame]
        masks = torch.ones(len(video.targets), *SIZE, dtype=torch.bool) if masks is None else masks
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def save(path: Path, masks: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(masks).save(path)


def test_targets_prompts_and_frames_that_count(root: Path) -> None:
    benchmark = SAV(root)
    late, numbered = benchmark
    assert late.targets == numbered.targets == (1, 2)
    assert late.attributes["objects"] == {1: "000", 2: "001"}
    assert numbered.attributes["objects"] == {1: "001", 2: "003"}
    assert [(prompt.target, prompt.frame) for prompt in late.prompts] == [(1, 0), (2, 8)]
    assert torch.equal(late.prompts[1].mask, square(8, 4, 8))
    assert (len(late), late.fps, list(late.annotated)) == (21, 24, [0, 4, 8, 12, 16, 20])
    assert list(benchmark.scored_frames(late)) == [4, 8, 12, 16]
    assert late.truth[5] is None
    assert late.overlap
    assert late.truth[12].all(0).any()  # the objects overlap
    measured = benchmark.measure(late, perfect(late))
    assert measured["j"].nan_to_num(-1).tolist() == [[1, -1], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize("name", ["SA-V", "sav", "sav_test"])
def test_root_may_be_the_folder_of_the_split(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place = root.parent / "data"
    shutil.copytree(root / "sav_test" if name == "sav_test" else root, place / name)
    monkeypatch.setenv("VIDSEG_DATA", str(place))
    assert SAV(split="test").ids == ["sav_000003"]
    assert len(SAV(split="test")[0]) == 17
    if name == "sav_test":
        with pytest.raises(InputError, match="sav not found"):
            len(SAV())


def test_the_submission_is_a_tree_of_binary_pngs_in_the_objects_own_folders(root: Path, tmp_path: Path) -> None:
    benchmark, out = SAV(root), tmp_path / "out"
    for video in benchmark:
        list(benchmark.write(video, perfect(video), out))
    folders = {str(path.relative_to(out)) for path in out.glob("*/*")}
    assert folders == {f"sav_000001/{n}" for n in ("000", "001")} | {f"sav_000002/{n}" for n in ("001", "003")}
    files = sorted(path.name for path in (out / "sav_000001" / "001").iterdir())
    assert files == [f"{frame:05d}.png" for frame in range(0, 21, 4)]
    with Image.open(out / "sav_000001" / "001" / "00012.png") as image:
        assert np.array_equal(np.array(image) > 0, square(12, 4, 8).numpy())
    scores = evaluate(benchmark, out)
    assert scores.numbers["J&F"] == 1
    assert [video.objects for video in scores.videos] == [["000", "001"], ["001", "003"]]


def test_frames_at_24_fps_and_other_zeros_in_a_folders_name_do_no_harm(root: Path, tmp_path: Path) -> None:
    benchmark = SAV(root, videos=["sav_000002"])
    for frame in range(17):
        for object, row in (("1", 3), ("0003", 6)):
            path = tmp_path / "out" / "sav_000002" / object / f"{frame:05d}.png"
            save(path, 255 * square(frame, row, 0).numpy().astype(np.uint8))
    assert evaluate(benchmark, tmp_path / "out").numbers["J"] == 1


def test_one_label_map_a_frame_is_refused_or_counts_as_empty(root: Path, tmp_path: Path) -> None:
    benchmark = SAV(root, videos=["sav_000001"])
    for frame in range(0, 21, 4):
        save(tmp_path / "out" / "sav_000001" / f"{frame:05d}.png", np.ones(SIZE, dtype=np.uint8))
    with pytest.raises(InputError, match=r"label maps, but objects of SA-V overlap; write 000/<frame>\.png"):
        evaluate(benchmark, tmp_path / "out")
    scores = evaluate(benchmark, tmp_path / "out", empty=True)
    assert (scores.numbers["J"], len(scores.notes)) == (0, 1)


def test_an_object_counts_on_its_own_frames(root: Path) -> None:
    folder = root / "sav_val" / "Annotations_6fps" / "sav_000001" / "001"
    for frame in (0, 4, 20):
        (folder / f"{frame:05d}.png").unlink()
    benchmark = SAV(root)
    video = benchmark[0]
    assert list(benchmark.scored_frames(video)) == [4, 8, 12, 16]
    measured = benchmark.measure(video, perfect(video))
    assert measured["j"].nan_to_num(-1).tolist() == [[1, -1], [1, -1], [1, 1], [1, -1]]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("list", r"sav_val/sav_val\.txt: no such split file"),
        ("objects", r"sav_000001: no folders of objects, such as 000"),
        ("name", r"sav_000001/left: not a number"),
        ("many", r"sav_000001: 255 objects; there can be 254"),
        ("frames", r"sav_000001: frame 00003 is missing"),
        ("size", r"000/00008\.png: the annotation is \(5, 5\)"),
    ],
)
def test_bad_data_is_named(root: Path, what: str, message: str) -> None:
    place = root / "sav_val"
    objects = place / "Annotations_6fps" / "sav_000001"
    if what == "list":
        (place / "sav_val.txt").unlink()
    elif what == "objects":
        shutil.rmtree(objects)
    elif what == "name":
        (objects / "001").rename(objects / "left")
    elif what == "many":
        for number in range(2, 255):
            (objects / f"{number:03d}").mkdir()
    elif what == "frames":
        (place / "JPEGImages_24fps" / "sav_000001" / "00003.jpg").unlink()
    elif what == "size":
        save(objects / "000" / "00008.png", np.ones((5, 5), dtype=np.uint8))
    benchmark = SAV(root)
    with pytest.raises(InputError, match=message):
        [benchmark.measure(video, perfect(video)) for video in benchmark]


def test_every_object_equals_the_official_scorer(golden_root: Path, tmp_path: Path) -> None:
    """Both trees are written as PNGs, one folder an object, and read back without frames."""
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    names = expected["suite"]["sav"]["cases"]
    for name in names:
        with np.load(golden_root / "vos" / f"{name}.npz") as arrays:
            for place, maps in (("sav_val/Annotations_6fps", arrays["gt"]), ("pred", arrays["pred"])):
                for target in (int(object) for object in expected["cases"][name]["sav"]["J"]):
                    for frame, labels in enumerate(maps):
                        save(tmp_path / place / name / f"{target:03d}" / f"{frame:05d}.png", labels == target)
    (tmp_path / "sav_val" / "sav_val.txt").write_text("\n".join(names))
    benchmark, metric = SAV(tmp_path), SAV(tmp_path).metric()
    for video in benchmark:
        measured = benchmark.measure(video, benchmark.read(video, tmp_path / "pred", SubmissionErrors()))
        metric.extend(**measured)
        for measure in "JF":
            means = (100 * measured[measure.lower()].nanmean(0)).tolist()
            got = dict(zip(video.attributes["objects"].values(), means, strict=True))
            assert got == pytest.approx(expected["cases"][video.id]["sav"][measure], abs=1e-6), video.id
    for number in ("J&F", "J", "F"):
        assert 100 * metric.compute()[number].item() == pytest.approx(expected["suite"]["sav"][number], abs=1e-6)
