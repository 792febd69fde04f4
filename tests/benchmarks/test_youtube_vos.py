"""YouTube-VOS: objects that come late, listed frames, two frame rates, what the server takes."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from common.benchmarks.youtube_vos import YouTubeVOS
from common.errors import InputError
from common.video import FrameMasks
from common.video.masks import read_label_map
from tests.support.answers import check_round_trip, numbers, shifted, silent
from tests.support.miniatures.youtube_vos import FRAMES, NAMES, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "data", "youtubevos2019")
    return tmp_path / "data"


@pytest.fixture
def both_rates(tmp_path: Path) -> Path:
    make(tmp_path / "data", "youtubevos2018", all_frames=True)
    return tmp_path / "data"


def change(root: Path, split: str, video: str, target: str, **values: object) -> None:
    """Other values for an object in ``meta.json``."""
    path = root / split / "meta.json"
    described = json.loads(path.read_text())
    described["videos"][video]["objects"].setdefault(target, {}).update(values)
    path.write_text(json.dumps(described))


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize(("all_frames", "step", "fps"), [(False, 1, 6.0), (True, 5, 30.0)])
def test_what_a_method_is_told(both_rates: Path, split: str, all_frames: bool, step: int, fps: float) -> None:
    benchmark = YouTubeVOS(both_rates, 2018, split, all_frames)
    assert (benchmark.name, benchmark.ids) == ("youtubevos2018", ["early", "late"])
    early, late = benchmark
    assert (len(early), early.fps) == (FRAMES if step == 1 else 5 * FRAMES - 4, fps)
    assert [(prompt.target, prompt.frame) for prompt in early.prompts] == [(1, 0), (3, 2 * step)]
    assert [(prompt.target, prompt.frame) for prompt in late.prompts] == [(5, step)]
    assert early.prompts[1].mask.sum() == 64
    assert early.truth is None
    assert f"{fps:.0f} fps" in benchmark.protocol
    with pytest.raises(InputError, match=f"early of youtubevos2018 {split} cannot be scored: it has no annotations"):
        benchmark.measure(early, iter(()))


@pytest.mark.parametrize(("all_frames", "step"), [(False, 1), (True, 5)])
def test_an_object_counts_after_its_first_frame_up_to_its_last_listed(
    both_rates: Path, all_frames: bool, step: int
) -> None:
    benchmark = YouTubeVOS(both_rates, split="train", all_frames=all_frames)
    early, late = benchmark
    assert list(benchmark.scored_frames(early)) == [step * n for n in range(1, 7)]
    measured = benchmark.measure(early, shifted(early))
    assert (~measured["j"].isnan()).T.tolist() == [[True] * 6, [False, False, True, True, False, False]]
    assert list(benchmark.scored_frames(late)) == [step * n for n in range(2, 7)]
    assert "local, not the server's number" in benchmark.protocol


def test_seen_are_the_categories_of_the_training_set(root: Path) -> None:
    (root / "train").rename(root / "held_out")
    train = {"videos": {"other": {"objects": {"1": {"category": "dog", "frames": ["00000"]}}}}}
    (root / "train").mkdir()
    (root / "train/meta.json").write_text(json.dumps(train))
    benchmark = YouTubeVOS(root, split="held_out")
    early, late = benchmark
    assert benchmark.measure(early, shifted(early))["unseen"].tolist() == [0, 1]
    metric = benchmark.metric()
    metric.extend(**benchmark.measure(early, shifted(early, 0)))
    metric.extend(**benchmark.measure(late, silent(late)))
    got = metric.compute()
    assert (got["J_seen"], got["J_unseen"], got["F_unseen"], got["G"]) == (1, 0.5, 0.5, 0.75)
    (root / "train/meta.json").unlink()
    flat = YouTubeVOS(root, split="held_out")
    assert flat.measure(early, shifted(early))["unseen"].isnan().all()


def test_held_out_training_videos_are_all_seen(root: Path) -> None:
    got = numbers(YouTubeVOS(root, split="train"), 0)
    assert got["G"] == got["J_seen"] == got["F_seen"] == 1
    assert got["J_unseen"] != got["J_unseen"]


@pytest.mark.parametrize(("all_frames", "step"), [(False, 1), (True, 5)])
def test_the_submission_is_a_zip_of_the_listed_frames(
    both_rates: Path, tmp_path: Path, all_frames: bool, step: int
) -> None:
    benchmark = YouTubeVOS(both_rates, all_frames=all_frames)

    def everywhere(video: object) -> object:
        for frame in range(len(video)):
            masks = torch.zeros(len(video.targets), 36, 48, dtype=torch.bool)
            for row in range(len(masks)):
                masks[row, 9 * row : 9 * row + 8] = True
            yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))

    for video in benchmark:
        assert len(list(benchmark.write(video, everywhere(video), tmp_path / "out"))) == len(video)
    with zipfile.ZipFile(benchmark.pack(tmp_path / "out")) as archive:
        names = archive.namelist()
    want = [f"Annotations/early/{name}.png" for name in NAMES] + [f"Annotations/late/{name}.png" for name in NAMES[1:]]
    assert sorted(names) == sorted(want)
    ids = [read_label_map(tmp_path / f"out/Annotations/early/{name}.png").unique().tolist() for name in NAMES]
    assert ids == [[0, 1]] * 2 + [[0, 1, 3]] * 5  # 3 is not there before its mask is given


@pytest.mark.parametrize("all_frames", [False, True])
def test_what_is_written_is_read_back(both_rates: Path, tmp_path: Path, all_frames: bool) -> None:
    check_round_trip(YouTubeVOS(both_rates, split="train", all_frames=all_frames), tmp_path / "out")


def test_frames_without_any_object_in_between_are_written_and_scored(root: Path, tmp_path: Path) -> None:
    listed = [name for name in NAMES[1:] if name != NAMES[3]]
    change(root, "train", "late", "5", frames=listed)
    benchmark = YouTubeVOS(root, split="train", videos=["late"])
    assert list(benchmark.scored_frames(benchmark[0])) == [2, 3, 4, 5, 6]
    check_round_trip(benchmark, tmp_path / "out")


def test_a_prompt_may_come_later_than_the_first_listed_frame(root: Path) -> None:
    change(root, "train", "early", "3", frames=NAMES[1:5])
    video = YouTubeVOS(root, split="train").open("early")
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (3, 2)]


def test_a_later_label_map_may_hold_earlier_objects_too(root: Path) -> None:
    source = root / "train/Annotations/early" / f"{NAMES[2]}.png"
    (root / "valid/Annotations/early" / f"{NAMES[2]}.png").write_bytes(source.read_bytes())
    (root / "valid/Annotations/early" / f"{NAMES[3]}.png").write_bytes(source.read_bytes())
    video = YouTubeVOS(root).open("early")
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (3, 2)]
    assert video.prompts[1].mask.sum() == 64
    assert video.truth is None


def broken(root: Path, what: str) -> None:
    if what == "description":
        (root / "train/meta.json").unlink()
    elif what == "no list":
        change(root, "train", "early", "1", frames=[])
    elif what == "listed":
        change(root, "train", "early", "1", frames=[*NAMES, "00035"])
    elif what == "frame":
        (root / "train/JPEGImages/early/00015.jpg").unlink()
    elif what == "object":
        change(root, "train", "early", "9", frames=NAMES)
    elif what == "annotations":
        (root / "train/Annotations/early").rename(root / "train/Annotations/other")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("description", r"train/meta\.json: no such file"),
        ("no list", r"train/meta\.json: video early, object 1 has no 'frames'"),
        ("listed", r"early/00035\.jpg: missing, but meta\.json lists it for object 1"),
        ("frame", r"early/00015\.jpg: missing, but meta\.json lists it for object 1"),
        ("object", r"early: no label map of the frames 00000 to 00030 shows object 9"),
        ("annotations", r"Annotations/early: no such folder"),
    ],
)
def test_bad_data_is_named(root: Path, what: str, message: str) -> None:
    broken(root, what)
    with pytest.raises(InputError, match=message) as caught:
        YouTubeVOS(root, split="train").open("early")
    assert "\n" not in str(caught.value)


def test_another_year_is_refused() -> None:
    with pytest.raises(InputError, match="year 2017"):
        YouTubeVOS(year=2017)
