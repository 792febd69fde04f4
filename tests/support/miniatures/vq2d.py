"""An Ego4D VQ2D of two small clips: ``cup`` as a folder of frames, ``key`` as a video file of half the size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from common.video.writers import write_video

FPS = 5
ORIGINAL = (48, 64)  # size of the video that the boxes are given in
SIZES = {"cup": (48, 64), "key": (24, 32)}  # of the clips
LENGTH = 14


def box(frame: int) -> tuple[int, int, int, int]:
    """The object, 12 by 8 original pixels that move to the right: (x, y, width, height)."""
    return 4 + 2 * frame, 20, 12, 8


def entry(frame: int) -> dict[str, Any]:
    """A box of an annotation file."""
    names = dict(zip(("x", "y", "width", "height"), map(float, box(frame)), strict=True))
    return {"frame_number": frame, **names, "original_width": ORIGINAL[1], "original_height": ORIGINAL[0]}


def asked(query_frame: int, track: range, valid: bool = True) -> dict[str, Any]:
    """A query set: where was it last before ``query_frame``?"""
    return {
        "is_valid": valid,
        "object_title": "thing",
        "query_frame": query_frame,
        "visual_crop": entry(13),
        "response_track": [entry(frame) for frame in track],
    }


def annotations() -> dict[str, Any]:
    """Three valid queries, one that is not, and one on a clip that was never released."""
    clips = {
        "cup": [
            {"query_sets": {"1": asked(12, range(4, 8)), "2": asked(12, range(0), valid=False)}},
            {"query_sets": {"1": asked(10, range(8, 10))}},
        ],
        "key": [{"query_sets": {"3": asked(9, range(2, 5))}}],
        None: [{"query_sets": {"1": asked(12, range(4, 8))}}],
    }
    return {
        "version": "1.0.5",
        "videos": [
            {
                "video_uid": f"video of {uid}",
                "split": "val",
                "clips": [{"clip_uid": uid, "clip_fps": FPS, "annotations": asked_of}],
            }
            for uid, asked_of in clips.items()
        ],
    }


def frames(uid: str) -> Tensor:
    """Frames uint8 (T, H, W, 3) of a clip."""
    shade = torch.arange(LENGTH, dtype=torch.uint8)[:, None, None, None] * 15
    return shade.expand(LENGTH, *SIZES[uid], 3).contiguous()


def make(root: Path, name: str) -> None:
    """Write ``vq2d``, with the same queries in every split and without answers in ``test``, below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test_unannotated"):
        data = annotations()
        for query in all_queries(data) if split == "test_unannotated" else ():
            del query["response_track"]
        (root / f"vq_{split}.json").write_text(json.dumps(data))
    (root / "clips" / "cup").mkdir(parents=True)
    for index, frame in enumerate(frames("cup")):
        Image.fromarray(frame.numpy()).save(root / "clips" / "cup" / f"{index + 1:04d}.jpg")
    write_video(root / "clips" / "key.mp4", frames("key"), FPS)


def all_queries(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Every query set of an annotation file."""
    return [
        query
        for video in data["videos"]
        for clip in video["clips"]
        for annotation in clip["annotations"]
        for query in annotation["query_sets"].values()
    ]
