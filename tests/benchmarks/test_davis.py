"""DAVIS: layout, splits, ids, frames that count, and what goes wrong."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.davis import DAVIS
from common.benchmarks.submissions.errors import SubmissionErrors
from common.errors import InputError
from common.video import FrameMasks, Video
from common.video.masks import read_label_map, write_label_map

SIZE = (12, 16)


def make(root: Path, labels: dict[str, Tensor], year: int = 2017, split: str = "val") -> Path:
    """A small DAVIS folder of label maps uint8 (T, H, W)."""
    for name, maps in labels.items():
        (root / "JPEGImages" / "480p" / name).mkdir(parents=True)
        for index, label in enumerate(maps):
            frame = torch.full((*label.shape, 3), 10 * index, dtype=torch.uint8)
            Image.fromarray(frame.numpy()).save(root / "JPEGImages" / "480p" / name / f"{index:05d}.jpg")
            write_label_map(root / "Annotations" / "480p" / name / f"{index:05d}.png", label)
    (root / "ImageSets" / str(year)).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / str(year) / f"{split}.txt").write_text("\n".join(labels) + "\n")
    return root


def squares(frames: int = 4, ids: tuple[int, ...] = (1, 2)) -> Tensor:
    """Label maps with one 3 by 3 square for each id, moving to the right."""
    maps = torch.zeros(frames, *SIZE, dtype=torch.uint8)
    for index in range(frames):
        for row, target in enumerate(ids):
            maps[index, 4 * row : 4 * row + 3, index : index + 3] = target
    return maps


def perfect(video: Video) -> Iterator[FrameMasks]:
    assert video.truth is not None
    for frame in range(len(video)):
        masks = video.truth[frame]
        yield FrameMasks(frame, video.targets, masks, torch.ones(len(masks)))


def test_what_a_method_is_told_and_what_is_scored(tmp_path: Path) -> None:
    maps = squares(ids=(1, 2))
    maps[1:, -1, -1] = 5  # a target that comes later does not count
    maps[:, 0, -1] = 255
    benchmark = DAVIS(make(tmp_path, {"a": maps}))
    video = benchmark[0]
    assert (len(benchmark), video.id, len(video), video.targets) == (1, "a", 4, (1, 2))
    assert [(p.target, p.frame) for p in video.prompts] == [(1, 0), (2, 0)]
    assert torch.equal(video.prompts[1].mask, maps[0] == 2)
    assert torch.equal(video.truth[2], torch.stack([maps[2] == 1, maps[2] == 2]))
    assert list(benchmark.scored_frames(video)) == [1, 2]
    measured = benchmark.measure(video, perfect(video))
    assert measured["j"].shape == (2, 2)
    metric = benchmark.metric()
    metric.extend(**measured)
    assert metric.compute()["J&F"] == 1


def test_ids_with_a_gap_count_as_a_target_that_is_never_there(tmp_path: Path) -> None:
    video = (benchmark := DAVIS(make(tmp_path, {"a": squares(ids=(1, 3))})))[0]
    assert video.targets == (1, 2, 3)
    assert [prompt.target for prompt in video.prompts] == [1, 3]
    silent = (FrameMasks(n, (), torch.zeros(0, *SIZE, dtype=torch.bool), torch.zeros(0)) for n in range(4))
    assert benchmark.measure(video, silent)["j"].tolist() == [[0, 1, 0]] * 2


def test_2016_is_one_target_whatever_the_ids(tmp_path: Path) -> None:
    maps = squares(ids=(1, 2))
    maps[maps == 2] = 255
    video = DAVIS(make(tmp_path, {"a": maps}, 2016), year=2016)[0]
    assert video.targets == (1,)
    assert torch.equal(video.truth[3][0], maps[3] > 0)


def test_2016_reads_1_bit_annotations(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": squares(ids=(1,))}, 2016)
    for file in (root / "Annotations/480p/a").iterdir():
        Image.fromarray(read_label_map(file).bool().numpy()).save(file)
        assert Image.open(file).mode == "1"
    assert DAVIS(root, year=2016)[0].truth[0].sum() == 9


def test_split_file_of_paths(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": squares(), "b": squares()}, 2016)
    (root / "ImageSets/2016/val.txt").unlink()
    (root / "ImageSets/480p").mkdir()
    pairs = [f"/JPEGImages/480p/{v}/{n:05d}.jpg /Annotations/480p/{v}/{n:05d}.png" for v in "ba" for n in range(4)]
    (root / "ImageSets/480p/val.txt").write_text("\n".join(pairs))
    assert DAVIS(root, year=2016).ids == ["b", "a"]


@pytest.mark.parametrize("name", ["DAVIS2016", "davis-2016", "DAVIS", "DAVIS_2017"])
def test_the_root_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("VIDSEG_DATA", str(tmp_path))
    make(tmp_path / name, {"a": squares()}, 2016)
    (tmp_path / "other").mkdir()
    assert DAVIS(year=2016).root == tmp_path / name


def test_absent_data_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (None, str(tmp_path), str(tmp_path / "none")):
        monkeypatch.delenv("VIDSEG_DATA", raising=False)
        if place is not None:
            monkeypatch.setenv("VIDSEG_DATA", place)
        with pytest.raises(InputError, match=r"davis2017 .*https://davischallenge.org .*VIDSEG_DATA") as caught:
            len(DAVIS())
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="none: no such folder"):
        len(DAVIS(tmp_path / "none"))


def test_a_subset_of_sequences(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": squares(), "b": squares()})
    assert [video.id for video in DAVIS(root, videos=["b"])] == ["b"]
    with pytest.raises(InputError, match="c: not in davis2017 val, which has a, b"):
        len(DAVIS(root, videos=["c"]))


def test_hidden_annotations_are_not_scored(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": squares()}, split="test-dev")
    for file in (root / "Annotations/480p/a").iterdir():
        if file.stem != "00000":
            file.unlink()
    video = (benchmark := DAVIS(root, split="test-dev"))[0]
    assert video.truth is None
    assert len(video.prompts) == 2
    with pytest.raises(InputError, match="a of davis2017 test-dev cannot be scored: it has no annotations"):
        benchmark.measure(video, iter(()))


def test_the_submission_is_a_palette_png_for_each_frame(tmp_path: Path) -> None:
    video = (benchmark := DAVIS(make(tmp_path / "data", {"a": squares()})))[0]
    assert len(list(benchmark.write(video, perfect(video), tmp_path / "out"))) == 4
    for frame in range(4):
        file = tmp_path / "out" / "a" / f"{frame:05d}.png"
        assert Image.open(file).mode == "P"
        assert torch.equal(read_label_map(file), squares()[frame])


# What goes wrong: the message is one line and names the culprit.


def broken(tmp_path: Path, what: str) -> None:
    root = make(tmp_path, {"a": squares()})
    annotations, frames = root / "Annotations/480p/a", root / "JPEGImages/480p/a"
    if what == "annotation":
        (annotations / "00002.png").unlink()
    elif what == "size":
        write_label_map(annotations / "00002.png", torch.ones(5, 5, dtype=torch.uint8))
    elif what == "first size":
        write_label_map(annotations / "00000.png", torch.ones(5, 5, dtype=torch.uint8))
    elif what == "empty":
        write_label_map(annotations / "00000.png", torch.full(SIZE, 255, dtype=torch.uint8))
    elif what == "frame":
        (frames / "00002.jpg").unlink()
    elif what == "folder":
        shutil.rmtree(frames)
    elif what == "colour":
        Image.new("RGB", SIZE[::-1]).save(annotations / "00001.png")
    elif what == "short":
        for n in (2, 3):
            (frames / f"0000{n}.jpg").unlink()
    elif what == "split":
        (root / "ImageSets/2017/val.txt").unlink()
    elif what == "no names":
        (root / "ImageSets/2017/val.txt").write_text("\n")
    benchmark = DAVIS(root)
    benchmark.measure(benchmark[0], perfect(benchmark[0]))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("annotation", r"a/00002\.png"),
        ("size", r"a/00002\.png: the annotation is \(5, 5\) but the frames are \(12, 16\)"),
        ("first size", r"a/00000\.png"),
        ("empty", r"a/00000\.png: there is no object"),
        ("frame", r"480p/a: frame 00002 is missing"),
        ("folder", r"480p/a: no such folder"),
        ("colour", r"a/00001\.png: .*RGB"),
        ("short", "a of davis2017 val cannot be scored: none of its 2 frames count"),
        ("split", r"2017/val\.txt: no such split file"),
        ("no names", r"2017/val\.txt: the split file is empty"),
    ],
)
def test_bad_data_is_named(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        broken(tmp_path, what)
    assert "\n" not in str(caught.value)


def test_another_year_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="year 2018"):
        DAVIS(tmp_path, year=2018)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ((0, 1, 3), "frame 2 has no answer, frame 3 came instead"),
        ((0, 1, 1, 2, 3), "the answer to frame 1 came after that to frame 1"),
        ((0, 1), "frame 2 has no answer"),
    ],
)
def test_every_scored_frame_is_answered_once(tmp_path: Path, frames: tuple[int, ...], message: str) -> None:
    video = (benchmark := DAVIS(make(tmp_path, {"a": squares()})))[0]
    answers = list(perfect(video))
    with pytest.raises(InputError, match=f"video a: {message}"):
        benchmark.measure(video, [answers[frame] for frame in frames])


def test_answers_of_another_size_are_refused(tmp_path: Path) -> None:
    video = (benchmark := DAVIS(make(tmp_path, {"a": squares()})))[0]
    answers = [FrameMasks(n, (1,), torch.zeros(1, 6, 8, dtype=torch.bool), torch.zeros(1)) for n in range(4)]
    with pytest.raises(InputError, match=r"video a, frame 00001: the answer is \(6, 8\)"):
        benchmark.measure(video, answers)


# Against the official scorer, and on the real thing.


def test_folders_of_pngs_score_like_davis2017_evaluation(golden_root: Path, tmp_path: Path) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())["cases"]
    shutil.copytree(golden_root / "davis_png", tmp_path / "davis", copy_function=shutil.copyfile)
    for name in ("p07_two_swap", "p08_three_absent"):
        frames = tmp_path / "davis" / "JPEGImages" / "480p" / name
        frames.mkdir(parents=True)
        maps = [read_label_map(file) for file in sorted((golden_root / "davis_png/pred" / name).iterdir())]
        for index, label in enumerate(maps):
            Image.new("RGB", label.shape[::-1]).save(frames / f"{index:05d}.jpg")
        benchmark = DAVIS(tmp_path / "davis", videos=[name])
        video = benchmark[0]
        answers = (
            FrameMasks(n, ids, label == torch.tensor(ids, dtype=torch.uint8)[:, None, None], torch.ones(len(ids)))
            for n, label in enumerate(maps)
            for ids in [tuple(int(i) for i in label.unique() if i)]
        )
        metric = benchmark.metric()
        metric.extend(**benchmark.measure(video, answers))
        want = expected[name]["davis2017"]
        assert len(want) == len(video.targets)
        for measure in "JF":
            mean = sum(target[measure]["M"] for target in want.values()) / len(want)
            assert metric.compute()[measure].item() == pytest.approx(mean, abs=1e-6)


@pytest.mark.data
@pytest.mark.parametrize(("split", "sequences", "frames"), [("train", 30, 2079), ("val", 20, 1376)])
def test_the_real_davis_2016(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, split: str, sequences: int, frames: int
) -> None:
    monkeypatch.setenv("VIDSEG_DATA", str(data_root))
    try:
        benchmark = DAVIS(year=2016, split=split)
    except InputError as error:
        pytest.skip(f"no DAVIS 2016: {error}")
    videos = list(benchmark)
    assert (len(videos), sum(map(len, videos))) == (sequences, frames)
    video = videos[0]
    assert video[3].shape[:2] == video.truth[3].shape[1:] == video.prompts[0].mask.shape
    assert video.targets == (1,)
    assert 0 < video.truth[len(video) - 1].sum() < video.truth[0].numel()


def test_larger_frames_are_tracked_and_scored_at_the_size_of_the_annotations(tmp_path: Path) -> None:
    """Frames three times as large: given masks are enlarged, answers reduced to what they came from."""
    root = make(tmp_path, {"a": squares()})
    for index in range(4):
        large = root / "JPEGImages" / "Full-Resolution" / "a" / f"{index:05d}.jpg"
        large.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 36)).save(large)
    benchmark = DAVIS(root, frame_resolution="Full-Resolution")
    assert "480p, tracked on frames of Full-Resolution" in benchmark.protocol
    assert benchmark.protocol != DAVIS(root).protocol
    video = benchmark[0]
    assert video[0].shape == (36, 48, 3)
    assert torch.equal(video.prompts[1].mask, (squares()[0] == 2).repeat_interleave(3, 0).repeat_interleave(3, 1))

    def answers() -> Iterator[FrameMasks]:
        for answer in perfect(video):
            large = answer.masks.repeat_interleave(3, 1).repeat_interleave(3, 2)
            yield FrameMasks(answer.frame, answer.targets, large, answer.scores)

    measured = benchmark.measure(video, benchmark.write(video, answers(), tmp_path / "out"))
    assert (measured["j"] == 1).all()
    assert read_label_map(tmp_path / "out/a/00002.png").shape == SIZE
    again = benchmark.measure(video, benchmark.read(video, tmp_path / "out", SubmissionErrors()))
    assert torch.equal(again["j"], measured["j"])
