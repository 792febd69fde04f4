"""VOST: sparse annotations, ids of the first frame, void."""

from pathlib import Path

import pytest
import torch

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.vost import VOST
from common.errors import InputError
from common.video import FrameMasks
from common.video.masks import read_label_map, write_label_map
from tests.support.answers import check_round_trip, numbers, shifted
from tests.support.miniatures.vost import FRAMES, NAMES, SKIPPED, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "data", "vost")
    return tmp_path / "data"


def test_what_a_method_is_told_and_what_is_scored(root: Path) -> None:
    benchmark = VOST(root)
    assert benchmark.ids == ["2_fold_cloth"]
    video = benchmark[0]
    assert (video.targets, len(video), video.fps, video.name(1)) == ((1, 2), FRAMES, 5.0, "frame00013")
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (2, 0)]
    annotated = [n for n in range(FRAMES) if n not in SKIPPED]
    assert list(benchmark.scored_frames(video)) == annotated[1:-1]
    assert video.truth[SKIPPED[0]] is None
    assert set(benchmark.measure(video, shifted(video))) == {"j"}


def test_j_over_the_last_quarter(root: Path) -> None:
    benchmark = VOST(root)
    video = benchmark[0]
    scored = benchmark.scored_frames(video)
    metric = benchmark.metric()

    def late_loss() -> object:
        for answer in shifted(video, 0):
            lost = answer.frame in scored[-2:]
            yield FrameMasks(answer.frame, video.targets, answer.masks & (not lost), answer.scores)

    metric.extend(**benchmark.measure(video, late_loss()))
    got = metric.compute()
    assert len(scored) == 6  # floor(0.75 * 6) = 4, so the last two
    assert (got["J"], got["J_tr"]) == (pytest.approx(4 / 6), 0)


def test_ids_above_those_of_the_first_frame_do_not_count(root: Path, tmp_path: Path) -> None:
    benchmark = VOST(root, split="train")
    video = benchmark[0]
    assert video.targets == (1, 2)
    list(benchmark.write(video, shifted(video, 0), tmp_path / "out"))
    file = tmp_path / "out" / video.id / f"{NAMES[5]}.png"
    labels = read_label_map(file)
    labels[-1, -1] = 5
    write_label_map(file, labels)
    measured = benchmark.measure(video, benchmark.read(video, tmp_path / "out", SubmissionErrors(strict=False)))
    assert (measured["j"] == 1).all()


def test_void_is_background_or_left_out(root: Path) -> None:
    official, lenient = VOST(root, split="train"), VOST(root, split="train", ignore_void=True)
    assert official.protocol != lenient.protocol
    video = official[0]

    def greedy() -> object:
        for answer in shifted(video, 0):
            void = read_label_map(video.truth.path(answer.frame)) == 255
            masks = torch.stack([answer.masks[0] | void, answer.masks[1]])
            yield FrameMasks(answer.frame, video.targets, masks, answer.scores)

    assert (official.measure(video, greedy())["j"][:, 0] == 64 / (64 + 60)).all()
    assert (lenient.measure(video, greedy())["j"] == 1).all()


def test_papers_that_treat_it_like_davis_have_another_protocol(root: Path) -> None:
    official, davis = VOST(root), VOST(root, contours=True)
    assert official.protocol_id({}) != davis.protocol_id({})
    got, plain = numbers(davis, 1), numbers(official, 1)
    assert set(davis.numbers) == {"J&F", "J", "F"} <= set(got)
    assert got["J"] == plain["J"] < 1
    assert got["J&F"] == pytest.approx((got["J"] + got["F"]) / 2)
    assert numbers(davis, 0)["J&F"] == 1


@pytest.mark.parametrize("ignore_void", [False, True])
def test_answers_of_another_size_are_refused(root: Path, ignore_void: bool) -> None:
    benchmark = VOST(root, split="train", ignore_void=ignore_void)
    small = (FrameMasks(n, (1,), torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(1)) for n in range(FRAMES))
    with pytest.raises(InputError, match=r"frame frame00013: the answer is \(4, 4\)"):
        benchmark.measure(benchmark[0], small)


def test_what_is_written_is_read_back(root: Path, tmp_path: Path) -> None:
    check_round_trip(VOST(root), tmp_path / "out")
    assert (tmp_path / "out" / "2_fold_cloth" / "frame00001.png").is_file()


def test_perfect_answers(root: Path) -> None:
    got = numbers(VOST(root), 0)
    assert got["J"] == got["J_tr"] == 1


def test_annotations_of_the_first_frame_alone_are_not_scored(root: Path) -> None:
    folder = root / "Annotations" / "2_fold_cloth"
    for file in folder.iterdir():
        if file.stem != NAMES[0]:
            file.unlink()
    video = VOST(root)[0]
    assert video.truth is None
    assert len(video.prompts) == 2


def broken(root: Path, what: str) -> None:
    if what == "split":
        (root / "ImageSets/val.txt").unlink()
    elif what == "frame":
        (root / "JPEGImages/2_fold_cloth" / f"{NAMES[3]}.jpg").unlink()
    elif what == "size":
        write_label_map(root / "Annotations/2_fold_cloth" / f"{NAMES[1]}.png", torch.ones(3, 3, dtype=torch.uint8))
    else:
        (root / "Annotations").rename(root / "Masks")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("split", r"ImageSets/val\.txt: no such split file"),
        ("frame", r"2_fold_cloth/frame00037\.jpg: missing, but it is annotated"),
        ("size", r"frame00013\.png: the annotation is \(3, 3\)"),
        ("annotations", r"Annotations/2_fold_cloth: no such folder"),
    ],
)
def test_bad_data_is_named(root: Path, what: str, message: str) -> None:
    broken(root, what)
    benchmark = VOST(root)
    with pytest.raises(InputError, match=message) as caught:
        benchmark.measure(benchmark[0], shifted(benchmark[0]))
    assert "\n" not in str(caught.value)
