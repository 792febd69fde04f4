"""Scoring of submissions: the numbers of a run, of the official scorer, and the same for any number of processes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.benchmarks.base import Benchmark
from common.benchmarks.davis import DAVIS
from common.benchmarks.registry import BENCHMARKS, make_benchmark
from common.benchmarks.submissions.archive import Submission
from common.benchmarks.submissions.masks import annotation_size, zip_folder
from common.benchmarks.tiny.videos import Tiny
from common.errors import InputError
from common.evaluation.submission import Evaluation, evaluate, score_video
from common.records.record import ResultRecord
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, write_label_map
from tests.support.miniatures.davis import make_davis, squares, submit


@pytest.fixture
def davis(tmp_path: Path) -> DAVIS:
    return DAVIS(make_davis(tmp_path / "davis", {"a": squares(), "b": squares(ids=(1,)), "c": squares(7)}))


def numbers_of(benchmark: DAVIS, measured: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    metric = benchmark.metric()
    for values in measured.values():
        metric.extend(**values)
    return {key: float(value) for key, value in metric.compute().items()}


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert one.numbers == other.numbers
    assert one.protocol_id == other.protocol_id
    for a, b in zip(one.videos, other.videos, strict=True):
        assert (a.video, a.frames, a.objects, a.numbers, a.per_object) == (
            b.video,
            b.frames,
            b.objects,
            b.numbers,
            b.per_object,
        )
        assert a.measured.keys() == b.measured.keys()
        assert all(torch.equal(a.measured[key], b.measured[key]) for key in a.measured)


def test_a_written_submission_has_the_score_of_its_run(davis: DAVIS, tmp_path: Path) -> None:
    measured = submit(davis, tmp_path / "pred")
    scores = evaluate(davis, tmp_path / "pred")
    assert scores.numbers == numbers_of(davis, measured)
    assert 0 < scores.numbers["J&F"] < 1
    assert scores.protocol_id == davis.protocol_id({"a": 4, "b": 4, "c": 5})
    assert scores.videos[0].frames == ["00001", "00002", "00003", "00004"]
    assert [video.objects for video in scores.videos] == [["1", "2"], ["1"], ["1", "2"]]
    for video in scores.videos:
        assert all(torch.equal(video.measured[key], measured[video.video][key]) for key in "jf")
        assert [one["J"] for one in video.per_object] == pytest.approx(video.measured["j"].mean(0).tolist())
    assert scores.videos[0].per_object[1]["J"] < scores.videos[0].per_object[0]["J"]  # gone at the end
    assert_same(evaluate(davis, zip_folder(tmp_path / "pred")), scores)


def test_generated_videos_need_no_data(tmp_path: Path) -> None:
    tiny = Tiny(videos=2, frames=6, size=(32, 32))
    measured = submit(tiny, tmp_path / "pred")
    assert evaluate(tiny, tmp_path / "pred").numbers == numbers_of(tiny, measured)  # type: ignore[arg-type]


def shifted(benchmark: Benchmark, video: Video) -> Iterator[FrameMasks]:
    """Answers to all frames, a pixel beside the annotations where there are any."""
    assert video.truth is not None
    size = annotation_size(video, benchmark.scored_frames(video))
    categories = tuple(video.categories.values()) if video.vocabulary else None
    for frame in range(len(video)):
        truth = video.truth[frame]
        masks = torch.zeros(len(video.targets), *size, dtype=torch.bool) if truth is None else truth.roll(1, -1)
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)), categories)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if not name.startswith("tiny")])
def test_every_benchmark_reads_back_what_a_run_writes(name: str, tmp_path: Path) -> None:
    module = BENCHMARKS[name][0].partition(".")[0]
    import_module(f"tests.support.miniatures.{module}").make(tmp_path / "data", name)
    benchmark = make_benchmark(name, root=tmp_path / "data")
    if benchmark[0].truth is None:
        with pytest.raises(InputError, match="no public annotations"):
            score_video(benchmark, Submission(tmp_path, tmp_path), False, benchmark.ids[0])
        benchmark = make_benchmark(name, root=tmp_path / "data", split="train")
    metric, places = benchmark.metric(), tmp_path / "pred"
    for video in benchmark:
        metric.extend(**benchmark.measure(video, benchmark.write(video, shifted(benchmark, video), places)))
    want = {key: float(value) for key, value in metric.compute().items()}
    packed = benchmark.pack(places)
    for path in (places, *([packed] if packed else [])):
        scores = evaluate(benchmark, path)
        assert scores.numbers == pytest.approx(want, rel=0, abs=0, nan_ok=True)
        assert scores.numbers[benchmark.numbers[0]] > 0
        assert any(0 < scores.numbers[number] < 1 for number in benchmark.numbers)
        assert [video.video for video in scores.videos] == benchmark.ids
    scores.write(tmp_path / "out", "mine", {})
    if benchmark.column_names(benchmark[0], scores.videos[0].measured):
        assert len((tmp_path / "out/per_object.csv").read_text().splitlines()) > len(benchmark)


def test_processes_change_nothing(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "pred")
    (tmp_path / "pred/b/00002.png").unlink()
    seen: list[str] = []
    one = evaluate(davis, tmp_path / "pred", empty=True, jobs=1)
    two = evaluate(davis, tmp_path / "pred", empty=True, jobs=2, progress=lambda scores: seen.append(scores.video))
    assert_same(one, two)
    assert one.notes == two.notes
    assert seen == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"pred/b/00002.png: no such file") as caught:
        evaluate(davis, tmp_path / "pred", jobs=2)
    assert "\n" not in str(caught.value)


def test_what_is_missing_counts_as_a_frame_without_anything(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "pred")
    shutil.copytree(tmp_path / "pred", tmp_path / "empty")
    (tmp_path / "pred/a/00002.png").unlink()
    (tmp_path / "pred/a/00003.png").write_bytes(b"")
    shutil.rmtree(tmp_path / "pred/b")
    blank = torch.zeros_like(read_label_map(tmp_path / "empty/a/00002.png"))
    for file in [*(tmp_path / "empty/b").iterdir(), *(tmp_path / f"empty/a/0000{n}.png" for n in (2, 3))]:
        write_label_map(file, blank)
    lenient = evaluate(davis, tmp_path / "pred", empty=True)
    assert len(lenient.notes) == 3
    assert_same(lenient, evaluate(davis, tmp_path / "empty"))


def test_messages_about_a_zip_name_the_zip(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "top/pred")
    (tmp_path / "top/pred/c/00004.png").unlink()
    path = zip_folder(tmp_path / "top")
    with pytest.raises(InputError, match=rf"^{path}/pred/c/00004.png: no such file"):
        evaluate(davis, path)
    assert evaluate(davis, path, empty=True).notes[0].startswith(f"{path}/pred/c/00004.png")


def test_videos_of_another_split_are_told(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "pred")
    shutil.copytree(tmp_path / "pred/a", tmp_path / "pred/z")
    some = DAVIS(davis.root, videos=["a"])
    assert evaluate(some, tmp_path / "pred").surplus == ["z"]  # b and c belong to the split


def test_a_split_without_annotations(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "pred")
    for file in davis.root.glob("Annotations/480p/a/*.png"):
        if file.stem != "00000":
            file.unlink()
    with pytest.raises(InputError, match=r"davis2017 val: video a has no public annotations .* server"):
        evaluate(davis, tmp_path / "pred", empty=True)


def test_files(davis: DAVIS, tmp_path: Path) -> None:
    submit(davis, tmp_path / "pred")
    scores = evaluate(davis, tmp_path / "pred")
    path = scores.write(tmp_path / "out", "mine", {"predictions": "pred"})
    record = ResultRecord.read(path)
    assert (record.method, record.benchmark, record.split) == ("mine", "davis2017", "val")
    assert (record.metrics, record.protocol_id, record.weights_note) == (
        scores.numbers,
        scores.protocol_id,
        "predictions",
    )
    assert record.config == {"predictions": "pred", "faults": 0}
    assert record.videos["c"] == scores.videos[2].numbers
    objects = list(csv.DictReader((tmp_path / "out/per_object.csv").open()))
    assert [(row["video"], row["object"]) for row in objects] == [
        ("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("c", "2"),
    ]  # fmt: skip
    assert [float(row["J&F"]) for row in objects[:2]] == [one["J&F"] for one in scores.videos[0].per_object]
    frames = list(csv.DictReader((tmp_path / "out/per_frame.csv").open()))
    assert len(frames) == 4 * 2 + 4 + 5 * 2
    assert list(frames[0]) == ["video", "frame", "object", "j", "f"]
    assert (frames[1]["video"], frames[1]["frame"], frames[1]["object"]) == ("a", "00001", "2")
    assert float(frames[1]["j"]) == scores.videos[0].measured["j"][0, 1]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"results.json", "per_object.csv", "per_frame.csv"}


# Against the official scorer, and on the real thing.


def test_golden_pngs(golden_root: Path, tmp_path: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())["cases"]
    names = ["p07_two_swap", "p08_three_absent"]
    davis = DAVIS(golden_root / "davis_png", videos=names)
    scores = evaluate(davis, golden_root / "davis_png/pred")
    record = ResultRecord.read(scores.write(tmp_path, "golden", {}))
    want = [expected[name]["davis2017"][target] for name in names for target in sorted(expected[name]["davis2017"])]
    for measure in "JF":
        for statistic, key in (("M", "mean"), ("R", "recall"), ("D", "decay")):
            mean = sum(one[measure][statistic] for one in want) / len(want)
            assert record.metrics[f"{measure}_{key}"] == pytest.approx(mean, abs=1e-6)
    rows = list(csv.DictReader((tmp_path / "per_object.csv").open()))
    assert [float(row["J"]) for row in rows] == pytest.approx([one["J"]["M"] for one in want], abs=1e-6)
    assert [float(row["F"]) for row in rows] == pytest.approx([one["F"]["M"] for one in want], abs=1e-6)


def test_golden_ids_that_nobody_asked_for(golden_root: Path) -> None:
    davis = DAVIS(golden_root / "davis_png", videos=["p14_vanish_return"])
    with pytest.raises(InputError, match=r"p14_vanish_return/00001.png: id 2 is no target .* \(they are 1\)"):
        evaluate(davis, golden_root / "davis_png/pred")


@pytest.mark.data
def test_the_real_davis_2016(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDSEG_DATA", str(data_root))
    davis = DAVIS(year=2016, videos=["blackswan"])
    try:
        annotations = davis.root / "Annotations" / "480p"
    except InputError as error:
        pytest.skip(f"no DAVIS 2016: {error}")
    scores = evaluate(davis, annotations)
    assert scores.numbers["J&F"] == 1
    assert len(scores.videos[0].frames) == 48
