"""Ego4D VQ2D: queries, tracks out of masks, scores by hand and official, submissions there and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.vq2d.benchmark import VQ2D
from common.benchmarks.vq2d.tracks import scale_box
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.writers import write_video
from tests.support.miniatures.vq2d import LENGTH, ORIGINAL, SIZES, all_queries, box, frames, make

IDS = ["cup-0-1", "cup-1-1", "key-0-3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vq2d")
    make(root, "vq2d")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "data")


def mask(frame: int, size: tuple[int, int] = ORIGINAL, dx: int = 0) -> Tensor:
    """The object as drawn in a frame of some size, moved by original pixels."""
    x, y, width, height = (value * size[0] // ORIGINAL[0] for value in box(frame))
    out = torch.zeros(size, dtype=torch.bool)
    out[y : y + height, x + dx * size[0] // ORIGINAL[0] : x + width + dx * size[0] // ORIGINAL[0]] = True
    return out


def answers(masks: Iterable[Tensor], scores: Iterable[float] | None = None) -> Iterator[FrameMasks]:
    scores = iter(scores) if scores is not None else None
    for frame, one in enumerate(masks):
        yield FrameMasks(frame, (1,), one[None], torch.tensor([next(scores) if scores else 1.0]))


def shown(video: Video, which: Iterable[int], dx: int = 0) -> list[Tensor]:
    """Masks at the clip's size that show the object in some frames."""
    size = SIZES[video.attributes["clip"]]
    return [mask(n, size, dx) if n in which else torch.zeros(size, dtype=torch.bool) for n in range(len(video))]


def measured(benchmark: VQ2D, video: Video, given: Iterable[FrameMasks]) -> dict[str, list[float]]:
    return {key: value.flatten().tolist() for key, value in benchmark.measure(video, given).items()}


def drain(items: Iterator[FrameMasks]) -> None:
    for _ in items:
        pass


# Reading.


def test_queries(root: Path) -> None:
    benchmark = VQ2D(root)
    assert benchmark.ids == IDS  # without the invalid one, and without the clip that has no uid
    assert [len(video) for video in benchmark] == [12, 10, 9]
    assert VQ2D(root, videos=["key-0-3"])[0].fps == 5
    assert [len(list(video)) for video in benchmark] == [12, 10, 9]
    assert VQ2D(root, split="train").ids == IDS


def test_what_a_method_is_told(root: Path) -> None:
    for video in VQ2D(root):
        size = SIZES[video.attributes["clip"]]
        (prompt,) = video.prompts
        scale = size[0] / ORIGINAL[0]
        assert prompt.box == tuple(scale * value for value in (30, 20, 42, 28))
        assert prompt.image.shape == (*size, 3)
        assert prompt.image.float().mean() == pytest.approx(13 * 15, abs=2)  # frame 13, after the query
        assert video[3].float().mean() == pytest.approx(3 * 15, abs=2)
        assert (prompt.target, prompt.frame, video.targets) == (1, 0, (1,))
        with pytest.raises(IndexError):
            video[len(video)]


def test_names_of_frames(root: Path) -> None:
    cup, _, key = VQ2D(root)
    assert (cup.name(0), cup.name(11)) == ("0001", "0012")
    assert key.name(0) == "00000"


def test_a_crop_that_leaves_its_frame_is_cut(root: Path) -> None:
    edit(root, lambda query: query["visual_crop"].update(x=-3.0, y=40.0, width=200.0, height=9.0))
    assert VQ2D(root)[0].prompts[0].box == (0.0, 40.0, 64.0, 48.0)


def test_truth_is_filled_boxes_at_the_clips_size(root: Path) -> None:
    for video, track in zip(VQ2D(root), (range(4, 8), range(8, 10), range(2, 5)), strict=True):
        assert list(video.annotated) == list(track)
        for frame in range(len(video)):
            truth = video.truth[frame]
            if frame in track:
                assert torch.equal(truth[0], mask(frame, SIZES[video.attributes["clip"]]))
            else:
                assert truth is None
        assert list(VQ2D(root).scored_frames(video)) == list(range(len(video)))


def test_annotations_may_lie_beside_the_clips(root: Path) -> None:
    (root / "annotations").mkdir()
    shutil.move(root / "vq_val.json", root / "annotations/vq_val.json")
    assert VQ2D(root).ids == IDS


def test_a_clip_may_end_up_to_a_second_early(root: Path) -> None:
    write_video(root / "clips/key.mp4", frames("key"), 5)
    edit(root, lambda query: query.update(query_frame=LENGTH + 5))
    assert len(VQ2D(root)[2]) == LENGTH
    edit(root, lambda query: query.update(query_frame=LENGTH + 6))
    with pytest.raises(InputError, match=r"query key-0-3: the clip .*key\.mp4 has 14 frames, but 20 before the query"):
        VQ2D(root)[2]


def edit(root: Path, change: Callable[[dict[str, Any]], object], split: str = "val") -> None:
    path = root / f"vq_{split}.json"
    data = json.loads(path.read_text())
    for query in all_queries(data):
        change(query)
    path.write_text(json.dumps(data))


def edit_file(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((root / "vq_val.json").read_text())
    change(data)
    (root / "vq_val.json").write_text(json.dumps(data))


def of_query(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda root: edit(root, change)


def of_file(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda root: edit_file(root, change)


@pytest.mark.parametrize(
    ("harm", "index", "message"),
    [
        (lambda root: (root / "vq_val.json").unlink(), 0, r"vq_val\.json: no such annotation file"),
        (lambda root: (root / "vq_val.json").write_text("{"), 0, r"vq_val\.json: the annotation file is not readable"),
        (lambda root: (root / "vq_val.json").write_text("{}"), 0, r"vq_val\.json: not in the form .*'videos'"),
        (of_query(lambda query: query.pop("is_valid")), 0, "not in the form .*'is_valid'"),
        (of_query(lambda query: query.pop("query_frame")), 0, "query cup-0-1: incomplete .*'query_frame'"),
        (of_query(lambda query: query["visual_crop"].pop("x")), 0, "query cup-0-1: incomplete .*'x'"),
        (of_query(lambda query: query["visual_crop"].update(original_width=0)), 0, "query cup-0-1: .* at least 1"),
        (of_query(lambda query: query.update(query_frame=0)), 0, "query cup-0-1: .* at least 1"),
        (of_query(lambda query: query.update(query_frame=40)), 0, "cup-0-1: the clip .*cup has 14 frames, but 40"),
        (
            of_query(lambda query: query["visual_crop"].update(frame_number=14)),
            2,
            "visual crop is on frame 14, but .*key",
        ),
        (of_query(lambda query: query["visual_crop"].update(x=64.0)), 0, "visual crop .* has no area"),
        (of_query(lambda query: query.update(response_track=[])), 0, "query cup-0-1: response_track must have one box"),
        (of_query(lambda query: query.update(response_track=query["response_track"][::2])), 0, r"not \[4, 6\]"),
        (
            of_query(lambda query: query.update(response_track=query["response_track"] * 2)),
            0,
            r"not \[4, 4, 5, 5, 6, 6, 7, 7\]",
        ),
        (lambda root: (root / "clips/key.mp4").unlink(), 2, r"key\.mp4: no such video file"),
        (
            lambda root: write_video(root / "clips/key.mp4", frames("key"), 30),
            2,
            "30 frames a second, but annotated at 5",
        ),
        (of_file(lambda data: data["videos"].append(data["videos"][0])), 0, "query cup-0-1 is there twice"),
        (
            of_file(lambda data: data["videos"][0]["clips"][0].update(clip_uid="../up")),
            0,
            "cannot be the name of a file",
        ),
    ],
)
def test_bad_data_is_named(root: Path, harm: Callable[[Path], None], index: int, message: str) -> None:
    def use() -> None:
        VQ2D(root)[index]

    use()
    harm(root)
    with pytest.raises(InputError, match=message) as caught:
        use()
    assert "\n" not in str(caught.value)


def test_an_unknown_split_is_named(root: Path) -> None:
    with pytest.raises(InputError, match="split dev: vq2d has train, val, test"):
        len(VQ2D(root, split="dev"))


def test_made_without_data() -> None:
    benchmark = VQ2D("/nowhere")
    assert (benchmark.name, benchmark.split, benchmark.task) == ("vq2d", "val", "VQ2D")


# From masks to a track.


def test_a_score_by_hand(root: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[0]  # shown in frames 4 to 7, 96 pixels each
    got = measured(benchmark, video, answers(shown(video, [5, 6, 7, 8], dx=3)))
    assert got["tiou"] == [3 / 5]
    assert got["stiou"] == [3 * 72 / (8 * 96 - 3 * 72)]
    assert got["frame_iou"] == [0.0, *[72 / 120] * 3]


def test_only_the_last_run_of_masks_counts(root: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[0]
    scores = [0.5] * 4 + [0.25, 0.25, 0.5, 1.0] + [0.0] * 4
    last = measured(benchmark, video, answers(shown(video, [4, 5, 6, 7]), scores))
    assert (last["tiou"], last["stiou"], last["score"]) == ([1.0], [1.0], [0.5])
    assert measured(benchmark, video, answers(shown(video, [0, 1, 2, 4, 5, 6, 7]), scores)) == last
    later = measured(benchmark, video, answers(shown(video, [4, 5, 6, 7, 9]), scores))
    assert (later["tiou"], later["frame_iou"], later["score"]) == ([0.0], [0.0] * 4, [0.0])


def test_an_empty_track_has_the_mean_score_of_all_frames(root: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[2]
    got = measured(benchmark, video, answers(shown(video, []), [float(n) for n in range(9)]))
    assert got == {"score": [4.0], "tiou": [0.0], "stiou": [0.0], "frame_iou": [0.0] * 3}
    unheard = (FrameMasks(n, (), torch.zeros(0, 24, 32, dtype=torch.bool), torch.zeros(0)) for n in range(9))
    assert measured(benchmark, video, unheard)["score"] == [0.0]


def test_masks_of_a_smaller_clip_are_scored_in_original_pixels(root: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[2]
    got = measured(benchmark, video, answers(shown(video, [2, 3, 4])))
    assert got["stiou"] == got["tiou"] == [1.0]
    off = measured(benchmark, video, answers(shown(video, [2, 3, 4], dx=2)))  # by one pixel of the clip
    assert off["stiou"] == [pytest.approx(80 / 112)]


def test_a_mask_that_fills_the_image_reaches_its_borders(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[2]
    full = torch.ones(24, 32, dtype=torch.bool)
    drain(benchmark.write(video, answers([full] * 9), tmp_path / "out"))
    track = json.loads((tmp_path / "out/key-0-3.json").read_text())
    assert track["bboxes"] == [{"fno": n, "x1": 0, "y1": 0, "x2": 64, "y2": 48} for n in range(9)]
    assert track["score"] == 1.0


def test_boxes_are_rounded_to_whole_pixels() -> None:
    assert scale_box(torch.tensor([1.0, 1.0, 3.0, 5.0]), (10, 10), (15, 24)) == [2, 2, 7, 8]  # 2.4, 1.5, 7.2, 7.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: answers([torch.zeros(24, 32, dtype=torch.bool)] * 8), "video key-0-3: frame 8 has no answer"),
        (lambda: answers([torch.zeros(6, 8, dtype=torch.bool)] * 9), r"key-0-3, frame 0: the answer is \(6, 8\) but"),
        (lambda: answers([torch.zeros(24, 32, dtype=torch.bool)] * 9, [float("nan")] * 9), "frame 0: the score is nan"),
    ],
)
def test_answers_that_do_not_fit_are_refused(
    root: Path, given: Callable[[], Iterator[FrameMasks]], message: str
) -> None:
    benchmark = VQ2D(root)
    with pytest.raises(InputError, match=message):
        benchmark.measure(benchmark[2], given())


# Submissions.


def written(benchmark: VQ2D, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Write an answer to every query and return its scores."""
    scores = {}
    for number, video in enumerate(benchmark):
        masks = shown(video, range(2 + number, 6), dx=2) if number < 2 else shown(video, [])
        confidences = torch.rand(len(video)).tolist()
        passed = list(benchmark.write(video, answers(masks, confidences), folder))
        assert [answer.frame for answer in passed] == list(range(len(video)))
        scores[video.id] = measured(benchmark, video, passed)
    return scores


def test_written_tracks_are_read_back_to_the_same_score(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    scores = written(benchmark, tmp_path / "out")
    for video in benchmark:
        assert (
            measured(benchmark, video, benchmark.read(video, tmp_path / "out", SubmissionErrors())) == scores[video.id]
        )


def test_the_packed_file_is_official_and_scores_the_same(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    scores = written(benchmark, tmp_path / "out")
    packed = benchmark.pack(tmp_path / "out")
    assert packed == tmp_path / "out.json"
    data, annotated = json.loads(packed.read_text()), json.loads((root / "vq_val.json").read_text())
    assert (data["version"], data["challenge"]) == ("1.0.5", "ego4d_vq2d_challenge")
    for video, truth in zip(data["results"]["videos"], annotated["videos"], strict=True):
        assert video["video_uid"] == truth["video_uid"]
        for clip, clip_truth in zip(video["clips"], truth["clips"], strict=True):
            assert clip["clip_uid"] == clip_truth["clip_uid"]
            for given, asked in zip(clip["predictions"], clip_truth["annotations"], strict=True):
                assert set(given["query_sets"]) == {k for k, q in asked["query_sets"].items() if q["is_valid"]}
                assert all(set(track) == {"bboxes", "score"} for track in given["query_sets"].values())
    cup, key, unreleased = (video["clips"][0]["predictions"] for video in data["results"]["videos"])
    first = cup[0]["query_sets"]["1"]["bboxes"]
    assert first[0] == {"fno": 2, "x1": 10, "y1": 20, "x2": 22, "y2": 28}
    assert [box["fno"] for box in first] == [2, 3, 4, 5]
    assert key[0]["query_sets"]["3"]["bboxes"] == []
    assert unreleased == [{"query_sets": {"1": {"bboxes": [], "score": 0.0}}}]
    (tmp_path / "sent").mkdir()
    packed.rename(tmp_path / "sent/any name.json")
    for video in benchmark:
        assert (
            measured(benchmark, video, benchmark.read(video, tmp_path / "sent", SubmissionErrors())) == scores[video.id]
        )


def test_a_part_of_the_split_is_not_packed(root: Path, tmp_path: Path) -> None:
    assert VQ2D(root, videos=IDS[:1]).pack(tmp_path) is None


def test_packing_names_the_query_that_was_not_answered(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    written(benchmark, tmp_path / "out")
    (tmp_path / "out/cup-1-1.json").unlink()
    with pytest.raises(InputError, match=r"out: no cup-1-1\.json"):
        benchmark.pack(tmp_path / "out")


def test_hidden_answers_can_be_submitted_but_not_scored(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root, split="test")
    for video in benchmark:
        assert video.truth is None
        drain(benchmark.write(video, answers(shown(video, [1, 2])), tmp_path / "out"))
        with pytest.raises(InputError, match=f"video {video.id} of vq2d test cannot be scored"):
            benchmark.measure(video, answers(shown(video, [1, 2])))
    assert json.loads(benchmark.pack(tmp_path / "out").read_text())["version"] == "1.0.5"


def submission(folder: Path, id: str, boxes: list[tuple[float, ...]], score: float = 1.0) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [dict(zip(("fno", "x1", "y1", "x2", "y2"), row, strict=True)) for row in boxes]
    (folder / f"{id}.json").write_text(json.dumps({"bboxes": rows, "score": score}))
    return folder


def test_boxes_are_cut_at_the_border_and_come_in_any_order(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    video = benchmark[0]
    folder = submission(tmp_path / "out", "cup-0-1", [(5, -4, 40.4, 9, 90), (4, 60, -2, 70, 3)], 0.3)
    given = list(benchmark.read(video, folder, SubmissionErrors()))
    assert [answer.frame for answer in given if answer.masks.any()] == [4, 5]
    assert given[4].masks.shape == (1, *ORIGINAL)
    assert given[4].masks.sum() == given[4].masks[0, :3, 60:].sum() == 12
    assert given[5].masks.sum() == given[5].masks[0, 40:, :9].sum() == 72
    assert measured(benchmark, video, iter(given))["score"] == [torch.tensor(0.3).item()]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            [(4, 0, 0, 5, 5), (6, 0, 0, 5, 5)],
            r"out, query cup-0-1: there must be one box for each frame, but 6 comes after 4",
        ),
        ([(4, 0, 0, 5, 5), (4, 0, 0, 6, 6)], "one box for each frame"),
        ([(4.5, 0, 0, 5, 5)], "cup-0-1 must be .*not whole"),
        ([(4, 1e30, 0, 1e31, 5)], "has no pixel"),
        ([(11, 0, 0, 5, 5), (12, 0, 0, 5, 5)], "frames 11 to 12, but only 0 to 11 are before the query"),
        ([(-1, 0, 0, 5, 5)], "frames -1 to -1"),
        ([(4, 70, 0, 75, 5)], r"the box of frame 4, \[70.0, 0.0, 75.0, 5.0\], has no pixel"),
        ([(4, 5, 5, 5, 5)], "has no pixel"),
        ([(4, 9, 9, 5, 5)], "has no pixel"),
        ([(4, 0, 0, float("nan"), 5)], r"cup-0-1\.json: query cup-0-1 must be .*not finite"),
    ],
)
def test_bad_tracks_are_named_or_count_as_empty(
    root: Path, tmp_path: Path, boxes: list[tuple[float, ...]], message: str
) -> None:
    check(root, submission(tmp_path / "out", "cup-0-1", boxes), message)


def check(root: Path, folder: Path, message: str) -> None:
    """The fault is an error that says so; where it is not, the track counts as empty."""
    benchmark = VQ2D(root)
    with pytest.raises(InputError, match=message) as caught:
        drain(benchmark.read(benchmark[0], folder, SubmissionErrors()))
    assert "\n" not in str(caught.value)
    errors = SubmissionErrors(strict=False)
    given = list(benchmark.read(benchmark[0], folder, errors))
    assert len(given) == 12
    assert not any(answer.masks.any() for answer in given)
    assert measured(benchmark, benchmark[0], iter(given))["score"] == [0.0]
    assert len(errors.messages) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", r"out: no cup-0-1\.json and no submission"),
        ("cup-0-1.json", "{", r"cup-0-1\.json: the track is not readable"),
        ("cup-0-1.json", '{"bboxes": []}', r"cup-0-1\.json: query cup-0-1 must be .*'score'"),
        ("cup-0-1.json", '{"bboxes": [{"fno": 4}], "score": 1}', "query cup-0-1 must be .*'x1'"),
        ("cup-0-1.json", '{"bboxes": 3, "score": 1}', "query cup-0-1 must be"),
        ("all.json", "{", r"all\.json: the submission is not readable"),
        ("all.json", '{"results": {}}', r"all\.json: not in the official form .*'videos'"),
        ("all.json", '{"results": {"videos": []}}', r"all\.json: query cup-0-1 must be"),
    ],
)
def test_bad_files_are_named_or_count_as_empty(root: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    check(root, tmp_path / "out", message)


# Without clips, against the official evaluator.


def test_submissions_are_scored_without_the_clips(root: Path, tmp_path: Path) -> None:
    benchmark = VQ2D(root)
    scores = written(benchmark, tmp_path / "out")
    shutil.rmtree(root / "clips")
    benchmark = VQ2D(root)
    for video in benchmark:
        assert video.prompts == ()
        assert (
            measured(benchmark, video, benchmark.read(video, tmp_path / "out", SubmissionErrors())) == scores[video.id]
        )
    with pytest.raises(InputError, match="clips: no such folder of frames"):
        video[0]


def official_files(queries: list[dict[str, Any]], size: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Annotation file and submission of queries with boxes (frame, x0, y0, x1, y1)."""

    def entry(row: list[int]) -> dict[str, int]:
        frame, x0, y0, x1, y1 = row
        place = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        return {"frame_number": frame, **place, "original_width": size[1], "original_height": size[0]}

    truth, given = [], []
    for query in queries:
        asked = {
            "is_valid": True,
            "query_frame": 64,
            "visual_crop": entry(query["gt"][0]),
            "response_track": [entry(row) for row in query["gt"]],
        }
        names = ("fno", "x1", "y1", "x2", "y2")
        track = {"bboxes": [dict(zip(names, row, strict=True)) for row in query["pred"]], "score": query["score"]}
        clip = {"clip_uid": query["id"]}
        truth.append({"clips": [{**clip, "clip_fps": 5.0, "annotations": [{"query_sets": {"1": asked}}]}]})
        given.append({"clips": [{**clip, "predictions": [{"query_sets": {"1": track}}]}]})
    return {"videos": truth}, {"results": {"videos": given}}


def test_an_official_submission_scores_like_the_official_evaluator(repository: Path, tmp_path: Path) -> None:
    official = json.loads((repository / "tests/golden/vq2d.json").read_text())
    truth, given = official_files(official["queries"], official["canvas_hw"])
    (tmp_path / "vq_val.json").write_text(json.dumps(truth))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/submission.json").write_text(json.dumps(given))
    benchmark = VQ2D(tmp_path)
    metric = benchmark.metric()
    for video in benchmark:
        metric.extend(**benchmark.measure(video, benchmark.read(video, tmp_path / "out", SubmissionErrors())))
    got = {name: metric.compute()[name].item() for name in benchmark.numbers}
    metrics = official["expected"]["metrics"]
    assert got == pytest.approx(
        {
            "tAP": metrics["Temporal AP @ IoU=0.25:0.95"],
            "tAP25": metrics["Temporal AP @ IoU=0.25"],
            "stAP": metrics["SpatioTemporal AP @ IoU=0.25:0.95"],
            "stAP25": metrics["SpatioTemporal AP @ IoU=0.25"],
            "recovery": metrics["Tracking % recovery (max scr) @ IoU=0.50"] / 100,
            "success": metrics["Success (max scr) @ IoU=0.05"] / 100,
        },
        abs=1e-6,
    )
