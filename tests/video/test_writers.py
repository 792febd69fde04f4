"""Video files, overlays and contact sheets."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from common.video import FrameMasks, contact_sheet, open_video, overlay, palette, write_video


def test_video_round_trip(tmp_path: Path, clip: Tensor) -> None:
    path = tmp_path / "new" / "a.mp4"
    write_video(path, iter(clip), fps=29.97)
    video = open_video(path)
    assert len(video) == 30
    assert video.fps == pytest.approx(29.97, abs=1e-3)
    assert (torch.stack(list(video)).float() - clip.float()).abs().mean() < 4
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # plays before it is all there


def test_odd_sizes_are_padded_to_even(tmp_path: Path, clip: Tensor) -> None:
    write_video(tmp_path / "odd.mp4", clip[:2, :33, :47])
    frame = open_video(tmp_path / "odd.mp4")[0]
    assert frame.shape == (34, 48, 3)
    assert (frame[:33, :47].float() - clip[0, :33, :47].float()).abs().mean() < 4


def test_one_frame(tmp_path: Path, clip: Tensor) -> None:
    write_video(tmp_path / "a.mp4", clip[:1])
    assert len(list(open_video(tmp_path / "a.mp4"))) == 1


def test_failure_leaves_the_old_file_and_no_other(tmp_path: Path, clip: Tensor, refuses) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, clip[:3])
    with refuses(path, "frame 1", "(20, 64, 3)"):
        write_video(path, [clip[0], clip[1, :20]])
    with refuses(path, "no frames"):
        write_video(path, [])
    assert list(tmp_path.iterdir()) == [path]
    assert len(open_video(path)) == 3


def test_overlay_tints_inside_and_outlines() -> None:
    frame = torch.full((9, 9, 3), 100, dtype=torch.uint8)
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2:7, 2:9] = True  # touches the right border, which is no contour
    drawn = overlay(frame, FrameMasks(0, (3,), mask, torch.ones(1)), alpha=0.25)
    colour = palette()[3]
    inside = torch.zeros(9, 9, dtype=torch.bool)
    inside[3:6, 3:9] = True
    assert torch.equal(drawn[mask[0] & ~inside], colour.expand(17, 3))
    tint = (0.75 * 100 + 0.25 * colour.float()).round().to(torch.uint8)
    assert torch.equal(drawn[inside], tint.expand(18, 3))
    assert (drawn[~mask[0]] == 100).all()
    assert (frame == 100).all()


def test_overlay_without_targets_is_the_frame(clip: Tensor) -> None:
    nothing = FrameMasks(0, (), torch.zeros(0, 48, 64, dtype=torch.bool), torch.zeros(0))
    assert torch.equal(overlay(clip[0], nothing), clip[0])


def test_contact_sheet(clip: Tensor, refuses) -> None:
    sheet = contact_sheet(iter(clip[:5]), columns=3)
    assert sheet.shape == (96, 192, 3)
    assert torch.equal(sheet[48:, 64:128], clip[4])
    assert (sheet[48:, 128:] == 255).all()
    with refuses("contact sheet"):
        contact_sheet([], columns=2)
    with refuses("contact sheet"):
        contact_sheet([clip[0], clip[0, :5]], columns=2)
