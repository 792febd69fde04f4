"""Regions of the VOT toolkit: text, ``.bin`` and pixels."""

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.vot.regions import (
    ABSENT,
    UNKNOWN,
    Mask,
    Polygon,
    Rectangle,
    Special,
    format_region,
    parse_region,
    raster,
    read_regions,
    split_runs,
    write_regions,
)


def pixels(text: str, size: tuple[int, int] = (4, 6)) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in raster(parse_region(text), size)]


def test_what_a_line_can_say() -> None:
    assert [parse_region(text) for text in ("0", "1\n", "2", "nan,nan,nan,nan")] == [
        UNKNOWN,
        ABSENT,
        Special(2),
        UNKNOWN,
    ]
    assert parse_region("1.5,2,3,4") == Rectangle(1.5, 2, 3, 4)
    assert parse_region("0,0,4,0,4,3") == Polygon(((0, 0), (4, 0), (4, 3)))
    assert parse_region("m2,1,3,2,1,3,2") == Mask(2, 1, 3, 2, (1, 3, 2))


@pytest.mark.parametrize("text", ["0", "1", "2", "1.5,2,3,4", "0,0,4,0,4,3.25", "m2,1,3,2,1,3,2", "m0,0,0,0,0"])
def test_text_and_back(text: str) -> None:
    assert format_region(parse_region(text)) == text


def test_runs_go_along_rows_and_start_with_background() -> None:
    assert pixels("m1,1,3,2,1,3,2") == ["......", "..##..", ".#....", "......"]
    assert pixels("m0,0,2,2,0,1,2,1") == ["#.....", ".#....", "......", "......"]
    assert pixels("m0,0,0,0,0") == pixels("0") == pixels("1") == ["......"] * 4


def test_a_box_may_reach_beyond_the_frame() -> None:
    assert pixels("m-1,-1,3,2,0,6") == ["##....", "......", "......", "......"]
    assert pixels("m5,3,4,4,0,16") == ["......", "......", "......", ".....#"]
    assert pixels("m-9,0,3,3,0,9") == pixels("m0,7,3,3,0,9") == ["......"] * 4
    assert pixels("-2,-2,4,4") == ["##....", "##....", "......", "......"]
    assert pixels("-9,-9,4,4") == pixels("9,9,4,4") == ["......"] * 4


def test_rectangles_and_polygons_as_pixels() -> None:
    assert pixels("1,1,2,2") == ["......", ".##...", ".##...", "......"]
    assert pixels("1.6,1.5,2.6,1.7") == ["......", ".###..", ".###..", "......"]  # 1 to 4.2 and 1 to 3.2
    assert pixels("1,0,4,0,4,3") == [".####.", "..###.", "...##.", "....#."]
    assert pixels("0.6,0.4,3.2,0.4,3.2,2.4,0.6,2.4") == [".###..", ".###..", ".###..", "......"]


def test_the_box_of_a_mask_is_tight() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    assert format_region(Mask.of(mask)) == "m0,0,0,0,0"
    mask[2, 3:5] = mask[3, 4] = True
    assert format_region(Mask.of(mask)) == "m3,2,2,2,0,2,1,1"
    mask[3, 4] = False
    mask[3, 3] = True
    assert format_region(Mask.of(mask)) == "m3,2,2,2,0,3,1"  # the last run is written too


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 2**32))
def test_masks_come_back(height: int, width: int, share: float, seed: int) -> None:
    mask = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    region = Mask.of(mask)
    assert torch.equal(raster(parse_region(format_region(region)), mask.shape), mask)


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_files_come_back(tmp_path: Path, suffix: str) -> None:
    regions = [parse_region(t) for t in ("1", "0", "2", "1.5,2,3,4", "0,0,4,0,4,3.25", "m-2,1,3,2,1,3,2", "m0,0,0,0,0")]
    write_regions(tmp_path / f"a{suffix}", regions)
    assert read_regions(tmp_path / f"a{suffix}") == regions
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_bytes_of_a_binary_file(tmp_path: Path) -> None:
    regions = [
        Special(1),
        Rectangle(1.5, 2, 3, 4),
        Polygon(((1, 1), (5, 1), (5, 4))),
        Mask(5, -7, 400, 300, (0, 120000)),
    ]
    write_regions(tmp_path / "a.bin", regions)
    want = struct.pack("<hI", 1, 4) + struct.pack("<BI", 0, 1) + struct.pack("<Bffff", 1, 1.5, 2, 3, 4)
    want += struct.pack("<BHffffff", 2, 3, 1, 1, 5, 1, 5, 4)
    want += struct.pack("<BhhHHHHHHH", 3, 5, -7, 400, 300, 4, 0, 65025, 0, 54975)
    assert (tmp_path / "a.bin").read_bytes() == want  # byte for byte what vot-toolkit 0.9.0 writes


@pytest.mark.parametrize(
    ("run", "parts"), [(0, [0]), (65025, [65025]), (65026, [65025, 0, 1]), (175398, [65025, 0, 65025, 0, 45348])]
)
def test_long_runs_are_split_in_binary_files_alone(tmp_path: Path, run: int, parts: list[int]) -> None:
    assert split_runs([run]) == parts
    region = Mask(0, 0, run + 2, 1, (run, 2))
    assert format_region(region) == f"m0,0,{run + 2},1,{run},2"
    wide = Mask(0, 0, 585, 301, (176085 - 10, 10))
    write_regions(tmp_path / "a.bin", [wide])
    (back,) = read_regions(tmp_path / "a.bin")
    assert torch.equal(raster(back, (301, 585)), raster(wide, (301, 585)))
    assert raster(back, (301, 585)).sum() == 10


def test_a_mask_of_too_many_runs_stays_text(tmp_path: Path) -> None:
    region = Mask.of((torch.arange(70000) % 2).bool()[None])
    with pytest.raises(InputError, match=r"a mask of 70000 runs does not fit a \.bin file"):
        write_regions(tmp_path / "a.bin", [region])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "'' is not a region"),
        ("3", "'3' is not a region"),
        ("1,2", "'1,2' is not a region"),
        ("1,2,3,4,5,6,7", "is not a region"),
        ("1,2,inf,4", "is not a region"),
        ("bear", "'bear' is not a region"),
        ("m1,2", "'m1,2' is not a region"),
        ("m1,2,3,4,", "'m1,2,3,4,' is not a region"),
        ("m0,0,2,2,0,3", "runs of 3 pixels do not fill the mask's box of 2x2"),
        ("m0,0,2,2,-1,5", "do not fill"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(f"1\n{line}\n0\n")
    with pytest.raises(InputError) as caught:
        read_regions(tmp_path / "a.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}, line 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header: the file ends here"),
        (struct.pack("<hI", 2, 0), "version 2 of region files is not known"),
        (struct.pack("<hIBI", 1, 2, 0, 1), "region 2: the file ends here"),
        (struct.pack("<hIBff", 1, 1, 4, 1, 2), "region 1: type 4 is not"),
        (struct.pack("<hIBhhHHHH", 1, 1, 3, 0, 0, 2, 2, 1, 3), "region 1: runs of 3 pixels"),
    ],
)
def test_a_wrong_binary_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_regions(tmp_path / "a.bin")
    assert str(caught.value).startswith(str(tmp_path / "a.bin"))
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot read the regions"):
        read_regions(tmp_path / "none.txt")


def test_lines_of_the_toolkit_come_back(golden_root: Path) -> None:
    files = sorted(golden_root.glob("vots/results/*/*.txt"))
    assert len(files) == 7
    for file in files:
        for line, region in zip(file.read_text().split(), read_regions(file), strict=True):
            again = Mask.of(raster(region, (120, 214))) if isinstance(region, Mask) else region
            assert format_region(again) == line
