"""Submissions of video panoptic segmentation: maps of segments, and a JSON that says what each segment is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.benchmarks.submissions.errors import SubmissionErrors
from common.benchmarks.submissions.masks import Size, wrong_size
from common.benchmarks.submissions.rle import load_json
from common.errors import InputError
from common.video import FrameMasks, Video

FORM = '{"annotations": [{"video_id", "annotations": [{"file_name", "segments_info": [...]}]}]}'
Said = dict[str, dict[int, int]]  # file name -> segment -> category id


def annotations_of(video: Video, place: Path, faults: SubmissionErrors) -> Said:
    """What is said about the segments of one video: ``<video>.json``, or in ``pred.json`` beside or above ``place``."""
    own = place / f"{video.id}.json"
    paths = [path for path in (own, place / "pred.json", place.parent / "pred.json") if path.is_file()]
    if not paths:
        faults.report(f"{place.parent / 'pred.json'}: no such file; write {FORM}")
        return {}
    try:
        data = load_json(paths[0])
        if not isinstance(data, dict):
            raise InputError(f"{paths[0]}: a list where an object must be: write {FORM}")
        known = (video.id, video.attributes.get("video_id", video.id))
        about = [one for one in ([data] if paths[0] == own else data["annotations"]) if one["video_id"] in known]
        if not about:
            raise InputError(f"{paths[0]}: video {video.id} is missing")
        frames = about[0]["annotations"]
        return {
            Path(one["file_name"]).stem: {int(s["id"]): s["category_id"] for s in one["segments_info"]}
            for one in frames
        }
    except InputError as error:
        faults.report(str(error))
    except (KeyError, TypeError, ValueError) as error:
        faults.report(f"{paths[0]}: video {video.id}: not of the form {FORM} ({type(error).__name__}: {error})")
    return {}


def segments_of(
    video: Video, frame: int, place: Path, said: Said, category_ids: Sequence[int], size: Size, faults: SubmissionErrors
) -> FrameMasks:
    """One frame of a submission; a segment that is wrong is a fault and left out."""
    name = video.name(frame)
    path = place / video.id / f"{name}.png"
    ids = read_submitted(path, size, faults)
    about, kept = said.get(name, {}), []
    for id in ids.unique().tolist():
        if id and about.get(id) not in category_ids:
            problem = f"is of category {about[id]!r}, which there is not" if id in about else "is not in the JSON"
            faults.report(f"{path}: segment {id} {problem}")
        elif id:
            kept.append(id)
    for id in about.keys() - set(ids.unique().tolist()):
        faults.report(f"{path}: segment {id} is in the JSON but has no pixel")
    masks = torch.stack([ids == id for id in kept]) if kept else ids[None][:0] > 0
    return FrameMasks(
        frame, tuple(kept), masks, torch.ones(len(kept)), tuple(category_ids.index(about[i]) for i in kept)
    )


def read_submitted(path: Path, size: Size, faults: SubmissionErrors) -> Tensor:
    """Segments int64 (H, W) of a submission; zeros where the file is not what it must be, which ``faults`` is told."""
    try:
        ids = read_ids(path)
        if tuple(ids.shape) != tuple(size):
            raise InputError(wrong_size(path, ids.shape, size))
        return ids
    except InputError as error:
        faults.report(str(error))
        return torch.zeros(size, dtype=torch.int64)


def read_ids(path: Path) -> Tensor:
    """Segments int64 (H, W) of an RGB PNG: R + 256 G + 65536 B.

    Raises:
        InputError: missing, damaged, or not an RGB image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA"):
                raise InputError(f"{path}: the map of segments is of mode {image.mode}; save an RGB PNG")
            colours = torch.from_numpy(np.array(image.convert("RGB")).astype(np.int64))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; write a map of segments for every frame") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: corrupt or unreadable map of segments; replace the file") from error
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
