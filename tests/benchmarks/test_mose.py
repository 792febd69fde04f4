"""MOSE v1 and v2: prompts from what is there, objects, frames."""

import json
from pathlib import Path

import pytest
import torch

from common.benchmarks.mose import MOSE, MOSEv2
from common.benchmarks.registry import make_benchmark
from common.errors import InputError
from common.video.masks import write_label_map
from tests.support.answers import check_round_trip, numbers, shifted, silent
from tests.support.miniatures.drawing import SIZE
from tests.support.miniatures.mose import FRAMES, SPANS, make


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    make(tmp_path / "v1", "mose")
    return tmp_path / "v1"


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    make(tmp_path / "v2", "mosev2")
    return tmp_path / "v2"


def given(benchmark: MOSE, id: str) -> list[tuple[int, int]]:
    return [(prompt.target, prompt.frame) for prompt in benchmark.open(id).prompts]


def test_v1_train_is_scored_like_davis(v1: Path) -> None:
    benchmark = MOSE(v1, split="train")
    assert benchmark.ids == ["one", "two"]
    assert given(benchmark, "one") == [(2, 0)]
    assert given(benchmark, "two") == [(1, 0)]  # 7 comes later
    video = benchmark.open("one")
    assert video.targets == (2,)
    assert list(benchmark.scored_frames(video)) == list(range(1, FRAMES - 1))
    assert "local, not the server's number" in benchmark.protocol
    got = numbers(benchmark, 0)
    assert got["J&F"] == 1
    # Nothing is right in the two frames without the object; two objects, of which the other is always there.
    metric = benchmark.metric()
    for video in benchmark:
        metric.extend(**benchmark.measure(video, silent(video)))
    assert metric.compute()["J"].item() == pytest.approx((2 / 5 + 0) / 2)


@pytest.mark.parametrize("name", ["mose", "mosev2"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_hidden_annotations(tmp_path: Path, name: str, split: str) -> None:
    make(tmp_path, name)
    benchmark = make_benchmark(name, root=tmp_path, split=split)
    assert given(benchmark, "one") == [(2, 0)]
    video = benchmark.open("two")
    assert (video.truth, video.targets, len(video)) == (None, (1,), FRAMES)
    with pytest.raises(InputError, match=f"two of {name} {split} cannot be scored: it has no annotations"):
        benchmark.measure(video, iter(()))


@pytest.mark.parametrize("name", ["mose", "mosev2"])
def test_later_prompts_are_taken_from_the_folder(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    only_new = torch.zeros(SIZE, dtype=torch.uint8)
    only_new[20:26, 3:9] = 7
    write_label_map(tmp_path / "valid/Annotations/two/00003.png", only_new)
    if name == "mosev2":
        described = json.loads((tmp_path / "valid/meta.json").read_text())
        described["videos"]["two"]["objects"] = ["1", "7"]
        (tmp_path / "valid/meta.json").unlink()
        (tmp_path / "meta_valid.json").write_text(json.dumps(described))
    video = make_benchmark(name, root=tmp_path).open("two")
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (7, 3)]
    assert torch.equal(video.prompts[1].mask, only_new == 7)
    assert video.truth is None


def test_v2_scores_all_described_objects_in_all_frames(v2: Path) -> None:
    benchmark = MOSEv2(v2, split="train")
    video = benchmark.open("two")
    assert video.targets == (1, 7)
    assert given(benchmark, "two") == [(1, 0), (7, 3)]
    measured = benchmark.measure(video, shifted(video, 0))
    assert measured["present"].T.tolist() == [[1] * 5, [0, 0, 1, 1, 1]]
    assert all(value.shape == (FRAMES - 2, 2) and not value.isnan().any() for value in measured.values())
    assert all(value == 1 for value in numbers(benchmark, 0).values())


def test_v2_without_a_description_takes_the_ids_of_the_label_maps(v2: Path) -> None:
    (v2 / "train/meta.json").unlink()
    assert given(MOSEv2(v2, split="train"), "two") == [(1, 0), (7, 3)]


def test_v2_vanishing_and_returning(v2: Path) -> None:
    benchmark = MOSEv2(v2, split="train", videos=["one"])
    video = benchmark[0]
    metric = benchmark.metric()
    metric.extend(**benchmark.measure(video, silent(video)))
    got = metric.compute()
    assert (got["J_d"], got["Fdot_d"]) == (1, 1)  # gone in frames 2 and 3, and nothing is said there
    assert got["J_r"].item() == pytest.approx(1 / 65)  # of 8 x 8 pixels
    assert got["Fdot_r"] == 0
    assert SPANS["one"] == {2: [0, 1, 4, 5, 6]}


def test_v2_footprints_are_protocols_of_their_own(v2: Path) -> None:
    official, centred = MOSEv2(v2, split="train"), MOSEv2(v2, split="train", official_compat=False)
    assert official.protocol != centred.protocol
    assert official.metric().official_compat
    assert not centred.metric().official_compat


@pytest.mark.parametrize("kind", [MOSE, MOSEv2])
def test_what_is_written_is_read_back(tmp_path: Path, kind: type[MOSE]) -> None:
    make(tmp_path / "data", kind.name)
    benchmark = kind(tmp_path / "data", split="train")
    check_round_trip(benchmark, tmp_path / "out")
    packed = benchmark.pack(tmp_path / "out")
    assert packed == tmp_path / "out.zip"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one", "two"]
    assert len(list((tmp_path / "out" / "one").iterdir())) == FRAMES


def broken(root: Path, what: str) -> None:
    if what == "split":
        (root / "train").rename(root / "train2")
    elif what == "annotation":
        (root / "train/Annotations/one/00002.png").unlink()
    elif what == "video":
        described = json.loads((root / "train/meta.json").read_text())
        del described["videos"]["one"]
        (root / "train/meta.json").write_text(json.dumps(described))
    elif what == "damaged":
        (root / "train/meta.json").write_text('{"videos": ')
    elif what == "no videos":
        (root / "train/meta.json").write_text("[]")
    elif what == "folders":
        (root / "train/Annotations").rename(root / "train/Masks")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("split", r"train: no such folder of a split of mosev2"),
        ("annotation", r"train/Annotations/one/00002\.png: no such label map"),
        ("video", r"train/meta\.json: video one has no objects by number"),
        ("damaged", r"train/meta\.json: damaged"),
        ("no videos", r"train/meta\.json: damaged, or without 'videos'"),
        ("folders", r"train/Annotations: there are no folders of videos"),
    ],
)
def test_bad_data_is_named(v2: Path, what: str, message: str) -> None:
    broken(v2, what)
    benchmark = MOSEv2(v2, split="train")
    with pytest.raises(InputError, match=message) as caught:
        benchmark.measure(benchmark[0], shifted(benchmark[0]))
    assert "\n" not in str(caught.value)


def test_val_and_valid_are_one_split(v1: Path) -> None:
    assert MOSE(v1, split="val").ids == MOSE(v1).ids == ["one", "two"]
