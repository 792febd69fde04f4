"""Real data of the category and text tasks, in miniature: what is read, what counts, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.benchmarks.burst import BURSTGuided
from common.benchmarks.ref_davis import RefDAVIS, exclusive_masks
from common.benchmarks.ref_youtube_vos import RefYouTubeVOS
from common.benchmarks.viposeg import VIPOSeg
from common.benchmarks.vipseg import VIPSeg
from common.benchmarks.vspw import VSPW
from common.benchmarks.youtube_vis import YouTubeVIS
from common.data import LabelledClips
from common.errors import InputError
from common.evaluation.submission import evaluate
from common.video import FrameMasks, Video
from tests.support.answers import scored, truth
from tests.support.miniatures import (
    burst,
    ref_davis,
    ref_youtube_vos,
    viposeg,
    vipseg,
    vspw,
    youtube_vis,
)


def changed(path: Path, change: Callable) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


# YouTube-VIS and OVIS


def test_tracks_of_youtube_vis(tmp_path: Path) -> None:
    youtube_vis.make(tmp_path, "ytvis2021")
    benchmark = YouTubeVIS(tmp_path, split="train")
    assert benchmark.ids == ["run", "sit", "herd"]
    video = benchmark.open("herd")
    assert video.vocabulary == ("giant_panda", "cat")  # by number, not as listed
    assert benchmark.category_ids(video) == [3, 7]
    assert (video.targets, video.categories) == ((1, 2), {1: 0, 2: 0})
    assert video.attributes["crowd"] == (2,)
    assert video.attributes["areas"] == {1: 64.0, 2: 64.0}
    assert benchmark.open("sit").attributes["areas"] == {1: 64.0}  # over the frames that show it
    assert scored(benchmark, truth)["AP"] == pytest.approx(1)
    hidden = YouTubeVIS(tmp_path, split="valid")
    assert hidden[0].truth is None
    assert hidden[0].prompts[0].vocabulary == ("giant_panda", "cat")


def test_finding_a_crowd_neither_helps_nor_costs(tmp_path: Path) -> None:
    youtube_vis.make(tmp_path, "ovis")
    benchmark = YouTubeVIS(tmp_path, edition="ovis", split="train", videos=["herd"])

    def without(video: Video):
        return truth(video, masks=lambda frame, masks: masks * torch.tensor([True, False])[:, None, None])

    assert scored(benchmark, truth)["AP"] == scored(benchmark, without)["AP"] == pytest.approx(1)


def test_dev_and_rest_share_the_videos_of_train(tmp_path: Path) -> None:
    youtube_vis.make(tmp_path, "ytvis2019")
    ids = {split: YouTubeVIS(tmp_path, "ytvis2019", split).ids for split in ("train", "dev", "rest")}
    assert ids["dev"] == ["run"]
    assert ids["rest"] == ["sit", "herd"]


def test_a_run_writes_the_files_numbers(tmp_path: Path) -> None:
    youtube_vis.make(tmp_path, "ytvis2021")
    benchmark = YouTubeVIS(tmp_path, split="train")
    for video in benchmark:
        list(benchmark.write(video, truth(video), tmp_path / "out"))
    entries = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(one["video_id"], one["category_id"]) for one in entries] == [(11, 3), (11, 7)]
    assert [rle is None for rle in entries[1]["segmentations"]] == [True, True, False, False, False, False]


@pytest.mark.parametrize("change", [str, lambda id: id - 10, lambda id: None, bool])
def test_an_unknown_video_id_of_a_submission_is_named(tmp_path: Path, change: Callable) -> None:
    """pycocotools' loadRes asserts that the ids are known."""
    youtube_vis.make(tmp_path, "ytvis2021")
    benchmark = YouTubeVIS(tmp_path, split="train")
    entries = []
    for video in benchmark:
        list(benchmark.write(video, truth(video), tmp_path / "parts"))
        entries += json.loads((tmp_path / "parts" / f"{video.id}.json").read_text())
    (tmp_path / "good.json").write_text(json.dumps(entries))
    assert evaluate(benchmark, tmp_path / "good.json").numbers["AP"] == pytest.approx(1)
    entries[-1]["video_id"] = change(entries[-1]["video_id"])
    (tmp_path / "bad.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=rf"entry {len(entries) - 1}: video_id .* is no video of the split"):
        evaluate(benchmark, tmp_path / "bad.json")
    entries[-1] |= {"video_id": entries[0]["video_id"], "score": float("nan")}
    (tmp_path / "bad.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="score nan is not finite"):
        evaluate(benchmark, tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda said: said["annotations"][0]["segmentations"].pop(), r"5 segmentations of track 101 for 6 frames"),
        (lambda said: said.update(videos=[]), "names no videos or categories"),
        (lambda said: said["videos"][0].pop("file_names"), "without 'file_names'"),
        (lambda said: said["videos"][0]["file_names"].pop(), "not the frames of train.json, such as 00025"),
    ],
)
def test_damaged_youtube_vis(tmp_path: Path, change: Callable, word: str) -> None:
    youtube_vis.make(tmp_path, "ytvis2021")
    changed(tmp_path / "train.json", change)
    with pytest.raises(InputError, match=word):
        YouTubeVIS(tmp_path, split="train")[0]
    with pytest.raises(InputError, match=r"test\.json: no such file"):
        len(YouTubeVIS(tmp_path, split="test"))


# VSPW


def test_labels_of_vspw(tmp_path: Path) -> None:
    vspw.make(tmp_path, "vspw")
    benchmark = VSPW(tmp_path)
    video = benchmark.open("hall")
    assert video.vocabulary == video.stuff == ("wall", "floor", "table_or_desk")
    assert (video.targets, video.categories) == ((1, 2, 3), {1: 0, 2: 1, 3: 2})
    labels = vspw.labels("hall")
    for answer in truth(video):
        assert torch.equal(benchmark.true_labels(video, answer), labels[answer.frame].long())
    numbers = scored(benchmark, truth)
    assert numbers["mIoU"] == numbers["pixel_accuracy"] == 1
    assert VSPW(tmp_path, split="test")[0].truth is None
    path = tmp_path / "data" / "hall" / "mask" / f"{vspw.NAMES[2]}.png"
    Image.fromarray(torch.full(vspw.SIZE, 9, dtype=torch.uint8).numpy()).save(path)
    with pytest.raises(InputError, match=r"label 9, but label_num_dic_final\.json ends at 3"):
        benchmark.open("hall")
    changed(tmp_path / "label_num_dic_final.json", lambda said: said.update(floor=7))
    with pytest.raises(InputError, match="with the labels 1, 2, 3"):
        VSPW(tmp_path)[0]


# VIPSeg


def test_segments_of_vipseg(tmp_path: Path) -> None:
    vipseg.make(tmp_path, "vipseg")
    benchmark = VIPSeg(tmp_path)
    video = benchmark.open("queue")
    assert (video.vocabulary, video.stuff) == (("wall", "road", "person"), ("wall", "road"))
    assert video.targets == (1, 6201, 70_200)
    assert video.categories == {1: 0, 6201: 2, 70_200: 2}
    assert video.attributes["crowd"] == (70_200,)
    ids = vipseg.ids("queue")
    assert torch.equal(video.truth[3], torch.stack([ids[3] == target for target in video.targets]))  # type: ignore
    assert scored(benchmark, truth)["VPQ"] == 1
    hidden = VIPSeg(tmp_path, split="test")
    assert (hidden.ids, hidden[0].truth, hidden[0].prompts[0].stuff) == (["yard"], None, ("wall", "road"))


def test_damaged_vipseg(tmp_path: Path) -> None:
    vipseg.make(tmp_path, "vipseg")
    path = tmp_path / "panoptic_gt_VIPSeg_val.json"
    kept = path.read_text()
    changed(path, lambda said: said["annotations"][0]["annotations"][4]["segments_info"].pop())
    changed(path, lambda said: [f["segments_info"].pop() for f in said["annotations"][0]["annotations"][5:]])
    with pytest.raises(InputError, match=r"00000004\.png: segment 6202 is not in the JSON"):
        VIPSeg(tmp_path)[0].truth[4]  # type: ignore[index]
    path.write_text(kept)
    changed(path, lambda said: said["annotations"][0]["annotations"][0].update(file_name="9.png"))
    with pytest.raises(InputError, match="video walk: frame 9 is not among"):
        VIPSeg(tmp_path)[0]
    changed(path, lambda said: said.pop("categories"))
    with pytest.raises(InputError, match="without 'categories'"):
        len(VIPSeg(tmp_path))


# Ref-DAVIS


def test_expressions_of_ref_davis(tmp_path: Path) -> None:
    ref_davis.make(tmp_path, "refdavis")
    benchmark = RefDAVIS(tmp_path)
    video = benchmark.open("classic-car")  # misspelt in the texts
    assert video.targets == tuple(range(1, 9))
    assert [prompt.text for prompt in video.prompts[3:6]] == ["café 1 of set 3", "café 2 of set 0", "café 2 of set 1"]
    maps = ref_davis.maps("classic-car")
    assert torch.equal(video.truth[4], torch.stack([maps[4] == 1] * 4 + [maps[4] == 2] * 4))  # type: ignore[index]
    numbers = scored(benchmark, truth)
    assert numbers["J&F"] == numbers["J&F_fixed"] == 1


def test_swapped_objects_are_forgiven_except_by_the_fixed_number(tmp_path: Path) -> None:
    ref_davis.make(tmp_path, "refdavis")
    benchmark = RefDAVIS(tmp_path, videos=["two"])
    order = [4, 5, 6, 7, 0, 1, 2, 3]  # object 2 for object 1, in all sets
    numbers = scored(benchmark, lambda video: truth(video, masks=lambda frame, masks: masks[order]))
    assert numbers["J&F"] == 1
    assert numbers["J_fixed"] < 0.3


def test_void_does_not_count(tmp_path: Path) -> None:
    ref_davis.make(tmp_path, "refdavis")
    benchmark = RefDAVIS(tmp_path, videos=["two"])
    spilled = torch.zeros(36, 48, dtype=torch.bool)
    spilled[:, 41:] = True  # void begins at 40
    rows = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]).bool()[:, None, None]
    numbers = scored(benchmark, lambda video: truth(video, masks=lambda frame, masks: masks | spilled & rows))
    assert numbers["J"] == 1


def test_overlaps_go_to_the_higher_score_then_to_the_first() -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[1, 0, 1, 1]]]).bool()
    answer = FrameMasks(0, (1, 5, 9), masks, torch.tensor([0.5, 0.5, 0.9]))
    assert exclusive_masks(answer, (1, 5, 9)).int().tolist() == [[[0, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 1, 1]]]
    assert exclusive_masks(answer, (1, 5)).int().tolist() == [[[1, 1, 0, 0]], [[0, 0, 1, 0]]]


def test_four_folders_are_one_submission(tmp_path: Path) -> None:
    ref_davis.make(tmp_path / "data", "refdavis")
    benchmark = RefDAVIS(tmp_path / "data")
    for video in benchmark:
        list(benchmark.write(video, truth(video), tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"anno_{n}" for n in range(4)]
    result = evaluate(benchmark, tmp_path / "out")
    assert result.numbers["J&F"] == 1
    assert result.videos[0].objects[:3] == ["set 0, object 1", "set 0, object 2", "set 1, object 1"]
    (tmp_path / "out" / "anno_2" / "two" / "00001.png").unlink()
    with pytest.raises(InputError, match=r"anno_2/two/00001\.png: no such file"):
        evaluate(benchmark, tmp_path / "out")
    assert 0.9 < evaluate(benchmark, tmp_path / "out", empty=True).numbers["J"] < 1


def test_damaged_expressions(tmp_path: Path) -> None:
    ref_davis.make(tmp_path, "refdavis")
    path = tmp_path / "davis_text_annotations" / "Davis17_annot2.txt"
    path.write_text('two 1 "a"\n')
    with pytest.raises(InputError, match=r"annot2\.txt: nothing is said of object 1 of classic-car"):
        RefDAVIS(tmp_path)[0]
    path.write_text("two one a\n")
    with pytest.raises(InputError, match=r"annot2\.txt: line 1 is not"):
        RefDAVIS(tmp_path)[0]
    path.unlink()
    with pytest.raises(InputError, match=r"annot2\.txt: no such file of expressions"):
        RefDAVIS(tmp_path)[0]


# Ref-YouTube-VOS


def test_expressions_of_ref_youtube_vos(tmp_path: Path) -> None:
    ref_youtube_vos.make(tmp_path, "refyoutubevos")
    assert RefYouTubeVOS(tmp_path).ids == ["fox-valid"]  # the owl is in test
    assert RefYouTubeVOS(tmp_path)[0].truth is None
    assert RefYouTubeVOS(tmp_path, "test").ids == ["owl-valid"]
    benchmark = RefYouTubeVOS(tmp_path, "train")
    video = benchmark.open("fox")
    assert video.attributes == {"objects": {1: 4, 2: 4, 3: 1}, "expressions": {1: 0, 2: 1, 3: 2}}
    assert scored(benchmark, truth)["J&F"] == 1
    masks = video.truth[3]  # type: ignore[index]
    assert torch.equal(masks[0], masks[1])  # two expressions of one object
    item = LabelledClips(benchmark, frames=2, size=(36, 48), task="RefVOS", window=9)[0]
    assert len(item.expressions or ()) <= 2
    path = tmp_path / "meta_expressions" / "train" / "meta_expressions.json"
    changed(path, lambda said: said["videos"]["fox"]["frames"].append("00099"))
    with pytest.raises(InputError, match="video fox: frame 00099 is listed but not in"):
        RefYouTubeVOS(tmp_path, "train")[0]
    changed(path, lambda said: said["videos"]["owl"].pop("expressions"))
    with pytest.raises(InputError, match="video owl: no frames, or expressions"):
        RefYouTubeVOS(tmp_path, "train").open("owl")


# VIPOSeg


def test_objects_of_viposeg_count_after_they_are_given(tmp_path: Path) -> None:
    viposeg.make(tmp_path, "viposeg")
    benchmark = VIPOSeg(tmp_path)
    video = benchmark.open("early")
    assert {prompt.target: prompt.frame for prompt in video.prompts} == {1: 0, 2: 2, 4: 0}
    assert benchmark.subsets(video) == [0, 0, 2]  # things 41 and 82 are seen, so is the stuff
    measured = benchmark.measure(video, truth(video))
    assert (~measured["mask_iou"].isnan()).sum(0).tolist() == [4, 2, 4]
    assert measured["object_count"][:, 0].tolist() == [0, 2, 2, 3, 3]
    numbers = scored(benchmark, truth)
    assert all(numbers[name] == 1 for name in benchmark.numbers)


def test_viposeg_without_its_classes_or_complete_annotations(tmp_path: Path) -> None:
    viposeg.make(tmp_path, "viposeg")
    for path in sorted((tmp_path / "valid" / "Annotations_gt").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    video = VIPOSeg(tmp_path)[0]
    assert video.truth is None
    assert len(video.prompts) == 3
    changed(tmp_path / "valid" / "obj_class.json", lambda said: said["early"].pop("2"))
    with pytest.raises(InputError, match=r"object 2 is not in obj_class\.json"):
        VIPOSeg(tmp_path)[0]


# BURST


def test_tracks_of_burst(tmp_path: Path) -> None:
    burst.make(tmp_path, "burst")
    benchmark = BURSTGuided(tmp_path)
    assert benchmark.ids == ["LaSOT--cup-1"]
    assert {prompt.target: prompt.frame for prompt in benchmark[0].prompts} == {2: 0, 5: 3}
    numbers = scored(benchmark, truth)
    assert numbers["HOTA"] == numbers["HOTA_common"] == numbers["HOTA_uncommon"] == pytest.approx(1)

    def without_one(video: Video):
        return truth(video, masks=lambda frame, masks: masks * torch.tensor([True, False])[:, None, None])

    numbers = scored(benchmark, without_one)
    # track 2 is of class 805, common; track 5 of class 3, uncommon
    assert (numbers["HOTA_common"], numbers["HOTA_uncommon"], numbers["HOTA"]) == pytest.approx((1, 0, 0.5))


def test_submission_of_burst(tmp_path: Path) -> None:
    burst.make(tmp_path / "data", "burst")
    benchmark = BURSTGuided(tmp_path / "data")
    video = benchmark[0]
    list(benchmark.write(video, truth(video), tmp_path / "out"))
    packed = benchmark.pack(tmp_path / "out")
    said = json.loads(packed.read_text())
    assert set(said) == {"split", "sequences", "categories"}
    assert [sorted(frame) for frame in said["sequences"][0]["segmentations"]] == [["2"], ["2", "5"], ["2", "5"], ["2"]]
    assert evaluate(benchmark, packed).numbers["HOTA"] == pytest.approx(1)
    assert evaluate(benchmark, tmp_path / "out").numbers["HOTA"] == pytest.approx(1)
    for change, word in (
        (lambda said: said["sequences"][0]["segmentations"][0].update({"7": {}}), "id 7 is no target"),
        (lambda said: said["sequences"][0]["segmentations"][0]["2"].update(rle="abc"), "track 2"),
        (lambda said: said["sequences"][0]["segmentations"].pop(), "has not 4 annotated frames"),
    ):
        changed(packed, change)
        with pytest.raises(InputError, match=word):
            evaluate(benchmark, packed)
        assert evaluate(benchmark, packed, empty=True).notes
