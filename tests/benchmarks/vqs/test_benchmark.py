"""VQS-4K: the proposed layout, what is checked in it, scores by hand, submissions there and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.vqs.benchmark import VQS4K
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, rle_encode, write_label_map
from common.video.occurrences import occurrences
from tests.support.miniatures.vqs import SIZE, VIDEOS, make, square


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "data", "vqs4k")
    return tmp_path / "data"


def answers(masks: Iterable[Tensor]) -> Iterator[FrameMasks]:
    for frame, mask in enumerate(masks):
        yield FrameMasks(frame, (1,), mask[None], torch.ones(1))


def shifted(video: Video) -> list[Tensor]:
    """The truth one pixel to the right; never in frame 1, falsely in frame 4."""
    masks = [video.truth[frame][0].roll(1, 1) for frame in range(len(video))]
    masks[1] = torch.zeros(SIZE, dtype=torch.bool)
    masks[4] = square(9)
    return masks


def score(benchmark: VQS4K, video: Video, given: Iterable[FrameMasks]) -> dict[str, float]:
    return benchmark.item_scores(benchmark.measure(video, given))


def drain(items: Iterator[FrameMasks]) -> None:
    for _ in items:
        pass


def edit(path: Path, video: str, **changes: object) -> None:
    data = json.loads(path.read_text())
    data["videos"][video].update(changes)
    path.write_text(json.dumps(data))


# Reading.


def test_what_a_method_is_told(root: Path) -> None:
    benchmark = VQS4K(root)
    assert [video.id for video in benchmark] == ["moth", "kite"]
    assert [video.id for video in VQS4K(root, split="train")] == ["kite"]
    assert VQS4K(root, videos=["kite"])[0].id == "kite"
    video = benchmark[0]
    assert (len(video), video.fps, video.targets, video.name(3)) == (9, 6.0, (1,), "000003")
    (prompt,) = video.prompts
    assert (prompt.target, prompt.frame) == (1, 0)
    assert prompt.image.shape == (8, 10, 3)
    assert torch.equal(prompt.mask, torch.eye(8, 10, dtype=torch.bool))
    assert video.attributes["category"] == "moth"
    assert "occurrences" not in video.attributes  # they are the answer


def test_frames_without_a_file_do_not_show_the_target(root: Path) -> None:
    video = VQS4K(root)[0]
    for frame in range(len(video)):
        want = square(frame) if frame in VIDEOS["moth"][0] else torch.zeros(SIZE, dtype=torch.bool)
        assert torch.equal(video.truth[frame], want[None])
    assert list(VQS4K(root).scored_frames(video)) == list(range(9))


@pytest.mark.parametrize(
    ("frames", "want"),
    [([], []), ([4], [[4, 4]]), ([0, 1, 2], [[0, 2]]), ([0, 2, 3, 7], [[0, 0], [2, 3], [7, 7]])],
)
def test_runs(frames: list[int], want: list[list[int]]) -> None:
    shown = [frame in frames for frame in range(max(frames, default=-1) + 1)]
    assert [list(run) for run in occurrences(shown)] == want


def test_made_without_data() -> None:
    benchmark = VQS4K("/nowhere")
    assert "proposed" in benchmark.protocol
    assert (benchmark.name, benchmark.split, benchmark.task) == ("vqs4k", "test", "VQS")


def unlink(*names: str) -> Callable[[Path], None]:
    return lambda root: [(root / name).unlink() for name in names] and None


def relabel(name: str, value: int) -> Callable[[Path], None]:
    return lambda root: write_label_map(root / name, read_label_map(root / name) * value)


def resize(name: str, size: tuple[int, int]) -> Callable[[Path], None]:
    return lambda root: Image.open(root / name).resize(size).save(root / name)


def meta(**changes: object) -> Callable[[Path], None]:
    return lambda root: edit(root / "meta/test.json", "moth", **changes)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            meta(occurrences=[[1, 3], [6, 8]]),
            r"test\.json, video moth: occurrences are \[\[1, 3\], \[6, 8\]\], but .*Annotations/moth has masks in "
            r"frames \[\[1, 3\], \[6, 7\]\]",
        ),
        (meta(occurrences=[[1, 2], [3, 3], [6, 7]]), "video moth: occurrences"),  # not the longest runs
        (unlink("Annotations/moth/000002.png"), r"has masks in frames \[\[1, 1\], \[3, 3\], \[6, 7\]\]"),
        (meta(length=8), r"JPEGImages/moth: 9 frames, but .*test\.json says 8"),
        (meta(width=17), r"JPEGImages/moth: frames of \(12, 16\)"),
        (meta(height="12"), "video moth: height must be a number"),
        (unlink("JPEGImages/moth/000004.jpg"), "JPEGImages/moth: frame 000004 is missing"),
        (lambda root: shutil.rmtree(root / "JPEGImages/moth"), "JPEGImages/moth: no such folder"),
        (unlink("Queries/moth/query.jpg"), r"moth/query\.jpg: cannot read"),
        (unlink("Queries/moth/query.png"), r"moth/query\.png: no such label map"),
        (
            resize("Queries/moth/query.png", (10, 9)),
            r"moth/query\.png: the mask is \(9, 10\) but its frame is \(8, 10\)",
        ),
        (relabel("Queries/moth/query.png", 2), r"moth/query\.png: no pixel has label 1"),
        (relabel("Annotations/moth/000003.png", 0), r"moth/000003\.png: no pixel has label 1"),
        (resize("Annotations/moth/000006.png", (4, 3)), r"moth/000006\.png: the mask is \(3, 4\)"),
        (
            lambda root: shutil.copy(root / "Annotations/moth/000003.png", root / "Annotations/moth/3.png"),
            r"moth/3\.png",
        ),
        (unlink("meta/test.json"), r"meta/test\.json: no such list of videos"),
        (
            lambda root: (root / "meta/test.json").write_text("{"),
            r"meta/test\.json: the list of videos is not readable",
        ),
        (lambda root: (root / "meta/test.json").write_text("[]"), r"meta/test\.json: .* must hold an object"),
        (lambda root: (root / "meta/test.json").write_text("{}"), r"meta/test\.json: must be .*videos"),
        (lambda root: (root / "ImageSets/test.txt").write_text("moss\n"), r"test\.json: video moss is not in it"),
        (unlink("ImageSets/test.txt"), r"ImageSets/test\.txt: no such split file"),
    ],
)
def test_bad_data_is_named(root: Path, harm: Callable[[Path], None], message: str) -> None:
    def use(benchmark: VQS4K) -> None:
        benchmark.measure(benchmark[0], answers([torch.zeros(SIZE, dtype=torch.bool)] * 9))

    use(VQS4K(root))
    harm(root)
    with pytest.raises(InputError, match=message) as caught:
        use(VQS4K(root))
    assert "\n" not in str(caught.value)


# Scores.


def test_a_score_by_hand(root: Path) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    got = score(benchmark, video, answers(shifted(video)))
    # frames 2, 3, 6, 7: 6 of 12 pixels; frame 1 missed; frame 4 false
    assert got["stAP"] == pytest.approx(4 * 6 / (4 * 12 + 9 + 9))
    assert got["tAP"] == pytest.approx(4 / 6)
    assert got["Rec"] == 0.0  # IoU 0.5 exactly
    assert (got["Succ"], got["stAP50"], got["tAP50"]) == (1.0, 0.0, 1.0)
    assert got["stAP_small"] == got["stAP"]


def test_several_occurrences_are_all_to_be_found(root: Path) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    first = [video.truth[frame][0] & (frame < 5) for frame in range(9)]
    got = score(benchmark, video, answers(first))
    assert got["stAP"] == got["tAP"] == got["Rec"] == pytest.approx(3 / 5)
    perfect = score(benchmark, video, answers(video.truth[frame][0] for frame in range(9)))
    assert {perfect[name] for name in benchmark.numbers} == {1.0}


def test_other_targets_and_missing_targets(root: Path) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    nothing = (FrameMasks(n, (7,), torch.ones(1, *SIZE, dtype=torch.bool), torch.ones(1)) for n in range(9))
    assert score(benchmark, video, nothing)["tAP"] == 0.0


def test_answers_that_do_not_fit_are_refused(root: Path) -> None:
    benchmark = VQS4K(root)
    video, mask = benchmark[0], torch.zeros(SIZE, dtype=torch.bool)
    with pytest.raises(InputError, match="video moth: frame 8 has no answer"):
        benchmark.measure(video, answers([mask] * 8))
    with pytest.raises(InputError, match=r"video moth, frame 000000: the answer is \(6, 16\)"):
        benchmark.measure(video, answers([mask[:6]] * 9))


# Submissions.


@pytest.mark.parametrize("empty", [False, True])
def test_written_masks_are_read_back_to_the_same_score(root: Path, tmp_path: Path, empty: bool) -> None:
    benchmark = VQS4K(root)
    video, folder = benchmark[0], tmp_path / "out"
    masks = [torch.zeros(SIZE, dtype=torch.bool)] * 9 if empty else shifted(video)
    passed = list(benchmark.write(video, answers(masks), folder))
    assert [answer.frame for answer in passed] == list(range(9))
    names = {path.name for path in (folder / "moth").iterdir()}
    assert names == {f"{frame:06d}.png" for frame in ([8] if empty else (2, 3, 4, 6, 7))}
    errors = SubmissionErrors()
    assert score(benchmark, video, benchmark.read(video, folder, errors)) == pytest.approx(
        score(benchmark, video, passed), nan_ok=True
    )
    assert benchmark.pack(folder) is None


def test_masks_of_an_earlier_run_do_not_stay(root: Path, tmp_path: Path) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    drain(benchmark.write(video, answers([square(0)] * 9), tmp_path / "out"))
    drain(benchmark.write(video, answers(shifted(video)), tmp_path / "out"))
    assert len(list((tmp_path / "out/moth").iterdir())) == 5


def table(video: Video, masks: list[Tensor]) -> dict:
    shown = [frame for frame, mask in enumerate(masks) if mask.any()]
    return {video.name(frame): rle_encode(masks[frame][None])[0] for frame in shown}


def answer_file(tmp_path: Path, text: str) -> Path:
    """Folder of a submission that is one JSON file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/test.json").write_text(text)
    return tmp_path / "out"


def test_one_json_of_rle_scores_like_folders(root: Path, tmp_path: Path) -> None:
    benchmark = VQS4K(root)
    video, kite = benchmark[0], benchmark[1]
    folder = answer_file(tmp_path, json.dumps({"videos": {"moth": table(video, shifted(video)), "kite": {}}}))
    got = score(benchmark, video, benchmark.read(video, folder, SubmissionErrors()))
    assert got == pytest.approx(score(benchmark, video, answers(shifted(video))), nan_ok=True)
    assert score(benchmark, kite, benchmark.read(kite, folder, SubmissionErrors()))["tAP"] == 0.0


def test_a_mask_may_have_any_one_label(root: Path, tmp_path: Path) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    for frame in VIDEOS["moth"][0]:
        write_label_map(tmp_path / f"moth/{frame:06d}.png", square(frame).to(torch.uint8) * 255)
    assert score(benchmark, video, benchmark.read(video, tmp_path, SubmissionErrors()))["stAP"] == 1.0


def two_labels(folder: Path) -> None:
    labels = square(2).to(torch.uint8)
    labels[0, 0] = 3
    write_label_map(folder / "moth/000002.png", labels)


def colour(folder: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(folder / "moth/000002.png")


@pytest.mark.parametrize(
    ("harm", "message", "missed"),
    [
        (lambda folder: shutil.rmtree(folder / "moth"), r"out/moth: no such folder; where the target is never seen", 5),
        (colour, r"moth/000002\.png: .*RGB", 1),
        (two_labels, r"moth/000002\.png: labels \[0, 1, 3\], but there is one target", 1),
        (
            lambda folder: write_label_map(folder / "moth/000002.png", torch.ones(3, 4, dtype=torch.uint8)),
            r"moth/000002\.png: the mask is 3x4 .* is 12x16",
            1,
        ),
        (
            lambda folder: write_label_map(folder / "moth/2.png", square(2).to(torch.uint8)),
            "moth: 2 is not a frame of video moth, whose first is 000000",
            0,
        ),
    ],
)
def test_bad_folders_are_named_or_count_as_empty(
    root: Path, tmp_path: Path, harm: Callable[[Path], None], message: str, missed: int
) -> None:
    benchmark, folder = VQS4K(root), tmp_path / "out"
    video = benchmark[0]
    drain(benchmark.write(video, answers(video.truth[frame][0] for frame in range(9)), folder))
    harm(folder)
    check(benchmark, video, folder, message, missed)


def check(benchmark: VQS4K, video: Video, folder: Path, message: str, missed: int) -> None:
    """The fault is an error that says so; where it is not, some of the five frames count as empty."""
    with pytest.raises(InputError, match=message):
        drain(benchmark.read(video, folder, SubmissionErrors()))
    errors = SubmissionErrors(strict=False)
    got = score(benchmark, video, benchmark.read(video, folder, errors))
    assert got["Rec"] == pytest.approx((5 - missed) / 5)
    assert len(errors.messages) == 1
    assert "\n" not in errors.messages[0]


@pytest.mark.parametrize(
    ("change", "message", "missed"),
    [
        (
            {"000002": {"1": {"size": [3, 4], "counts": "<"}}},
            r"test\.json: video moth, frame 000002: the mask is 3x4",
            1,
        ),
        ({"000002": {"1": {"size": [12, 16], "counts": "1"}}}, "video moth, frame 000002: RLE 0: its counts", 1),
        ({"000002": {"1": {"size": [12, 16]}}}, "video moth, frame 000002", 1),
        ({"000002": {"1": {}, "2": {}}}, "frame 000002: objects 1, 2, but there is one target", 1),
        ({"000002": {}}, None, 1),
        ({"000002": {"1": rle_encode(square(2)[None])[0]}}, None, 0),
        ({"000002": "text"}, "video moth: not frames with objects", 5),
        ({"12": {}}, r"test\.json: 12 is not a frame of video moth, whose first is 000000", 0),
    ],
)
def test_rle_is_read_or_named_or_counts_as_empty(
    root: Path, tmp_path: Path, change: dict, message: str | None, missed: int
) -> None:
    benchmark = VQS4K(root)
    video = benchmark[0]
    given = table(video, [video.truth[frame][0] for frame in range(9)]) | change
    folder = answer_file(tmp_path, json.dumps({"videos": {"moth": given}}))
    if message is None:  # nothing is wrong
        got = score(benchmark, video, benchmark.read(video, folder, SubmissionErrors()))
        assert got["Rec"] == pytest.approx((5 - missed) / 5)
    else:
        check(benchmark, video, folder, message, missed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"videos": {}}', r"test\.json: video moth is missing"),
        ("1", r"test\.json: "),
        ("{", r"test\.json: damaged JSON"),
    ],
)
def test_a_bad_json_is_named_or_counts_as_empty(root: Path, tmp_path: Path, text: str, message: str) -> None:
    benchmark = VQS4K(root)
    check(benchmark, benchmark[0], answer_file(tmp_path, text), message, 5)


def test_hidden_truth_can_be_submitted_but_not_scored(root: Path, tmp_path: Path) -> None:
    data = json.loads((root / "meta/test.json").read_text())
    del data["videos"]["moth"]["occurrences"]
    (root / "meta/test.json").write_text(json.dumps(data))
    shutil.rmtree(root / "Annotations")
    benchmark = VQS4K(root)
    video = benchmark[0]
    assert video.truth is None
    assert len(list(benchmark.write(video, answers([square(1)] * 9), tmp_path))) == 9
    assert all(answer.masks.any() for answer in benchmark.read(video, tmp_path, SubmissionErrors()))
    with pytest.raises(InputError, match="video moth of vqs4k test cannot be scored"):
        benchmark.measure(video, answers([square(1)] * 9))


def test_submissions_are_scored_without_the_frames(root: Path, tmp_path: Path) -> None:
    benchmark = VQS4K(root)
    drain(benchmark.write(benchmark[0], answers(shifted(benchmark[0])), tmp_path))
    want = score(benchmark, benchmark[0], benchmark.read(benchmark[0], tmp_path, SubmissionErrors()))
    shutil.rmtree(root / "JPEGImages")
    video = VQS4K(root)[0]
    assert score(benchmark, video, benchmark.read(video, tmp_path, SubmissionErrors())) == pytest.approx(
        want, nan_ok=True
    )
    with pytest.raises(InputError, match="JPEGImages/moth: no such folder of frames"):
        video[0]


def test_all_videos_together(root: Path) -> None:
    benchmark, metric = VQS4K(root), VQS4K(root).metric()
    for video in benchmark:
        perfect = video.id == "kite"
        masks = [video.truth[frame][0] & perfect for frame in range(len(video))]
        metric.extend(**benchmark.measure(video, answers(masks)))
    got = metric.compute()
    assert got["stAP"] == got["Succ"] == 0.5
    assert got["Rec"] == pytest.approx(3 / 8)
    assert set(benchmark.numbers) < set(got)
