"""Submissions in every form: what is read, and what is said of whatever is wrong."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.davis import DAVIS
from common.benchmarks.submissions.archive import open_submission
from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import read_masks, zip_folder
from common.errors import InputError
from common.video.masks import read_label_map, rle_encode, write_label_map
from tests.support.miniatures.davis import SIZE, make_davis, squares, submit

FRAMES = (1, 2, 3, 4)


@pytest.fixture
def davis(tmp_path: Path) -> DAVIS:
    return DAVIS(make_davis(tmp_path / "davis", {"a": squares(), "b": squares(ids=(1,))}))


@pytest.fixture
def pngs(tmp_path: Path, davis: DAVIS) -> Path:
    submit(davis, tmp_path / "pred")
    return tmp_path / "pred"


def read(davis: DAVIS, folder: Path, empty: bool = False, single_object: bool = False) -> tuple[Tensor, list[str]]:
    """Masks (T, N, H, W) of video a, and the notes."""
    errors = SubmissionErrors(strict=not empty)
    answers = list(read_masks(davis[0], FRAMES, folder, errors, single_object))
    assert [answer.frame for answer in answers] == list(FRAMES)
    assert all(answer.targets == davis[0].targets for answer in answers)
    return torch.stack([answer.masks for answer in answers]), errors.messages


def as_tree(pngs: Path, folder: Path) -> Path:
    """The same masks with a folder for each object, without zeros in front of one id and with them before the other."""
    for file in sorted((pngs / "a").iterdir()):
        labels = read_label_map(file)
        for target, name in ((1, "001"), (2, "2")):
            place = folder / "a" / name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((labels == target).numpy()).save(place)
    return folder


def as_rle(pngs: Path) -> dict[str, dict[str, Any]]:
    """The same masks as frames -> objects -> RLE."""
    frames = {}
    for file in sorted((pngs / "a").iterdir()):
        labels = read_label_map(file)
        frames[file.stem] = {str(n): rle_encode((labels == n)[None])[0] for n in (1, 2) if (labels == n).any()}
    return frames


def as_list(frames: dict[str, dict[str, Any]], object_key: str = "object") -> list[dict[str, Any]]:
    """As a list with the video in every entry."""
    return [
        {"video": "a", "frame": frame, object_key: int(target), "segmentation": rle}
        for frame, objects in frames.items()
        for target, rle in objects.items()
    ]


def test_every_form_gives_the_same_masks(davis: DAVIS, pngs: Path, tmp_path: Path) -> None:
    want, notes = read(davis, pngs)
    assert notes == []
    assert want.any(-1).any(-1).tolist() == [[True, True]] * 3 + [[True, False]]
    frames = as_rle(pngs)
    forms = {
        "a.json": frames,
        "all.json": {"videos": {"a": frames, "z": {}}},
        "list.json": as_list(frames, "target"),
    }
    folders = [as_tree(pngs, tmp_path / "tree")]
    for name, data in forms.items():
        folders.append(tmp_path / name.removesuffix(".json"))
        folders[-1].mkdir()
        (folders[-1] / name).write_text(json.dumps(data))
    for folder in folders:
        got, notes = read(davis, folder)
        assert notes == [], folder
        assert torch.equal(got, want), folder


def test_masks_may_overlap_where_the_form_allows_it(davis: DAVIS, pngs: Path, tmp_path: Path) -> None:
    tree = as_tree(pngs, tmp_path / "tree")
    full = torch.full(SIZE, 255, dtype=torch.uint8)
    for name in ("001", "2"):
        write_label_map(tree / "a" / name / "00002.png", full)
    assert read(davis, tree)[0][1].all()
    frames = as_rle(pngs)
    whole = rle_encode(torch.ones(1, *SIZE, dtype=torch.bool))[0]
    frames["00002"] = {"1": whole, "2": whole}
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "a.json").write_text(json.dumps(frames))
    assert read(davis, tree)[0][1].all()


def test_one_target_is_everything_that_is_marked(tmp_path: Path) -> None:
    davis = DAVIS(make_davis(tmp_path / "davis", {"a": squares()}, 2016), year=2016)
    maps = squares(ids=(1, 7))
    maps[maps == 7] = 255
    for index, label in enumerate(maps):
        write_label_map(tmp_path / "pred/a" / f"{index:05d}.png", label)
    for folder in (tmp_path / "pred", tmp_path / "tree"):
        masks, notes = read(davis, folder, single_object=True)
        assert notes == []
        assert torch.equal(masks[:, 0], maps[1:5] > 0)
        as_tree(tmp_path / "pred", tmp_path / "tree")
        for file in (tmp_path / "tree/a/2").iterdir():
            Image.fromarray((read_label_map(tmp_path / "pred/a" / file.name) == 255).numpy()).save(file)


def spoil(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "zero bytes":
        file.write_bytes(b"")
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:45])
    elif how == "text":
        file.write_text("not a PNG")
    elif how == "RGB":
        Image.new("RGB", SIZE[::-1]).save(file)
    elif how == "size":
        write_label_map(file, torch.zeros(6, 8, dtype=torch.uint8))


SPOILT = [
    ("missing", r"no such file; write a PNG for every frame"),
    ("zero bytes", r"the file is empty \(0 bytes\)"),
    ("truncated", "corrupt or unreadable"),
    ("text", "corrupt or unreadable"),
    ("RGB", "an RGB image, not a palette image"),
    ("size", r"the mask is 6x8 \(height x width\) but the annotation is 12x16"),
]


@pytest.mark.parametrize("form", ["label maps", "tree"])
@pytest.mark.parametrize(("how", "message"), SPOILT)
def test_a_spoilt_frame_is_named_or_empty(
    davis: DAVIS, pngs: Path, tmp_path: Path, form: str, how: str, message: str
) -> None:
    want, _ = read(davis, pngs)
    if form == "tree":
        pngs, file = as_tree(pngs, tmp_path / "tree"), "a/001/00003.png"
        want[2, 0] = False
    else:
        file = "a/00003.png"
        want[2] = False
    spoil(pngs / file, how)
    with pytest.raises(InputError, match=f"{file}.*{message}") as caught:
        read(davis, pngs)
    assert "\n" not in str(caught.value)
    got, notes = read(davis, pngs, empty=True)
    assert notes == [str(caught.value)]
    assert torch.equal(got, want)


def test_frames_that_do_not_count_are_not_looked_at(davis: DAVIS, pngs: Path) -> None:
    spoil(pngs / "a/00000.png", "text")
    spoil(pngs / "a/00005.png", "missing")
    write_label_map(pngs / "a/extra.png", torch.ones(3, 3, dtype=torch.uint8))
    assert read(davis, pngs)[1] == []


def test_a_missing_sequence_is_named_or_empty(davis: DAVIS, pngs: Path) -> None:
    shutil.rmtree(pngs / "a")
    with pytest.raises(InputError, match="pred/a: no such folder; the submission lacks video a"):
        read(davis, pngs)
    got, notes = read(davis, pngs, empty=True)
    assert len(notes) == 1
    assert not got.any()


@pytest.mark.parametrize("label", [7, 255])
def test_an_unknown_id_is_named_or_left_out(davis: DAVIS, pngs: Path, label: int) -> None:
    want, _ = read(davis, pngs)
    labels = read_label_map(pngs / "a/00002.png")
    labels[-1] = label
    write_label_map(pngs / "a/00002.png", labels)
    with pytest.raises(InputError, match=rf"a/00002.png: id {label} is no target of video a \(they are 1, 2\)"):
        read(davis, pngs)
    got, notes = read(davis, pngs, empty=True)
    assert len(notes) == 1
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda place: shutil.copytree(place / "2", place / "7"), "7: id 7 is no target"),
        (lambda place: shutil.copytree(place / "2", place / "dog"), "dog: id dog is no target"),
        (lambda place: shutil.copytree(place / "2", place / "02"), "2: object 2 has the folder 02 too"),
        (lambda place: shutil.rmtree(place / "001"), "a: there is no folder for object 1"),
    ],
)
def test_folders_of_objects(davis: DAVIS, pngs: Path, tmp_path: Path, change: Any, message: str) -> None:
    tree = as_tree(pngs, tmp_path / "tree")
    change(tree / "a")
    with pytest.raises(InputError, match=message):
        read(davis, tree)
    assert len(read(davis, tree, empty=True)[1]) == 1


def test_hidden_files_are_passed_over(davis: DAVIS, pngs: Path, tmp_path: Path) -> None:
    tree = as_tree(pngs, tmp_path / "tree")
    (tree / "a/.DS_Store").write_bytes(b"x")
    (tree / "a/.cache").mkdir()
    assert read(davis, tree)[1] == []


# RLE.

FULL = {"size": [12, 16], "counts": "?"}
JSON_FAULTS: list[tuple[Any, str]] = [
    ("", r"empty \(0 bytes\)"),
    ("{", "damaged JSON"),
    ("[" * 100_000, "damaged JSON"),
    ("3", "neither videos by name nor a list"),
    ({"frames": {}}, r'must be \{"videos"'),
    ({"videos": {"b": {}}}, "video a is missing; the file has b"),
    ({"videos": {"a": [1]}}, "video a: not frames with objects"),
    ({"videos": {"a": {"00001": {}, "00002": {}, "00003": {}}}}, "video a, frame 00004 is missing"),
    ([{"video": "b", "frame": "00001", "object": 1}], "video a is missing; no entry is about it"),
    ([3], "entry 0 is no object"),
    ([{"video": "a", "frame": 1, "object": 1}], "entry 0.*: 1 is no frame of the video; names are like '00000'"),
    ([{"video": "a", "frame": "00001"}], "object None is not given"),
    ([{"video": "a", "frame": "00001", "object": 1}] * 2, "object 1 is given twice"),
    ([{"video": "a", "frame": "00001", "object": 9, "segmentation": FULL}], "frame 00001, object 9: no target"),
    ([{"video": "a", "frame": "00001", "object": 1, "segmentation": FULL}], "frame 00001, object 1: RLE 0"),
    ([{"video": "a", "frame": "00001", "object": 1}], "frame 00001, object 1: no compressed COCO RLE"),
    (
        [{"video": "a", "frame": "00001", "object": 1, "segmentation": {"size": [6, 8], "counts": "?"}}],
        "frame 00001, object 1: the mask is 6x8",
    ),
]


@pytest.mark.parametrize(("data", "message"), JSON_FAULTS)
def test_what_is_wrong_with_json_is_named_or_empty(davis: DAVIS, tmp_path: Path, data: Any, message: str) -> None:
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred/all.json").write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(InputError, match=f"all.json: .*{message}") as caught:
        read(davis, tmp_path / "pred")
    assert "\n" not in str(caught.value)
    got, notes = read(davis, tmp_path / "pred", empty=True)
    assert notes[0] == str(caught.value)
    assert not got.any()


# Folders and zips.


def test_folders_around_the_videos(davis: DAVIS, pngs: Path, tmp_path: Path) -> None:
    for above in ("Annotations", "my_tracker/Annotations"):
        top = tmp_path / above.replace("/", "_")
        shutil.copytree(pngs, top / above)
        (top / "readme.txt").write_text("hello")
        (top / "__MACOSX").mkdir()
        with open_submission(top, davis.ids) as found:
            assert found.folder == top / above
            assert found.with_user_path(f"{found.folder}/a: x") == f"{top / above}/a: x"


def test_other_folders_are_told(davis: DAVIS, pngs: Path) -> None:
    shutil.copytree(pngs / "a", pngs / "camel")
    (pngs / "meta.json").write_text("{}")
    for path in (pngs, zip_folder(pngs)):
        with open_submission(path, ["a", "b"]) as found:
            assert found.unexpected == ["camel"]


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_submission_to_something_else(pngs: Path, davis: DAVIS, suffix: str) -> None:
    path = pngs if not suffix else zip_folder(pngs)
    with (
        pytest.raises(
            InputError, match=r"pred.*: none of the benchmark's videos is in it; it has a, b, expected .* cow"
        ),
        open_submission(path, ["cow", "dog"]),
    ):
        pass


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    (tmp_path / "text.txt").write_text("x")
    for name, message in (
        ("empty", "is empty"),
        ("empty.zip", "is empty"),
        ("text.txt", "no submission"),
        ("none", "no submission"),
    ):
        with pytest.raises(InputError, match=message), open_submission(tmp_path / name, ["a"]):
            pass


def test_a_zip_is_unpacked_as_far_as_needed_and_removed(davis: DAVIS, pngs: Path) -> None:
    want, _ = read(davis, pngs)
    (pngs / "video_without_masks").mkdir()
    for junk in ("__MACOSX/a/._00001.png", "a/.DS_Store", "overlay/00000.png"):
        (pngs / junk).parent.mkdir(parents=True, exist_ok=True)
        (pngs / junk).write_bytes(b"junk")
    path = zip_folder(pngs)
    shutil.rmtree(pngs)
    with open_submission(path, ["a", "video_without_masks"]) as found:
        got, _ = read(davis, found.folder)
        assert torch.equal(got, want)
        assert {file.name for file in found.folder.rglob("*")} == {
            "a",
            "video_without_masks",
            *(f"{n:05d}.png" for n in range(6)),
        }
        assert found.with_user_path(f"{found.folder}/a/00001.png: x") == f"{path}/a/00001.png: x"
    assert not found.folder.exists()


def test_a_single_json_file(davis: DAVIS, pngs: Path, tmp_path: Path) -> None:
    want, _ = read(davis, pngs)
    (tmp_path / "masks.json").write_text(json.dumps(as_list(as_rle(pngs))))
    with open_submission(tmp_path / "masks.json", davis.ids) as found:
        assert torch.equal(read(davis, found.folder)[0], want)


def with_member(path: Path, name: str, data: bytes = b"x", mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/00000.png", b"x")
        member = zipfile.ZipInfo("placeholder")
        member.filename, member.external_attr = name, mode << 16
        archive.writestr(member, data)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.json", "a/../../evil.json", "/etc/evil.json", "a\\..\\..\\evil.json", "C:/evil.json", "a/.."]
)
def test_members_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    path = with_member(tmp_path / "inner" / "x.zip", name)
    with pytest.raises(InputError, match="leads out of the folder; refused"), open_submission(path, ["a"]):
        pass
    assert [file.name for file in tmp_path.rglob("*") if "evil" in file.name] == []


def test_links_are_refused(tmp_path: Path) -> None:
    path = with_member(tmp_path / "x.zip", "a/00001.png", b"/etc/passwd", stat.S_IFLNK | 0o777)
    with pytest.raises(InputError, match=r"'a/00001.png' is a link; refused"), open_submission(path, ["a"]):
        pass


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = with_member(tmp_path / "x.zip", "a/00001.png")
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:  # the flags of each entry of the directory
        data[at + 8] |= 1
        at += 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"'a/00000.png' is encrypted"), open_submission(path, ["a"]):
        pass


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/00000.png", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/00000.png", b"x")
    with (
        pytest.raises(InputError, match=r"a/00000.png is in the zip twice"),
        open_submission(tmp_path / "x.zip", ["a"]),
    ):
        pass


def test_damaged_zips(tmp_path: Path) -> None:
    path = with_member(tmp_path / "x.zip", "a/00001.png", b"picture" * 50)
    data = path.read_bytes()
    for damaged, message in (
        (data.replace(b"picture", b"pucture", 1), r"the entry a/00001.png is damaged"),
        (data[:80], "the zip is damaged"),
        (b"no zip at all", "the zip is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=message), open_submission(path, ["a"]):
            pass


def test_an_empty_entry_is_named_or_empty(davis: DAVIS, pngs: Path) -> None:
    want, _ = read(davis, pngs)
    (pngs / "a/00002.png").write_bytes(b"")
    with open_submission(zip_folder(pngs), davis.ids) as found:
        with pytest.raises(InputError, match=r"a/00002.png: the file is empty \(0 bytes\)"):
            read(davis, found.folder)
        got, notes = read(davis, found.folder, empty=True)
    want[1] = False
    assert torch.equal(got, want)
    assert len(notes) == 1
