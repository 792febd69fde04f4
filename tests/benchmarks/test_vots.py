"""VOTS: workspaces, ids, frames that count, results of the toolkit, and what goes wrong."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.vots import VOTS
from common.errors import InputError
from common.metrics.vots import NUMBERS
from common.video import FrameMasks, Video
from common.vot.regions import Mask, Rectangle, Special, read_regions, write_regions
from tests.support.miniatures.vots import SIZE, make, square

STRICT = SubmissionErrors()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make(tmp_path / "vots", "vots2023")
    return tmp_path / "vots"


def perfect(video: Video) -> Iterator[FrameMasks]:
    """The truth; where it is unknown, nothing."""
    for frame in range(len(video)):
        masks = video.truth[frame] if video.truth else None
        masks = torch.zeros(len(video.targets), *SIZE, dtype=torch.bool) if masks is None else masks
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def numbers(benchmark: VOTS, answers: dict[str, Iterator[FrameMasks]]) -> dict[str, float]:
    metric = benchmark.metric()
    for video in benchmark:
        metric.extend(**benchmark.measure(video, answers[video.id]))
    return {key: value.item() for key, value in metric.compute().items()}


def test_what_a_method_is_told(workspace: Path) -> None:
    benchmark = VOTS(workspace)
    assert [video.id for video in benchmark] == ["solo", "pair"]
    video = benchmark.open("pair")
    assert (len(video), video.fps, video[0].shape, video.name(0)) == (16, 25, (*SIZE, 3), "00000001")
    assert (video.targets, video.attributes["objects"]) == ((1, 2), {1: "9", 2: "10"})
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (2, 0)]
    first, second = (prompt.mask for prompt in video.prompts)
    assert torch.equal(first, square(0, 3))
    assert (first & second).sum() == 8  # objects may overlap
    assert benchmark.open("solo").attributes["objects"] == {1: "object"}


def test_ground_truth_may_be_absent_unknown_or_short(workspace: Path) -> None:
    video = VOTS(workspace).open("pair")
    known = torch.stack([video.truth.annotated_objects(frame) for frame in range(16)])
    assert known[:, 1].all()
    assert [frame for frame in range(16) if not known[frame, 0]] == [4, 14, 15]
    assert torch.equal(video.truth[2], torch.stack([square(2, 3), square(2, 5)]))
    assert not video.truth[3][1].any()
    assert torch.equal(video.truth[15][1], square(15, 5))
    assert not video.truth[15][0].any()


def test_a_perfect_tracker(workspace: Path) -> None:
    for rule, missed in (
        ("count", [(1 / 5 + (1 / 13 + 1 / 16) / 2) / 2, (1 / 5 + (1 / 13 + 1 / 4) / 2) / 2]),
        ("skip", [0, 0]),
    ):
        benchmark = VOTS(workspace, init_frame=rule)
        got = numbers(benchmark, {video.id: perfect(video) for video in benchmark})
        assert list(got) == list(NUMBERS) == list(benchmark.numbers)
        assert got["Quality"] == pytest.approx(1 - missed[0])
        assert (got["NRE"], got["DRE"], got["ADQ"]) == (pytest.approx(missed[1]), 0, 1)
        assert got["Accuracy"] == got["Robustness"] == pytest.approx(1 - missed[1])


def test_what_is_measured_has_the_target_last(workspace: Path) -> None:
    benchmark = VOTS(workspace)
    video = benchmark.open("pair")
    assert list(benchmark.scored_frames(video)) == list(range(16))
    silent = (FrameMasks(n, (), torch.zeros(0, *SIZE, dtype=torch.bool), torch.zeros(0)) for n in range(16))
    measured = benchmark.measure(video, silent)
    assert {key: tuple(value.shape) for key, value in measured.items()} == dict.fromkeys(measured, (16, 2))
    assert measured["overlap"].isnan().nonzero().tolist() == [[4, 0], [14, 0], [15, 0]]
    assert measured["overlap"][:, 1].tolist() == [0] * 3 + [1] * 12 + [0]
    assert measured["present"][:, 1].tolist() == [1] * 3 + [0] * 12 + [1]
    assert measured["initialised"].nonzero().tolist() == [[0, 0], [0, 1]]
    assert not measured["reported"].any()


def test_only_tagged_frames_count_in_votst(tmp_path: Path) -> None:
    make(tmp_path / "a", "votst2024")
    benchmark = VOTS(tmp_path / "a", "votst2024", "val")
    assert list(benchmark.scored_frames(benchmark.open("solo"))) == [1, 3]
    assert list(benchmark.scored_frames(benchmark.open("pair"))) == [1, 3, 5, 7, 9, 11, 13, 15]
    got = numbers(benchmark, {video.id: perfect(video) for video in benchmark})
    assert (got["Quality"], got["Robustness"], got["DRE"]) == (1, 1, 0)  # the first frame is not tagged
    assert "tagged evaluation" in benchmark.protocol


def test_challenges_hide_their_ground_truth(tmp_path: Path) -> None:
    for edition in ("vots2024", "votst2024"):
        make(tmp_path / edition, edition, hidden=True)
        video = (benchmark := VOTS(tmp_path / edition, edition))[1]
        assert video.truth is None
        assert video.annotated is None
        assert [prompt.target for prompt in video.prompts] == [1, 2]
        with pytest.raises(InputError, match=r"sequence pair of .* cannot be scored: only the server has"):
            benchmark.measure(video, perfect(video))
        assert len(list(benchmark.write(video, perfect(video), tmp_path / "out"))) == 16
    assert (tmp_path / "out/results/vidseg/baseline/pair/pair_10_001.txt").is_file()


def test_pixels_to_ignore_do_not_count(workspace: Path) -> None:
    write_regions(workspace / "sequences/solo/groundtruth__ignore.txt", [Rectangle(0, 0, 32, 12)] * 2)
    benchmark = VOTS(workspace, videos=["solo"])
    video = benchmark[0]
    assert video.attributes["objects"] == {1: "object"}
    silent = (FrameMasks(n, (), torch.zeros(0, *SIZE, dtype=torch.bool), torch.zeros(0)) for n in range(5))
    assert benchmark.measure(video, silent)["overlap"][:, 0].tolist() == [1, 1, 0, 0, 0]


# Submissions.


def test_results_as_the_toolkit_names_them(workspace: Path, tmp_path: Path) -> None:
    benchmark = VOTS(workspace, tracker="mine")
    for video in benchmark:
        list(benchmark.write(video, perfect(video), tmp_path / "out"))
    base = tmp_path / "out/results/mine/baseline"
    files = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
    stems = {"solo/solo_001", "pair/pair_9_001", "pair/pair_10_001"}
    assert files == {f"{stem}{end}" for stem in stems for end in (".txt", "_time.value")}
    regions = read_regions(base / "pair/pair_10_001.txt")
    assert regions[:4] == [Special(1), Mask.of(square(1, 5)), Mask.of(square(2, 5)), Special(0)]
    seconds = [float(line) for line in (base / "pair/pair_10_001_time.value").read_text().split()]
    assert len(regions) == len(seconds) == 16
    assert min(seconds) >= 0


def test_what_is_written_is_read_back_to_the_same_score(workspace: Path, tmp_path: Path) -> None:
    benchmark = VOTS(workspace)

    def noisy(video: Video) -> Iterator[FrameMasks]:
        generator = torch.Generator().manual_seed(3)
        for answer in perfect(video):
            flips = torch.rand(answer.masks.shape, generator=generator) < 0.02
            yield FrameMasks(answer.frame, answer.targets, answer.masks ^ flips, answer.scores)

    want = numbers(benchmark, {v.id: benchmark.write(v, noisy(v), tmp_path / "out") for v in benchmark})
    assert 0.1 < want["Quality"] < 0.9
    for place in ("", "results", "results/vidseg", "results/vidseg/baseline"):
        folder = tmp_path / "out" / place
        assert numbers(benchmark, {v.id: benchmark.read(v, folder, STRICT) for v in benchmark}) == want
    for file in sorted((tmp_path / "out").rglob("*.txt")):
        write_regions(file.with_suffix(".bin"), read_regions(file))
        file.unlink()
    assert numbers(benchmark, {v.id: benchmark.read(v, tmp_path / "out", STRICT) for v in benchmark}) == want
    packed = benchmark.pack(tmp_path / "out")
    with zipfile.ZipFile(packed) as archive:
        assert "results/vidseg/baseline/solo/solo_001.bin" in archive.namelist()


def written(benchmark: VOTS, folder: Path) -> Path:
    for video in benchmark:
        list(benchmark.write(video, perfect(video), folder))
    return folder / "results/vidseg/baseline"


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("pair/pair_9_001.txt", None, r"pair_9_001\.txt: no such result"),
        ("pair/pair_9_001.txt", "1\n0\n", r"pair_9_001\.txt: 2 regions for 16 frames"),
        ("pair/pair_9_001.txt", "1\nbear\n", r"pair_9_001\.txt, line 2: 'bear' is not a region"),
    ],
)
def test_faults_of_a_submission(workspace: Path, tmp_path: Path, name: str, lines: str | None, message: str) -> None:
    benchmark = VOTS(workspace, videos=["pair"])
    file = written(benchmark, tmp_path / "out") / name
    file.unlink() if lines is None else file.write_text(lines)
    with pytest.raises(InputError, match=message):
        list(benchmark.read(benchmark[0], tmp_path / "out", STRICT))
    answers = list(benchmark.read(benchmark[0], tmp_path / "out", errors := SubmissionErrors(strict=False)))
    assert len(errors.messages) == 1
    assert len(answers) == 16
    assert not torch.stack([answer.masks[0] for answer in answers]).any()
    assert answers[1].masks[1].any()


def test_a_missing_sequence_and_two_trackers(workspace: Path, tmp_path: Path) -> None:
    benchmark = VOTS(workspace, videos=["pair"])
    with pytest.raises(InputError, match="no results of sequence pair"):
        list(benchmark.read(benchmark[0], tmp_path, STRICT))
    answers = list(benchmark.read(benchmark[0], tmp_path, SubmissionErrors(strict=False)))
    assert len(answers) == 16
    assert not any(answer.masks.any() for answer in answers)
    for tracker in ("a", "b"):
        other = VOTS(workspace, tracker=tracker)
        list(other.write(benchmark[0], perfect(benchmark[0]), tmp_path / "out"))
    with pytest.raises(InputError, match="results of 2 trackers for pair"):
        list(benchmark.read(benchmark[0], tmp_path / "out", STRICT))


# What goes wrong.


def test_names_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="vots2023 val: no such edition and split"):
        VOTS(edition="vots2023", split="val")
    with pytest.raises(InputError, match="init_frame drop"):
        VOTS(init_frame="drop")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("sequences/list.txt", None, r"list\.txt: no such list of sequences"),
        ("sequences/pair/sequence", None, "cannot read what the sequence is"),
        ("sequences/pair/sequence", "fps=fast\n", "fps=fast is not a number"),
        ("sequences/pair/sequence", "length=17\n", "16 frames, but the file sequence says 17"),
        ("sequences/pair/groundtruth_9.txt", "1\n", "object 9 is not in the first frame"),
        ("sequences/pair/groundtruth_9.txt", "m1\n", r"groundtruth_9\.txt, line 1: 'm1' is not a region"),
        ("sequences/pair/color/00000003.jpg", None, "frame 00000003 is missing"),
        ("sequences/pair/evaluation.tag", None, r"evaluation\.tag: no such tag"),
        ("sequences/pair/evaluation.tag", "0\nyes\n", r"evaluation\.tag, line 2: 'yes' must be 0 or 1"),
    ],
)
def test_a_wrong_workspace_is_named(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    make(tmp_path / "a", "votst2024")
    (tmp_path / "a" / file).unlink() if text is None else (tmp_path / "a" / file).write_text(text)
    with pytest.raises(InputError, match=message):
        VOTS(tmp_path / "a", "votst2024", "val").open(VOTS(tmp_path / "a", "votst2024", "val").list_videos()[1])


def test_a_sequence_without_objects(workspace: Path) -> None:
    (workspace / "sequences/solo/groundtruth.txt").unlink()
    with pytest.raises(InputError, match=r"groundtruth\.txt: cannot read the regions"):
        VOTS(workspace).open("solo")


def test_the_folder_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "VOTS-2023", "vots2023")
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    assert len(VOTS(edition="vots2024")) == len(VOTS()) == 2
    with pytest.raises(InputError, match="votst2024val not found"):
        len(VOTS(edition="votst2024", split="val"))


# Against the toolkit.


@pytest.mark.parametrize(
    ("edition", "split", "rule", "filtered"),
    [
        ("vots2023", "test", "count", "all_frames"),
        ("vots2024", "test", "skip", "evaluation_tag"),
        ("votst2024", "val", "count", "evaluation_tag"),
    ],
)
def test_results_score_as_in_the_toolkit(golden_root: Path, edition: str, split: str, rule: str, filtered: str) -> None:
    expected = json.loads((golden_root / "vots_expected.json").read_text())[filtered]["overall"]
    benchmark = VOTS(golden_root / "vots", edition, split, rule)
    got = numbers(benchmark, {v.id: benchmark.read(v, golden_root / "vots", STRICT) for v in benchmark})
    for key in NUMBERS:
        assert got[key] == pytest.approx(expected[key], abs=1e-6)
    with pytest.raises(InputError, match="no such folder of frames"):
        benchmark[0][0]
