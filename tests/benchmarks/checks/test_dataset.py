"""Checking of data: every kind of problem is found, named and counted, and none hides another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.benchmarks import Benchmark
from common.benchmarks.checks.dataset import check_benchmark, summary
from common.benchmarks.checks.files import missing_names
from common.benchmarks.davis import DAVIS
from common.benchmarks.long_video import LongVideo
from common.benchmarks.own_folder import Folder
from common.benchmarks.sav import SAV
from common.benchmarks.tiny.videos import Tiny
from common.benchmarks.vots import VOTS
from common.benchmarks.vqs.benchmark import VQS4K
from common.errors import InputError
from common.video.masks import write_label_map
from tests.support.miniatures import long_video, sav, vots, vqs
from tests.support.miniatures.davis import SIZE, make_davis, squares
from tests.support.miniatures.own_folder import save_frame, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_davis(tmp_path / "davis", {"a": squares(), "b": squares(6, (1,))})


def problems(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Kind and text of each."""
    return [(problem.kind, problem.text) for one in check_benchmark(benchmark) for problem in one.problems]


def found(benchmark: Benchmark) -> list[tuple[str, str]]:
    """Kind and last two parts of the culprit's path."""
    return [(kind, "/".join(text.split(": ")[0].split("/")[-2:])) for kind, text in problems(benchmark)]


def test_whole_data_is_counted(root: Path) -> None:
    checked = list(check_benchmark(DAVIS(root)))
    assert [(one.video, one.frames, one.annotated, one.objects, one.problems) for one in checked] == [
        ("a", 6, 6, 2, []),
        ("b", 6, 6, 1, []),
    ]
    assert summary(checked) == "2 videos, 12 frames, 12 annotated frames, 3 objects\nproblems: none"


def break_frames(root: Path) -> None:
    """Everything at once, in the frames and annotations of ``a``."""
    frames, masks = root / "JPEGImages/480p/a", root / "Annotations/480p/a"
    (frames / "00001.jpg").unlink()  # so 00001.png has no frame
    whole = (frames / "00002.jpg").read_bytes()
    (frames / "00002.jpg").write_bytes(whole[: len(whole) // 2])
    save_frame(frames / "00003.jpg", 0, (5, 5))
    Image.new("RGB", SIZE[::-1]).save(masks / "00004.png")
    (masks / "00005.png").unlink()


def test_every_problem_of_a_video_is_found(root: Path) -> None:
    break_frames(root)
    assert found(DAVIS(root)) == [
        ("bad frame", "a/00002.jpg"),
        ("wrong size", "a/00003.jpg"),
        ("missing frame", "480p/a"),
        ("stray annotation", "a/00001.png"),
        ("wrong size", "a/00003.png"),
        ("bad annotation", "a/00004.png"),
        ("missing annotation", "a/00005.png"),
    ]
    texts = dict(problems(DAVIS(root)))
    assert "frame 00001 is missing" in texts["missing frame"]
    assert "RGB" in texts["bad annotation"]
    assert all("\n" not in text for text in texts.values())


def test_a_problem_does_not_keep_the_next_video_from_being_checked(root: Path) -> None:
    break_frames(root)
    (root / "Annotations/480p/b/00003.png").write_bytes(b"\x89PNG nothing")
    (root / "ImageSets/2017/val.txt").write_text("a\nnowhere\nb\n")
    checked = list(check_benchmark(DAVIS(root)))
    assert [(one.video, len(one.problems)) for one in checked] == [("a", 7), ("nowhere", 2), ("b", 1)]
    assert found(DAVIS(root))[7:] == [
        ("missing video", "480p/nowhere"),
        ("missing annotation", "480p/nowhere"),
        ("bad annotation", "b/00003.png"),
    ]
    lines = summary(checked).splitlines()
    assert lines[:2] == ["3 videos, 11 frames, 8 annotated frames, 1 objects", "problems: 10"]
    assert {"  2 wrong size", "  1 missing video", "  2 bad annotation", "  2 missing annotation"} <= set(lines)


def test_processes_side_by_side_find_the_same(root: Path) -> None:
    break_frames(root)
    assert list(check_benchmark(DAVIS(root), jobs=4)) == list(check_benchmark(DAVIS(root), jobs=1))


def test_ids_are_held_against_the_targets(tmp_path: Path) -> None:
    maps = squares(6, (1, 3))
    maps[4:, -1, -1] = 9
    maps[:, 0, -1] = 255  # void is no id
    root = make_davis(tmp_path, {"a": maps})
    assert problems(DAVIS(root)) == [
        (
            "unknown id",
            f"{root}/Annotations/480p/a/00004.png: id 9 is in 2 annotations but is no target (they are 1, 2, 3)",
        ),
        ("absent id", f"{root}/Annotations/480p/a: object 2 never appears"),
    ]
    assert problems(DAVIS(make_davis(tmp_path / "2016", {"a": maps}, 2016), year=2016)) == []


def test_hidden_annotations_are_no_problem(root: Path) -> None:
    for path in (root / "Annotations/480p/a").iterdir():
        if path.stem != "00000":
            path.unlink()
    checked = list(check_benchmark(DAVIS(root)))
    assert [(one.annotated, one.problems) for one in checked] == [(1, []), (6, [])]


def test_sparse_annotations_are_no_problem_where_they_are_meant(tmp_path: Path) -> None:
    long_video.make(tmp_path, "longvideo")
    assert problems(LongVideo(tmp_path)) == []
    assert {kind for kind, _ in problems(Folder(tmp_path))} == {"missing annotation"}


def test_a_wrong_list_is_a_problem_and_no_data_an_error(root: Path) -> None:
    assert problems(DAVIS(root, split="test")) == [
        ("list", f"{root}/ImageSets/2017/test.txt: no such split file; check root and split")
    ]
    with pytest.raises(InputError, match="none: no such folder"):
        list(check_benchmark(DAVIS(root / "none")))
    with pytest.raises(InputError, match="no root given"):
        list(check_benchmark(Folder()))
    with pytest.raises(InputError, match="c: not in davis2017 val"):
        list(check_benchmark(DAVIS(root, videos=["c"])))


def test_no_frames_at_all_is_said_once(root: Path) -> None:
    shutil.rmtree(root / "JPEGImages")
    assert problems(DAVIS(root)) == [
        (
            "missing frame",
            f"{root}/JPEGImages/480p: no such folder of frames; submissions can be scored, methods not run",
        )
    ]


def test_what_only_opening_tells_is_told_beside_the_files(tmp_path: Path) -> None:
    write(tmp_path, "a", squares(5, (1,)))
    empty = torch.full(SIZE, 255, dtype=torch.uint8)
    write_label_map(tmp_path / "Annotations/a/00000.png", empty)
    (tmp_path / "JPEGImages/a/00002.jpg").write_bytes(b"nothing")
    assert found(Folder(tmp_path)) == [("other", "a/00000.png"), ("bad frame", "a/00002.jpg")]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    write(tmp_path, "a", squares(5, (1,)))
    save_frame(tmp_path / "JPEGImages/a/00002.png", 0)
    assert ("bad frame", "a/00002.png") in found(Folder(tmp_path))


def test_folders_of_objects(tmp_path: Path) -> None:
    sav.make(tmp_path, "sav")
    place = tmp_path / "sav_val"
    objects = place / "Annotations_6fps/sav_000001"
    for path in (objects / "001").iterdir():
        Image.new("1", sav.SIZE[::-1]).save(path)
    (objects / "000/00004.png").write_bytes(b"")
    (objects / "000/00008.png").rename(objects / "000/00099.png")
    (place / "JPEGImages_24fps/sav_000001/00005.jpg").unlink()
    assert found(SAV(tmp_path)) == [
        ("missing frame", "JPEGImages_24fps/sav_000001"),
        ("bad annotation", "000/00004.png"),
        ("stray annotation", "000/00099.png"),
        ("absent id", "sav_000001/001"),
    ]


def test_benchmarks_with_other_files_are_read_through_their_videos(tmp_path: Path) -> None:
    vots.make(tmp_path / "vots", "vots2023")
    (tmp_path / "vots/sequences/pair/color/00000002.jpg").write_bytes(b"nothing")
    assert found(VOTS(tmp_path / "vots")) == [("bad frame", "color/00000002.jpg")]
    shutil.rmtree(tmp_path / "vots/sequences/solo")
    assert [kind for kind, _ in found(VOTS(tmp_path / "vots"))] == ["other", "bad frame"]
    vqs.make(tmp_path / "vqs", "vqs4k")
    Image.new("RGB", vqs.SIZE[::-1]).save(tmp_path / "vqs/Annotations/moth/000002.png")
    assert found(VQS4K(tmp_path / "vqs")) == [("bad annotation", "moth/000002.png")]


def test_generated_videos_have_nothing_to_find() -> None:
    checked = list(check_benchmark(Tiny(videos=2, frames=5, size=(32, 32))))
    assert [(one.frames, one.annotated, one.problems) for one in checked] == [(5, 5, [])] * 2


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["00000", "00001", "00002"], []),
        (["00000", "00002", "00003", "00007"], ["00001", "00004 to 00006"]),
        (["00000", "00005", "00010", "00020"], ["00015"]),
        (["img_8", "img_9", "img_11"], ["img_10"]),
        (["a", "b7"], []),
        (["a1", "b7"], []),
        (["7"], []),
        ([], []),
    ],
)
def test_holes_in_the_numbering(names: list[str], missing: list[str]) -> None:
    assert missing_names(names) == missing
