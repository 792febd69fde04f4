"""LVOS: objects with ranges of their own, and seen and unseen videos."""

import json
from pathlib import Path

import pytest

from common.benchmarks.lvos import LVOS
from common.errors import InputError
from common.video.masks import read_label_map
from tests.support.answers import check_round_trip, numbers, shifted, silent
from tests.support.miniatures.lvos import FRAMES, NAMES, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "data", "lvosv2")
    return tmp_path / "data"


def change(root: Path, video: str, target: str, **values: str) -> None:
    """Other values in an object's ``frame_range``."""
    described = json.loads((root / "valid_meta.json").read_text())
    described["videos"][video]["objects"][target]["frame_range"] |= values
    (root / "valid_meta.json").write_text(json.dumps(described))


def test_each_object_is_given_where_it_starts(root: Path) -> None:
    benchmark = LVOS(root)
    assert (benchmark.name, benchmark.ids) == ("lvosv2", ["park", "pool"])
    park, pool = benchmark
    assert [(prompt.target, prompt.frame) for prompt in park.prompts] == [(1, 0), (2, 3)]
    assert [(prompt.target, prompt.frame) for prompt in pool.prompts] == [(4, 2)]
    assert (pool.targets, len(pool), pool.name(1), pool.fps) == ((4,), FRAMES, "00000006", 6.0)


def test_each_object_counts_without_its_own_first_and_last_frame(root: Path) -> None:
    benchmark = LVOS(root)
    park, pool = benchmark
    assert list(benchmark.scored_frames(park)) == [1, 2, 3, 4, 5, 6]
    measured = benchmark.measure(park, shifted(park))
    assert (~measured["j"].isnan()).T.tolist() == [[True] * 6, [False] * 3 + [True] * 3]
    assert list(benchmark.scored_frames(pool)) == [3, 4, 5, 6]
    assert measured["missing"].tolist() == [0, 0]
    assert measured["unseen"].tolist() == [0, 0]
    assert benchmark.measure(pool, shifted(pool))["unseen"].tolist() == [1]


def test_frames_that_the_range_lacks_count_0(root: Path) -> None:
    # Ten frames are said to be annotated: eight values, of which the range up to frame 36 gives six.
    change(root, "park", "1", frame_nums="10")
    benchmark = LVOS(root, videos=["park"])
    video = benchmark[0]
    measured = benchmark.measure(video, shifted(video, 0))
    assert measured["missing"].tolist() == [2, 0]
    assert numbers(benchmark, 0)["J"] == pytest.approx((6 / 8 + 1) / 2)


def test_the_frame_that_is_last_by_number_does_not_count(root: Path) -> None:
    # The end is now beyond the last frame, which is then met, and left out as number 8 of 8.
    change(root, "park", "1", end="37")
    benchmark = LVOS(root)
    assert benchmark.object_frames(benchmark[0])[1] == [1, 2, 3, 4, 5, 6]


def test_groups_are_of_videos(root: Path) -> None:
    benchmark = LVOS(root)
    metric = benchmark.metric()
    park, pool = benchmark
    metric.extend(**benchmark.measure(park, shifted(park, 0)))
    metric.extend(**benchmark.measure(pool, silent(pool)))
    got = metric.compute()
    assert (got["J_seen"], got["J_unseen"], got["J"], got["J&F"]) == (1, 0, 0.5, 0.5)
    assert got["V"] == 0


def test_a_list_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("park\n\n")
    assert LVOS(root, unseen_list=tmp_path / "list.txt").unseen_videos == {"park"}


@pytest.mark.parametrize("given", [None, "none.txt"])
def test_without_a_list_groups_are_refused_before_anything_is_tracked(root: Path, given: str | None) -> None:
    (root / "unseen_videos.txt").unlink()
    benchmark = LVOS(root, unseen_list=given)
    park = benchmark[0]  # to be trained on, or tracked, it needs no list

    def tracked() -> object:
        raise AssertionError("a frame was tracked")
        yield

    message = r"(unseen_videos|none)\.txt: no such file; .*LingyiHongfd/lvos-evaluation.*average_seen_unseen to false"
    with pytest.raises(InputError, match=message) as caught:
        benchmark.measure(park, tracked())
    assert "\n" not in str(caught.value)


def test_flat_means_are_another_protocol_and_need_no_list(root: Path) -> None:
    official, flat = LVOS(root), LVOS(root, average_seen_unseen=False)
    assert "mean of seen and unseen videos" in official.protocol
    assert "flat mean over objects" in flat.protocol
    (root / "unseen_videos.txt").unlink()
    metric = flat.metric()
    park, pool = flat
    metric.extend(**flat.measure(park, shifted(park, 0)))
    metric.extend(**flat.measure(pool, silent(pool)))
    got = metric.compute()
    assert got["J"].item() == pytest.approx(2 / 3)
    assert got["J_seen"].isnan()
    assert got["F_unseen"].isnan()


def test_hidden_annotations(root: Path) -> None:
    benchmark = LVOS(root, version=1, split="test")
    park, pool = benchmark
    assert (park.truth, pool.truth) == (None, None)
    assert [(prompt.target, prompt.frame) for prompt in park.prompts] == [(1, 0), (2, 3)]
    with pytest.raises(InputError, match="park of lvosv1 test cannot be scored: it has no annotations"):
        benchmark.measure(park, iter(()))


def test_what_is_written_is_read_back(root: Path, tmp_path: Path) -> None:
    check_round_trip(LVOS(root), tmp_path / "out")
    assert read_label_map(tmp_path / "out/park/00000016.png").unique().tolist() == [0, 1, 2]


def test_a_description_in_the_split_folder(root: Path) -> None:
    (root / "valid_meta.json").rename(root / "valid/valid_meta.json")
    (root / "valid").rename(root / "val")
    assert LVOS(root).ids == ["park", "pool"]


def broken(root: Path, what: str) -> None:
    if what == "description":
        (root / "valid_meta.json").unlink()
    elif what == "range":
        change(root, "park", "1", end="later")
    elif what == "frame":
        (root / "valid/JPEGImages/park" / f"{NAMES[2]}.jpg").unlink()
    elif what == "annotation":
        (root / "valid/Annotations/park" / f"{NAMES[4]}.png").unlink()
    elif what == "object":
        change(root, "park", "2", start="00000041")
    elif what == "names":
        (root / "valid/JPEGImages/park/00000001.jpg").rename(root / "valid/JPEGImages/park/first.jpg")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("description", r"valid/meta\.json: no such file, nor valid_meta\.json"),
        ("range", r"valid_meta\.json: video park, object 1 has no whole 'frame_range'"),
        ("frame", r"park/00000011\.jpg: missing, but it counts for object 1"),
        ("annotation", r"park, frame 00000021: it counts but has no annotation"),
        ("object", r"Annotations/park: no label map from frame 00000041 on shows object 2"),
        ("names", r"first\.jpg: frames of LVOS are named by number"),
    ],
)
def test_bad_data_is_named(root: Path, what: str, message: str) -> None:
    broken(root, what)
    benchmark = LVOS(root)
    with pytest.raises(InputError, match=message) as caught:
        benchmark.measure(benchmark[0], silent(benchmark[0]))
    assert "\n" not in str(caught.value)


def test_another_version_is_refused() -> None:
    with pytest.raises(InputError, match="version 3"):
        LVOS(version=3)
