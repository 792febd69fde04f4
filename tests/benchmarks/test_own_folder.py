"""Own data: any suffix, two rules for late objects, grey masks; and the rule of vos-benchmark against its scorer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.own_folder import Folder, annotated_frames
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.tasks.vos import VOSBenchmark
from common.errors import InputError
from common.evaluation.submission import evaluate
from common.video import FrameMasks, TensorFrames, Video
from common.video.masks import write_label_map
from tests.support.miniatures.davis import SIZE, squares
from tests.support.miniatures.own_folder import make, write


def answers(maps: Tensor, targets: Sequence[int]) -> Iterator[FrameMasks]:
    """Label maps (T, H, W) as the answers for some targets."""
    for frame, labels in enumerate(maps):
        masks = torch.stack([labels == target for target in targets])
        yield FrameMasks(frame, tuple(targets), masks, torch.ones(len(masks)))


def late() -> Tensor:
    """Object 2 is there from frame 3 on."""
    maps = squares(7, (1, 2))
    maps[:3][maps[:3] == 2] = 0
    return maps


def test_frames_of_any_suffix_without_a_list(tmp_path: Path) -> None:
    make(tmp_path, "folder")
    (tmp_path / "Annotations" / ".cache").mkdir()
    benchmark = Folder(tmp_path)
    assert benchmark.ids == ["pan", "zoom"]
    (tmp_path / "JPEGImages" / "extra").mkdir()  # not passed over in silence
    assert Folder(tmp_path).ids == ["extra", "pan", "zoom"]
    assert [video[1].shape for video in benchmark] == [(*SIZE, 3)] * 2


def test_the_rule_of_davis_leaves_late_objects_out(tmp_path: Path) -> None:
    write(tmp_path, "a", late())
    video = Folder(tmp_path)[0]
    assert video.targets == (1,)


def test_at_first_sight_an_object_counts_from_where_anyone_sees_it(tmp_path: Path) -> None:
    write(tmp_path, "a", late())
    benchmark = Folder(tmp_path, rule="first_sight")
    video = benchmark[0]
    assert [(prompt.target, prompt.frame) for prompt in video.prompts] == [(1, 0), (2, 3)]
    measured = benchmark.measure(video, answers(late(), (1, 2)))
    assert measured["j"][:, 1].isnan().tolist() == [True, True, False, False, False]
    early = late()
    early[2] = squares(7, (1, 2))[2]  # a frame too early: it counts, as a zero
    measured = benchmark.measure(video, answers(early, (1, 2)))
    assert measured["j"][:, 1].nan_to_num(-1).tolist() == [-1, 0, 1, 1, 1]


def test_grey_masks_in_0_and_255(tmp_path: Path) -> None:
    maps = squares(5, (1,))
    write(tmp_path, "a", maps)
    for frame, labels in enumerate(maps):
        Image.fromarray((255 * labels).numpy()).save(tmp_path / "Annotations" / "a" / f"{frame:05d}.png")
    with pytest.raises(
        InputError, match=r"00000\.png: everything marked has label 255, which is void; set single_object"
    ):
        Folder(tmp_path)[0]
    benchmark = Folder(tmp_path, single_object=True)
    video = benchmark[0]
    assert video.targets == (1,)
    assert torch.equal(video.prompts[0].mask, maps[0] == 1)
    out = list(benchmark.read(video, tmp_path / "Annotations", SubmissionErrors()))
    assert all(torch.equal(answer.masks[0], maps[answer.frame] == 1) for answer in out)


def test_sparse_annotations_and_ends(tmp_path: Path) -> None:
    write(tmp_path, "a", squares(7, (1,)))
    for frame in (1, 3, 4):
        (tmp_path / "Annotations" / "a" / f"{frame:05d}.png").unlink()
    dense, sparse = Folder(tmp_path), Folder(tmp_path, sparse=True)
    with pytest.raises(InputError, match=r"00001\.png: no such label map"):
        dense.measure(dense[0], answers(squares(7, (1,)), (1,)))
    assert list(sparse.scored_frames(sparse[0])) == [2, 5]
    assert list(Folder(tmp_path, sparse=True, skip_first_and_last=False).scored_frames(sparse[0])) == [0, 2, 5, 6]


def test_options_are_part_of_the_protocol() -> None:
    made = [
        Folder(),
        Folder(rule="first_sight"),
        Folder(single_object=True),
        Folder(sparse=True),
        Folder(skip_first_and_last=False),
    ]
    assert len({benchmark.protocol for benchmark in made}) == len({b.protocol_id({"a": 3}) for b in made}) == 5


def test_only_the_first_annotation_means_hidden(tmp_path: Path) -> None:
    write(tmp_path, "a", squares(4, (1,)))
    for frame in (1, 2, 3):
        (tmp_path / "Annotations" / "a" / f"{frame:05d}.png").unlink()
    assert Folder(tmp_path)[0].truth is None


def test_what_goes_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no root given; give root"):
        len(Folder())
    with pytest.raises(InputError, match="none: no such folder; give root"):
        len(Folder(tmp_path / "none"))
    with pytest.raises(InputError, match="no folders of videos in its JPEGImages and Annotations"):
        len(Folder(tmp_path))
    with pytest.raises(InputError, match="rule coco: which objects count is one of davis, first_sight"):
        Folder(tmp_path, rule="coco")


# Against vos-benchmark and davis2017-evaluation.


class Golden(VOSBenchmark):
    """The golden cases by the rule of vos-benchmark, for which 255 is an id like any other."""

    name, protocol, first_sight = "golden", "vos-benchmark", True

    def __init__(self, root: Path, skip_first_and_last: bool) -> None:
        super().__init__(root)
        self.skip_first_and_last = skip_first_and_last

    def list_videos(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "vos").glob("*.npz"))

    def open(self, id: str) -> Video:
        truth, ids = self.arrays(id)[0], self.ids_of(id)
        masks = torch.stack([truth == target for target in ids], 1)
        return Video(id, TensorFrames(torch.zeros(len(masks), 1, 1, 3, dtype=torch.uint8)), targets=ids, truth=masks)

    def ids_of(self, id: str) -> tuple[int, ...]:
        """Every id that the annotation has anywhere."""
        return tuple(int(target) for target in self.arrays(id)[0].unique() if target)

    def arrays(self, id: str) -> list[Tensor]:
        """Label maps (T, H, W): annotation, prediction."""
        with np.load(self.root / "vos" / f"{id}.npz") as arrays:
            return [torch.from_numpy(arrays[key]) for key in ("gt", "pred")]

    def scored_frames(self, video: Video) -> Sequence[int]:
        return super().scored_frames(video) if self.skip_first_and_last else annotated_frames(video)


@pytest.mark.parametrize(("key", "skip_first_and_last"), [("vos_benchmark_skip", True), ("vos_benchmark_all", False)])
def test_every_object_equals_vos_benchmark(golden_root: Path, key: str, skip_first_and_last: bool) -> None:
    expected = json.loads((golden_root / "vos_expected.json").read_text())
    benchmark = Golden(golden_root, skip_first_and_last)
    assert benchmark.ids == sorted(expected["cases"]) == expected["suite"][key]["cases"]
    metric = benchmark.metric()
    for video in benchmark:
        measured = benchmark.measure(video, answers(benchmark.arrays(video.id)[1], video.targets))
        metric.extend(**measured)
        want = expected["cases"][video.id][key]
        for measure in "JF":
            means = measured[measure.lower()].nanmean(0).tolist()
            got = {str(t): 100 * m for t, m in zip(video.targets, means, strict=True) if m == m}
            assert got == pytest.approx(want[measure], abs=1e-6), video.id
    for number in ("J&F", "J", "F"):
        assert 100 * metric.compute()[number].item() == pytest.approx(expected["suite"][key][number], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "rule", "key"),
    [
        ("p07_two_swap", "davis", "davis2017"),
        ("p08_three_absent", "davis", "davis2017"),
        ("p07_two_swap", "first_sight", "vos_benchmark_skip"),
        ("p08_three_absent", "first_sight", "vos_benchmark_skip"),
        ("p14_vanish_return", "first_sight", "vos_benchmark_skip"),
    ],
)
def test_folders_of_pngs_equal_the_scorers(golden_root: Path, tmp_path: Path, name: str, rule: str, key: str) -> None:
    (tmp_path / "Annotations").symlink_to(golden_root / "davis_png" / "Annotations" / "480p")
    benchmark = Folder(tmp_path, rule=rule, videos=[name])
    video, metric = benchmark[0], benchmark.metric()
    metric.extend(
        **benchmark.measure(video, benchmark.read(video, golden_root / "davis_png" / "pred", SubmissionErrors()))
    )
    want = json.loads((golden_root / "vos_expected.json").read_text())["cases"][name][key]
    for measure in "JF":
        if key == "davis2017":
            each = [100 * target[measure]["M"] for target in want.values()]
        else:
            each = list(want[measure].values())
        assert 100 * metric.compute()[measure].item() == pytest.approx(sum(each) / len(each), abs=1e-6)


def test_a_late_object_may_come_with_an_id_of_its_own_number(tmp_path: Path) -> None:
    maps = squares(5, (7, 200))
    maps[:2][maps[:2] == 7] = 0
    write(tmp_path, "a", maps)
    write_label_map(tmp_path / "Annotations" / "a" / "00004.png", torch.full(SIZE, 255, dtype=torch.uint8))
    video = Folder(tmp_path, rule="first_sight")[0]
    assert video.targets == (7, 200)
    assert [prompt.frame for prompt in video.prompts] == [2, 0]
    assert not video.truth[4].any()


def test_ids_with_holes_are_the_objects_there_are(tmp_path: Path) -> None:
    maps = squares(6, (1, 2)).to(torch.int64)
    maps = (maps == 1) * 38 + (maps == 2) * 75
    write(tmp_path, "a", maps.to(torch.uint8))
    benchmark = Folder(tmp_path)
    video = benchmark[0]
    assert video.targets == (38, 75)
    empty = benchmark.measure(video, answers(torch.zeros_like(maps), (38, 75)))
    assert float(empty["j"].max()) == float(empty["f"].max()) == 0


def test_gaps_in_the_numbering_are_allowed_on_request(tmp_path: Path) -> None:
    write(tmp_path, "a", squares(6, (1,)))
    for kind in ("JPEGImages", "Annotations"):
        next((tmp_path / kind / "a").glob("00002.*")).unlink()
    with pytest.raises(InputError, match="frame 00002 is missing"):
        Folder(tmp_path)[0]
    assert len(Folder(tmp_path, gaps=True)[0]) == 5


def test_names_in_two_unicode_forms_are_one(tmp_path: Path) -> None:
    composed, decomposed = "vid\u00e9o", normalize("NFD", "vid\u00e9o")
    write(tmp_path, composed, squares(4, (1,)))
    shutil.copytree(tmp_path / "Annotations" / composed, tmp_path / "predictions" / decomposed)
    (tmp_path / "Annotations" / composed).rename(tmp_path / "Annotations" / decomposed)
    assert Folder(tmp_path).ids == [composed]
    evaluation = evaluate(Folder(tmp_path), tmp_path / "predictions")
    assert evaluation.numbers["J&F"] == 1
    assert not evaluation.surplus
