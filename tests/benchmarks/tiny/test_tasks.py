"""Tiny benchmarks of the category and text tasks: perfect answers, baselines, mistakes of a known size, submissions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.benchmarks.registry import make_benchmark
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tasks.vis import MIN_SCORE, Detections
from common.benchmarks.tiny.tasks import TinyPVOS, TinyRef, TinyVIS, TinyVPS, TinyVSS
from common.errors import InputError
from common.evaluation.submission import evaluate
from common.synthetic import SyntheticPanoptic
from common.video import FrameMasks, Video
from methods.baselines.baselines import CopyFirstMask, MostFrequentClass, WholeFrame
from tests.support.answers import scored, truth

SMALL = {"videos": 2, "frames": 10, "size": (40, 56)}
ALL = (TinyVIS, TinyVSS, TinyVPS, TinyRef, TinyPVOS)


@pytest.mark.parametrize("kind", ALL)
def test_perfect_answers(kind: type) -> None:
    numbers = scored(kind(**SMALL), truth)
    for name in set(kind.numbers) - {"AR1", "mVC16"}:  # two of a category in a video; videos of 10 frames
        assert numbers[name] == pytest.approx(1), name


@pytest.mark.parametrize(
    ("kind", "baseline"),
    [
        (TinyVIS, WholeFrame()),
        (TinyVSS, MostFrequentClass("sky")),
        (TinyVPS, MostFrequentClass("sky")),
        (TinyRef, WholeFrame()),
        (TinyPVOS, CopyFirstMask()),
    ],
)
def test_a_trivial_answer_is_possible_and_far_from_perfect(kind: type, baseline) -> None:
    numbers = scored(kind(**SMALL), baseline.track)
    assert 0 <= numbers[kind.numbers[0]] < 0.75
    assert numbers[kind.numbers[0]] < 0.3 or kind is TinyPVOS  # regions of the background hardly move


@pytest.mark.parametrize("kind", ALL)
def test_no_training_seed_meets_it_and_the_protocol_says_what_is_scored(kind: type) -> None:
    benchmark = kind(videos=1, frames=6, size=(32, 48), seed=5)
    assert not torch.equal(benchmark[0][0], SyntheticPanoptic(frames=6, size=(32, 48), seed=5)[0][0])
    for part in ("1 generated videos", "6 frames", "32x48", "seed 5", "all frames"):
        assert part in benchmark.protocol
    assert make_benchmark(benchmark.name).task == benchmark.task


def test_identities_swapped_halfway_cost_long_windows_alone() -> None:
    """VPQ of single frames does not see a swap; AQ does, and SQ does not."""

    def swapped(video: Video) -> Iterator[FrameMasks]:
        things = [t for t in video.targets if video.vocabulary[video.categories[t]] not in video.stuff]
        turn = dict(zip(things, things[1:] + things[:1], strict=True))
        return truth(video, ids=lambda frame, ids: tuple(turn.get(i, i) if frame > 4 else i for i in ids))

    numbers = scored(TinyVPS(**SMALL), swapped)
    assert numbers["VPQ1"] == numbers["SQ"] == 1
    assert numbers["VPQ8"] < numbers["VPQ2"] < 1
    assert numbers["AQ"] < 0.9


def test_a_track_in_half_of_its_frames_counts_at_the_lowest_threshold_only() -> None:
    """By hand: IoU is the area of the frames that are answered over all; below 0.5 nothing is found."""
    benchmark = TinyVIS(videos=1, frames=10, size=(40, 56))
    video = benchmark[0]
    areas = torch.stack([video.truth[frame].flatten(1).sum(1) for frame in range(10)]).double()  # type: ignore
    for shown in range(11):
        answers = truth(video, masks=lambda frame, masks, last=shown: masks & (frame < last))
        numbers = benchmark.item_scores(benchmark.measure(video, answers))
        iou = areas[:shown].sum(0) / areas.sum(0)
        found = [[float(value) >= 0.5 + 0.05 * k - 1e-9 for k in range(10)] for value in iou]
        assert numbers["AR10"] == pytest.approx(_mean_by_category(found, video), abs=1e-9)


def _mean_by_category(found: list[list[bool]], video: Video) -> float:
    """Mean over categories of the mean over their targets."""
    groups: dict[int, list[float]] = {}
    for row, target in enumerate(video.targets):
        groups.setdefault(video.categories[target], []).append(sum(found[row]) / 10)
    return sum(sum(values) / len(values) for values in groups.values()) / len(groups)


def test_guesses_are_means_over_a_tracks_frames() -> None:
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    detections = Detections()
    one = torch.tensor([[0.8, 0.2, 0.0], [0.5, MIN_SCORE / 2, 0.5]])
    detections.add(FrameMasks(0, (1, 300), masks, torch.ones(2), None, one))
    detections.add(FrameMasks(1, (1,), masks[:1], torch.ones(1), None, torch.tensor([[0.4, 0.0, 0.0]])))
    found = [(g.target, g.category, pytest.approx(g.score)) for g in detections.result()]
    assert found == [(1, 0, 0.6), (1, 1, 0.1), (300, 0, 0.5), (300, 2, 0.5)]
    with pytest.raises(InputError, match="frame 2: target 1 has no category"):
        detections.add(FrameMasks(2, (1,), masks[:1], torch.ones(1)))


def test_pixels_without_a_class_are_wrong() -> None:
    benchmark = TinyVSS(**SMALL)
    left = scored(benchmark, lambda video: truth(video, masks=lambda frame, masks: masks & (torch.arange(56) < 28)))
    assert left["pixel_accuracy"] == pytest.approx(0.5)
    assert 0.3 < left["mIoU"] < 0.7


def test_results_json_of_vis(tmp_path: Path) -> None:
    benchmark = TinyVIS(**SMALL)
    for video in benchmark:
        list(benchmark.write(video, truth(video), tmp_path / "mine"))
    packed = benchmark.pack(tmp_path / "mine")
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["results.json"]
        entries = json.loads(archive.read("results.json"))
    assert [entry["video_id"] for entry in entries] == [v.id for v in benchmark for _ in v.targets]
    assert {len(entry["segmentations"]) for entry in entries} == {10}
    for given in (packed, tmp_path / "mine"):
        assert evaluate(benchmark, given).numbers["AP"] == pytest.approx(1)
    (tmp_path / "results.json").write_text(json.dumps([*entries, {"video_id": "x"}]))
    assert evaluate(benchmark, tmp_path / "results.json").numbers["AP"] == pytest.approx(1)
    video = benchmark[0]
    for change, word in (
        ({"score": "high"}, "entry 0: score 'high' is not a number"),
        ({"category_id": 9}, "entry 0: category_id 9 is none of 1 to 5"),
        ({"segmentations": []}, "entry 0: 0 segmentations for 10 frames"),
        ({"segmentations": [{"size": [1, 1], "counts": "1"}] * 10}, "entry 0, frame 0: the mask is 1x1"),
    ):
        (tmp_path / "results.json").write_text(json.dumps([{**entries[0], **change}]))
        with pytest.raises(InputError, match=word):
            evaluate(benchmark, tmp_path / "results.json")
        counted = evaluate(benchmark, tmp_path / "results.json", empty=True)
        assert counted.notes
        assert counted.numbers["AP"] == 0


def test_pred_json_of_vps(tmp_path: Path) -> None:
    benchmark = TinyVPS(**SMALL)
    for video in benchmark:
        list(
            benchmark.write(video, truth(video, ids=lambda frame, ids: tuple(70_000 + i for i in ids)), tmp_path / "me")
        )
    packed = benchmark.pack(tmp_path / "me")
    with zipfile.ZipFile(packed) as archive:
        said = json.loads(archive.read("pred.json"))["annotations"]
        assert sum(name.endswith(".png") for name in archive.namelist()) == 20
    first = said[0]["annotations"][0]["segments_info"][0]
    mask = benchmark[0].truth[0][first["id"] - 70_001]  # type: ignore[index]
    assert first["area"] == int(mask.sum())
    x, y, width, height = first["bbox"]
    assert mask.any(0).nonzero().flatten().tolist()[:: int(mask.any(0).sum()) - 1] == [x, x + width - 1]
    assert mask.any(1).nonzero().flatten().tolist()[:: int(mask.any(1).sum()) - 1] == [y, y + height - 1]
    for given in (packed, tmp_path / "me"):
        assert evaluate(benchmark, given).numbers["VPQ"] == pytest.approx(1)
    video = benchmark[0]
    path = tmp_path / "me" / "pan_pred" / video.id / "00003.png"
    colours = Image.open(path)
    colours.putpixel((0, 0), (1, 2, 0))
    colours.save(path)
    with pytest.raises(InputError, match=r"00003\.png: segment 513 is not in the JSON"):
        list(benchmark.read(video, tmp_path / "me", SubmissionErrors()))
    path.unlink()
    with pytest.raises(InputError, match=r"00003\.png: no such file"):
        list(benchmark.read(video, tmp_path / "me", SubmissionErrors()))


def test_class_maps_of_vss(tmp_path: Path) -> None:
    benchmark = TinyVSS(**SMALL)
    for video in benchmark:
        list(benchmark.write(video, truth(video), tmp_path / "me"))
    assert evaluate(benchmark, benchmark.pack(tmp_path / "me")).numbers["mIoU"] == pytest.approx(1)
    result = evaluate(benchmark, tmp_path / "me")
    assert result.videos[0].objects == list(benchmark[0].vocabulary)
    path = tmp_path / "me" / benchmark.ids[0] / "00002.png"
    labels = Image.open(path)
    labels.putpixel((0, 0), 8)
    labels.save(path)
    with pytest.raises(InputError, match="label 8 is no class; write 0 to 7, 255 for none"):
        list(benchmark.read(benchmark[0], tmp_path / "me", SubmissionErrors()))


def test_expressions_have_folders_of_their_own(tmp_path: Path) -> None:
    benchmark = TinyRef(**SMALL)
    video = benchmark[0]
    list(benchmark.write(video, truth(video), tmp_path))
    place = tmp_path / "Annotations" / video.id
    assert sorted(path.name for path in place.iterdir()) == [str(n) for n in range(len(video.targets))]
    with Image.open(place / "1" / "00004.png") as image:
        assert set(image.getdata()) <= {0, 255}
    again = list(benchmark.read(video, tmp_path, SubmissionErrors()))
    assert all(torch.equal(answer.masks, video.truth[answer.frame]) for answer in again)  # type: ignore[index]


def test_baselines_name_what_they_lack() -> None:
    with pytest.raises(InputError, match="category 'mud' is not in the vocabulary"):
        list(MostFrequentClass("mud").track(TinyVSS(**SMALL)[0]))
